"""Finds, runs and overrides config files. A `.py` config is a program; a file of another kind is never run."""

import contextlib
import dataclasses
import json
import os
import re
import sys
import types
import typing
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from affect.config.effects import check_effects, describe_no_effect, find_without_effect, read_field
from affect.config.experiment import Experiment, FrameClassifier, Train
from affect.config.values import check_value, from_json, read_json, to_json
from affect.errors import InputError

# A bundled config, `paper_a`, or a row of a bundled table, `paper_a_table1/tp`.
NAME = re.compile(r"\w+(/\w+)?", re.ASCII)


def find_config(path: str | Path) -> tuple[Path, str]:
    """Returns where a config is.

    Args:
        path: Path of a file or folder; or the name of a config that comes with affect, `"paper_a"` or
            `"paper_a_table1"`. The suffix `.py` may be left out. `TABLE/ROW` is a row of a table:
            `"paper_a_table1/tp"`, `"my_table.py/tp"`. A path that exists is never read as a name.

    Returns:
        Its path, and the name of the row, which is empty where none is given. A path that neither exists nor looks like
        a name is returned as it is.

    Raises:
        InputError: When no bundled config has the name; it lists the names.
    """
    path = Path(path)
    if os.path.exists(path) or path.name in ("", ".."):
        return path, ""
    for table, row in ((path, ""), (path.parent, path.name)):
        if table.suffix != ".py" and table.name and not os.path.exists(table):
            table = table.with_name(f"{table.name}.py")
        if os.path.isfile(table) and table.suffix == ".py":
            return table, row
    name = path.as_posix()
    if not NAME.fullmatch(name):
        return path, ""
    bundled = list_bundled_configs()
    table_name, is_row, row = name.partition("/")
    if table_name in bundled:
        return bundled[table_name], row
    if is_row:
        return path, ""  # `runs/a`
    raise InputError(
        f"There is no file or folder {name}, and no bundled config of that name. Expected a path or one of "
        f"{', '.join(bundled)}."
    )


def find_bundled_artefact(name: str | Path) -> Path | None:
    """Returns the `.tflite` file that comes with affect beside the config of a name; `None` if there is none.

    Args:
        name: Name such as `"fer2013"`. A path that exists is never read as a name.
    """
    if os.path.exists(name) or not NAME.fullmatch(str(name)):
        return None
    path = list_bundled_configs().get(str(name), Path()).with_suffix(".tflite")
    return path if path.is_file() else None


def list_bundled_configs() -> dict[str, Path]:
    """Returns the configs and tables that come with affect: name → path of the file."""
    folder = Path(str(files("affect.configs")))
    return {path.stem: path for path in sorted(folder.glob("[!_]*.py"))}


def load_config(path: str | Path, overrides: Sequence[str] = (), recipe: str | None = None) -> Experiment:
    """Loads an experiment.

    Args:
        path: A `.py` file that defines `CONFIG`, a row of a table, a `config.json` of a run, or a bundled name, as
            `find_config` takes them.
        overrides: Strings such as `"model.heads=4"`. They win over the file.
        recipe: Key in `RECIPES`, a dict of experiments that a `.py` file may define beside `CONFIG`; beside `ROWS` it
            is a dict of such dicts. `None` uses `CONFIG` or the row itself.

    Raises:
        InputError: On a missing file, row or recipe, a file of another kind, a misspelt field, a value of the wrong
            type or outside its range, or a field that has no effect (`affect.config.effects`).
    """
    config, idle = _override_all(_load(path, recipe), overrides)
    for refusal in idle.values():
        raise InputError(refusal)
    return _check_effects(config, path)


def load_rows(
    path: str | Path,
    overrides: Sequence[str] = (),
    recipe: str | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, Experiment]:
    """Loads the experiments of a table.

    An override applies to the rows in which it has an effect: `"model.heads=4"` to those with attention.

    Args:
        path: A `.py` file that defines `ROWS`, a dict of experiments by name, or the name of a bundled table.
        overrides: Strings, as `load_config` takes them.
        recipe: Of all rows, as `load_config` takes it.
        names: Rows to load; `None` loads all.

    Returns:
        Name of the row → experiment, in the order of the table.

    Raises:
        InputError: As `load_config`, on a file that is no table, and on an override that has no effect in any row.
    """
    file, row = find_config(path)
    if row or not file.is_file() or file.suffix != ".py":
        raise InputError(
            f"{path} is no table. Expected a .py file that defines ROWS, a dict of experiments, or a bundled table: "
            f"{', '.join(_list_tables())}."
        )
    exposed = _run(file, path)
    known = _read_rows(exposed)
    if not known:
        raise InputError(
            f"{path} is no table: it defines no ROWS, a dict of experiments. For one experiment: affect train {path}"
        )
    rows, idle_in = {}, []
    for name in names or known:
        base = _select(exposed, name, recipe, f"{path}")
        _, idle = _override_all(base, overrides)
        config, _ = _override_all(base, [text for text in overrides if text not in idle])
        rows[name] = _check_effects(config, f"{path}/{name}")
        idle_in.append(idle)
    for text in overrides:
        if all(text in idle for idle in idle_in):
            raise InputError(f"{idle_in[0][text]} It has none in any row.")
    return rows


def _list_tables():
    return [name for name, path in list_bundled_configs().items() if _read_rows(run_python(path))]


def _override_all(base, overrides):
    """Returns the experiment with the overrides, and those that have no effect in it, each with its refusal.

    An override that sets a field without effect back to its default is accepted.
    """
    config = base
    for text in overrides:
        config = override(config, text)
    conditions, idle = find_without_effect(config), {}
    for text in overrides:
        name = text.partition("=")[0].strip()
        if name in conditions:
            value, default = read_field(config, name)
            before, _ = read_field(base, name)
            if value not in conditions[name].also and (value != default or before == default):
                idle[text] = describe_no_effect(name, value, default, conditions[name])
    return config, idle


def _check_effects(config, path):
    try:
        check_effects(config)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return config


def _load(path, recipe):
    """Returns the experiment of a file or row, without overrides."""
    file, row = find_config(path)
    expected = f"Expected a .py file, a config.json of a run, or a bundled config: {', '.join(list_bundled_configs())}."
    if not file.is_file():
        raise InputError(f"There is no config file {path}{' (it is a folder)' if file.is_dir() else ''}. {expected}")
    if file.suffix not in (".py", ".json"):
        raise InputError(f"{path} is no config. {expected}")
    if file.suffix == ".json":
        if recipe is not None:
            raise InputError(f"{path} was resolved by its recipe already. Choose a recipe of a .py config.")
        experiment = from_json(Experiment, read_json(file).get("experiment"), f"{path}: experiment")
        return find_backbone(experiment, file.parent)
    return _select(_run(file, path), row, recipe, path)


def find_backbone(experiment: Experiment, folder: Path) -> Experiment:
    """Returns an experiment whose backbone is in a file, with the path of that file.

    Args:
        experiment: From a `config.json`.
        folder: That the `config.json` is in. The path of the file is read from there.
    """
    model = experiment.model
    if not isinstance(model, FrameClassifier) or not (folder / model.backbone).is_file():
        return experiment
    return dataclasses.replace(experiment, model=dataclasses.replace(model, backbone=str(folder / model.backbone)))


def _run(file, path):
    try:
        return run_python(file)
    except Exception as error:  # The user's Python may raise anything.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        for name, hint in Train.renamed.items():
            if f"'{name}'" in reason:
                reason += f": {hint}"
        if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in ("configs", "pipelines"):
            reason += f". It is part of affect: import affect.{error.name}."
        raise InputError(f"The config {path} does not load: {reason}") from error


def _read_rows(exposed):
    rows = exposed.get("ROWS")
    return rows if isinstance(rows, dict) else {}


def _select(exposed, row, recipe, path):
    """Returns `CONFIG`, or the row of `ROWS`, of what a file defines, in a recipe; every field is checked."""
    rows = _read_rows(exposed)
    if rows and not row and "CONFIG" not in exposed:
        raise InputError(
            f"{path} is a table. Name a row: {', '.join(f'{path}/{name}' for name in rows)}; or train all rows: "
            f"affect table {path}"
        )
    if row and row not in rows:
        known = f"one of {', '.join(rows)}" if rows else "no row, because it is not a table"
        raise InputError(f"{Path(path).parent} has no row {row!r}. Expected {known}.")
    name, config = (f"ROWS[{row!r}]", rows[row]) if row else ("CONFIG", exposed.get("CONFIG"))
    if recipe is not None:
        recipes = exposed.get("RECIPES")
        recipes = recipes.get(row) if row and isinstance(recipes, dict) else recipes
        recipes = recipes if isinstance(recipes, dict) else {}
        if recipe not in recipes:
            known = f"one of {list(recipes)}" if recipes else "none"
            raise InputError(f"The config {path} has no recipe {recipe!r}. Expected {known}.")
        name, config = f"RECIPES[{recipe!r}]", recipes[recipe]
    if not isinstance(config, Experiment):
        raise InputError(f"The config {path} must define {name}, an affect.config.Experiment.")
    return from_json(Experiment, to_json(config), f"{path}: {name}")  # Python has not checked the types.


def run_python(path: str | Path) -> dict[str, Any]:
    """Runs a Python file and returns the names that it defines.

    Only the source text is run. `runpy.run_path` would also run bytecode, a folder or a ZIP archive under any name.

    Args:
        path: Source file.

    Raises:
        Exception: Of any kind, from what is run; ValueError or SyntaxError where the file is no source text.
    """
    code = compile(Path(path).read_bytes(), str(path), "exec", dont_inherit=True)
    module = types.ModuleType("<config>")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their own module up
    try:
        exec(code, vars(module))
    finally:
        del sys.modules[module.__name__]
    return vars(module)


def override(config: Any, text: str) -> Any:
    """Returns a config with one field replaced; the value is checked against the type of the field.

    Args:
        config: `Experiment`, or another dataclass of the config.
        text: Such as `"model.heads=4"`.

    Raises:
        InputError: On an unknown field or a value of the wrong type.
    """
    path, separator, value = text.partition("=")
    if not separator:
        raise InputError(f"An override reads FIELD=VALUE, such as model.heads=4. Received: {text!r}")
    return _replace(config, path.strip().split("."), value.strip(), text)


def _replace(config, names, value, text):
    fields = typing.get_type_hints(type(config))
    if hint := getattr(config, "renamed", {}).get(names[0]):
        raise InputError(f"{text!r}: {hint}")
    if names[0] not in fields:
        raise InputError(f"Unknown field {names[0]!r} in {text!r}. Expected one of {sorted(fields)}.")
    current = getattr(config, names[0])
    if dataclasses.is_dataclass(current):
        if len(names) == 1:
            own = sorted(typing.get_type_hints(type(current)))
            raise InputError(f"{names[0]!r} in {text!r} has fields of its own: {own}.")
        value = _replace(current, names[1:], value, text)
    else:
        if len(names) > 1:
            raise InputError(f"{names[0]!r} in {text!r} has no fields.")
        with contextlib.suppress(json.JSONDecodeError):  # an unquoted string, such as vgg16
            value = json.loads({"True": "true", "False": "false", "None": "null"}.get(value, value))
        value = check_value(fields[names[0]], value, text)
    return dataclasses.replace(config, **{names[0]: value})

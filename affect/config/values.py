"""Dataclasses to JSON and back; every value is checked against the type of its field."""

import dataclasses
import json
import math
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar

from affect.errors import InputError, first_line
from affect.files import replace_file

Config = TypeVar("Config")


def to_json(config: Any) -> dict[str, Any]:
    """Returns a dataclass as the dict that its JSON file holds: tuples become lists."""
    return _convert_tuples(dataclasses.asdict(config))


def _convert_tuples(value):
    if isinstance(value, dict):
        return {name: _convert_tuples(item) for name, item in value.items()}
    return [_convert_tuples(item) for item in value] if isinstance(value, list | tuple) else value


def list_changes(before: Any, now: Any, prefix: str = "") -> list[str]:
    """Returns the names of the fields that differ between two configs in JSON, such as `model.heads`.

    Args:
        before: One of the configs.
        now: The other.
        prefix: Name of the field that they are.
    """
    if not isinstance(before, dict) or not isinstance(now, dict):
        return [] if before == now else [prefix]
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    changes = [list_changes(before.get(name), now.get(name), f"{prefix}.{name}".lstrip(".")) for name in names]
    return [found for names in changes for found in names]


def from_json(cls: type[Config], values: Any, where: str) -> Config:
    """Builds a dataclass from the dict that `to_json` returns; every field is checked.

    Args:
        cls: Dataclass. If it has a method `upgrade`, the method is given the values of older files first.
        values: Dict of its fields. Fields with a default may be absent.
        where: What the dict is, for the error.

    Raises:
        InputError: On a value that is no dict, an unknown or missing field, or a value of the wrong type.
    """
    if not isinstance(values, dict):
        raise InputError(f"{where} must be an object with the fields of {cls.__name__}. Received: {values!r}")
    if upgrade := getattr(cls, "upgrade", None):
        values = upgrade(values)
    types_of = typing.get_type_hints(cls)
    if unknown := sorted(set(values) - set(types_of)):
        raise InputError(f"{where} has unknown fields {unknown}. Expected some of {sorted(types_of)}.")
    arguments = {name: check_value(types_of[name], value, f"{where}.{name}") for name, value in values.items()}
    try:
        return cls(**arguments)
    except (TypeError, InputError) as error:
        raise InputError(f"{where}: {error}") from error


def check_value(expected: Any, value: Any, where: str) -> Any:
    """Checks a value that was read against the type of its field.

    Args:
        expected: Type hint: a dataclass, a union, `dict[str, float]`, a tuple, a `Literal` of strings, or a plain type.
            Which of its strings a `Literal` allows is checked by the dataclass itself.
        value: From JSON, Python or the command line.
        where: What the value is, for the error.

    Returns:
        The value; dicts become dataclasses, lists become tuples, and whole numbers become floats as the type says.

    Raises:
        InputError: When the value has another type.
    """
    if dataclasses.is_dataclass(expected):
        return from_json(typing.cast(type, expected), value, where)
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin is dict and type(value) is dict:
        return {name: check_value(arguments[1], item, f"{where}.{name}") for name, item in value.items()}
    if origin is tuple and type(value) in (list, tuple):
        item_types = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        if len(item_types) == len(value):
            pairs = enumerate(zip(item_types, value, strict=True))
            return tuple(check_value(*pair, f"{where}[{index}]") for index, pair in pairs)
    options = arguments if isinstance(expected, types.UnionType) or origin is typing.Union else (expected,)
    if all(dataclasses.is_dataclass(option) for option in options):
        return from_json(_choose_task(options, value, where), value, where)
    options = tuple(str if typing.get_origin(each) is Literal else typing.get_origin(each) or each for each in options)
    if float in options and type(value) is int:
        value = float(value)
    if type(value) not in options:
        names = " or ".join("None" if option is type(None) else option.__name__ for option in options)
        raise InputError(f"{where}: expected {names}. Received: {value!r}")
    return value


def _choose_task(options, value, where):
    """Returns the dataclass whose task the values name. Older files name none and have the first."""
    task = value.get("task", options[0].task) if isinstance(value, dict) else options[0].task
    for option in options:
        if option.task == task:
            return option
    known = sorted(option.task for option in options)
    raise InputError(f"{where}.task must be one of {known}. Received: {task!r}")


def check_ranges(config: Any, **ranges: tuple[float, float]) -> None:
    """Checks that numbers are within their ranges. NaN and infinity are outside every range.

    Args:
        config: Dataclass.
        **ranges: Name of a field → lowest and highest value. A value that is no number is left to `check_value`.

    Raises:
        InputError: On the first number outside its range.
    """
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if isinstance(value, float) and math.isinf(value):
            raise InputError(f"{_name_field(config, name)} must be finite. Received: {value!r}")
        if isinstance(value, int | float) and not low <= value <= high:
            raise InputError(f"{_name_field(config, name)} must lie in [{low}, {high}]. Received: {value!r}")


def check_choices(config: Any) -> None:
    """Checks the strings of a dataclass whose fields are `Literal`.

    Args:
        config: Dataclass. A value that is no string is left to `check_value`.

    Raises:
        InputError: On the first string that is not one of the choices.
    """
    for name, hint in typing.get_type_hints(type(config)).items():
        known = list_choices(hint)
        value = getattr(config, name)
        if known and isinstance(value, str) and value not in known:
            raise InputError(f"{_name_field(config, name)} must be one of {sorted(known)}. Received: {value!r}")


def list_choices(hint: Any) -> tuple[str, ...]:
    """Returns the strings of a `Literal`, also of one in a union; empty for another type."""
    if typing.get_origin(hint) is Literal:
        return typing.get_args(hint)
    return tuple(choice for option in typing.get_args(hint) for choice in list_choices(option))


def _name_field(config, name):
    """Returns the name of a field as the user types it: `model.heads`."""
    group = "model" if hasattr(config, "task") else type(config).__name__.lower()
    return f"{group}.{name}"


def read_json(path: str | Path) -> dict[str, Any]:
    """Returns the object in a JSON file.

    Raises:
        InputError: When there is no such file, or it holds no JSON object.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, a number of 5000 digits, 1000 brackets
        raise InputError(f"{path} is not JSON: {first_line(error)}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} must hold a JSON object. Received: {type(value).__name__}")
    return value


def write_json(path: str | Path, value: Any) -> None:
    """Writes a JSON file under a temporary name and renames it, so that a reader never sees half of it.

    Args:
        path: JSON file.
        value: Anything that JSON can hold.
    """
    # It fails before anything is written. JSON has the same escape sequence for a byte of a name that is not UTF-8.
    content = (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode(errors="backslashreplace")
    with replace_file(path) as temporary:
        temporary.write_bytes(content)

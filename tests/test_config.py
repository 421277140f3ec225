"""Configs: what is misspelt or of the wrong type is refused in one line, and JSON gives back what was written."""

import dataclasses
import inspect
import json
import py_compile
import re
import sys
import zipfile
from pathlib import Path

import pytest

from affect import config as config_module
from affect.config import (
    Data,
    Experiment,
    Faces,
    FrameClassifier,
    Train,
    VideoClassifier,
    VideoRegressor,
    Windows,
    find_config,
    from_json,
    list_bundled_configs,
    load_config,
    load_rows,
    override,
    read_json,
    to_json,
)
from affect.config import write_json as write
from affect.config.loading import run_python
from affect.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
TOP = ["data", "model", "name", "recipe", "reported", "train", "windows"]
BASE = Experiment(name="base", model=FrameClassifier(backbone="vgg16", weights="vggface"))
VIDEO = Experiment(name="video", model=VideoClassifier("conv3d", "softmax", filters=4, temporal_pooling="max"))
STA = Experiment(
    name="sta", model=VideoRegressor(temporal="conv3d", attention="softmax"), windows=Windows(length_s=1.0)
)
HEADER = "from dataclasses import replace\nfrom affect.config import Data, Experiment, FrameClassifier, Train\n"
MODEL = 'FrameClassifier(backbone="vgg16", weights=None)'


def refusal(function, *args, **settings):
    """Returns the text with which the function refuses its arguments; it is one line."""
    with pytest.raises(InputError) as caught:
        function(*args, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def config_file(folder, body):
    path = folder / "row.py"
    path.write_text(HEADER + body + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (f'CONFIG = Experiment(name="x", model={MODEL}, dat=Data())', "dat"),
        (f'CONFIG = Experiment(name="x", model={MODEL}, data=Data(crop_ration=1.0))', "crop_ration"),
        (f"CONFIG = replace({MODEL}, head=2)", "head"),
        ('CONFIG = Experiment(name="x")', "model"),
        ("CONFIG = {}", "must define CONFIG, an affect.config.Experiment"),
        (f"CONFIG = {MODEL}", "must define CONFIG, an affect.config.Experiment"),
        ("ROW = 1", "must define CONFIG, an affect.config.Experiment"),
        ("CONFIG = Experiment(", "line 3"),
        ("CONFIG = Experimental()", "Experimental"),
        ("import no_such_module", "no_such_module"),
        ("from affect.config import Modell", "Modell"),
        ("CONFIG = Data.no_such", "no_such"),
        ("CONFIG = {'a': 1}['b']", "KeyError: 'b'"),
        ("CONFIG = 1 / 0", "division by zero"),
        ("open('no such file')", "no such file"),
        ("CONFIG = int('2\\n3')", "invalid literal"),
        ("raise ValueError('first\\nsecond')", "ValueError: first"),
        (
            f'CONFIG = Experiment(name="x", model={MODEL}, data=Data(frames="16"))',
            "data.frames: expected int. Received:",
        ),
        (
            f'CONFIG = Experiment(name="x", model={MODEL}, data=Data(frames=16.0))',
            "data.frames: expected int. Received:",
        ),
        (f'CONFIG = Experiment(name="x", model={MODEL}, train=Data())', "train"),
        (f'CONFIG = Experiment(name="x", model={MODEL}, reported={{"accuracy": "49 %"}})', "reported.accuracy"),
        (f'CONFIG = Experiment(name="x", model={MODEL}, data=Data(frames=0))', "data.frames must lie in [1, inf]"),
    ],
)
def test_what_is_wrong_in_a_config_file_is_named_with_the_file(tmp_path, body, cause):
    path = config_file(tmp_path, body)
    text = refusal(load_config, path)
    assert str(path) in text
    assert cause in text


def test_a_config_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(b"PK\x03\x04\x00\xff\xfe")
    assert str(path) in refusal(load_config, path)


@pytest.mark.parametrize("suffix", ["", ".cfg", ".h5", ".keras", ".PY", ".pyc", ".pyz", ".txt", ".yaml", ".zip"])
def test_only_a_file_of_python_is_ever_run(tmp_path, suffix):
    trap, path = tmp_path / "trap", tmp_path / f"config{suffix}"
    source = f"open({str(trap)!r}, 'w')\n"
    for write_it in (lambda: path.write_text(source), lambda: archive(path, source), lambda: bytecode(path, source)):
        write_it()
        text = refusal(load_config, path)
        assert text.startswith(f"{path} is no config. Expected a .py file, a config.json of a run, or a bundled config")
        assert not trap.exists()


@pytest.mark.parametrize("name", ["archive", "bytecode", "folder", "prefixed"])
def test_a_file_of_python_is_run_by_its_text_alone(tmp_path, name):
    trap, path = tmp_path / "trap", tmp_path / "config.py"
    source = f"open({str(trap)!r}, 'w')\n"
    if name == "bytecode":
        bytecode(path, source)
    elif name == "folder":
        path.mkdir()
        (path / "__main__.py").write_text(source)
    else:
        path.write_text("" if name == "archive" else "CONFIG = 1\n")
        archive(path, source, mode="w" if name == "archive" else "a")
    assert str(path) in refusal(load_config, path)
    assert not trap.exists()


def test_a_file_of_python_may_hold_dataclasses_and_name_its_encoding(tmp_path):
    path = tmp_path / "row.py"
    body = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    path.write_bytes(
        f"# -*- coding: latin-1 -*-\n{body}@dataclass\nclass A:\n    name: str = 'Ärger'\nFOUND = A()\n".encode(
            "latin-1"
        )
    )
    assert run_python(path)["FOUND"].name == "Ärger"


def archive(path, source, mode="w"):
    with zipfile.ZipFile(path, mode) as file:
        file.writestr("__main__.py", source)


def bytecode(path, source):
    (path.parent / "source").write_text(source)
    py_compile.compile(str(path.parent / "source"), cfile=str(path), doraise=True)


@pytest.mark.parametrize("name", ["no_such.py", "no_such.json", "."])
def test_a_missing_config_is_named(tmp_path, name):
    assert f"There is no config file {tmp_path / name}" in refusal(load_config, tmp_path / name)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working directory that is importable and has packages `configs` and `pipelines` of its own."""
    for name in ("configs", "pipelines"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('of another project')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("configs", "pipelines"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", list_bundled_configs())
def test_a_bundled_config_loads_by_its_name_from_everywhere(elsewhere, name):
    path = ROOT / "configs" / f"{name}.py"
    assert find_config(name) == find_config(Path(name)) == (path, "")
    if "table" in name or name.startswith("paper_b_"):
        for row, config in load_rows(name).items():
            assert find_config(f"{name}/{row}") == (path, row)
            assert load_config(f"{name}/{row}") == load_config(Path(path, row)) == config
            assert config.name == row
    else:
        assert load_config(name).name == name


def test_the_bundled_configs_are_all_that_there_are():
    assert sorted(list_bundled_configs().values()) == sorted((ROOT / "configs").rglob("[!_]*.py"))


def test_a_path_that_exists_is_taken_for_no_name(elsewhere):
    config_file(elsewhere, f'CONFIG = Experiment(name="x", model={MODEL})').rename("paper_a")
    Path("paper_b").mkdir()
    Path("paper_a_table1").mkdir()
    config_file(Path("paper_a_table1"), "").rename("paper_a_table1/tp")
    for name in ("paper_a", "paper_b", "paper_a_table1", "paper_a_table1/tp"):
        assert find_config(name) == (Path(name), "")
    assert "paper_a is no config." in refusal(load_config, "paper_a")
    assert "There is no config file paper_b (it is a folder)." in refusal(load_config, "paper_b")


@pytest.mark.parametrize("name", ["runs/a", "paper_a.py", "../paper_a", "configs/paper_a", "ä", "x" * 300 + "/y"])
def test_what_is_written_like_a_path_is_taken_for_no_name(elsewhere, name):
    assert find_config(name) == (Path(name), "")


def test_the_suffix_may_be_left_out(elsewhere):
    path = config_file(elsewhere / "configs", TABLE).rename("configs/mine.py")
    assert find_config("configs/mine") == find_config("configs/mine.py") == (path, "")
    assert find_config("configs/mine/soft") == find_config("configs/mine.py/soft") == (path, "soft")


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("paper_c", "fer2013, paper_a, paper_a_table1, "),
        ("x" * 300, "fer2013, paper_a, paper_a_table1, "),
    ],
)
def test_a_name_that_no_bundled_config_has_is_refused_with_those_there_are(elsewhere, name, known):
    text = refusal(find_config, name)
    start = f"There is no file or folder {name}, and no bundled config of that name. Expected a path or one of {known}"
    assert text.startswith(start)


TABLE = f"""
ROWS = {{"hard": Experiment(name="hard", model={MODEL}), "soft": Experiment(name="soft", model={MODEL}), "wrong": 1}}
RECIPES = {{"soft": {{"few": replace(ROWS["soft"], recipe="few", data=Data(frames=4))}}}}
"""


def test_a_row_of_a_table_is_a_config(tmp_path):
    path = config_file(tmp_path, TABLE)
    assert load_config(path / "soft", ["model.heads=4"]).model.heads == 4
    assert load_config(path / "soft", recipe="few").data.frames == 4
    assert list(load_rows(path, names=["soft", "hard"])) == ["soft", "hard"]
    assert load_rows(path, names=["soft"], recipe="few")["soft"].data.frames == 4


def test_what_is_wrong_with_a_table_is_named(tmp_path):
    path = config_file(tmp_path, TABLE)
    assert "has no recipe 'few'. Expected none." in refusal(load_config, path / "hard", recipe="few")
    assert "must define ROWS['wrong'], an affect.config.Experiment." in refusal(load_rows, path)
    text = refusal(load_config, path)
    assert f"is a table. Name a row: {path}/hard, {path}/soft, " in text and text.endswith(f"affect table {path}")
    assert "paper_a_table1 has no row 'tq'. Expected one of tp, " in refusal(load_config, "paper_a_table1/tq")
    assert "has no row 'tp'. Expected no row, because it is not a table." in refusal(load_config, "paper_a/tp")
    for name in ("paper_a_table1/tp", tmp_path, tmp_path / "gone.py"):
        assert f"{name} is no table. Expected a .py file that defines ROWS" in refusal(load_rows, name)
    assert "paper_a is no table: it defines no ROWS" in refusal(load_rows, "paper_a")


def test_a_config_that_imports_what_is_part_of_affect_now_says_so(elsewhere):
    (elsewhere / "configs" / "__init__.py").write_text("")
    for module in ("configs.paper_a", "pipelines_of_mine"):
        (elsewhere / "old.py").write_text(f"from {module} import CONFIG\n")
        text = refusal(load_config, "old.py")
        assert f"No module named '{module}'" in text
        assert ("import affect.configs.paper_a" in text) == (module == "configs.paper_a")


def test_a_python_config_loads_with_its_overrides(tmp_path):
    path = config_file(tmp_path, f'CONFIG = Experiment(name="Ärger", model={MODEL}, data=Data(crop_ratio=1))')
    loaded = load_config(path, ["model.heads=4", "train.seed=7", "model.heads=8"])
    assert (loaded.name, loaded.model.heads, loaded.train.seed) == ("Ärger", 8, 7)
    assert isinstance(loaded.data.crop_ratio, float)


RECIPES = f"""
CONFIG = Experiment(name="x", model={MODEL})
RECIPES = {{"ours": CONFIG, "soft": replace(CONFIG, recipe="soft", data=Data(frames=4)), "wrong": Data(),
           "mistyped": replace(CONFIG, data=Data(frames=4.0))}}"""


def test_a_recipe_is_chosen_and_then_overridden(tmp_path):
    path = config_file(tmp_path, RECIPES)
    assert load_config(path, recipe="ours") == load_config(path) == load_config(path, recipe=None)
    loaded = load_config(path, ["data.batch_clips=7"], "soft")
    assert (loaded.recipe, loaded.data.frames, loaded.data.batch_clips) == ("soft", 4, 7)
    write(tmp_path / "config.json", {"experiment": to_json(loaded)})
    assert load_config(tmp_path / "config.json") == loaded


@pytest.mark.parametrize(
    ("body", "recipe", "cause"),
    [
        (RECIPES, "hard", "has no recipe 'hard'. Expected one of ['ours', 'soft', 'wrong', 'mistyped']."),
        (f'CONFIG = Experiment(name="x", model={MODEL})', "ours", "has no recipe 'ours'. Expected none."),
        ("RECIPES = [1]", "ours", "has no recipe 'ours'."),
        ("RECIPES = 1", "ours", "has no recipe 'ours'."),
        (RECIPES, "wrong", "must define RECIPES['wrong'], an affect.config.Experiment."),
        (RECIPES, "mistyped", "RECIPES['mistyped'].data.frames: expected int. Received: 4.0"),
    ],
)
def test_a_recipe_that_is_none_is_refused(tmp_path, body, recipe, cause):
    path = config_file(tmp_path, body)
    text = refusal(load_config, path, (), recipe)
    assert str(path) in text
    assert cause in text


def test_a_resolved_config_has_no_recipes(tmp_path):
    path = tmp_path / "config.json"
    write(path, {"experiment": to_json(BASE)})
    assert f"{path} was resolved by its recipe already" in refusal(load_config, path, (), "paper")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model.heads=4", 4),
        (" model.heads = 4 ", 4),
        ("model.diversity=0.1", 0.1),
        ("model.diversity=1e-3", 0.001),
        ("model.diversity=2", 2.0),
        ("data.flip=false", False),
        ("data.flip=False", False),
        ("data.flip=True", True),
        ("model.hidden_units=256", 256),
        ("model.hidden_units=null", None),
        ("model.weights=None", None),
        ("model.weights=fer2013", "fer2013"),
        ('model.weights="fer2013"', "fer2013"),
        ('name="7"', "7"),
        ("name=a=b", "a=b"),
        ("name=Übung 3", "Übung 3"),
        ('reported={"accuracy": 1, "uar": 0.4}', {"accuracy": 1.0, "uar": 0.4}),
    ],
)
def test_an_override_takes_a_value_of_the_fields_type(text, expected):
    changed = override(BASE, text)
    value = changed
    names = text.partition("=")[0].strip().split(".")
    for name in names:
        value = getattr(value, name)
    assert value == expected
    assert type(value) is type(expected)
    if len(names) == 2:  # The rest is as it was.
        part = dataclasses.replace(getattr(changed, names[0]), **{names[1]: getattr(getattr(BASE, names[0]), names[1])})
        changed = dataclasses.replace(changed, **{names[0]: part})
        assert changed == BASE


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("model.heads=4.0", "expected int. Received: 4.0"),
        ("model.heads=four", "expected int. Received: 'four'"),
        ("model.heads=true", "expected int. Received: True"),
        ("model.heads=null", "expected int. Received: None"),
        ("model.heads=", "expected int. Received: ''"),
        ("model.heads=[1, 2]", "expected int. Received: [1, 2]"),
        ("model.hidden_units=1.5", "expected int or None. Received: 1.5"),
        ("model.diversity=true", "expected float. Received: True"),
        ('model.diversity="1"', "expected float. Received: '1'"),
        ("data.flip=1", "expected bool. Received: 1"),
        ("data.flip=yes", "expected bool. Received: 'yes'"),
        ("model.backbone=None", "expected str. Received: None"),
        ('model.backbone=["vgg16"]', "expected str. Received: ['vgg16']"),
        ("model.weights=3", "expected str or None. Received: 3"),
        ("reported=0.49", "expected dict. Received: 0.49"),
        ('reported={"accuracy": "high"}', 'reported={"accuracy": "high"}.accuracy: expected float. Received: \'high\''),
        ("model={}", "has fields of its own: ['attention_bias', 'backbone', "),
        ("data=", "has fields of its own"),
        ("model.heads.number=1", "'heads' in 'model.heads.number=1' has no fields"),
        ("model.heads", "FIELD=VALUE"),
        ("", "FIELD=VALUE"),
    ],
)
def test_an_override_that_makes_no_sense_is_refused(text, cause):
    assert cause in refusal(override, BASE, text)


@pytest.mark.parametrize(
    ("text", "legal"),
    [
        ("head=2", TOP),
        ("=2", TOP),
        ("modell.heads=2", TOP),
        ("model.=2", sorted(field.name for field in dataclasses.fields(FrameClassifier))),
        ("model.head=2", sorted(field.name for field in dataclasses.fields(FrameClassifier))),
        ("data.frame=2", sorted(field.name for field in dataclasses.fields(Data))),
        ("train.epoch=2", sorted(field.name for field in dataclasses.fields(Train))),
    ],
)
def test_an_unknown_field_lists_the_legal_ones(text, legal):
    assert f"in {text!r}. Expected one of {legal}." in refusal(override, BASE, text)


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("data.batch_clips=0", "[1, inf]"),
        ("data.frames=-1", "[1, inf]"),
        ("data.eval_frames=0", "[1, inf]"),
        ("data.shuffle_clips=0", "[1, inf]"),
        ("data.crop_ratio=1.5", "[0, 1]"),
        ("data.crop_ratio=NaN", "[0, 1]"),
        ("data.rotation_deg=-10", "[0, 180]"),
        ("model.heads=0", "[1, inf]"),
        ("model.hidden_units=0", "[1, inf]"),
        ("model.diversity=-1", "[0, inf]"),
        ("model.dropout=1.5", "[0, 1]"),
        ("train.epochs=0", "[1, inf]"),
        ("train.backbone_learning_rate=-1e-5", "[0, inf]"),
        ("train.head_learning_rate=NaN", "[0, inf]"),
        ("train.momentum=2", "[0, 1]"),
        ("train.weight_decay=-1", "[0, inf]"),
        ("train.restart_epochs=0", "[1, inf]"),
        ("train.restart_factor=0.5", "[1, inf]"),
        ("train.seed=-1", "[0, 4294967295]"),
        ("train.concordance=2", "[0, 1]"),
        ("windows.delay_s=-1", "[0, inf]"),
        ("windows.stride_s=0", "[0.001, inf]"),
    ],
)
def test_a_number_without_meaning_is_refused(text, limits):
    name = text.partition("=")[0]
    assert f"{name} must lie in {limits}. Received: " in refusal(override, BASE, text)


@pytest.mark.parametrize("name", ["train.head_learning_rate", "train.weight_decay", "windows.delay_s"])
def test_an_infinite_number_is_refused(name):
    assert f"{name} must be finite. Received: inf" in refusal(override, BASE, f"{name}=Infinity")


def test_a_number_at_its_limit_is_taken():
    Data(batch_clips=1, frames=1, eval_frames=1, shuffle_clips=1, crop_ratio=1.0, rotation_deg=0.0)
    Train(epochs=1, trainable="head", momentum=0.0, weight_decay=0.0, restart_factor=1.0, seed=2**32 - 1)


def test_json_gives_back_every_field(tmp_path):
    written = Experiment(
        name="Ärger",
        model=FrameClassifier("mini_xception", None, face_size=48, hidden_units=None, diversity=0.1),
        data=Data(flip=False, selection_ratio=0.3),
        train=Train(seed=5),
        reported={"accuracy": 0.49},
    )
    wire = json.loads(json.dumps(to_json(written)))
    assert from_json(Experiment, wire, "run") == written
    write(tmp_path / "config.json", {"experiment": wire, "classes": ["froh"]})
    assert load_config(tmp_path / "config.json") == written
    assert load_config(tmp_path / "config.json", ["data.flip=true"]).data.flip is True


def test_json_may_leave_out_what_has_a_default():
    values = {"name": "x", "model": {"backbone": "vgg16", "weights": None}}
    assert from_json(Experiment, values, "run") == Experiment("x", FrameClassifier("vgg16", None))
    assert from_json(Faces, {}, "run") == Faces()


def test_the_template_of_faces_is_five_points():
    points = [[0.2, 0.3], [0.8, 0.3], [0.5, 0.5], [0.3, 1], [0.7, 1.0]]
    faces = from_json(Faces, {"template": points}, "run")
    assert faces.template[3] == (0.3, 1.0) and to_json(faces)["template"] == points
    for wrong, text in (
        (points[:4], "run: faces.template must be five points"),
        ([[0.5, 0.5]] * 5, "run: faces.template must be five points"),
        ([0.1] * 5, "run.template[0]: expected tuple. Received: 0.1"),
        ([[0.1, 0.2, 0.3]] * 5, "run.template[0]: expected tuple. Received: [0.1, 0.2, 0.3]"),
        ([["0.1", 0.2]] * 5, "run.template[0][0]: expected float. Received: '0.1'"),
    ):
        assert refusal(from_json, Faces, {"template": wrong}, "run").startswith(text)


@pytest.mark.parametrize(("field", "known"), [("detect", ["every", "follow"]), ("tracks", ["all", "largest", "main"])])
def test_a_choice_that_is_unknown_is_refused(field, known):
    for value in known:
        assert getattr(from_json(Faces, {field: value}, "run"), field) == value
    text = refusal(from_json, Faces, {field: "some"}, "run")
    assert text == f"run: faces.{field} must be one of {known}. Received: 'some'"
    assert refusal(from_json, Faces, {field: 3}, "run") == f"run.{field}: expected str. Received: 3"


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (
            {"modell": {}},
            f"unknown fields ['modell']. Expected some of {TOP}",
        ),
        ({"model": {"backbone": "vgg16", "weights": None, "head": 2}}, "experiment.model has unknown fields ['head']"),
        ({"model": {"backbone": "vgg16"}}, "experiment.model: FrameClassifier.__init__() missing 1 required"),
        (
            {"model": "vgg16"},
            "experiment.model must be an object with the fields of FrameClassifier. Received: 'vgg16'",
        ),
        ({"model": None}, "experiment.model must be an object"),
        ({"name": 3}, "experiment.name: expected str. Received: 3"),
        ({"data": {"frames": "16"}}, "experiment.data.frames: expected int. Received: '16'"),
        ({"data": {"frames": 16.5}}, "experiment.data.frames: expected int. Received: 16.5"),
        ({"data": {"frames": 0}}, "experiment.data: data.frames must lie in [1, inf]. Received: 0"),
        ({"data": {"flip": 0}}, "experiment.data.flip: expected bool. Received: 0"),
        ({"train": {"momentum": None}}, "experiment.train.momentum: expected float. Received: None"),
        ({"reported": [0.49]}, "experiment.reported: expected dict. Received: [0.49]"),
        ({"reported": {"accuracy": None}}, "experiment.reported.accuracy: expected float. Received: None"),
    ],
)
def test_json_with_a_wrong_field_is_refused_with_its_path(tmp_path, change, cause):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"experiment": to_json(BASE) | change}))
    text = refusal(load_config, path)
    assert str(path) in text
    assert cause in text


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"{", "is not JSON"),
        (b"", "is not JSON"),
        (b"\xff\xfe{}", "is not JSON"),
        (b"[1]", "must hold a JSON object. Received: list"),
        (b"{}", "experiment must be an object with the fields of Experiment. Received: None"),
    ],
)
def test_a_file_that_is_no_experiment_is_refused(tmp_path, content, cause):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    text = refusal(load_config, path)
    assert str(path) in text
    assert cause in text


def test_reading_a_missing_json_file_names_it(tmp_path):
    assert f"There is no file {tmp_path / 'a.json'}" in refusal(read_json, tmp_path / "a.json")


def test_reading_json_executes_nothing(tmp_path):
    trap = tmp_path / "trap"
    code = f"__import__('pathlib').Path({str(trap)!r}).touch()"
    path = tmp_path / "config.json"
    values = to_json(BASE) | {"name": code, "reported": {code: 0.5}}
    path.write_text(json.dumps({"experiment": values}))
    loaded = load_config(path, [f"model.backbone={code}"])
    assert loaded.name == loaded.model.backbone == code
    path.write_text(f"CONFIG = {code}")  # Python under the name of JSON.
    refusal(load_config, path)
    assert not trap.exists()


def test_a_json_file_stays_whole_when_writing_fails(tmp_path):
    path = tmp_path / "report.json"
    write(path, {"before": "fröhlich"})
    with pytest.raises(TypeError):
        write(path, {"a": 1, "b": object()})
    assert json.loads(path.read_text(encoding="utf-8")) == {"before": "fröhlich"}
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]


def test_a_json_file_holds_a_name_that_is_not_utf8(tmp_path):
    path = tmp_path / "report.json"
    write(path, {"path": "caf\udce9 fröhlich"})
    assert read_json(path) == json.loads(path.read_bytes().decode("utf-8")) == {"path": "caf\udce9 fröhlich"}


def test_a_json_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "report.json"
    write(path, {"value": list(range(1000))})
    with open(path, encoding="utf-8") as reader:  # Opened before, it reads what was there before.
        write(path, {"value": "neu ü"})
        assert json.load(reader) == {"value": list(range(1000))}
    assert read_json(path) == {"value": "neu ü"}
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize(
    "cls", [cls for cls in vars(config_module).values() if dataclasses.is_dataclass(cls)], ids=lambda cls: cls.__name__
)
def test_every_field_is_in_the_docstring(cls):
    """Inherited fields are in the docstring of the base class."""
    args = inspect.getdoc(cls).partition("Args:\n")[2]  # whose indentation Python 3.13 takes away
    lines = re.findall(r"^ {4}(\w+(?:, \w+)*): \S", args, re.MULTILINE)
    documented = [name for line in lines for name in line.split(", ")]
    assert documented == list(cls.__annotations__)


def test_json_tells_the_networks_apart(tmp_path):
    for written in (BASE, STA, VIDEO):
        write(tmp_path / "config.json", {"experiment": to_json(written)})
        assert load_config(tmp_path / "config.json") == written
    old = to_json(BASE)
    del old["model"]["task"], old["windows"]  # as runs were written before there were two
    assert from_json(Experiment, old, "run") == BASE
    old = to_json(STA)
    for name in ("spatial_pooling", "heads", "pooling_units", "diversity"):  # of before they were paper B's too
        del old["model"][name]
    assert from_json(Experiment, old, "run") == STA
    wrong = to_json(BASE) | {"model": {"task": "regression", "backbone": "vgg16"}}
    assert "run.model has unknown fields ['backbone']" in refusal(from_json, Experiment, wrong, "run")
    wrong["model"]["task"] = "ranking"
    known = ["classification", "regression", "video_classification"]
    text = f"run.model.task must be one of {known}. Received: 'ranking'"
    assert refusal(from_json, Experiment, wrong, "run") == text


def test_an_optimizer_is_one_of_two_and_pytorchs_step_is_of_sgd():
    adam = override(BASE, "train.optimizer=adam")
    assert (BASE.train.optimizer, adam.train.optimizer) == ("sgd", "adam")
    assert "train.optimizer must be one of ['adam', 'sgd']. Received: 'lion'" in refusal(
        override, BASE, "train.optimizer=lion"
    )
    assert "train.pytorch_sgd is about SGD" in refusal(override, adam, "train.pytorch_sgd=true")


def test_both_networks_are_overridden_field_by_field():
    changed = override(override(STA, "model.filters=8"), "windows.length_s=4")
    assert (changed.model.filters, changed.windows.length_s, changed.windows.frames) == (8, 4.0, 40)
    assert override(STA, "model.attention=None").model.attention is None
    assert override(STA, "windows.delay_s=null").windows.delay_s is None
    assert "Unknown field 'backbone'" in refusal(override, STA, "model.backbone=vgg16")
    assert "model.task must be one of ['classification']" in refusal(override, BASE, "model.task=regression")
    assert "model.task must be one of ['regression']" in refusal(override, STA, "model.task=classification")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("model.filters=0", "model.filters must lie in [1, inf]. Received: 0"),
        ("model.predicts=middle", "model.predicts must be one of ['end', 'frames']. Received: 'middle'"),
        (
            "model.temporal=gru",
            "model.temporal must be one of ['bilstm', 'conv3d', 'lstm', 'rnn']. Received: 'gru'",
        ),
        (
            "model.temporal=lstm",
            "model.temporal='conv3d'. Received: temporal='lstm', attention='softmax'",
        ),
        ("model.features=lbp", "model.features must be one of ['faces', 'lgbp_top']. Received: 'lbp'"),
        ("model.features=lgbp_top", "The 3D-CNN sees faces: expected model.temporal='rnn', 'lstm', 'bilstm' or"),
        (
            "model.spatial_pooling=max",
            "model.spatial_pooling must be one of ['attention', 'average', 'shift']. Received: 'max'",
        ),
        ("model.heads=0", "model.heads must lie in [1, inf]. Received: 0"),
        ("model.diversity=-1", "model.diversity must lie in [0, inf]. Received: -1.0"),
        ("model.face_size=90", "model.face_size must be a multiple of 2^blocks = 8. Received: 90"),
        ("model.face_size=0", "model.face_size must be a multiple of 2^blocks = 8. Received: 0"),
    ],
)
def test_a_network_that_cannot_be_is_refused(text, cause):
    assert cause in refusal(override, STA, text)


def test_a_network_of_clips_pools_the_scores_of_frames():
    text = refusal(override, VIDEO, "model.temporal_pooling=lstm")
    assert text == "model.temporal_pooling must be one of ['average', 'joint_softmax', 'max']. Received: 'lstm'"
    assert "expected model.temporal='conv3d'. Received: " in refusal(override, VIDEO, "model.temporal=rnn")
    assert "Unknown field 'features'" in refusal(override, VIDEO, "model.features=faces")


def test_features_have_no_locations_to_attend_to():
    lgbp = dataclasses.replace(STA, model=VideoRegressor("lstm", features="lgbp_top"))
    text = refusal(override, lgbp, "model.spatial_pooling=shift")
    assert "expected model.spatial_pooling='average' beside features='lgbp_top'. Received: 'shift'" in text


def test_an_experiment_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        BASE.model.heads = 3


@pytest.mark.parametrize(("before", "now"), [(True, "float16"), (False, "float32")])
def test_mixed_precision_of_an_older_file_is_a_precision(before, now):
    values = to_json(Train())
    del values["precision"], values["deterministic"]
    config = from_json(Train, values | {"mixed_precision": before}, "config.json: experiment.train")
    assert (config.precision, config.deterministic) == (now, None)
    with pytest.raises(InputError, match=r"unknown fields \['mixed_precision'\]"):
        from_json(Train, {"mixed_precision": before, "precision": "float32"}, "config.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train.backbone_learning_rate=0", "To freeze the backbone, write train.trainable='head'. Received: 0.0"),
        ("train.trainable=none", "must be 'head', 'all', or 'last N blocks'"),
        ("train.trainable=last 0 blocks", "such as 'last 2 blocks'. Received: 'last 0 blocks'"),
        ("train.frozen_blocks=2", "it is train.trainable now: write train.trainable='last 2 blocks'"),
    ],
)
def test_what_is_trained_has_one_name(text, said):
    assert said in refusal(override, BASE, text)


def test_mixed_precision_elsewhere_is_refused_with_what_to_write(tmp_path):
    with pytest.raises(InputError, match=r"'mixed_precision': it is train\.precision now: write train\.prec"):
        python = "from affect.config import Train\nTrain(mixed_precision=True)\n"
        (tmp_path / "old.py").write_text(python)
        load_config(tmp_path / "old.py")
    with pytest.raises(InputError, match=r"it is train\.precision now: write train\.precision=float16"):
        override(Experiment("x", FrameClassifier("vgg16", None)), "train.mixed_precision=true")
    with pytest.raises(InputError, match=r"train\.precision must be one of \['bfloat16', 'float16', 'float32'\]"):
        Train(precision="half")

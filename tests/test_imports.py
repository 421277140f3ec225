"""Imports point in one direction, and `affect --help` imports no slow library. The sources are read, not imported."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from affect import REGISTERED
from tests.commands import RUN_COMMAND

ROOT = Path(__file__).resolve().parents[1]

# A module or folder imports from its own row and from those above it. Each one of the package has one row.
ROWS = [
    {"colours", "config", "errors", "extras", "files", "interrupts", "progress"},
    {"data", "drawing", "layers", "losses", "metrics", "regularizers", "report", "statistics"},
    {"models"},
    {"tasks"},
    {"reading"},
    {"serving", "training"},
    {"terminal"},
    {"demo"},
    {"cli"},
    {"__main__"},
]
SHARED_WITH_PIPELINES = {
    "config",
    "errors",
    "extras",
    "files",
    "interrupts",
    "progress",
    "data.clips",
    "data.examples",
    "data.images",
    "data.labels",
}
# Models run on every backend of Keras.
WITHOUT_TENSORFLOW = (
    "layers",
    "losses.py",
    "metrics.py",
    "models",
    "regularizers.py",
    "data/lgbp.py",
    "training/optimizers.py",
)


def sources(package):
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


def modules():
    """Returns the first-level modules of affect: name → its files."""
    found = {}
    for path in sources("affect"):
        name = path.relative_to(ROOT / "affect").parts[0].removesuffix(".py")
        if name != "__init__":
            found.setdefault(name, []).append(path)
    return found


def imports(path):
    """Returns what a file imports, wherever the import stands, as dotted names: `from a import b` is `a` and `a.b`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides where it points"
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return found


def tops(path):
    return {name.partition(".")[0] for name in imports(path)}


def of_affect(path):
    """Returns what a file imports from affect: its first-level modules, and `pipelines` and `configs`."""
    known = modules().keys() | {"pipelines", "configs"}
    return {name.split(".")[1] for name in imports(path) if name.startswith("affect.")} & known


def files_of_affect(path):
    """Returns the same by file: `config`, `data.records`."""
    names = (name.split(".")[1:] for name in imports(path) if name.startswith("affect."))
    found = {(name[0], ".".join(name[:2])) for name in names if name}
    return {both if (ROOT / "affect" / top).is_dir() else top for top, both in found} - {"data"}


def test_the_reader_of_imports_finds_them_all(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "import a.b as c\nfrom d import e, f\ndef g():\n    from affect import data\n    import h, affect.models\n"
        "    from affect.pipelines.video import read_frames\n"
    )
    ours = {
        "affect",
        "affect.data",
        "affect.models",
        "affect.pipelines.video",
        "affect.pipelines.video.read_frames",
    }
    assert imports(path) == {"a.b", "d", "d.e", "d.f", "h"} | ours
    assert of_affect(path) == {"data", "models", "pipelines"}


def test_each_module_stands_in_one_row():
    placed = [name for row in ROWS for name in row]
    assert sorted(placed) == sorted(modules()), "Give a new module its row here, and take out one that is gone."


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_point_one_way(name):
    (rank,) = (index for index, row in enumerate(ROWS) if name in row)
    allowed = set().union(*ROWS[: rank + 1])
    for path in modules()[name]:
        assert of_affect(path) - {"pipelines", "configs"} <= allowed, path


def test_no_two_modules_import_each_other():
    below = {name: set().union(*map(of_affect, paths)) - {name} for name, paths in modules().items()}
    while free := [name for name, names in below.items() if not names & below.keys()]:
        for name in free:
            del below[name]
    assert not below, "These modules import each other."


@pytest.mark.parametrize("path", sources("pipelines"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_pipelines_know_of_affect_only_what_both_share(path):
    ours = {name for name in files_of_affect(path) if name.partition(".")[0] not in ("pipelines", "__version__")}
    assert not {name for name in ours if not {name, name.partition(".")[0]} & SHARED_WITH_PIPELINES}


@pytest.mark.parametrize("path", sources("affect"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_only_the_command_line_and_what_reads_videos_know_the_pipelines(path):
    readers = {f"reading/{name}.py" for name in ("paths", "predictor", "preview", "study")}
    knows = path.relative_to(ROOT / "affect").as_posix() in {"cli.py", "demo.py", *readers}
    assert ("pipelines" in of_affect(path)) == knows
    assert "configs" not in of_affect(path), "A config is loaded by its path or name."


@pytest.mark.parametrize("top", ["affect", "pipelines", "configs", "benchmarks", "tests"])
def test_the_folders_are_imported_by_the_name_that_is_installed(top):
    """`import pipelines` works in the root of the checkout and nowhere else."""
    for path in sources(top):
        assert not tops(path) & {"pipelines", "configs"}, path
        assert top == "tests" or "tests" not in tops(path), path


@pytest.mark.parametrize("top", ["tests", "benchmarks"])
def test_what_tests_share_is_in_no_test_file(top):
    for path in sources(top):
        names = {name.removeprefix("tests.") for name in imports(path) if name.startswith("tests.")}
        assert not {name for name in names if name.startswith(("test_", "conftest"))}, path


@pytest.mark.parametrize("name", WITHOUT_TENSORFLOW)
def test_models_do_not_import_tensorflow(name):
    top = ROOT / "affect" / name
    for path in top.glob("*.py") if top.is_dir() else [top]:
        if path != ROOT / "affect" / "models" / "device.py":  # it asks each backend for its devices
            assert not tops(path) & {"tensorflow", "jax", "torch"}, path


@pytest.mark.parametrize("path", sources("configs"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_configs_import_only_what_a_config_is_made_of(path):
    assert of_affect(path) <= {"config", "configs"}
    assert tops(path) <= {"affect", "dataclasses"}


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["weights", "--help"]])
def test_help_waits_for_no_library(arguments):
    code = (
        f"{RUN_COMMAND}"
        "heavy = {'tensorflow', 'keras', 'sklearn', 'scipy', 'cv2', 'affect.pipelines', 'affect.configs'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout
    assert done.stdout.endswith("LOADED []\n")


def test_the_names_of_detectors_are_listed_without_importing_one():
    code = (
        "import sys\n"
        "from affect.pipelines.detectors import DETECTORS\n"
        "assert 'mtcnn' in DETECTORS\n"
        "print([name for name in sys.modules if name.startswith('affect.pipelines.detectors.')])\n"
        "print(sorted({'cv2', 'numpy', 'tensorflow', 'ai_edge_litert'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n[]\n"), done.stderr[-2000:]


def test_what_a_checkpoint_may_hold_is_in_the_modules_that_are_registered():
    of = [
        path.relative_to(ROOT / "affect") for path in sources("affect") if "@keras.saving.register" in path.read_text()
    ]
    names = {".".join(path.with_suffix("").parts) for path in of}
    assert {"layers" if name.startswith("layers.") else name for name in names} == set(REGISTERED)


def test_importing_affect_imports_no_library_but_registers_all_with_keras():
    """Whichever of our modules, or Keras, is imported first. Keras is only half forgotten in between, to be quick."""
    code = (
        "import sys, importlib\n"
        "import affect\n"
        "assert not {'keras', 'tensorflow', 'numpy', 'sklearn'} & set(sys.modules)\n"
        "import keras\n"
        "from keras.saving import get_custom_objects\n"
        "expected = set(get_custom_objects())\n"
        "assert {'affect>AttentionDiversity', 'affect>PyTorchSGD', 'affect>SeriesMetric'} < expected, expected\n"
        "for first in ('keras', *(f'affect.{name}' for name in affect.REGISTERED)):\n"
        "    get_custom_objects().clear()\n"
        "    for name in list(sys.modules):\n"
        "        if name == 'keras' or name.partition('.')[0] == 'affect':\n"
        "            del sys.modules[name]\n"
        "    importlib.import_module(first)\n"
        "    importlib.import_module('affect')\n"
        "    assert set(get_custom_objects()) == expected, first\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]

"""The wheel: one import name, and commands that work beside a project with folders `configs/` and `pipelines/`."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Folder of the repository → what it is in the package.
PACKAGES = {"affect": "affect", "pipelines": "affect/pipelines", "configs": "affect/configs"}
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


def python(executable, *arguments, cwd, **environment):
    """Runs Python without what leads to the checkout; returns the finished process."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [str(executable), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=inherited | environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Path of the wheel, built from a copy of the checkout because setuptools leaves files beside what it builds."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    done = python(sys.executable, "-c", BUILD, out, cwd=copy)
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Python of an environment that has the wheel, and all that is installed here except the checkout.

    In a folder that a `.pth` file names, Python reads no further `.pth` files, such as that of an editable install.
    """
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, symlinks=True)
    executable = environment / "bin" / "python"
    install = ["-m", "pip", "--python", executable, "install", "--quiet", "--no-deps", "--no-index", wheel]
    done = python(sys.executable, *install, cwd=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    (packages,) = environment.glob("lib/*/site-packages")
    here = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (packages / "dependencies.pth").write_text("".join(f"{path}\n" for path in here))
    return executable


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Working directory with packages `configs` and `pipelines` of its own, which nobody may import."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("configs", "pipelines"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise RuntimeError('of another project')\n")
        (folder / name / "paper_a.py").write_text("raise RuntimeError('of another project')\n")
    return folder


def test_it_holds_affect_alone_and_all_of_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    information = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"affect", information}
    expected = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package in PACKAGES.items()
        for path in (ROOT / folder).rglob("*.py")
    }
    assert "affect/configs/paper_a_table1.py" in expected
    found = {name for name in names if name.startswith("affect/") and name.endswith(".py")}
    assert found == expected, "Name every folder with an __init__.py under `packages` in setup.cfg."
    parts = {f"affect/report/{path.name}" for path in (ROOT / "affect/report").iterdir() if path.is_file()}
    assert {"affect/report/video.html", "affect/report/style.css", "affect/report/chart.json"} <= parts <= set(names)


def test_its_packages_are_the_folders_of_the_checkout():
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg")
    listed = settings["options"]["packages"].split()
    folders = [
        (PACKAGES[top] + path.parent.as_posix().removeprefix((ROOT / top).as_posix())).replace("/", ".")
        for top in PACKAGES
        for path in (ROOT / top).rglob("__init__.py")
    ]
    assert sorted(listed) == sorted(folders)


def test_the_checkout_cannot_be_imported_where_it_is_installed(installed, tmp_path):
    code = "import os, affect, affect.pipelines, affect.configs\nfrom importlib.util import find_spec\n"
    code += "places = lambda spec: list(spec.submodule_search_locations or ())\n"
    code += "print(affect.__file__, affect.pipelines.__file__, affect.configs.__file__, sep='\\n')\n"
    code += "specs = filter(None, map(find_spec, ('pipelines', 'configs', 'tests')))\n"  # others may have such names
    code += f"print([spec.name for spec in specs if {str(ROOT)!r} in map(os.path.dirname, places(spec))])\n"
    done = python(installed, "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *files, importable = done.stdout.splitlines()
    assert all(Path(file).is_relative_to(installed.parents[1]) for file in files), files
    assert importable == "[]"


def test_its_commands_work_beside_a_project_with_folders_of_these_names(
    installed, project, labelled_videos, face_videos, tmp_path
):
    def affect(*arguments, **environment):
        return python(installed, "-m", "affect", *arguments, cwd=project, **environment)

    videos, shards, run = (tmp_path / name for name in ("videos", "shards", "run"))
    for clip in range(4):
        for label in ("happy", "sad"):
            (videos / "train" / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(labelled_videos / "train" / label / f"{clip}.mp4", videos / "train" / label)
    done = affect("prepare", videos, "--out", shards, "--face-size", 64, "--min-face-px", 40, "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert "8 clips, 8 of them with a face" in done.stdout

    done = affect("train", "smoke", "--data", shards, "--workdir", run, "--set", "train.epochs=1")
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "config.json").read_text())["experiment"]["name"] == "smoke"
    assert (run / "best.keras").is_file()

    paper_a = ("train", "paper_a", "--data", shards, "--workdir", tmp_path / "a", "--set", "data.selection_ratio=0")
    done = affect(*paper_a, AFFECT_CACHE=str(tmp_path))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert done.stderr.endswith("Run: affect weights import vgg16 FILE\n")

    command = installed.with_name("affect")
    done = python(command, "predict", "fer2013", face_videos / "still.mp4", "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    reading = json.loads(done.stdout)
    assert reading["frames_with_a_face"] == 8
    assert sorted(path.name for path in project.iterdir()) == ["configs", "pipelines"]


@pytest.mark.large
@pytest.mark.parametrize("name", ["paper_a_table1/tp_sa_n2_l1", "paper_b_recola/lgbp_lstm", "video_classes"])
def test_its_other_configs_are_found_there_too(installed, project, tmp_path, name):
    arguments = ("-m", "affect", "train", name, "--data", "gone", "--workdir", tmp_path / "run")
    done = python(installed, *arguments, cwd=project)
    assert done.stderr == "affect: gone holds no manifest.json. Make shards: affect prepare SOURCE --out gone\n"

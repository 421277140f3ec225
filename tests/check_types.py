"""Runs mypy on the package as it is installed: setup.cfg maps pipelines/ to affect.pipelines, and configs/ likewise.

python -m tests.check_types        or: make lint

mypy has no such map and would find no affect.pipelines, so that all of its types were Any. Therefore it reads a folder
of links, in which `pipelines` and `configs` are below `affect`.
"""

import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.documents import ROOT


def read_map():
    """Returns name below affect → folder of the checkout, from `package_dir` in setup.cfg."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = config["options"]["package_dir"].split("\n")
    pairs = (map(str.strip, line.split("=")) for line in lines if "=" in line)
    return {name.removeprefix("affect."): folder for name, folder in pairs}


def link_package(folder):
    """Links the package below a folder, as it is installed."""
    package = folder / "affect"
    package.mkdir()
    for path in (ROOT / "affect").iterdir():
        (package / path.name).symlink_to(path)
    for name, source in read_map().items():
        (package / name).symlink_to(ROOT / source)


def check_types():
    """Runs mypy and prints what it says, with the paths of the checkout. Returns its exit status."""
    options = ["--config-file", ROOT / "pyproject.toml", "--cache-dir", ROOT / ".mypy_cache"]
    with TemporaryDirectory() as folder:
        link_package(Path(folder))
        done = subprocess.run(
            [sys.executable, "-m", "mypy", *options], cwd=folder, capture_output=True, text=True, check=False
        )
    said = done.stdout + done.stderr
    for name, source in read_map().items():
        said = said.replace(f"affect/{name}/", f"{source}/")
    print(said, end="")
    return done.returncode


if __name__ == "__main__":
    sys.exit(check_types())

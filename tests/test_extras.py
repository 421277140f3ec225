"""Without the packages of an extra: one line says what to install, and all else works."""

import json
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from affect.errors import InputError
from affect.extras import EXTRAS, find_missing, require
from affect.reading.loading import read_artefact
from tests.commands import refused

ROOT = Path(__file__).resolve().parents[1]

# Runs commands in one process that has none of the packages of these extras, as if they were not installed.
WITHOUT = """
import json, sys
for name in ("matplotlib", "tensorboard", "grpc", "tensorflow_serving"):
    sys.modules[name] = None
from typer.testing import CliRunner
from affect.cli import app
done = [CliRunner().invoke(app, command) for command in json.loads(sys.argv[1])]
for one in done:
    if one.exception and not isinstance(one.exception, SystemExit):
        raise one.exception
lines = [[line for line in one.stderr.splitlines() if line.startswith("affect: ")] for one in done]
print("DONE", json.dumps([[one.exit_code, *found] for one, found in zip(done, lines)]))
"""


def test_each_extra_is_what_setup_cfg_installs():
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg")
    extras = settings["options.extras_require"]
    for extra, packages in EXTRAS.items():
        named = [
            re.match(r"[\w-]+", line)[0]
            for line in extras[extra].split("\n")
            if line and not line.startswith("affect[")
        ]
        assert sorted(named) == sorted(packages.values()), extra
    assert "affect[logs, onnx, parquet, plots, serving, train]" in extras["test"]


@pytest.mark.parametrize(
    ("extra", "absent", "line"),
    [
        ("plots", ["matplotlib"], "X needs matplotlib. Install it: pip install 'affect[plots]'"),
        (
            "serving",
            ["grpc", "tensorflow_serving"],
            "X needs grpcio and tensorflow-serving-api. Install it: pip install 'affect[serving]'",
        ),
    ],
)
def test_what_is_missing_is_named_with_the_command_that_installs_it(monkeypatch, extra, absent, line):
    assert find_missing(extra) == []
    require(extra, "X")
    for module in absent:
        monkeypatch.setitem(sys.modules, module, None)
    assert find_missing(extra) == [EXTRAS[extra][module] for module in absent]
    with pytest.raises(InputError) as caught:
        require(extra, "X")
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("module", "command", "what"),
    [
        ("matplotlib", "explain fer2013 VIDEO --out F", "affect explain needs matplotlib"),
        ("matplotlib", "predict fer2013 VIDEO --plot F", "--plot needs matplotlib"),
        ("matplotlib", "evaluate fer2013 --data SHARDS --plot F", "--plot needs matplotlib"),
        ("matplotlib", "inspect SHARDS --out F", "A sheet of faces needs matplotlib"),
        ("matplotlib", "demo --out F", "affect demo needs matplotlib"),
        ("grpc", "predict NAME VIDEO --server grpc://localhost:1/name", "--server needs grpcio"),
        ("tensorflow_serving", "predict NAME VIDEO --server http://localhost:1/name", "--server needs tensorflow-serv"),
    ],
)
def test_a_command_refuses_before_it_does_anything(tmp_path, monkeypatch, module, command, what):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    line = refused(*command.split())
    assert line.startswith(f"affect: {what}") and "Install it: pip install 'affect[" in line
    assert not list(tmp_path.iterdir())


def test_all_else_works_without_any_of_them(shards, face_videos, tmp_path):
    run, name, video = tmp_path / "run", tmp_path / "name", face_videos / "still.mp4"
    commands = [
        ["train", "smoke", "--data", shards, "--workdir", run, "--set", "train.epochs=1"],
        ["evaluate", run, "--data", shards, "--json"],
        ["inspect", shards],
        ["export", run, name],
        ["check", name / "1"],
        ["predict", name, video, "--json"],
        ["predict", name / "1", video, "--out", tmp_path / "results"],
    ]
    arguments = json.dumps([[str(word) for word in command] for command in commands])
    done = subprocess.run([sys.executable, "-c", WITHOUT, arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.split("DONE ")[1])
    assert [code for code, *_ in found] == [0] * len(commands), found
    (_, no_logs), _, _, (_, no_warmup), _, _, (_, *_, no_report) = found
    assert no_report.startswith("affect: No report was written: it needs matplotlib.")
    assert no_report.endswith("Install it: pip install 'affect[plots]'")
    assert (tmp_path / "results" / "frames.csv").is_file() and not (tmp_path / "results" / "report.html").exists()
    assert no_logs == (
        f"affect: {run} gets no tensorboard/ folder, which needs tensorboard. Install it: pip install 'affect[logs]'"
    )
    assert (run / "log.csv").is_file() and not (run / "tensorboard").exists()
    assert no_warmup.startswith(f"affect: {name / '1'} has no warm-up requests, which TF Serving replays")
    assert no_warmup.endswith("Install it: pip install 'affect[serving]'")
    files = {path.name for path in (read_artefact(name / "1").path / "assets.extra").iterdir()}
    assert files == {"SHA256SUMS", "affect.json", "golden.npz", "labels.txt", "model_card.md"}

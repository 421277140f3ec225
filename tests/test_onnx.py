"""ONNX models: the answers of the network, read without TensorFlow."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

import affect
from affect.errors import InputError
from affect.reading.loading import read_artefact
from affect.reading.saved_model import latest_version, read_saved_model
from affect.serving.check import check
from affect.serving.export import export_trained
from tests.commands import affect as run
from tests.commands import refused
from tests.exported import SOURCES

KINDS = (
    "joint_softmax",
    "lstm",
    "regression",
    *(pytest.param(name, marks=pytest.mark.large) for name in ("statistics", "video_sta")),
)


@pytest.fixture(scope="module")
def onnx(exported, tmp_path_factory):
    """Function: name of a tiny model → `(SavedModel, folder of the ONNX model)`."""
    folder, made = tmp_path_factory.mktemp("onnx"), {}

    def make(name):
        if name not in made:
            trained, saved = exported(name)
            made[name] = saved, export_trained(trained, folder / name, SOURCES, form="onnx")
        return made[name]

    return make


@pytest.mark.parametrize("name", KINDS)
def test_all_signatures_answer_as_the_network(onnx, name):
    saved, path = onnx(name)
    report = check(path)
    assert report["passed"]
    assert set(report["differences"]) == set(saved.description["signatures"]) - {"jpeg"}
    random = np.random.default_rng(0)
    faces = random.integers(0, 256, (3, 5, *[saved.face_size] * 2, 3), np.uint8)
    frame_mask = np.array([[True] * 5, [True, False, True, True, False], [False] * 5])
    inputs = {"faces": faces, "frame_mask": frame_mask}
    expected, found = (model.signature("serving_default")(inputs) for model in (saved, read_artefact(path)))
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(found[key], value, atol=1e-5)
        else:
            assert found[key].tolist() == value.tolist()


def test_a_video_is_read_without_tensorflow_and_tf2onnx(onnx, face_videos):
    saved, path = onnx("joint_softmax")
    assert latest_version(path.parent) == path
    code = (
        "import sys, affect; sys.modules['tf2onnx'] = None; reading = affect.load(sys.argv[1]).read(sys.argv[2]); "
        "print(reading.label, max(reading.curves.overall), {'tensorflow', 'keras'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, path.parent, face_videos / "moving.mp4"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    label, probability, modules = done.stdout.split(maxsplit=2)
    expected = saved.read(face_videos / "moving.mp4")
    assert (label, modules.strip()) == (expected.label, "set()")
    assert float(probability) == pytest.approx(max(expected.curves.overall), abs=1e-5)


def test_what_is_no_onnx_model_is_named(onnx, tmp_path):
    _, path = onnx("joint_softmax")
    assert refused("convert", path, "--to", "float32") == (
        f"affect: {path} is an ONNX model. Expected the folder NAME/VERSION of a SavedModel. "
        "Make one: affect export RUN NAME"
    )
    copy = shutil.copytree(path, tmp_path / "name" / "1")
    (copy / "frame.onnx").write_bytes(b"no model")
    assert "frame.onnx was altered" in refused("check", copy)
    with pytest.raises(InputError, match="is an ONNX model"):
        read_saved_model(path)


def test_the_command_writes_and_checks(tmp_path):
    code, out, _ = run("export", "fer2013", tmp_path / "fer", "--format", "onnx")
    assert code == 0
    assert f"{tmp_path / 'fer' / '1'}" in out
    code, out, _ = run("check", tmp_path / "fer" / "1")
    assert code == 0
    assert affect.load(tmp_path / "fer").classes[0] == "angry"

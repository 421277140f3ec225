"""`import affect`: a model and a video in two lines, and nothing heavy until then."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import affect
from affect.errors import InputError
from affect.terminal import print_prediction
from tests.serving_stub import serve

OF_FRAME = ["video", "frame", "timestamp_s", "face", "has_face", "x0", "y0", "x1", "y1", "score", "importance"]
FER2013 = Path(__file__).parents[1] / "configs" / "fer2013.py"


@pytest.fixture(scope="module")
def video(face_videos):
    return face_videos / "moving.mp4"


def test_the_names_are_listed_and_found():
    assert {"load", "load_config", "Experiment", "Predictor", "Reading", "Shards", "__version__"} <= set(dir(affect))
    for name in (
        "load",
        "load_config",
        "Experiment",
        "Predictor",
        "Reading",
        "Shards",
        "build_model",
        "build_optimizer",
        "prepare_training",
    ):
        assert getattr(affect, name).__name__ == name
    with pytest.raises(AttributeError, match=r"no attribute 'lod'\. Expected one of \['Experiment', .*'load'"):
        affect.lod  # noqa: B018


def test_to_name_load_imports_no_library():
    code = "import sys, affect; affect.load; print(sorted({'tensorflow', 'keras', 'numpy', 'cv2'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def addresses(exported, tmp_path_factory):
    """What can be loaded, by its kind: arguments of `affect.load`."""
    _, artefact = exported("lstm")
    models = tmp_path_factory.mktemp("models")
    shutil.copytree(artefact.path, models / "tiny" / "1")
    with serve(models) as (_, grpc_address, rest_address):
        yield {
            "SavedModel": (models / "tiny",),
            "gRPC server": (f"grpc://{grpc_address}/tiny", models / "tiny"),
            "REST server": (f"{rest_address}/tiny/1", models / "tiny" / "1"),
        }


@pytest.mark.parametrize("kind", ["SavedModel", "gRPC server", "REST server"])
def test_a_model_and_a_video_in_two_lines(exported, addresses, video, tmp_path, kind):
    address, *copy = addresses[kind]
    reading = affect.load(address, artefact=copy[0] if copy else None).read(video)
    expected = exported("lstm")[0].read(video)
    assert reading.label == expected.label is not None
    assert reading.probabilities == pytest.approx(expected.probabilities, abs=1e-5)
    assert [frame["timestamp_s"] for frame in reading.frames] == [frame["timestamp_s"] for frame in expected.frames]
    assert len(reading.faces) == 8
    assert (reading.problem, reading.result["key"]) == ("", str(video))
    reading.save_figure(tmp_path / "figure.svg", frames=2)
    assert "attention" in (tmp_path / "figure.svg").read_text(encoding="utf-8")


def test_a_reading_is_a_data_frame_and_a_figure(exported, video, tmp_path):
    reading = exported("joint_softmax")[0].read(video, end_s=0.5)
    table = reading.to_dataframe()
    assert list(table.columns) == [*OF_FRAME, "angry", "happy", "sad"]
    assert len(table) == len(reading.frames) == 5
    assert table["importance"].sum() == pytest.approx(1, abs=1e-5)
    reading.save_figure(tmp_path / "figure.png", frames=3)
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_printing_makes_no_row_of_each_frame(exported, video, capsys):
    """So the memory of `affect predict` does not grow by a dict a frame."""
    for name in ("lstm", "regression"):
        reading = affect.load(exported(name)[1].path).read(video)
        print_prediction(reading, names_face=True)
        assert f"{video}, face 1: " in capsys.readouterr().out
        assert "result" not in vars(reading)


def test_faces_outlive_their_reading_and_leave_nothing_behind(exported, video, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    faces = exported("joint_softmax")[0].read(video).faces
    assert faces[0].jpeg[:2] == b"\xff\xd8"
    assert len(list(tmp_path.iterdir())) == 1
    del faces
    assert not list(tmp_path.iterdir())


def test_valence_and_arousal_are_columns_too(exported, video):
    reading = exported("regression")[0].read(video)
    assert (reading.label, reading.probabilities) == (None, None)
    assert list(reading.to_dataframe().columns) == [*OF_FRAME, "valence", "arousal"]


def test_a_video_without_a_face_says_so(exported, face_videos, tmp_path):
    reading = exported("joint_softmax")[0].read(face_videos / "no_face.mp4")
    assert (reading.label, len(reading.faces)) == (None, 0)
    assert "no face" in reading.problem
    assert not reading.to_dataframe()["has_face"].any()
    with pytest.raises(InputError, match="no face"):
        reading.save_figure(tmp_path / "figure.png")


def test_a_server_needs_the_model_that_it_serves():
    with pytest.raises(InputError, match=r"affect\.load\('grpc://host:8500/tiny', artefact='savedmodels/NAME'\)"):
        affect.load("grpc://host:8500/tiny")


def test_runs_configs_and_tflite_files_are_loaded_too(converted, video):
    label = affect.load(FER2013).read(video).label
    assert label in affect.load(FER2013).classes
    _, artefact = converted("joint_softmax")
    assert affect.load(artefact.path).read(video).label in artefact.classes

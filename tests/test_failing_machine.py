"""Commands on a full disk, and in a place that cannot be written: one line, exit code 1, and nothing half-written."""

import errno
import os
import resource
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import keras
import pytest
from PIL import Image

from affect.config import Data, Experiment, FrameClassifier, Train, read_json, to_json, write_json
from affect.errors import MachineError, describe_failure
from affect.models.published import weights_dir
from affect.pipelines.prepare import prepare
from affect.reading.loading import load
from affect.training.train import train
from tests.commands import affect, refused
from tests.pictures import SMALL_FACES


@contextmanager
def room(size):
    """Limits the size of the files that this process writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


MODEL = FrameClassifier(backbone="mini_xception", weights=None, face_size=32, hidden_units=4)
TINY = Experiment("tiny", MODEL, Data(batch_clips=4, frames=2, eval_frames=2, selection_ratio=0.25), Train(epochs=1))
ROWS = """
from affect.config import *
MODEL = FrameClassifier(backbone="mini_xception", weights=None, face_size=32, hidden_units=4)
DATA = Data(batch_clips=4, frames=2, eval_frames=2, selection_ratio=0.0)
ROWS = {"one": Experiment("one", MODEL, DATA, Train(epochs=1, trainable="head", restart_epochs=1))}
"""


@pytest.fixture(scope="module")
def run(shards, made_once):
    """A run of one epoch."""
    with made_once("run") as folder:
        if not folder.is_dir():
            train(TINY, data=shards, workdir=folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def commands(tmp_path_factory, labelled_videos, face_videos, shards, exported, run):
    """Verb → function: folder to write to → `(arguments, what they write)`."""
    version = exported("joint_softmax")[1].path
    video = face_videos / "moving.mp4"
    rows = tmp_path_factory.mktemp("rows") / "rows.py"
    rows.write_text(ROWS)

    def evaluate(out):
        if os.access(out, os.W_OK) and not (out / "r").exists():
            shutil.copytree(run, out / "r")
        return ["evaluate", out / "r", "--data", shards], out / "r" / "evaluation-test.json"

    return {
        "evaluate": evaluate,
        "table": lambda out: (
            ["table", rows, "--data", shards, "--workdir", out / "t", "--seeds", "1", "--split", "test"],
            out / "t" / "table.json",
        ),
        "demo": lambda out: (["demo", "--out", out / "d"], out / "d" / "summary.json"),
        "prepare": lambda out: (["prepare", labelled_videos, "--out", out / "s", "--workers", "1"], out / "s"),
        "predict": lambda out: (["predict", "fer2013", video, "--out", out / "p"], out / "p"),
        "plot": lambda out: (["predict", "fer2013", video, "--plot", out / "p.png"], out / "p.png"),
        "watch": lambda out: (["watch", "fer2013", video, "--out", out / "w.mp4"], out / "w.mp4"),
        "explain": lambda out: (["explain", "fer2013", video, "--out", out / "e.png"], out / "e.png"),
        "inspect": lambda out: (["inspect", shards, "--out", out / "i.png"], out / "i.png"),
        "export": lambda out: (["export", "fer2013", out / "n"], out / "n"),
        "convert": lambda out: (["convert", version, "--to", "dynamic", "--out", out / "c.tflite"], out / "c.tflite"),
    }


QUICK = ("prepare", "predict", "plot", "watch", "explain", "inspect", "evaluate")
SLOW = ("export", "convert", "table", "demo")


def list_files(folder):
    """Lists the files below a folder without those of TensorBoard, whose names hold the time."""
    files = (path for path in folder.rglob("*") if path.is_file() and "events.out.tfevents" not in path.name)
    return sorted(path.relative_to(folder).as_posix() for path in files)


@pytest.mark.parametrize("verb", [*QUICK, *(pytest.param(verb, marks=pytest.mark.large) for verb in SLOW)])
def test_a_full_disk_is_one_line_and_the_same_command_ends_well(commands, tmp_path, verb):
    for name in ("undisturbed", "full"):
        (tmp_path / name).mkdir()
    arguments, _ = commands[verb](tmp_path / "undisturbed")
    expected_code, _, _ = affect(*arguments)  # prepare ends with 1, because a video shows no face
    expected = list_files(tmp_path / "undisturbed")
    assert expected
    arguments, out = commands[verb](tmp_path / "full")
    with room(300):
        code, _, lines = affect(*arguments)
    assert code == 1, lines
    assert len(lines) == 1, lines
    assert "internal error" not in lines[0]
    assert str(tmp_path) in lines[0] or tempfile.gettempdir() in lines[0]
    assert not out.is_file()
    code, _, lines = affect(*arguments)
    assert code == expected_code, lines
    assert list_files(tmp_path / "full") == expected


@pytest.mark.parametrize("verb", [verb for verb in (*QUICK, *SLOW) if verb != "evaluate"])  # it has a run there
def test_a_place_that_cannot_be_written_is_one_line(commands, tmp_path, verb):
    place = tmp_path / "sealed"
    place.mkdir(mode=0o500)
    if os.access(place, os.W_OK):  # the superuser may write there
        shutil.rmtree(place)
        place = Path("/proc/sys")
    arguments, _ = commands[verb](place)
    line = refused(*arguments, code=1)
    assert "internal error" not in line
    assert "/proc/sys" in line or str(place) in line


def test_a_face_that_the_disk_takes_half_of_is_not_kept(face_videos, tmp_path, monkeypatch):
    """A disk that is nearly full takes the first bytes of a JPEG and says nothing, which Pillow takes for success."""

    def fill(path, *arguments, mkdir=Path.mkdir, **options):
        mkdir(path, *arguments, **options)
        if path.name == "making":
            resource.setrlimit(resource.RLIMIT_FSIZE, (2500, resource.RLIM_INFINITY))

    predictor, arguments = load("fer2013"), (face_videos / "moving.mp4", tmp_path)
    with monkeypatch.context() as patch, room(resource.RLIM_INFINITY):
        patch.setattr(Path, "mkdir", fill)
        with pytest.raises(MachineError, match="no room for the results"):
            predictor.read_many(*arguments, report=False)
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["making"]
    predictor.read_many(*arguments, report=False)
    faces = list(tmp_path.glob("parts/*/*.jpg"))
    assert faces and min(face.stat().st_size for face in faces) > 2500
    for face in faces:
        Image.open(face).load()


def test_a_folder_that_vanishes_between_two_videos_is_named(face_videos, labelled_videos, tmp_path):
    study, shards = tmp_path / "study", tmp_path / "shards"
    videos = [face_videos / "no_face.mp4", face_videos / "moving.mp4"]

    def remove(name, part):
        shutil.rmtree(study)

    def track(clips, total, description):
        for clip in clips:
            yield clip
            shutil.rmtree(shards)

    with pytest.raises(MachineError, match=f"^{study} was removed while results were written there"):
        load("fer2013").read_many(videos, study, report=False, done=remove)
    with pytest.raises(MachineError, match=f"^{shards} was removed while results were written there"):
        prepare(labelled_videos, dataset="folder", out=shards, faces=SMALL_FACES, workers=1, track=track)
    assert not study.exists() and not shards.exists()


@pytest.mark.large
def test_a_run_that_vanishes_between_two_epochs_is_named(shards, tmp_path, monkeypatch):
    def remove(callbacks, epoch, logs=None, begin=keras.callbacks.CallbackList.on_epoch_begin):
        if epoch:
            shutil.rmtree(tmp_path / "run")
        begin(callbacks, epoch, logs)

    monkeypatch.setattr(keras.callbacks.CallbackList, "on_epoch_begin", remove)
    two = replace(TINY, train=replace(TINY.train, epochs=2))
    with pytest.raises(MachineError, match="run was removed while results were written there"):
        train(two, data=shards, workdir=tmp_path / "run", progress=False)


def test_verify_and_check_write_nothing(shards, exported):
    for arguments in (("verify", shards), ("check", exported("joint_softmax")[1].path)):
        with room(0):
            code, out, lines = affect(*arguments)
        assert (code, lines) == (0, []), out


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A file of mini-Xception's weights, and the environment of an empty cache."""
    file = shutil.copy(weights_dir() / "mini_xception-fer2013.h5", tmp_path)
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path / "cache"))
    return file


def test_weights_are_kept_when_there_is_room(weights, tmp_path):
    with room(300):
        line = refused("weights", "import", "mini_xception", weights, code=1)
    assert f"{tmp_path / 'cache' / 'weights'} has no room" in line
    assert not list_files(tmp_path / "cache")
    assert affect("weights", "import", "mini_xception", weights)[0] == 0
    assert list_files(tmp_path / "cache") == [f"weights/mini_xception-fer2013.{end}" for end in ("h5", "json")]


def test_weights_in_a_place_that_cannot_be_written(weights, monkeypatch):
    monkeypatch.setenv("AFFECT_CACHE", "/proc/sys")
    line = refused("weights", "import", "mini_xception", weights, code=1)
    assert line.startswith("affect: /proc/sys/weights cannot be made (")


def test_weights_that_are_fetched_onto_a_full_disk(weights, monkeypatch):
    with room(0):
        line = refused("weights", "get", "mini_xception", code=1)
    assert f"{tempfile.gettempdir()} has no room" in line

    def fill(command, **options):
        return subprocess.CompletedProcess(command, 1, "", "WARNING: a\nERROR: [Errno 28] No space left on device\n")

    monkeypatch.setattr(subprocess, "run", fill)
    line = refused("weights", "get", "mini_xception", code=1)
    assert "ERROR: [Errno 28] No space left on device). Make room in " in line and "set TMPDIR" in line


def test_a_run_is_not_called_damaged_where_keras_has_no_room(run, shards, tmp_path):
    """Keras unpacks weights into the folder for temporary files."""
    copy = shutil.copytree(run, tmp_path / "r")
    with room(300):
        line = refused("evaluate", copy, "--data", shards, code=1)
    assert "Make room" in line and "Train" not in line
    two = replace(TINY, train=replace(TINY.train, epochs=2))
    config = read_json(copy / "config.json")
    write_json(copy / "config.json", config | {"experiment": to_json(two)})
    with room(300), pytest.raises(MachineError, match="Make room"):
        train(two, data=shards, workdir=copy, progress=False)


@pytest.mark.large
def test_training_goes_on_when_there_is_room(shards, tmp_path):
    with room(10_000), pytest.raises(MachineError, match="has no room for the results .* Make room and run the same"):
        train(TINY, data=shards, workdir=tmp_path / "run", progress=False)
    assert not list((tmp_path / "run").glob("*.keras"))
    ended = train(TINY, data=shards, workdir=tmp_path / "run", progress=False)
    assert ended == train(TINY, data=shards, workdir=tmp_path / "undisturbed", progress=False)


def test_what_a_failure_says():
    full = OSError(errno.ENOSPC, "No space left on device", "/data/a")
    assert describe_failure(full) == "/data/a: No space left on device. Make room and run the same command again."
    hdf5 = OSError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')")
    assert describe_failure(hdf5) == "No space left on device. Make room and run the same command again."
    assert describe_failure(MemoryError()).startswith("This machine is out of memory. Close other programs")
    library = ImportError("libavcodec.so.62: failed to map segment from shared object")
    assert describe_failure(library) == describe_failure(MemoryError())
    assert describe_failure(ImportError("No module named 'a'")) is None
    thread = RuntimeError("can't start new thread")
    assert describe_failure(thread).endswith("Close other programs, and run the same command again.")
    assert describe_failure(KeyError("a")) is None
    assert describe_failure(BrokenPipeError(errno.EPIPE, "Broken pipe")) is None

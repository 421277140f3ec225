"""Commands on a full disk, and in a place that cannot be written: one line, exit code 1, and nothing half-written."""

import errno
import os
import resource
import shutil
from contextlib import contextmanager

import pytest

from affect.config import Data, Experiment, FrameClassifier, Train
from affect.errors import MachineError, describe_failure
from affect.training.train import train
from tests.commands import affect, refused


@contextmanager
def room(size):
    """Limits the size of the files that this process writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def commands(tmp_path_factory, labelled_videos, face_videos, shards, exported, made_once):
    """Verb → function: folder to write to → `(arguments, what they write)`."""
    version = exported("joint_softmax")[1].path
    video = face_videos / "moving.mp4"
    return {
        "prepare": lambda out: (["prepare", labelled_videos, "--out", out / "s", "--workers", "1"], out / "s"),
        "predict": lambda out: (["predict", "fer2013", video, "--out", out / "p"], out / "p"),
        "plot": lambda out: (["predict", "fer2013", video, "--plot", out / "p.png"], out / "p.png"),
        "watch": lambda out: (["watch", "fer2013", video, "--out", out / "w.mp4"], out / "w.mp4"),
        "explain": lambda out: (["explain", "fer2013", video, "--out", out / "e.png"], out / "e.png"),
        "inspect": lambda out: (["inspect", shards, "--out", out / "i.png"], out / "i.png"),
        "export": lambda out: (["export", "fer2013", out / "n"], out / "n"),
        "convert": lambda out: (["convert", version, "--to", "dynamic", "--out", out / "c.tflite"], out / "c.tflite"),
    }


QUICK, SLOW = ("prepare", "predict", "plot", "watch", "explain", "inspect"), ("export", "convert")


def list_files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


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
    assert not out.is_file()
    code, _, lines = affect(*arguments)
    assert code == expected_code, lines
    assert list_files(tmp_path / "full") == expected


@pytest.mark.parametrize("verb", [*QUICK, *SLOW])
def test_a_place_that_cannot_be_written_is_one_line(commands, tmp_path, verb):
    place = tmp_path / "sealed"
    place.mkdir(mode=0o500)
    if os.access(place, os.W_OK):  # the superuser may write there
        shutil.rmtree(place)
        place = type(tmp_path)("/proc/sys")
    arguments, _ = commands[verb](place)
    line = refused(*arguments, code=1)
    assert "internal error" not in line
    assert "/proc/sys" in line or str(place) in line


@pytest.mark.large
def test_training_goes_on_when_there_is_room(shards, tmp_path):
    model = FrameClassifier(backbone="mini_xception", weights=None, face_size=32, hidden_units=4)
    experiment = Experiment(
        "tiny", model, Data(batch_clips=4, frames=2, eval_frames=2, selection_ratio=0.25), Train(epochs=1)
    )
    with room(10_000), pytest.raises(MachineError, match="has no room for the results .* Make room and run the same"):
        train(experiment, data=shards, workdir=tmp_path / "run", progress=False)
    assert not list((tmp_path / "run").glob("*.keras"))
    ended = train(experiment, data=shards, workdir=tmp_path / "run", progress=False)
    assert ended == train(experiment, data=shards, workdir=tmp_path / "undisturbed", progress=False)


def test_what_a_failure_says():
    full = OSError(errno.ENOSPC, "No space left on device", "/data/a")
    assert describe_failure(full) == "/data/a: No space left on device. Make room and run the same command again."
    hdf5 = OSError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')")
    assert describe_failure(hdf5) == "No space left on device. Make room and run the same command again."
    assert describe_failure(MemoryError()).startswith("This machine is out of memory. Close other programs")
    assert describe_failure(KeyError("a")) is None
    assert describe_failure(BrokenPipeError(errno.EPIPE, "Broken pipe")) is None

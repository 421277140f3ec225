"""Systems other than Linux: what affect does where the limits, locks and calls of Linux are missing."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from affect import load
from affect.errors import InputError
from affect.files import lock_folder
from affect.pipelines.prepare import prepare
from affect.pipelines.video import probe, read_frames
from affect.reading.paths import find_videos
from tests.folders import contents
from tests.pictures import SMALL_FACES, write_video
from tests.systems import run_unlike_linux, start_unlike_linux

ROOT = Path(__file__).resolve().parents[1]
COMMAND = "import sys; from affect.cli import main; main()"


def test_the_process_lacks_what_it_should(tmp_path):
    (tmp_path / "open").write_text("")
    code = (
        "import importlib, os, signal, sys\n"
        "for name in ('fcntl', 'resource'):\n"
        "    try: importlib.import_module(name)\n"
        "    except ImportError: print(name)\n"
        "print(hasattr(os, 'memfd_create'), hasattr(signal, 'SIGKILL'))\n"
        "with open(sys.argv[1]):\n"
        "    try: os.unlink(sys.argv[1])\n"
        "    except PermissionError: print('open')\n"
    )
    assert run_unlike_linux(code, tmp_path / "open").split() == [b"fcntl", b"resource", b"False", b"False", b"open"]


def test_a_video_is_read_to_the_same_frames(shared_data):
    path = shared_data / "clips" / "single_face.mp4"
    code = (
        "import hashlib, json, sys\n"
        "from affect.pipelines.video import end_idle_decoders, probe, read_frames\n"
        "digest, times = hashlib.sha256(), []\n"
        "for time_s, frame in read_frames(sys.argv[1]):\n"
        "    times.append(time_s)\n"
        "    digest.update(frame)\n"
        "print(json.dumps([probe(sys.argv[1]).duration_s, times, digest.hexdigest()]))\n"
    )
    digest, times = hashlib.sha256(), []
    for time_s, frame in read_frames(path):
        times.append(time_s)
        digest.update(frame)
    assert json.loads(run_unlike_linux(code, path)) == [probe(path).duration_s, times, digest.hexdigest()]


def test_a_hostile_video_costs_that_video_only(tmp_path):
    """A file that never answers, and one that is damaged; then a whole one."""
    whole = write_video(tmp_path / "a.mp4", [np.full((64, 64, 3), 10 * t, np.uint8) for t in range(20)])
    (tmp_path / "b.mp4").write_bytes(whole.read_bytes()[:1500])
    os.mkfifo(tmp_path / "c.mp4")
    code = (
        "import sys\n"
        "from affect.errors import InputError\n"
        "from affect.pipelines.video import Limits, read_frames\n"
        "for path in sys.argv[1:]:\n"
        "    try: print(len(list(read_frames(path, limits=Limits(stall_s=2)))))\n"
        "    except InputError as error: print(error)\n"
    )
    hangs, damaged, frames = run_unlike_linux(code, *(tmp_path / f"{name}.mp4" for name in "cba")).decode().splitlines()
    assert hangs == f"{tmp_path / 'c.mp4'} gave no frame for 2 s after 0 frames; its decoder was stopped."
    assert damaged.startswith(f"{tmp_path / 'b.mp4'} is ")
    assert frames == "20"


def test_shards_have_the_same_bytes(labelled_videos, shards, tmp_path):
    code = (
        "import sys\n"
        "from affect.pipelines.prepare import prepare\n"
        "from tests.pictures import SMALL_FACES\n"
        "if __name__ == '__main__':\n"
        "    prepare(sys.argv[1], dataset='folder', out=sys.argv[2], faces=SMALL_FACES, workers=2)\n"
    )
    run_unlike_linux(code, labelled_videos, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(shards)
    assert prepare(labelled_videos, dataset="folder", out=tmp_path / "out", faces=SMALL_FACES)["shards"]


def test_a_study_is_written_to_the_same_tables(labelled_videos, tmp_path):
    """As a command, whose output is UTF-8 although the system's encoding is another one."""
    model, videos = ROOT / "savedmodels" / "planted" / "1", tmp_path / "überall"
    videos.mkdir()
    for name in ("0", "1"):
        (videos / f"{name} → ü.mp4").write_bytes((labelled_videos / "test" / "happy" / f"{name}.mp4").read_bytes())
    printed = run_unlike_linux(COMMAND, "predict", model, videos, "--out", tmp_path / "out").decode()
    assert "1 → ü.mp4: happy; face in " in printed
    assert "\r" not in printed
    load(model).read_many([videos], tmp_path / "expected")
    for name in ("videos.csv", "frames.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "expected" / name).read_bytes()
    assert (tmp_path / "out" / "report.html").is_file()


# Files of tests → those in them that use what the process lacks: fork, named pipes.
TESTS = dict.fromkeys(("video", "sound", "follow", "faces", "spool", "paths", "watch"), "")
TESTS |= {"study": "cannot_be_opened", "prepare": "killed or odd"}


@pytest.mark.large
@pytest.mark.parametrize("name", TESTS)
def test_the_tests_pass_there(name):
    code = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
    without = ["-k", f"not ({TESTS[name]})"] if TESTS[name] else []
    run_unlike_linux(code, "-q", *without, ROOT / "tests" / f"test_{name}.py")


LOCKS = """
import sys
from affect.files import lock_folder
lock_folder(sys.argv[1], is_shared="shared" in sys.argv[2], waits="waits" in sys.argv[2])
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["linux", "unlike_linux"])
def held(request, tmp_path):
    """Function: "alone", "shared" or "alone, waits" → a process that has locked `tmp_path` until its input ends."""
    processes = []

    def hold(kind):
        if request.param == "unlike_linux":
            process = start_unlike_linux(LOCKS, tmp_path, kind)
        else:
            pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
            process = subprocess.Popen([sys.executable, "-c", LOCKS, tmp_path, kind], **pipes)
        processes.append(process)
        return process

    yield hold
    for process in processes:
        process.communicate()


def has_locked(process):
    return process.stdout.readline() == b"locked\n"


def test_a_folder_is_kept_from_others_until_the_process_ends(held):
    first = held("alone")
    assert has_locked(first)
    for kind in ("alone", "shared"):
        second = held(kind)
        assert not has_locked(second)
        assert b"BlockingIOError" in second.communicate()[1]
    first.kill()
    first.wait()
    assert has_locked(held("alone"))


def test_a_shared_lock_is_shared_with_its_kind_only(held):
    first, second = held("shared"), held("shared")
    assert has_locked(first) and has_locked(second)
    assert not has_locked(held("alone"))
    first.communicate()
    second.communicate()
    assert has_locked(held("alone"))


def test_a_lock_is_waited_for(held):
    first = held("alone")
    assert has_locked(first)
    second = held("alone, waits")
    first.communicate()
    assert has_locked(second)


def test_a_lock_ends_with_its_descriptor(tmp_path):
    held = lock_folder(tmp_path)
    with pytest.raises(BlockingIOError):
        lock_folder(tmp_path)
    held.close()
    lock_folder(tmp_path).close()
    assert list(tmp_path.iterdir()) == []


def test_videos_on_several_drives_are_named_by_their_whole_paths(tmp_path, monkeypatch):
    paths = [write_video(tmp_path / f"{name}.mp4", [np.zeros((16, 16, 3), np.uint8)]) for name in "ab"]

    def refuse(*_):
        raise ValueError("Paths don't have the same drive")

    monkeypatch.setattr(os.path, "commonpath", refuse)
    assert [video.name for video in find_videos(paths).videos] == [path.as_posix() for path in paths]
    with pytest.raises(InputError, match="no file or folder"):
        find_videos([tmp_path / "gone.mp4"])

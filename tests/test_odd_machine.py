"""Odd machines: a file in OUT's place, two file systems, no locks, no home, a wrong clock, files that change."""

import errno
import fcntl
import os
import pwd
import shutil
import time
from pathlib import Path

import pytest

from affect.config import Data, Experiment, Faces, Train, VideoClassifier
from affect.errors import MachineError, describe_failure
from affect.files import LONGEST_NAME, name_temporary, replace_file
from affect.pipelines.datasets.csv_list import csv_list
from affect.pipelines.detectors import DETECTORS
from affect.pipelines.prepare import prepare
from affect.training.train import train
from tests.bright import FAKE, Bright
from tests.commands import affect, refused
from tests.pictures import grey, write_video

# Verb → arguments that write to a place.
VERBS = {
    "prepare": lambda videos, shards, place: ["prepare", videos, "--out", place, "--workers", "1"],
    "predict": lambda videos, shards, place: ["predict", "fer2013", videos / "a.mp4", "--out", place],
    "train": lambda videos, shards, place: ["train", "smoke", "--data", shards, "--workdir", place],
    "plot": lambda videos, shards, place: ["predict", "fer2013", videos / "a.mp4", "--plot", f"{place}/a.png"],
    "watch": lambda videos, shards, place: ["watch", "fer2013", videos / "a.mp4", "--out", f"{place}/a.mp4"],
    "explain": lambda videos, shards, place: ["explain", "fer2013", videos / "a.mp4", "--out", f"{place}/a.png"],
    "inspect": lambda videos, shards, place: ["inspect", shards, "--out", f"{place}/a.png"],
    "export": lambda videos, shards, place: ["export", "fer2013", f"{place}/a"],
}


@pytest.fixture(scope="module")
def videos(face_videos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    shutil.copy(face_videos / "still.mp4", folder / "a.mp4")
    return folder


@pytest.mark.parametrize("verb", VERBS)
def test_a_file_where_a_folder_is_to_be_is_one_line_and_stays(videos, shards, tmp_path, verb):
    place = tmp_path / "precious"
    place.write_text("precious")
    line = refused(*VERBS[verb](videos, shards, place), code=1)
    assert "precious" in line
    assert "hoose another" in line
    assert place.read_text() == "precious"
    assert os.listdir(tmp_path) == ["precious"]


@pytest.mark.parametrize("verb", ["plot", "watch", "explain", "inspect"])
def test_a_folder_where_a_file_is_to_be_is_one_line(videos, shards, tmp_path, verb):
    arguments = VERBS[verb](videos, shards, tmp_path)
    Path(arguments[-1]).mkdir()
    code, _, lines = affect(*arguments)
    assert code in (1, 2)
    assert len(lines) == 1 and "hoose another" in lines[0], lines
    assert os.listdir(tmp_path) == [Path(arguments[-1]).name]


@pytest.mark.parametrize("verb", ["prepare", "predict", "plot", "watch", "explain", "inspect"])
def test_nothing_is_renamed_from_another_file_system(videos, shards, tmp_path, monkeypatch, verb):
    """Whatever is not below `tmp_path` is on another one, as /tmp often is."""

    def check(name, rename=None):
        rename = getattr(os, name)

        def renamed(source, target, **more):
            if Path(source).is_relative_to(tmp_path) != Path(target).is_relative_to(tmp_path):
                raise OSError(errno.EXDEV, "Invalid cross-device link", str(source), None, str(target))
            rename(source, target, **more)

        monkeypatch.setattr(os, name, renamed)

    check("rename")
    check("replace")
    code, _, lines = affect(*VERBS[verb](videos, shards, tmp_path / "out"))
    assert code == 0, lines
    assert list(tmp_path.rglob("*"))


@pytest.mark.parametrize(("verb", "number"), [("prepare", errno.ENOLCK), ("predict", errno.EOPNOTSUPP)])
def test_without_locks_a_command_says_so_and_goes_on(videos, shards, tmp_path, monkeypatch, verb, number):
    def flock(file, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    arguments = VERBS[verb](videos, shards, tmp_path / "out")
    code, _, lines = affect(*arguments)
    assert code == 0
    assert lines == [
        f"affect: {tmp_path / 'out'} is on a file system without locks. Run no second affect {verb} on it at the same "
        "time."
    ]
    assert affect(*arguments)[0] == 0


def test_workers_need_no_locks(videos, tmp_path, monkeypatch):
    """Spawned workers get the file system from a module that Python imports at their start."""
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "sitecustomize.py").write_text(
        "import errno, fcntl\ndef flock(file, how):\n    raise OSError(errno.ENOLCK, 'No locks')\nfcntl.flock = flock\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "python"))
    (tmp_path / "videos").mkdir()
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / "videos" / name, grey(2))
    (tmp_path / "boxes.csv").write_text("key,timestamp_s,x0,y0,x1,y1\na,0,1,2,30,40\n")
    faces = Faces(detector="boxes", boxes=str(tmp_path / "boxes.csv"))
    manifest = prepare(tmp_path / "videos", dataset="folder", out=tmp_path / "out", faces=faces, workers=2)
    assert manifest["counts"]["videos"] == 2


def test_a_home_that_nobody_knows(monkeypatch):
    monkeypatch.setenv("AFFECT_CACHE", "~nobody-here/cache")
    assert refused("weights", "get", "mini_xception").endswith(
        "~nobody-here/cache: no such home folder is known. Set AFFECT_CACHE to a folder for weights."
    )


def test_no_home(monkeypatch, videos):
    """HOME is unset, and the user has no entry in the system's table, as in some containers."""

    def getpwuid(number):
        raise KeyError(number)

    for name in ("AFFECT_CACHE", "HOME", "USERPROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    assert "~/.cache/affect: no such home folder is known. Set AFFECT_CACHE" in refused(
        "weights", "get", "mini_xception"
    )
    assert affect("predict", "fer2013", videos / "a.mp4")[0] == 0  # its weights come with affect


def test_a_home_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path / "home"))
    line = refused("weights", "get", "mini_xception", code=1)
    assert str(tmp_path / "home") in line
    assert "AFFECT_CACHE" in line


TINY = Experiment(
    "tiny",
    VideoClassifier("lstm", face_size=16, blocks=2, filters=2, recurrent_units=3),
    Data(batch_clips=4, frames=2, eval_frames=2, selection_ratio=0.25),
    Train(epochs=1),
)


@pytest.mark.parametrize(("clock_s", "year"), [(0, 1970), (5_000_000_000, 2128)])
def test_a_clock_that_a_checkpoint_cannot_hold_is_refused_before_the_work(shards, tmp_path, monkeypatch, clock_s, year):
    with monkeypatch.context() as patch, pytest.raises(MachineError, match=f"^The clock of this machine says {year}"):
        patch.setattr(time, "time", lambda: clock_s)
        train(TINY, data=shards, workdir=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_clock_that_goes_backwards_and_files_of_the_future_do_no_harm(shards, tmp_path, monkeypatch):
    shutil.copytree(shards, tmp_path / "shards")
    begin_s = time.time()
    for path in (tmp_path / "shards").iterdir():
        os.utime(path, (begin_s + 1e8, begin_s + 1e8))
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: begin_s - 100 * time.monotonic())
        ended = train(TINY, data=tmp_path / "shards", workdir=tmp_path / "run", progress=False)
        assert ended == train(TINY, data=tmp_path / "shards", workdir=tmp_path / "run", progress=False)
    assert ended["epochs"] == 1


class Meddler(Bright):
    """Finds faces as `Bright` does; before the first one it does something to the videos."""

    def __init__(self, faces):
        self.calls = 0

    meddle = None

    def detect(self, frames):
        if self.calls == 0:
            type(self).meddle()
        self.calls += 1
        return super().detect(frames)


CHANGES = {
    "longer": lambda path: path.write_bytes(path.read_bytes() + bytes(50)),
    "cut": lambda path: os.truncate(path, 800),
    "another": lambda path: shutil.copy(path.parents[1] / "b.mp4", path),
    "replaced": lambda path: os.replace(path.parents[1] / "b.mp4", path),
    "touched": lambda path: os.utime(path, (0, 0)),
}


def prepare_meddled(folder, change, monkeypatch, names=("a",)):
    """Prepares videos, and does something when the first one is open; returns the manifest's entries."""
    (folder / "videos").mkdir()
    for name in names:
        write_video(folder / "videos" / f"{name}.mp4", grey(40))
    monkeypatch.setitem(DETECTORS, "bright", type("Meddling", (Meddler,), {"meddle": staticmethod(change)}))
    return prepare(folder / "videos", dataset="folder", out=folder / "out", faces=FAKE, workers=1)["clips"]


@pytest.mark.parametrize("change", CHANGES)
def test_a_video_that_changes_while_it_is_prepared_is_named(tmp_path, monkeypatch, change):
    path = tmp_path / "videos" / "a.mp4"
    write_video(tmp_path / "b.mp4", grey(4))
    (clip,) = prepare_meddled(tmp_path, lambda: CHANGES[change](path), monkeypatch)
    assert f"{path} changed while it was read. Run the same command again, with --overwrite." in clip["problem"]
    assert clip["source_sha256"] == ""


def test_a_video_that_vanishes_while_it_is_prepared(tmp_path, monkeypatch):
    """What is open is read to its end. A video that is gone before it is opened is named."""
    videos = tmp_path / "videos"
    read, gone = prepare_meddled(tmp_path, lambda: shutil.rmtree(videos), monkeypatch, names=("a", "b"))
    assert (read["problem"], read["frames_decoded"]) == ("", 40)
    assert gone["problem"] == f"There is no file {videos / gone['key']}.mp4."


def test_lists_of_names_that_are_spelt_otherwise_or_missing_list_a_folder_once(tmp_path, monkeypatch):
    """A folder was listed for each row: 10,000 rows took 100 times as long as 1,000."""
    (tmp_path / "v").mkdir()
    rows = [f"v/{name}{index}.mp4" for index in range(20) for name in ("gone", "caf\u00e9", "BIG")]
    for index in range(20):
        (tmp_path / "v" / f"cafe\u0301{index}.mp4").touch()
        (tmp_path / "v" / f"big{index}.mp4").touch()
    (tmp_path / "list.csv").write_text("path\n" + "\n".join(rows) + "\n", encoding="utf-8")
    listed, listdir = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder=".": listed.append(folder) or listdir(folder))
    clips = csv_list(tmp_path / "list.csv")
    assert len(clips) == 60
    assert sum(clip.path.is_file() for clip in clips) == 20
    assert sum("has a similar name" in clip.problem for clip in clips) == 20
    assert len(listed) <= 4


def test_a_temporary_name_is_not_longer_than_a_name_may_be(tmp_path):
    for name in ("a.csv", "é" * 125 + ".csv", "n" * (LONGEST_NAME - 4) + ".csv"):
        path = tmp_path / name
        for prefix in ("tmp-", "sound-"):
            temporary = name_temporary(path, prefix)
            assert temporary.parent == tmp_path and temporary.suffix == ".csv" and temporary != path
            assert len(os.fsencode(temporary.name)) <= LONGEST_NAME
        with replace_file(path) as temporary:
            temporary.write_text("whole")
        assert path.read_text() == "whole"
    with pytest.raises(OSError) as raised, replace_file(tmp_path / ("n" * 256)) as temporary:
        temporary.write_text("whole")
    assert describe_failure(raised.value).endswith(f"{'n' * 256}: File name too long. Choose a shorter name.")
    assert len(os.listdir(tmp_path)) == 3

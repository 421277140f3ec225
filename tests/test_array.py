"""An array of jobs and one join write the bytes of a local run, whatever is stopped, killed, lost or done twice."""

import errno
import fcntl
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from affect.errors import InputError, MachineError
from affect.pipelines.array import join_parts, prepare_part, write_command
from affect.pipelines.detectors import DETECTORS
from affect.pipelines.parts import open_parts
from affect.pipelines.prepare import PARTS, prepare
from tests.bright import FAKE, Bright, write_clips
from tests.commands import affect, refused
from tests.folders import contents
from tests.pictures import write_video

BEAT_S = 0.05


pytestmark = pytest.mark.usefixtures("bright")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture
def whole(clips, tmp_path):
    """Content of a folder that a local run made."""
    prepare(clips, dataset="folder", out=tmp_path / "whole", faces=FAKE, workers=1, shard_bytes=1)
    return contents(tmp_path / "whole")


def make(clips, out, part, **options):
    options = {"faces": FAKE, "workers": 1, "beat_s": BEAT_S, "dataset": "folder"} | options
    return prepare_part(clips, out=out, part=part, **options)


def join(clips, out, **options):
    options = {"faces": FAKE, "beat_s": BEAT_S, "dataset": "folder", "shard_bytes": 1} | options
    return join_parts(clips, out=out, **options)


@pytest.mark.parametrize("order", [[1], [2, 1, 3], [9, 8, 7, 6, 5, 4, 3, 2, 1]])
def test_parts_in_any_order_have_the_bytes_of_a_local_run(clips, whole, tmp_path, order):
    out = tmp_path / "out"
    made = [make(clips, out, (number, len(order))) for number in order]
    assert [path.name for path in out.iterdir()] == [PARTS]
    manifest = join(clips, out)
    assert contents(out) == whole
    assert json.loads(whole["manifest.json"]) == manifest
    for name, total in manifest["counts"].items():
        assert sum(part["counts"][name] for part in made) == total
    assert sorted(clip["key"] for part in made for clip in part["clips"]) == sorted(
        clip["key"] for clip in manifest["clips"]
    )


def test_several_examples_of_a_clip_stay_together(tmp_path):
    path = tmp_path / "source/happy/a.mp4"
    path.parent.mkdir(parents=True)
    write_video(path, [np.full((64, 128, 3), 60 if index < 5 else 120, np.uint8) for index in range(11)])
    faces = replace(FAKE, detector="two", tracks="all")
    prepare(tmp_path / "source", dataset="folder", out=tmp_path / "whole", faces=faces, part_faces=4, shard_bytes=1)
    for number in (1, 2):
        make(tmp_path / "source", tmp_path / "out", (number, 2), faces=faces, part_faces=4)
    assert len(join(tmp_path / "source", tmp_path / "out", faces=faces)["clips"]) == 5
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_no_lock_of_a_file_is_needed(clips, whole, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    for number in (1, 2):
        make(clips, tmp_path / "out", (number, 2))
    join(clips, tmp_path / "out")
    assert contents(tmp_path / "out") == whole


def test_a_part_and_a_join_that_were_done_do_nothing_more(clips, whole, tmp_path):
    out = tmp_path / "out"
    first = make(clips, out, (1, 2))
    before = {path: path.stat().st_mtime_ns for path in (out / PARTS).rglob("*") if path.is_file()}
    assert make(clips, out, (1, 2)) == first
    assert {path: path.stat().st_mtime_ns for path in before} == before
    make(clips, out, (2, 2))
    manifest = join(clips, out)
    assert join(clips, out) == manifest
    assert make(clips, out, (1, 2)) == first
    assert contents(out) == whole


def test_a_part_that_was_stopped_goes_on(clips, whole, tmp_path):
    out = tmp_path / "out"

    def stop(outcomes, total, description):
        for index, outcome in enumerate(outcomes):
            if index == 1:
                raise KeyboardInterrupt
            yield outcome

    with pytest.raises(KeyboardInterrupt):
        make(clips, out, (1, 2), track=stop)
    kept = {path: path.stat().st_mtime_ns for path in (out / PARTS / "1-of-2").glob("*.tfrecord")}
    assert kept
    (out / PARTS / "1-of-2" / "making-x").mkdir()  # a part that was killed in the middle of a clip
    totals = []

    def track(outcomes, total, description):
        totals.append(total)
        return outcomes

    make(clips, out, (1, 2), track=track)
    assert totals == [3 - len(kept)]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    make(clips, out, (2, 2))
    join(clips, out)
    assert contents(out) == whole


KILLED = """\
import sys, time
from pathlib import Path
from affect.config import Faces
from affect.pipelines.array import prepare_part
from affect.pipelines.detectors import DETECTORS
from tests.bright import FAKE, Bright

class Slow(Bright):
    def detect(self, frames):
        time.sleep(0.3)
        return super().detect(frames)

DETECTORS["bright"] = Slow
source, out = sys.argv[1:]
prepare_part(source, dataset="folder", out=out, faces=FAKE, part=(1, 2), workers=1, beat_s=0.05)
"""


def test_a_part_that_was_killed_goes_on(clips, whole, tmp_path):
    out = tmp_path / "out"
    make(clips, out, (2, 2))
    killed = subprocess.Popen([sys.executable, "-c", KILLED, clips, out])
    folder = out / PARTS / "1-of-2"
    while not [*folder.glob("*-0.tfrecord")]:
        assert killed.poll() is None
        time.sleep(0.005)
    killed.kill()
    killed.wait()
    assert (folder / "claim").is_dir()
    with pytest.raises(InputError, match=r"^Part 1/2 of .* lacks [12] of 6 clips\. Make it: affect prepare "):
        join(clips, out)
    make(clips, out, (1, 2))
    join(clips, out)
    assert contents(out) == whole


def test_a_part_is_made_by_one_job_at_a_time(clips, whole, tmp_path):
    out = tmp_path / "out"

    def track(outcomes, total, description):
        with pytest.raises(InputError, match=r"^.*/out: part 1/2 is being made by \S+, process \d+\. Wait for it\.$"):
            make(clips, out, (1, 2))
        make(clips, out, (2, 2))
        with pytest.raises(InputError, match=r"^.*/out: part 1/2 is being made by .*\. Wait for it\.$"):
            join(clips, out)
        with pytest.raises(InputError, match=r"^.*/out: part 1/2 is being made by .*\. Wait for it\.$"):
            prepare(clips, dataset="folder", out=out, faces=FAKE, overwrite=True, beat_s=BEAT_S)
        return outcomes

    make(clips, out, (1, 2), track=track)
    join(clips, out)
    assert contents(out) == whole


def test_nothing_else_happens_while_parts_are_joined(clips, whole, tmp_path):
    out = tmp_path / "out"
    for number in (1, 2):
        make(clips, out, (number, 2))

    def track(items, total, description):
        with pytest.raises(InputError, match=r"^.*/out: its parts are being joined by .*\. Wait for it\.$"):
            make(clips, out, (1, 2))
        with pytest.raises(InputError, match=r"^.*/out: its parts are being joined by .*\. Wait for it\.$"):
            join(clips, out)
        return items

    join(clips, out, track=track)
    assert contents(out) == whole


def test_a_join_that_was_stopped_goes_on(clips, whole, tmp_path, monkeypatch):
    out = tmp_path / "out"
    for number in (1, 2):
        make(clips, out, (number, 2))
    (out / f"{PARTS}-making-x").mkdir()  # of a job that was killed at its start

    def fill(source, target):
        target.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", fill)
        with pytest.raises(MachineError, match=r"has no room .*No space left.* It continues\."):
            join(clips, out)
    join(clips, out)
    assert contents(out) == whole


@pytest.mark.parametrize("fault", ["outcome", "record", "short", "video", "folder"])
def test_what_a_part_lost_is_named_with_its_command_and_made_again(clips, tmp_path, fault):
    source, out = tmp_path / "my videos", tmp_path / "out"
    shutil.copytree(clips, source)
    for number in (1, 2, 3):
        make(source, out, (number, 3))
    folder = out / PARTS / "2-of-3"
    record = next(folder.glob("*.tfrecord"))
    outcome = next(folder.glob("*.json"))
    if fault == "outcome":
        outcome.unlink()
    elif fault == "record":
        record.unlink()
    elif fault == "short":
        record.write_bytes(record.read_bytes()[:-1])
    elif fault == "folder":
        shutil.rmtree(folder)
    else:
        key = json.loads(outcome.read_text())["clips"][0]["key"]
        with open(source / f"{key}.mp4", "ab") as file:
            file.write(b"more")
    text = (
        f"Part 2/3 of {out} lacks {2 if fault == 'folder' else 1} of 6 clips. Make it: affect prepare "
        f"'{source}' --out {out} --detector bright --face-size 32 --part 2/3"
    )
    with pytest.raises(InputError, match=f"^{re.escape(text)}$"):
        join(source, out)
    make(source, out, (2, 3))
    join(source, out)
    prepare(source, dataset="folder", out=tmp_path / "whole", faces=FAKE, workers=1, shard_bytes=1)
    assert contents(out) == contents(tmp_path / "whole")


def test_parts_that_were_never_made_are_named_as_an_array(clips, tmp_path):
    with pytest.raises(InputError, match=r"/out holds no parts\. Make N of them: affect prepare .* --part 1/N$"):
        join(clips, tmp_path / "out")
    make(clips, tmp_path / "out", (4, 6))
    with pytest.raises(InputError, match=r"^Parts 1-3,5-6 of 6 of .*/out lack 5 of 6 clips\. Make each of them, the"):
        join(clips, tmp_path / "out")


def test_parts_of_something_else_are_refused(clips, tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(clips, source)
    make(source, out, (1, 2))
    before = contents(out)
    remedy = f"Choose another --out, or remove the folder {out / PARTS}."
    other = replace(FAKE, face_size=48)

    def check(text, call, *arguments, **options):
        with pytest.raises(InputError, match=f"^{re.escape(text)}$"):
            call(source, out, *arguments, **options)
        assert contents(out) == before

    check(f"{out} was prepared with face_size=32, now 48. {remedy}", make, (2, 2), faces=other)
    check(f"{out} was prepared with face_size=32, now 48. {remedy}", join, faces=other)
    check(f"{out} holds parts of 2, and not of 3. {remedy}", make, (2, 3))
    local = f"{out} holds an array job of 2 parts. Join them: the same command with --join. Or discard them with "
    check(f"{local}--overwrite.", lambda source, out: prepare(source, dataset="folder", out=out, faces=FAKE, workers=1))
    shutil.copy(source / "train/sad/a.mp4", source / "train/sad/e.mp4")
    text = (
        f"{out} holds parts of another list of clips: 6 clips then, 7 now, or other labels, subjects, splits, votes "
        f"or times. {remedy}"
    )
    check(text, make, (2, 2))
    check(text, join)
    (source / "train/sad/e.mp4").unlink()
    (source / "train/sad/b.mp4").rename(source / "train/happy/b.mp4")
    check(text.replace("7 now", "6 now"), join)
    for part in ((0, 2), (3, 2)):
        check(f"A part must be I/N, with I from 1 to N. Received: {part[0]}/2", make, part)


def test_shards_of_something_else_are_refused(clips, whole, tmp_path):
    out = tmp_path / "out"
    prepare(clips, dataset="folder", out=out, faces=FAKE, workers=1, shard_bytes=1)
    for call in (make, join):
        arguments = [(1, 2)] if call is make else []
        with pytest.raises(InputError, match=r"face_size=32, now 48\. Choose another --out, or remove .*/out\.$"):
            call(clips, out, *arguments, faces=replace(FAKE, face_size=48))
    assert contents(out) == whole


def test_parts_do_not_go_on_from_a_local_run(clips, tmp_path):
    def stop(outcomes, total, description):
        next(iter(outcomes))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(clips, dataset="folder", out=tmp_path, faces=FAKE, workers=1, track=stop)
    for call in (lambda: make(clips, tmp_path, (1, 2)), lambda: join(clips, tmp_path)):
        with pytest.raises(InputError, match=r"holds an unfinished run without --part\. Finish it: the same command"):
            call()


def test_overwrite_discards_an_array(clips, whole, tmp_path):
    make(clips, tmp_path / "out", (1, 2), faces=replace(FAKE, face_size=48))
    prepare(clips, dataset="folder", out=tmp_path / "out", faces=FAKE, workers=1, shard_bytes=1, overwrite=True)
    assert contents(tmp_path / "out") == whole


def test_of_many_jobs_that_start_at_once_one_says_the_settings(tmp_path):
    parts = tmp_path / PARTS
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda number: open_parts(parts, {"number": number})["number"], range(64)))
    assert len(set(found)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [PARTS]
    (parts / "settings.json").unlink()
    (parts / "x.tfrecord").touch()
    with pytest.raises(InputError, match=rf"^{parts} is left of a command that was stopped\. Remove this folder\.$"):
        open_parts(parts, {})


def test_the_command_that_is_named_makes_the_part(clips, tmp_path, monkeypatch):
    monkeypatch.setitem(DETECTORS, "mtcnn", Bright)
    out = tmp_path / "shards of mine"
    options = ["--face-size", 32, "--frame-rate-hz", 5, "--faces", "all", "--workers", 1]
    code, text, said = affect("prepare", clips, "--out", out, *options, "--part", "1/2")
    assert (code, said) == (0, [])
    assert text.startswith(f"{out}: part 1/2 is made: 3 clips, ")
    (line,) = [refused("prepare", clips, "--out", out, *options, "--join")]
    words = shlex.split(line.partition("Make it: affect ")[2])
    assert words[-2:] == ["--part", "2/2"]
    code, _, said = affect(*words, "--workers", 1)
    assert (code, len(said)) == (0, 2)  # two clips without a face are named, and the job did its work
    code, text, said = affect("prepare", clips, "--out", out, *options, "--join")
    assert code == 1 and len(said) == 2  # as of a local run
    assert affect("prepare", clips, "--out", tmp_path / "whole", *options)[:2] == (
        1,
        text.replace(str(out), str(tmp_path / "whole")),
    )
    assert contents(out) == contents(tmp_path / "whole")


def test_a_command_names_the_options_that_differ_from_their_defaults(tmp_path):
    faces = replace(FAKE, detector="boxes", boxes="my boxes.csv", margin_ratio=0.3, tracks="all")
    assert write_command("a.csv", "csv", "out", faces, "--join") == (
        "affect prepare a.csv --out out --dataset csv --detector boxes --face-size 32 --margin-ratio 0.3 --faces all "
        "--boxes 'my boxes.csv' --join"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--part", "1/2", "--join"], "--part makes one part, and --join joins all of them"),
        (["--part", "1/2", "--overwrite"], "--part discards nothing. Leave out --overwrite"),
        (["--join", "--overwrite"], "--join discards nothing. Leave out --overwrite"),
        (["--part", "1/2", "--runner", "beam"], "--part is for jobs without Beam. Leave out --runner beam."),
        (["--part", "/2"], "--part must be I/N, such as 3/100. Received: /2"),
        (["--part", ""], "--part must be I/N, such as 3/100. Received: "),
        (["--part", "2"], "--part must be I/N, such as 3/100. Received: 2"),
        (["--part", "0/2"], "A part must be I/N, with I from 1 to N. Received: 0/2"),
    ],
)
def test_options_that_do_not_go_together_are_refused(clips, tmp_path, options, message):
    assert message in refused("prepare", clips, "--out", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()

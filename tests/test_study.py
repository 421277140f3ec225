"""A folder of videos → the tables of a study: whole, countable, and the same however often it was stopped."""

import csv
import errno
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit

import av
import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from affect.config import read_json
from affect.errors import InputError
from affect.files import lock_folder
from affect.reading.loading import load
from affect.reading.predict import predict
from tests.commands import affect, refused
from tests.pictures import no_face, portrait, write_video

ROOT = Path(__file__).resolve().parents[1]
PLANTED = ROOT / "savedmodels" / "planted" / "1"


@pytest.fixture(scope="module")
def predictor():
    return load(PLANTED)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Four videos: one person who is away for a while, two side by side, none, and a file that is no video."""
    folder = tmp_path_factory.mktemp("films")
    (folder / "day 1").mkdir()
    write_video(folder / "day 1" / "away.mp4", [portrait()] * 6 + [no_face(0)] * 3 + [portrait()] * 4)
    write_video(folder / "two.mp4", [np.hstack([portrait(), portrait(zoom=0.8)])] * 12)
    write_video(folder / "nobody.mp4", [no_face(t) for t in range(5)])
    (folder / "broken.mp4").write_bytes(b"no video" * 100)
    return folder


@pytest.fixture(scope="module")
def study(predictor, videos, tmp_path_factory):
    return predictor.read_many(videos, tmp_path_factory.mktemp("study"), faces="all", report=False)


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def count_frames(path):
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def files_of(folder, *, without=()):
    """Path below the folder → content of every file."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    return {name: content for name, content in found.items() if not name.startswith(without)}


def test_each_video_and_face_has_a_row(study, videos):
    rows = study.videos
    assert [(row["video"], row["face"]) for row in rows] == [
        ("broken.mp4", ""),
        ("day 1/away.mp4", "1"),
        ("nobody.mp4", ""),
        ("two.mp4", "1"),
        ("two.mp4", "2"),
    ]
    broken, away, nobody, *two = rows
    assert "broken.mp4" in broken["problem"] and (broken["frames"], broken["label"]) == ("0", "")
    assert (away["frames"], away["frames_with_a_face"], away["coverage"], away["problem"]) == (
        "13",
        "10",
        "0.769231",
        "",
    )
    assert "shows no face in 5 frames" in nobody["problem"] and nobody["label"] == ""
    assert [row["faces_seen"] for row in two] == ["2", "2"]
    assert set(study.lost) == {"broken.mp4", "nobody.mp4"}
    classes = ("angry", "happy", "neutral", "sad", "surprise")
    assert all(sum(float(row[name]) for name in classes) == pytest.approx(1, abs=1e-5) for row in (away, *two))


def test_each_decoded_frame_and_face_has_a_row(study, videos):
    rows = read(study.folder / "frames.csv")
    for name, faces in (("day 1/away.mp4", 1), ("two.mp4", 2), ("nobody.mp4", 1)):
        of_video = [row for row in rows if row["video"] == name]
        frames = count_frames(videos / name)
        assert len(of_video) == faces * frames
        assert [int(row["frame"]) for row in of_video] == [frame for frame in range(frames) for _ in range(faces)]
        shares = [float(row["importance"]) for row in of_video if row["importance"]]
        assert sum(shares) == pytest.approx(0 if name == "nobody.mp4" else faces, abs=1e-5)
    away = [row for row in rows if row["video"] == "day 1/away.mp4"]
    assert [row["has_face"] for row in away] == [*"1111110001111"]
    assert {value for row in away[6:9] for name, value in row.items() if name not in read_known()} == {""}
    places = {row["face"]: float(row["x0"]) for row in rows if row["video"] == "two.mp4" and row["x0"]}
    assert abs(places["1"] - places["2"]) > 100


def read_known():
    return {"video", "frame", "timestamp_s", "face", "has_face"}


def test_numbers_are_those_of_a_single_reading(study, predictor, videos):
    reading = predictor.read(videos / "day 1" / "away.mp4")
    expected = predict(predictor, reading.clip, reading.cut)
    rows = [row for row in read(study.folder / "frames.csv") if row["video"] == "day 1/away.mp4"]
    for row, frame in zip(rows, expected["frames"], strict=True):
        assert float(row["timestamp_s"]) == pytest.approx(frame["timestamp_s"], abs=1e-6)
        if frame["has_face"]:
            assert {name: float(row[name]) for name in frame["probabilities"]} == pytest.approx(
                frame["probabilities"], rel=1e-5
            )
    (row,) = (row for row in study.videos if row["video"] == "day 1/away.mp4")
    assert row["label"] == expected["label"]
    peak = max((frame for frame in expected["frames"] if frame["has_face"]), key=lambda frame: frame["importance"])
    assert float(row["peak_s"]) == pytest.approx(peak["timestamp_s"], abs=1e-6)


def test_photographs_are_clips_of_one_frame(predictor, tmp_path):
    upright = Image.fromarray(portrait(size=320))
    upright.save(tmp_path / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # must be rotated clockwise to be seen upright
    upright.rotate(90, expand=True).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photograph")
    study = predictor.read_many(tmp_path, tmp_path / "out", report=False)
    straight, broken, turned = study.videos
    assert (straight["frames"], straight["frames_with_a_face"], straight["label"]) == ("1", "1", turned["label"])
    assert "broken.jpg is not an image that can be read" in broken["problem"]
    boxes = [[float(row[name]) for name in ("x0", "y0", "x1", "y1")] for row in read(tmp_path / "out" / "frames.csv")]
    np.testing.assert_allclose(boxes[0], boxes[1], atol=6)


def test_adjustments_add_columns_and_change_none(predictor, videos, study, tmp_path):
    options = {"smooth_s": 0.3, "baseline_s": (0.0, 0.2)}
    predictor.read_many(videos, tmp_path / "out", faces="all", report=False, **options)
    raw, adjusted = read(study.folder / "frames.csv"), read(tmp_path / "out" / "frames.csv")
    assert [{name: row[name] for name in raw[0]} for row in adjusted] == raw
    assert list(adjusted[0])[-10:-5] == [f"{name}_smooth" for name in predictor.classes]
    assert list(adjusted[0])[-5:] == [f"{name}_change" for name in predictor.classes]
    assert all((row["happy"] == "") == (row["happy_smooth"] == "") == (row["happy_change"] == "") for row in adjusted)


def test_a_video_without_a_face_in_its_baseline_says_so(predictor, videos, tmp_path):
    study = predictor.read_many(videos / "day 1", tmp_path / "out", baseline_s=(0.6, 0.8), report=False)
    (problem,) = study.lost.values()
    assert problem.endswith("away.mp4: face 1 is not seen from 0.6 to 0.8 s, so it has no baseline.")


def test_a_section_and_a_frame_rate(predictor, videos, tmp_path):
    section = {"start_s": 0.2, "end_s": 1.0, "frame_rate_hz": 5.0}
    study = predictor.read_many(videos / "day 1", tmp_path / "out", report=False, **section)
    times_s = [float(row["timestamp_s"]) for row in read(study.folder / "frames.csv")]
    np.testing.assert_allclose(times_s, [0.2, 0.4, 0.6, 0.8], atol=1e-6)


def test_groups_are_columns(predictor, videos, tmp_path):
    (tmp_path / "groups.csv").write_text("video,subject,condition\naway,s1,film\nnobody.mp4,s2,\nelse.mp4,s3,rest\n")
    study = predictor.read_many(videos, tmp_path / "out", groups=tmp_path / "groups.csv", report=False)
    rows = {row["video"]: (row["subject"], row["condition"]) for row in study.videos}
    assert rows == {
        "broken.mp4": ("", ""),
        "day 1/away.mp4": ("s1", "film"),
        "nobody.mp4": ("s2", ""),
        "two.mp4": ("", ""),
    }
    assert any("names 1 video not read: else.mp4." in note for note in study.notes)
    assert any("lacks 2 of 4 videos: broken.mp4, two.mp4." in note for note in study.notes)


def test_a_group_is_found_by_any_end_of_a_path_that_means_one_video(predictor, videos, tmp_path):
    films, table = tmp_path / "films", tmp_path / "groups.csv"
    for folder in ("a", "b"):
        (films / folder).mkdir(parents=True)
        shutil.copy(videos / "nobody.mp4", films / folder / "1.mp4")
    table.write_text("video,subject\nfilms/a/1.mp4,s1\nb/1,s2\n")
    study = predictor.read_many(films, tmp_path / "out", groups=table, report=False)
    assert [(row["video"], row["subject"]) for row in study.videos] == [("a/1.mp4", "s1"), ("b/1.mp4", "s2")]
    table.write_text("video,subject\n1.mp4,s1\n")
    with pytest.raises(InputError, match=r"names 1\.mp4, and 2 videos are called so\. Write more of its path\."):
        predictor.read_many(films, tmp_path / "out", groups=table, report=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,subject\na,b\n", "must have a column video and other columns"),
        ("", "must have a column video"),
        ("video,label\naway,x\n", "has a column label, which videos.csv has too"),
        ("video,happy\naway,x\n", "has a column happy, which videos.csv has too"),
        ("video;subject\naway;s1\n", r"separated by commas\. Its columns: 'video;subject'"),
        ("video,subject,subject\naway,s1,s2\n", "has two columns subject"),
        ("video,subject\naway,Curie, Marie\n", "has more cells than columns in the row of away"),
        ("video,subject\naway,s1\naway.mp4,s2\n", r"has two rows for day 1/away\.mp4 that differ"),
    ],
)
def test_files_of_groups_without_meaning_are_refused(predictor, videos, tmp_path, text, message):
    (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        predictor.read_many(videos, tmp_path / "out", groups=tmp_path / "groups.csv", report=False)


def test_parquet_holds_the_same(predictor, videos, study, tmp_path):
    predictor.read_many(videos, tmp_path / "out", faces="all", parquet=True, report=False)
    table = parquet.read_table(tmp_path / "out" / "frames.parquet").to_pylist()
    rows = read(study.folder / "frames.csv")
    assert len(table) == len(rows)
    for found, row in zip(table, rows, strict=True):
        assert (found["video"], found["frame"], int(found["has_face"])) == (
            row["video"],
            int(row["frame"]),
            int(row["has_face"]),
        )
        assert found["happy"] == (float(row["happy"]) if row["happy"] else None)


def test_only_what_is_missing_is_read(predictor, videos, tmp_path):
    out, some = tmp_path / "out", tmp_path / "some"
    some.mkdir()
    shutil.copy(videos / "two.mp4", some / "b.mp4")
    predictor.read_many(some, out, report=False)
    (part,) = (out / "parts").glob("*/video.json")
    before = part.stat().st_mtime_ns
    shutil.copy(videos / "two.mp4", some / "copy.mp4")  # the same content is not read again
    (some / "b.mp4").rename(some / "renamed.mp4")
    shutil.copy(videos / "nobody.mp4", some / "c.mp4")
    study = predictor.read_many(some, out, report=False)
    assert part.stat().st_mtime_ns == before
    assert [row["video"] for row in study.videos] == ["c.mp4", "copy.mp4", "renamed.mp4"]
    assert len(read(out / "frames.csv")) == 5 + 12 + 12


def stop_before_each_removal(monkeypatch, call):
    """Calls a function again and again; each time it is stopped one removal of a file later, until it ends."""
    most = 0
    while True:
        left = most

        def remove(path, missing_ok=False, unlink=Path.unlink):
            nonlocal left
            if not left:
                raise KeyboardInterrupt
            left -= 1
            unlink(path, missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", remove)
            try:
                call()
            except KeyboardInterrupt:
                most += 1
            else:
                assert most
                return


def test_a_study_of_other_settings_is_kept(predictor, videos, exported, tmp_path, monkeypatch):
    out = tmp_path / "out"
    predictor.read_many(videos / "day 1", out, report=False)
    before = files_of(out)
    with pytest.raises(InputError, match=r"holds a study with smooth_s=None, and now it is 0\.5\. .*--overwrite"):
        predictor.read_many(videos / "day 1", out, smooth_s=0.5, report=False)
    with pytest.raises(InputError, match="holds a study of another model"):
        exported("lstm")[1].read_many(videos / "day 1", out, report=False)
    assert files_of(out) == before
    study = predictor.read_many(videos / "day 1", out, smooth_s=0.5, report=False, overwrite=True)
    assert "happy_smooth" in read(study.folder / "frames.csv")[0]
    stop_before_each_removal(
        monkeypatch, lambda: predictor.read_many(videos / "day 1", out, report=False, overwrite=True)
    )
    assert files_of(out) == before
    other = tmp_path / "other"
    other.mkdir()
    (other / "videos.csv").write_text("mine")
    with pytest.raises(InputError, match=r"holds videos\.csv, which is not of a study"):
        predictor.read_many(videos / "day 1", other, report=False, overwrite=True)
    assert (other / "videos.csv").read_text() == "mine"


def test_valence_and_arousal(exported, videos, tmp_path):
    study = exported("regression")[1].read_many(videos / "two.mp4", tmp_path / "out", faces="all", report=False)
    first, second = study.videos
    assert (first["label"], second["label"]) == ("", "") and float(first["valence"]) != float(second["valence"])
    rows = read(study.folder / "frames.csv")
    mean = np.mean([float(row["arousal"]) for row in rows if row["face"] == "1" and row["has_face"] == "1"])
    assert float(first["arousal"]) == pytest.approx(mean, rel=1e-4)
    assert {row["importance"] for row in rows} == {""}


def test_the_command(videos, tmp_path):
    out = tmp_path / "out"
    arguments = ("predict", PLANTED, videos, "--out", out, "--no-report")
    code, printed, lines = affect(*arguments, "--quiet")
    assert code == 1
    assert printed.splitlines()[0].startswith("day 1/away.mp4: ")
    assert printed.count("face in 13/13 frames") == 0 and "face in 10/13 frames" in printed
    assert "affect: two.mp4: 2 faces seen, 1 read. --faces all reads all." in lines
    assert "affect: 2 videos with a problem; the column problem of videos.csv names it." in lines
    code, printed, _ = affect(*arguments, "--json")
    found = [json.loads(line) for line in printed.splitlines()]
    assert [line["video"] for line in found] == ["broken.mp4", "day 1/away.mp4", "nobody.mp4", "two.mp4"]
    assert found[1]["values"].keys() == {"angry", "happy", "neutral", "sad", "surprise"}
    assert "needs --out FOLDER" in refused("predict", PLANTED, videos, "--parquet")
    assert "do not go with --out" in refused("predict", PLANTED, videos, "--out", out, "--csv")
    assert "START-END in seconds" in refused("predict", PLANTED, videos, "--baseline", "2")
    assert "--frame-rate-hz" in refused("predict", PLANTED, videos, "--out", out, "--frame-rate-hz", "inf")
    assert "There is no file or folder gone." in refused("predict", PLANTED, "gone", "--out", out)
    assert affect("predict", PLANTED, videos / "nobody.mp4", "--out", tmp_path / "none", "--no-report")[0] == 2


def test_a_preview_shows_the_box(predictor, videos, tmp_path):
    study = predictor.read_many(videos / "two.mp4", tmp_path / "out", faces="all", preview=True, report=False)
    (entry,) = read_json(study.folder / "study.json")["videos"]
    preview = study.folder / entry["preview"]
    assert count_frames(preview) == 12
    with av.open(str(preview)) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    row = read(study.folder / "frames.csv")[0]
    x0, y0, y1 = round(float(row["x0"])), round(float(row["y0"])), round(float(row["y1"]))
    edge = frame[y0 + 5 : y1 - 5, x0].astype(int)
    assert np.median(edge[:, 2] - edge[:, 0]) > 60  # blue


STOPS = (signal.SIGINT, signal.SIGTERM, signal.Signals["SIGKILL"])


def wait_for_parts(folder, count, process):
    until = time.monotonic() + 600
    while len(list(folder.glob("parts/*/video.json"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_stopped_study_ends_as_an_undisturbed_one(videos, shared_data, tmp_path):
    """Eight clips: the four real ones and four made ones. Each stop comes while another video is read."""
    films = tmp_path / "films"
    shutil.copytree(videos, films)
    for path in (shared_data / "clips").iterdir():
        shutil.copy(path, films)
    assert sum(path.is_file() for path in films.rglob("*")) == 8
    command = [sys.executable, "-m", "affect", "predict", "fer2013", films, "--faces", "all", "--out"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    done = subprocess.run([*command, whole], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "internal" not in done.stderr, done.stderr
    for stop, parts in zip(STOPS, (1, 3, 5), strict=True):
        process = subprocess.Popen([*command, stopped], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_for_parts(stopped, parts, process)
        process.send_signal(stop)
        _, errors = process.communicate(timeout=600)
        # Python itself may end by SIGINT after it was handled; a shell shows 130 for that too.
        expected = {signal.SIGINT: (130, -2), signal.SIGTERM: (143,), signal.Signals["SIGKILL"]: (-9,)}[stop]
        assert process.returncode in expected, errors
        if stop != signal.Signals["SIGKILL"]:
            assert errors.endswith("affect: Stopped. Run the same command again: it continues.\n"), errors
            read_videos = [row for row in read(stopped / "videos.csv") if row["frames"] != "0"]
            frames = read(stopped / "frames.csv")
            for row in read_videos:
                of_face = [each for each in frames if (each["video"], each["face"]) == (row["video"], row["face"])]
                assert len(of_face) == int(row["frames"])
    done = subprocess.run([*command, stopped], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert files_of(stopped) == files_of(whole)
    rows = read(whole / "frames.csv")
    for row in read(whole / "videos.csv"):
        if row["video"] != "broken.mp4":
            frames = count_frames(films / row["video"])
            assert int(row["frames"]) == frames
            of_face = [each for each in rows if (each["video"], each["face"]) == (row["video"], row["face"])]
            assert len(of_face) == frames
    assert {row["face"] for row in rows if row["video"] == "two.mp4"} == {"1", "2"}


def test_a_stop_leaves_whole_tables_of_what_was_read(predictor, videos, tmp_path):
    out = tmp_path / "out"

    def check():
        if (out / "videos.csv").is_file() and len(read(out / "videos.csv")) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predictor.read_many(videos, out, faces="all", check_stop=check, report=False)
    names = {row["video"] for row in read(out / "videos.csv")}
    assert names == {"broken.mp4", "day 1/away.mp4"}
    assert {row["video"] for row in read(out / "frames.csv")} == {"day 1/away.mp4"}


def test_a_stop_keeps_the_rows_of_earlier_runs(predictor, videos, tmp_path):
    films = shutil.copytree(videos, tmp_path / "films")
    out = tmp_path / "out"
    predictor.read_many(films, out, report=False)
    before = read(out / "videos.csv"), read(out / "frames.csv")
    shutil.copy(films / "two.mp4", films / "a first one.mp4")
    with open(films / "a first one.mp4", "ab") as file:
        file.write(bytes(16))

    def check():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predictor.read_many(films, out, check_stop=check, report=False)
    assert (read(out / "videos.csv"), read(out / "frames.csv")) == before


def test_a_stop_after_a_video_was_read_keeps_its_rows(predictor, videos, tmp_path):
    """The stop comes when the part is whole and no table was written."""
    out = tmp_path / "out"

    def check():
        if list(out.glob("parts/*/video.json")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predictor.read_many(videos / "two.mp4", out, check_stop=check, report=False, preview=True)
    assert [row["video"] for row in read(out / "videos.csv")] == ["two.mp4"]
    assert len(read(out / "frames.csv")) == 12


def test_a_stop_within_a_preview_leaves_none_and_the_next_one_is_whole(predictor, videos, tmp_path):
    out, options = tmp_path / "out", {"report": False, "preview": True}

    def check():
        if list(out.glob("previews/*")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predictor.read_many(videos / "two.mp4", out, check_stop=check, **options)
    assert not list(out.glob("previews/*"))
    predictor.read_many(videos / "two.mp4", out, **options)
    (preview,) = out.glob("previews/*")
    assert count_frames(preview) == 12


def test_two_at_once_are_refused(videos, predictor, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    held = lock_folder(out)
    try:
        with pytest.raises(InputError, match="Another affect predict writes to"):
            predictor.read_many(videos, out, report=False)
    finally:
        held.close()


MEMORY = """
import json, resource, sys
from affect.cli import app
try:
    app(["predict", *sys.argv[1:]])
except SystemExit as error:
    assert not error.code, error.code
print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.large
def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path):
    """A video of 6 s, and one 100 times as long: 10 minutes."""
    peaks = {}
    for times in (1, 100):
        frames = [portrait(shift=(4 * (t % 8), 2 * (t % 8))) for t in range(150)]
        video = write_video(tmp_path / f"{times}.mp4", frames * times, frame_rate_hz=25)
        command = [sys.executable, "-c", MEMORY, PLANTED, video, "--out", tmp_path / f"out-{times}", "--no-report"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        assert len(read(tmp_path / f"out-{times}" / "frames.csv")) == 150 * times
        peaks[times] = float(done.stdout.split("PEAK")[1])
    print(f"peak memory in MiB by length: {peaks}")
    assert peaks[100] <= 1.05 * peaks[1]


NAMES = ("a,b", 'q"u', "new\nline", "cr\rreturn", "=1+1", "😀 face", "100%", "%41", "a#b", "a?b", " x ", "co:lon")


def test_any_name_of_a_file_is_in_tables_and_links(predictor, videos, tmp_path):
    films, out = tmp_path / "films", tmp_path / "out"
    films.mkdir()
    for name in NAMES:
        shutil.copy(videos / "nobody.mp4", films / f"{name}.mp4")
    study = predictor.read_many(films, out, parquet=True)
    expected = sorted(f"{name}.mp4" for name in NAMES)
    assert [row["video"] for row in study.videos] == expected
    assert [row["video"] for row in read(out / "frames.csv")[::5]] == expected
    assert parquet.read_table(out / "videos.parquet")["video"].to_pylist() == expected
    for page in (out / "report.html", *out.glob("pages/*.html")):
        text = re.sub("<script.*?</script>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for link in re.findall('(?:href|src)="([^"#]+)"', text):
            parts = urlsplit(unescape(link))
            if parts.scheme != "data":
                assert parts.scheme == parts.query == parts.fragment == ""
                assert (page.parent / unquote(parts.path)).exists()


@pytest.mark.parametrize("damage", ["half", "empty", "no rows", "no summary"])
def test_a_damaged_part_is_read_again(predictor, videos, tmp_path, damage):
    out = tmp_path / "out"
    predictor.read_many(videos / "two.mp4", out, report=False)
    before = files_of(out)
    (frames,) = out.glob("parts/*/frames.csv")
    content = frames.read_bytes()
    if damage == "no summary":
        frames.with_name("video.json").write_bytes(b"")
    elif damage == "no rows":
        frames.unlink()
    else:
        frames.write_bytes(content[: len(content) // 2] if damage == "half" else b"")
    assert predictor.read_many(videos / "two.mp4", out, report=False).lost == {}
    assert files_of(out) == before


@pytest.mark.parametrize("content", ['{"format": 1,', "{}", '{"format": 1, "model": [], "settings": null}'])
def test_a_damaged_study_is_not_guessed(predictor, videos, tmp_path, content):
    out = tmp_path / "out"
    out.mkdir()
    (out / "study.json").write_text(content)
    with pytest.raises(InputError, match=r"study\.json is damaged\. Choose another --out, or .* --overwrite"):
        predictor.read_many(videos / "nobody.mp4", out, report=False)
    assert len(predictor.read_many(videos / "nobody.mp4", out, report=False, overwrite=True).videos) == 1


def test_a_video_that_changes_while_it_is_read_is_read_again(predictor, videos, tmp_path):
    """The second video is replaced while the first one is read: after its hash was taken."""
    films, out = tmp_path / "films", tmp_path / "out"
    films.mkdir()
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(videos / "nobody.mp4", films / name)
    with open(films / "b.mp4", "ab") as file:
        file.write(bytes(8))  # so that its content is another one

    def replace(name, part):
        if name == "a.mp4":
            shutil.copy(videos / "two.mp4", films / "b.mp4")

    study = predictor.read_many(films, out, report=False, done=replace)
    assert "b.mp4 changed while it was read. Run the same command again." in study.lost["b.mp4"]
    study = predictor.read_many(films, out, report=False)
    assert set(study.lost) == {"a.mp4"}
    assert [row["frames"] for row in study.videos] == ["5", "12"]
    with open(videos / "nobody.mp4", "rb") as first, open(films / "b.mp4", "wb") as second:
        second.write(first.read() + bytes(8))
    assert [row["frames"] for row in predictor.read_many(films, out, report=False).videos] == ["5", "5"]


def test_a_file_that_cannot_be_opened_is_named_in_the_report_and_not_waited_for(predictor, videos, tmp_path):
    films, out = tmp_path / "films", tmp_path / "out"
    films.mkdir()
    os.mkfifo(films / "pipe.mp4")
    (films / "link.mp4").symlink_to("gone.mp4")
    shutil.copy(videos / "two.mp4", films)
    study = predictor.read_many(films, out, preview=True)  # waiting for the pipe would never end
    link, pipe = study.lost["link.mp4"], study.lost["pipe.mp4"]
    assert link.endswith("link.mp4 is a link to gone.mp4, which is not there.")
    assert pipe.endswith("pipe.mp4 is a pipe, a socket or a device and not a file.")
    for problem, pages in ((link, "link-*"), (pipe, "pipe-*")):
        (page,) = (out / "pages").glob(f"{pages}.html")
        assert problem in page.read_text() and problem in (out / "report.html").read_text()
    assert [path.name[:3] for path in out.glob("previews/*")] == ["two"]


def test_a_full_disk_is_one_line(predictor, videos, tmp_path):
    """The caller's function, which runs after each video, fails as a write to a full disk does."""
    out = tmp_path / "out"

    def fill(name, part):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InputError, match=r"out has no room for the results \(No space left on device\)\. Make room"):
        predictor.read_many(videos / "nobody.mp4", out, report=False, done=fill)
    assert len(read(out / "frames.csv")) == 5


def test_a_baseline_may_be_a_time_of_the_table(predictor, tmp_path):
    video = write_video(tmp_path / "a.mp4", [portrait()] * 4, frame_rate_hz=3)
    study = predictor.read_many(video, tmp_path / "out", baseline_s=(0.666667, 0.7), report=False)
    assert study.lost == {}
    assert all(row["happy_change"] for row in read(study.folder / "frames.csv"))


def test_blank_and_repeated_rows_of_groups_cost_nothing(predictor, videos, tmp_path):
    table = tmp_path / "groups.csv"
    table.write_text("video,subject\n,\nnobody,s1\nnobody.mp4,s1\n,\n", encoding="utf-8-sig")
    study = predictor.read_many(videos / "nobody.mp4", tmp_path / "out", groups=table, report=False)
    assert (study.videos[0]["subject"], list(study.notes)) == ("s1", [])


def test_a_grey_photograph_of_16_bits_is_read_as_one_of_8(predictor, tmp_path):
    grey = np.asarray(Image.fromarray(portrait()).convert("L"))
    Image.fromarray(grey).save(tmp_path / "8.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.png")
    study = predictor.read_many(tmp_path, tmp_path / "out", report=False)
    first, second = study.videos
    assert first["label"] and {**first, "video": ""} == {**second, "video": ""}


def test_a_problem_names_the_video_of_its_row(predictor, videos, tmp_path):
    """Of two files with the same content one is read."""
    films, out = tmp_path / "films", tmp_path / "out"
    films.mkdir()
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(videos / "nobody.mp4", films / name)
    study = predictor.read_many(films, out)
    for name in ("a.mp4", "b.mp4"):
        assert study.lost[name].startswith(f"{name} shows no face")
        assert f"{name} shows no face" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    "section",
    [
        {"start_s": -1.0},
        {"start_s": math.nan},
        {"start_s": math.inf},
        {"end_s": 0.0},
        {"end_s": math.nan},
        {"start_s": 2.0, "end_s": 1.0},
        {"frame_rate_hz": 0.0},
        {"frame_rate_hz": math.nan},
        {"faces": "both"},
    ],
)
def test_a_wrong_section_rate_or_choice_is_refused_before_anything_is_written(predictor, videos, tmp_path, section):
    for read_it in (
        lambda: predictor.read_many(videos / "two.mp4", tmp_path / "out", report=False, **section),
        lambda: predictor.read_people(videos / "two.mp4", **section),
    ):
        with pytest.raises(InputError, match=r"^(The section of a video|faces\.frame_rate_hz|faces\.tracks) must .*: "):
            read_it()
    assert not (tmp_path / "out").exists()

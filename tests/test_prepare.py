"""A folder of videos → shards and manifest: every clip once, nothing lost, the same bytes each time."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tensorflow as tf

from affect.config import Faces
from affect.data.clips import VERSION, Dimensions
from affect.data.records import parse_example
from affect.data.shards import Shards
from affect.errors import InputError, MachineError
from affect.pipelines.datasets import DATASETS, PUBLISHED
from affect.pipelines.datasets.source import Source
from affect.pipelines.detectors import DETECTORS
from affect.pipelines.faces import FACES_VERSION
from affect.pipelines.prepare import PARTS, prepare
from tests.bright import FAKE, Bright, write_clips
from tests.commands import affect
from tests.folders import contents
from tests.pictures import SMALL_FACES, overwrite, write_video


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


def run(source, out, *, faces=FAKE, dataset="folder", workers=1, **options):
    return prepare(source, dataset=dataset, out=out, faces=faces, workers=workers, **options)


def read(out, shard):
    return [
        {key: value.numpy() for key, value in parse_example(record).items()}
        for record in tf.data.TFRecordDataset(str(out / shard["name"]))
    ]


def by_key(manifest):
    return {clip["key"]: clip for clip in manifest["clips"]}


def stop_after(count):
    """A `track` that is interrupted, as by Ctrl-C, after some clips."""

    def track(outcomes, total, description):
        for index, outcome in enumerate(outcomes):
            if index == count:
                raise KeyboardInterrupt
            yield outcome

    return track


@pytest.mark.usefixtures("bright")
def test_manifest_counts_and_names_everything(clips, tmp_path):
    manifest = run(clips, tmp_path / "out")
    assert json.loads((tmp_path / "out/manifest.json").read_text()) == manifest
    said = ["differences", "left_out", "notes"]
    assert list(manifest) == ["settings", "classes", "counts", *said, "shards", "clips"]
    assert [manifest[name] for name in said] == [[], [], []]
    assert manifest["settings"] == {
        "records_version": VERSION,
        "faces_version": FACES_VERSION,
        "dataset": "folder",
        "faces": {
            "detector": "bright",
            "min_face_px": 40,
            "score_threshold": 0.8,
            "face_size": 32,
            "margin_ratio": 0.25,
            "frame_rate_hz": None,
            "jpeg_quality": 95,
            "detect": "follow",
            "tracks": "main",
            "boxes": None,
            "template": [[0.2255, 0.216], [0.7548, 0.216], [0.4901, 0.5156], [0.2541, 0.7802], [0.7261, 0.7802]],
        },
    }
    assert manifest["classes"] == ["happy", "sad"]
    assert manifest["counts"] == {
        "videos": 6,
        "videos_with_a_face": 4,
        "frames": 3 + 4 + 5 + 6 + 7,
        "clips": 6,
        "clips_with_a_face": 4,
        "faces": 18,
    }
    found = by_key(manifest)
    path = clips / "train/sad/a.mp4"
    assert found["train/sad/a"] == {
        "key": "train/sad/a",
        "recording": "train/sad/a",
        "part": 0,
        "label": "sad",
        "subject": "",
        "split": "train",
        "votes": None,
        "dimensions_sha256": "",
        "bytes": path.stat().st_size,
        "source_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "frames_decoded": 3,
        "frames_with_a_face": 3,
        "faces_seen": 1,
        "problem": "",
        "notes": [],
    }
    assert {key: clip["problem"] for key, clip in found.items() if clip["problem"]} == {
        "test/happy/black": f"{clips}/test/happy/black.mp4 shows no face in 7 frames.",
        "train/happy/text": f"{clips}/train/happy/text.mp4 is not a video that can be opened "
        "(Invalid data found when processing input).",
    }
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "manifest.json",
        "test-00000-of-00001.tfrecord",
        "train-00000-of-00001.tfrecord",
    ]


@pytest.mark.usefixtures("bright")
def test_each_clip_stands_once_in_the_shards_of_its_split(clips, tmp_path):
    manifest = run(clips, tmp_path)
    for shard in manifest["shards"]:
        assert hashlib.sha256((tmp_path / shard["name"]).read_bytes()).hexdigest() == shard["sha256"]
        keys = [record["clip/media_id"].decode() for record in read(tmp_path, shard)]
        assert shard["clips"] == len(keys)
        # The order is that of the hash of the key, in the shards as in the manifest.
        assert keys == [clip["key"] for clip in manifest["clips"] if clip["split"] == shard["split"]]
        assert keys == sorted(keys, key=lambda key: hashlib.sha256(key.encode()).hexdigest())
    assert sorted(by_key(manifest)) == [
        "test/happy/black",
        "test/happy/d",
        "train/happy/c",
        "train/happy/text",
        "train/sad/a",
        "train/sad/b",
    ]
    assert [(shard["split"], shard["clips"]) for shard in manifest["shards"]] == [("test", 2), ("train", 4)]


@pytest.mark.usefixtures("bright")
def test_records_hold_the_clip(clips, tmp_path):
    manifest = run(clips, tmp_path)
    records = {record["clip/media_id"].decode(): record for s in manifest["shards"] for record in read(tmp_path, s)}
    record = records["train/happy/c"]
    assert (record["clip/label/string"], record["affect/frames_decoded"], record["image/frame_rate"]) == (
        b"happy",
        5,
        10,
    )
    assert record["affect/source_sha256"].decode() == by_key(manifest)["train/happy/c"]["source_sha256"]
    assert record["image/timestamp"].tolist() == [0, 100_000, 200_000, 300_000, 400_000]
    np.testing.assert_array_equal(record["face/box"], [[16, 16, 48, 48]] * 5)
    np.testing.assert_array_equal(record["face/score"], [0.75] * 5)
    for index, jpeg in enumerate(record["image/encoded"]):
        face = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert face.shape == (32, 32, 3)
        assert abs(face[16, 16].mean() - (100 + 5 * index)) < 4
    for key in ("test/happy/black", "train/happy/text"):
        assert records[key]["image/encoded"].shape == (0,)
        assert records[key]["clip/label/string"] == b"happy"


@pytest.fixture
def two_faces(tmp_path):
    """Folder of one video of 11 frames; of its second face, the larger one, 5 are there."""
    path = tmp_path / "source/happy/a.mp4"
    path.parent.mkdir(parents=True)
    write_video(path, [np.full((64, 128, 3), 60 if index < 5 else 120, np.uint8) for index in range(11)])
    return tmp_path / "source"


def summary(out, manifest):
    """Returns what identifies each example and its faces, from the manifest and from the records."""
    (shard,) = manifest["shards"]
    stored = [
        (
            record["clip/media_id"].decode(),
            record["affect/recording"].decode(),
            record["affect/part"],
            (record["image/timestamp"] // 100_000).tolist(),
            {float(box[0]) for box in record["face/box"]},
        )
        for record in read(out, shard)
    ]
    listed = [(clip["key"], clip["recording"], clip["part"], clip["frames_with_a_face"]) for clip in manifest["clips"]]
    assert listed == [(*names, len(times)) for *names, times, _ in stored]
    assert {clip["frames_decoded"] for clip in manifest["clips"]} == {11}
    assert manifest["counts"]["videos"] == manifest["counts"]["videos_with_a_face"] == 1
    assert (manifest["counts"]["clips"], manifest["counts"]["frames"]) == (len(stored), 11)
    assert manifest["counts"]["faces"] == sum(len(times) for *_, times, _ in stored)
    return stored


@pytest.mark.usefixtures("bright")
def test_a_long_track_is_several_examples(two_faces, tmp_path):
    manifest = run(two_faces, tmp_path / "out", faces=replace(FAKE, detector="two"), part_faces=4)
    assert summary(tmp_path / "out", manifest) == [
        ("happy/a#000", "happy/a", 0, [0, 1, 2, 3], {16}),
        ("happy/a#001", "happy/a", 1, [4, 5, 6, 7], {16}),
        ("happy/a#002", "happy/a", 2, [8, 9, 10], {16}),
    ]
    assert run(two_faces, tmp_path / "out", faces=replace(FAKE, detector="two")) == manifest


@pytest.mark.usefixtures("bright")
@pytest.mark.parametrize(("part_faces", "name"), [(11, "happy/a"), (10, "happy/a#000")])
def test_an_example_is_filled_before_there_is_another(two_faces, tmp_path, part_faces, name):
    manifest = run(two_faces, tmp_path / "out", faces=replace(FAKE, detector="two"), part_faces=part_faces)
    assert manifest["clips"][0]["key"] == name
    assert [clip["frames_with_a_face"] for clip in manifest["clips"]] == ([11] if part_faces == 11 else [10, 1])


@pytest.mark.usefixtures("bright")
def test_all_faces_are_kept_where_they_are_asked_for(two_faces, tmp_path):
    faces = replace(FAKE, detector="two", tracks="all")
    assert summary(tmp_path / "whole", run(two_faces, tmp_path / "whole", faces=faces)) == [
        ("happy/a", "happy/a", 0, list(range(11)), {16}),
        ("happy/a@1", "happy/a", 1, list(range(5)), {60}),
    ]
    assert summary(tmp_path / "parts", run(two_faces, tmp_path / "parts", faces=faces, part_faces=6)) == [
        ("happy/a#000", "happy/a", 0, [0, 1, 2, 3, 4, 5], {16}),
        ("happy/a#001", "happy/a", 1, [6, 7, 8, 9, 10], {16}),
        ("happy/a@1", "happy/a", 2, [0, 1, 2, 3, 4], {60}),
    ]


@pytest.mark.usefixtures("bright")
def test_a_long_video_that_is_damaged_is_one_problem(tmp_path):
    path = tmp_path / "source/happy/a.avi"
    path.parent.mkdir(parents=True)
    write_video(path, [np.full((64, 128, 3), 60 if index < 5 else 120, np.uint8) for index in range(12)], codec="mpeg4")
    overwrite(path, 11)
    manifest = run(tmp_path / "source", tmp_path / "out", faces=replace(FAKE, detector="two"), part_faces=4)
    assert len(summary(tmp_path / "out", manifest)) == 3
    (problem,) = {clip["problem"] for clip in manifest["clips"]}
    assert problem.startswith(f"{path} is damaged: 1 frame could not be decoded, at 1.10 s")


@pytest.mark.usefixtures("bright")
def test_second_run_does_nothing(clips, tmp_path):
    manifest = run(clips, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert run(clips, tmp_path) == manifest
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.usefixtures("bright")
@pytest.mark.parametrize("done", [0, 1, 4])
def test_interrupted_run_goes_on_to_the_same_bytes(clips, tmp_path, done):
    run(clips, tmp_path / "whole")
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(clips, out, track=stop_after(done))
    assert [path.name for path in out.iterdir()] == [PARTS]
    kept = {path: path.stat().st_mtime_ns for path in (out / PARTS).glob("*.tfrecord")}
    assert len(kept) >= done
    # What a run leaves that is killed in the middle of a clip, and while the shards are joined.
    (out / PARTS / "making-x").mkdir()
    (out / PARTS / "making-x" / "0.faces").write_bytes(b"half a face")
    (out / PARTS / "test-00000-of-00001.tfrecord").write_bytes(b"half a shard")
    seen = []

    def track(outcomes, total, description):
        outcomes = list(outcomes)
        assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
        seen.append((total, description))
        return outcomes

    run(clips, out, track=track)
    assert seen == [(6 - len(kept), "videos")]
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.usefixtures("bright")
def test_record_without_its_outcome_is_cut_again(clips, tmp_path):
    run(clips, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(clips, tmp_path / "out", track=stop_after(3))
    outcome = next(path for path in (tmp_path / "out" / PARTS).glob("*.json") if path.name != "settings.json")
    outcome.with_name(f"{outcome.stem}-0.tfrecord").write_bytes(b"half a record")
    outcome.unlink()
    run(clips, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.usefixtures("bright")
def test_full_disk_leaves_no_half_shard_and_can_be_resumed(clips, tmp_path, monkeypatch):
    run(clips, tmp_path / "whole")

    def fill(source, target):
        target.write(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", fill)
        with pytest.raises(MachineError, match=r"has no room .*No space left.* It continues\."):
            run(clips, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [PARTS]
    run(clips, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.fixture(scope="module")
def listed_faces(tmp_path_factory):
    """`(folder of 20 videos, CSV file of boxes)`: some videos with two faces or none, of one example or several."""
    folder = tmp_path_factory.mktemp("listed")
    boxes = ["key,timestamp_s,x0,y0,x1,y1"]
    for number in range(20):
        key = f"{('train', 'test')[number % 3 == 0]}/{('sad', 'happy')[number % 2]}/{number}"
        path = folder / f"videos/{key}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, [np.full((64, 64, 3), 5 * number + 10 * frame, np.uint8) for frame in range(2 + number % 9)])
        for frame in range((2 + number % 9) * (number % 7 > 0)):
            boxes += [f"{key},{frame / 10},{x0},8,{x0 + 20},30" for x0 in (4, 36)[: 1 + number % 2]]
    (folder / "boxes.csv").write_text("\n".join(boxes) + "\n")
    return folder / "videos", folder / "boxes.csv"


def check_killed_runs(listed_faces, out, kills, seed):
    command = [sys.executable, "-m", "tests.killed_prepare", *map(str, (*listed_faces, out, kills, seed))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600 + 10 * kills)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["killed"] == kills
    whole = contents(out / "whole")
    assert len(whole) > 4
    assert {clip["part"] for clip in json.loads(whole["manifest.json"])["clips"]} > {0, 1, 2}
    for number in range(found["finished"]):
        assert contents(out / str(number)) == whole
    return found


def test_killed_runs_go_on_to_the_same_bytes(listed_faces, tmp_path):
    check_killed_runs(listed_faces, tmp_path, kills=10, seed=1)


@pytest.mark.large
def test_two_hundred_killed_runs_go_on_to_the_same_bytes(listed_faces, tmp_path):
    found = check_killed_runs(listed_faces, tmp_path, kills=200, seed=2)
    assert found["in_join"] > 5


def test_hash_seed_locale_time_zone_and_workers_change_no_byte(listed_faces, tmp_path):
    source, boxes = map(str, listed_faces)
    command = ["prepare", source, "--detector", "boxes", "--boxes", boxes, "--face-size", "32"]
    for name, workers, variables in (
        ("one", "1", {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "UTC", "PYTHONUTF8": "0"}),
        ("two", "2", {"PYTHONHASHSEED": "2", "LC_ALL": "C.UTF-8", "TZ": "Asia/Kathmandu"}),
    ):
        subprocess.run(
            [sys.executable, "-m", "affect", *command, "--workers", workers, "--out", tmp_path / name],
            env={**os.environ, **variables},
            check=False,  # 1, because some videos show no face
            timeout=600,
        )
    assert len(contents(tmp_path / "one")) == 3
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.large
def test_workers_end_with_a_run_that_is_killed(listed_faces, tmp_path):
    source, boxes = map(str, listed_faces)
    command = ["prepare", source, "--detector", "boxes", "--boxes", boxes, "--workers", "2", "--face-size", "32"]
    command = [sys.executable, "-c", "from affect.cli import main; main()", *command, "--out"]
    subprocess.run([*command, tmp_path / "whole"], check=False, timeout=600)
    first = subprocess.Popen([*command, tmp_path / "out"])
    while not [*(tmp_path / "out" / PARTS).glob("*-0.tfrecord")]:
        assert first.poll() is None
        time.sleep(0.005)
    first.kill()
    first.wait()
    subprocess.run([*command, tmp_path / "out"], check=False, timeout=600)
    assert len(contents(tmp_path / "whole")) == 3
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.usefixtures("bright")
def test_video_that_changed_since_its_part_is_cut_again(clips, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(clips, source)
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "out", track=stop_after(5))
    write_video(source / "train/sad/a.mp4", [np.full((64, 64, 3), 200, np.uint8)] * 9)
    found = by_key(run(source, tmp_path / "out"))["train/sad/a"]
    assert (found["frames_decoded"], found["bytes"]) == (9, (source / "train/sad/a.mp4").stat().st_size)


@pytest.mark.usefixtures("bright")
def test_parts_of_other_classes_are_refused(clips, tmp_path):
    # The records of the parts hold the place of their label in the classes.
    source = tmp_path / "source"
    shutil.copytree(clips, source)
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "out", track=stop_after(2))
    (source / "train/angry").mkdir()
    shutil.copy(clips / "train/sad/a.mp4", source / "train/angry/e.mp4")
    text = 'was prepared with classes=["happy", "sad"], now ["angry", "happy", "sad"]. Choose another --out'
    with pytest.raises(InputError, match=re.escape(text)):
        run(source, tmp_path / "out")


@pytest.mark.usefixtures("bright")
def test_classes_stand_in_the_order_of_the_project(clips, tmp_path):
    names = ("zeal", "Surprise", "ANGRY", "bored", "neutral")
    for name in names:
        (tmp_path / "source" / name).mkdir(parents=True)
        shutil.copy(clips / "train/sad/a.mp4", tmp_path / "source" / name / "a.mp4")
    shutil.copy(clips / "train/sad/a.mp4", tmp_path / "source" / "unlabelled.mp4")
    manifest = run(tmp_path / "source", tmp_path / "out")
    assert manifest["classes"] == ["angry", "neutral", "surprise", "bored", "zeal"]
    indices = {}
    for record in tf.data.TFRecordDataset(str(tmp_path / "out" / manifest["shards"][0]["name"])):
        context = tf.train.SequenceExample.FromString(record.numpy()).context.feature
        label = context["clip/label/string"].bytes_list.value[0].decode()
        indices[label] = context["clip/label/index"].int64_list.value[0]
    assert indices == {"angry": 0, "neutral": 1, "surprise": 2, "bored": 3, "zeal": 4, "": -1}


@pytest.fixture
def rated(clips, monkeypatch):
    """A data set of one clip whose votes name a class that no clip is labelled with, and whose recording is rated."""
    rated = {"votes": {"sad": 0.75, "fear": 0.25}, "dimensions": Dimensions((0.0, 0.1), (0.5, -0.5), (1.0, 0.25))}
    monkeypatch.setitem(DATASETS, "rated", lambda source: [Source("a", clips / "train/sad/a.mp4", "sad", **rated)])
    return rated


@pytest.mark.usefixtures("bright")
def test_votes_and_dimensions_reach_the_records(rated, tmp_path):
    manifest = run("anywhere", tmp_path, dataset="rated")
    assert manifest["classes"] == ["fear", "sad"]
    assert manifest["clips"][0]["votes"] == {"sad": 0.75, "fear": 0.25}
    (record,) = read(tmp_path, manifest["shards"][0])
    assert record["affect/votes"].tolist() == [0.25, 0.75]
    assert record["affect/dimensions/timestamp"].tolist() == [0, 100_000]
    assert record["affect/dimensions/valence"].tolist() == [0.5, -0.5]
    assert record["affect/dimensions/arousal"].tolist() == [1.0, 0.25]
    assert run("anywhere", tmp_path, dataset="rated") == manifest


@pytest.mark.usefixtures("bright")
@pytest.mark.parametrize(
    "change", [{"votes": {"sad": 1.0, "fear": 0.0}}, {"dimensions": Dimensions((0.0, 0.1), (0.5, 0.5), (1.0, 0.25))}]
)
def test_other_votes_or_ratings_are_refused(clips, rated, tmp_path, monkeypatch, change):
    run("anywhere", tmp_path, dataset="rated")
    rated |= change
    monkeypatch.setitem(DATASETS, "rated", lambda source: [Source("a", clips / "train/sad/a.mp4", "sad", **rated)])
    with pytest.raises(InputError, match=r"other videos or labels. Added, removed or changed: 1 \(a\)"):
        run("anywhere", tmp_path, dataset="rated")


@pytest.mark.usefixtures("bright")
def test_no_key_leads_out_of_the_folder(clips, tmp_path):
    listing = tmp_path / "lists" / "deep" / "list.csv"
    listing.parent.mkdir(parents=True)
    video = clips / "train/sad/a.mp4"
    paths = [video, f"../../../{'x' * 300}.mp4", "../../up.mp4", f"{tmp_path}/down/../up.mp4", "~/home.mp4"]
    listing.write_text("path,label\n" + "".join(f"{path},../{index}\n" for index, path in enumerate(paths)))
    manifest = run(listing, tmp_path / "out", dataset="csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lists", "out"]
    assert [path.name for path in listing.parent.iterdir()] == ["list.csv"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "all-00000-of-00001.tfrecord",
        "manifest.json",
    ]
    problems = {clip["key"]: clip["problem"] for clip in manifest["clips"]}
    assert problems.pop(str(video.with_suffix(""))) == ""
    assert "cannot be read (File name too long)" in problems.pop(f"../../../{'x' * 300}")
    assert all(problem.startswith("There is no file") for problem in problems.values())
    assert run(listing, tmp_path / "out", dataset="csv") == manifest


@pytest.mark.usefixtures("bright")
def test_missing_video_stays_in_the_denominator(clips, tmp_path):
    listing = clips / "list.csv"
    listing.write_text("path,label,subject\ntrain/sad/a.mp4,sad,anna\ngone.mp4,happy,bert\ntrain,happy,\n")
    manifest = run(listing, tmp_path, dataset="csv")
    found = by_key(manifest)
    assert found["gone"] == {
        "key": "gone",
        "recording": "gone",
        "part": 0,
        "label": "happy",
        "subject": "bert",
        "split": "all",
        "votes": None,
        "dimensions_sha256": "",
        "bytes": 0,
        "source_sha256": "",
        "frames_decoded": 0,
        "frames_with_a_face": 0,
        "faces_seen": 0,
        "problem": f"There is no file {clips / 'gone.mp4'}.",
        "notes": [],
    }
    assert found["train"]["problem"] == f"{clips / 'train'} is a folder and not a file."
    assert manifest["counts"]["clips"] == 3
    assert manifest["shards"][0]["clips"] == 3
    (clips / "list.csv").unlink()


@pytest.mark.usefixtures("bright")
def test_video_that_cannot_be_read_is_named(clips, tmp_path, monkeypatch):
    def refuse(file, digest, file_digest=hashlib.file_digest):
        if file.name.endswith(".mp4"):
            raise PermissionError(13, "Permission denied")
        return file_digest(file, digest)

    monkeypatch.setattr(hashlib, "file_digest", refuse)  # root may read all
    manifest = run(clips, tmp_path)
    assert (manifest["counts"]["videos"], manifest["counts"]["frames"]) == (6, 0)
    assert by_key(manifest)["train/sad/a"]["problem"] == f"{clips}/train/sad/a.mp4 cannot be read (Permission denied)."
    assert run(clips, tmp_path) == manifest


@pytest.mark.usefixtures("bright")
def test_parts_of_one_video_are_cut_by_their_times(clips, tmp_path):
    path = write_video(tmp_path / "long.mp4", [np.full((64, 64, 3), 100 + index, np.uint8) for index in range(20)])
    text = f"path,label,start_s,end_s\n{path.name},happy,0,0.5\n{path.name},sad,0.5,1.2\n{path.name},sad,7,9\n"
    (tmp_path / "list.csv").write_text(text)
    found = by_key(run(tmp_path / "list.csv", tmp_path / "out", dataset="csv"))
    assert {key: clip["frames_decoded"] for key, clip in found.items()} == {
        "long@0-0.5": 5,
        "long@0.5-1.2": 7,
        "long@7-9": 0,
    }
    assert found["long@7-9"]["problem"] == f"{path} has no frames from 7 s to 9 s. Its length is 2 s."
    assert [clip["problem"] for key, clip in found.items() if key != "long@7-9"] == ["", ""]


@pytest.mark.usefixtures("bright")
def test_parts_that_end_long_after_their_video_are_named(tmp_path):
    path = write_video(tmp_path / "a.mp4", [np.full((64, 64, 3), 100 + index, np.uint8) for index in range(20)])
    text = "path,start_s,end_s\na.mp4,0,2.9\na.mp4,1,2.8\na.mp4,0,1500\na.mp4,1.5,20\n"
    (tmp_path / "list.csv").write_text(text)
    faces = replace(FAKE, frame_rate_hz=25.0)  # more than the video's 10
    found = by_key(run(tmp_path / "list.csv", tmp_path / "out", dataset="csv", faces=faces))
    problems = {key: clip["problem"] for key, clip in found.items()}
    assert [problems.pop(key) for key in ("a@0-2.9", "a@1-2.8")] == ["", ""]
    assert problems.pop("a@0-1500").startswith(
        f"{path} ends long before end_s=1500: from start_s=0 on it has 20 frames"
    )
    assert problems.pop("a@1.5-20").startswith(f"{path} ends long before end_s=20: from start_s=1.5 on it has 5 frames")


@pytest.mark.usefixtures("bright")
def test_two_videos_that_differ_in_their_suffix_are_two_clips(clips, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(clips, source)
    shutil.copy(clips / "train/sad/a.mp4", source / "train/sad/a.avi")
    manifest = run(source, tmp_path / "out")
    assert {"train/sad/a.avi", "train/sad/a.mp4"} < by_key(manifest).keys()
    assert manifest["counts"]["videos"] == 7 and not manifest["left_out"]


@pytest.mark.usefixtures("bright")
def test_unknown_names_are_refused(clips, tmp_path):
    with pytest.raises(InputError, match=r"Unknown data set. Expected one of \['afew', 'afew_faces', .*'dir'"):
        run(clips, tmp_path / "out", dataset="dir")
    with pytest.raises(InputError, match=r"Unknown detector. Expected one of \[.*'mtcnn'.*\]. Received: 'haar'"):
        run(clips, tmp_path / "out", faces=replace(FAKE, detector="haar"))
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("bright")
@pytest.mark.parametrize("finished", [True, False])
def test_other_settings_are_refused_by_name(clips, tmp_path, finished):
    if finished:
        run(clips, tmp_path)
    else:
        with pytest.raises(KeyboardInterrupt):
            run(clips, tmp_path, track=stop_after(1))
    before = contents(tmp_path)
    text = "was prepared with face_size=32, now 48, frame_rate_hz=null, now 5.0. Choose another --out, or discard it"
    with pytest.raises(InputError, match=re.escape(f"{tmp_path} {text}")):
        run(clips, tmp_path, faces=replace(FAKE, face_size=48, frame_rate_hz=5.0))
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("bright")
def test_shards_of_before_a_setting_existed_are_known_again(clips, tmp_path):
    manifest = run(clips, tmp_path)
    del manifest["settings"]["faces"]["template"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert run(clips, tmp_path) == manifest


@pytest.mark.usefixtures("bright")
@pytest.mark.parametrize("finished", [True, False])
def test_faces_of_an_earlier_version_are_read_but_not_mixed_with_new_ones(clips, tmp_path, finished):
    if finished:
        run(clips, tmp_path)
    else:
        with pytest.raises(KeyboardInterrupt):
            run(clips, tmp_path, track=stop_after(1))
    path = tmp_path / ("manifest.json" if finished else f"{PARTS}/settings.json")
    written = json.loads(path.read_text())
    assert (written["settings"] if finished else written).pop("faces_version") == FACES_VERSION
    path.write_text(json.dumps(written))
    before = contents(tmp_path)
    text = (
        f"was prepared with faces_version=1, now {FACES_VERSION}. Choose another --out, or discard it with --overwrite."
    )
    with pytest.raises(InputError, match=f"^{re.escape(f'{tmp_path} {text}')}$"):
        run(clips, tmp_path)
    assert contents(tmp_path) == before
    if finished:
        assert "faces_version" not in Shards(tmp_path).settings


@pytest.mark.usefixtures("bright")
def test_other_videos_are_refused_by_name(clips, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(clips, source)
    run(source, tmp_path / "out")
    before = contents(tmp_path / "out")

    def refused(text):
        with pytest.raises(InputError, match=re.escape(text)):
            run(source, tmp_path / "out")
        assert contents(tmp_path / "out") == before

    shutil.copy(clips / "train/sad/a.mp4", source / "train/sad/e.mp4")
    refused(
        "was prepared from other videos or labels. Added, removed or changed: 1 (train/sad/e). Choose another --out"
    )
    (source / "train/sad/e.mp4").rename(source / "train/sad/a.mp4")
    with open(source / "train/sad/a.mp4", "ab") as file:
        file.write(b"more")
    refused("Added, removed or changed: 1 (train/sad/a).")
    content = bytearray((clips / "train/sad/a.mp4").read_bytes())
    content[-1] ^= 1
    (source / "train/sad/a.mp4").write_bytes(content)
    refused("Added, removed or changed: 1 (train/sad/a).")
    shutil.copy(clips / "train/sad/a.mp4", source / "train/sad/a.mp4")
    (source / "train/sad/b.mp4").unlink()
    refused("Added, removed or changed: 1 (train/sad/b).")


@pytest.mark.usefixtures("bright")
@pytest.mark.parametrize("change", ["happy,anna,train", "sad,bert,train", "sad,anna,test"])
def test_other_labels_subjects_or_splits_are_refused(clips, tmp_path, change):
    listing = tmp_path / "list.csv"
    header = "path,label,subject,split\n"
    listing.write_text(f"{header}{clips}/train/sad/a.mp4,sad,anna,train\n{clips}/train/happy/c.mp4,happy,carl,train\n")
    run(listing, tmp_path / "out", dataset="csv")
    listing.write_text(f"{header}{clips}/train/sad/a.mp4,{change}\n{clips}/train/happy/c.mp4,happy,carl,train\n")
    with pytest.raises(InputError, match=r"other videos or labels. Added, removed or changed: 1 \(.*train/sad/a\)"):
        run(listing, tmp_path / "out", dataset="csv")


@pytest.mark.usefixtures("bright")
def test_overwrite_discards_what_was_prepared_and_nothing_else(clips, tmp_path):
    out = tmp_path / "out"
    run(clips, out, shard_bytes=1)
    assert (out / "train-00003-of-00004.tfrecord").exists()
    for name in ("other.tfrecord", "notes.txt", "parts/mine.txt"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("mine")
    run(clips, out, faces=replace(FAKE, face_size=48), overwrite=True)
    run(clips, tmp_path / "fresh", faces=replace(FAKE, face_size=48))
    mine = {name: b"mine" for name in ("other.tfrecord", "notes.txt", "parts/mine.txt")}
    assert contents(out) == contents(tmp_path / "fresh") | mine


@pytest.mark.usefixtures("bright")
def test_overwrite_discards_an_interrupted_run(clips, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(clips, tmp_path / "out", track=stop_after(2))
    run(clips, tmp_path / "out", faces=replace(FAKE, face_size=48), overwrite=True)
    run(clips, tmp_path / "fresh", faces=replace(FAKE, face_size=48))
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


@pytest.mark.usefixtures("bright")
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_manifest_that_is_not_ours_is_left_alone(clips, tmp_path, overwrite):
    (tmp_path / "manifest.json").write_text('{"name": "a web page"}')
    with pytest.raises(InputError, match=r"manifest\.json is not a manifest of shards\. Choose another --out\."):
        run(clips, tmp_path, overwrite=overwrite)
    assert contents(tmp_path) == {"manifest.json": b'{"name": "a web page"}'}


@pytest.mark.usefixtures("bright")
def test_missing_shard_is_noticed(clips, tmp_path):
    run(clips, tmp_path)
    (tmp_path / "test-00000-of-00001.tfrecord").unlink()
    with pytest.raises(
        InputError, match=r"test-00000-of-00001\.tfrecord is missing\. Make the shards again with --over"
    ):
        run(clips, tmp_path)


@pytest.mark.usefixtures("bright")
def test_two_runs_do_not_write_to_one_folder(clips, tmp_path):
    def track(outcomes, total, description):
        with pytest.raises(
            InputError, match=r"^Another affect prepare writes to .*/out\. Wait for it, or choose anoth"
        ):
            run(clips, tmp_path / "out", overwrite=True)
        return outcomes

    manifest = run(clips, tmp_path / "out", track=track)
    assert run(clips, tmp_path / "out") == manifest


@pytest.mark.usefixtures("bright")
def test_parts_without_settings_are_not_gone_on_from(clips, tmp_path):
    # What a run leaves that is killed while it discards another's.
    with pytest.raises(KeyboardInterrupt):
        run(clips, tmp_path / "out", faces=replace(FAKE, face_size=48), track=stop_after(3))
    (tmp_path / "out" / PARTS / "settings.json").unlink()
    run(clips, tmp_path / "out")
    run(clips, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.usefixtures("bright")
def test_overwrite_discards_shards_that_were_moved_before_their_manifest(clips, tmp_path):
    out = tmp_path / "out"
    run(clips, out, shard_bytes=1)
    (out / PARTS).mkdir()
    (out / "manifest.json").rename(out / PARTS / "manifest.json")
    run(clips, out, faces=replace(FAKE, face_size=48), overwrite=True)
    run(clips, tmp_path / "fresh", faces=replace(FAKE, face_size=48))
    assert contents(out) == contents(tmp_path / "fresh")


@pytest.mark.usefixtures("bright")
def test_large_splits_are_cut_into_several_shards(clips, tmp_path):
    whole = run(clips, tmp_path / "whole")
    size = (tmp_path / "whole" / "train-00000-of-00001.tfrecord").stat().st_size
    manifest = run(clips, tmp_path / "cut", shard_bytes=size // 2)
    train = [shard for shard in manifest["shards"] if shard["split"] == "train"]
    count = len(train)
    assert count in (2, 3)
    assert [shard["name"] for shard in train] == [f"train-{i:05d}-of-{count:05d}.tfrecord" for i in range(count)]
    joined = b"".join((tmp_path / "cut" / shard["name"]).read_bytes() for shard in train)
    assert joined == (tmp_path / "whole" / "train-00000-of-00001.tfrecord").read_bytes()
    assert manifest["clips"] == whole["clips"]


def test_worker_that_dies_is_one_clear_line(clips, tmp_path, monkeypatch):
    def die(*arguments):
        raise BrokenProcessPool("A child process terminated abruptly")

    monkeypatch.setattr(ProcessPoolExecutor, "submit", die)
    with pytest.raises(
        InputError, match=r"^A worker process died, .* Run the same command again, with fewer --workers\.$"
    ):
        run(clips, tmp_path, faces=SMALL_FACES, workers=2)
    assert [path.name for path in tmp_path.iterdir()] == [PARTS]


def test_real_detector_finds_the_faces(shards):
    manifest = json.loads((shards / "manifest.json").read_text())
    found = by_key(manifest)
    assert manifest["classes"] == ["happy", "sad"]
    assert [(shard["split"], shard["clips"]) for shard in manifest["shards"]] == [("test", 4), ("train", 12)]
    assert manifest["counts"]["clips"] == 16
    assert [clip["key"] for clip in manifest["clips"] if clip["problem"]] == ["test/sad/1"]
    for key, clip in found.items():
        expected = 0 if key == "test/sad/1" else clip["frames_decoded"]
        assert clip["frames_with_a_face"] == expected


@pytest.mark.large
def test_workers_do_not_change_a_byte(labelled_videos, tmp_path):
    for workers in (1, 2):
        run(labelled_videos / "test", tmp_path / str(workers), faces=SMALL_FACES, workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_a_defect_names_its_video(face_videos, tmp_path, monkeypatch):
    class Defect(Bright):
        def detect(self, frames):
            raise ZeroDivisionError("defect")

    monkeypatch.setitem(DETECTORS, "bright", Defect)
    with pytest.raises(ZeroDivisionError) as raised:
        run(face_videos, tmp_path / "out")
    assert raised.value.__notes__[0].startswith(f"while {face_videos}")


def test_clips_that_differ_from_what_is_published_are_counted(bright, tmp_path):
    assert sum(count for (split, _), count in PUBLISHED["afew"].items() if split == "train") == 773
    assert sum(count for (split, _), count in PUBLISHED["afew"].items() if split == "val") == 383
    for index in range(2):
        path = tmp_path / "afew" / "Train_AFEW" / "Angry" / f"{index}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, [np.full((64, 64, 3), 90, np.uint8)])
    manifest = prepare(tmp_path / "afew", dataset="afew", out=tmp_path / "out", faces=FAKE, workers=1)
    assert len(manifest["differences"]) == 14
    assert manifest["differences"][0] == "train/angry: 2 clips, 133 published"
    assert manifest["differences"][-1] == "val/surprise: 0 clips, 46 published"


def test_what_is_odd_is_named_at_the_command_and_the_rest_prepared(monkeypatch, tmp_path):
    monkeypatch.setitem(DETECTORS, "mtcnn", Bright)
    root, out = tmp_path / "recola", tmp_path / "out"
    steps = {"train_1": 0.1, "train_2": 100, "train_3": 1, "train_4": 0.01}
    for name, step in steps.items():
        path = root / f"{name}.mp4"
        root.mkdir(exist_ok=True)
        write_video(path, [np.full((64, 64, 3), 90, np.uint8)] * 40)  # 4 s
        for dimension in ("arousal", "valence"):
            rated = root / f"ratings_individual/{dimension}/{name}.csv"
            rated.parent.mkdir(parents=True, exist_ok=True)
            rated.write_text(
                "time;A;B\n" + "".join(f"{index * step:g};{index / 40};{index / 50}\n" for index in range(41))
            )
    (root / "train_5.mp4").write_text("version https://git-lfs.github.com/spec/v1\n")
    os.mkfifo(root / "notes.ts")
    code, _, said = affect("prepare", root, "--dataset", "recola", "--out", out, "--workers", "1")
    said = {line.split(": ")[1]: line for line in said}
    assert code == 1 and said.keys() == {"left out", "train_2", "train_3", "train_4", "train_5"}
    assert f"{root}: 1 video not of this data set (notes.ts)" in said["left out"]
    assert "from 0 to 4000 s, and the video is 4 s long. They look like milliseconds" in said["train_2"]
    assert "from 0 to 40 s, and the video is 4 s long. They look like numbers of frames" in said["train_3"]
    assert "from 0 to 0.4 s, and the video is 4 s long. Times must be" in said["train_4"]
    assert "no ratings of arousal" in said["train_5"] and "is a Git LFS pointer" in said["train_5"]
    code, text, said = affect("verify", out)
    assert code == 1 and "damage in 3 clips and 0 shards" in text and len(said) == 4
    assert sum("of another time than the video" in line for line in said) == 3
    code, text, _ = affect("inspect", out)
    assert [text.count(each) for each in ("of another time than the video", "left out: ")] == [3, 1]


def test_the_smallest_face_of_boxes_is_refused(tmp_path):
    (tmp_path / "happy").mkdir()
    (tmp_path / "happy" / "a.mp4").write_bytes(b"x")
    (tmp_path / "boxes.csv").write_text("key,timestamp_s,x0,y0,x1,y1\na,0,1,1,9,9\n")
    faces = Faces(detector="boxes", boxes=str(tmp_path / "boxes.csv"), min_face_px=60)
    with pytest.raises(InputError, match=r"^--min-face-px 60 has no effect: the faces are read from --boxes\. "):
        prepare(tmp_path, dataset="folder", out=tmp_path / "out", faces=faces)

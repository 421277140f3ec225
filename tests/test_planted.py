"""Planted expressions: the oracle tells the truth about the videos beside it."""

import csv
import json

import cv2
import numpy as np
import pytest

from affect.pipelines.datasets.csv_list import csv_list
from affect.pipelines.planted.clips import EXPRESSIONS, TWO_REGIONS, generate
from affect.pipelines.planted.portrait import (
    HANDLES,
    LANDMARKS,
    NEUTRAL,
    PORTRAIT,
    REGIONS,
    ROWS,
    Pose,
    displace,
    draw_subject,
    locate,
    render,
    to_frame,
    to_portrait,
    warp_back,
)
from tests.pictures import read_frames

SMALL = {"train_clips": 5, "test_clips": 4, "frames": 16, "frame_rate_hz": 8, "size": 120}
STILL = {"pose": 0, "light": 0, "blur": 0, "noise": 0, "twitch": 0}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    out = tmp_path_factory.mktemp("planted")
    return out, json.loads(generate(out, **SMALL).read_text())


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    out = tmp_path_factory.mktemp("still")
    return out, json.loads(generate(out, **SMALL | STILL | {"train_clips": 4, "test_clips": 0}).read_text())


@pytest.fixture(scope="module")
def subject():
    return draw_subject(np.random.default_rng(0), "someone")


def test_killed_while_the_list_is_written_there_is_none(tmp_path, monkeypatch):
    class Killed:
        def __init__(self, file):
            self.file = file

        def writerow(self, row):
            self.file.write("path,la")
            raise KeyboardInterrupt

    few = SMALL | STILL | {"train_clips": 1, "test_clips": 0}
    with monkeypatch.context() as patch:
        patch.setattr(csv, "writer", Killed)
        with pytest.raises(KeyboardInterrupt):
            generate(tmp_path, **few)
    assert not (tmp_path / "clips.csv").exists()
    generate(tmp_path, **few)
    assert (tmp_path / "clips.csv").read_text().splitlines()[0] == "path,label,subject,split"


def test_writes_the_layout_of_the_folder_data_set(planted):
    out, oracle = planted
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert files == {f"{key}.mp4" for key in oracle["clips"]} | {"clips.csv", "planted.json"}
    assert [*oracle["clips"]][:5] == [
        "train/angry/0000",
        "train/happy/0001",
        "train/sad/0002",
        "train/surprise/0003",
        "train/angry/0004",
    ]
    assert read_frames(out / "test" / "sad" / "0002.mp4").shape == (16, 120, 120, 3)
    assert oracle["arguments"]["seed"] == 0 and oracle["arguments"]["frame_rate_hz"] == 8


def test_same_arguments_same_frames(planted, tmp_path):
    out, oracle = planted
    calls = []

    def track(iterable, total, description):
        calls.append((total, description))
        return iterable

    again = json.loads(generate(tmp_path, **SMALL, track=track).read_text())
    assert again == oracle
    assert calls == [(9, "videos")]
    for key in oracle["clips"]:
        np.testing.assert_array_equal(read_frames(tmp_path / f"{key}.mp4"), read_frames(out / f"{key}.mp4"))


def test_videos_that_are_there_are_not_written_again(planted):
    out, _ = planted
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    generate(out, **SMALL)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_subjects_stand_in_the_csv_list(planted):
    out, oracle = planted
    clips = csv_list(out / "clips.csv")
    assert {clip.key: (clip.label, clip.subject) for clip in clips} == {
        key: (clip["label"], clip["subject"]) for key, clip in oracle["clips"].items()
    }
    assert all(clip.path.is_file() and clip.key.startswith(clip.split) for clip in clips)


def test_another_seed_another_oracle(planted, tmp_path):
    other = json.loads(generate(tmp_path, **SMALL | {"train_clips": 1, "seed": 1}).read_text())
    assert other["clips"]["train/angry/0000"] != planted[1]["clips"]["train/angry/0000"]


def test_a_clip_does_not_depend_on_how_many_there_are(planted, tmp_path):
    few = json.loads(generate(tmp_path, **SMALL | {"train_clips": 1, "test_clips": 1}).read_text())
    for key, clip in few["clips"].items():
        assert clip == planted[1]["clips"][key]


def test_strength_is_planted_in_the_interval_only(planted):
    for clip in planted[1]["clips"].values():
        (start, end), strength = clip["interval_frames"], np.array(clip["strength"])
        assert 0.2 * 16 <= end - start <= 0.4 * 16
        assert 0 < start < end < 16
        assert clip["interval_s"] == [start / 8, end / 8]
        np.testing.assert_array_equal(np.flatnonzero(strength), np.arange(start, end))
        assert 0.85 <= strength.max() <= 1
        assert not np.any(strength * np.array(clip["blink"]))


def test_a_face_at_rest_shows_nothing(tmp_path):
    arguments = SMALL | {"train_clips": 0, "test_clips": 2, "expressions": ("neutral", "happy")}
    rest, happy = json.loads(generate(tmp_path, **arguments).read_text())["clips"].values()
    assert (rest["label"], rest["interval_frames"], rest["interval_s"], rest["regions"]) == ("neutral", None, None, {})
    assert not any(rest["strength"]) and any(happy["strength"])


def test_two_regions_leave_alone_what_faces_are_aligned_by():
    aligned_by = [*ROWS["eye_corner"], *ROWS["nose"], *ROWS["mouth_corner"]]
    for row in TWO_REGIONS.values():
        assert not np.any(displace(row["moves"])[aligned_by])


def test_an_expression_may_be_held_throughout(tmp_path):
    arguments = SMALL | {"train_clips": 1, "test_clips": 1, "frames": 4, "interval_ratio": (1, 1)}
    clips = json.loads(generate(tmp_path, **arguments).read_text())["clips"]
    for clip in clips.values():
        assert clip["interval_frames"] == [0, 4]
        assert len(set(clip["strength"])) == 1 and 0.85 <= clip["strength"][0] <= 1


def test_subjects_stand_in_one_split_and_show_every_expression(planted):
    clips = planted[1]["clips"]
    assert {clip["subject"] for key, clip in clips.items() if key < "train"} == {"test_00"}
    assert {clip["subject"] for key, clip in clips.items() if key > "train"} == {"train_00", "train_01"}
    assert {clip["label"] for clip in clips.values() if clip["subject"] == "test_00"} == set(EXPRESSIONS)
    drawn = [draw_subject(np.random.default_rng([0, split, 0, 0]), "").neutral for split in (False, True)]
    assert np.abs(drawn[0] - drawn[1]).max() > 1


def test_a_still_camera_sees_the_neutral_face_outside_the_interval(still):
    out, oracle = still
    for key, clip in oracle["clips"].items():
        images = read_frames(out / f"{key}.mp4").astype("float32")
        strength = np.array(clip["strength"])
        x0, y0, x1, y1 = np.rint(clip["regions"]["mouth"][strength.argmax()]).astype(int)
        change = np.abs(images - images[0])[:, y0:y1, x0:x1].mean((1, 2, 3))  # of 255, the codec's included
        assert change[strength == 0].max() < 3
        assert change[strength.argmax()] > 3 * change[strength == 0].max()


@pytest.mark.parametrize("expression", EXPRESSIONS | TWO_REGIONS)
def test_expression_shows_in_its_regions(subject, expression):
    pose = Pose(rotation_deg=4, scale=1.03, shift=(0.02, 0), turn=(0.06, 0.02))
    face = subject.neutral + displace((EXPRESSIONS | TWO_REGIONS)[expression]["moves"])
    change = np.abs(render(subject, face, pose, 240) - render(subject, subject.neutral, pose, 240)).mean(-1)
    inside = np.zeros((240, 240), bool)
    for region in (EXPRESSIONS | TWO_REGIONS)[expression]["regions"]:
        x0, y0, x1, y1 = np.rint(locate(region, [subject.neutral, face], pose, 240)).astype(int)
        inside[y0:y1, x0:x1] = True
    outline = np.concatenate([face[ROWS[row]] for row in ("contour", "jaw", "chin", "hairline")])
    hull = cv2.convexHull(to_frame(outline, pose, 240).astype("float32")).astype("int32")
    rest = (cv2.fillConvexPoly(np.zeros((240, 240), "uint8"), hull, 1) > 0) & ~inside
    assert change[inside].mean() > 3 * change[rest].mean()


def test_portrait_landmarks_give_the_portrait_back(subject):
    points = np.stack(np.meshgrid(np.arange(140, 300, 10.0), np.arange(40, 200, 10.0)), -1)
    np.testing.assert_allclose(warp_back(points, PORTRAIT), np.tile(points, 2), atol=1e-6)


def test_warp_meets_the_landmarks():
    face = NEUTRAL + displace(EXPRESSIONS["surprise"]["moves"])
    back = warp_back(face[None], face)[0]
    for columns, left_out in ((slice(2), "lower_lip_edge"), (slice(2, 4), "upper_lip_edge")):
        kept = np.delete(np.arange(len(face)), ROWS[left_out])
        np.testing.assert_allclose(back[kept, columns], PORTRAIT[kept], atol=1e-6)


def test_pose_and_its_inverse():
    pose = Pose(rotation_deg=-7, scale=0.95, shift=(0.04, -0.03), turn=(0.1, -0.06))
    np.testing.assert_allclose(to_portrait(to_frame(NEUTRAL, pose, 240), pose, 240), NEUTRAL, atol=1e-3)
    np.testing.assert_allclose(to_frame(np.array([223.0, 120.0]), Pose(), 240), [119.5, 119.5])


def test_moves_are_in_inter_ocular_distances_and_mirrored():
    offsets = displace({"mouth_corner": (0.1, -0.2)})[ROWS["mouth_corner"]]
    np.testing.assert_allclose(offsets, [[-4.45, -8.9], [-4.45, -8.9], [4.45, -8.9], [4.45, -8.9]])


def test_tables_name_what_there_is():
    for row in (EXPRESSIONS | TWO_REGIONS).values():
        assert set(row["moves"]) <= set(HANDLES) and set(row["regions"]) <= set(REGIONS)
    assert {row for weights in HANDLES.values() for row in weights} <= set(LANDMARKS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"expressions": ("happy", "smug")},
            r"Expected one of \['angry', .*\]. Received: expressions=\('happy', 'smug'\)",
        ),
        ({"size": 121}, "even"),
        ({"frames": 8, "interval_ratio": (0.3, 0.35)}, r"interval_ratio=\(0.3, 0.35\), frames=8"),
    ],
)
def test_impossible_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        generate(tmp_path, **arguments)
    assert not any(tmp_path.iterdir())


def test_clips_of_another_call_are_not_mixed_in(still):
    with pytest.raises(ValueError, match="train/surprise/0003"):
        generate(still[0], **SMALL | STILL | {"train_clips": 3, "test_clips": 0})

"""affect inspect: what it counts, and which faces it draws."""

import io
import json
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage.io import imread

from affect.config import read_json
from affect.data.clips import Clip, Dimensions
from affect.data.inspect import choose_clips, find_clearest, inspect
from affect.errors import InputError
from tests.commands import affect
from tests.pictures import portrait
from tests.portrait_shards import encode, flip, portrait_clip, write_shard


def test_prepared_shards_in_numbers(shards):
    manifest = read_json(shards / "manifest.json")
    report = inspect(shards)
    assert report["settings"] == manifest["settings"]
    assert report["classes"] == ["happy", "sad"]
    # labelled_videos: the clip of place i has 4 + i frames, and the last of test/sad shows a cup in its 5.
    rows = {(row.pop("split"), row.pop("label")): row for row in report["clips"]}
    train = {"clips": 6, "clips_with_a_face": 6, "frames": 39, "faces": 39, "coverage": 1.0}
    assert rows == {
        ("test", "happy"): {"clips": 2, "clips_with_a_face": 2, "frames": 9, "faces": 9, "coverage": 1.0},
        ("test", "sad"): {"clips": 2, "clips_with_a_face": 1, "frames": 9, "faces": 4, "coverage": 4 / 9},
        ("train", "happy"): train,
        ("train", "sad"): train,
    }
    assert report["subjects"] == {"test": 0, "train": 0} and report["subjects_in_several_splits"] == []
    assert report["length_s"][::2] == pytest.approx([0.4, 0.55, 0.9])  # 10 frames a second
    assert report["length_total_s"] == pytest.approx(9.6)
    assert report["scores"] == sorted(report["scores"]) and 0.9 <= report["scores"][0] <= report["scores"][-1] <= 1
    assert list(report["problems"]) == ["test/sad/1"] and "shows no face in 5" in report["problems"]["test/sad/1"]


def test_people_in_two_splits_are_named(tmp_path):
    one = [portrait_clip("a", subject="anna"), portrait_clip("b", subject="ben"), portrait_clip("c")]
    two = [portrait_clip("d", subject="anna")]
    write_shard(tmp_path, encode(two), listed=two, split="test")
    entry = read_json(tmp_path / "manifest.json")["shards"]
    write_shard(tmp_path, encode(one), listed=one, split="train", shards=entry)
    report = inspect(tmp_path)
    assert report["subjects"] == {"test": 1, "train": 2}
    assert report["subjects_in_several_splits"] == ["anna"]
    assert report["length_s"] is None and report["length_total_s"] == 0  # no frame rate is known


def test_faces_are_spread_over_the_clips_of_a_class():
    drawable = [(f"{index:03}", "train", "happy", None) for index in reversed(range(101))]
    drawable += [("x", "train", "", None)]
    chosen = choose_clips(drawable, ("happy", "sad"), 5)
    assert chosen == {"happy": ["000", "025", "050", "075", "100"], "sad": [], "no label": ["x"]}
    assert list(chosen) == ["happy", "sad", "no label"]


def test_faces_without_classes_stand_by_valence_or_by_split():
    drawable = [(str(index), "train", "", index / 10) for index in range(10)]
    chosen = choose_clips([*drawable, ("x", "test", "", None)], (), 8)
    assert list(chosen.values()) == [["0", "1"], ["2", "3"], ["4", "5"], ["6", "7"], ["8", "9"], ["x"]]
    names = list(chosen)
    assert names[0] == "valence\n0.00 to 0.18" and names[-1] == "test"
    assert choose_clips([("a", "val", "", None), ("b", "test", "", None)], (), 8) == {"test": ["b"], "val": ["a"]}


def test_a_sheet_is_the_same_each_time(shards, tmp_path):
    inspect(shards, out=tmp_path / "1.png", columns=3)
    inspect(shards, out=tmp_path / "2.png", columns=3)
    one, two = imread(tmp_path / "1.png"), imread(tmp_path / "2.png")
    np.testing.assert_array_equal(one, two)
    # happy stands above sad, and its faces are brighter; the names of the rows are left of both.
    height, width = one.shape[:2]
    upper, lower = one[: height // 2, width // 3 :, :3], one[height // 2 :, width // 3 :, :3]
    assert upper.mean() > 1.1 * lower.mean()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.png", "2.png"]


def test_a_sheet_of_rated_faces(tmp_path):
    rated = [
        portrait_clip(str(index), "", dimensions=Dimensions((0.0, 1.0), (index / 10, index / 10), (0.0, 0.0)))
        for index in range(5)
    ]
    write_shard(tmp_path / "s", encode(rated), listed=rated)
    manifest = (tmp_path / "s" / "manifest.json").read_text().replace('"happy",\n    "sad"', "")
    (tmp_path / "s" / "manifest.json").write_text(manifest)
    report = inspect(tmp_path / "s", out=tmp_path / "sheet.png")
    assert report["classes"] == []
    height, width = imread(tmp_path / "sheet.png").shape[:2]
    assert height > 2 * width  # five rows of one face


def jpeg(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95)
    return file.getvalue()


def test_the_clearest_face_is_sharp_and_surely_a_face():
    sharp = portrait(size=96)
    faces = [jpeg(cv2.GaussianBlur(sharp, (0, 0), sigma)) for sigma in (4, 2, 0.1, 2)]
    assert find_clearest(faces, [0.9, 0.9, 0.9, 0.9]) == 2
    assert find_clearest(faces, [0.9, 0.9, 0.01, 0.95]) == 3
    assert find_clearest(faces[:1] * 3, np.ones(3)) == 0
    long = [faces[0]] * 200
    long[150] = faces[2]
    assert find_clearest(long, np.ones(200)) in range(200)  # of which 64 are looked at


def test_a_sheet_says_how_many_clips_it_shows_and_when(shards, tmp_path):
    inspect(shards, out=tmp_path / "sheet.svg", columns=3)
    nodes = ElementTree.parse(tmp_path / "sheet.svg").iter("{http://www.w3.org/2000/svg}text")
    texts = ["".join(node.itertext()) for node in nodes]
    assert "6 of 15 clips with a face, evenly spaced; of each the clearest face (score × sharpness)" in texts
    assert texts.count("3 of 8") == texts.count("3 of 7") == 1
    times_s = [float(text.removesuffix(" s")) for text in texts if text.endswith(" s")]
    assert len(times_s) == 6 and max(times_s) < 1


def test_nothing_to_draw(tmp_path):
    write_shard(tmp_path / "s", encode([Clip("a")]), listed=[Clip("a")])
    report = inspect(tmp_path / "s")
    assert report["scores"] is None and report["clips"][0]["coverage"] is None
    with pytest.raises(InputError, match="holds no face to draw"):
        inspect(tmp_path / "s", out=tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


def test_damage_is_named(tmp_path):
    path = write_shard(tmp_path / "s", encode([portrait_clip("a")]), listed=[portrait_clip("a")])
    flip(path, 300)
    with pytest.raises(InputError, match=f"is damaged: {path.name}"):
        inspect(tmp_path / "s")


def test_the_command(shards, tmp_path):
    code, out, _ = affect("inspect", shards, "--out", tmp_path / "sheet.png")
    assert code == 0
    assert "44.4%" in out and "face_size=64" in out and "problem: test/sad/1: " in out
    assert "length of clips in s (lowest, quartiles, highest): 0.4, " in out
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = affect("inspect", shards, "--json")
    assert code == 0 and json.loads(out) == inspect(shards)

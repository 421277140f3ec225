"""Planted recordings: the oracle tells the truth about the videos and the ratings beside it."""

import json

import numpy as np
import pytest

from affect.data.labels import DIMENSIONS
from affect.pipelines.datasets.sewa import sewa
from affect.pipelines.planted.portrait import ROWS, displace, draw_subject
from affect.pipelines.planted.recordings import CHIN, SHOWN_BY, draw_curve, generate_recordings, perform
from tests.pictures import read_frames

SMALL = {"train": 2, "dev": 1, "length_s": 3.0, "frame_rate_hz": 8.0, "delay_s": 1.0, "label_step_s": 0.125, "size": 96}
STILL = {"pose": 0, "light": 0, "blur": 0, "noise": 0, "twitch": 0}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    out = tmp_path_factory.mktemp("planted")
    return out, json.loads(generate_recordings(out, **SMALL).read_text())


def test_sewa_reads_the_tree(planted):
    out, oracle = planted
    found = {source.key: source for source in sewa(out)}
    assert {key: source.split for key, source in found.items()} == {
        "Devel_01": "val",
        "Train_01": "train",
        "Train_02": "train",
    }
    assert found.keys() == oracle["recordings"].keys()
    for source in found.values():
        assert read_frames(source.path).shape == (24, 96, 96, 3)
        np.testing.assert_allclose(source.dimensions.times_s, np.arange(25) / 8)


def test_ratings_are_the_curves_a_second_late(planted):
    out, oracle = planted
    for source in sewa(out):
        curves = oracle["recordings"][source.key]
        for dimension in DIMENSIONS:
            rated = getattr(source.dimensions, dimension)
            np.testing.assert_allclose(rated[8:], curves[dimension][:17], atol=1e-4)
            assert np.ptp(rated[:8]) > 0.01  # the curve's own past


def test_a_curve_is_smooth():
    curve = draw_curve(np.random.default_rng(0))(np.arange(0, 3000, 0.1))
    assert curve.std() == pytest.approx(0.45, abs=0.01)
    assert np.abs(np.diff(curve)).max() < 0.13  # in a tenth of a second


def test_a_frame_trembles_about_its_curve():
    subject = draw_subject(np.random.default_rng(0), "someone")
    curves = {dimension: draw_curve(np.random.default_rng(1)) for dimension in DIMENSIONS}
    settings = STILL | {"length_s": 100.0, "frame_rate_hz": 10.0, "size": 64}
    for tremor in (0.0, 0.3):
        _, entry = perform(subject, curves, np.random.default_rng(2), tremor=tremor, **settings)
        for dimension in DIMENSIONS:
            strength, curve = np.array(entry["strength"][dimension]), np.array(entry[dimension])
            trembling = (strength - curve)[np.abs(strength) < 1.2]  # beyond, strength is cut off
            assert trembling.std() == pytest.approx(tremor, rel=0.1)
            assert abs(np.mean(trembling[1:] * trembling[:-1])) <= 0.1 * tremor**2
        assert not np.any(entry["blink"])


def test_what_moves_leaves_alone_what_faces_are_aligned_by():
    aligned_by = [*ROWS["eye_corner"], *ROWS["nose"], *ROWS["mouth_corner"]]
    for moves in [CHIN, *(moves for _, *both in SHOWN_BY.values() for moves in both)]:
        assert not np.any(displace(moves)[aligned_by])


def test_frames_differ_where_the_oracle_says(tmp_path):
    out = tmp_path / "still"
    arguments = SMALL | STILL | {"train": 1, "dev": 0}
    recording = json.loads(generate_recordings(out, **arguments).read_text())["recordings"]["Train_01"]
    images = read_frames(out / "video" / "Train_01.mp4").astype(float)
    for dimension, (region, _, _) in SHOWN_BY.items():
        strength = np.array(recording["strength"][dimension])
        low, high = strength.argmin(), strength.argmax()
        change = np.abs(images[high] - images[low]).mean(-1)
        boxes = np.array(recording["regions"][region])[[low, high]]
        x0, y0 = np.floor(boxes[:, :2].min(0)).astype(int)
        x1, y1 = np.ceil(boxes[:, 2:].max(0)).astype(int)
        assert change[y0:y1, x0:x1].mean() > 4 * change[:10].mean()  # the hair


def test_same_arguments_same_files(planted, tmp_path):
    out, oracle = planted
    calls = []

    def track(iterable, total, description):
        calls.append((total, description))
        return iterable

    assert json.loads(generate_recordings(tmp_path, **SMALL, track=track).read_text()) == oracle
    assert calls == [(3, "videos")]
    for name in oracle["recordings"]:
        for file in (f"labels/{name}.csv", f"video/{name}.mp4"):
            assert (tmp_path / file).read_bytes() == (out / file).read_bytes()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    generate_recordings(out, **SMALL)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_impossible_arguments(planted, tmp_path):
    with pytest.raises(ValueError, match="`size` must be even"):
        generate_recordings(tmp_path / "odd", size=97)
    assert not any(tmp_path.iterdir())
    with pytest.raises(ValueError, match="Train_02"):
        generate_recordings(planted[0], **SMALL | {"train": 1})

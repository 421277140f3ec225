"""The benchmarks of many clips and of extremes walk their steps; work grows in proportion to the clips, in calls."""

import json
import sys

import pytest

from affect.data.verify import verify
from benchmarks.extremes import list_rows, predict_hours, prepare_videos
from benchmarks.scale import SHARES, STEPS, make_parts, make_videos, measure, prepare_step, text


def count_calls(function):
    """Returns how many functions are called, in Python and in C, while a function runs in this thread."""
    counted = 0

    def profile(frame, event, argument):
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return counted


def make(folder, clips):
    make_videos(folder / "videos", clips)
    make_parts(folder / "videos", folder / "shards")
    return folder / "videos", folder / "shards"


def test_synthetic_parts_are_those_that_prepare_would_join(tmp_path):
    source, out = make(tmp_path, 30)
    manifest = prepare_step("join", source, out)()
    assert manifest["counts"] == dict.fromkeys(manifest["counts"], 30)
    assert [shard["clips"] for shard in manifest["shards"]] == [24, 6]
    assert verify(out) == {"shards": 2, "records": 30, "faces": 30, "damage": []}


def test_listing_and_join_are_linear_in_the_clips(tmp_path):
    sizes = (200, 400, 800)
    calls = {"listing": [], "join": []}
    for clips in sizes:
        (tmp_path / str(clips)).mkdir()
        source, out = make(tmp_path / str(clips), clips)
        for step, counted in calls.items():
            counted.append(count_calls(prepare_step(step, source, out)))
    for step, (few, more, most) in calls.items():
        # Twice the growth for twice the growth of clips, with some room for what is done once in so many clips.
        assert most - more == pytest.approx(2 * (more - few), rel=0.05), step


def test_the_table_shows_the_growth():
    steps = [{"join": {"seconds": 1.0 * k, "cpu_seconds": 0.5 * k * k, "mib": 0.0}} for k in (1, 10)]
    rows = [{"clips": 1000 * 10**k, "steps": each} for k, each in enumerate(steps)]
    assert text(rows).splitlines() == [
        "| step | 1,000 clips | 10,000 clips | × 10 |",
        "| --- | --- | --- | --- |",
        "| join | 1.0 s | 10.0 s | 10.0 |",
        "|  | 0.5 s CPU | 50.0 s CPU | 100.0 |",
        "|  | 0 MiB | 0 MiB | – |",
    ]


@pytest.mark.large
def test_each_step_is_measured(tmp_path):
    row = measure(40, tmp_path)
    assert (row["clips"], row["files"]) == (40, 2 * 40 + 1)
    assert list(row["steps"]) == list(STEPS)
    assert json.loads(json.dumps(row)) == row
    assert all(step["seconds"] > 0 and step["cpu_seconds"] > 0 for step in row["steps"].values())
    assert SHARES == 10 and not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("measure", "count", "steps"),
    [
        (list_rows, 20, ["list", "missing"]),
        pytest.param(prepare_videos, 3, ["prepare", "again"], marks=pytest.mark.large),
        pytest.param(predict_hours, 0.002, ["predict"], marks=pytest.mark.large),
    ],
)
def test_extremes_are_measured(tmp_path, measure, count, steps):
    found = dict(measure(tmp_path, count))
    assert list(found) == steps
    assert all(seconds > 0 and cpu_s > 0 and mib > 10 for seconds, cpu_s, mib in found.values())

"""`benchmarks/serving.py` measures what it says it does; how fast that is, no test says."""

import json

import pytest

from benchmarks.serving import measure, text


@pytest.fixture(scope="module")
def result(exported):
    return measure(exported("average")[1], most=9, seconds=0)


def test_each_bucket_is_a_row(result):
    assert [row["frames"] for row in result["buckets"]] == [8, 9]
    for row in result["buckets"]:
        assert all(row[way] > 0 for way in ("first", "bucket", "whole", "together", "apart"))
    assert set(result["frame"]) == {"together", "apart"}


def test_the_result_is_json_and_a_table(result):
    assert json.loads(json.dumps(result)) == result
    header, rule, *rows, frame = text(result).splitlines()
    assert [row.count("|") for row in (header, rule, *rows)] == [7] * 4
    assert frame.startswith("32 faces: together ")

"""`benchmarks/inference.py` measures what it says it does; how fast that is, no test says."""

import json

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.inference import clips_of, measure, overhead, take_turns, text

SIZES = {"clips": ((1, 2), (2, 3)), "tflite_frames": 2, "stream_frames": 20, "pooled_frames": 50, "seconds": 0}


@pytest.fixture(scope="module")
def measured(exported, tmp_path_factory):
    """`(folder, result)`."""
    folder = tmp_path_factory.mktemp("bench")
    return folder, measure(*exported("joint_softmax"), folder, **SIZES, numbers=("float32",))


@pytest.fixture
def result(measured):
    return measured[1]


def check_rows(rows):
    for row in rows:
        assert {"median", "cpu", "min", "quartiles"} <= set(row["head_overhead"])
        for way in row["ways"].values():
            assert 0 < way["min_ms"] <= way["median_ms"]


def test_every_form_is_measured_in_the_same_rounds(result):
    shapes = [(row["clips"], row["frames"], row["rounds"]) for row in result["saved_model"]]
    assert shapes == [(1, 2, 5), (2, 3, 5)]
    for row in result["saved_model"]:
        assert set(row["ways"]) == {"backbone", "head", "serving_default", "jpeg", "keras", "matmul"}
    (row,) = result["tflite"]
    assert row["to"] == "float32" and row["backbone_bytes"] < row["bytes"]
    assert set(row["ways"]) == {"backbone", "clip", "free_frames"}
    check_rows(result["saved_model"] + result["tflite"])


@pytest.mark.large
def test_int8_is_calibrated_on_shards_of_its_own(exported, tmp_path):
    result = measure(*exported("joint_softmax"), tmp_path, **SIZES | {"clips": ()}, numbers=("int8",))
    assert set(result["tflite"][0]["ways"]) == {"backbone", "clip"}
    check_rows(result["tflite"])


def test_streams_are_measured_late_beside_early(result):
    frames = {name: (row["frames"], row["rounds"]) for name, row in result["stream"].items()}
    assert frames == {"keras": (20, 2), "saved_model": (20, 2), "pooling_alone": (50, 5)}
    assert {"early", "late"} <= set(result["stream"]["pooling_alone"]["ways"])


def test_the_result_is_json_and_one_line(result):
    assert json.loads(json.dumps(result)) == result
    # Its one convolution: 5 · 5 · 1 · 8 weights at 4 · 4 places.
    assert result["backbone_mflop_a_face"] == pytest.approx(2 * 200 * 16 / 1e6)
    line = text(result)
    assert "\n" not in line and "tflite float32" in line and "stream pooling_alone" in line


def test_backbone_and_head_make_up_the_model(exported, measured):
    trained, _ = exported("joint_softmax")
    halves = tf.saved_model.load(str(measured[0] / "halves")).signatures
    inputs = {name: tf.constant(value) for name, value in clips_of(trained, 2, 3)[0].items()}
    features = halves["backbone"](faces=inputs["faces"])["features"]
    flat = tf.reshape(inputs["faces"], (6, *inputs["faces"].shape[2:]))
    expected = trained.model.get_layer("backbone")(flat, training=False)
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-5)
    logits = halves["head"](**inputs, features=features)["logits"]
    np.testing.assert_allclose(logits, trained.model(inputs, training=False), rtol=0, atol=1e-5)


def test_ways_take_turns_from_both_ends():
    calls = []
    times = take_turns({name: lambda name=name: calls.append(name) for name in "ab"}, seconds=0)
    assert "".join(calls) == "ab" + "ba" + "ab" + "ba" + "ab" + "ba"
    assert times["a"].shape == (5, 2)


def test_overhead_by_hand():
    whole, part = np.array([[2.0, 3.0], [3.0, 3.0], [8.0, 3.0]]), np.array([[1.0, 2.0], [2.0, 2.0], [4.0, 2.0]])
    found = overhead(whole, part)
    assert (found["median"], found["cpu"], found["min"]) == (0.5, 0.5, 1.0)
    assert found["quartiles"] == [0.75, 1.0, 1.0]

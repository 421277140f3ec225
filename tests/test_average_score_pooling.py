import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import softmax

from affect.layers import AverageScorePooling
from tests.contracts import check_layer, gradient, run

RANDOM = np.random.default_rng(0)
FRAME_LOGITS = RANDOM.normal(size=(3, 4, 5)).astype("float32")
FRAME_MASK = np.array([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]], "bool")


def pool(frame_logits, frame_mask):
    return run(AverageScorePooling(), (frame_logits, frame_mask), {"return_importance": True})


@pytest.mark.parametrize("inputs, importance", [((FRAME_LOGITS,), False), ((FRAME_LOGITS, FRAME_MASK), True)])
def test_contract(inputs, importance):
    check_layer(AverageScorePooling, {}, *inputs, call_kwargs={"return_importance": importance})


def test_by_hand():
    frame_logits = np.array([[[1.0, 2.0], [3.0, 0.0], [50.0, -9.0]]])
    logits, importance, joint = pool(frame_logits, np.array([[True, True, False]]))
    np.testing.assert_allclose(logits, [[2, 1]], atol=1e-6)
    np.testing.assert_allclose(importance, [[0.5, 0.5, 0]], atol=1e-6)
    half = np.e / (1 + np.e) / 2
    np.testing.assert_allclose(joint, [[[half, 0.5 - half]] * 2 + [[0, 0]]], atol=1e-6)


def test_equals_numpy():
    for clip, outputs in enumerate(zip(*pool(FRAME_LOGITS, FRAME_MASK), strict=True)):
        valid = FRAME_MASK[clip]
        if not valid.any():
            assert not any(output.any() for output in outputs)
            continue
        logits = np.float64(FRAME_LOGITS[clip][valid]).mean(0)
        np.testing.assert_allclose(outputs[0], logits, atol=1e-6)
        np.testing.assert_allclose(outputs[1], valid / valid.sum(), atol=1e-6)
        np.testing.assert_allclose(outputs[2], np.outer(valid / valid.sum(), softmax(logits)), atol=1e-6)


@pytest.mark.parametrize("garbage", [0.0, 1e30, -1e30])
def test_what_padded_frames_hold_changes_nothing(garbage):
    padded = np.where(FRAME_MASK[..., None], FRAME_LOGITS, np.float32(garbage))
    padded = np.pad(padded, ((0, 0), (0, 2), (0, 0)), constant_values=garbage)
    outputs = pool(padded, np.pad(FRAME_MASK, ((0, 0), (0, 2))))
    logits, importance, joint = pool(FRAME_LOGITS, FRAME_MASK)
    np.testing.assert_allclose(outputs[0], logits, atol=1e-6)
    np.testing.assert_allclose(outputs[1], np.pad(importance, ((0, 0), (0, 2))), atol=1e-6)
    np.testing.assert_allclose(outputs[2], np.pad(joint, ((0, 0), (0, 2), (0, 0))), atol=1e-6)


def test_order_and_repetition_of_frames_leave_the_clip():
    logits = pool(FRAME_LOGITS, FRAME_MASK)[0]
    np.testing.assert_allclose(pool(FRAME_LOGITS[:, ::-1], FRAME_MASK[:, ::-1])[0], logits, atol=1e-6)
    twice = (np.concatenate([x, x], axis=1) for x in (FRAME_LOGITS, FRAME_MASK))
    np.testing.assert_allclose(pool(*twice)[0], logits, atol=1e-6)


def test_gradient_is_an_equal_share_of_the_valid_frames():
    layer = AverageScorePooling()
    slope = gradient(lambda x: ops.sum(layer(x, FRAME_MASK)), FRAME_LOGITS)
    share = FRAME_MASK / np.maximum(FRAME_MASK.sum(1, keepdims=True), 1)
    np.testing.assert_allclose(slope, np.repeat(share[..., None], 5, axis=-1), atol=1e-6)


def test_float32_logits_are_not_cast_down_under_mixed_precision():
    frame_logits = np.array([[[1e5, 1e5 + 1]]], "float32")  # both infinite in float16
    logits = AverageScorePooling(dtype="mixed_float16")(frame_logits)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    np.testing.assert_array_equal(logits, frame_logits[:, 0])

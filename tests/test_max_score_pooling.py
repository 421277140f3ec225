import numpy as np
import pytest
from keras import ops
from scipy.special import softmax

from affect.layers import JointSoftmaxPooling, MaxScorePooling
from tests.contracts import check_layer, gradient, run

RANDOM = np.random.default_rng(0)
FRAME_LOGITS = RANDOM.normal(size=(3, 4, 5)).astype("float32")
FRAME_MASK = np.array([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]], "bool")


def pool(frame_logits, frame_mask):
    return run(MaxScorePooling(), (frame_logits, frame_mask), {"return_importance": True})


@pytest.mark.parametrize("inputs, importance", [((FRAME_LOGITS,), False), ((FRAME_LOGITS, FRAME_MASK), True)])
def test_contract(inputs, importance):
    check_layer(MaxScorePooling, {}, *inputs, call_kwargs={"return_importance": importance})


def test_by_hand():
    # Class 0 is best in frame 1; class 1 in frames 0 and 1 alike. Frame 2 is masked.
    frame_logits = np.array([[[1.0, 2.0], [3.0, 2.0], [50.0, 50.0]]])
    logits, importance, joint = pool(frame_logits, np.array([[True, True, False]]))
    first = np.e / (1 + np.e)
    np.testing.assert_allclose(logits, [[3, 2]], atol=1e-6)
    np.testing.assert_allclose(joint, [[[0, (1 - first) / 2], [first, (1 - first) / 2], [0, 0]]], atol=1e-6)
    np.testing.assert_allclose(importance, [[(1 - first) / 2, (1 + first) / 2, 0]], atol=1e-6)


@pytest.mark.parametrize("shift", [0.0, -10.0, 10.0], ids=["mixed", "negative", "positive"])
def test_equals_numpy(shift):
    frame_logits = FRAME_LOGITS + np.float32(shift)
    for clip, outputs in enumerate(zip(*pool(frame_logits, FRAME_MASK), strict=True)):
        valid = FRAME_MASK[clip]
        if not valid.any():
            assert not any(output.any() for output in outputs)
            continue
        scores = np.where(valid[:, None], frame_logits[clip].astype("float64"), -np.inf)
        joint = softmax(scores.max(0)) * (scores == scores.max(0))
        for output, expected in zip(outputs, (scores.max(0), joint.sum(1), joint), strict=True):
            np.testing.assert_allclose(output, expected, atol=1e-6)


@pytest.mark.parametrize("garbage", [0.0, 1e30, -1e30])
def test_what_padded_frames_hold_changes_nothing(garbage):
    padded = np.where(FRAME_MASK[..., None], FRAME_LOGITS, np.float32(garbage))
    padded = np.pad(padded, ((0, 0), (0, 2), (0, 0)), constant_values=garbage)
    outputs = pool(padded, np.pad(FRAME_MASK, ((0, 0), (0, 2))))
    logits, importance, joint = pool(FRAME_LOGITS, FRAME_MASK)
    np.testing.assert_array_equal(outputs[0], logits)
    np.testing.assert_allclose(outputs[1], np.pad(importance, ((0, 0), (0, 2))), atol=1e-6)
    np.testing.assert_allclose(outputs[2], np.pad(joint, ((0, 0), (0, 2), (0, 0))), atol=1e-6)


def test_order_and_repetition_of_frames_leave_the_clip():
    logits = pool(FRAME_LOGITS, FRAME_MASK)[0]
    np.testing.assert_array_equal(pool(FRAME_LOGITS[:, ::-1], FRAME_MASK[:, ::-1])[0], logits)
    twice = (np.concatenate([x, x], axis=1) for x in (FRAME_LOGITS, FRAME_MASK))
    np.testing.assert_allclose(pool(*twice)[0], logits, atol=1e-6)


def test_a_small_maximum_keeps_its_digits_beside_a_large_negative_score():
    frame_logits = np.array([[[0.1], [-1e6], [0.0]]], "float32")
    logits = pool(frame_logits, np.array([[True, True, False]]))[0]
    np.testing.assert_array_equal(logits, frame_logits[:, 0])


def test_it_is_the_limit_of_joint_softmax():
    scale = np.float32(1e4)
    expected = run(JointSoftmaxPooling(), (FRAME_LOGITS * scale, FRAME_MASK))[0] / scale
    np.testing.assert_allclose(pool(FRAME_LOGITS, FRAME_MASK)[0], expected, atol=1e-3)


def test_gradient_goes_to_the_maximum_and_is_shared_by_ties():
    frame_logits = np.array([[[-1.0, 2.0], [-1.0, 0.0], [9.0, 9.0]], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
    frame_mask = np.array([[True, True, False], [False, False, False]])
    layer = MaxScorePooling()
    slope = gradient(lambda x: ops.sum(layer(x, frame_mask)), frame_logits)
    np.testing.assert_allclose(slope[0], [[0.5, 1], [0.5, 0], [0, 0]], atol=1e-6)
    np.testing.assert_array_equal(slope[1], np.zeros((3, 2)))

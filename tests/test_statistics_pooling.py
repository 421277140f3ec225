import numpy as np
import pytest
from keras import ops

from affect.layers import StatisticsPooling
from tests.contracts import check_layer, gradient, run

RANDOM = np.random.default_rng(0)
FRAME_FEATURES = RANDOM.normal(size=(3, 4, 5)).astype("float32")
FRAME_MASK = np.array([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]], "bool")


def pool(frame_features, frame_mask):
    return run(StatisticsPooling(), (frame_features, frame_mask), {"return_frames": True})


@pytest.mark.parametrize("inputs, frames", [((FRAME_FEATURES,), False), ((FRAME_FEATURES, FRAME_MASK), True)])
def test_contract(inputs, frames):
    check_layer(StatisticsPooling, {}, *inputs, call_kwargs={"return_frames": frames})


def test_by_hand():
    clip, frames = pool(np.array([[[1.0, 5.0], [3.0, 5.0], [9.0, 9.0]]]), np.array([[True, True, False]]))
    np.testing.assert_allclose(clip, [[2, 5, 1, 0]], atol=1e-6)
    np.testing.assert_array_equal(frames, [[[1, 5, 0, 0], [3, 5, 0, 0], [0, 0, 0, 0]]])


def test_equals_numpy():
    clips, frames = pool(FRAME_FEATURES, FRAME_MASK)
    for clip in (0, 1):
        valid = np.float64(FRAME_FEATURES[clip][FRAME_MASK[clip]])
        np.testing.assert_allclose(clips[clip], np.concatenate([valid.mean(0), valid.std(0)]), atol=1e-6)
    np.testing.assert_array_equal(frames[..., :5], FRAME_FEATURES * FRAME_MASK[..., None])
    np.testing.assert_array_equal(frames[..., 5:], 0)
    np.testing.assert_array_equal(clips[2], 0)


@pytest.mark.parametrize("garbage", [0.0, 1e15, -1e30])
def test_what_padded_frames_hold_changes_nothing(garbage):
    padded = np.where(FRAME_MASK[..., None], FRAME_FEATURES, np.float32(garbage))
    padded = np.pad(padded, ((0, 0), (0, 2), (0, 0)), constant_values=garbage)
    outputs = pool(padded, np.pad(FRAME_MASK, ((0, 0), (0, 2))))
    clip, frames = pool(FRAME_FEATURES, FRAME_MASK)
    np.testing.assert_allclose(outputs[0], clip, atol=1e-6)
    np.testing.assert_array_equal(outputs[1], np.pad(frames, ((0, 0), (0, 2), (0, 0))))


def test_order_and_repetition_of_frames_leave_the_clip():
    clip = pool(FRAME_FEATURES, FRAME_MASK)[0]
    np.testing.assert_allclose(pool(FRAME_FEATURES[:, ::-1], FRAME_MASK[:, ::-1])[0], clip, atol=1e-6)
    twice = (np.concatenate([x, x], axis=1) for x in (FRAME_FEATURES, FRAME_MASK))
    np.testing.assert_allclose(pool(*twice)[0], clip, atol=1e-6)


def test_a_clip_of_one_frame_is_that_frame():
    clip, frames = pool(FRAME_FEATURES[:, :1], np.ones((3, 1), bool))
    np.testing.assert_array_equal(clip, frames[:, 0])


def test_gradient_is_finite_where_frames_do_not_differ():
    frame_features = np.array([[[1.0, 2.0], [3.0, 2.0], [1e15, 0.0]], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
    frame_mask = np.array([[True, True, False], [False, False, False]])
    layer = StatisticsPooling()
    slope = gradient(lambda x: ops.sum(layer(x, frame_mask)), frame_features)
    # Of the mean 1/2 each; of the deviation (x - mean) / (n · deviation) = ∓1/2, or 0 where it is 0.
    np.testing.assert_allclose(slope[0], [[0, 0.5], [1, 0.5], [0, 0]], atol=1e-6)
    np.testing.assert_array_equal(slope[1], 0)

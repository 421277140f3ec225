import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import expit

from affect.layers import LSTMPooling
from tests.contracts import check_layer, gradient, run

RANDOM = np.random.default_rng(0)
FRAME_FEATURES = RANDOM.normal(size=(3, 4, 5)).astype("float32")
FRAME_MASK = np.array([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]], "bool")


@pytest.fixture(scope="module")
def layer():
    layer = LSTMPooling(3)
    layer.build((None, None, 5))
    layer.set_weights([np.random.default_rng(1).normal(size=x.shape) for x in layer.get_weights()])
    return layer


def pool(layer, frame_features, frame_mask):
    return run(layer, (frame_features, frame_mask), {"return_frames": True})


def reference(frames, weights):
    """Outputs (F, units) of an LSTM in float64 that starts at zeros; the gates stand as input, forget, cell, output."""
    kernel, recurrent, bias = (np.float64(x) for x in weights)
    output = state = np.zeros(len(recurrent))
    outputs = []
    for frame in np.float64(frames):
        enter, forget, new, leave = np.split(frame @ kernel + output @ recurrent + bias, 4)
        state = expit(forget) * state + expit(enter) * np.tanh(new)
        output = expit(leave) * np.tanh(state)
        outputs.append(output)
    return np.array(outputs)


@pytest.mark.parametrize("inputs, frames", [((FRAME_FEATURES,), False), ((FRAME_FEATURES, FRAME_MASK), True)])
def test_contract(inputs, frames):
    invalid = [({"units": 0}, "Received: units=0"), ({"units": 2.0}, "Received: units=2.0")]
    check_layer(LSTMPooling, {"units": 3}, *inputs, call_kwargs={"return_frames": frames}, invalid=invalid)


def test_by_hand():
    # All weights 0 but the cell's kernel: each gate is sigmoid(0) = 1/2 and the state halves before it grows.
    layer = LSTMPooling(1)
    layer.build((None, None, 1))
    layer.set_weights([np.array([[0.0, 0, 1, 0]]), np.zeros((1, 4)), np.zeros(4)])
    clip, frames = pool(layer, np.array([[[1.0], [7.0], [2.0]]]), np.array([[True, False, True]]))
    first = np.tanh(1) / 2
    second = first / 2 + np.tanh(2) / 2
    np.testing.assert_allclose(frames[0, :, 0], [np.tanh(first) / 2, 0, np.tanh(second) / 2], atol=1e-6)
    np.testing.assert_allclose(clip, frames[:, 2], atol=1e-6)


def test_equals_numpy(layer):
    clips, frames = pool(layer, FRAME_FEATURES, FRAME_MASK)
    for clip in (0, 1):
        expected = reference(FRAME_FEATURES[clip][FRAME_MASK[clip]], layer.get_weights())
        np.testing.assert_allclose(frames[clip][FRAME_MASK[clip]], expected, atol=1e-6)
        np.testing.assert_allclose(clips[clip], expected[-1], atol=1e-6)
    np.testing.assert_array_equal(frames[~FRAME_MASK], 0)
    np.testing.assert_array_equal(clips[2], 0)


@pytest.mark.parametrize("garbage", [0.0, 1e30])
def test_what_masked_frames_hold_changes_nothing_wherever_they_stand(layer, garbage):
    padded = np.where(FRAME_MASK[..., None], FRAME_FEATURES, np.float32(garbage))
    padded = np.pad(padded, ((0, 0), (1, 2), (0, 0)), constant_values=garbage)
    outputs = pool(layer, padded, np.pad(FRAME_MASK, ((0, 0), (1, 2))))
    clip, frames = pool(layer, FRAME_FEATURES, FRAME_MASK)
    np.testing.assert_allclose(outputs[0], clip, atol=1e-6)
    np.testing.assert_allclose(outputs[1], np.pad(frames, ((0, 0), (1, 2), (0, 0))), atol=1e-6)


def test_order_of_frames_matters(layer):
    clip = pool(layer, FRAME_FEATURES, FRAME_MASK)[0]
    backwards = pool(layer, FRAME_FEATURES[:, ::-1], FRAME_MASK[:, ::-1])[0]
    assert (np.abs(backwards - clip)[:2] > 1e-3).any(axis=1).all()


def test_a_frame_does_not_see_those_after_it(layer):
    frames = pool(layer, FRAME_FEATURES, FRAME_MASK)[1]
    shorter = pool(layer, FRAME_FEATURES[:, :2], FRAME_MASK[:, :2])
    np.testing.assert_allclose(shorter[1], frames[:, :2], atol=1e-6)
    np.testing.assert_allclose(shorter[0][0], frames[0, 1], atol=1e-6)


def test_gradient_is_finite_and_leaves_out_masked_frames(layer):
    features = np.where(FRAME_MASK[..., None], FRAME_FEATURES, 1e30)
    slope = gradient(lambda x: ops.sum(layer(x, FRAME_MASK)), features)
    assert np.isfinite(slope).all()
    assert (slope[~FRAME_MASK] == 0).all() and (slope[FRAME_MASK] != 0).all()


def test_it_is_float32_under_mixed_precision():
    clip = LSTMPooling(3, dtype="mixed_float16")(FRAME_FEATURES.astype("float16"))
    assert keras.backend.standardize_dtype(clip.dtype) == "float32"

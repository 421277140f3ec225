import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import expit, softmax

from affect.layers import SpatiotemporalAttention
from tests import transcriptions
from tests.contracts import check_layer, gradient, run

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(3, 4, 3, 2, 5)).astype("float32")
FRAME_MASK = np.array([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]], "bool")
ACTIVATIONS = ["softmax", "sigmoid"]


@pytest.fixture(scope="module", params=ACTIVATIONS)
def layer(request):
    layer = SpatiotemporalAttention(3, activation=request.param)
    layer.build((None, None, 3, 2, 5))
    random = np.random.default_rng(1)
    layer.set_weights([random.normal(size=x.shape) for x in layer.get_weights()])
    return layer


@pytest.mark.parametrize("inputs, activation", [((FEATURES,), "softmax"), ((FEATURES, FRAME_MASK), "sigmoid")])
def test_contract(inputs, activation):
    invalid = [
        ({"filters": 0}, "Invalid `filters`. Expected an integer of at least 1. Received: filters=0"),
        ({"kernel_size": 1.5}, "Received: kernel_size=1.5"),
        ({"activation": "relu"}, "Expected 'softmax' or 'sigmoid'. Received: activation='relu'"),
    ]
    check_layer(SpatiotemporalAttention, {"filters": 3, "activation": activation}, *inputs, invalid=invalid)


def test_equals_numpy(layer):
    (found,) = run(layer, (FEATURES, FRAME_MASK))
    *decoder, kernel = layer.get_weights()[:4]
    bias = layer.get_weights()[4] if layer.activation == "sigmoid" else 0.0
    for window, valid in enumerate(FRAME_MASK):
        frames = FEATURES[window] * valid[:, None, None, None]
        scores = transcriptions.lstm(frames, *decoder, product=transcriptions.convolve) @ kernel + bias
        scores = scores.reshape(4, 6)
        attention = 6 * softmax(scores, axis=1) if layer.activation == "softmax" else expit(scores)
        np.testing.assert_allclose(found[window].reshape(4, 6), attention * valid[:, None], atol=1e-5)


def test_attention_to_all_alike_is_1():
    layer = SpatiotemporalAttention(3)
    (found,) = run(layer, (np.zeros((1, 2, 3, 2, 5), "float32"),))
    np.testing.assert_allclose(found, 1, atol=1e-6)


@pytest.mark.parametrize("garbage", [0.0, 1e30])
def test_what_masked_frames_hold_changes_nothing(layer, garbage):
    (expected,) = run(layer, (FEATURES, FRAME_MASK))
    other = np.where(FRAME_MASK[..., None, None, None], FEATURES, np.float32(garbage))
    longer = np.pad(other, ((0, 0), (0, 2), (0, 0), (0, 0), (0, 0)), constant_values=garbage)
    (found,) = run(layer, (longer, np.pad(FRAME_MASK, ((0, 0), (0, 2)))))
    np.testing.assert_allclose(found[:, :4], expected, atol=1e-6)
    np.testing.assert_array_equal(found[:, 4:], 0)
    np.testing.assert_array_equal(found[:, :4][~FRAME_MASK], 0)


def test_a_frame_does_not_see_those_after_it_but_those_before(layer):
    (whole,) = run(layer, (FEATURES,))
    np.testing.assert_allclose(run(layer, (FEATURES[:, :2],))[0], whole[:, :2], atol=1e-6)
    assert np.abs(run(layer, (FEATURES[:, 2:],))[0] - whole[:, 2:]).max() > 1e-3


def test_gradient_is_finite_and_leaves_out_masked_frames(layer):
    features = np.where(FRAME_MASK[..., None, None, None], FEATURES, 1e30)
    weighting = RANDOM.normal(size=(3, 4, 3, 2)).astype("float32")
    slope = gradient(lambda x: ops.sum(layer(x, FRAME_MASK) * weighting), features)
    assert np.isfinite(slope).all()
    assert (slope[~FRAME_MASK] == 0).all() and (slope[FRAME_MASK] != 0).any()


def test_attention_is_float32_under_mixed_precision_and_the_decoder_is_not():
    layer = SpatiotemporalAttention(3, dtype="mixed_float16")
    assert keras.backend.standardize_dtype(layer(FEATURES).dtype) == "float32"
    assert layer.decoder.compute_dtype == "float16"

import keras
import numpy as np
import pytest

from affect.layers import AttentionPooling, AverageLocationPooling
from tests.contracts import check_layer, run

FEATURES = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")


def test_contract():
    check_layer(AverageLocationPooling, {}, FEATURES)


def test_equals_numpy():
    pooled = run(AverageLocationPooling(), (FEATURES,))[0]
    np.testing.assert_allclose(pooled, np.float64(FEATURES).mean(2), atol=1e-6)


def test_it_is_attention_that_prefers_nothing():
    attention = AttentionPooling(kernel_initializer="zeros")
    np.testing.assert_allclose(run(AverageLocationPooling(), (FEATURES,)), run(attention, (FEATURES,)), atol=1e-6)


def test_frames_and_clips_do_not_see_each_other():
    pooled = run(AverageLocationPooling(), (FEATURES,))[0]
    turned = run(AverageLocationPooling(), (FEATURES[::-1, ::-1],))[0]
    np.testing.assert_allclose(turned, pooled[::-1, ::-1], atol=1e-6)


def test_half_precision_is_averaged_in_float32():
    features = np.full((1, 1, 4, 1), 60000.0, "float16")  # their sum is infinite in float16
    pooled = AverageLocationPooling(dtype="mixed_float16")(features)
    assert keras.backend.standardize_dtype(pooled.dtype) == "float16"
    np.testing.assert_array_equal(np.array(pooled, "float32"), features[:, :, 0])


def test_wrong_rank():
    with pytest.raises(ValueError, match="expected ndim=4, found ndim=3"):
        AverageLocationPooling()(FEATURES[0])

import json
import re

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.regularizers import AttentionDiversity
from tests.contracts import gradient

APART = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]  # AAᵀ = I
SAME = [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]  # AAᵀ - I = [[0, 1], [1, 0]], norm √2


def penalty(attention, frame_mask=None, **kwargs):
    return float(AttentionDiversity(**kwargs)(np.array(attention, "float32"), frame_mask))


def test_by_hand():
    assert penalty([[APART]]) == 0
    np.testing.assert_allclose(penalty([[SAME]]), np.sqrt(2), rtol=1e-6)
    np.testing.assert_allclose(penalty([[SAME]], strength=0.1), 0.1 * np.sqrt(2), rtol=1e-6)
    np.testing.assert_allclose(penalty([[SAME]], strength=0.1, squared=True), 0.2, rtol=1e-6)
    np.testing.assert_allclose(penalty([[[[0.25] * 4]]]), 0.75, rtol=1e-6)  # one head: |4/16 - 1|


def test_mean_over_the_valid_frames_of_the_batch():
    attention = [[SAME, APART, SAME], [SAME, APART, SAME]]
    frame_mask = np.array([[True, True, False], [True, False, False]])
    np.testing.assert_allclose(penalty(attention), np.sqrt(2) * 4 / 6, rtol=1e-6)
    np.testing.assert_allclose(penalty(attention, frame_mask), np.sqrt(2) * 2 / 3, rtol=1e-6)
    assert penalty(attention, np.zeros((2, 3), "bool")) == 0


@pytest.mark.parametrize("shape", [(3,), (2, 1), (1, 3)])
def test_a_mask_is_of_each_frame(shape):
    with pytest.raises(ValueError, match=re.escape(f"frame_mask of shape {shape}")):
        penalty([[SAME] * 3] * 2, np.ones(shape, bool))


@settings(deadline=None, max_examples=20, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 4), st.booleans())
def test_equals_the_equation(seed, heads, locations, squared):
    random = np.random.default_rng(seed)
    attention = random.dirichlet(np.ones(locations), size=(2, 3, heads))
    frame_mask = random.random((2, 3)) < 0.7
    norms = [np.linalg.norm(a @ a.T - np.eye(heads)) for a in attention[frame_mask]]
    expected = np.mean(np.square(norms) if squared else norms) if norms else 0
    np.testing.assert_allclose(penalty(attention, frame_mask, squared=squared), expected, atol=1e-6)


@pytest.mark.parametrize("squared", [False, True])
def test_gradient_is_finite_at_the_minimum_and_without_frames(squared):
    regularizer = AttentionDiversity(squared=squared)
    np.testing.assert_array_equal(gradient(regularizer, [[APART]]), np.zeros((1, 1, 2, 3)))
    masked = gradient(lambda x: regularizer(x, np.array([[True, False]])), [[APART, SAME]])
    np.testing.assert_array_equal(masked, np.zeros((1, 2, 2, 3)))
    assert (gradient(regularizer, [[SAME, APART]])[0, 0] != 0).any()


def test_gradient_by_hand():
    # One head on one location with weight w: |w² - 1|, whose slope at w = 1/2 is -2w = -1.
    np.testing.assert_allclose(gradient(AttentionDiversity(3.0), [[[[0.5]]]]), [[[[-3.0]]]], rtol=1e-6)


def test_half_precision_is_computed_in_float32():
    attention = np.full((1, 1, 1, 4), 0.25, "float16")
    loss = AttentionDiversity()(attention)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    assert float(loss) == 0.75


def test_config_survives_json_and_needs_no_custom_objects():
    config = keras.regularizers.serialize(AttentionDiversity(0.1, squared=True))
    loaded = keras.regularizers.get(json.loads(json.dumps(config)))
    assert type(loaded) is AttentionDiversity
    assert loaded.get_config() == {"strength": 0.1, "squared": True}
    assert config["registered_name"] == "affect>AttentionDiversity"


@pytest.mark.parametrize("strength", [-0.1, float("inf"), float("nan")])
def test_invalid_strength(strength):
    with pytest.raises(ValueError, match=f"Received: strength={strength}"):
        AttentionDiversity(strength)

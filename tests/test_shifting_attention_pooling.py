import keras
import numpy as np
import pytest
from keras import ops

from affect.layers import AttentionPooling, ShiftingAttentionPooling
from affect.regularizers import AttentionDiversity
from tests.contracts import (
    check_config,
    check_mixed_precision,
    check_refusals,
    check_saving,
    check_shapes,
    gradient,
    run,
)

FEATURES = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")
FRAME_MASK = np.array([[True, True, False], [False, False, False]])
ARGUMENTS = {
    "heads": 2,
    "hidden_units": 3,
    "diversity_regularizer": AttentionDiversity(0.5),
    "use_bias": True,
    "shift_initializer": keras.initializers.RandomNormal(stddev=2**-0.25),
}


def make(scale, offset):
    """Returns a layer with these scalars of its heads, and `AttentionPooling` with the same attention."""
    plain = AttentionPooling(heads=len(scale), hidden_units=3)
    layer = ShiftingAttentionPooling(heads=len(scale), hidden_units=3)
    for each in (plain, layer):
        each.build(FEATURES.shape)
    layer.set_weights([*plain.get_weights(), np.reshape(scale, (-1, 1)), np.reshape(offset, (-1, 1))])
    return layer, plain


def pool(layer, features=FEATURES):
    return run(layer, (features,), {"return_attention": True})


@pytest.mark.parametrize(
    "init_kwargs, inputs, attention", [({}, (FEATURES,), False), (ARGUMENTS, (FEATURES, FRAME_MASK), True)]
)
def test_contract(init_kwargs, inputs, attention):
    # Not `check_training`: its loss is the length of the output, which is always 1.
    case = (ShiftingAttentionPooling, init_kwargs, *inputs)
    for check in (check_config, check_shapes, check_saving, check_mixed_precision):
        check(*case, call_kwargs={"return_attention": attention})
    check_refusals(ShiftingAttentionPooling, [({"heads": 0}, "Received: heads=0")])


def test_by_hand():
    # One location, so v is that location for both heads: (3, 4), and (0, 1) when 3 is taken off.
    layer = ShiftingAttentionPooling(heads=2)
    layer.build((None, None, None, 2))
    layer.set_weights([np.zeros((2, 2)), np.array([[2.0], [1.0]]), np.array([[0.0], [-3.0]])])
    pooled = pool(layer, np.array([[[[3.0, 4.0]]]]))[0]
    np.testing.assert_allclose(pooled, [[np.array([0.6, 0.8, 0, 1]) / np.sqrt(2)]], atol=1e-6)


def test_equals_numpy():
    scale, offset = np.array([1.5, -0.5]), np.array([0.2, 0.7])
    layer, plain = make(scale, offset)
    pooled, attention = pool(layer)
    plain_pooled, plain_attention = pool(plain)
    shifted = np.float64(plain_pooled).reshape(2, 3, 2, 5) * scale[:, None] + offset[:, None]
    expected = shifted / (np.sqrt(2) * np.linalg.norm(shifted, axis=-1, keepdims=True))
    np.testing.assert_allclose(pooled, expected.reshape(2, 3, 10), atol=1e-6)
    np.testing.assert_array_equal(attention, plain_attention)
    np.testing.assert_allclose(np.linalg.norm(pooled, axis=-1), 1, atol=1e-6)


def test_penalty_is_that_of_the_attention():
    layer = ShiftingAttentionPooling(**ARGUMENTS)
    _, attention = layer(FEATURES, FRAME_MASK, return_attention=True)
    expected = ARGUMENTS["diversity_regularizer"](attention, FRAME_MASK)
    np.testing.assert_allclose(np.array(layer.losses[0]), np.array(expected), rtol=1e-6)


@pytest.mark.parametrize("garbage", [1e3, -1e30])
def test_what_other_frames_hold_changes_nothing(garbage):
    layer, _ = make([1.5, -0.5], [0.2, 0.7])
    padded = np.pad(FEATURES, ((0, 0), (0, 2), (0, 0), (0, 0)), constant_values=garbage)
    outputs = pool(layer, padded)
    for output, expected in zip(outputs, pool(layer), strict=True):
        assert np.isfinite(output).all()
        np.testing.assert_allclose(output[:, :3], expected, atol=1e-6)
    np.testing.assert_allclose(pool(layer, FEATURES[:, ::-1])[0], pool(layer)[0][:, ::-1], atol=1e-6)


def test_a_head_of_zeros_stays_zeros_with_a_finite_gradient():
    layer, _ = make([1.0, 1.0], [0.0, 0.0])
    features = FEATURES.copy()
    features[0, 0] = 0
    np.testing.assert_array_equal(pool(layer, features)[0][0, 0], 0)
    slope = gradient(lambda x: ops.sum(layer(x)), features)
    assert np.isfinite(slope).all() and (slope[0, 0] != 0).all()


def test_a_step_moves_every_weight():
    layer, _ = make([1.5, -0.5], [0.2, 0.7])
    model = keras.Sequential([keras.Input((3, 4, 5)), layer, keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    before = [np.array(weight) for weight in layer.trainable_weights]
    model.fit(FEATURES, np.ones((2, 3, 1)), verbose=0)
    assert len(before) == 4
    for old, new in zip(before, layer.trainable_weights, strict=True):
        assert np.isfinite(np.array(new)).all() and (old != np.array(new)).any()

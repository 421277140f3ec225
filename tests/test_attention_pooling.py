import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.layers import AttentionPooling
from affect.regularizers import AttentionDiversity
from tests.contracts import check_layer, run

LAW = settings(deadline=None, max_examples=10, derandomize=True)
ALL_ARGUMENTS = {
    "heads": 2,
    "hidden_units": 3,
    "diversity_regularizer": AttentionDiversity(0.5),
    "kernel_initializer": "he_normal",
    "kernel_regularizer": keras.regularizers.L2(0.1),
}
FEATURES = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")
FRAME_MASK = np.array([[True, True, False], [False, False, False]])


def softmax(x):
    exp = np.exp(x)
    return exp / exp.sum(-1, keepdims=True)


def reference(features, kernels):
    """Eq. 3, 4 and 2 for one frame, in float64; `kernels` are (W_s1ᵀ, W_s2ᵀ) or (Wᵀ,)."""
    features, *kernels = (np.float64(x) for x in (features, *kernels))
    if len(kernels) == 2:
        attention = softmax(kernels[1].T @ np.tanh(kernels[0].T @ features.T))
    else:
        attention = softmax(np.tanh(kernels[0].T @ features.T))
    return (attention @ features).reshape(-1), attention  # (N*D), (N, L)


def with_weights(layer, *weights):
    layer.build((None, None, None, len(weights[0])))
    layer.set_weights([np.array(x, "float32") for x in weights])
    return layer


@st.composite
def cases(draw):
    """Weights of one or two layers, and features (B, F, L, D) for them."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape, kernels = draw(st.sampled_from([((1, 1, 6, 2), [(2, 1)]), ((2, 3, 4, 5), [(5, 4), (4, 3)])]))
    return [random.normal(size=kernel) for kernel in kernels], random.normal(size=shape).astype("float32")


def make(weights):
    hidden_units = len(weights[-1]) if len(weights) == 2 else None
    heads = weights[-1].shape[1]
    return with_weights(AttentionPooling(heads, hidden_units, AttentionDiversity()), *weights)


def pool(layer, *inputs):
    return run(layer, inputs, {"return_attention": True})


@pytest.mark.parametrize(
    "init_kwargs, inputs, return_attention",
    [
        ({}, (FEATURES,), False),
        ({"heads": 3, "hidden_units": 4}, (FEATURES, FRAME_MASK), True),
        ({"hidden_units": 4, "use_bias": True, "bias_initializer": "ones"}, (FEATURES, FRAME_MASK), True),
        (ALL_ARGUMENTS, (FEATURES, FRAME_MASK), False),
    ],
    ids=["one layer", "two layers", "with a bias", "all arguments"],
)
def test_contract(init_kwargs, inputs, return_attention):
    check_layer(
        AttentionPooling,
        init_kwargs,
        *inputs,
        call_kwargs={"return_attention": return_attention},
        invalid=[
            ({"heads": 0}, "Received: heads=0"),
            ({"heads": 1.5}, "Received: heads=1.5"),
            ({"hidden_units": 0}, "Received: hidden_units=0"),
            ({"use_bias": True}, "Received: use_bias=True, hidden_units=None"),
        ],
    )


def test_one_layer_by_hand():
    # Scores tanh(0) = 0 and tanh(atanh(log 2)) = log 2: weights 1 and 2 of 3.
    layer = with_weights(AttentionPooling(), [[1.0], [0.0]])
    pooled, attention = pool(layer, np.array([[[[0, 30], [np.arctanh(np.log(2)), 60]]]]))
    np.testing.assert_allclose(attention, [[[[1 / 3, 2 / 3]]]], atol=1e-6)
    np.testing.assert_allclose(pooled[0, 0, 1], 50, rtol=1e-6)


def test_two_layers_by_hand():
    # Hidden values tanh(0) = 0 and tanh(1); scores 0 and log 3 for head 0, 0 and 0 for head 1.
    layer = with_weights(AttentionPooling(2, hidden_units=1), [[1.0]], [[np.log(3) / np.tanh(1), 0]])
    pooled, attention = pool(layer, np.array([[[[0.0], [1.0]]]]))
    np.testing.assert_allclose(attention, [[[[0.25, 0.75], [0.5, 0.5]]]], atol=1e-6)
    np.testing.assert_allclose(pooled, [[[0.75, 0.5]]], atol=1e-6)  # head after head


def test_two_layers_with_a_bias_by_hand():
    # Hidden values tanh(-1) and tanh(1), so the scores are log 3 apart.
    layer = AttentionPooling(1, hidden_units=1, use_bias=True)
    layer = with_weights(layer, [[2.0]], [-1.0], [[np.log(3) / (2 * np.tanh(1))]])
    pooled, attention = pool(layer, np.array([[[[0.0], [1.0]]]]))
    np.testing.assert_allclose(attention, [[[[0.25, 0.75]]]], atol=1e-6)
    np.testing.assert_allclose(pooled, [[[0.75]]], atol=1e-6)


@LAW
@given(cases())
def test_equals_the_equations(case):
    layer, features = make(case[0]), case[1]
    pooled, attention = pool(layer, features)
    for index in np.ndindex(features.shape[:2]):
        expected = reference(features[index], layer.get_weights())
        np.testing.assert_allclose(pooled[index], expected[0], atol=1e-6, rtol=1e-6)
        np.testing.assert_allclose(attention[index], expected[1], atol=1e-6, rtol=1e-6)


@LAW
@given(cases(), st.integers(0, 9))
def test_order_of_locations_permutes_the_attention_alone(case, seed):
    layer, features = make(case[0]), case[1]
    order = np.random.default_rng(seed).permutation(features.shape[2])
    pooled, attention = pool(layer, features)
    permuted = pool(layer, features[:, :, order])
    np.testing.assert_allclose(permuted[0], pooled, atol=1e-6)
    np.testing.assert_allclose(permuted[1], attention[..., order], atol=1e-6)


@LAW
@given(cases())
def test_frames_and_clips_do_not_see_each_other(case):
    layer, features = make(case[0]), case[1]
    outputs = pool(layer, features)
    backwards = pool(layer, features[:, ::-1])
    doubled = pool(layer, np.concatenate([features, features]))
    for output, reverse, double in zip(outputs, backwards, doubled, strict=True):
        np.testing.assert_allclose(reverse, output[:, ::-1], atol=1e-6)
        np.testing.assert_allclose(double, np.concatenate([output, output]), atol=1e-6)


@LAW
@given(cases(), st.sampled_from([0.0, 1e3, -1e30]))
def test_what_padded_frames_hold_changes_nothing(case, garbage):
    layer, features = make(case[0]), case[1]
    frames = features.shape[1]
    outputs = pool(layer, features)
    penalty = float(layer.losses[0])
    padded = np.pad(features, ((0, 0), (0, 2), (0, 0), (0, 0)), constant_values=garbage)
    frame_mask = np.arange(frames + 2)[None] < np.full((len(features), 1), frames)
    for output, expected in zip(pool(layer, padded, frame_mask), outputs, strict=True):
        assert np.isfinite(output).all()
        np.testing.assert_allclose(output[:, :frames], expected, atol=1e-6)
    np.testing.assert_allclose(float(layer.losses[0]), penalty, rtol=1e-5, atol=1e-6)


def test_equal_locations_are_averaged():
    pooled, attention = pool(AttentionPooling(2, hidden_units=3), np.full((1, 1, 4, 2), 7.0))
    np.testing.assert_allclose(attention, np.full((1, 1, 2, 4), 0.25), atol=1e-6)
    np.testing.assert_allclose(pooled, np.full((1, 1, 4), 7.0), rtol=1e-6)


def test_one_layer_stays_soft():
    # Scores of 1 and -1 are the most that tanh gives: e / (e + 48/e) of 49 locations.
    features = np.full((1, 1, 49, 1), -1e3)
    features[0, 0, 5] = 1e3
    attention = pool(with_weights(AttentionPooling(), [[1.0]]), features)[1]
    np.testing.assert_allclose(attention.max(), np.e / (np.e + 48 / np.e), rtol=1e-6)


def test_attention_is_float32_in_half_precision():
    layer = AttentionPooling(2, hidden_units=4, dtype="mixed_float16")
    pooled, attention = layer(FEATURES, return_attention=True)
    assert keras.backend.standardize_dtype(pooled.dtype) == "float16"
    assert keras.backend.standardize_dtype(attention.dtype) == "float32"
    np.testing.assert_allclose(np.sum(attention, -1), 1, atol=1e-6)


def test_penalty_counts_in_fit_and_evaluate():
    # Zero weights give uniform attention over 4 locations: AAᵀ = 1/4 everywhere, so for 2 heads
    # ‖AAᵀ - I‖² = 2 (3/4)² + 2 (1/4)² = 5/4. The predictions are 0, as are the targets: no other loss.
    features = keras.Input((None, 4, 5))
    frame_mask = keras.Input((None,), dtype="bool")
    pooling = AttentionPooling(2, kernel_initializer="zeros", diversity_regularizer=AttentionDiversity(3.0))
    outputs = keras.layers.Dense(1, kernel_initializer="zeros")(pooling(features, frame_mask=frame_mask))
    model = keras.Model([features, frame_mask], outputs)
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss="mse", jit_compile=False)
    data = [FEATURES, FRAME_MASK], np.zeros((2, 3, 1))
    expected = 3 * np.sqrt(5 / 4)
    np.testing.assert_allclose(model.fit(*data, verbose=0).history["loss"], expected, rtol=1e-6)
    np.testing.assert_allclose(model.evaluate(*data, verbose=0), expected, rtol=1e-6)


def test_wrong_inputs():
    with pytest.raises(ValueError, match="expected ndim=4, found ndim=3"):
        AttentionPooling()(FEATURES[0])
    layer = with_weights(AttentionPooling(), np.ones((5, 1)))
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 5"):
        layer(FEATURES[..., :4])

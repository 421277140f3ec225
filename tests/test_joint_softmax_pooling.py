import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from affect.layers import JointSoftmaxPooling
from tests.contracts import check_layer, gradient, run

LAW = settings(deadline=None, max_examples=12, derandomize=True)


def pool(frame_logits, frame_mask=None):
    """(logits, frame_importance, frame_probabilities) as arrays."""
    inputs = (frame_logits,) if frame_mask is None else (frame_logits, frame_mask)
    return run(JointSoftmaxPooling(), inputs, {"return_importance": True})


def reference(frame_logits, frame_mask):
    """Eq. 5 and 6 for one clip, in float64, on the valid frames alone."""
    weights = np.exp(np.float64(frame_logits)) * frame_mask[:, None]
    joint = weights / weights.sum()
    return np.log(weights.sum(0)), joint.sum(1), joint


@st.composite
def clips(draw, batch=2, classes=3):
    """Frame logits (B, F, E) and a mask (B, F) that leaves each clip at least one frame."""
    frames = draw(st.sampled_from([1, 3]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    frame_logits = random.normal(scale=draw(st.sampled_from([0.1, 3.0])), size=(batch, frames, classes))
    frame_mask = random.random((batch, frames)) < 0.6
    frame_mask[np.arange(batch), random.integers(frames, size=batch)] = True
    return frame_logits.astype("float32"), frame_mask


FRAME_LOGITS = np.random.default_rng(0).normal(size=(3, 4, 5)).astype("float32")
FRAME_MASK = np.array([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]], "bool")


@pytest.mark.parametrize(
    "inputs, return_importance",
    [((FRAME_LOGITS,), False), ((FRAME_LOGITS, FRAME_MASK), True)],
    ids=["all frames", "masked"],
)
def test_contract(inputs, return_importance):
    check_layer(JointSoftmaxPooling, {}, *inputs, call_kwargs={"return_importance": return_importance})


def test_by_hand():
    # Weights exp(o): frame 0 (1, 2), frame 1 (4, 3). They sum to 10, the frames to 3 and 7, the classes to 5.
    frame_logits = np.log([[[1.0, 2.0], [4.0, 3.0]]])
    logits, importance, joint = pool(frame_logits)
    np.testing.assert_allclose(np.exp(logits), [[5, 5]], rtol=1e-6)
    np.testing.assert_allclose(importance, [[0.3, 0.7]], rtol=1e-6)
    np.testing.assert_allclose(joint, [[[0.1, 0.2], [0.4, 0.3]]], rtol=1e-6)

    logits, importance, joint = pool(frame_logits, np.array([[False, True]]))
    np.testing.assert_allclose(np.exp(logits), [[4, 3]], rtol=1e-6)
    np.testing.assert_allclose(importance, [[0, 1]], rtol=1e-6)
    np.testing.assert_allclose(joint, [[[0, 0], [4 / 7, 3 / 7]]], rtol=1e-6)


@LAW
@given(clips())
def test_equals_the_equations(clip):
    frame_logits, frame_mask = clip
    for index, outputs in enumerate(zip(*pool(*clip), strict=True)):
        for output, expected in zip(outputs, reference(frame_logits[index], frame_mask[index]), strict=True):
            np.testing.assert_allclose(output, expected, atol=1e-6, rtol=1e-6)


@LAW
@given(clips())
def test_marginals(clip):
    logits, importance, joint = pool(*clip)
    np.testing.assert_allclose(joint.sum(1), ops.softmax(logits), atol=1e-6)
    np.testing.assert_allclose(joint.sum(2), importance, atol=1e-6)
    np.testing.assert_allclose(importance.sum(1), 1, atol=1e-6)
    assert (importance[~clip[1]] == 0).all()


@LAW
@given(clips(), st.sampled_from([0.0, 60.0, -60.0, 1e30, -1e30]))
def test_what_padded_frames_hold_changes_nothing(clip, garbage):
    frame_logits, frame_mask = clip
    padded = np.where(frame_mask[..., None], frame_logits, np.float32(garbage))
    padded = np.pad(padded, ((0, 0), (0, 2), (0, 0)), constant_values=garbage)
    outputs = pool(padded, np.pad(frame_mask, ((0, 0), (0, 2))))
    logits, importance, joint = pool(*clip)
    expected = logits, np.pad(importance, ((0, 0), (0, 2))), np.pad(joint, ((0, 0), (0, 2), (0, 0)))
    for output, array in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(output, array, atol=1e-6)


@LAW
@given(clips(), st.randoms(use_true_random=False))
def test_order_of_frames_permutes_the_importance_alone(clip, random):
    frame_logits, frame_mask = clip
    order = random.sample(range(frame_logits.shape[1]), frame_logits.shape[1])
    logits, importance, joint = pool(*clip)
    outputs = pool(frame_logits[:, order], frame_mask[:, order])
    for output, array in zip(outputs, (logits, importance[:, order], joint[:, order]), strict=True):
        np.testing.assert_allclose(output, array, atol=1e-6)


@LAW
@given(clips())
def test_clips_of_a_batch_do_not_see_each_other(clip):
    for output, array in zip(pool(*(np.concatenate([x, x]) for x in clip)), pool(*clip), strict=True):
        np.testing.assert_allclose(output, np.concatenate([array, array]), atol=1e-6)


@LAW
@given(clips())
def test_showing_a_clip_twice_shifts_all_logits_by_log_2(clip):
    twice, importance, _ = pool(*(np.concatenate([x, x], axis=1) for x in clip))
    logits, once, _ = pool(*clip)
    np.testing.assert_allclose(twice, logits + np.log(2), atol=1e-6)
    np.testing.assert_allclose(importance, np.concatenate([once, once], axis=1) / 2, atol=1e-6)


@LAW
@given(clips())
def test_stream_equals_offline(clip):
    frame_logits, frame_mask = clip
    running = np.where(frame_mask[:, 0, None], frame_logits[:, 0], -np.inf)  # logsumexp of nothing
    layer = JointSoftmaxPooling()
    for frame in range(1, frame_logits.shape[1]):
        state = np.stack([running, frame_logits[:, frame]], axis=1)
        seen = np.stack([np.isfinite(running[:, 0]), frame_mask[:, frame]], axis=1)
        pooled = run(layer, (np.where(np.isfinite(state), state, 0).astype("float32"), seen))[0]
        running = np.where(seen.any(1)[:, None], pooled, -np.inf)
    np.testing.assert_allclose(running, pool(*clip)[0], atol=1e-5)


def test_clip_without_a_valid_frame():
    frame_logits = np.full((1, 3, 2), 1e30, "float32")
    for output in pool(frame_logits, np.zeros((1, 3), "bool")):
        np.testing.assert_array_equal(output, np.zeros_like(output))


@pytest.mark.parametrize("scale", [1e2, 1e4, 1e30])
@pytest.mark.parametrize("sign", [-1, 1])
def test_large_logits_stay_finite(scale, sign):
    frame_logits = np.array([[[1, 0.5], [0.5, 1], [0, 0]]], "float32") * scale * sign
    logits, importance, _ = pool(frame_logits, np.array([[True, True, False]]))
    best = scale if sign > 0 else -0.5 * scale
    np.testing.assert_allclose(logits, [[best, best]], rtol=1e-6)
    np.testing.assert_allclose(importance, [[0.5, 0.5, 0]], rtol=1e-6)


def test_gradient_is_the_share_of_each_frame_in_its_class():
    # d logsumexp_f(o_cf) / d o_cf = softmax over the frames; ties must not halve it.
    frame_logits = np.array([[[0.0, 1.0], [0.0, 3.0], [9.0, 9.0]], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
    frame_mask = np.array([[True, True, False], [False, False, False]])
    layer = JointSoftmaxPooling()
    slope = gradient(lambda x: ops.sum(layer(x, frame_mask)), frame_logits)
    low = 1 / (1 + np.exp(2))
    np.testing.assert_allclose(slope[0], [[0.5, low], [0.5, 1 - low], [0, 0]], atol=1e-6)
    np.testing.assert_array_equal(slope[1], np.zeros((3, 2)))


def test_gradient_of_the_loss_is_finite_with_garbage_in_masked_frames():
    frame_logits = np.array([[[1.0, 2.0], [1e30, -1e30]], [[1e30, 0.0], [0.0, -1e30]]])
    frame_mask = np.array([[True, False], [False, False]])

    def loss(x):
        logits, importance, joint = JointSoftmaxPooling()(x, frame_mask, return_importance=True)
        entropy = keras.losses.sparse_categorical_crossentropy(np.array([1, 1]), logits, from_logits=True)
        return ops.sum(entropy) + ops.sum(ops.square(importance)) + ops.sum(ops.square(joint))

    slope = gradient(loss, frame_logits)
    assert np.isfinite(slope).all()
    assert (slope[~frame_mask] == 0).all() and (slope[0, 0] != 0).all()


def test_half_precision_inputs_are_pooled_in_float32():
    frame_logits = np.array([[[300.0, 0.0]] * 4096], "float16")  # a plain float16 sum would lose log 4096
    logits = JointSoftmaxPooling(dtype="mixed_float16")(frame_logits)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    np.testing.assert_allclose(logits, [[300 + np.log(4096), np.log(4096)]], rtol=1e-6)


def test_float32_logits_are_not_cast_down_under_mixed_precision():
    frame_logits = np.array([[[1e5, 1e5 + 1]]], "float32")  # both infinite in float16
    np.testing.assert_array_equal(JointSoftmaxPooling(dtype="mixed_float16")(frame_logits), frame_logits[:, 0])


def test_wrong_rank():
    with pytest.raises(ValueError, match="expected ndim=3, found ndim=2"):
        JointSoftmaxPooling()(np.zeros((2, 7)))

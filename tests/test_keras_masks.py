"""Keras's masks work as `frame_mask` does; these tests hold on the TensorFlow and the JAX backend."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

from affect.layers import (
    AttentionPooling,
    AverageLocationPooling,
    AverageScorePooling,
    JointSoftmaxPooling,
    LastFramePooling,
    LSTMPooling,
    MaskFrames,
    MaxScorePooling,
    ShiftingAttentionPooling,
    SpatiotemporalAttention,
    StatisticsPooling,
)
from affect.regularizers import AttentionDiversity
from tests.contracts import arrays

MASK = np.array([[True, True, False, True, False], [True, False, False, False, False]])
OVER_TIME = {
    "joint_softmax": JointSoftmaxPooling,
    "average": AverageScorePooling,
    "max": MaxScorePooling,
    "statistics": StatisticsPooling,
    "last_frame": LastFramePooling,
    "lstm": lambda: LSTMPooling(3),
}
OVER_SPACE = {
    "attention": lambda: AttentionPooling(2, 3, diversity_regularizer=AttentionDiversity(1.0)),
    "shift": lambda: ShiftingAttentionPooling(2),
}
VECTORS = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")
MAPS = np.random.default_rng(1).normal(size=(2, 5, 6, 4)).astype("float32")
each_over_time = pytest.mark.parametrize("make", OVER_TIME.values(), ids=OVER_TIME)
LAYERS = {
    **{name: (make, VECTORS) for name, make in OVER_TIME.items()},
    **{name: (make, MAPS) for name, make in OVER_SPACE.items()},
    "spatiotemporal": (lambda: SpatiotemporalAttention(2), MAPS.reshape(2, 5, 2, 3, 4)),
}
each_layer = pytest.mark.parametrize(("make", "frames"), LAYERS.values(), ids=LAYERS)


@each_layer
def test_mask_is_another_name_of_frame_mask(make, frames):
    layer = make()
    expected = arrays(layer(frames, frame_mask=MASK))
    for found in (layer(frames, mask=MASK), layer(frames, frame_mask=MASK | ~MASK, mask=MASK)):
        for ours, theirs in zip(arrays(found), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert not np.allclose(arrays(layer(frames))[0], expected[0])


@each_layer
def test_masked_frames_may_hold_nan(make, frames):
    """In outputs and in gradients, above all the penalty of attention."""
    layer, exists = make(), MASK.reshape(2, 5, *[1] * (frames.ndim - 2))
    expected = arrays(layer(frames, frame_mask=MASK))
    spoilt = np.where(exists, frames, np.float32("nan"))
    for ours, theirs in zip(arrays(layer(spoilt, frame_mask=MASK)), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    inputs, mask = keras.Input(frames.shape[1:]), keras.Input((5,), dtype="bool")
    model = keras.Model([inputs, mask], keras.layers.Dense(1)(layers.Flatten()(layer(inputs, frame_mask=mask))))
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=keras.backend.backend() == "jax")
    assert np.isfinite(model.train_on_batch([spoilt, MASK], np.ones((2, 1))))
    assert all(np.isfinite(value).all() for value in model.get_weights())


@each_over_time
def test_masking_below_a_layer_masks_its_frames(make):
    layer, marked = make(), np.where(MASK[..., None], VECTORS, np.float32(-9))
    expected = arrays(layer(VECTORS, frame_mask=MASK))
    inputs = keras.Input((None, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Keras warns where a mask is lost
        x = layers.Dropout(0.1)(layers.Masking(-9.0)(inputs))
        model = keras.Model(inputs, layer(x))
        found = arrays(model(marked))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("make", [*OVER_SPACE.values(), AverageLocationPooling], ids=[*OVER_SPACE, "average"])
def test_a_mask_goes_through_a_pooling_of_locations(make):
    """A mask of frames that an earlier layer attached reaches the layer that pools them."""

    class Attach(keras.Layer):
        def call(self, inputs):
            return inputs

        def compute_mask(self, inputs, previous_mask):
            return ops.any(inputs != -9, axis=(-2, -1))

    pooling, marked = make(), np.where(MASK[..., None, None], MAPS, np.float32(-9))
    expected = arrays(AverageScorePooling()(pooling(MAPS), frame_mask=MASK))[0]
    inputs = keras.Input(MAPS.shape[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = keras.Model(inputs, AverageScorePooling()(pooling(Attach()(inputs))))
        found = arrays(model(marked))[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_model_with_masking_saves_and_loads(tmp_path):
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, JointSoftmaxPooling()(layers.Masking(-9.0)(inputs)))
    model.save(tmp_path / "model.keras")
    marked = np.where(MASK[..., None], VECTORS, np.float32(-9))
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(arrays(loaded(marked))[0], arrays(model(marked))[0])


@each_layer
@pytest.mark.parametrize("name", ["frame_mask", "mask"])
def test_other_masks_are_refused_in_one_line(make, frames, name):
    for mask, said in (
        (MASK.astype("float32"), "Expected bool, .* Received: frame_mask of dtype 'float32'"),
        (MASK.astype("int32"), "Received: frame_mask of dtype 'int32'"),
        (MASK[:, :4], r"Received: frame_mask of shape \(2, 4\)"),
        (np.repeat(MASK[..., None], 6, axis=-1), r"Received: frame_mask of shape \(2, 5, 6\)"),
    ):
        for inputs in ((frames, mask), [keras.Input(batch_shape=x.shape, dtype=x.dtype.name) for x in (frames, mask)]):
            with pytest.raises(ValueError, match=said):
                make()(inputs[0], **{name: inputs[1]})


def test_a_float_mask_of_frames_that_are_only_masked_is_refused():
    with pytest.raises(ValueError, match="frame_mask of dtype 'float32'"):
        MaskFrames()(VECTORS, MASK.astype("float32"))


@pytest.mark.parametrize("make", [*OVER_SPACE.values(), AverageLocationPooling], ids=[*OVER_SPACE, "average"])
def test_maps_of_images_are_refused_in_place_of_locations(make):
    """(B, 7, 7, D) has as many axes as (B, F, L, D)."""
    said = r"reshape maps to \(B, F, h\*w, D\).* Received: features of shape \(.*, 7, 7, 4\)"
    with pytest.raises(ValueError, match=said):
        make()(keras.Input((7, 7, 4)))
    assert make()(keras.Input((7, 7, 4)), mask=keras.Input((7,), dtype="bool")).shape[:2] == (None, 7)
    clips = keras.Input((None, 7, 4))
    model = keras.Model(clips, make()(clips))
    assert model(np.ones((3, 7, 7, 4), "float32")).shape[:2] == (3, 7)  # seven frames of seven locations
    with pytest.raises(ValueError, match="expected ndim=4, found ndim=5"):
        make()(np.ones((2, 3, 7, 7, 4), "float32"))


def test_values_are_shown_as_python_writes_them():
    with pytest.raises(ValueError, match="Received: heads='2'$"):
        AttentionPooling(heads="2")
    with pytest.raises(ValueError, match="Received: units='3'$"):
        LSTMPooling("3")
    with pytest.raises(ValueError, match="Received: kernel_size='3'$"):
        SpatiotemporalAttention(kernel_size="3")

"""Layers as TFLite with builtin operators alone.

Every pooling converts with batch and frames dynamic but one: LSTMPooling needs a static batch, for its loop over frames
keeps a list of states whose shape the converter wants to know. Its frames may be dynamic.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from affect.layers import (
    SPATIAL_POOLINGS,
    TEMPORAL_POOLINGS,
    AttentionPooling,
    JointSoftmaxPooling,
    MergeFrames,
    SplitFrames,
)
from affect.regularizers import AttentionDiversity

OUTPUTS = ("logits", "frame_importance", "frame_probabilities", "attention")


def small_model(batch, frames):
    """Every layer of the project's frame road, on 8x8 faces."""
    faces = keras.Input(batch_shape=(batch, frames, 8, 8, 3))
    frame_mask = keras.Input(batch_shape=(batch, frames), dtype="bool")
    maps = keras.layers.Conv2D(6, 3, strides=2)(MergeFrames()(faces))
    features = SplitFrames()(keras.layers.Reshape((9, 6))(maps), frame_mask)
    pooling = AttentionPooling(2, hidden_units=4, diversity_regularizer=AttentionDiversity())
    pooled, attention = pooling(features, frame_mask=frame_mask, return_attention=True)
    frame_logits = keras.layers.Dense(7)(pooled)
    clip = JointSoftmaxPooling()(frame_logits, frame_mask=frame_mask, return_importance=True)
    return keras.Model([faces, frame_mask], [*clip, attention])


def converted(model, names, folder):
    """Returns a runner of the TFLite model; its inputs are called faces and frame_mask, its outputs by `names`."""
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serving_default",
        lambda faces, frame_mask: dict(zip(names, keras.tree.flatten(model([faces, frame_mask])), strict=True)),
        [
            tf.TensorSpec(model.inputs[0].shape, tf.float32, name="faces"),
            tf.TensorSpec(model.inputs[1].shape, tf.bool, name="frame_mask"),
        ],
    )
    archive.write_out(str(folder), verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]  # anything else is an error
    return Interpreter(model_content=converter.convert()).get_signature_runner("serving_default")


@pytest.mark.parametrize("static", [True, False], ids=["static", "dynamic"])
def test_builtin_operators_alone_give_the_same_numbers(static, tmp_path):
    random = np.random.default_rng(0)
    faces = random.random((2, 3, 8, 8, 3)).astype("float32")
    frame_mask = np.array([[True, True, False], [False, False, False]])
    model = small_model(2, 3) if static else small_model(None, None)

    runner = converted(model, OUTPUTS, tmp_path)
    outputs = runner(faces=faces, frame_mask=frame_mask)
    for name, expected in zip(OUTPUTS, model([faces, frame_mask]), strict=True):
        np.testing.assert_allclose(outputs[name], expected, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(outputs["frame_importance"][1], np.zeros(3))


@pytest.mark.parametrize("name", sorted(TEMPORAL_POOLINGS))
def test_temporal_poolings(name, tmp_path):
    pooling = TEMPORAL_POOLINGS[name]
    batch = 3 if name == "lstm" else None
    x = keras.Input(batch_shape=(batch, None, 5))
    frame_mask = keras.Input(batch_shape=(batch, None), dtype="bool")
    detail = {"return_importance": True} if pooling.pools == "scores" else {"return_frames": True}
    model = keras.Model([x, frame_mask], pooling()(x, frame_mask=frame_mask, **detail))
    check(model, np.random.default_rng(0).normal(size=(3, 4, 5)), tmp_path)


@pytest.mark.parametrize("name", sorted(SPATIAL_POOLINGS))
def test_spatial_poolings(name, tmp_path):
    pooling = SPATIAL_POOLINGS[name]
    x = keras.Input(batch_shape=(None, None, 6, 5))
    frame_mask = keras.Input(batch_shape=(None, None), dtype="bool")
    if pooling.has_attention:
        outputs = pooling(heads=2, hidden_units=3)(x, frame_mask=frame_mask, return_attention=True)
    else:
        outputs = [pooling()(x)]
    check(keras.Model([x, frame_mask], outputs), np.random.default_rng(0).normal(size=(3, 4, 6, 5)), tmp_path)


def check(model, values, folder):
    """The model gives the same numbers in TFLite, for a clip with a gap, an empty one and a padded one."""
    values = values.astype("float32")
    frame_mask = np.array([[True, False, True, True], [False] * 4, [True, True, False, False]])
    expected = keras.tree.flatten(model([values, frame_mask]))
    names = [f"output_{index}" for index in range(len(expected))]
    outputs = converted(model, names, folder)(faces=values, frame_mask=frame_mask)
    for name, array in zip(names, expected, strict=True):
        np.testing.assert_allclose(outputs[name], array, atol=1e-5, rtol=0)

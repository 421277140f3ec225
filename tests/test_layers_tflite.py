import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from affect.layers import AttentionPooling, JointSoftmaxPooling, MergeFrames, SplitFrames
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


@pytest.mark.parametrize("static", [True, False], ids=["static", "dynamic"])
def test_builtin_operators_alone_give_the_same_numbers(static, tmp_path):
    random = np.random.default_rng(0)
    faces = random.random((2, 3, 8, 8, 3)).astype("float32")
    frame_mask = np.array([[True, True, False], [False, False, False]])
    model = small_model(2, 3) if static else small_model(None, None)

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serving_default",
        lambda faces, frame_mask: dict(zip(OUTPUTS, model([faces, frame_mask]), strict=True)),
        [
            tf.TensorSpec(model.inputs[0].shape, tf.float32, name="faces"),
            tf.TensorSpec(model.inputs[1].shape, tf.bool, name="frame_mask"),
        ],
    )
    archive.write_out(str(tmp_path), verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]  # anything else is an error
    runner = Interpreter(model_content=converter.convert()).get_signature_runner("serving_default")

    outputs = runner(faces=faces, frame_mask=frame_mask)
    for name, expected in zip(OUTPUTS, model([faces, frame_mask]), strict=True):
        np.testing.assert_allclose(outputs[name], expected, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(outputs["frame_importance"][1], np.zeros(3))

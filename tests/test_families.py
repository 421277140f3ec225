"""Backbones of Keras Applications from a config to TFLite and back; and a user's own model with our layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from tensorflow.lite.python.convert import ConverterError

import affect
from affect.config import Data, Experiment, FrameClassifier, Train
from affect.errors import InputError
from affect.layers import LSTMPooling
from affect.reading.run import load_trained
from affect.serving.convert import convert, fix_batch
from affect.serving.export import export
from affect.training.train import train

SIZES = {"face_size": 32, "output_stride": 8, "heads": 1, "hidden_units": 4}
FAMILIES = ["MobileNetV3Small", "EfficientNetV2B0", "ResNet50", "ConvNeXtTiny"]


@pytest.mark.parametrize("name", [FAMILIES[0], *(pytest.param(name, marks=pytest.mark.large) for name in FAMILIES[1:])])
def test_a_family_goes_from_config_to_tflite_and_back(name, shards, tmp_path):
    keras.utils.set_random_seed(1)
    start = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(32, 32, 3))
    for weight in start.weights if name == FAMILIES[0] else ():
        if "kernel" in weight.name:
            weight.assign(3 * weight)  # else its random weights make all faces alike
    start.save_weights(tmp_path / "start.weights.h5")
    experiment = Experiment(
        name=name,
        model=FrameClassifier(f"applications/{name}", str(tmp_path / "start.weights.h5"), **SIZES),
        data=Data(batch_clips=3, frames=2, eval_frames=2, selection_ratio=0.0),
        train=Train(epochs=1, trainable="last 1 block", backbone_learning_rate=1e-4, head_learning_rate=0.01),
    )
    train(experiment, data=shards, workdir=tmp_path / "run", progress=False)
    export(tmp_path / "run", tmp_path / "model")
    report = convert(tmp_path / "model" / "1", tmp_path / "model.tflite", to="float32")
    assert report["agreement"]["labels"] == 1.0
    trained, phone = load_trained(tmp_path / "run"), affect.load(tmp_path / "model.tflite")
    faces = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32, 3), dtype=np.uint8)
    clip = {"faces": faces, "frame_mask": np.array([[True, True, False]])}
    expected, found = trained.respond(clip), phone.signature("serving_default")(clip)
    other = phone.signature("serving_default")(clip | {"faces": faces // 4})
    compared = [key for key, value in found.items() if value.dtype.kind == "f"]
    assert max(np.abs(found[key] - other[key]).max() for key in compared) > 1e-3  # else anything would agree
    for key in compared:
        np.testing.assert_allclose(found[key], expected[key], atol=1e-5)


def own_model():
    """A user's network, which has of ours one layer."""
    frames = keras.Input((None, 6), name="frames")
    x = keras.layers.Dense(5, activation="tanh")(frames)
    return keras.Model(frames, keras.layers.Dense(2)(LSTMPooling(3)(x)))


def to_tflite(folder):
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter.convert()


def test_a_model_of_ones_own_with_an_lstm_converts(tmp_path):
    model = own_model()
    model.export(tmp_path / "own", verbose=False)
    with pytest.raises(ConverterError, match="TensorListReserve"):
        to_tflite(tmp_path / "own")
    assert "While" in "".join(fix_batch(tmp_path / "own", tmp_path / "one"))
    interpreter = Interpreter(model_content=to_tflite(tmp_path / "one"))
    run = interpreter.get_signature_runner("serving_default")
    (name,) = run.get_input_details()
    for frames in (4, 7):
        clip = np.random.default_rng(frames).normal(size=(1, frames, 6)).astype("float32")
        (found,) = run(**{name: clip}).values()
        np.testing.assert_allclose(found, keras.ops.convert_to_numpy(model(clip)), atol=1e-6)


def test_what_is_no_saved_model_is_named(tmp_path):
    with pytest.raises(InputError, match=r"is no SavedModel \("):
        fix_batch(tmp_path, tmp_path / "out")

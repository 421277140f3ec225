"""Paper B's network as TFLite: with batch and frames static, builtin operators alone give the same numbers."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from affect.data.lgbp import FEATURES
from affect.models.video_networks import build_video_regressor, detail_regressor
from tests.video_rows import INPUTS, ROWS

ALL = ROWS | {"lgbp_bilstm": replace(ROWS["cnn_bilstm"], features="lgbp_top")}


@pytest.mark.parametrize("name", ALL)
def test_builtin_operators_alone_give_the_same_numbers(name, tmp_path):
    keras.utils.set_random_seed(1)
    network = detail_regressor(build_video_regressor(ALL[name]))
    given, _ = network.input
    features = np.random.default_rng(0).normal(size=(2, 5, FEATURES)).astype("float32")
    inputs = {given: (INPUTS | {"features": features})[given], "frame_mask": INPUTS["frame_mask"]}
    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint(
        "serving_default",
        lambda x, frame_mask: network({given: x, "frame_mask": frame_mask}),
        [tf.TensorSpec(value.shape, value.dtype, name=key) for key, value in inputs.items()],
    )
    archive.write_out(str(tmp_path), verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]  # anything else is an error
    runner = Interpreter(model_content=converter.convert()).get_signature_runner("serving_default")
    outputs, expected = runner(**inputs), network(inputs)
    assert set(outputs) == set(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(outputs[key], value, atol=1e-5, rtol=0)

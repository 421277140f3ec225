"""Tiny models, one of each kind that can be exported, for the tests of what is made of them."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from affect.config import Data, Experiment, Faces, FrameClassifier, VideoClassifier, VideoRegressor
from affect.data.labels import DIMENSIONS
from affect.layers import PixelScaling
from affect.models.backbones import BACKBONES
from affect.reading.run import Trained, load_trained
from affect.tasks import TASKS
from affect.tasks.postprocessing import Postprocessing

CLASSES = ("angry", "happy", "sad")
FACES = Faces(face_size=48)
TINY = FrameClassifier(backbone="tiny", weights=None, heads=2, hidden_units=5, lstm_units=6)
SIZES = {"face_size": 32, "blocks": 2, "filters": 3, "attention_filters": 2, "recurrent_units": 4, "hidden_units": 6}
REGRESSION = VideoRegressor(temporal="lstm", **SIZES)
MODELS = {
    "joint_softmax": TINY,
    "average": replace(TINY, temporal_pooling="average", spatial_pooling=None),
    "max": replace(TINY, temporal_pooling="max", spatial_pooling="shift"),
    "lstm": replace(TINY, temporal_pooling="lstm"),
    "statistics": replace(TINY, temporal_pooling="statistics", spatial_pooling="average"),
    "regression": replace(REGRESSION, predicts="end", spatial_pooling="attention", pooling_units=5),
    "regression_sta": replace(REGRESSION, temporal="conv3d", attention="softmax"),
    "video_sta": VideoClassifier(temporal="conv3d", attention="softmax", **SIZES),
}
POSTPROCESSING = {"valence": Postprocessing(median_s=1.2, scale=2.0), "arousal": Postprocessing(shift_s=-0.5)}
FER2013 = Path(__file__).parents[1] / "configs" / "fer2013.py"
SOURCES = {"licence": "none", "metrics": {}, "checkpoint_sha256": None, "trained_with": None, "weights_sha256": None}


def tiny(name):
    """Returns a `Trained`: of random weights, biases too, of a row of `MODELS`; or `mini_xception`, out of the box."""
    if name == "mini_xception":
        return load_trained(FER2013)
    config, classes = MODELS[name], CLASSES
    keras.utils.set_random_seed(3)
    with pytest.MonkeyPatch.context() as patch:
        row = replace(BACKBONES["mini_xception"], build=_backbone, build_head=_head, size=32)
        patch.setitem(BACKBONES, "tiny", row)
        if config.task == "regression":
            classes = DIMENSIONS
        elif config.spatial_pooling is None:
            classes = row.classes
        model = TASKS[config.task].build(config, classes)
    random = np.random.default_rng(3)
    for weight in model.weights:
        if weight.name == "bias":
            weight.assign(weight + random.uniform(-0.5, 0.5, weight.shape))
    fitted = POSTPROCESSING if config.task == "regression" else {}
    return Trained(model, Experiment(name, config, Data(crop_ratio=0.75)), classes, FACES, fitted)


def _backbone(face_size, output_stride, scaling):
    faces = keras.Input((face_size, face_size, 3), name="faces")
    x = PixelScaling(**scaling, name="pixel_scaling")(faces)
    x = keras.layers.Conv2D(8, 5, strides=output_stride // 2, activation="relu", name="block1_conv1")(x)
    return keras.Model(faces, x, name="backbone")


def _head():
    features = keras.Input((None, None, 8), name="local_features")
    x = keras.layers.GlobalAveragePooling2D(name="mean")(features)
    return keras.Model(features, keras.layers.Dense(7, name="scores")(x), name="head")

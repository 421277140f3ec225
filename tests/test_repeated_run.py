"""A run repeats from its own config.json, also where its backbone is known to its config alone."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from affect.config import Data, Experiment, FrameClassifier, Train, load_config, read_json
from affect.models.backbones import BACKBONES
from affect.reading.run import load_trained
from affect.training.train import train

CONFIG = """
import keras
from affect.config import Data, Experiment, FrameClassifier, Train
from affect.models.backbones import BACKBONES, Backbone

def build(face_size, output_stride, scaling):
    faces = keras.Input((face_size, face_size, 3), name="faces")
    x = keras.layers.Rescaling(1 / 255, name="scale")(faces)
    x = keras.layers.Conv2D(4, 3, strides=output_stride, activation="relu", name="block1_conv")(x)
    return keras.Model(faces, x, name="backbone")

BACKBONES["mine"] = Backbone(build=build, size=32, output_strides=(16,), scalings={"published": {}, "other": {}})
CONFIG = Experiment(
    name="mine",
    model=FrameClassifier("mine", None, input_scaling="other", heads=1, hidden_units=3),
    data=Data(batch_clips=2, frames=2, eval_frames=2, selection_ratio=0.0),
    train=Train(epochs=1, backbone_learning_rate=0.01, head_learning_rate=0.01, restart_epochs=1),
)
"""


def forget(name):
    BACKBONES.pop(name, None)


def run(config, shards, workdir):
    train(config, data=shards, workdir=workdir, progress=False)
    return load_trained(workdir)


def assert_same_weights(left, right):
    for one, other in zip(left.model.get_weights(), right.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.large)])
def test_a_run_with_a_row_of_its_config_repeats_without_that_config(precision, shards, tmp_path):
    (tmp_path / "mine.py").write_text(CONFIG)
    try:
        config = load_config(tmp_path / "mine.py", [f"train.precision={precision}"])
        first = run(config, shards, tmp_path / "first")
        train(config, data=shards, workdir=tmp_path / "first", progress=False)  # the same config resumes the run
    finally:
        forget("mine")
    recorded = read_json(tmp_path / "first" / "config.json")["experiment"]["model"]
    assert (recorded["backbone"], recorded["weights"], recorded["input_scaling"]) == (
        "backbone.keras",
        "file",
        "published",
    )
    again = load_config(tmp_path / "first" / "config.json")
    assert again.model.backbone == str(tmp_path / "first" / "backbone.keras")
    assert_same_weights(run(again, shards, tmp_path / "second"), first)
    assert_same_weights(run(again, shards, tmp_path / "first"), first)
    third = load_config(tmp_path / "second" / "config.json")
    assert replace(third.model, backbone="") == replace(again.model, backbone="")


def test_a_run_with_a_backbone_in_a_file_repeats_where_that_file_is_gone(shards, tmp_path):
    images = keras.Input((32, 32, 3))
    path = tmp_path / "mine.keras"
    keras.Model(images, keras.layers.Conv2D(3, 5, strides=8)(images)).save(path)
    config = Experiment(
        name="file",
        model=FrameClassifier(str(path), "file", heads=1),
        data=Data(batch_clips=2, frames=2, selection_ratio=0.0),
        train=Train(epochs=1, backbone_learning_rate=1e-4, head_learning_rate=1e-3, restart_epochs=1),
    )
    first = run(config, shards, tmp_path / "first")
    assert "mine.keras" not in first.licence and "backbone.keras" in first.licence
    path.unlink()
    assert_same_weights(run(load_config(tmp_path / "first" / "config.json"), shards, tmp_path / "second"), first)

"""What of a backbone is trained, for families of Keras Applications; these tests hold on both backends."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops

from affect.config import Experiment, FrameClassifier, Train, from_json, to_json
from affect.errors import InputError
from affect.models.backbones import build_backbone
from affect.models.blocks import list_blocks, measure_strides
from affect.models.frame_classifier import build_frame_classifier
from affect.models.other_backbones import adopt

# Name → the smallest face, and layers with weights in each block.
FAMILIES = {
    "MobileNetV3Small": (32, [2, 8, 12, 40, 24]),
    "EfficientNetV2B0": (32, [4, 8, 10, 64, 64]),
    "ResNet50": (32, [2, 20, 26, 38, 20]),
    "ConvNeXtTiny": (32, [16, 16, 46, 17]),
}
slow = pytest.mark.large
each_family = pytest.mark.parametrize(
    "name", ["MobileNetV3Small", *(pytest.param(name, marks=slow) for name in [*FAMILIES][1:])]
)


def classifier(name, trainable, **changes):
    size, _ = FAMILIES[name]
    config = FrameClassifier(f"applications/{name}", None, face_size=size, output_stride=16, heads=1)
    train = Train(trainable=trainable)
    return build_frame_classifier(replace(config, **changes), ("happy", "sad"), train)


@each_family
def test_the_blocks_are_the_parts_between_halvings(name):
    size, expected = FAMILIES[name]
    backbone = build_backbone(f"applications/{name}", weights=None, face_size=size)
    blocks = list_blocks(backbone)
    assert [len(block) for block in blocks] == expected
    assert sum(expected) == len([layer for layer in backbone.layers if layer.weights])
    assert max(measure_strides(backbone).values()) == 32


@pytest.mark.parametrize(("name", "blocks"), [("vgg16", [2, 2, 3, 3, 3]), ("mini_xception", [4, 6, 6, 6, 6])])
def test_the_blocks_of_our_own_are_those_of_their_names(name, blocks):
    assert [len(block) for block in list_blocks(build_backbone(name, weights=None, face_size=32))] == blocks


@each_family
@pytest.mark.parametrize("trainable", ["head", "last 1 block", "all"])
def test_a_step_moves_what_is_trained_and_nothing_else(name, trainable):
    model = classifier(name, trainable)
    backbone = model.get_layer("backbone")
    blocks = list_blocks(backbone)
    learning = {"head": [], "last 1 block": blocks[-1:], "all": blocks}[trainable]
    expected = {weight.path for block in learning for layer in block for weight in layer.trainable_weights}
    assert {weight.path for weight in backbone.trainable_weights} == expected
    before = {weight.path: ops.convert_to_numpy(weight) for weight in model.weights}
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=keras.backend.backend() == "jax")
    faces = np.random.default_rng(0).integers(0, 256, (2, 2, 32, 32, 3), dtype=np.uint8)
    loss = model.train_on_batch({"faces": faces, "frame_mask": np.ones((2, 2), bool)}, np.eye(2))
    assert np.isfinite(loss)
    after = {weight.path: ops.convert_to_numpy(weight) for weight in model.weights}
    moved = {path for path in before if not np.array_equal(before[path], after[path])}
    frozen = {weight.path for weight in backbone.weights} - {
        weight.path for block in learning for layer in block for weight in layer.weights
    }
    assert not moved & frozen
    assert bool(moved & expected) == (trainable != "head")
    assert any("frame_logits" in path for path in moved)


def test_a_frozen_backbone_computes_as_in_evaluation():
    """Its features are computed once. So neither dropout nor batch normalisation may depend on training."""
    images = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(3, 3, strides=4)(images)
    own = keras.Model(images, keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(x)))
    faces = np.random.default_rng(0).integers(0, 256, (1, 2, 32, 32, 3), dtype=np.uint8)
    clip = {"faces": faces, "frame_mask": np.ones((1, 2), bool)}
    features = []
    for trainable in ("head", "all"):
        config = FrameClassifier("given", None, heads=1)
        model = build_frame_classifier(config, ("happy", "sad"), Train(trainable=trainable), backbone=own)
        local = keras.Model(model.input, model.get_layer("local_features").output)
        features += [ops.convert_to_numpy(local(clip, training=training)) for training in (True, False)]
    np.testing.assert_array_equal(features[0], features[1])
    assert not np.allclose(features[2], features[3])


def test_the_statistics_of_pixels_are_no_block():
    images = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(3, 3, strides=2)(keras.layers.Normalization(name="pixels")(images))
    backbone = adopt(keras.Model(images, x))
    assert backbone.get_layer("pixels").weights and len(list_blocks(backbone)) == 1


def test_more_blocks_than_there_are():
    with pytest.raises(InputError, match=r"has 4 blocks\. .* with N of 1 to 4\. Received: 'last 5 blocks'$"):
        classifier("MobileNetV3Small", "last 5 blocks")


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"backbone_learning_rate": 0.0, "frozen_blocks": 0}, {"trainable": "head", "backbone_learning_rate": 1e-5}),
        ({"backbone_learning_rate": 0.01, "frozen_blocks": 3}, {"trainable": "last 2 blocks"}),
        ({"backbone_learning_rate": 0.01, "frozen_blocks": 5}, {"trainable": "head"}),
        ({"backbone_learning_rate": 0.01, "frozen_blocks": 0}, {"trainable": "all", "backbone_learning_rate": 0.01}),
    ],
)
def test_a_run_of_before_is_read(before, now):
    written = to_json(Experiment("old", FrameClassifier("vgg16", None)))
    del written["train"]["trainable"]
    written["train"] |= before
    train = from_json(Experiment, written, "run").train
    assert {name: getattr(train, name) for name in now} == now

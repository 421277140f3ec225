"""The layers stay usable in networks of others: their backbones, backends, precisions, ragged data and tools."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from affect.layers import AttentionPooling, JointSoftmaxPooling, LSTMPooling, MergeFrames, SplitFrames

RANDOM = np.random.default_rng(0)
FACES = RANDOM.integers(0, 256, (2, 3, 32, 32, 3), dtype=np.uint8)
MASK = np.array([[True, True, True], [True, False, False]])
# A network of three layers that a user writes, on the backend that the environment names.
ON_BACKEND = """
import keras, numpy as np
from affect.layers import AttentionPooling, JointSoftmaxPooling
features, mask = keras.Input((None, 4, 6)), keras.Input((None,), dtype="bool")
pooled = AttentionPooling(2)(features, frame_mask=mask)
logits = JointSoftmaxPooling()(keras.layers.Dense(3)(pooled), frame_mask=mask)
model = keras.Model([features, mask], logits)
model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
x = np.random.default_rng(0).normal(size=(2, 5, 4, 6)).astype("float32")
x[1, 3:] = np.nan
loss = model.fit([x, np.array([[True] * 5, [True] * 3 + [False] * 2])], np.array([0, 2]), verbose=0).history["loss"]
print("BACKEND", keras.backend.backend(), np.isfinite(loss).all())
"""


def own_network(**options):
    """A user's network: a backbone of Keras Applications, and our layers above it."""
    faces, mask = keras.Input((None, 32, 32, 3)), keras.Input((None,), dtype="bool")
    backbone = keras.applications.MobileNetV2(
        include_top=False, weights=None, alpha=0.35, input_shape=(32, 32, 3), name="theirs"
    )
    backbone = keras.Model(backbone.input, backbone.get_layer("block_5_add").output)  # (B*F, 4, 4, 16)
    maps = backbone(keras.layers.Rescaling(1 / 127.5, -1)(MergeFrames()(faces)))
    features = SplitFrames()(keras.layers.Reshape((16, maps.shape[-1]))(maps), mask)
    pooled = AttentionPooling(2, 4, **options)(features, frame_mask=mask)
    logits = JointSoftmaxPooling()(keras.layers.Dense(3, name="scores")(pooled), frame_mask=mask)
    return keras.Model([faces, mask], logits)


def test_a_backbone_of_others_learns_below_our_layers():
    model = own_network()
    model.compile(keras.optimizers.SGD(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = [ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    assert np.isfinite(model.train_on_batch([FACES.astype("float32"), MASK], np.array([0, 2])))
    moved = [not np.array_equal(old, weight) for old, weight in zip(before, model.trainable_weights, strict=True)]
    assert np.mean(moved) > 0.9


# PyTorch is in no extra, so it takes part where somebody has installed it.
BACKENDS = ["tensorflow", "jax", *(["torch"] if importlib.util.find_spec("torch") else [])]


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_backend_that_is_installed(backend):
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", ON_BACKEND], env=environment, capture_output=True, text=True, check=False
    )
    assert f"BACKEND {backend} True" in done.stdout, done.stderr[-2000:]


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"])
def test_half_precision(policy):
    features = RANDOM.normal(size=(2, 3, 4, 6)).astype("float32")
    pooling, dense = AttentionPooling(2), keras.layers.Dense(3)
    expected = JointSoftmaxPooling()(dense(pooling(features, frame_mask=MASK)), frame_mask=MASK)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        halves = AttentionPooling(2), keras.layers.Dense(3)
        halves[1](halves[0](features, frame_mask=MASK))
        for half, whole in zip(halves, (pooling, dense), strict=True):
            half.set_weights(whole.get_weights())
        found = JointSoftmaxPooling()(halves[1](halves[0](features, frame_mask=MASK)), frame_mask=MASK)
    finally:
        keras.config.set_dtype_policy(before)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    np.testing.assert_allclose(found, expected, atol=0.1)


@pytest.mark.parametrize("make", [JointSoftmaxPooling, lambda: LSTMPooling(4)], ids=["joint_softmax", "lstm"])
def test_ragged_data(make):
    """tf.data gives clips of any length: what is padded in a ragged batch is what each clip gives alone."""
    clips, layer = [RANDOM.normal(size=(frames, 5)).astype("float32") for frames in (4, 1, 6)], make()
    ragged = tf.ragged.stack(clips)
    mask = tf.sequence_mask(ragged.row_lengths())
    found = layer(ragged.to_tensor(float("nan")), frame_mask=mask)
    expected = np.concatenate([layer(clip[None]) for clip in clips])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_quantising():
    """`quantize` makes int8 of the dense layers beside ours, and ours go on."""
    model = own_network()
    expected = model.predict_on_batch([FACES, MASK])
    model.quantize("int8")
    assert model.get_layer("scores").dtype_policy.quantization_mode == "int8"
    np.testing.assert_allclose(model.predict_on_batch([FACES, MASK]), expected, atol=0.05)


def test_keras_tuner(tmp_path):
    if importlib.util.find_spec("keras_tuner") is None:
        pytest.skip("keras-tuner is not installed: pip install 'affect[test-large]'")
    import keras_tuner

    def build(choices):
        frames = keras.Input((None, 4, 6))
        pooled = AttentionPooling(choices.Int("heads", 1, 2))(frames)
        model = keras.Model(frames, JointSoftmaxPooling()(keras.layers.Dense(2)(pooled)))
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    tuner = keras_tuner.RandomSearch(build, objective="loss", max_trials=2, seed=0, directory=tmp_path)
    tuner.search(RANDOM.normal(size=(2, 3, 4, 6)), np.array([0, 1]), epochs=1, verbose=0)
    assert tuner.get_best_hyperparameters()[0].get("heads") in (1, 2)

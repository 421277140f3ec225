"""The whole model, on random weights; these tests hold on the TensorFlow and the JAX backend."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import logsumexp, softmax

from affect.config import Model
from affect.errors import InputError
from affect.model import build_model, detailed, face_size_of

CLASSES = ("angry", "happy", "sad")
CONFIG = Model(backbone="mini_xception", weights=None, face_size=32, heads=2, hidden_units=5)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    return build_model(CONFIG, CLASSES)


@pytest.fixture(scope="module")
def network(model):
    return detailed(model)


@pytest.fixture(scope="module")
def inputs():
    faces = np.random.default_rng(2).integers(0, 256, (2, 4, 32, 32, 3), dtype=np.uint8)
    return {"faces": faces, "frame_mask": np.array([[True] * 4, [True, True, False, False]])}


def run(network, inputs):
    return {name: ops.convert_to_numpy(value) for name, value in network(inputs, training=False).items()}


def test_equals_a_numpy_transcription_from_the_local_features_on(model, network, inputs):
    outputs = run(network, inputs)
    features = keras.Model(model.input, model.get_layer("local_features").output)(inputs)
    features = ops.convert_to_numpy(features).astype(np.float64)  # (B, F, L, D)
    hidden, heads = (np.asarray(w, np.float64) for w in model.get_layer("spatial_pooling").get_weights())
    kernel, bias = (np.asarray(w, np.float64) for w in model.get_layer("frame_logits").get_weights())

    attention = softmax(np.swapaxes(np.tanh(features @ hidden) @ heads, -1, -2), axis=-1)  # eq. 4
    pooled = (attention @ features).reshape(2, 4, -1)  # eq. 2
    scores = pooled @ kernel + bias
    for clip, count in ((0, 4), (1, 2)):
        expected = softmax(logsumexp(scores[clip, :count], axis=0))  # eq. 5 and 6
        np.testing.assert_allclose(softmax(outputs["logits"][clip]), expected, atol=1e-5)
        importance = np.exp(logsumexp(scores[clip, :count], axis=1) - logsumexp(scores[clip, :count]))
        np.testing.assert_allclose(outputs["frame_importance"][clip, :count], importance, atol=1e-5)
    np.testing.assert_allclose(outputs["attention"], attention, atol=1e-5)


def test_what_stands_in_padding_changes_nothing(network, inputs):
    other = inputs["faces"].copy()
    other[1, 2:] = 255 - other[1, 2:]
    longer = {
        "faces": np.concatenate([other, other[:, :3]], axis=1),
        "frame_mask": np.pad(inputs["frame_mask"], ((0, 0), (0, 3))),
    }
    np.testing.assert_allclose(run(network, longer)["logits"], run(network, inputs)["logits"], atol=1e-5)


def test_frame_order_moves_importance_and_leaves_the_clip(network, inputs):
    order = [2, 0, 3, 1]
    turned = {name: value[:1, order] for name, value in inputs.items()}
    before, after = run(network, {name: value[:1] for name, value in inputs.items()}), run(network, turned)
    np.testing.assert_allclose(after["logits"], before["logits"], atol=1e-5)
    np.testing.assert_allclose(after["frame_importance"], before["frame_importance"][:, order], atol=1e-6)


def test_clips_of_a_batch_do_not_see_each_other(network, inputs):
    doubled = {name: np.concatenate([value, value[::-1]]) for name, value in inputs.items()}
    logits = run(network, doubled)["logits"]
    np.testing.assert_allclose(logits[:2], logits[:1:-1], atol=1e-5)
    np.testing.assert_allclose(logits[:2], run(network, inputs)["logits"], atol=1e-5)


def test_a_clip_without_frames_says_nothing(network, inputs):
    outputs = run(network, {"faces": inputs["faces"], "frame_mask": np.zeros((2, 4), bool)})
    np.testing.assert_array_equal(outputs["logits"], np.zeros((2, 3)))
    assert all(np.isfinite(value).all() for value in outputs.values())


def test_saved_model_needs_nothing_but_its_file(model, network, inputs, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    assert face_size_of(loaded) == 32
    before, after = run(network, inputs), run(detailed(loaded), inputs)
    assert set(before) == set(after) == {"logits", "frame_logits", "frame_importance", "attention"}
    for name in before:
        np.testing.assert_allclose(after[name], before[name], atol=1e-6)


@pytest.mark.parametrize(
    ("field", "value"),
    [("heads", 4), ("hidden_units", None), ("diversity", 0.0), ("dropout", 0.5), ("backbone", "vgg16")],
)
def test_every_choice_builds_and_takes_a_step(field, value, inputs):
    model = build_model(replace(CONFIG, **{field: value}), CLASSES)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss, jit_compile=keras.backend.backend() == "jax")
    before = [ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    assert np.isfinite(model.train_on_batch(inputs, np.array([0, 2])))
    moved = [
        not np.array_equal(a, ops.convert_to_numpy(b)) for a, b in zip(before, model.trainable_variables, strict=True)
    ]
    assert any(moved[: len(moved) // 2]), "the backbone did not learn"
    assert all(moved[-2:]), "the classifier did not learn"


def test_a_tiny_model_overfits_eight_clips():
    keras.utils.set_random_seed(3)
    random = np.random.default_rng(3)
    labels = np.arange(8) % 3
    faces = random.integers(0, 60, (8, 3, 32, 32, 3), dtype=np.uint8)
    for clip, label in enumerate(labels):
        faces[clip, clip % 3, :, 10 * label : 10 * label + 10] += 150  # one frame of three shows the class
    model = build_model(CONFIG, CLASSES)
    model.get_layer("backbone").trainable = False  # else its moving averages lag behind so few steps
    model.compile(
        keras.optimizers.Adam(0.02),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=keras.backend.backend() == "jax",
    )
    inputs = {"faces": faces, "frame_mask": np.ones((8, 3), bool)}
    model.fit(inputs, labels, batch_size=8, epochs=80, verbose=0)
    assert model.evaluate(inputs, labels, batch_size=8, verbose=0, return_dict=True)["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        (
            "spatial_pooling",
            "shift",
            r"Unknown `spatial_pooling`. Expected one of \['attention', None\]. Received: .*'shift'",
        ),
        ("temporal_pooling", "mean", r"Unknown `temporal_pooling`. Expected one of \['joint_softmax'\]"),
        ("backbone", "vgg19", "Unknown `backbone`"),
        ("spatial_pooling", None, r"The classes of mini_xception's own classifier are \('angry', 'disgust'"),
    ],
)
def test_names_that_do_not_exist(field, value, text):
    with pytest.raises(InputError, match=text):
        build_model(replace(CONFIG, **{field: value}), CLASSES)

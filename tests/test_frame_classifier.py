"""The whole model, on random weights; these tests hold on the TensorFlow and the JAX backend."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import logsumexp, softmax

from affect.config import FrameClassifier, load_config
from affect.errors import InputError
from affect.layers import SPATIAL_POOLINGS, TEMPORAL_POOLINGS
from affect.models.backbones import BACKBONES
from affect.models.frame_classifier import build_frame_classifier, detail_classifier, face_size_of
from tests.bundled import ROWS

CLASSES = ("angry", "happy", "sad")
CONFIG = FrameClassifier(backbone="mini_xception", weights=None, face_size=32, heads=2, hidden_units=5)
ROWS_OF_PAPER_A = [name for name in ROWS if name.startswith("paper_a_table")]


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    return build_frame_classifier(CONFIG, CLASSES)


@pytest.fixture(scope="module")
def network(model):
    return detail_classifier(model)


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
    assert (hidden.shape[1], heads.shape[1]) == (CONFIG.hidden_units, CONFIG.heads)
    kernel, bias = (np.asarray(w, np.float64) for w in model.get_layer("frame_logits").get_weights())

    attention = softmax(np.swapaxes(np.tanh(features @ hidden) @ heads, -1, -2), axis=-1)  # eq. 4
    pooled = (attention @ features).reshape(2, 4, -1)  # eq. 2
    scores = pooled @ kernel + bias
    for clip, count in ((0, 4), (1, 2)):
        expected = softmax(logsumexp(scores[clip, :count], axis=0))  # eq. 5 and 6
        np.testing.assert_allclose(softmax(outputs["logits"][clip]), expected, atol=1e-5)
        importance = np.exp(logsumexp(scores[clip, :count], axis=1) - logsumexp(scores[clip, :count]))
        np.testing.assert_allclose(outputs["frame_importance"][clip, :count], importance, atol=1e-5)
    seen = inputs["frame_mask"]
    np.testing.assert_allclose(outputs["attention"][seen], attention[seen], atol=1e-5)
    np.testing.assert_array_equal(outputs["attention"][~seen], 1 / 4)  # of masked frames, equal


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


def test_a_clip_without_frames_says_nothing_where_features_are_pooled(inputs):
    model = build_frame_classifier(replace(CONFIG, temporal_pooling="statistics"), CLASSES)
    model.get_layer("frame_logits").bias.assign([1.0, 2.0, 3.0])
    mask = np.array([[True] * 4, [False] * 4])
    logits = ops.convert_to_numpy(model(inputs | {"frame_mask": mask}, training=False))
    assert (logits[0] != 0).all() and (logits[1] == 0).all()


def test_saved_model_needs_nothing_but_its_file(model, network, inputs, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    assert face_size_of(loaded) == 32
    before, after = run(network, inputs), run(detail_classifier(loaded), inputs)
    assert set(before) == set(after) == {"logits", "frame_logits", "frame_importance", "attention"}
    for name in before:
        np.testing.assert_allclose(after[name], before[name], atol=1e-6)


@pytest.mark.parametrize(
    ("field", "value"),
    [("heads", 4), ("hidden_units", None), ("diversity", 0.0), ("dropout", 0.5), ("backbone", "vgg16")],
)
def test_every_choice_builds_and_takes_a_step(field, value, inputs):
    model = build_frame_classifier(replace(CONFIG, **{field: value}), CLASSES)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss, jit_compile=keras.backend.backend() == "jax")
    before = [ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    assert np.isfinite(model.train_on_batch(inputs, np.array([0, 2])))
    moved = [
        not np.array_equal(a, ops.convert_to_numpy(b)) for a, b in zip(before, model.trainable_variables, strict=True)
    ]
    assert any(moved[: len(moved) // 2]), "the backbone did not learn"
    assert all(moved[-2:]), "the classifier did not learn"


def small(config):
    """Returns a row's model on a small backbone; what makes it that row stays."""
    return replace(config, backbone="mini_xception", weights=None, face_size=32, hidden_units=5, lstm_units=6)


def variants():
    """Yields the models of paper A's tables, those that differ in λ alone once, and one of every other pooling."""
    found = {}
    for name in ROWS_OF_PAPER_A:
        config = small(load_config(name).model)
        found.setdefault((config.spatial_pooling, config.temporal_pooling, config.heads), (name, config))
    assert len(found) == 7  # of 11 rows
    yield from (pytest.param(config, id=name) for name, config in found.values())
    measured = {name for key in found for name in key[:2]}
    for name in sorted(SPATIAL_POOLINGS.keys() - measured):
        yield pytest.param(replace(CONFIG, spatial_pooling=name), id=name)
    for name in sorted(TEMPORAL_POOLINGS.keys() - measured):
        yield pytest.param(replace(CONFIG, temporal_pooling=name), id=name)


@pytest.mark.parametrize("config", variants())
def test_every_row_of_the_tables_learns_and_keeps_the_laws(config, inputs, tmp_path):
    keras.utils.set_random_seed(1)
    model = build_frame_classifier(config, CLASSES)
    model.get_layer("backbone").trainable = False  # its step is tested above
    before = [ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, jit_compile=False)
    assert np.isfinite(model.train_on_batch(inputs, np.array([0, 2])))
    for old, new in zip(before, model.trainable_variables, strict=True):
        new = ops.convert_to_numpy(new)
        assert np.isfinite(new).all()
        # A shifted head has length 1 whatever its scale, as long as its offset is 0.
        assert (old != new).any() or new.shape == (config.heads, 1)

    network = detail_classifier(model)
    outputs = run(network, inputs)
    shapes = {"logits": (2, 3), "frame_logits": (2, 4, 3), "frame_importance": (2, 4)}
    if SPATIAL_POOLINGS[config.spatial_pooling].has_attention:
        shapes["attention"] = (2, 4, config.heads, 4)
    assert {name: value.shape for name, value in outputs.items()} == shapes
    np.testing.assert_allclose(outputs["frame_importance"].sum(1), 1, atol=1e-6)
    np.testing.assert_array_equal(outputs["frame_importance"][1, 2:], 0)

    # One shape only, because JAX compiles each shape again. The tests of the layers vary it.
    other = np.where(inputs["frame_mask"][..., None, None, None], inputs["faces"], 255 - inputs["faces"])
    padded = run(network, {"faces": other, "frame_mask": inputs["frame_mask"]})
    np.testing.assert_allclose(padded["logits"], outputs["logits"], atol=1e-5)
    np.testing.assert_allclose(padded["frame_importance"], outputs["frame_importance"], atol=1e-6)
    alone = run(network, {"faces": other, "frame_mask": np.array([[True, False, False, False]] * 2)})
    np.testing.assert_allclose(alone["logits"], alone["frame_logits"][:, 0], atol=1e-5)  # a softmax of that frame
    empty = run(network, {"faces": other, "frame_mask": np.zeros((2, 4), bool)})
    np.testing.assert_array_equal(empty["logits"], 0)
    assert all(np.isfinite(value).all() for value in empty.values())

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    again = run(detail_classifier(loaded), inputs)
    assert set(again) == set(outputs)
    for name, value in outputs.items():
        np.testing.assert_allclose(again[name], value, atol=1e-6)


def step(model, inputs, labels):
    """Returns how far one step at rate 1 on the sum of the losses moves each weight: minus its gradient."""
    before = [np.array(ops.convert_to_numpy(weight)) for weight in model.trainable_weights]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    model.compile(keras.optimizers.SGD(1.0), loss, jit_compile=False)
    model.train_on_batch(inputs, labels)
    moved = [ops.convert_to_numpy(weight) - old for weight, old in zip(model.trainable_weights, before, strict=True)]
    for weight, old in zip(model.trainable_weights, before, strict=True):
        weight.assign(old)
    return moved


def test_the_frame_independent_loss_is_that_of_clips_of_one_frame(inputs):
    # Eq. 7, Σ_f -log p(y | X_f), needs no loss of its own: train on one frame of a clip at a time.
    keras.utils.set_random_seed(1)
    config = replace(CONFIG, diversity=0.0, temporal_pooling="average")
    model = build_frame_classifier(config, CLASSES)
    model.get_layer("backbone").trainable = False  # so that its batch normalisation does not join the frames
    clip = {name: value[:1] for name, value in inputs.items()}  # four frames of one clip of class 1
    whole = keras.Model(model.input, detail_classifier(model).output["frame_logits"])
    expected = step(whole, clip, np.ones((1, 4), "int32"))

    frames = [{name: value[:, index : index + 1] for name, value in clip.items()} for index in range(4)]
    apart = [step(model, frame, np.array([1])) for frame in frames]
    for total, *parts in zip(expected, *apart, strict=True):
        assert (np.abs(total) > 1e-4).any()
        np.testing.assert_allclose(np.sum(parts, axis=0), total, atol=1e-5)


def test_joint_softmax_of_one_frame_is_a_softmax(network, inputs):
    outputs = run(network, {name: value[:, :1] for name, value in inputs.items()})
    np.testing.assert_allclose(outputs["logits"], outputs["frame_logits"][:, 0], atol=1e-6)
    np.testing.assert_allclose(outputs["frame_importance"], np.ones((2, 1)), atol=1e-6)


def test_average_pooling_judges_a_clip_by_the_mean_of_its_frames_scores(inputs):
    outputs = run(
        detail_classifier(build_frame_classifier(replace(CONFIG, temporal_pooling="average"), CLASSES)), inputs
    )
    for clip, count in ((0, 4), (1, 2)):
        expected = outputs["frame_logits"][clip, :count].mean(0)
        np.testing.assert_allclose(outputs["logits"][clip], expected, atol=1e-6)


def test_lstm_model_equals_its_parts(inputs):
    model = build_frame_classifier(replace(CONFIG, temporal_pooling="lstm", lstm_units=6), CLASSES)
    outputs = run(detail_classifier(model), inputs)
    features = keras.Model(model.input, model.get_layer("spatial_pooling").output[0])(inputs, training=False)
    lstm = model.get_layer("temporal_pooling").lstm
    kernel, bias = (np.asarray(w, np.float64) for w in model.get_layer("frame_logits").get_weights())
    for clip, count in ((0, 4), (1, 2)):
        states = ops.convert_to_numpy(lstm(features[clip : clip + 1, :count]))[0]
        np.testing.assert_allclose(outputs["frame_logits"][clip, :count], states @ kernel + bias, atol=1e-5)
        np.testing.assert_allclose(outputs["logits"][clip], states[-1] @ kernel + bias, atol=1e-5)
        np.testing.assert_allclose(outputs["frame_importance"][clip, :count], 1 / count, atol=1e-6)


def test_a_tiny_model_overfits_eight_clips():
    keras.utils.set_random_seed(3)
    random = np.random.default_rng(3)
    labels = np.arange(8) % 3
    faces = random.integers(0, 60, (8, 3, 32, 32, 3), dtype=np.uint8)
    for clip, label in enumerate(labels):
        faces[clip, clip % 3, :, 10 * label : 10 * label + 10] += 150  # one frame of three shows the class
    model = build_frame_classifier(CONFIG, CLASSES)
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
            "mean",
            r"Unknown `spatial_pooling`. Expected one of \['attention', 'average', 'shift', None\]. Received: .*'mean'",
        ),
        (
            "temporal_pooling",
            "mean",
            r"Unknown `temporal_pooling`. Expected one of \['average', 'joint_softmax', 'lstm', ",
        ),
        ("backbone", "vgg19", "Unknown `backbone`"),
        ("spatial_pooling", None, r"The classes of mini_xception's own classifier are \('angry', 'disgust'"),
    ],
)
def test_names_that_do_not_exist(field, value, text):
    with pytest.raises(InputError, match=text):
        build_frame_classifier(replace(CONFIG, **{field: value}), CLASSES)


@pytest.mark.parametrize("temporal_pooling", ["lstm", "statistics"])
def test_a_published_classifier_leaves_no_features_to_pool(temporal_pooling):
    config = replace(CONFIG, spatial_pooling=None, temporal_pooling=temporal_pooling)
    text = r"gives scores, not features. Expected `temporal_pooling` to be one of \['average', 'joint_softmax', 'max'\]"
    with pytest.raises(InputError, match=text):
        build_frame_classifier(config, BACKBONES["mini_xception"].classes)


def test_an_lstm_has_units():
    with pytest.raises(InputError, match="model.lstm_units must lie in"):
        replace(CONFIG, lstm_units=0)

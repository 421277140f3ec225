"""Paper B's network and its rows, tiny and on random weights; these tests hold on both backends."""

from dataclasses import fields, replace

import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import expit, logsumexp, softmax

from affect.config import VideoClassifier, VideoNetwork
from affect.data.lgbp import FEATURES
from affect.layers import SPATIAL_POOLINGS, TEMPORAL_POOLINGS
from affect.losses import ConcordanceLoss
from affect.models.frame_classifier import detail_classifier
from affect.models.video_networks import build_video_classifier, build_video_regressor, detail_regressor
from tests.transcriptions import convolve, dense, lstm, max_pool, relu, rnn
from tests.video_rows import FACES, FRAME_MASK, INPUTS, ROWS, TINY

RANDOM = np.random.default_rng(0)
LAST = (4, 3)


@pytest.fixture(scope="module")
def models():
    found = {}
    for name, config in ROWS.items():
        keras.utils.set_random_seed(1)
        found[name] = build_video_regressor(config)
        for weight in found[name].weights:  # Biases begin at 0, which would hide what becomes of them.
            if weight.name in ("bias", "offset"):
                weight.assign(weight + RANDOM.uniform(0, 0.2, weight.shape))
    return found


def run(model, inputs):
    return {name: ops.convert_to_numpy(x) for name, x in detail_regressor(model)(inputs, training=False).items()}


def weights(model, name):
    return [np.asarray(weight, np.float64) for weight in model.get_layer(name).get_weights()]


def transcription(model, config, faces, valid):
    """One window in NumPy: valence and arousal (F, 2), and attention (F, h, w), of a pooling (F, N, L), or None."""
    pixels, attention = faces / 64 - 2, None
    valid = valid[:, None, None, None]

    def encoded():
        x = pixels
        for block in range(1, config.blocks + 1):
            x = max_pool(relu(convolve(x, *weights(model, f"encoder_conv{block}"))))
        return x * valid

    if config.temporal == "conv3d":
        x = pixels * valid
        for block in range(1, config.blocks + 1):
            x = max_pool(relu(convolve(x, *weights(model, f"cnn3d_conv{block}"))) * valid)
        if config.attention:
            kernel, recurrent, bias, *scores = weights(model, "attention")
            scores = dense(lstm(encoded(), kernel, recurrent, bias, product=convolve), *scores)[..., 0]
            attention = expit(scores)
            if config.attention == "softmax":
                attention = 16 * softmax(scores.reshape(5, 16), axis=1).reshape(5, 4, 4)
            attention = attention * valid[..., 0]
            x = attention[..., None] * x
        for block in range(1, config.attended_blocks + 1):
            x = relu(convolve(x, *weights(model, f"attended_conv{block}"))) * valid
    else:
        x = encoded()
    if config.spatial_pooling == "average":
        x = x.mean(axis=(1, 2))
    else:
        first, *others = weights(model, "spatial_pooling")
        locations = x.reshape(5, 16, -1)
        scores = np.tanh(locations @ first)
        if config.pooling_units:
            scores = scores @ others[0]
        attention = softmax(scores, axis=1).swapaxes(1, 2)
        x = attention @ locations  # (F, N, D)
        if config.spatial_pooling == "shift":
            scale, offset = others
            x = scale * x + offset
            x = x / (np.sqrt(config.heads) * np.linalg.norm(x, axis=2, keepdims=True))
        x = x.reshape(5, -1) * valid[:, :, 0, 0]
    return from_vectors(model, config, x, valid[:, 0, 0, 0]), attention


def from_vectors(model, config, x, valid):
    """What follows a window's vectors (F, D)."""
    if config.temporal == "rnn":
        x = rnn(x, *weights(model, "rnn"))
    if config.temporal == "lstm":
        x = lstm(x, *weights(model, "lstm"))
    if config.temporal == "bilstm":  # frames that are masked are skipped
        both, seen = weights(model, "bilstm"), x[valid]
        x = np.zeros((len(x), 2 * config.recurrent_units))
        x[valid] = np.concatenate([lstm(seen, *both[:3]), lstm(seen[::-1], *both[3:])[::-1]], axis=1)
    x = dense(relu(dense(x, *weights(model, "hidden"))), *weights(model, "dimensions"))
    return x * valid[:, None]


@pytest.mark.parametrize("name", ROWS)
def test_equals_a_numpy_transcription(models, name):
    config = ROWS[name]
    outputs = run(models[name], INPUTS)
    has_attention = config.attention or config.spatial_pooling != "average"
    assert set(outputs) == ({"dimensions", "attention"} if has_attention else {"dimensions"})
    assert outputs["dimensions"][0].std(axis=0).min() > 1e-4  # not a dead network
    for window in range(2):
        dimensions, attention = transcription(models[name], config, FACES[window], FRAME_MASK[window])
        np.testing.assert_allclose(outputs["dimensions"][window], dimensions, atol=1e-5)
        if has_attention:
            np.testing.assert_allclose(outputs["attention"][window], attention, atol=1e-5)


@pytest.mark.parametrize("name", ROWS)
def test_masks_batches_and_padding(models, name):
    model = models[name]
    expected = run(model, INPUTS)
    other = np.where(FRAME_MASK[..., None, None, None], FACES, 255 - FACES)
    twice = {
        "faces": np.concatenate([other, other[::-1]]),
        "frame_mask": np.concatenate([FRAME_MASK, FRAME_MASK[::-1]]),
    }
    padded = {"faces": np.pad(twice["faces"], ((0, 0), (0, 3), *[(0, 0)] * 3), constant_values=7)}
    padded["frame_mask"] = np.pad(twice["frame_mask"], ((0, 0), (0, 3)))
    for key, value in run(model, padded).items():
        np.testing.assert_allclose(value[:2, :5], expected[key], atol=1e-5)
        np.testing.assert_allclose(value[:1:-1, :5], expected[key], atol=1e-5)
        if key == "dimensions" or ROWS[name].attention:  # a spatial pooling's means nothing there
            np.testing.assert_array_equal(value[:, 5:], 0)
            np.testing.assert_array_equal(value[:2, :5][~FRAME_MASK], 0)
    nothing = run(model, INPUTS | {"frame_mask": np.zeros((2, 5), bool)})
    for key, value in nothing.items():
        if key == "dimensions" or ROWS[name].attention:
            np.testing.assert_array_equal(value, 0)


@pytest.mark.parametrize(
    ("name", "count", "learnt"),
    [
        ("cnn_lstm", 904, ["encoder_conv1", "encoder_conv2", "lstm", "hidden", "dimensions"]),
        (
            "sta",
            3042,
            ["cnn3d_conv1", "encoder_conv1", "encoder_conv2", "cnn3d_conv2", "attention", "attended_conv1", "hidden"]
            + ["dimensions"],
        ),
    ],
)
def test_the_average_is_the_network_of_before_there_were_poolings(models, name, count, learnt):
    assert models[name].count_params() == count
    assert [layer.name for layer in models[name].layers if layer.weights] == learnt


def test_of_two_attentions_the_spatiotemporal_one_is_given():
    both = replace(ROWS["sta"], spatial_pooling="attention")
    assert detail_regressor(build_video_regressor(both)).output["attention"].shape == (None, None, 4, 4)
    assert detail_classifier(video_model(both, "max")).output["attention"].shape == (None, None, 1, 16)


def test_attention_of_a_pooling_has_its_penalty(models):
    config, model = ROWS["cnn_lstm_attention"], models["cnn_lstm_attention"]
    attention = run(model, INPUTS)["attention"].astype(np.float64)
    assert attention.shape == (2, 5, 2, 16)
    np.testing.assert_allclose(attention.sum(axis=-1), 1, atol=1e-5)
    losses = []
    for strength in (config.diversity, 0.0):
        compiled = build_video_regressor(replace(config, diversity=strength))
        compiled.set_weights(model.get_weights())
        compiled.compile(loss=ConcordanceLoss(0.5), jit_compile=False)
        labels = np.zeros((2, 5, 2), np.float32)
        losses.append(compiled.test_on_batch(INPUTS, labels, sample_weight=FRAME_MASK.astype("float32")))
    norms = np.linalg.norm(attention @ attention.swapaxes(-1, -2) - np.eye(2), axis=(-2, -1))
    np.testing.assert_allclose(losses[0] - losses[1], 0.1 * norms[FRAME_MASK].mean(), rtol=1e-4)


@pytest.mark.parametrize("name", ROWS)
def test_only_the_2d_cnn_takes_each_frame_alone(models, name):
    changed = FACES.copy()
    changed[:, 0] = 255 - changed[:, 0]
    before, after = (run(models[name], INPUTS | {"faces": faces})["dimensions"] for faces in (FACES, changed))
    assert np.abs(after - before)[:, 0].max() > 1e-4
    assert (np.abs(after - before)[0, 1].max() > 1e-6) == (name != "cnn")


@pytest.mark.parametrize("name", ["cnn", "cnn_lstm", "sta"])
def test_the_end_is_the_last_frame_with_a_face(models, name):
    model = build_video_regressor(replace(ROWS[name], predicts="end"))
    model.set_weights(models[name].get_weights())
    frames, end = run(models[name], INPUTS)["dimensions"], run(model, INPUTS)["dimensions"]
    np.testing.assert_allclose(end, [frames[window, last] for window, last in enumerate(LAST)], atol=1e-6)
    nothing = run(model, INPUTS | {"frame_mask": np.zeros((2, 5), bool)})
    np.testing.assert_array_equal(nothing["dimensions"], np.zeros((2, 2)))


@pytest.mark.parametrize("name", ROWS)
def test_every_weight_learns_and_the_file_is_enough(name, tmp_path):
    keras.utils.set_random_seed(1)
    model = build_video_regressor(replace(ROWS[name], dropout=0.0))
    labels = RANDOM.uniform(-1, 1, (2, 5, 2)).astype("float32")
    before = [ops.convert_to_numpy(weight).copy() for weight in model.trainable_weights]
    model.compile(keras.optimizers.SGD(0.5), ConcordanceLoss(0.5), jit_compile=False)
    for _ in range(2):  # The hidden layer's bias may leave a ReLU dead at first.
        assert np.isfinite(model.train_on_batch(INPUTS, labels, sample_weight=FRAME_MASK.astype("float32")))
    for old, weight in zip(before, model.trainable_weights, strict=True):
        new = ops.convert_to_numpy(weight)
        assert np.isfinite(new).all()
        assert (old != new).any(), weight.path

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    before, after = run(model, INPUTS), run(loaded, INPUTS)
    assert set(before) == set(after)
    for key, value in before.items():
        np.testing.assert_allclose(after[key], value, atol=1e-6)


@pytest.mark.parametrize("temporal", [None, "lstm", "bilstm"])
def test_features_in_place_of_faces(temporal, tmp_path):
    keras.utils.set_random_seed(1)
    config = replace(TINY, features="lgbp_top", temporal=temporal, dropout=0.0)
    model = build_video_regressor(config)
    assert {name: (x.dtype, tuple(x.shape)) for name, x in model.input.items()} == {
        "features": ("float32", (None, None, FEATURES)),
        "frame_mask": ("bool", (None, None)),
    }
    features = RANDOM.normal(3, 2, (2, 5, FEATURES)).astype("float32")
    inputs = {"features": features, "frame_mask": FRAME_MASK}
    model.compile(keras.optimizers.SGD(0.05), ConcordanceLoss(0.5), jit_compile=False)
    before = [ops.convert_to_numpy(weight).copy() for weight in model.trainable_weights]
    for _ in range(2):
        model.train_on_batch(inputs, RANDOM.uniform(-1, 1, (2, 5, 2)), sample_weight=FRAME_MASK.astype("float32"))
    for old, weight in zip(before, model.trainable_weights, strict=True):
        assert (old != ops.convert_to_numpy(weight)).any(), weight.path

    mean, variance = weights(model, "standardization")  # after two batches of momentum 0.99, which began at 0 and 1
    seen, stays = features[FRAME_MASK], 0.99**2
    np.testing.assert_allclose(mean, (1 - stays) * seen.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(variance, stays + (1 - stays) * seen.var(axis=0), rtol=1e-4)

    found = run(model, inputs)["dimensions"]
    for window, valid in enumerate(FRAME_MASK):
        x = (features[window] - mean) / np.sqrt(variance + 1e-3) * valid[:, None]
        np.testing.assert_allclose(found[window], from_vectors(model, config, x, valid), atol=1e-5)
    padded = {"features": np.pad(features, ((0, 0), (0, 3), (0, 0)), constant_values=7)}
    padded["frame_mask"] = np.pad(FRAME_MASK, ((0, 0), (0, 3)))
    np.testing.assert_allclose(run(model, padded)["dimensions"][:, :5], found, atol=1e-5)

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_allclose(run(loaded, inputs)["dimensions"], found, atol=1e-6)


# Of each score pooling, clip logits from frame logits (F, E) of valid frames.
POOLED = {
    "joint_softmax": lambda scores: logsumexp(scores, axis=0),
    "average": lambda scores: scores.mean(axis=0),
    "max": lambda scores: scores.max(axis=0),
}


def test_configs_take_the_poolings_that_there_are():
    for name in SPATIAL_POOLINGS:
        assert replace(TINY, spatial_pooling=name).spatial_pooling == name
    for name, pooling in TEMPORAL_POOLINGS.items():
        assert (name in POOLED) == (pooling.pools == "scores")
    assert [VideoClassifier(None, temporal_pooling=name).temporal_pooling for name in POOLED] == list(POOLED)


def video_model(config, pooling, classes=("happy", "sad")):
    shared = {field.name: getattr(config, field.name) for field in fields(VideoNetwork)}
    return build_video_classifier(VideoClassifier(temporal_pooling=pooling, **shared | {"dropout": 0.0}), classes)


def explained(model, inputs):
    return {name: ops.convert_to_numpy(x) for name, x in detail_classifier(model)(inputs, training=False).items()}


@pytest.mark.parametrize(
    ("name", "pooling"), [("sta", "joint_softmax"), ("cnn_lstm_attention", "average"), ("cnn_bilstm", "max")]
)
def test_classes_are_pooled_from_what_dimensions_are_made_of(models, name, pooling):
    model = video_model(ROWS[name], pooling)
    model.set_weights(models[name].get_weights())  # two classes instead of two dimensions
    outputs = explained(model, INPUTS)
    assert ("attention" in outputs) == (name != "cnn_bilstm")
    for clip, valid in enumerate(FRAME_MASK):
        scores, attention = transcription(models[name], ROWS[name], FACES[clip], valid)
        np.testing.assert_allclose(outputs["frame_logits"][clip][valid], scores[valid], atol=1e-5)
        np.testing.assert_allclose(outputs["logits"][clip], POOLED[pooling](scores[valid]), atol=1e-5)
        np.testing.assert_allclose(outputs["frame_importance"][clip].sum(), 1, atol=1e-5)
        if attention is not None:
            heads = attention.reshape(5, -1, 16)  # spatiotemporal attention is one head
            np.testing.assert_allclose(outputs["attention"][clip][valid], heads[valid], atol=1e-5)

    # The pixels and the number of masked frames have no effect; a clip without a frame has no class.
    other = np.where(FRAME_MASK[..., None, None, None], FACES, 255 - FACES)
    padded = {"faces": np.pad(other, ((0, 0), (0, 3), *[(0, 0)] * 3), constant_values=7)}
    padded["frame_mask"] = np.pad(FRAME_MASK, ((0, 0), (0, 3)))
    found = explained(model, padded)
    np.testing.assert_allclose(found["logits"], outputs["logits"], atol=1e-5)
    np.testing.assert_allclose(found["frame_importance"][:, :5], outputs["frame_importance"], atol=1e-5)
    assert not found["frame_importance"][:, 5:].any()
    nothing = explained(model, INPUTS | {"frame_mask": np.zeros((2, 5), bool)})
    np.testing.assert_array_equal(nothing["logits"], np.zeros((2, 2)))
    np.testing.assert_array_equal(nothing["frame_importance"], np.zeros((2, 5)))


def test_every_weight_learns_of_classes_and_the_file_is_enough(tmp_path):
    keras.utils.set_random_seed(1)
    model = video_model(ROWS["cnn_lstm_attention"], "joint_softmax", ("angry", "happy", "sad"))
    before = [ops.convert_to_numpy(weight).copy() for weight in model.trainable_weights]
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.5), loss, jit_compile=False)
    for _ in range(2):
        assert np.isfinite(model.train_on_batch(INPUTS, np.eye(3)[[0, 2]]))
    for old, weight in zip(before, model.trainable_weights, strict=True):
        assert (old != ops.convert_to_numpy(weight)).any(), weight.path
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    before, after = explained(model, INPUTS), explained(loaded, INPUTS)
    assert set(before) == set(after)
    for key, value in before.items():
        np.testing.assert_allclose(after[key], value, atol=1e-6)


def test_mixed_precision_gives_about_the_same(models):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = build_video_regressor(ROWS["sta"])
    finally:
        keras.config.set_dtype_policy(policy)
    model.set_weights(models["sta"].get_weights())
    outputs, expected = run(model, INPUTS), run(models["sta"], INPUTS)
    for key, value in expected.items():
        assert outputs[key].dtype == "float32"
        np.testing.assert_allclose(outputs[key], value, atol=1e-2)


def test_a_tiny_network_follows_where_the_light_is():
    """Valence is a bright patch's height and arousal its brightness, seen in the frame itself."""
    keras.utils.set_random_seed(3)
    random = np.random.default_rng(3)
    faces, labels = random.integers(0, 40, (6, 2, 16, 16, 3), dtype=np.uint8), np.zeros((6, 2, 2))
    for window, frame in np.ndindex(6, 2):
        top, light = random.integers(0, 13), random.integers(80, 200)
        faces[window, frame, top : top + 4, 6:10] += light.astype(np.uint8)
        labels[window, frame] = 1 - top / 6, light / 100 - 1.4
    config = replace(ROWS["sta"], filters=6, attention_filters=4, hidden_units=16, dropout=0.0)
    model = build_video_regressor(config)
    model.compile(keras.optimizers.Adam(0.02), ConcordanceLoss(0.5), jit_compile=keras.backend.backend() == "jax")
    inputs = {"faces": faces, "frame_mask": np.ones((6, 2), bool)}
    losses = [float(model.train_on_batch(inputs, labels)) for _ in range(40)]
    assert losses[-1] < 0.1 < losses[0]

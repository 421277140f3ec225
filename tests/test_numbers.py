"""Extreme numbers against float64: large logits, long clips, half precision; data and settings at their ends."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import log_softmax, logsumexp, softmax

from affect.config import Data, Experiment, Train, VideoClassifier
from affect.errors import InputError
from affect.layers import TEMPORAL_POOLINGS, JointSoftmaxPooling
from affect.reading.run import load_trained
from affect.statistics import Moments, ccc
from affect.tasks import find_task
from affect.training.evaluate import evaluate
from affect.training.train import prepare_training, train
from tests.clips import make_clip, write_shards

SCORE_POOLINGS = sorted(name for name, layer in TEMPORAL_POOLINGS.items() if layer.pools == "scores")
POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")
DTYPES = {"float32": "float32", "mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}
RANDOM = np.random.default_rng(8)


def pool(name, logits, mask, policy):
    """Returns a pooling's outputs in float64, and the numbers that it was given: those of the policy's dtype."""
    given = ops.cast(logits, DTYPES[policy])
    outputs = TEMPORAL_POOLINGS[name](dtype=policy)(given, np.asarray(mask), return_importance=True)
    return [to_numpy(output) for output in outputs], to_numpy(given)


def to_numpy(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float32")).astype(np.float64)


def reference(name, logits, valid):
    """The logits of one clip and the joint p(c, f | S) of its valid frames, in float64."""
    logits = logits[valid]
    if not len(logits):
        return np.zeros(logits.shape[1]), logits
    if name == "joint_softmax":
        return logsumexp(logits, axis=0), softmax(logits)
    return (logits.mean(axis=0) if name == "average" else logits.max(axis=0)), None


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", SCORE_POOLINGS)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_poolings_of_scores_are_those_of_float64(name, policy, scale):
    """Clips of all frames, of one frame, of the last frame, and without a frame."""
    logits = RANDOM.uniform(-1, 1, (4, 6, 5)).astype("float32") * scale
    logits[0, :2] = [[scale] * 5, [-scale] * 5]
    mask = np.array([[True] * 6, [True] + [False] * 5, [False] * 5 + [True], [False] * 6])
    (found, importance, joint), given = pool(name, logits, mask, policy)
    assert np.isfinite(joint).all()
    for row, valid in enumerate(mask):
        expected, shares = reference(name, given[row], valid)
        np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-5 * scale)
        if shares is not None:
            np.testing.assert_allclose(joint[row][valid], shares, atol=1e-5)
        np.testing.assert_array_equal(importance[row][~valid], 0)
        np.testing.assert_allclose(importance[row].sum(), float(valid.any()), atol=1e-5)


@pytest.mark.parametrize("frames", [10_000, 100_000])
@pytest.mark.parametrize("scale", [1.0, 1e2, 1e4])
def test_long_clips_are_pooled_as_in_float64(frames, scale):
    logits = RANDOM.normal(size=(1, frames, 3)).astype("float32") * scale
    found, importance, joint = map(
        to_numpy, JointSoftmaxPooling()(logits, np.ones((1, frames), bool), return_importance=True)
    )
    expected = logits[0].astype(np.float64)
    np.testing.assert_allclose(found[0], logsumexp(expected, axis=0), rtol=5e-6)
    shares = softmax(expected)
    np.testing.assert_allclose(joint[0], shares, atol=1e-5 * shares.max())
    np.testing.assert_allclose(importance.sum(), 1, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("smoothing", [0.0, 0.5, 1.0])
def test_the_loss_of_large_logits_and_of_any_smoothing_is_that_of_float64(scale, smoothing):
    """With a smoothing of 1 the labels say nothing: the loss is that of equal shares."""
    logits = RANDOM.uniform(-scale, scale, (4, 3)).astype("float32")
    labels = np.eye(3)[[0, 1, 2, 1]]
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing, reduction=None)
    expected = -((labels * (1 - smoothing) + smoothing / 3) * log_softmax(logits.astype(np.float64), axis=1)).sum(1)
    np.testing.assert_allclose(to_numpy(loss(labels, logits)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e8, 1e-8])
def test_a_constant_series_has_no_correlation_and_concords_with_itself_alone(value):
    """0.1 is no number of float64, so that a mean of sums is another number than its values."""
    constant, other = np.full(1001, value), np.sin(np.arange(1001))
    assert ccc(Moments.of_series(constant, constant)) == 1
    assert ccc(Moments.of_series(constant, other)) == ccc(Moments.of_series(other, constant)) == 0
    halves = Moments.of_series(constant[:7], constant[:7]) + Moments.of_series(constant[7:], constant[7:])
    assert ccc(halves) == 1


TINY = Experiment(
    "tiny",
    VideoClassifier("lstm", face_size=16, blocks=2, filters=2, recurrent_units=3),
    Data(batch_clips=4, frames=2, eval_frames=2, selection_ratio=0.0),
    Train(epochs=1, head_learning_rate=0.01, restart_epochs=1, optimizer="adam", class_weights=True),
)


def list_clips(*labels, frames=2, start=1):
    return [make_clip(start + index, frames, label=label) for index, label in enumerate(labels)]


GOOD = list_clips("happy", "sad", "happy", "sad")


@pytest.mark.parametrize(
    ("splits", "selects", "message"),
    [
        ({"test": GOOD}, None, r"has no split 'train'\. Expected one of \['test'\]"),
        ({"train": [], "test": GOOD}, None, r"has no split 'train'\. Expected one of \['test'\]"),
        ({"train": GOOD, "val": []}, "val", r"has no split 'val'\. Expected one of \['train'\]"),
        ({"train": list_clips("happy", "happy")}, None, r"clips of two classes or more\. Received: \['happy'\]"),
        ({"train": list_clips("", "")}, None, r"clips of two classes or more\. Received: \[\]"),
        ({"train": list_clips("happy", "sad", frames=0)}, None, r"clips of two classes or more\. Received: \[\]"),
        (
            {"train": [*list_clips("happy"), *list_clips("sad", frames=0, start=5)]},
            None,
            r"clips of two classes or more\. Received: \['happy'\]",
        ),
        ({"train": GOOD, "val": list_clips("fear", start=7)}, "val", r"has clips labelled \['fear'\]; the training"),
        ({"train": GOOD, "val": list_clips("sad", frames=0, start=7)}, "val", r"no labelled clip with a face to sel"),
    ],
)
def test_data_without_enough_to_learn_from_are_refused(tmp_path, splits, selects, message):
    shards = write_shards(tmp_path, ("fear", "happy", "sad"), **{name: [clips] for name, clips in splits.items()})
    with pytest.raises(InputError, match=message):
        prepare_training(replace(TINY, data=replace(TINY.data, selection_split=selects)), shards.folder)


def test_a_class_that_no_training_clip_has_is_no_class_and_divides_by_nothing(tmp_path):
    shards = write_shards(tmp_path, ("fear", "happy", "sad"), train=[GOOD], test=[list_clips("fear", start=7)])
    training = prepare_training(TINY, shards.folder)
    assert training.classes == ("happy", "sad")
    assert training.class_weights == {0: 1.0, 1: 1.0}


@pytest.mark.large
def test_with_a_rate_of_0_the_network_stays_as_it_began(tmp_path):
    shards = write_shards(tmp_path / "shards", train=[GOOD]).folder
    experiment = replace(TINY, train=replace(TINY.train, head_learning_rate=0.0))
    train(experiment, data=shards, workdir=tmp_path / "run", progress=False)
    keras.utils.set_random_seed(experiment.train.seed)
    begun = find_task(experiment).build(experiment.model, ("happy", "sad"), experiment.train).trainable_variables
    ended = load_trained(tmp_path / "run").model.trainable_variables
    for one, other in zip(begun, ended, strict=True):
        np.testing.assert_array_equal(to_numpy(one), to_numpy(other))


@pytest.mark.large
def test_clips_of_one_frame_and_without_a_face_are_evaluated(tmp_path):
    test = [*list_clips("happy", frames=1, start=7), *list_clips("sad", frames=0, start=8)]
    shards = write_shards(tmp_path / "shards", train=[GOOD], test=[test]).folder
    train(TINY, data=shards, workdir=tmp_path / "run", progress=False)
    report = evaluate(load_trained(tmp_path / "run"), shards, split="test")
    assert report["all"]["clips"] == 2 and report["with_a_face"]["clips"] == 1
    assert np.array(report["all"]["confusion"])[1].tolist() == [0, 0, 1]  # wrong, in the last column

"""What train() minimises: the loss that it logs is a number that NumPy finds from the network's outputs.

At rates of 0 a run of one batch ends with the weights that it began with, so that the same network says what the loss
was made of.
"""

from dataclasses import replace

import keras
import numpy as np
import pytest
from scipy.special import log_softmax

from affect.config import Data, Experiment, FrameClassifier, Train, VideoClassifier, VideoRegressor, Windows
from affect.data.batches import eval_batches, train_batches
from affect.data.clips import Dimensions
from affect.data.windows import at_end, read_recordings, train_windows
from affect.models.frame_classifier import build_frame_classifier
from affect.models.video_networks import build_video_regressor
from affect.reading.run import load_trained
from affect.training.train import read_log, train
from tests.clips import make_clip, textured, write_shards

CLASSES = ("happy", "sad")
STILL = Train(epochs=1, trainable="head", head_learning_rate=0.0, restart_epochs=1)
IMAGES = FrameClassifier("mini_xception", None, face_size=32, hidden_units=4, diversity=0.7)
VIDEO = VideoClassifier(
    None, face_size=16, blocks=2, filters=2, hidden_units=3, spatial_pooling="attention", diversity=0.7, dropout=0.0
)
CLIPS = Experiment(
    name="clips",
    model=IMAGES,
    data=Data(batch_clips=16, frames=4, selection_ratio=0.0, selection_split="val"),
    train=STILL,
)
POOLED = VideoRegressor(
    None, face_size=16, blocks=2, filters=2, hidden_units=3, spatial_pooling="attention", diversity=0.7, dropout=0.0
)
RECORDINGS = Experiment(
    name="recordings",
    model=POOLED,
    data=Data(batch_clips=64, selection_ratio=0.0),
    train=replace(STILL, trainable="all", selection_metric="loss"),
    windows=Windows(length_s=2.0, stride_s=1.0, frame_rate_hz=4.0, delay_s=0.5, postprocess=False),
)


def clip(number, label, frames):
    return make_clip(number, frames, label=label, jpegs=[textured(10 * number + frame) for frame in range(frames)])


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Five happy clips and two sad ones, some shorter than four frames; two more select."""
    train_clips = [clip(number, "happy" if number < 5 else "sad", 2 + number % 4) for number in range(7)]
    others = [clip(7, "happy", 3), clip(8, "sad", 5)]
    return write_shards(tmp_path_factory.mktemp("shards") / "labelled", train=[train_clips], val=[others])


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    """Two recordings of 5 s, of which one lacks faces from 1 to 2 s."""
    clips = []
    for number in range(2):
        whole = clip(number, "", 20)
        faces = [replace(face, timestamp_s=index / 4) for index, face in enumerate(whole.faces)]
        kept = tuple(face for face in faces if number or not 1 <= face.timestamp_s < 2)
        times_s = np.arange(51) / 10
        valence, arousal = (tuple(np.sin(times_s * (1 + k) + number) / 2) for k in range(2))
        clips.append(replace(whole, faces=kept, dimensions=Dimensions(tuple(times_s), valence, arousal)))
    return write_shards(tmp_path_factory.mktemp("shards") / "rated", classes=(), train=[clips])


def outputs_of(model, inputs):
    """Returns the clip logits, or dimensions, and the attention (B, F, N, L) of a network as float64."""
    attention = model.get_layer("spatial_pooling").output[1]
    outputs, attention = keras.Model(model.input, [model.output, attention])(inputs, training=False)
    return np.asarray(outputs, np.float64), np.asarray(attention, np.float64)


def penalty_of(attention, frame_mask, strength):
    overlap = attention @ np.swapaxes(attention, -1, -2) - np.eye(attention.shape[-2])
    return strength * np.sqrt((overlap**2).sum((-2, -1)))[frame_mask].mean()


def cross_entropy_of(logits, labels, smoothing=0.0, weights=(1.0, 1.0)):
    """The mean over clips; `labels` (B, E)."""
    spread = labels * (1 - smoothing) + smoothing / labels.shape[1]
    losses = -(spread * log_softmax(logits, axis=-1)).sum(-1)
    return (np.array(weights)[labels.argmax(-1)] * losses).mean()


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        (IMAGES, {"label_smoothing": 0.2, "class_weights": True}),
        (VIDEO, {"label_smoothing": 0.3}),
        (VIDEO, {"label_smoothing": 1.0}),
        (VIDEO, {"class_weights": True}),
        (replace(VIDEO, diversity=0.0), {}),
        (replace(IMAGES, spatial_pooling="shift", temporal_pooling="statistics"), {}),
    ],
    ids=[
        "images, all",
        "video, smoothing",
        "video, labels that say nothing",
        "video, weights",
        "video, no penalty",
        "images, features pooled",
    ],
)
def test_the_loss_of_clips_is_cross_entropy_of_their_logits_and_the_penalty(labelled, tmp_path, model, changes):
    experiment = replace(
        CLIPS, model=model, train=replace(STILL, trainable="all" if model.backbone is None else "head", **changes)
    )
    train(experiment, data=labelled.folder, workdir=tmp_path, progress=False)
    trained, (row,) = load_trained(tmp_path), read_log(tmp_path)
    keys = [entry["key"] for entry in labelled.clips if entry["split"] == "train"]
    shared = {"classes": CLASSES, "face_size": trained.face_size}
    batches, steps = train_batches(labelled, experiment.data, keys=keys, seed=0, **shared)
    assert steps == 1
    inputs, labels = next(iter(batches))
    assert not inputs["frame_mask"].numpy().all()
    logits, attention = outputs_of(trained.model, inputs)
    penalty = penalty_of(attention, inputs["frame_mask"].numpy(), model.diversity)
    assert (penalty > 0.1) == (model.diversity > 0)
    smoothing, weights = changes.get("label_smoothing", 0.0), (1.0, 1.0)
    if "class_weights" in changes:
        weights = (7 / (2 * 5), 7 / (2 * 2))
    expected = cross_entropy_of(logits, np.eye(2)[labels], smoothing, weights) + penalty
    assert row["loss"] == pytest.approx(expected, rel=1e-5)

    batch = next(iter(eval_batches(labelled, experiment.data, split="val", **shared)))  # it is not weighted
    logits, attention = outputs_of(trained.model, {name: batch[name] for name in ("faces", "frame_mask")})
    expected = cross_entropy_of(logits, np.eye(2)[batch["label"]], smoothing)
    expected += penalty_of(attention, batch["frame_mask"].numpy(), model.diversity)
    assert row["val_loss"] == pytest.approx(expected, rel=1e-5)
    assert row["val_accuracy"] == (logits.argmax(-1) == batch["label"].numpy()).mean()


def test_precision_is_that_of_the_settings(labelled, tmp_path):
    """In bfloat16, of 8 bits, the same weights give about the same loss, and not the same."""
    losses = []
    for precision in ("float32", "bfloat16"):
        experiment = replace(CLIPS, model=VIDEO, train=replace(STILL, trainable="all", precision=precision))
        train(experiment, data=labelled.folder, workdir=tmp_path / precision, progress=False)
        losses.append(read_log(tmp_path / precision)[0]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[1] != pytest.approx(losses[0], rel=1e-6)


def concordance_of(labels, predictions, weight):
    """(1 - w) · MSE + w · (1 - CCC), averaged over the dimensions; labels and predictions are (n, 2)."""
    losses = []
    for y, x in zip(labels.T, predictions.T, strict=True):
        concordance = 2 * np.mean((y - y.mean()) * (x - x.mean())) / (y.var() + x.var() + (y.mean() - x.mean()) ** 2)
        losses.append((1 - weight) * np.mean((x - y) ** 2) + weight * (1 - concordance))
    return np.mean(losses)


@pytest.mark.parametrize(
    ("model", "weight"),
    [(POOLED, 0.0), (POOLED, 0.4), (replace(POOLED, predicts="end"), 1.0), (replace(POOLED, diversity=0.0), 0.4)],
    ids=["square", "both", "concordance of ends", "no penalty"],
)
def test_the_loss_of_recordings_is_their_square_error_concordance_and_the_penalty(rated, tmp_path, model, weight):
    experiment = replace(RECORDINGS, model=model, train=replace(RECORDINGS.train, concordance=weight))
    train(experiment, data=rated.folder, workdir=tmp_path, progress=False)
    trained, (row,) = load_trained(tmp_path), read_log(tmp_path)
    recordings, _ = read_recordings(rated, "train")
    batches, sizes, _ = train_windows(recordings, experiment.windows, experiment.data, face_size=16, seed=0)
    assert len(sizes) == 1
    triple = next(iter(batches))
    inputs, labels, weights = at_end(*triple) if model.predicts == "end" else triple
    predictions, attention = outputs_of(trained.model, inputs)
    valid = weights.numpy() > 0
    assert not valid.all()
    expected = concordance_of(labels.numpy()[valid].astype(float), predictions[valid], weight)
    expected += penalty_of(attention, inputs["frame_mask"].numpy(), model.diversity)
    assert row["loss"] == pytest.approx(expected, rel=1e-4)


def test_a_recording_that_selects_is_not_learnt(rated, tmp_path):
    experiment = replace(RECORDINGS, data=replace(RECORDINGS.data, selection_ratio=0.5))
    result = train(experiment, data=rated.folder, workdir=tmp_path, progress=False)
    assert (result["train_recordings"], result["selection_recordings"]) == (1, 1)


def test_dropout_drops_while_it_learns_and_at_no_other_time():
    for network in (
        build_frame_classifier(replace(IMAGES, dropout=0.5), CLASSES),
        build_video_regressor(replace(POOLED, dropout=0.5)),
    ):
        size = network.input["faces"].shape[2]
        faces = np.random.default_rng(0).integers(0, 256, (1, 2, size, size, 3), dtype=np.uint8)
        inputs = {"faces": faces, "frame_mask": np.ones((1, 2), bool)}
        assert network.get_layer("dropout").rate == 0.5
        still = [np.asarray(network(inputs, training=False)) for _ in range(2)]
        np.testing.assert_array_equal(*still)
        dropping = [np.asarray(network(inputs, training=True)) for _ in range(2)]
        assert (dropping[0] != dropping[1]).any()

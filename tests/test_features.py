"""The features of a frozen backbone are computed once, and training on them ends where training on faces ends."""

import tempfile
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from affect.config import Data, Experiment, FrameClassifier, Train
from affect.data.augment import random_view, view_faces
from affect.data.clips import Clip, Face
from affect.data.features import FeatureTable
from affect.data.shards import Shards
from affect.errors import InputError
from affect.models.device import make_repeatable
from affect.models.frame_classifier import build_frame_classifier
from affect.tasks import find_task
from affect.training.features import FrozenNetwork, freeze
from affect.training.train import Checkpoint, build_optimizer, prepare_training, read_log, train
from tests.portrait_shards import encode, jpeg, write_shard
from tests.stopped import stop_before_the_second_epoch

ONE_VIEW = {"random_crop": False, "flip": False, "rotation_deg": 0.0}
FROZEN = Experiment(
    name="frozen",
    model=FrameClassifier(backbone="mini_xception", weights=None, face_size=32, hidden_units=4, dropout=0.2),
    data=Data(batch_clips=3, frames=8, eval_frames=5, selection_ratio=0.25),
    train=Train(epochs=3, trainable="head", head_learning_rate=0.05, restart_epochs=2, class_weights=True),
)
PLAIN = replace(FROZEN, data=replace(FROZEN.data, **ONE_VIEW))
CLASSES = ("happy", "sad")


def with_views(views, **data):
    return replace(FROZEN, data=replace(FROZEN.data, **data), train=replace(FROZEN.train, feature_views=views))


def weights_of(workdir, name="last.keras"):
    """All numbers of a checkpoint: weights, momenta and step counts."""
    model = keras.saving.load_model(workdir / name)
    return [np.array(variable) for variable in (*model.weights, *model.optimizer.variables)]


def built(experiment):
    return build_frame_classifier(experiment.model, CLASSES, experiment.train)


def train_on_faces(experiment, shards, workdir):
    """Trains as a script does that knows nothing of features: the whole network sees the faces in every epoch."""
    training, config = prepare_training(experiment, shards), experiment.train
    workdir.mkdir()
    with make_repeatable(config.seed, True):
        model = build_frame_classifier(experiment.model, training.classes, config)
        model.compile(build_optimizer(model, config, training.steps), training.loss, metrics=training.metrics)
        checkpoint = Checkpoint(workdir, "accuracy", config.seed)
        batches, selection = training.batches(model, checkpoint.restore(model, training.steps))
        model.fit(
            batches,
            validation_data=selection,
            class_weight=training.class_weights,
            epochs=config.epochs,
            steps_per_epoch=training.steps,
            shuffle=False,
            verbose=0,
            callbacks=[keras.callbacks.CSVLogger(workdir / "log.csv", append=True), checkpoint],
        )


def check_same(workdir, other, *, exactly=False):
    """Batches of other sizes give other last bits, so weights and log agree up to 1e-4."""
    tolerance = {"rtol": 0, "atol": 0} if exactly else {"rtol": 1e-4, "atol": 1e-5}
    for ours, theirs in zip(weights_of(workdir), weights_of(other), strict=True):
        np.testing.assert_allclose(ours, theirs, **tolerance)
    rows, others = read_log(workdir), read_log(other)
    assert len(rows) == len(others) and rows[0].keys() == others[0].keys()
    for ours, theirs in zip(rows, others, strict=True):
        np.testing.assert_allclose([*ours.values()], [*theirs.values()], **tolerance)


@pytest.mark.parametrize(
    "temporal_pooling", ["joint_softmax", "lstm", pytest.param("statistics", marks=pytest.mark.large)]
)
def test_training_on_features_ends_as_training_on_faces(shards, tmp_path, temporal_pooling):
    units = {"lstm_units": 3} if temporal_pooling == "lstm" else {}
    experiment = replace(PLAIN, model=replace(PLAIN.model, temporal_pooling=temporal_pooling, **units))
    train(experiment, data=shards, workdir=tmp_path / "features", progress=False)
    train_on_faces(experiment, shards, tmp_path / "faces")
    check_same(tmp_path / "features", tmp_path / "faces")


@pytest.mark.parametrize(
    "data",
    [pytest.param({}, marks=pytest.mark.large), {"repeat_frames": True, "keep_last_batch": True, "batch_clips": 4}],
)
def test_the_first_views_are_those_of_training_without_features(shards, tmp_path, data):
    """With as many views as epochs, training on features and on faces is the same."""
    experiment = with_views(2, **data)
    experiment = replace(experiment, train=replace(experiment.train, epochs=2, restart_epochs=1))
    train(experiment, data=shards, workdir=tmp_path / "features", progress=False)
    on_faces = replace(experiment, train=replace(experiment.train, feature_views=None))
    train_on_faces(on_faces, shards, tmp_path / "faces")
    check_same(tmp_path / "features", tmp_path / "faces")


@pytest.fixture
def clips(tmp_path):
    """Shards of six clips, each of four faces that tell where they are from, and their JPEGs by clip."""
    jpegs = {f"clip {number}": [jpeg(5 * number + frame) for frame in range(4)] for number in range(6)}
    listed = [
        Clip(
            key,
            CLASSES[number % 2],
            frames_decoded=4,
            faces=tuple(
                Face(frame / 10, image, (0.0,) * 4, (0.0,) * 10, 1.0, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
                for frame, image in enumerate(images)
            ),
        )
        for number, (key, images) in enumerate(jpegs.items())
    ]
    write_shard(tmp_path / "clips", encode(listed), listed=listed)
    return Shards(tmp_path / "clips"), jpegs


@pytest.mark.parametrize("view_per_frame", [False, True])
@pytest.mark.parametrize("kept_bytes", [0, 2**30])
def test_an_epoch_reads_the_features_of_its_views(clips, tmp_path, view_per_frame, kept_bytes):
    """All frames are chosen, so each epoch holds each clip whole, in the view that is its turn."""
    shards, jpegs = clips
    data = {"train_split": "all", "batch_clips": 1, "frames": 5, "selection_ratio": 0.0}
    experiment = with_views(2, **data, view_per_frame=view_per_frame)
    training = find_task(experiment).prepare_training(experiment, shards, None)
    model, seed = built(experiment), experiment.train.seed
    backbone = model.get_layer("backbone")
    expected = {}
    for index, images in enumerate(jpegs.values()):
        for turn in range(2):
            draw = np.array([seed * 1_000_003 + turn, index + 2**30], np.int32)
            views = [draw] * 4
            if view_per_frame:
                views = [tf.random.fold_in(draw, frame) for frame in range(4)]
            faces = [
                view_faces([image], random_view(experiment.data, view), 32)[0]
                for image, view in zip(images, views, strict=True)
            ]
            features = backbone.predict_on_batch(np.stack(faces))
            expected[index, turn] = np.concatenate([features.reshape(4, 4, -1), np.zeros((1, 4, 128), np.float32)])
    with freeze(training, model, tmp_path, kept_bytes=kept_bytes) as (batches, selection):
        assert selection is None
        batches = iter(batches)
        for epoch in range(5):
            left = set(range(6))
            for _ in range(6):
                inputs, _ = next(batches)
                assert inputs["frame_mask"].numpy().tolist() == [[True] * 4 + [False]]
                found = inputs["features"].numpy()[0]
                (index,) = (i for i in left if np.allclose(found, expected[i, epoch % 2], atol=1e-5))
                left.remove(index)
        del batches


def test_features_that_are_too_large_for_memory_are_in_a_file_that_is_gone_at_the_end(tmp_path):
    rows = np.random.default_rng(0).normal(size=(7, 2, 3)).astype(np.float32)
    found = {}
    for kept_bytes in (0, 2**20):
        table = FeatureTable(7, (2, 3), "float32", tmp_path, kept_bytes)
        assert table.is_on_disk == (not kept_bytes)
        table.write(0, rows[:4])
        table.write(4, rows[4:])
        table.flush()
        found[kept_bytes] = table.read(np.array([[3, -1], [6, 0]]))
        table.close()
        assert not list(tmp_path.iterdir())
    np.testing.assert_array_equal(found[0], found[2**20])
    np.testing.assert_array_equal(found[0], [[rows[3], np.zeros((2, 3))], [rows[6], rows[0]]])


class FullDisk:
    """A file that can be as long as it likes, and takes no block of features."""

    def __init__(self, file):
        self.file = file

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, content):
        if len(content) > 1:
            raise OSError(28, "No space left on device")
        return self.file.write(content)


@pytest.mark.parametrize("fails", ["before", "meanwhile"])
def test_without_room_on_the_disk_it_trains_on_faces_and_says_so(clips, tmp_path, monkeypatch, capsys, fails):
    shards, _ = clips
    experiment = with_views(2, train_split="all", selection_ratio=0.0)
    training = find_task(experiment).prepare_training(experiment, shards, None)
    model, made = built(experiment), []
    with monkeypatch.context() as patch:
        if fails == "before":
            usage = type("usage", (), {"free": 2**30})  # kept for checkpoints
            patch.setattr("shutil.disk_usage", lambda folder: usage)
        else:
            make = tempfile.TemporaryFile
            patch.setattr(
                "tempfile.TemporaryFile", lambda **arguments: made.append(make(**arguments)) or FullDisk(made[0])
            )
        with freeze(training, model, tmp_path, kept_bytes=0) as (batches, _):
            inputs, _ = next(iter(batches))
            assert all(file.closed for file in made)  # so that a checkpoint has its room
    assert set(inputs) == {"faces", "frame_mask"}
    error = capsys.readouterr().err
    assert (
        error.startswith(f"affect: There is no room for the features of faces in {tmp_path} (")
        and error.count("\n") == 1
    )


def test_features_that_would_be_seen_once_are_not_stored(clips, tmp_path):
    shards, _ = clips
    experiment = with_views(6, train_split="all", frames=4, batch_clips=1, selection_ratio=0.0)  # 3 epochs
    training = find_task(experiment).prepare_training(experiment, shards, None)
    with freeze(training, built(experiment), tmp_path) as (batches, _):
        inputs, _ = next(iter(batches))
    assert set(inputs) == {"faces", "frame_mask"}


def test_selection_is_stored_also_where_training_sees_new_views_in_every_epoch(shards, tmp_path):
    training = prepare_training(FROZEN, shards)
    model = built(FROZEN)
    with freeze(training, model, tmp_path) as (batches, selection):
        inputs, _ = next(iter(batches))
        assert set(inputs) == {"faces", "frame_mask"}
        stored = [(inputs, labels) for inputs, labels in selection.as_numpy_iterator()]
    _, expected = training.batches(model)
    network = FrozenNetwork(model)
    assert len(stored) == len(expected)
    for (inputs, labels), (faces, others) in zip(stored, expected.as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(labels, others)
        logits, direct = network.predict_on_batch(inputs), model.predict_on_batch(faces)
        np.testing.assert_allclose(logits, direct, atol=1e-5)


@pytest.mark.parametrize(
    "experiment",
    [pytest.param(PLAIN, marks=pytest.mark.large), with_views(2), FROZEN],
    ids=["one view", "two views", "new views"],
)
def test_a_stopped_run_ends_as_one_that_was_not(shards, tmp_path, monkeypatch, experiment):
    expected = train(experiment, data=shards, workdir=tmp_path / "whole", progress=False)
    with stop_before_the_second_epoch(monkeypatch):
        train(experiment, data=shards, workdir=tmp_path / "stopped", progress=False)
    assert not list((tmp_path / "stopped").glob("tmp-*"))
    assert train(experiment, data=shards, workdir=tmp_path / "stopped") == expected
    check_same(tmp_path / "stopped", tmp_path / "whole", exactly=True)


def test_half_precision_keeps_the_dtype_of_the_features(clips, tmp_path):
    shards, _ = clips
    experiment = with_views(2, train_split="all", selection_ratio=0.0)
    experiment = replace(experiment, train=replace(experiment.train, precision="bfloat16"))
    result = train(experiment, data=shards.folder, workdir=tmp_path / "run", progress=False)
    assert np.isfinite(result["loss"])


def test_more_views_than_one_are_refused_where_a_face_has_one(shards, tmp_path):
    with pytest.raises(InputError, match=r"^train\.feature_views=2 has no effect: no view is drawn at random, so a"):
        train(with_views(2, **ONE_VIEW), data=shards, workdir=tmp_path, progress=False)

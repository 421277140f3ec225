import functools
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from affect.config import (
    Data,
    Experiment,
    Faces,
    FrameClassifier,
    Train,
    VideoClassifier,
    find_without_effect,
    load_config,
    read_json,
    to_json,
    write_json,
)
from affect.errors import InputError
from affect.files import hold_folder, seal
from affect.models.backbones import build_backbone, import_weights
from affect.models.frame_classifier import build_frame_classifier
from affect.pipelines.prepare import prepare
from affect.reading.run import load_trained
from affect.serving.convert import convert
from affect.serving.export import export
from affect.tasks.clips import weigh_classes
from affect.training.evaluate import evaluate
from affect.training.train import build_optimizer, read_log, train
from tests.stopped import stop_before_the_second_epoch
from tests.watched import fields_of, watched

TINY = Experiment(
    name="tiny",
    model=FrameClassifier(backbone="mini_xception", weights=None, face_size=32, hidden_units=4, dropout=0.2),
    data=Data(batch_clips=3, frames=3, eval_frames=4, selection_ratio=0.25),
    train=Train(
        epochs=3,
        backbone_learning_rate=0.001,
        trainable="last 2 blocks",  # the other blocks have all kinds of layers, and are traced in half the time
        head_learning_rate=0.02,
        restart_epochs=1,
        accumulation_steps=2,
        label_smoothing=0.1,
        class_weights=True,
    ),
)


FROZEN = {"trainable": "head", "backbone_learning_rate": 1e-5}  # the rate has no effect, so it must be the default


@pytest.fixture(scope="module")
def run(shards, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    result = train(TINY, data=shards, workdir=workdir, progress=False)
    return workdir, result


@functools.cache
def compiled(settings):
    model = build_frame_classifier(TINY.model, ("happy", "sad"), settings)
    model.compile(build_optimizer(model, settings, 1), "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    return model


def weights_of(path, settings=TINY.train):
    """All numbers of a checkpoint: weights, momenta and step counts."""
    model = compiled(settings)
    model.load_weights(path)
    return [np.array(variable) for variable in (*model.weights, *model.optimizer.variables)]


def loaded_weights_of(path):
    """As `weights_of`, by nobody's code but Keras's: compiled, in safe mode, without custom objects."""
    model = keras.saving.load_model(path)
    return [np.array(variable) for variable in (*model.weights, *model.optimizer.variables)]


def test_run_holds_all_that_is_needed(run, shards):
    workdir, result = run
    assert result["epochs"] == 3
    assert (result["train_clips"], result["selection_clips"], result["clips_left_out"]) == (9, 3, 0)
    rows = read_log(workdir)
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    accuracies = [row["val_accuracy"] for row in rows]
    assert result["best_epoch"] == 1 + accuracies.index(max(accuracies))
    config = read_json(workdir / "config.json")
    assert config["classes"] == ["happy", "sad"]
    assert config["faces"] == read_json(shards / "manifest.json")["settings"]["faces"]
    for name in ("best.keras", "last.keras"):  # by itself it says what it takes and gives
        with zipfile.ZipFile(workdir / name) as archive:
            described = json.loads(archive.read("affect.json"))
        assert (described["classes"], described["faces"]) == (config["classes"], config["faces"])
        assert np.shape(described["faces"]["template"]) == (5, 2)
    assert len(config["selection"]) == 3
    assert config["versions"]["keras"] == keras.__version__
    assert list((workdir / "tensorboard").rglob("events*"))
    trained = load_trained(workdir)
    assert trained.experiment == TINY
    assert trained.classes == ("happy", "sad")
    assert (trained.face_size, trained.faces.face_size) == (32, 64)
    assert not list(workdir.glob("tmp-*"))


def test_run_that_was_stopped_twice_ends_as_one_that_was_not(run, shards, tmp_path, monkeypatch):
    steps, save, end_batch = [], keras.Model.save, keras.callbacks.CallbackList.on_train_batch_end

    def stop_within_the_second_epoch(callbacks, batch, logs=None):
        end_batch(callbacks, batch, logs)
        steps.append(batch)
        if len(steps) == 5:
            raise KeyboardInterrupt

    def stop_between_log_and_last_checkpoint(model, path, *args, **kwargs):
        if Path(path).name.endswith("last.keras") and int(model.optimizer.iterations) == 6:
            raise KeyboardInterrupt
        save(model, path, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(keras.callbacks.CallbackList, "on_train_batch_end", stop_within_the_second_epoch)
        train(TINY, data=shards, workdir=tmp_path)
    assert len(read_log(tmp_path)) == 1
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(keras.Model, "save", stop_between_log_and_last_checkpoint)
        train(TINY, data=shards, workdir=tmp_path, progress=False)
    assert len(read_log(tmp_path)) == 2
    result = train(TINY, data=shards, workdir=tmp_path, progress=False)
    workdir, expected = run
    assert result == expected
    assert read_log(tmp_path) == read_log(workdir)
    for name in ("last.keras", "best.keras"):
        for ours, theirs in zip(weights_of(tmp_path / name), weights_of(workdir / name), strict=True):
            np.testing.assert_array_equal(ours, theirs)


HALF = Experiment(
    name="half",
    model=VideoClassifier("lstm", face_size=16, blocks=2, filters=2, spatial_pooling="attention", recurrent_units=3),
    data=replace(TINY.data, eval_frames=3),
    train=Train(epochs=3, head_learning_rate=0.01, restart_epochs=1, optimizer="adam", precision="float16"),
)


def train_half(shards, workdir, *, epochs=3):
    """Trains with a loss scale so high that the first step is skipped, and is stopped when so many epochs are done."""

    begin_epoch = keras.callbacks.CallbackList.on_epoch_begin

    def begin(callbacks, epoch, logs=None):
        if epoch == epochs:
            raise KeyboardInterrupt
        if epoch == 0:
            callbacks.callbacks[0].model.optimizer.initial_scale = 2.0**24
        begin_epoch(callbacks, epoch, logs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.callbacks.CallbackList, "on_epoch_begin", begin)
        return train(HALF, data=shards, workdir=workdir)


@pytest.fixture(scope="module")
def half(shards, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "half"
    return workdir, train_half(shards, workdir)


def test_half_precision_skips_a_step_and_no_epoch(half, shards, tmp_path):
    workdir, expected = half
    assert read_json(workdir / "config.json")["device"]["precision"] == "float16"
    before = (workdir / "last.keras").read_bytes()
    assert train_half(shards, workdir) == expected
    assert (workdir / "last.keras").read_bytes() == before

    with pytest.raises(KeyboardInterrupt):
        train_half(shards, tmp_path, epochs=2)
    assert train_half(shards, tmp_path) == expected
    stopped, whole = (keras.saving.load_model(folder / "last.keras") for folder in (tmp_path, workdir))
    assert isinstance(whole.optimizer, keras.optimizers.LossScaleOptimizer)
    assert float(whole.optimizer.dynamic_scale) < 2**24  # a step was skipped
    # The rate of each epoch is the one that it has where no step is skipped: nine steps, of three an epoch.
    assert int(whole.optimizer.inner_optimizer.optimizers[0].iterations) == 9
    for ours, theirs in zip(
        (*stopped.weights, *stopped.optimizer.variables),
        (*whole.weights, *whole.optimizer.variables),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_a_run_in_half_precision_is_float32_when_it_is_read_back(half, shards, tmp_path):
    """Whatever the process that reads it computes in."""
    assert keras.config.dtype_policy().name == "float32"
    keras.config.set_dtype_policy("mixed_float16")
    try:
        trained = load_trained(half[0])
        network = trained.network
    finally:
        keras.config.set_dtype_policy("float32")
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}
    assert evaluate(trained, shards, split="test")["all"]["clips"] == 4
    version = export(half[0], tmp_path / "half")
    report = convert(version, tmp_path / "half.tflite", to="float32", frames=3)
    assert report["agreement"]["labels"] == 1


def test_a_checkpoint_loads_with_its_optimizer_and_goes_on(run):
    workdir, _ = run
    for ours, theirs in zip(loaded_weights_of(workdir / "last.keras"), weights_of(workdir / "last.keras"), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    model = keras.saving.load_model(workdir / "last.keras")
    backbone, head = model.optimizer.optimizers
    rates = TINY.train.backbone_learning_rate, TINY.train.head_learning_rate
    assert (float(backbone.learning_rate), float(head.learning_rate)) == pytest.approx(rates)
    inputs = {"faces": np.full((2, 2, 32, 32, 3), 90, np.uint8), "frame_mask": np.ones((2, 2), bool)}
    model.fit(inputs, np.eye(2), verbose=0)
    assert int(model.optimizer.iterations) == 10


def test_a_damaged_checkpoint_is_not_gone_on_from(run, shards, tmp_path):
    workdir = shutil.copytree(run[0], tmp_path / "run")
    content = bytearray((workdir / "last.keras").read_bytes())
    content[len(content) // 2] ^= 1
    (workdir / "last.keras").write_bytes(content)
    with pytest.raises(InputError, match=r"last.keras is damaged: its checksum differs"):
        train(TINY, data=shards, workdir=workdir, progress=False)


def test_a_run_whose_last_epoch_is_damaged_goes_on_from_the_best(run, shards, tmp_path):
    workdir = shutil.copytree(run[0], tmp_path / "run")
    last, best = workdir / "last.keras", workdir / "best.keras"
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    advice = (
        f"last.keras is damaged. Copy it again; or go on from the best epoch: cp {best} {last}; or train in another"
    )
    with pytest.raises(InputError, match=re.escape(advice)):
        train(TINY, data=shards, workdir=workdir, progress=False)
    shutil.copyfile(best, last)
    assert train(TINY, data=shards, workdir=workdir, progress=False) == run[1]
    for ours, theirs in zip(weights_of(last), weights_of(run[0] / "last.keras"), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("group", ["layer", "optimizer"])
def test_a_checkpoint_that_lacks_numbers_is_not_gone_on_from(run, shards, tmp_path, group):
    """Keras only warns of what a file lacks, and goes on with random weights or without momenta."""
    workdir = shutil.copytree(run[0], tmp_path / "run")
    with zipfile.ZipFile(run[0] / "last.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    weights = io.BytesIO(members["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        found = [name for name, layer in file["layers"].items() if len(layer.get("vars", ()))]
        del file["optimizer" if group == "optimizer" else f"layers/{found[-1]}"]
    with zipfile.ZipFile(workdir / "last.keras", "w") as archive:
        for name, content in (members | {"model.weights.h5": weights.getvalue()}).items():
            archive.writestr(name, content)
    seal(workdir / "last.keras")
    with pytest.raises(
        InputError, match=r"last.keras cannot be read \(.*\)\. Copy it again; or go on from the best epoch: cp"
    ):
        train(TINY, data=shards, workdir=workdir, progress=False)


@pytest.mark.parametrize("damage", ["lost", "half a row", "another row"])
def test_a_damaged_log_is_written_again(run, shards, tmp_path, damage):
    workdir = shutil.copytree(run[0], tmp_path / "run")
    log = workdir / "log.csv"
    whole = log.read_bytes()
    if damage == "lost":
        log.unlink()
    else:
        log.write_bytes(whole[:-20] if damage == "half a row" else whole + b"7,0.5\r\n")
    assert train(TINY, data=shards, workdir=workdir, progress=False) == run[1]
    assert log.read_bytes() == whole


def test_a_lost_log_of_an_older_run_is_named(run, shards, tmp_path):
    workdir = shutil.copytree(run[0], tmp_path / "run")
    with zipfile.ZipFile(run[0] / "last.keras") as source, zipfile.ZipFile(workdir / "last.keras", "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "affect.json":
                content = json.dumps({"epochs": json.loads(content)["epochs"]}).encode()
            target.writestr(name, content)
    seal(workdir / "last.keras")
    assert train(TINY, data=shards, workdir=workdir, progress=False) == run[1]
    (workdir / "log.csv").unlink()
    with pytest.raises(
        InputError, match=r"log.csv lacks epochs that .*last.keras has trained. Copy it again, or train"
    ):
        train(TINY, data=shards, workdir=workdir, progress=False)


def test_two_trainings_do_not_share_a_folder(run, shards):
    workdir, before = run[0], {path.name: path.read_bytes() for path in run[0].iterdir() if path.is_file()}
    with (
        hold_folder(workdir, "affect train", "--workdir"),
        pytest.raises(
            InputError, match=f"Another affect train writes to {workdir}. Wait for it, or choose another --w"
        ),
    ):
        train(TINY, data=shards, workdir=workdir, progress=False)
    assert {path.name: path.read_bytes() for path in workdir.iterdir() if path.is_file()} == before


def test_paper_bs_network_learns_classes(shards, tmp_path):
    experiment = Experiment(
        name="video",
        model=VideoClassifier(
            "lstm", face_size=16, blocks=2, filters=2, spatial_pooling="attention", recurrent_units=3
        ),
        data=replace(TINY.data, eval_frames=3),
        train=Train(epochs=1, head_learning_rate=0.01, restart_epochs=1, optimizer="adam"),
    )
    result = train(experiment, data=shards, workdir=tmp_path, progress=False)
    assert (result["train_clips"], result["selection_clips"], result["clips_left_out"]) == (9, 3, 0)
    assert read_json(tmp_path / "config.json")["weights_sha256"] is None
    trained = load_trained(tmp_path)
    assert (trained.experiment, trained.classes, trained.face_size) == (experiment, ("happy", "sad"), 16)
    report = evaluate(trained, shards, split="test")
    assert (report["all"]["clips"], report["with_a_face"]["clips"]) == (4, 3)
    assert train(experiment, data=shards, workdir=tmp_path, progress=False) == result


VIDEO = VideoClassifier("conv3d", face_size=8, blocks=1, filters=2, hidden_units=2)


@pytest.mark.parametrize(
    ("model", "changes"),
    [(TINY.model, {}), (TINY.model, FROZEN), (VIDEO, FROZEN | {"trainable": "all"})],
    ids=["images", "frozen images", "video"],
)
def test_training_reads_the_settings_that_have_an_effect_and_no_others(model, changes, shards, tmp_path):
    settings = replace(TINY.train, epochs=2, **changes)
    experiment = replace(TINY, model=model, train=settings)
    noting, read = watched(experiment)
    train(noting, data=shards, workdir=tmp_path, progress=False)
    names = {name for name in fields_of(experiment) if not name.startswith("model.")}
    assert read & names == names - find_without_effect(experiment).keys()


def test_settings_that_can_have_no_effect_are_not_trained(shards, tmp_path):
    idle = replace(TINY, model=replace(TINY.model, lstm_units=4))
    with pytest.raises(
        InputError, match=r"^model\.lstm_units=4 has no effect: it needs model\.temporal_pooling='lstm'"
    ):
        train(idle, data=shards, workdir=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_run_of_before_such_settings_were_refused_goes_on(run, shards, tmp_path):
    workdir, expected = run
    shutil.copytree(workdir, tmp_path / "run")
    config = read_json(workdir / "config.json")
    config["experiment"] = to_json(replace(TINY, model=replace(TINY.model, lstm_units=4)))
    write_json(tmp_path / "run" / "config.json", config)
    assert train(TINY, data=shards, workdir=tmp_path / "run", progress=False) == expected


def test_finished_run_is_left_alone(run, shards):
    workdir, expected = run
    before = {path: path.stat().st_mtime_ns for path in workdir.glob("*.keras")}
    assert train(TINY, data=shards, workdir=workdir, progress=False) == expected
    assert {path: path.stat().st_mtime_ns for path in workdir.glob("*.keras")} == before


def test_without_selection_the_last_epoch_is_the_best(shards, tmp_path):
    settings = replace(TINY.train, epochs=2, trainable="last 4 blocks")
    experiment = replace(TINY, data=replace(TINY.data, selection_ratio=0.0), train=settings)
    result = train(experiment, data=shards, workdir=tmp_path, progress=False)
    assert (result["best_epoch"], result["train_clips"], result["selection_clips"]) == (2, 12, 0)
    last, best = weights_of(tmp_path / "last.keras", settings), loaded_weights_of(tmp_path / "best.keras")
    for ours, theirs in zip(last, best, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_switches_of_the_authors_code_resume_too(shards, tmp_path, monkeypatch):
    switches = {"view_per_frame": True, "repeat_frames": True, "random_crop": False}
    data = replace(TINY.data, frames=6, selection_ratio=0.0, selection_split="test", **switches)
    settings = replace(TINY.train, pytorch_sgd=True, weight_decay=0.01, epochs=2, **FROZEN)
    experiment = replace(TINY, data=data, train=settings)
    expected = train(experiment, data=shards, workdir=tmp_path / "whole", progress=False)
    # All twelve training clips; of four test clips one shows no face.
    assert (expected["train_clips"], expected["selection_clips"], expected["clips_left_out"]) == (12, 3, 1)
    selection = read_json(tmp_path / "whole" / "config.json")["selection"]
    assert sorted(selection) == ["test/happy/0", "test/happy/1", "test/sad/0"]

    with stop_before_the_second_epoch(monkeypatch):
        train(experiment, data=shards, workdir=tmp_path / "stopped")
    assert train(experiment, data=shards, workdir=tmp_path / "stopped", progress=False) == expected
    whole, stopped = (weights_of(tmp_path / name / "last.keras", settings) for name in ("whole", "stopped"))
    loaded = loaded_weights_of(tmp_path / "stopped" / "last.keras")
    for ours, again, theirs in zip(stopped, loaded, whole, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(again, theirs)


def test_a_run_of_before_a_field_existed_goes_on(run, shards, tmp_path):
    workdir, expected = run
    shutil.copytree(workdir, tmp_path / "run")
    config = read_json(workdir / "config.json")
    del config["experiment"]["recipe"], config["experiment"]["data"]["view_per_frame"]
    write_json(tmp_path / "run" / "config.json", config)
    assert train(TINY, data=shards, workdir=tmp_path / "run", progress=False) == expected
    assert load_trained(tmp_path / "run").experiment == TINY


def test_two_learning_rates_reach_their_own_variables():
    inputs = {"faces": np.full((2, 2, 32, 32, 3), 90, np.uint8), "frame_mask": np.ones((2, 2), bool)}
    inputs["faces"][0, :, :16] = 200
    for backbone_rate, head_rate in ((0.1, 1e-12), (1e-12, 0.1)):
        model = build_frame_classifier(replace(TINY.model, dropout=0.0), ("happy", "sad"))
        rates = {"backbone_learning_rate": backbone_rate, "head_learning_rate": head_rate}
        settings = replace(TINY.train, accumulation_steps=1, **rates)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(build_optimizer(model, settings, 10), loss, run_eagerly=True)
        before = [np.array(variable) for variable in model.trainable_variables]
        model.train_on_batch(inputs, np.array([0, 1]))
        moved = {}
        for variable, old in zip(model.trainable_variables, before, strict=True):
            part = "backbone" if variable.path.startswith("backbone/") else "head"
            moved[part] = max(moved.get(part, 0), np.abs(np.array(variable) - old).max())
        assert (moved["backbone"] > 1e-6) == (backbone_rate > head_rate)
        assert (moved["head"] > 1e-6) == (head_rate > backbone_rate)


def test_adam_takes_a_step_of_the_rate_and_its_decay_is_decoupled():
    """At the first step its moments are the gradient's own: w ← w(1 - rate · decay) - rate · sign(gradient)."""
    inputs, weights = keras.Input((2,)), np.array([[1.0], [-2.0]])
    for accumulation_steps in (1, 2):
        model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False)(inputs))
        model.set_weights([weights])
        settings = replace(TINY.train, optimizer="adam", head_learning_rate=0.1, weight_decay=0.5)
        settings = replace(settings, accumulation_steps=accumulation_steps, restart_epochs=10**6)
        model.compile(build_optimizer(model, settings, 1), "mean_squared_error", run_eagerly=True)
        for _ in range(accumulation_steps):
            model.train_on_batch(np.array([[3.0, 1.0]]), np.array([[0.0]]))  # gradient 2 · 1 · (3, 1)
        np.testing.assert_allclose(model.get_weights()[0], weights * 0.95 - 0.1, atol=1e-5)


def test_the_head_alone_is_trained():
    model = build_frame_classifier(TINY.model, ("happy", "sad"), replace(TINY.train, trainable="head"))
    assert not any("block" in variable.path for variable in model.trainable_variables)
    assert len(model.trainable_variables) == 4  # two of the attention, two of the classifier


def test_learning_rate_restarts():
    settings = replace(TINY.train, **FROZEN, head_learning_rate=0.8, restart_epochs=2, accumulation_steps=1)
    (optimizer,) = build_optimizer(
        build_frame_classifier(TINY.model, ("happy", "sad"), settings), settings, 5
    ).optimizers
    rates = []
    for step in (0, 5, 9, 10, 29, 30):  # periods of 10, 20 and 40 steps
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    expected = [0.8 * (1 + np.cos(np.pi * part)) / 2 for part in (0, 0.5, 0.9, 0, 0.95, 0)]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_an_optimizer_freezes_nothing():
    model = build_frame_classifier(TINY.model, ("happy", "sad"))
    before = [variable.path for variable in model.trainable_variables]
    build_optimizer(model, replace(TINY.train, trainable="last 1 block"), 10)
    assert [variable.path for variable in model.trainable_variables] == before


def test_first_blocks_are_frozen():
    model = build_frame_classifier(TINY.model, ("happy", "sad"), replace(TINY.train, trainable="last 1 block"))
    paths = {variable.path.split("/")[1] for variable in model.trainable_variables if "backbone" in variable.path}
    assert paths and all(name.startswith("block5") for name in paths)


def test_accumulated_batches_are_one_step():
    """Two batches of one clip, averaged, move the weights as one batch of both; and count as two."""
    random = np.random.default_rng(0)
    inputs = {
        "faces": random.integers(0, 256, (2, 2, 32, 32, 3), dtype=np.uint8),
        "frame_mask": np.ones((2, 2), bool),
    }
    labels = np.eye(2)
    ends = []
    for accumulation_steps in (1, 2):
        keras.utils.set_random_seed(7)
        settings = replace(TINY.train, accumulation_steps=accumulation_steps, trainable="head")
        model = build_frame_classifier(replace(TINY.model, dropout=0.0, diversity=0.0), ("happy", "sad"), settings)
        optimizer = build_optimizer(model, settings, 10**6)
        before = [np.array(variable) for variable in model.trainable_variables]
        model.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True), run_eagerly=True)
        if accumulation_steps == 1:
            model.train_on_batch(inputs, labels)
        else:
            for clip in (slice(0, 1), slice(1, 2)):
                model.train_on_batch({name: value[clip] for name, value in inputs.items()}, labels[clip])
        assert int(optimizer.iterations) == accumulation_steps
        ends.append([np.array(variable) for variable in model.trainable_variables])
        assert max(np.abs(a - b).max() for a, b in zip(before, ends[-1], strict=True)) > 2e-4
    for one, two in zip(*ends, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-5)


def test_rare_classes_weigh_more():
    clips = [{"key": str(index), "label": "happy" if index < 3 else "sad"} for index in range(4)]
    assert weigh_classes(clips, ["0", "1", "2", "3"], ("happy", "sad")) == {0: 4 / 6, 1: 2.0}
    assert weigh_classes(clips, ["0", "3"], ("happy", "sad")) == {0: 1.0, 1: 1.0}


def test_loss_that_is_not_finite(shards, tmp_path):
    experiment = replace(TINY, train=replace(TINY.train, head_learning_rate=1e38, weight_decay=0.0))
    with pytest.raises(InputError, match=r"not finite in epoch \d of .*Lower train.head_learning_rate"):
        train(experiment, data=shards, workdir=tmp_path, progress=False)


def test_workdir_of_another_run(run, shards):
    other = replace(TINY, model=replace(TINY.model, heads=4), train=replace(TINY.train, seed=5))
    with pytest.raises(InputError, match="another config, which differs in model.heads, train.seed. Choose another"):
        train(other, data=shards, workdir=run[0])


def selecting(**changes):
    return replace(TINY, data=replace(TINY.data, **changes))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"label": "angry"},
            r"Split 'test' of .* has clips labelled \['angry'\]; the training clips are labelled \['happy', ",
        ),
        ({"label": ""}, "Split 'test' of .* has no labelled clip with a face"),
        ({"frames_with_a_face": 0}, "Split 'test' of .* has no labelled clip with a face"),
    ],
)
def test_a_split_that_cannot_select_the_epoch(shards, tmp_path, change, text):
    other = shutil.copytree(shards, tmp_path / "shards")
    manifest = read_json(other / "manifest.json")
    manifest["clips"] = [clip | change if clip["split"] == "test" else clip for clip in manifest["clips"]]
    write_json(other / "manifest.json", manifest)
    with pytest.raises(InputError, match=text):
        train(selecting(selection_split="test", selection_ratio=0.0), data=other, workdir=tmp_path / "run")


@pytest.mark.parametrize(
    ("experiment", "text"),
    [
        (replace(TINY, model=replace(TINY.model, spatial_pooling=None)), "needs no training. Use affect predict"),
        (
            replace(TINY, train=replace(TINY.train, selection_metric="ccc")),
            "Expected 'accuracy' or 'loss'. Received: 'ccc'",
        ),
        (
            replace(TINY, data=replace(TINY.data, train_split="dev")),
            r"no split 'dev'. Expected one of \['test', 'train'\]",
        ),
        (replace(TINY, data=replace(TINY.data, selection_ratio=0.9)), "must lie in"),
        (selecting(selection_split="test"), r"Expected data.selection_ratio=0 or .* Received: 0.25 and 'test'"),
        (selecting(selection_split="dev", selection_ratio=0.0), r"no split 'dev'. Expected one of \['test', 'train'\]"),
        (
            selecting(selection_split="train", selection_ratio=0.0),
            "data.selection_split is the training split, 'train'",
        ),
    ],
)
def test_what_cannot_be_trained(shards, tmp_path, experiment, text):
    with pytest.raises(InputError, match=text):
        train(experiment, data=shards, workdir=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_soft_labels_need_votes(shards, tmp_path):
    soft = replace(TINY, data=replace(TINY.data, soft_labels=True))
    with pytest.raises(InputError, match=r"no training clip has votes of raters\. Set data\.soft_labels=false\.$"):
        train(soft, data=shards, workdir=tmp_path, progress=False)


def test_unanimous_votes_train_as_the_labels_do(run, shards, tmp_path):
    copy = shutil.copytree(shards, tmp_path / "shards")
    manifest = read_json(copy / "manifest.json")
    for shard in manifest["shards"]:
        path = copy / shard["name"]
        examples = [
            tf.train.SequenceExample.FromString(bytes_.numpy()) for bytes_ in tf.data.TFRecordDataset(str(path))
        ]
        with tf.io.TFRecordWriter(str(path)) as writer:
            for example in examples:
                context = example.context.feature
                label = context["clip/label/string"].bytes_list.value[0]
                context["affect/votes"].float_list.value[:] = [label == b"happy", label == b"sad"]
                writer.write(example.SerializeToString())
        shard["bytes"] = path.stat().st_size
    for clip in manifest["clips"]:
        clip["votes"] = {clip["label"]: 1.0}
    write_json(copy / "manifest.json", manifest)
    soft = replace(TINY, data=replace(TINY.data, soft_labels=True))
    train(soft, data=copy, workdir=tmp_path / "run", progress=False)
    assert read_log(tmp_path / "run") == read_log(run[0])


def test_a_damaged_shard_is_named(shards, tmp_path):
    copy = shutil.copytree(shards, tmp_path / "shards")
    (name,) = (shard["name"] for shard in read_json(copy / "manifest.json")["shards"] if shard["split"] == "train")
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(InputError, match=f"shards is damaged: {name}. Copy it again, or run the same affect prepare"):
        train(TINY, data=copy, workdir=tmp_path / "run", progress=False)


@pytest.mark.large
def test_hash_seed_locale_and_time_zone_change_no_weight(shards, tmp_path):
    variables = (
        {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "UTC", "PYTHONUTF8": "0"},
        {"PYTHONHASHSEED": "2", "LC_ALL": "C.UTF-8", "TZ": "Asia/Kathmandu"},
    )
    write_json(tmp_path / "tiny.json", {"experiment": to_json(TINY)})
    for number, changes in enumerate(variables):
        command = ["train", tmp_path / "tiny.json", "--data", shards, "--workdir", tmp_path / str(number)]
        subprocess.run([sys.executable, "-m", "affect", *command], env={**os.environ, **changes}, check=True)
    one, two = ((tmp_path / str(number)) for number in range(2))
    assert read_log(one) == read_log(two)
    for name in ("best.keras", "last.keras"):
        for array, other in zip(loaded_weights_of(one / name), loaded_weights_of(two / name), strict=True):
            np.testing.assert_array_equal(array, other)


def test_shards_of_another_manifest_are_not_trained_on(shards, tmp_path):
    copy = shutil.copytree(shards, tmp_path / "shards")
    manifest = read_json(copy / "manifest.json")
    manifest["clips"][0]["key"] = f"{manifest['clips'][0]['key']} of another folder"
    write_json(copy / "manifest.json", manifest)
    whole = replace(TINY, data=replace(TINY.data, selection_ratio=0.0, train_split=manifest["clips"][0]["split"]))
    with pytest.raises(InputError, match="shards do not hold the clips of its manifest.json. .* affect verify"):
        train(whole, data=copy, workdir=tmp_path / "run", progress=False)


@pytest.mark.large
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_paper_as_network_in_half_precision_reaches_a_phone(shards, tmp_path, precision):
    experiment = replace(TINY, train=replace(TINY.train, epochs=2, precision=precision))
    result = train(experiment, data=shards, workdir=tmp_path / "run", progress=False)
    before = (tmp_path / "run" / "last.keras").read_bytes()
    assert train(experiment, data=shards, workdir=tmp_path / "run", progress=False) == result
    assert (tmp_path / "run" / "last.keras").read_bytes() == before
    model = keras.saving.load_model(tmp_path / "run" / "last.keras")
    inputs = {"faces": np.full((2, 2, 32, 32, 3), 90, np.uint8), "frame_mask": np.ones((2, 2), bool)}
    model.fit(inputs, np.eye(2), verbose=0)
    evaluate(load_trained(tmp_path / "run"), shards, split="test")
    version = export(tmp_path / "run", tmp_path / "half")
    for part in ("clip", "frame"):
        assert convert(version, tmp_path / f"{part}.tflite", to="float32", part=part)["agreement"]["labels"] == 1


@pytest.mark.large
def test_the_best_row_takes_real_steps_at_true_size(hed_vgg16, shared_data, tmp_path, monkeypatch):
    """VGG16 at 224 × 224 on real faces; the labels are arbitrary, because the real clips have none."""
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path / "cache"))
    safetensors.numpy.save_file(hed_vgg16[1], tmp_path / "hed.safetensors")
    import_weights("vgg16", tmp_path / "hed.safetensors")
    for label, name in (("happy", "single_face.mp4"), ("neutral", "face_noface.mov"), ("sad", "noface_face.mov")):
        (tmp_path / "videos" / label).mkdir(parents=True)
        (tmp_path / "videos" / label / name).symlink_to(shared_data / "clips" / name)
    prepare(tmp_path / "videos", dataset="folder", out=tmp_path / "shards", faces=Faces(), workers=1)
    overrides = ["data.train_split=all", "data.selection_ratio=0", "data.batch_clips=1", "train.accumulation_steps=3"]
    experiment = load_config("paper_a_table1/tp_sa_n2_l1", [*overrides, "train.epochs=2"])
    result = train(experiment, data=tmp_path / "shards", workdir=tmp_path / "run", progress=False)
    assert result["epochs"] == 2
    assert np.isfinite(result["loss"])
    before = build_backbone("vgg16", weights="vggface").get_weights()
    after = load_trained(tmp_path / "run").model.get_layer("backbone").get_weights()
    assert all(np.any(x != y) for x, y in zip(before, after, strict=True))

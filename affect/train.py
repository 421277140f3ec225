"""train(): a config and shards → a run: checkpoints, logs, and all that is needed to use them."""

import csv
import json
import math
import os
import platform
import re
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import affect
from affect.backbones import weights_sha256
from affect.config import (
    Experiment,
    Faces,
    Regression,
    VideoModel,
    check_effects,
    from_json,
    read_json,
    to_json,
    without_effect,
    write_json,
)
from affect.data import Shards, batch_sizes, eval_batches, names_damage, split_selection, train_batches
from affect.delay import search_delay
from affect.device import describe_device, leave_accelerator_to_backend, repeatable
from affect.errors import InputError
from affect.labels import DIMENSIONS
from affect.losses import ConcordanceLoss
from affect.metrics import FORMULAS, SeriesMetric
from affect.model import build_model, face_size_of, load_trained
from affect.optimizers import PyTorchSGD
from affect.postprocessing import fit
from affect.precision import computing_in
from affect.regression import build_regression, build_video_model
from affect.seal import is_altered, seal
from affect.series import estimate
from affect.windows import Recording, as_triple, at_end, eval_windows, is_rated_at, read_recordings, train_windows


@names_damage
def train(experiment, *, data, workdir, progress=True):
    """Trains a model with `model.fit`, or goes on where an earlier call was stopped.

    Batches and dropout are a function of the seed and the epoch, and `last.keras` holds weights and optimizers. A run
    that was stopped therefore ends with the weights of one that was not, to the bit where `train.deterministic` holds.

    Seeds, determinism and precision are settings of the process; after the call they are what they were before.

    The run's folder holds `config.json` (experiment, classes, face settings, selection clips, `device` as of
    `affect.device.describe_device` when it began, versions), `best.keras` (the best epoch by `selection_metric` of the
    selection clips; the last where none are set aside), `last.keras` (each holds `affect.json`: the epochs done,
    classes and face settings), `log.csv` (a row an epoch) and `tensorboard/`. A regression learns from windows of
    recordings; whole recordings are what is set aside, named as `selection`, and its `classes` are
    `affect.labels.DIMENSIONS`. Its run holds also `delay.json` where `windows.delay_s` was `None`, what was found and
    the score of each candidate; `config.json` holds the delay that was found. And with `windows.postprocess`,
    `postprocessing.json`: for each dimension the steps that were fitted to the best epoch's estimates and by how much
    each raised the CCC, and on which recordings (`selection`; `training` where none are set aside, whose gains are
    optimistic, for the network has learnt them).

    Args:
        experiment: `affect.config.Experiment`.
        data: Folder of shards.
        workdir: Folder of the run; created.
        progress: Whether to show progress.

    Returns:
        Dict: `epochs`, `best_epoch` (from 1), the best epoch's row of the log, and how many clips were trained on, set
        aside for selection, and left out of both because they show no face or have no label: `train_clips`,
        `selection_clips` and `clips_left_out`. Of a regression these are recordings, `train_recordings` and so on,
        and there are `windows_left_out`, and what `delay.json` and `postprocessing.json` hold, or `None`: `delay` and
        `postprocessing`.

    Raises:
        InputError: When there is nothing to train on or learn, a setting can have no effect (`affect.config.EFFECTS`),
            or `workdir` holds a run of another experiment or data.
    """
    settings, workdir = experiment.train, Path(workdir)
    shards = Shards(data)
    if isinstance(experiment.model, Regression):
        lesson = _recordings(experiment, shards, _found_delay(workdir))
        experiment = lesson.experiment
    else:
        lesson = _clips(experiment, shards)

    leave_accelerator_to_backend()
    device = describe_device(settings)
    with repeatable(settings.seed, device["deterministic"]):
        return _run(experiment, lesson, shards, device, data, workdir, progress)


def _run(experiment, lesson, shards, device, data, workdir, progress):
    settings = experiment.train
    with computing_in(settings.precision):
        model = lesson.build()
    run = {
        "experiment": to_json(experiment),
        "classes": list(lesson.classes),
        "faces": shards.faces,
        "shards": {shard["name"]: shard["sha256"] for shard in shards.shards},
        "selection": lesson.selection,
        "weights_sha256": lesson.weights_sha256,
        "device": device,
    }
    _open_run(workdir, run, data, lesson.delay)

    # XLA is slower than oneDNN on a CPU.
    on_cpu = keras.backend.backend() == "tensorflow" and device["name"] == "CPU"
    model.compile(
        optimizer=build_optimizer(model, settings, lesson.steps),
        jit_compile=False if on_cpu else "auto",
        **lesson.compiled,
    )
    metric = settings.selection_metric if lesson.selection else None
    # Shards of an older version lack settings that have a default now.
    faces = to_json(from_json(Faces, shards.faces, f"{data}: faces"))
    checkpoint = Checkpoint(workdir, metric, settings.seed, {"classes": run["classes"], "faces": faces})
    first_epoch = checkpoint.restore(model, lesson.steps)
    if first_epoch < settings.epochs:
        (workdir / "postprocessing.json").unlink(missing_ok=True)  # of other weights
        batches, selection_batches = lesson.batches(model, first_epoch)
        model.fit(
            batches,
            validation_data=selection_batches,
            class_weight=lesson.class_weights,
            epochs=settings.epochs,
            initial_epoch=first_epoch,
            steps_per_epoch=lesson.steps,
            shuffle=False,  # they are shuffled
            verbose=0,
            callbacks=[
                keras.callbacks.TerminateOnNaN(),
                keras.callbacks.CSVLogger(workdir / "log.csv", append=True),
                keras.callbacks.TensorBoard(workdir / "tensorboard", write_graph=False),
                *([EpochProgress(settings.epochs, lesson.steps, first_epoch)] if progress else []),
                checkpoint,  # last: what it saves, the others have logged
            ],
        )
    rows = read_log(workdir)
    if len(rows) < settings.epochs or not math.isfinite(rows[-1]["loss"]):
        raise InputError(
            f"The loss is not finite any more in epoch {len(rows)} of {workdir}. Lower train.head_learning_rate or "
            "train.backbone_learning_rate, in another --workdir."
        )
    best, postprocessing = checkpoint.best_of(rows), workdir / "postprocessing.json"
    if lesson.fitted_on and not postprocessing.is_file():
        write_json(postprocessing, _fitted(load_trained(workdir), lesson))
    of_regression = {
        "delay": lesson.delay,
        "postprocessing": read_json(postprocessing) if lesson.fitted_on else None,
    }
    return {
        "epochs": len(rows),
        "best_epoch": best + 1,
        **{name: value for name, value in rows[best].items() if name != "epoch"},
        **lesson.counts,
        **(of_regression if isinstance(experiment.model, Regression) else {}),
    }


@dataclass(frozen=True)
class _Lesson:
    """What a model learns and from what: where classes and dimensions are trained otherwise.

    Args:
        experiment: `affect.config.Experiment`, with the delay that was found.
        classes: Names of the outputs.
        selection: Keys of the clips, or names of the recordings, that select the epoch; empty for none.
        build: `build()` → `keras.Model`.
        weights_sha256: Of the backbone's weights; `None` without.
        compiled: Loss and metrics, as arguments of `model.compile`.
        steps: Batches an epoch.
        batches: `batches(model, first_epoch)` → endless training batches, and those of the selection or `None`.
        counts: Dict of what was used and what was not.
        class_weights: For `model.fit`.
        delay: What `delay.json` holds; `None` where nothing was searched.
        fitted_on: Recordings that post-processing is fitted on; empty for none.
    """

    experiment: Experiment
    classes: tuple[str, ...]
    selection: list[str]
    build: Callable
    weights_sha256: str | None
    compiled: dict
    steps: int
    batches: Callable
    counts: dict[str, int]
    class_weights: dict[int, float] | None = None
    delay: dict | None = None
    fitted_on: tuple[Recording, ...] = ()


def _clips(experiment, shards):
    """Returns the `_Lesson` of a model that classifies clips."""
    settings, config = experiment.train, experiment.model
    is_video = isinstance(config, VideoModel)  # which has no backbone
    if config.spatial_pooling is None:
        raise InputError(f"{experiment.name} has its backbone's own classifier and needs no training: affect predict.")
    check_effects(experiment)
    _check_metric(settings, "accuracy")
    clips = shards.of_split(experiment.data.train_split)
    usable = _usable(clips)
    classes = tuple(name for name in shards.classes if any(clip["label"] == name for clip in usable))
    if len(classes) < 2:
        raise InputError(
            f"{shards.folder}: training needs labelled clips of two classes or more. Received: {list(classes)}"
        )
    if experiment.data.soft_labels and not any(clip["votes"] for clip in usable):
        raise InputError(f"{shards.folder}: no training clip has votes of raters. Set data.soft_labels=false.")
    left_out, selection_split = len(clips) - len(usable), experiment.data.selection_split
    if selection_split is None:
        train_keys, selection_keys = split_selection(usable, experiment.data.selection_ratio, settings.seed)
    else:
        train_keys, selection_keys = [clip["key"] for clip in usable], _selection_keys(shards, experiment.data, classes)
        left_out += len(shards.of_split(selection_split)) - len(selection_keys)
    one_hot = partial(tf.one_hot, depth=len(classes))

    def batches(model, first_epoch):
        shared = {"classes": classes, "face_size": face_size_of(model)}
        training, _ = train_batches(
            shards, experiment.data, keys=train_keys, seed=settings.seed, first_epoch=first_epoch, **shared
        )
        if not experiment.data.soft_labels:
            training = training.map(lambda inputs, label: (inputs, one_hot(label)))
        if not selection_keys:
            return training, None
        split = selection_split or experiment.data.train_split
        selection = eval_batches(shards, experiment.data, split=split, keys=selection_keys, **shared).map(
            lambda clip: ({"faces": clip["faces"], "frame_mask": clip["frame_mask"]}, one_hot(clip["label"]))
        )
        # Keras warns of data that ran out when it is not told how many there are.
        steps = -(-len(selection_keys) // experiment.data.batch_clips)
        return training, selection.apply(tf.data.experimental.assert_cardinality(steps))

    return _Lesson(
        experiment=experiment,
        classes=classes,
        selection=selection_keys,
        build=lambda: (build_video_model if is_video else build_model)(config, classes),
        weights_sha256=None if is_video else weights_sha256(config.backbone, config.weights),
        compiled={
            "loss": keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=settings.label_smoothing),
            "metrics": [keras.metrics.CategoricalAccuracy("accuracy")],
        },
        steps=len(batch_sizes(len(train_keys), experiment.data)),
        batches=batches,
        counts={
            "train_clips": len(train_keys),
            "selection_clips": len(selection_keys),
            "clips_left_out": left_out,
        },
        class_weights=_class_weights(usable, train_keys, classes) if settings.class_weights else None,
    )


def _recordings(experiment, shards, delay=None):
    """Returns the `_Lesson` of a regression, which learns from windows of recordings.

    Args:
        experiment: `affect.config.Experiment`.
        shards: `affect.data.Shards`.
        delay: What an earlier call of the same run found, in place of a search.
    """
    settings, data, windows = experiment.train, experiment.data, experiment.windows
    check_effects(experiment)
    _check_metric(settings, "ccc")
    usable, left_out = _with_a_face_and_ratings(shards, data.train_split)
    if data.selection_split is None:
        entries = [{"key": r.name, "recording": r.name, "label": "", "subject": r.subject} for r in usable]
        _, selected = split_selection(entries, data.selection_ratio, settings.seed)
        training = [recording for recording in usable if recording.name not in selected]
        selection = [recording for recording in usable if recording.name in selected]
    else:
        _check_selection_split(data)
        training, (selection, others_left_out) = usable, _with_a_face_and_ratings(shards, data.selection_split)
        left_out += others_left_out
    if windows.delay_s is None:
        if delay is None:
            delay_s, scores = search_delay(training, windows, data)
            delay = {"delay_s": delay_s, "scores": {str(candidate_s): score for candidate_s, score in scores.items()}}
        windows = replace(windows, delay_s=delay["delay_s"])
    else:
        delay = None
    before = len(training) + len(selection)
    training = _rated_at_the_delay(training, windows, shards, data.train_split)
    if selection:
        selection = _rated_at_the_delay(selection, windows, shards, data.selection_split or data.train_split)
    left_out += before - len(training) - len(selection)
    as_learnt = at_end if experiment.model.predicts == "end" else lambda *window: window
    shared = {"face_size": experiment.model.face_size, "features": experiment.model.features}

    def batches(_, first_epoch):
        batches, _, _ = train_windows(training, windows, data, seed=settings.seed, first_epoch=first_epoch, **shared)
        if not selection:
            return batches.map(as_learnt), None
        return batches.map(as_learnt), eval_windows(selection, windows, data, **shared).map(as_triple).map(as_learnt)

    _, steps, windows_left_out = train_windows(training, windows, data, seed=settings.seed, **shared)
    return _Lesson(
        experiment=replace(experiment, windows=windows),
        classes=DIMENSIONS,
        selection=[recording.name for recording in selection],
        build=lambda: build_regression(experiment.model),
        weights_sha256=None,
        compiled={
            "loss": ConcordanceLoss(settings.concordance),
            "weighted_metrics": [
                SeriesMetric(formula, output, name=f"{dimension}_{formula}")
                for output, dimension in enumerate(DIMENSIONS)
                for formula in FORMULAS
            ],
        },
        steps=steps,
        batches=batches,
        counts={
            "train_recordings": len(training),
            "selection_recordings": len(selection),
            "recordings_left_out": left_out,
            "windows_left_out": windows_left_out,
        },
        delay=delay,
        fitted_on=tuple(selection or training) if windows.postprocess else (),
    )


def _found_delay(workdir):
    """Returns what `delay.json` of a run holds, or `None`."""
    # Without config.json, which is written after it, it is of no run.
    is_run = (workdir / "config.json").is_file() and (workdir / "delay.json").is_file()
    return read_json(workdir / "delay.json") if is_run else None


def _fitted(trained, lesson):
    """Returns what `postprocessing.json` holds, of a run that has none yet."""
    all_series, dimensions = estimate(trained, lesson.fitted_on), {}
    for index, name in enumerate(trained.classes):
        steps, gains = fit(
            {
                series.recording.name: {
                    "times_s": series.times_s,
                    "labels": series.labels[:, index],
                    "predictions": series.raw[:, index],
                    "weights": series.is_counted,
                }
                for series in all_series
            }
        )
        dimensions[name] = {"steps": to_json(steps), "gains": gains}
    return {"fitted_on": "selection" if lesson.selection else "training", "dimensions": dimensions}


def _check_metric(settings, of_its_kind):
    known = (of_its_kind, "loss")
    if settings.selection_metric not in known:
        raise InputError(
            f"Unknown `selection_metric`. Expected {known[0]!r} or {known[1]!r}. "
            f"Received: {settings.selection_metric!r}"
        )


def _with_a_face_and_ratings(shards, split):
    """Returns the recordings of a split that can be learnt from or selected on at some delay, and how many cannot."""
    recordings, unrated = read_recordings(shards, split)
    usable = [r for r in recordings if len(r.times_s) and r.times_s[0] <= r.rating_times_s[-1]]
    if not usable:
        raise InputError(f"{shards.folder}: no recording of split {split!r} shows a face before its last rating.")
    return usable, len(recordings) + len(unrated) - len(usable)


def _rated_at_the_delay(recordings, windows, shards, split):
    """Returns those of the recordings that can be learnt from or selected on; one at least."""
    usable = [recording for recording in recordings if is_rated_at(recording, recording.times_s, windows.delay_s).any()]
    if not usable:
        raise InputError(
            f"{shards.folder}: no recording of split {split!r} has a frame with both a face and a rating "
            f"{windows.delay_s} s later. Lower windows.delay_s, or prepare recordings that show a face."
        )
    return usable


# Paths of a backbone's variables; in a model that was read from a file they have lost their prefix.
BACKBONE = r"backbone/.*|block\d+_.*"


def build_optimizer(model, settings, steps):
    """Builds SGD with momentum, or Adam, with weight decay and SGDR, at one rate for the backbone and one for the rest.

    SGDR (Loshchilov and Hutter, arXiv 1608.03983) is `keras.optimizers.schedules.CosineDecayRestarts`, drawn per step
    to 0. `MultiOptimizer.learning_rate` cannot be set, so callbacks cannot drive it: each group has its schedule.

    Args:
        model: From `build_model`, whose backbone a rate of 0 freezes, and `frozen_blocks` its first blocks; or a model
            without a layer `backbone`, which learns at `head_learning_rate` as a whole.
        settings: `affect.config.Train`.
        steps: Batches an epoch.

    Returns:
        A Keras optimizer; in float16 one that scales the loss.
    """

    def scheduled(start, restart_ratio=1.0):
        return keras.optimizers.schedules.CosineDecayRestarts(
            start,
            first_decay_steps=settings.restart_epochs * steps,  # batches, also where gradients are accumulated
            t_mul=settings.restart_factor,
            m_mul=restart_ratio,
        )

    def group(learning_rate):
        accumulated = settings.accumulation_steps if settings.accumulation_steps > 1 else None
        schedule, decay = scheduled(learning_rate), settings.weight_decay
        if settings.pytorch_sgd and settings.weight_decay_schedule == "cosine":
            decay = scheduled(decay, settings.restart_factor**-0.5)
        shared = {"weight_decay": decay, "gradient_accumulation_steps": accumulated}
        if settings.optimizer == "adam":
            return keras.optimizers.AdamW(schedule, **shared)
        kind = PyTorchSGD if settings.pytorch_sgd else keras.optimizers.SGD
        return kind(schedule, momentum=settings.momentum, nesterov=settings.nesterov, **shared)

    backbone, groups = {layer.name: layer for layer in model.layers}.get("backbone"), {}
    if backbone is not None and settings.backbone_learning_rate:
        groups[BACKBONE] = group(settings.backbone_learning_rate)
        for layer in backbone.layers:
            block = re.match(r"block(\d+)_", layer.name)
            layer.trainable = not block or int(block[1]) > settings.frozen_blocks
    elif backbone is not None:
        backbone.trainable = False
    # One group too, for MultiOptimizer counts every batch, also where gradients are accumulated.
    optimizer = keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(group(settings.head_learning_rate), groups)
    )
    # Keras would put this around it too, and leave it out when a checkpoint is loaded.
    return keras.optimizers.LossScaleOptimizer(optimizer) if settings.precision == "float16" else optimizer


def _usable(clips):
    """Returns the clips that can be learnt from or selected on: labelled, with a face."""
    return [clip for clip in clips if clip["label"] and clip["frames_with_a_face"]]


def _check_selection_split(data):
    """Refuses a split that selects the epoch beside a share of the training clips, or is the one trained on."""
    split = data.selection_split
    if split == data.train_split:
        raise InputError(
            f"data.selection_split is the split trained on, {split!r}. For a share of its clips set "
            "data.selection_split=None and data.selection_ratio."
        )
    if data.selection_ratio:
        raise InputError(
            f"The epoch is selected on a share of the training clips or on split {split!r}. Expected "
            f"data.selection_ratio=0 or data.selection_split=None. Received: {data.selection_ratio} and {split!r}"
        )


def _selection_keys(shards, data, classes):
    """Returns the keys of the clips of another split that select the epoch."""
    _check_selection_split(data)
    split = data.selection_split
    clips = _usable(shards.of_split(split))
    if not clips:
        raise InputError(f"Split {split!r} of {shards.folder} has no labelled clip with a face to select the epoch on.")
    if unknown := sorted({clip["label"] for clip in clips} - set(classes)):
        raise InputError(
            f"Split {split!r} of {shards.folder}, which selects the epoch, has clips labelled {unknown}; those trained "
            f"on are labelled {list(classes)}."
        )
    return [clip["key"] for clip in clips]


def _class_weights(clips, keys, classes):
    """Returns class index → weight, inverse to how many clips have the class; the mean over clips is 1."""
    keys = set(keys)
    counts = Counter(clip["label"] for clip in clips if clip["key"] in keys)
    return {index: len(keys) / (len(classes) * counts[name]) for index, name in enumerate(classes)}


# The member of a checkpoint that says how many epochs it was trained, its classes, and how its faces were cut.
DESCRIPTION = "affect.json"


class Checkpoint(keras.callbacks.Callback):
    """Keeps `last.keras` and `best.keras`, each written under a temporary name and renamed.

    Keras's BackupAndRestore writes weights and epoch one after the other, in place: a run killed between the two goes
    on one epoch off. Here the number of epochs is a member of the same archive as the weights. The optimizer's count
    of steps does not tell it: in float16 a step whose gradients overflow is skipped, and often the first one is.

    Args:
        workdir: Folder of the run.
        metric: `"accuracy"` or `"loss"` of the selection clips, or `"ccc"` of the selection recordings, its mean over
            the dimensions; `None` keeps the last epoch as the best.
        seed: Of the run.
        description: Dict that each file holds beside the epoch, so that it says by itself what it takes and gives.
    """

    def __init__(self, workdir, metric, seed, description=None):
        super().__init__()
        self.workdir = Path(workdir)
        self.metric = metric
        self.seed = seed
        self.description = description or {}
        self.steps = self.epochs = 0

    def restore(self, model, steps):
        """Loads `last.keras` into a compiled model, if there is one, and returns the epoch that comes next."""
        self.steps, last = steps, self.workdir / "last.keras"
        if not last.is_file():
            (self.workdir / "log.csv").unlink(missing_ok=True)
            return 0
        if is_altered(last):
            raise InputError(
                f"The checkpoint {last} is not what was written: its checksum is another. Copy it again, or train in "
                "another --workdir."
            )
        model.optimizer.build(model.trainable_variables)
        model.load_weights(last)
        with zipfile.ZipFile(last) as archive:
            if DESCRIPTION in archive.namelist():
                epoch = json.loads(archive.read(DESCRIPTION))["epochs"]
            else:  # of an older version; rounded up, because steps may have been skipped
                epoch = -(-int(model.optimizer.iterations) // steps)
        # Rows that were logged after the last save belong to epochs that will be run again.
        log = self.workdir / "log.csv"
        _write_rows(log, [row for row in _read_rows(log) if int(row["epoch"]) < epoch])
        return epoch

    def best_of(self, rows):
        """Returns the index of the best of the log's rows; of equal ones the first."""
        if self.metric is None:
            return len(rows) - 1

        def score(row):
            if self.metric == "ccc":
                return sum(row[f"val_{name}_ccc"] for name in DIMENSIONS)
            return row["val_accuracy"] if self.metric == "accuracy" else -row["val_loss"]

        return max(range(len(rows)), key=lambda index: (score(rows[index]), -index))

    def on_epoch_begin(self, epoch, logs=None):
        # Keras does not save the state of its random generators (dropout), so each epoch is given its own.
        generators = [layer.seed_generator for layer in self.model.layers if hasattr(layer, "seed_generator")]
        for index, generator in enumerate(generators):
            generator.state.assign(np.random.SeedSequence([self.seed, epoch, index]).generate_state(2))

    def on_epoch_end(self, epoch, logs=None):
        if not math.isfinite(logs["loss"]):
            return
        self.epochs = epoch + 1
        self._count_skipped_steps()
        # best first: a run killed between the two does the epoch again and comes to the same.
        rows = read_log(self.workdir)
        if self.best_of(rows) == len(rows) - 1:
            self._save("best.keras")
        self._save("last.keras")

    def _count_skipped_steps(self):
        """Moves the counts by which rates are scheduled to where the epoch ends, in whole steps of accumulation."""
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        skipped = self.epochs * self.steps - int(optimizer.iterations)
        skipped -= skipped % (optimizer.optimizers[-1].gradient_accumulation_steps or 1)
        if skipped:
            for counted in (optimizer, *optimizer.optimizers):
                counted.variables[0].assign_add(skipped)  # its `iterations` counts accumulated batches as one

    def _save(self, name):
        temporary = self.workdir / f"tmp-{name}"
        self.model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(DESCRIPTION, json.dumps({"epochs": self.epochs, **self.description}))
        seal(temporary)
        os.replace(temporary, self.workdir / name)


class EpochProgress(keras.callbacks.Callback):
    """Shows the batches done, time gone and time left over all epochs, and the last loss."""

    def __init__(self, epochs, steps, first_epoch):
        super().__init__()
        self.progress = Progress(
            TextColumn("train {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.task = self.progress.add_task("", total=epochs * steps, completed=first_epoch * steps)

    def on_train_begin(self, logs=None):
        self.progress.start()

    def on_train_batch_end(self, batch, logs=None):
        self.progress.advance(self.task)

    def on_epoch_end(self, epoch, logs=None):
        name = "val_loss" if "val_loss" in logs else "loss"
        self.progress.update(self.task, description=f"epoch {epoch + 1}, {name} {logs[name]:.3f}")

    def on_train_end(self, logs=None):
        self.progress.stop()


def read_log(workdir):
    """Returns the rows of a run's `log.csv` as dicts of numbers, one an epoch, `epoch` counted from 0."""
    rows = _read_rows(Path(workdir) / "log.csv")
    return [{name: float(value) for name, value in row.items() if value != "NA"} for row in rows]


def _read_rows(path):
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _write_rows(path, rows):
    if not rows:
        path.unlink(missing_ok=True)
        return
    temporary = path.with_suffix(".tmp")
    with open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)


def _open_run(workdir, run, data, delay):
    """Creates the run's folder, or checks that it is the same run."""
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "config.json"
    if not path.exists():
        versions = {"affect": affect.__version__, "keras": keras.__version__, "tensorflow": tf.__version__}
        versions |= {"numpy": np.__version__, "python": platform.python_version(), "backend": keras.backend.backend()}
        if delay:
            write_json(workdir / "delay.json", delay)
        else:
            (workdir / "delay.json").unlink(missing_ok=True)  # of a call that was stopped before it made a run
        write_json(path, run | {"versions": versions})
        return
    before = read_json(path)
    if before.get("shards") != run["shards"]:
        raise InputError(f"{workdir} is a run on other shards than {data}. Choose another --workdir.")
    # Fields that came later are read as their defaults, and older files hold some that have no effect.
    experiment = from_json(Experiment, before.get("experiment"), f"{path}: experiment")
    changed = _changed(to_json(experiment), run["experiment"])
    if changed := [name for name in changed if name not in without_effect(experiment)]:
        raise InputError(f"{workdir} is a run with other settings: {', '.join(changed)}. Choose another --workdir.")


def _changed(before, now, prefix=""):
    """Returns the names of the fields, `model.heads`, that differ between two configs in JSON."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return [] if before == now else [prefix]
    names = [name for name in now if before.get(name) != now[name]]
    return [found for name in names for found in _changed(before.get(name), now[name], f"{prefix}.{name}".lstrip("."))]

"""train(): a config and shards → a run: checkpoints, logs, and all that is needed to use them."""

import csv
import json
import math
import platform
import zipfile
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import affect
from affect.config import Experiment, Faces, find_without_effect, from_json, read_json, to_json, write_json
from affect.data.labels import DIMENSIONS
from affect.data.shards import Shards, names_damage
from affect.errors import InputError
from affect.extras import find_missing
from affect.files import is_intact, replace_file, seal
from affect.models.device import describe_device, leave_accelerator_to_backend, make_repeatable
from affect.models.precision import use_precision
from affect.progress import make_progress
from affect.reading.run import load_trained
from affect.tasks import find_task
from affect.tasks.postprocessing import POSTPROCESSING
from affect.training.optimizers import PyTorchSGD


@names_damage
def train(experiment, *, data, workdir, progress=True):
    """Trains a model with `model.fit`, or goes on where an earlier call was stopped.

    Batches and dropout are a function of the seed and the epoch, and `last.keras` holds weights and optimizers. A run
    that was stopped therefore ends with the weights of one that was not, to the bit where `train.deterministic` holds.

    Seeds, determinism and precision are settings of the process; after the call they are what they were before.

    The run's folder holds `config.json` (experiment, classes, face settings, selection clips, `device` as of
    `affect.models.device.describe_device` when it began, versions), `best.keras` (the best epoch by `selection_metric`
    of the selection clips; the last where none are set aside), `last.keras` (each holds `affect.json`: the epochs done,
    classes and face settings), `log.csv` (a row an epoch) and `tensorboard/` (with the extra `logs`). A regression
    learns from windows of recordings; whole recordings are what is set aside, named as `selection`, and its `classes`
    are `affect.data.labels.DIMENSIONS`. Its run holds also `delay.json` where `windows.delay_s` was `None`, what was
    found and the score of each candidate; `config.json` holds the delay that was found. And with `windows.postprocess`,
    `postprocessing.json`: for each dimension the steps that were fitted to the best epoch's estimates and by how much
    each raised the CCC, and on which recordings (`selection`; `training` where none are set aside, whose gains are
    optimistic, because the network has learnt them).

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
    settings, workdir, shards = experiment.train, Path(workdir), Shards(data)
    task = find_task(experiment)
    training = task.prepare_training(experiment, shards, workdir)
    leave_accelerator_to_backend()
    device = describe_device(settings)
    with make_repeatable(settings.seed, device["deterministic"]):
        with use_precision(settings.precision):
            model = task.build(experiment.model, training.classes, settings)
        _open_run(workdir, _describe_run(training, shards, device), data, training.delay)
        model.compile(
            optimizer=build_optimizer(model, settings, training.steps),
            loss=training.loss,
            metrics=training.metrics,
            weighted_metrics=training.weighted_metrics,
            jit_compile=_may_jit(device),
        )
        checkpoint = _begin_checkpoint(training, shards, workdir)
        first_epoch = checkpoint.restore(model, training.steps)
        if first_epoch < settings.epochs:
            (workdir / POSTPROCESSING).unlink(missing_ok=True)  # of other weights
            batches, selection_batches = training.batches(model, first_epoch)
            model.fit(
                batches,
                validation_data=selection_batches,
                class_weight=training.class_weights,
                epochs=settings.epochs,
                initial_epoch=first_epoch,
                steps_per_epoch=training.steps,
                shuffle=False,  # they are shuffled
                verbose=0,
                callbacks=[
                    keras.callbacks.TerminateOnNaN(),
                    keras.callbacks.CSVLogger(workdir / "log.csv", append=True),
                    *_log_to_tensorboard(workdir),
                    *([EpochProgress(settings.epochs, training.steps, first_epoch)] if progress else []),
                    checkpoint,  # last: what it saves, the others have logged
                ],
            )
        rows = read_log(workdir)
        _check_finite(rows, settings, workdir)
        best = checkpoint.best_of(rows)
        return {
            "epochs": len(rows),
            "best_epoch": best + 1,
            **{name: value for name, value in rows[best].items() if name != "epoch"},
            **training.counts,
            **task.finish_training(training, workdir, partial(load_trained, workdir)),
        }


@names_damage
def prepare_training(experiment, data):
    """Prepares what `model.fit` needs, for a training script of one's own.

    Args:
        experiment: `affect.config.Experiment`.
        data: Folder of shards.

    Returns:
        `affect.tasks.Training`: classes, loss, metrics, steps an epoch and `batches(model)`, which gives endless
        training batches, and those of the selection or `None`.

    Raises:
        InputError: As `train`.
    """
    return find_task(experiment).prepare_training(experiment, Shards(data), None)


def _describe_run(training, shards, device):
    """Returns what `config.json` holds, but for the versions."""
    return {
        "experiment": to_json(training.experiment),
        "classes": list(training.classes),
        "faces": shards.faces,
        "shards": {shard["name"]: shard["sha256"] for shard in shards.shards},
        "selection": training.selection,
        "weights_sha256": training.weights_sha256,
        "device": device,
    }


def _log_to_tensorboard(workdir):
    """Returns the callbacks that write `tensorboard/`; none without the extra `logs`."""
    if find_missing("logs"):
        return []
    return [keras.callbacks.TensorBoard(workdir / "tensorboard", write_graph=False)]


def _may_jit(device):
    """Returns Keras's `jit_compile`. XLA is slower than oneDNN on a CPU."""
    on_cpu = keras.backend.backend() == "tensorflow" and device["name"] == "CPU"
    return False if on_cpu else "auto"


def _begin_checkpoint(training, shards, workdir):
    settings = training.experiment.train
    # Shards of an older version lack settings that have a default now.
    faces = to_json(from_json(Faces, shards.faces, f"{shards.folder}: faces"))
    metric = settings.selection_metric if training.selection else None
    return Checkpoint(workdir, metric, settings.seed, {"classes": list(training.classes), "faces": faces})


def _check_finite(rows, settings, workdir):
    if len(rows) < settings.epochs or not math.isfinite(rows[-1]["loss"]):
        raise InputError(
            f"The loss is not finite any more in epoch {len(rows)} of {workdir}. Lower train.head_learning_rate or "
            "train.backbone_learning_rate, in another --workdir."
        )


# Paths of a backbone's variables; in a model that was read from a file they have lost their prefix.
BACKBONE = r"backbone/.*|block\d+_.*"


def build_optimizer(model, settings, steps):
    """Builds SGD with momentum, or Adam, with weight decay and SGDR, at one rate for the backbone and one for the rest.

    SGDR (Loshchilov and Hutter, arXiv 1608.03983) is `keras.optimizers.schedules.CosineDecayRestarts`, drawn per step
    to 0. `MultiOptimizer.learning_rate` cannot be set, so callbacks cannot drive it: each group has its schedule.

    Args:
        model: From `affect.models.frame_classifier.build_frame_classifier` with the same settings, which freezes what
            is not to learn; or a model without a layer `backbone`, which learns at `head_learning_rate` as a whole.
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
    if backbone is not None and backbone.trainable_variables:
        groups[BACKBONE] = group(settings.backbone_learning_rate)
    # One group too, because MultiOptimizer counts every batch, also where gradients are accumulated.
    optimizer = keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(group(settings.head_learning_rate), groups)
    )
    # Keras would put this around it too, and leave it out when a checkpoint is loaded.
    return keras.optimizers.LossScaleOptimizer(optimizer) if settings.precision == "float16" else optimizer


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
        if is_intact(last) is False:
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
            self.save("best.keras")
        self.save("last.keras")

    def _count_skipped_steps(self):
        """Moves the counts by which rates are scheduled to where the epoch ends, in whole steps of accumulation."""
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        skipped = self.epochs * self.steps - int(optimizer.iterations)
        skipped -= skipped % (optimizer.optimizers[-1].gradient_accumulation_steps or 1)
        if skipped:
            for counted in (optimizer, *optimizer.optimizers):
                counted.variables[0].assign_add(skipped)  # its `iterations` counts accumulated batches as one

    def save(self, name):
        """Writes a sealed checkpoint of the model into the run's folder."""
        with replace_file(self.workdir / name) as temporary:
            self.model.save(temporary)
            with zipfile.ZipFile(temporary, "a") as archive:
                archive.writestr(DESCRIPTION, json.dumps({"epochs": self.epochs, **self.description}))
            seal(temporary)


class EpochProgress(keras.callbacks.Callback):
    """Shows the batches done, rate, time gone and time left over all epochs, and the last loss."""

    def __init__(self, epochs, steps, first_epoch):
        super().__init__()
        self.progress = make_progress()
        self.task = self.progress.add_task("train", total=epochs * steps, completed=first_epoch * steps)

    def on_train_begin(self, logs=None):
        self.progress.start()

    def on_train_batch_end(self, batch, logs=None):
        self.progress.advance(self.task)

    def on_epoch_end(self, epoch, logs=None):
        name = "val_loss" if "val_loss" in logs else "loss"
        self.progress.update(self.task, description=f"train epoch {epoch + 1}, {name} {logs[name]:.3f}")

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
    with replace_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


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
    if changed := [name for name in changed if name not in find_without_effect(experiment)]:
        raise InputError(f"{workdir} is a run with other settings: {', '.join(changed)}. Choose another --workdir.")


def _changed(before, now, prefix=""):
    """Returns the names of the fields, `model.heads`, that differ between two configs in JSON."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return [] if before == now else [prefix]
    names = [name for name in now if before.get(name) != now[name]]
    return [found for name in names for found in _changed(before.get(name), now[name], f"{prefix}.{name}".lstrip("."))]

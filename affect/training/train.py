"""train(): a config and shards → a run: checkpoints, logs, and everything that is needed to use them."""

import csv
import json
import math
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from affect.config import (
    Experiment,
    Faces,
    Train,
    find_backbone,
    find_without_effect,
    from_json,
    list_changes,
    read_json,
    to_json,
    write_json,
)
from affect.config.experiment import SelectionMetric
from affect.data.batches import names_damage
from affect.data.labels import DIMENSIONS
from affect.data.shards import Shards
from affect.errors import InputError, MachineError, first_line, raise_failure
from affect.extras import find_missing
from affect.files import hold_folder, is_intact, replace_file, seal, sha256_of
from affect.models.backbones import is_known_everywhere
from affect.models.device import describe_device, leave_accelerator_to_backend, list_versions, make_repeatable
from affect.models.precision import use_precision
from affect.models.weights import refuse_missing_weights
from affect.progress import make_progress
from affect.reading.run import DESCRIPTION, load_trained
from affect.tasks import Training, find_task
from affect.tasks.postprocessing import POSTPROCESSING
from affect.training.features import FrozenNetwork, freeze
from affect.training.optimizers import PyTorchSGD
from affect.training.parallel import (
    EvaluateSelection,
    Replicas,
    check_divides,
    check_no_strategy,
    find_rank,
    find_replicas,
    leave_scope,
)


@names_damage
def train(
    experiment: Experiment,
    *,
    data: str | Path,
    workdir: str | Path,
    progress: bool = True,
    say_device: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Trains a model with `model.fit`, or resumes a run that was stopped.

    Batches and dropout depend only on the seed and the epoch, and `last.keras` holds weights and optimizers. So a run
    that was stopped and resumed ends with the same weights as one that was not, to the bit if `train.deterministic`
    holds. Seeds, determinism and precision belong to the process; after the call they are what they were before.

    If the whole backbone is frozen, its features are stored where that saves time (`affect.training.features`): at each
    start, also of a resumed run. On several devices they are not stored.

    Keras on JAX divides each batch over all devices that can have equal parts of it. After `jax.distributed.initialize`
    these are the devices of all processes. Each process must call `train` with the same arguments, where `workdir` is
    a folder that they share. Each reads its rows of every batch, and the first process alone writes. The weights are
    those of one device up to the order in which sums are added.

    The folder of the run holds:

    - `config.json`: experiment, classes, face settings, selection clips, versions, and the `device` at the start
      (`affect.models.device.describe_device`).
    - `backbone.keras`: the backbone as training began, if it came from a file or from a row that the config added. The
      config in `config.json` names this file, so that the run repeats from it.
    - `best.keras`: the best epoch by `selection_metric` on the selection clips; the last epoch without such clips.
    - `last.keras`: the last epoch. Both checkpoints hold `affect.json`: epochs, classes, face settings, experiment,
      and the log.
    - `log.csv`: a row for each epoch.
    - `tensorboard/`, with the extra `logs`.

    A regression learns from windows of recordings. Its `selection` names whole recordings, and its `classes` are
    `affect.data.labels.DIMENSIONS`. Its folder also holds:

    - `delay.json`, if `windows.delay_s` was `None`: the delay that was found, and the score of each candidate.
      `config.json` holds the found delay.
    - `postprocessing.json`, with `windows.postprocess`: for each dimension the steps that were fitted to the estimates
      of the best epoch, and the gain in CCC of each step; and `fitted_on`, the recordings. These are the `selection`;
      without one, the `training` recordings, whose gains are optimistic, because the network has learnt from them.

    Args:
        experiment: The config.
        data: Folder of shards.
        workdir: Folder of the run; created.
        progress: Whether to show progress.
        say_device: Is given `device`, as in `config.json`, before training starts; in the first process alone.

    Returns:
        Dict: `epochs`; `best_epoch`, counted from 1; the log's row of the best epoch; `train_clips` and
        `selection_clips`; and `clips_left_out`, which have no face or no label. A regression counts recordings,
        `train_recordings` and so on, and adds `windows_left_out`, and `delay` and `postprocessing`, the content of
        `delay.json` and `postprocessing.json`, or `None`.

    Raises:
        InputError: If there is nothing to learn, a field has no effect (`affect.config.EFFECTS`), the loss is not
            finite, or `workdir` holds a run of another config or other data; if processes differ in what they train, or
            cannot divide a batch; or in the scope of a strategy of TensorFlow.
        MachineError: If the clock of the machine is wrong, or `workdir` cannot be written.
    """
    config, workdir, shards = experiment.train, Path(workdir), Shards(data)
    _check_clock()
    leave_accelerator_to_backend()
    check_no_strategy()
    rank = find_rank()
    check_divides(experiment.data.batch_clips, rank)
    Replicas(rank).check_same(describe_work(experiment, shards), "All need the same affect, config and shards.")
    task = find_task(experiment)
    training = task.prepare_training(experiment, shards, workdir)
    replicas = find_replicas(training.sizes)
    replicas.check_same(
        {"published weights": training.weights_sha256},
        "Import the same file on each machine: affect weights import ...",
    )
    device = describe_device(config, devices=max(1, len(replicas.devices)), processes=rank.processes)
    if say_device and replicas.is_first:
        say_device(device)

    def build(experiment):
        with use_precision(config.precision):
            return task.build(experiment.model, training.classes, config)

    def finish():
        rows = read_log(workdir)
        _check_finite(rows, config, workdir)
        best = checkpoint.best_of(rows)
        return {
            "epochs": len(rows),
            "best_epoch": best + 1,
            **{name: value for name, value in rows[best].items() if name != "epoch"},
            **training.counts,
            **task.finish_training(training, workdir, partial(load_trained, workdir)),
        }

    held = hold_folder(workdir, "affect train", "--workdir") if replicas.is_first else nullcontext()
    with held, make_repeatable(config.seed, device["deterministic"]):
        with replicas.scope():
            model = build(experiment)
            recorded, backbone = _find_file_of_backbone(training.experiment, model)
            run = _describe_run(training, recorded, shards, device)
            replicas.run_once(partial(_open_run, workdir, run, data, training.delay, backbone))
            _wait_for_shared(workdir / "config.json", replicas)
            if backbone is not None:  # Build it as a run that repeats this one does, with the same random numbers.
                keras.utils.set_random_seed(config.seed)
                model = build(find_backbone(recorded, workdir))
            optimizer = build_optimizer(model, config, training.steps)
            learner = FrozenNetwork(model) if training.is_frozen and not replicas.are_several else model
            for network in {model, learner}:
                network.compile(
                    optimizer=optimizer,
                    loss=training.loss,
                    metrics=_copy_metrics(training.metrics),
                    weighted_metrics=_copy_metrics(training.weighted_metrics),
                    jit_compile=_may_jit(device),
                )
            optimizer.build(model.trainable_variables)  # else the first step is traced twice
            checkpoint = _begin_checkpoint(training, recorded, shards, workdir, writes=replicas.is_first)
            _check_same_checkpoint(workdir, replicas)
            first_epoch = checkpoint.restore(model, training.steps)
            if first_epoch < config.epochs:
                with _open_batches(training, model, learner, workdir, replicas, first_epoch, progress) as batches:
                    _fit(learner, batches, training, workdir, checkpoint, replicas, first_epoch, progress)
        return replicas.run_once(finish)


def _check_clock():
    """Refuses a clock that gives a year which a checkpoint, a zip archive, cannot hold."""
    year = time.localtime(time.time()).tm_year
    if not 1980 <= year <= 2107:
        raise MachineError(f"The clock of this machine says {year}. A checkpoint holds the time, so set the clock.")


def _open_batches(training, model, learner, workdir, replicas, first_epoch, progress):
    """Returns a context of `(batches, selection_batches)`, of features if the learner takes them."""
    if learner is model:
        return nullcontext(training.batches(model, first_epoch, replicas.rank))
    options = {"first_epoch": first_epoch, "jit_compile": learner.jit_compile, "shows_progress": progress}
    return freeze(training, model, workdir, **options)


def _fit(model, batches, training, workdir, checkpoint, replicas, first_epoch, progress):
    """Trains the epochs that are left."""
    epochs = training.experiment.train.epochs
    batches, selection_batches = batches
    callbacks = [keras.callbacks.TerminateOnNaN()]
    if replicas.are_several and selection_batches is not None:
        callbacks.append(EvaluateSelection(replicas, selection_batches))
    if replicas.is_first:
        (workdir / POSTPROCESSING).unlink(missing_ok=True)  # fitted to other weights
        callbacks += [keras.callbacks.CSVLogger(workdir / "log.csv", append=True), *_log_to_tensorboard(workdir)]
        if progress:
            callbacks.append(EpochProgress(epochs, training.steps, first_epoch))
    model.fit(
        batches,
        validation_data=None if replicas.are_several else selection_batches,
        class_weight=training.class_weights,
        epochs=epochs,
        initial_epoch=first_epoch,
        steps_per_epoch=training.steps,
        shuffle=False,  # because the batches are shuffled already
        verbose=0,
        callbacks=[*callbacks, checkpoint],  # last, because it reads what the others have logged
    )


@names_damage
def prepare_training(experiment: Experiment, data: str | Path) -> Training:
    """Returns the training batches, the loss and the metrics, for your own training script.

    Args:
        experiment: The config.
        data: Folder of shards.

    Raises:
        InputError: As `train`.
    """
    return find_task(experiment).prepare_training(experiment, Shards(data), None)


def _find_file_of_backbone(experiment, model):
    """Returns the experiment as `config.json` names it, and the backbone that is saved beside it, or `None`."""
    config = experiment.model
    if not config.backbone or is_known_everywhere(config.backbone):
        return experiment, None
    # The file has the scaling and the size, and the name says nothing to another process.
    own = {"weights": "file", "face_size": None, "output_stride": None, "input_scaling": "published"}
    return replace(experiment, model=replace(config, backbone=BACKBONE_FILE, **own)), model.get_layer("backbone")


def _describe_run(training, recorded, shards, device):
    """Returns the content of `config.json` except the versions."""
    return {
        "experiment": to_json(recorded),
        "classes": list(training.classes),
        "faces": shards.faces,
        "shards": _list_sums(shards),
        "selection": training.selection,
        "weights_sha256": training.weights_sha256,
        "device": device,
    }


def describe_work(experiment: Experiment, shards: Shards) -> dict[str, Any]:
    """Returns what must be the same in all processes of a training, as JSON can hold it.

    Args:
        experiment: The config.
        shards: The data.
    """
    return {"config": to_json(experiment), "shards": _list_sums(shards), "versions": list_versions()}


def _list_sums(shards):
    """Returns the checksum of each shard by its name."""
    return {shard["name"]: shard["sha256"] for shard in shards.shards}


def _wait_for_shared(path, replicas, wait_s=90):
    """Waits until a file that the first process has written is seen; a network's file system may need a minute."""
    end = time.monotonic() + wait_s
    while not (found := path.is_file()) and time.monotonic() < end:
        time.sleep(0.5)
    for number, is_seen in enumerate(replicas.gather(found)):
        if not is_seen:
            raise InputError(
                f"Process {number} does not see {path}, which process 0 has written. Give all processes the same "
                "--workdir, a folder that their machines share."
            )


def _check_same_checkpoint(workdir, replicas):
    """Checks that all processes go on from the same checkpoint."""
    if replicas.rank.processes > 1:
        last = workdir / "last.keras"
        seen = {str(last): sha256_of(last) if last.is_file() else None}
        replicas.check_same(seen, "Their machines must share the folder. Start all processes again in a minute.")


def _copy_metrics(metrics):
    """Returns the same metrics with variables on the devices of the scope that this is called in."""
    return [type(metric).from_config(metric.get_config()) for metric in metrics]


def _log_to_tensorboard(workdir):
    """Returns the callbacks that write `tensorboard/`, none without the extra `logs`."""
    if find_missing("logs"):
        return []
    return [keras.callbacks.TensorBoard(workdir / "tensorboard", write_graph=False)]


def _may_jit(device):
    """Returns Keras's `jit_compile`. XLA is slower than oneDNN on a CPU."""
    on_cpu = keras.backend.backend() == "tensorflow" and device["name"] == "CPU"
    return False if on_cpu else "auto"


def _begin_checkpoint(training, recorded, shards, workdir, writes):
    config = training.experiment.train
    # Fill in the defaults of settings that older shards lack.
    faces = to_json(from_json(Faces, shards.faces, f"{shards.folder}: faces"))
    metric = config.selection_metric if training.selection else None
    # What `load_trained` compares with config.json.
    about = {"classes": list(training.classes), "faces": faces, "experiment": to_json(recorded)}
    return Checkpoint(workdir, metric, config.seed, about, writes)


def _check_finite(rows, config, workdir):
    if len(rows) < config.epochs or not math.isfinite(rows[-1]["loss"]):
        raise InputError(
            f"The loss is not finite in epoch {len(rows)} of {workdir}. Lower train.head_learning_rate or "
            "train.backbone_learning_rate, and train in another --workdir."
        )


# The backbone of a run, as training began, if it is no backbone that another process can build by its name.
BACKBONE_FILE = "backbone.keras"


def build_optimizer(model: keras.Model, config: Train, steps: int) -> keras.optimizers.Optimizer:
    """Builds SGD with momentum, or Adam, with weight decay and SGDR, with a rate for the backbone and one for the rest.

    SGDR (Loshchilov and Hutter, arXiv 1608.03983) is `keras.optimizers.schedules.CosineDecayRestarts`, which decays to
    0 step by step. Each group has its own schedule, because `MultiOptimizer.learning_rate` cannot be set by callbacks.

    Args:
        model: From `affect.models.frame_classifier.build_frame_classifier` with the same settings, which freezes the
            layers that are not trained; or a model without a layer `backbone`, which learns at `head_learning_rate`.
        config: Rates, decay and schedules.
        steps: Batches in an epoch.

    Returns:
        The optimizer. In float16 it scales the loss.
    """

    def schedule(start, restart_ratio=1.0):
        return keras.optimizers.schedules.CosineDecayRestarts(
            start,
            first_decay_steps=config.restart_epochs * steps,  # counted in batches, even with accumulated gradients
            t_mul=config.restart_factor,
            m_mul=restart_ratio,
        )

    def build_group(learning_rate):
        accumulated = config.accumulation_steps if config.accumulation_steps > 1 else None
        rate, decay = schedule(learning_rate), config.weight_decay
        if config.pytorch_sgd and config.weight_decay_schedule == "cosine":
            decay = schedule(decay, config.restart_factor**-0.5)
        shared = {"weight_decay": decay, "gradient_accumulation_steps": accumulated}
        if config.optimizer == "adam":
            return keras.optimizers.AdamW(rate, **shared)
        kind = PyTorchSGD if config.pytorch_sgd else keras.optimizers.SGD
        return kind(rate, momentum=config.momentum, nesterov=config.nesterov, **shared)

    backbone, groups = {layer.name: layer for layer in model.layers}.get("backbone"), {}
    if backbone is not None and backbone.trainable_variables:
        # In a model that was read from a file, the paths of a backbone's variables have lost their prefix.
        names = {layer.name for layer in backbone.layers if layer.weights} - {layer.name for layer in model.layers}
        paths = f"backbone/.*|(?:{'|'.join(map(re.escape, sorted(names)))})/.*"
        groups[paths] = build_group(config.backbone_learning_rate)
    # A single group uses MultiOptimizer too, because it counts every batch, even with accumulated gradients.
    optimizer = keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(build_group(config.head_learning_rate), groups)
    )
    # Keras would add LossScaleOptimizer itself, but would leave it out when a checkpoint is loaded.
    return keras.optimizers.LossScaleOptimizer(optimizer) if config.precision == "float16" else optimizer


class Checkpoint(keras.callbacks.Callback):
    """Writes `last.keras` and `best.keras`, each under a temporary name that is renamed.

    Keras's BackupAndRestore writes the weights and then the epoch, in place. A run that is killed between the two
    resumes one epoch off. Here the number of epochs is a member of the same archive as the weights. The optimizer's
    count of steps does not give it, because in float16 a step with overflowing gradients, often the first, is skipped.

    Args:
        workdir: Folder of the run.
        metric: Accuracy or loss on the selection clips, or CCC on the selection recordings, averaged over the
            dimensions; `None` keeps the last epoch as the best.
        seed: Seed of the run.
        description: Entries that each file holds beside the epoch, such as the classes.
        writes: Whether this process writes the files and cuts the log; of several processes, one does.
    """

    def __init__(
        self,
        workdir: str | Path,
        metric: SelectionMetric | None,
        seed: int,
        description: dict[str, Any] | None = None,
        writes: bool = True,
    ):
        super().__init__()
        self.workdir = Path(workdir)
        self.metric = metric
        self.seed = seed
        self.description = description or {}
        self.writes = writes
        self.steps = self.epochs = 0
        self.network: Any = None

    def restore(self, model: keras.Model, steps: int) -> int:
        """Loads `last.keras`, if there is one, and cuts the log at its epoch.

        Args:
            model: Compiled model, with a built optimizer, that the weights are loaded into, and that is saved. The
                model that `fit` trains may be another one with the same layers and the same optimizer.
            steps: Batches in an epoch.

        Returns:
            The next epoch, counted from 0.

        Raises:
            InputError: If the checkpoint is damaged.
        """
        self.network, self.steps, last = model, steps, self.workdir / "last.keras"
        log = self.workdir / "log.csv"
        if not last.is_file():
            if self.writes:
                log.unlink(missing_ok=True)
            return 0
        if (intact := is_intact(last)) is False or not zipfile.is_zipfile(last):
            raise InputError(
                f"The checkpoint {last} is damaged{': its checksum differs' * (intact is False)}. {self._mend()}"
            )
        try:
            with leave_scope(), refuse_missing_weights():
                model.load_weights(last)
        except (ValueError, OSError, KeyError, UserWarning) as error:
            raise_failure(error)
            raise InputError(f"The checkpoint {last} cannot be read ({first_line(error)}). {self._mend()}") from error
        with zipfile.ZipFile(last) as archive:
            about = json.loads(archive.read(DESCRIPTION)) if DESCRIPTION in archive.namelist() else {}
        # An older version wrote no epochs. Round up, because steps may have been skipped.
        epoch = about["epochs"] if about else -(-int(model.optimizer.iterations) // steps)
        # Rows that were logged after the last save are dropped, because these epochs run again.
        rows = about.get("log") or [row for row in _read_rows(log) if int(row["epoch"]) < epoch]
        if len(rows) < epoch:
            raise InputError(
                f"{log} lacks epochs that {last} has trained. Copy it again, or train in another --workdir."
            )
        if self.writes:
            _write_rows(log, rows)
        return epoch

    def _mend(self):
        """Returns what can be done without `last.keras`."""
        best, last = self.workdir / "best.keras", self.workdir / "last.keras"
        mended = f"go on from the best epoch: cp {best} {last}; or " if best.is_file() and is_intact(best) else ""
        return f"Copy it again; or {mended}train in another --workdir."

    def best_of(self, rows: Sequence[dict[str, float]]) -> int:
        """Returns the index of the best row of the log, the first of equal ones."""
        if self.metric is None:
            return len(rows) - 1

        def score(row):
            if self.metric == "ccc":
                return sum(row[f"val_{name}_ccc"] for name in DIMENSIONS)
            return row["val_accuracy"] if self.metric == "accuracy" else -row["val_loss"]

        return max(range(len(rows)), key=lambda index: (score(rows[index]), -index))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        # Seed the random generators (dropout) for each epoch, because Keras does not save their state.
        generators = [layer.seed_generator for layer in self.network.layers if hasattr(layer, "seed_generator")]
        for index, generator in enumerate(generators):
            generator.state.assign(np.random.SeedSequence([self.seed, epoch, index]).generate_state(2))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not math.isfinite(logs["loss"]):
            return
        self.epochs = epoch + 1
        self._count_skipped_steps()
        if not self.writes:
            return
        # Save the best first. If the run is killed between the two, it repeats the epoch with the same result.
        rows = read_log(self.workdir)
        if self.best_of(rows) == len(rows) - 1:
            self.save("best.keras")
            with replace_file(self.workdir / "last.keras") as temporary:  # of the same epoch, so of the same bytes
                shutil.copyfile(self.workdir / "best.keras", temporary)
        else:
            self.save("last.keras")

    def _count_skipped_steps(self):
        """Adds the skipped steps to the counts that schedule the rates, in whole steps of accumulation."""
        optimizer = getattr(self.network.optimizer, "inner_optimizer", self.network.optimizer)
        skipped = self.epochs * self.steps - int(optimizer.iterations)
        skipped -= skipped % (optimizer.optimizers[-1].gradient_accumulation_steps or 1)
        if skipped:
            for counted in (optimizer, *optimizer.optimizers):
                counted.variables[0].assign_add(skipped)  # `iterations` counts accumulated batches as one

    def save(self, name: str) -> None:
        """Writes a sealed checkpoint of the model into the folder of the run."""
        with replace_file(self.workdir / name) as temporary, leave_scope():
            self.network.save(temporary)
            with zipfile.ZipFile(temporary, "a") as archive:
                log = _read_rows(self.workdir / "log.csv")  # so that a lost or damaged log is written again
                archive.writestr(DESCRIPTION, json.dumps({"epochs": self.epochs, **self.description, "log": log}))
            seal(temporary)


class EpochProgress(keras.callbacks.Callback):
    """Shows the finished batches of all epochs, their rate, the elapsed and the remaining time, and the last loss.

    Args:
        epochs: Epochs of the run.
        steps: Batches in an epoch.
        first_epoch: Epochs that are done already.
    """

    def __init__(self, epochs: int, steps: int, first_epoch: int):
        super().__init__()
        self.progress = make_progress()
        self.task = self.progress.add_task("train", total=epochs * steps, completed=first_epoch * steps)

    def on_train_begin(self, logs: Any = None) -> None:
        self.progress.start()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.progress.advance(self.task)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        name = "val_loss" if "val_loss" in logs else "loss"
        self.progress.update(self.task, description=f"train epoch {epoch + 1}, {name} {logs[name]:.3f}")

    def on_train_end(self, logs: Any = None) -> None:
        self.progress.stop()


def read_log(workdir: str | Path) -> list[dict[str, float]]:
    """Returns the rows of a run's `log.csv`, one an epoch, with `epoch` counted from 0."""
    rows = _read_rows(Path(workdir) / "log.csv")
    return [{name: float(value) for name, value in row.items() if value != "NA"} for row in rows]


def _read_rows(path):
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if None not in row and None not in row.values()]  # whole rows


def _write_rows(path, rows):
    if not rows:
        path.unlink(missing_ok=True)
        return
    with replace_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _open_run(workdir, run, data, delay, backbone):
    """Creates the run's folder, or checks that it is the same run."""
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "config.json"
    if not path.exists():
        versions = list_versions() | {"backend": keras.backend.backend()}
        if delay:
            write_json(workdir / "delay.json", delay)
        else:
            (workdir / "delay.json").unlink(missing_ok=True)  # left by a call that was stopped before config.json
        if backbone is not None:
            with replace_file(workdir / BACKBONE_FILE) as temporary:
                backbone.save(temporary)
        write_json(path, run | {"versions": versions})
        return
    before = read_json(path)
    if before.get("shards") != run["shards"]:
        raise InputError(f"{workdir} is a run on other shards than {data}. Choose another --workdir.")
    # An older file lacks newer fields, which get their defaults, and may hold fields that have no effect.
    experiment = from_json(Experiment, before.get("experiment"), f"{path}: experiment")
    changed = list_changes(to_json(experiment), run["experiment"])
    if changed := [name for name in changed if name not in find_without_effect(experiment)]:
        names = ", ".join(changed)
        raise InputError(f"{workdir} is a run of another config, which differs in {names}. Choose another --workdir.")

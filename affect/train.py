"""train(): a config and shards → a run: checkpoints, logs, and all that is needed to use them."""

import csv
import math
import os
import platform
import re
from collections import Counter
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import affect
from affect.backbones import weights_sha256
from affect.config import Experiment, Regression, from_json, read_json, to_json, write_json
from affect.data import Shards, eval_batches, names_damage, split_selection, train_batches
from affect.errors import InputError
from affect.model import build_model, face_size_of


@names_damage
def train(experiment, *, data, workdir, progress=True):
    """Trains a model with `model.fit`, or goes on where an earlier call was stopped.

    Batches and dropout are a function of the seed and the epoch, and `last.keras` holds weights and optimizers. A run
    that was stopped therefore ends with the weights of one that was not, to the bit on a CPU.

    The run's folder holds `config.json` (experiment, classes, face settings, selection clips, versions), `best.keras`
    (the best epoch by `selection_metric` of the selection clips; the last where none are set aside), `last.keras`,
    `log.csv` (a row an epoch) and `tensorboard/`.

    Args:
        experiment: `affect.config.Experiment`.
        data: Folder of shards.
        workdir: Folder of the run; created.
        progress: Whether to show progress.

    Returns:
        Dict: `epochs`, `best_epoch` (from 1), the best epoch's row of the log, and how many clips were trained on, set
        aside for selection, and left out of both because they show no face or have no label.

    Raises:
        InputError: When there is nothing to train on or learn, the network does not classify, or `workdir` holds a run
            of another experiment or data.
    """
    settings, workdir = experiment.train, Path(workdir)
    if isinstance(experiment.model, Regression):
        raise InputError(f"{experiment.name} is a regression network, and affect train learns classes alone.")
    if experiment.model.spatial_pooling is None:
        raise InputError(f"{experiment.name} has its backbone's own classifier and needs no training: affect predict.")
    if settings.selection_metric not in ("accuracy", "loss"):
        raise InputError(
            f"Unknown `selection_metric`. Expected 'accuracy' or 'loss'. Received: {settings.selection_metric!r}"
        )
    shards = Shards(data)
    clips = shards.of_split(experiment.data.train_split)
    usable = _usable(clips)
    classes = tuple(name for name in shards.classes if any(clip["label"] == name for clip in usable))
    if len(classes) < 2:
        raise InputError(f"{data}: training needs labelled clips of two classes or more. Received: {list(classes)}")
    if experiment.data.soft_labels and not any(clip["votes"] for clip in usable):
        raise InputError(f"{data}: no training clip has votes of raters. Set data.soft_labels=false.")
    left_out, selection_split = len(clips) - len(usable), experiment.data.selection_split
    if selection_split is None:
        train_keys, selection_keys = split_selection(usable, experiment.data.selection_ratio, settings.seed)
    else:
        train_keys, selection_keys = [clip["key"] for clip in usable], _selection_keys(shards, experiment.data, classes)
        left_out += len(shards.of_split(selection_split)) - len(selection_keys)

    keras.utils.set_random_seed(settings.seed)
    if keras.backend.backend() == "tensorflow":
        tf.config.experimental.enable_op_determinism()
    policy = keras.config.dtype_policy()
    if settings.mixed_precision:
        keras.config.set_dtype_policy("mixed_float16")
    try:
        model = build_model(experiment.model, classes)
    finally:
        keras.config.set_dtype_policy(policy)
    run = {
        "experiment": to_json(experiment),
        "classes": list(classes),
        "faces": shards.faces,
        "shards": {shard["name"]: shard["sha256"] for shard in shards.shards},
        "selection": selection_keys,
        "weights_sha256": weights_sha256(experiment.model.backbone, experiment.model.weights),
    }
    _open_run(workdir, run, data)

    steps = len(train_keys) // min(experiment.data.batch_clips, len(train_keys))
    # XLA is slower than oneDNN on a CPU.
    on_cpu = keras.backend.backend() == "tensorflow" and not tf.config.list_physical_devices("GPU")
    model.compile(
        optimizer=build_optimizer(model, settings, steps),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=settings.label_smoothing),
        metrics=[keras.metrics.CategoricalAccuracy("accuracy")],
        jit_compile=False if on_cpu else "auto",
    )
    checkpoint = Checkpoint(workdir, settings.selection_metric if selection_keys else None, settings.seed)
    first_epoch = checkpoint.restore(model, steps)
    if first_epoch < settings.epochs:
        face_size = face_size_of(model)
        shared = {"classes": classes, "face_size": face_size}
        one_hot = partial(tf.one_hot, depth=len(classes))
        batches, _ = train_batches(
            shards, experiment.data, keys=train_keys, seed=settings.seed, first_epoch=first_epoch, **shared
        )
        selection = None
        if selection_keys:
            split = selection_split or experiment.data.train_split
            selection = eval_batches(shards, experiment.data, split=split, keys=selection_keys, **shared).map(
                lambda clip: ({"faces": clip["faces"], "frame_mask": clip["frame_mask"]}, one_hot(clip["label"]))
            )
            # Keras warns of data that ran out when it is not told how many there are.
            selection = selection.apply(
                tf.data.experimental.assert_cardinality(-(-len(selection_keys) // experiment.data.batch_clips))
            )
        model.fit(
            batches if experiment.data.soft_labels else batches.map(lambda inputs, label: (inputs, one_hot(label))),
            validation_data=selection,
            class_weight=_class_weights(usable, train_keys, classes) if settings.class_weights else None,
            epochs=settings.epochs,
            initial_epoch=first_epoch,
            steps_per_epoch=steps,
            shuffle=False,  # they are shuffled
            verbose=0,
            callbacks=[
                keras.callbacks.TerminateOnNaN(),
                keras.callbacks.CSVLogger(workdir / "log.csv", append=True),
                keras.callbacks.TensorBoard(workdir / "tensorboard", write_graph=False),
                *([EpochProgress(settings.epochs, steps, first_epoch)] if progress else []),
                checkpoint,  # last: what it saves, the others have logged
            ],
        )
    rows = read_log(workdir)
    if len(rows) < settings.epochs or not math.isfinite(rows[-1]["loss"]):
        raise InputError(
            f"The loss is not finite any more in epoch {len(rows)} of {workdir}. Lower train.head_learning_rate or "
            "train.backbone_learning_rate, in another --workdir."
        )
    best = checkpoint.best_of(rows)
    return {
        "epochs": len(rows),
        "best_epoch": best + 1,
        **{name: value for name, value in rows[best].items() if name != "epoch"},
        "train_clips": len(train_keys),
        "selection_clips": len(selection_keys),
        "clips_left_out": left_out,
    }


def build_optimizer(model, settings, steps):
    """Builds SGD with momentum, weight decay and SGDR, at one rate for the backbone and one for the rest.

    SGDR (Loshchilov and Hutter, arXiv 1608.03983) is `keras.optimizers.schedules.CosineDecayRestarts`, drawn per step
    to 0. `MultiOptimizer.learning_rate` cannot be set, so callbacks cannot drive it: each group has its schedule.

    Args:
        model: From `build_model`. A rate of 0 freezes its backbone, `frozen_blocks` its first blocks.
        settings: `affect.config.Train`.
        steps: Batches an epoch.

    Returns:
        A Keras optimizer.
    """

    kind = PyTorchSGD if settings.pytorch_sgd else keras.optimizers.SGD

    def sgd(learning_rate):
        accumulated = settings.accumulation_steps if settings.accumulation_steps > 1 else None
        schedule = keras.optimizers.schedules.CosineDecayRestarts(
            learning_rate,
            first_decay_steps=settings.restart_epochs * steps,  # batches, also where gradients are accumulated
            t_mul=settings.restart_factor,
        )
        return kind(
            schedule,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            weight_decay=settings.weight_decay,
            gradient_accumulation_steps=accumulated,
        )

    backbone, groups = model.get_layer("backbone"), {}
    if settings.backbone_learning_rate:
        groups["backbone/.*"] = sgd(settings.backbone_learning_rate)
        for layer in backbone.layers:
            block = re.match(r"block(\d+)_", layer.name)
            layer.trainable = not block or int(block[1]) > settings.frozen_blocks
    else:
        backbone.trainable = False
    # One group too, for MultiOptimizer counts every batch, also where gradients are accumulated.
    return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(sgd(settings.head_learning_rate), groups))


@keras.saving.register_keras_serializable(package="affect")
class PyTorchSGD(keras.optimizers.SGD):
    """SGD by the formula of `torch.optim.SGD`, which paper A's authors used.

    g ← gradient + decay · w, v ← momentum · v + g, and w ← w − rate · (g + momentum · v with Nesterov's momentum, else
    v). In Keras decay does not pass through v, which makes it (1 − momentum) times as strong in the long run, and v is
    made of steps: after a restart it still moves at the rates of old gradients, where here the new rate multiplies all.

    Args:
        learning_rate, **kwargs: As in `keras.optimizers.SGD`.
        weight_decay: Float ≥ 0.
    """

    def __init__(self, learning_rate, *, weight_decay=0.0, **kwargs):
        super().__init__(learning_rate, **kwargs)  # It is not told of the decay, for it would decouple it.
        self.coupled_weight_decay = weight_decay

    def update_step(self, gradient, variable, learning_rate):
        gradient = ops.cast(gradient, variable.dtype) + self.coupled_weight_decay * variable
        update = gradient
        if self.momentum:
            velocity = self.momentums[self._get_variable_index(variable)]
            self.assign(velocity, self.momentum * velocity + gradient)
            update = gradient + self.momentum * velocity if self.nesterov else ops.convert_to_tensor(velocity)
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * update)

    def get_config(self):
        return {**super().get_config(), "weight_decay": self.coupled_weight_decay}


def _usable(clips):
    """Returns the clips that can be learnt from or selected on: labelled, with a face."""
    return [clip for clip in clips if clip["label"] and clip["frames_with_a_face"]]


def _selection_keys(shards, data, classes):
    """Returns the keys of the clips of another split that select the epoch."""
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


class Checkpoint(keras.callbacks.Callback):
    """Keeps `last.keras` and `best.keras`, each written under a temporary name and renamed.

    Keras's BackupAndRestore writes weights and epoch one after the other, in place: a run killed between the two goes
    on one epoch off. Here the epoch is read off the optimizer's step count, in the same file as the weights.

    Args:
        workdir: Folder of the run.
        metric: `"accuracy"` or `"loss"` of the selection clips; `None` keeps the last epoch as the best.
        seed: Of the run.
    """

    def __init__(self, workdir, metric, seed):
        super().__init__()
        self.workdir = Path(workdir)
        self.metric = metric
        self.seed = seed

    def restore(self, model, steps):
        """Loads `last.keras` into a compiled model, if there is one, and returns the epoch that comes next."""
        if not (self.workdir / "last.keras").is_file():
            (self.workdir / "log.csv").unlink(missing_ok=True)
            return 0
        model.optimizer.build(model.trainable_variables)
        model.load_weights(self.workdir / "last.keras")
        epoch = int(model.optimizer.iterations) // steps
        # Rows that were logged after the last save belong to epochs that will be run again.
        log = self.workdir / "log.csv"
        _write_rows(log, [row for row in _read_rows(log) if int(row["epoch"]) < epoch])
        return epoch

    def best_of(self, rows):
        """Returns the index of the best of the log's rows; of equal ones the first."""
        if self.metric is None:
            return len(rows) - 1
        sign = 1 if self.metric == "accuracy" else -1
        return max(range(len(rows)), key=lambda index: (sign * rows[index][f"val_{self.metric}"], -index))

    def on_epoch_begin(self, epoch, logs=None):
        # Keras does not save the state of its random generators (dropout), so each epoch is given its own.
        generators = [layer.seed_generator for layer in self.model.layers if hasattr(layer, "seed_generator")]
        for index, generator in enumerate(generators):
            generator.state.assign(np.random.SeedSequence([self.seed, epoch, index]).generate_state(2))

    def on_epoch_end(self, epoch, logs=None):
        if not math.isfinite(logs["loss"]):
            return
        # best first: a run killed between the two does the epoch again and comes to the same.
        rows = read_log(self.workdir)
        if self.best_of(rows) == len(rows) - 1:
            self._save("best.keras")
        self._save("last.keras")

    def _save(self, name):
        temporary = self.workdir / f"tmp-{name}"
        self.model.save(temporary)
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


def _open_run(workdir, run, data):
    """Creates the run's folder, or checks that it is the same run."""
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "config.json"
    if not path.exists():
        versions = {"affect": affect.__version__, "keras": keras.__version__, "tensorflow": tf.__version__}
        versions |= {"numpy": np.__version__, "python": platform.python_version(), "backend": keras.backend.backend()}
        write_json(path, run | {"versions": versions})
        return
    before = read_json(path)
    if before.get("shards") != run["shards"]:
        raise InputError(f"{workdir} is a run on other shards than {data}. Choose another --workdir.")
    # Fields that came later are read as their defaults.
    experiment = to_json(from_json(Experiment, before.get("experiment"), f"{path}: experiment"))
    if changed := _changed(experiment, run["experiment"]):
        raise InputError(f"{workdir} is a run with other settings: {', '.join(changed)}. Choose another --workdir.")


def _changed(before, now, prefix=""):
    """Returns the names of the fields, `model.heads`, that differ between two configs in JSON."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return [] if before == now else [prefix]
    names = [name for name in now if before.get(name) != now[name]]
    return [found for name in names for found in _changed(before.get(name), now[name], f"{prefix}.{name}".lstrip("."))]

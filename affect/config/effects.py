"""Where a field of a config has an effect. A value without one is refused, because nobody should believe in it."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from affect.errors import InputError

if TYPE_CHECKING:
    from affect.config.experiment import Experiment


@dataclass(frozen=True)
class Effect:
    """A condition under which some fields have an effect.

    Args:
        fields: Names, such as `"model.heads"`, or `"windows.*"`. Names that an experiment lacks are ignored.
        where: Function of an `Experiment`: whether the fields have an effect in it.
        reason: Why they have no effect elsewhere, and which field to set instead.
        also: Values beside the default that are accepted elsewhere, because they switch the field off.
    """

    fields: tuple[str, ...]
    where: Callable[[Any], bool]
    reason: str
    also: tuple[Any, ...] = ()


def _never(experiment: Any) -> bool:
    return False


def _is_trained(experiment: Any) -> bool:
    return experiment.model.is_trained


def _sees_faces(experiment: Any) -> bool:
    return experiment.model.features == "faces"


def _selects(experiment: Any) -> bool:
    return bool(experiment.data.selection_ratio or experiment.data.selection_split)


def _attends(experiment: Any) -> bool:
    return experiment.model.spatial_pooling in ("attention", "shift")


def draws_views(experiment: "Experiment") -> bool:
    """Returns whether the views of training faces are drawn at random."""
    data = experiment.data
    crops = data.random_crop and data.crop_ratio < 1
    return _sees_faces(experiment) and bool(crops or data.flip or data.rotation_deg > 0)


# Conditions of one kind of network. Its config class lists them in `effects`.
OF_CLIPS = (
    Effect(
        ("windows.*",),
        _never,
        "windows are cut of recordings for a regression; of a clip, data.frames and data.eval_frames are read",
    ),
    Effect(
        ("train.concordance",),
        _never,
        "it is about valence and arousal; the loss of classes is set by train.label_smoothing, train.class_weights and "
        "data.soft_labels",
    ),
    Effect(
        ("train.selection_metric",),
        _selects,
        "no clips select the epoch: it needs data.selection_ratio above 0 or data.selection_split",
    ),
)
OF_RECORDINGS = (
    Effect(
        ("data.frames", "data.eval_frames", "data.frame_spacing", "data.repeat_frames"),
        _never,
        "it samples clips; a regression reads windows.length_s · windows.frame_rate_hz frames a window",
    ),
    Effect(
        ("data.shuffle_clips",),
        _never,
        "it shuffles clips; the windows of a regression are all shuffled, by train.seed",
    ),
    Effect(
        ("data.soft_labels", "train.class_weights", "train.label_smoothing"),
        _never,
        "it is about classes; the loss of a regression is set by train.concordance",
    ),
    Effect(
        ("train.selection_metric",),
        _selects,
        "no recordings select the epoch: it needs data.selection_ratio above 0 or data.selection_split",
        also=("loss",),  # the default is of clips
    ),
)
WITHOUT_BACKBONE = (
    Effect(
        ("train.backbone_learning_rate", "train.trainable"),
        _never,
        "this network has no backbone and learns as a whole at train.head_learning_rate",
    ),
    Effect(("train.feature_views",), _never, "it needs a frozen backbone, and this network has none"),
)
WITH_BACKBONE = (
    Effect(
        ("train.backbone_learning_rate",),
        lambda experiment: experiment.train.trainable != "head",
        "it needs a backbone that learns, train.trainable='all' or 'last 2 blocks'",
    ),
    Effect(
        ("train.feature_views",),
        lambda experiment: experiment.train.trainable == "head",
        "features change while the backbone learns: it needs train.trainable='head'",
    ),
    Effect(
        ("train.feature_views",),
        draws_views,
        "no view is drawn at random, so a face has one view anyway: it needs data.flip, data.rotation_deg above 0, or "
        "data.random_crop with data.crop_ratio below 1",
    ),
    Effect(
        ("model.hidden_units",),
        _attends,
        "it needs attention, model.spatial_pooling='attention' or 'shift'",
    ),
)
# Conditions of all kinds of networks. A field that no condition names has an effect everywhere. When you add a branch
# that reads a field, add the branch's condition here.
EFFECTS = (
    Effect(
        (
            "train.*",
            "data.train_split",
            "data.frames",
            "data.repeat_frames",
            "data.random_crop",
            "data.flip",
            "data.rotation_deg",
            "data.rotation_border",
            "data.view_per_frame",
            "data.selection_ratio",
            "data.selection_split",
            "data.keep_last_batch",
            "data.shuffle_clips",
            "data.soft_labels",
            "model.dropout",
            "model.initial_weights",
        ),
        _is_trained,
        "it is about training, and a network with its backbone's own classifier (model.spatial_pooling=None) has none",
    ),
    Effect(
        ("train.momentum", "train.nesterov"),
        lambda experiment: experiment.train.optimizer == "sgd",
        "it needs train.optimizer='sgd'",
    ),
    Effect(
        ("train.weight_decay_schedule",),
        lambda experiment: experiment.train.pytorch_sgd,
        "it needs train.pytorch_sgd=true",
    ),
    Effect(
        ("train.nesterov",),
        lambda experiment: experiment.train.momentum > 0,
        "there is no momentum: it needs train.momentum above 0",
        also=(False,),
    ),
    Effect(
        ("train.restart_factor",),
        lambda experiment: experiment.train.restart_epochs < experiment.train.epochs,
        "training ends before the first restart: it needs train.restart_epochs below train.epochs",
    ),
    Effect(
        ("data.random_crop",),
        lambda experiment: experiment.data.crop_ratio < 1,
        "nothing is cropped: it needs data.crop_ratio below 1",
        also=(False,),
    ),
    Effect(
        ("data.rotation_border",),
        lambda experiment: _sees_faces(experiment) and experiment.data.rotation_deg > 0,
        "no face is turned: it needs data.rotation_deg above 0, of faces",
    ),
    Effect(
        ("data.view_per_frame",),
        draws_views,
        "no view is drawn at random: it needs data.flip, data.rotation_deg above 0, or data.random_crop with "
        "data.crop_ratio below 1, of faces",
    ),
    Effect(
        ("model.heads", "model.pooling_units", "model.diversity"),
        _attends,
        "it needs attention, model.spatial_pooling='attention' or 'shift'",
    ),
    Effect(
        ("model.attention_bias",),
        lambda experiment: _attends(experiment) and experiment.model.hidden_units is not None,
        "it belongs to the first of two layers of attention: it needs model.hidden_units",
    ),
    Effect(
        ("model.lstm_units",),
        lambda experiment: experiment.model.temporal_pooling == "lstm",
        "it needs model.temporal_pooling='lstm'",
    ),
    Effect(
        ("model.blocks", "model.filters"),
        _sees_faces,
        "it belongs to convolutions; the sizes of LGBP-TOP are in affect/data/lgbp.py",
    ),
    Effect(
        ("model.kernel_size",),
        lambda experiment: (
            _sees_faces(experiment)
            and (experiment.model.temporal != "conv3d" or experiment.model.attention is not None)
        ),
        "it belongs to the 2D-CNN, which this network lacks; model.kernel_size_3d belongs to the 3D-CNN",
    ),
    Effect(
        ("model.kernel_size_3d", "model.attended_blocks"),
        lambda experiment: experiment.model.temporal == "conv3d",
        "it belongs to the 3D-CNN, model.temporal='conv3d'; model.kernel_size belongs to the 2D-CNN",
    ),
    Effect(
        ("model.attention_filters", "model.attention_kernel_size"),
        lambda experiment: experiment.model.attention is not None,
        "it belongs to spatiotemporal attention, model.attention='softmax' or 'sigmoid'",
    ),
    Effect(
        ("model.recurrent_units",),
        lambda experiment: experiment.model.temporal in ("rnn", "lstm", "bilstm"),
        "it belongs to a recurrent network, model.temporal='rnn', 'lstm' or 'bilstm'",
    ),
)


def find_without_effect(experiment: "Experiment") -> dict[str, Effect]:
    """Returns the fields that have no effect in an experiment, such as `"model.heads"`, each with its condition."""
    found: dict[str, Effect] = {}
    for condition in (*EFFECTS, *experiment.model.effects):
        for pattern in condition.fields:
            group, _, name = pattern.partition(".")
            own = [each.name for each in dataclasses.fields(getattr(experiment, group))]
            names = own if name == "*" else [name] if name in own else []
            if names and not condition.where(experiment):
                found = {f"{group}.{name}": condition for name in names} | found
    return found


def check_effects(experiment: "Experiment") -> None:
    """Checks that every field without an effect has its default.

    Raises:
        InputError: It names the first field that has another value, and which field to set instead.
    """
    for name, condition in find_without_effect(experiment).items():
        value, default = read_field(experiment, name)
        if value != default and value not in condition.also:
            raise InputError(describe_no_effect(name, value, default, condition))


def read_field(experiment: "Experiment", name: str) -> tuple[Any, Any]:
    """Returns the value of a field and its default.

    Args:
        experiment: That has the field.
        name: Such as `"model.heads"`.
    """
    group_name, _, name = name.partition(".")
    group = getattr(experiment, group_name)
    (default,) = (own.default for own in dataclasses.fields(group) if own.name == name)
    return getattr(group, name), default


def describe_no_effect(name: str, value: Any, default: Any, condition: Effect) -> str:
    """Returns the error for a field without effect.

    Args:
        name: Of the field, such as `"model.heads"`.
        value: What was set.
        default: What it must be.
        condition: Under which it would have an effect.
    """
    return f"{name}={value!r} has no effect: {condition.reason}. Leave it at its default, {default!r}."

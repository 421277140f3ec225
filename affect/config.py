"""Experiments as frozen dataclasses: load, override, write as JSON.

A config file is Python and exposes `CONFIG`, an `Experiment`; a misspelt field is an error when it is loaded. Runs and
artefacts carry the resolved config as JSON, and reading JSON never executes code.
"""

import contextlib
import dataclasses
import json
import math
import runpy
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path

from affect.errors import InputError


def _check_ranges(config, **ranges):
    """Refuses numbers outside their range; NaN is outside of every range. What is no number is left to `_checked`."""
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if isinstance(value, int | float) and not low <= value <= high:
            field_name = f"{type(config).__name__.lower()}.{name}"
            raise InputError(f"{field_name} must lie in [{low}, {high}]. Received: {value!r}")


@dataclass(frozen=True)
class Faces:
    """What changes bytes on disk: how faces are found, cut and stored. Recorded in the manifest of the shards.

    Args:
        detector: Name in `pipelines.detectors.DETECTORS`.
        min_face_px: Smallest face looked for, in pixels of the displayed frame.
        score_threshold: Detections below this score in [0, 1] are left out.
        face_size: Height and width in pixels of the stored face (paper A: 256).
        margin_ratio: Padding around the mean face shape on each side, as a share of its size; 0.25 is what dlib's
            face chips have, which paper A's faces are.
        frame_rate_hz: Frames a second that are looked at; `None` looks at every frame.
        jpeg_quality: 1 to 100.
    """

    detector: str = "mtcnn"
    min_face_px: int = 40
    score_threshold: float = 0.9
    face_size: int = 256
    margin_ratio: float = 0.25
    frame_rate_hz: float | None = None
    jpeg_quality: int = 95


@dataclass(frozen=True)
class Data:
    """How clips are read from shards.

    Args:
        train_split: Split that is trained on.
        batch_clips: Clips a batch. Paper A: not given; its authors' code: 3.
        frames: Frames sampled of a training clip (paper A: 16, at random). They stand in time order; a clip with fewer
            frames is padded, and its mask says so.
        eval_frames: Most frames of an evaluated clip, evenly spaced (authors' code: 120).
        crop_ratio: Side of the crop as a share of the stored face: at random in training, central in evaluation
            (authors' code: 224/256).
        flip: Whether training clips are mirrored at random.
        rotation_deg: Training clips are turned by up to this angle (authors' code: 10).
        selection_ratio: Share of the training clips set aside to select the epoch (paper A: none; its authors' code
            selects on the reported clips).
        shuffle_clips: Size of the shuffle buffer in clips.
    """

    train_split: str = "train"
    batch_clips: int = 3
    frames: int = 16
    eval_frames: int = 120
    crop_ratio: float = 0.875
    flip: bool = True
    rotation_deg: float = 10.0
    selection_ratio: float = 0.15
    shuffle_clips: int = 256

    def __post_init__(self):
        counts = dict.fromkeys(("batch_clips", "frames", "eval_frames", "shuffle_clips"), (1, math.inf))
        _check_ranges(self, **counts, crop_ratio=(0, 1), rotation_deg=(0, 180))


@dataclass(frozen=True)
class Model:
    """The network of paper A.

    Args:
        backbone: Name in `affect.backbones.BACKBONES`.
        weights: Weights of the backbone in the user's cache, or `None` for random ones. There is no default: nothing
            runs on random weights unasked.
        face_size: Height and width in pixels of the network's input; `None` is the backbone's own.
        output_stride: Stride of the backbone's local features in pixels (paper A: 16; its authors' code: 32).
        spatial_pooling: Name in `affect.layers.SPATIAL_POOLINGS` (paper A: `"attention"`, SA; `"shift"`, SHIFT;
            `"average"` without attention), or `None` for the backbone's own classifier, which needs no training and
            has its own classes.
        heads: Attention heads, N (paper A: 1, 2 or 4). It, `hidden_units` and `diversity` are for `"attention"` and
            `"shift"` alone.
        hidden_units: Hidden units U of the attention network; `None` is one layer (paper A: two layers, U not given;
            its authors' code: one).
        diversity: Strength λ of the penalty on attention (paper A: 0, 0.1 or 1).
        temporal_pooling: Name in `affect.layers.TEMPORAL_POOLINGS`: of scores (paper A: `"joint_softmax"`, TP;
            `"average"`, AVG; also `"max"`), or of features before the classifier (paper A: `"lstm"`; also
            `"statistics"`).
        lstm_units: Units of the LSTM, for `"lstm"` alone (paper A: quoted from another paper and not given; 512 is
            assumed).
        dropout: Rate before the classifier (authors' code: 0).
    """

    backbone: str
    weights: str | None
    face_size: int | None = None
    output_stride: int = 16
    spatial_pooling: str | None = "attention"
    heads: int = 2
    hidden_units: int | None = None
    diversity: float = 1.0
    temporal_pooling: str = "joint_softmax"
    lstm_units: int = 512
    dropout: float = 0.0

    def __post_init__(self):
        counts = dict.fromkeys(("heads", "hidden_units", "lstm_units"), (1, math.inf))
        _check_ranges(self, **counts, diversity=(0, math.inf), dropout=(0, 1))


@dataclass(frozen=True)
class Train:
    """Optimisation: SGD with momentum and warm restarts, one learning rate for the backbone and one for the rest.

    Args:
        epochs: Passes over the training clips (paper A: 30).
        backbone_learning_rate: Paper A: 1e-5; 0 freezes the backbone (the last commit of its authors' code).
        frozen_blocks: Blocks of the backbone, from its first, that are frozen whatever its rate (paper A and its
            authors' code: 0).
        head_learning_rate: Paper A: 0.1.
        momentum: Authors' code: 0.9.
        nesterov: Authors' code: yes.
        weight_decay: Paper A: 5e-5. Keras's decay is decoupled, w ← w(1 − rate · decay), where PyTorch's is added to
            the gradient.
        restart_epochs: Length of the first cosine period (authors' code: 10).
        restart_factor: Factor from one period to the next (authors' code: 2, so 10 + 20 = 30 epochs).
        accumulation_steps: Batches whose gradients are averaged before a step, where memory is short (both: 1).
        label_smoothing: Share of the label that is spread over all classes (both: 0).
        class_weights: Whether clips weigh inversely to how frequent their class is (both: no).
        selection_metric: `"accuracy"` or `"loss"` of the selection clips, by which the best epoch is kept.
        seed: Of initial weights, selection split, order, sampling and augmentation.
        mixed_precision: Whether to compute in float16 on a GPU; attention and pooling stay in float32.
    """

    epochs: int = 30
    backbone_learning_rate: float = 1e-5
    frozen_blocks: int = 0
    head_learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-5
    restart_epochs: int = 10
    restart_factor: float = 2.0
    accumulation_steps: int = 1
    label_smoothing: float = 0.0
    class_weights: bool = False
    selection_metric: str = "accuracy"
    seed: int = 0
    mixed_precision: bool = False

    def __post_init__(self):
        at_least_0 = dict.fromkeys(("backbone_learning_rate", "head_learning_rate", "weight_decay"), (0, math.inf))
        at_least_1 = dict.fromkeys(("epochs", "restart_epochs", "restart_factor", "accumulation_steps"), (1, math.inf))
        shares = dict.fromkeys(("momentum", "label_smoothing"), (0, 1))
        _check_ranges(self, **at_least_0, **at_least_1, **shares, frozen_blocks=(0, math.inf), seed=(0, 2**32 - 1))


@dataclass(frozen=True)
class Experiment:
    """One row of a table.

    Args:
        name: Short name.
        model, data, train: Its parts.
        reported: Numbers a paper gives for this row, by metric: `{"accuracy": 0.49}`.
    """

    name: str
    model: Model
    data: Data = field(default_factory=Data)
    train: Train = field(default_factory=Train)
    reported: dict[str, float] = field(default_factory=dict)


def load_config(path, overrides=()):
    """Loads an experiment.

    Args:
        path: A `.py` file that exposes `CONFIG`, or a `.json` file written from an experiment.
        overrides: Strings `"model.heads=4"`.

    Returns:
        An `Experiment`.

    Raises:
        InputError: On a missing file, a misspelt field, or a value of the wrong type or out of its range.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no config file {path}. Name a .py file under configs/ or a config.json of a run.")
    if path.suffix == ".json":
        config = from_json(Experiment, read_json(path).get("experiment"), f"{path}: experiment")
    else:
        try:
            config = runpy.run_path(str(path)).get("CONFIG")
        except Exception as error:  # The user's Python may raise anything.
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise InputError(f"The config {path} does not load: {reason}") from error
        if not isinstance(config, Experiment):
            raise InputError(f"The config {path} must expose CONFIG, an affect.config.Experiment.")
        config = from_json(Experiment, to_json(config), f"{path}: CONFIG")  # Python has not checked the types.
    for text in overrides:
        config = override(config, text)
    return config


def override(config, text):
    """Returns `config` with one field replaced, as `"model.heads=4"` says; the value is checked against its type."""
    path, separator, value = text.partition("=")
    if not separator:
        raise InputError(f"An override reads FIELD=VALUE, such as model.heads=4. Received: {text!r}")
    return _replace(config, path.strip().split("."), value.strip(), text)


def _replace(config, names, value, text):
    fields = typing.get_type_hints(type(config))
    if names[0] not in fields:
        raise InputError(f"Unknown field {names[0]!r} in {text!r}. Expected one of {sorted(fields)}.")
    current = getattr(config, names[0])
    if dataclasses.is_dataclass(current):
        if len(names) == 1:
            own = sorted(typing.get_type_hints(current))
            raise InputError(f"{names[0]!r} in {text!r} has fields of its own: {own}.")
        value = _replace(current, names[1:], value, text)
    else:
        if len(names) > 1:
            raise InputError(f"{names[0]!r} in {text!r} has no fields.")
        with contextlib.suppress(json.JSONDecodeError):  # an unquoted string, such as vgg16
            value = json.loads({"True": "true", "False": "false", "None": "null"}.get(value, value))
        value = _checked(fields[names[0]], value, text)
    return dataclasses.replace(config, **{names[0]: value})


def to_json(config):
    """Returns a dataclass as a dict that JSON can hold."""
    return dataclasses.asdict(config)


def from_json(cls, values, where):
    """Builds a dataclass from the dict that `to_json` made; every field is checked.

    Args:
        cls: Dataclass.
        values: Dict of its fields; fields with a default may be absent.
        where: What the dict is, for the error.
    """
    if not isinstance(values, dict):
        raise InputError(f"{where} must be an object with the fields of {cls.__name__}. Received: {values!r}")
    types_of = typing.get_type_hints(cls)
    if unknown := sorted(set(values) - set(types_of)):
        raise InputError(f"{where} has unknown fields {unknown}. Expected some of {sorted(types_of)}.")
    arguments = {name: _checked(types_of[name], value, f"{where}.{name}") for name, value in values.items()}
    try:
        return cls(**arguments)
    except (TypeError, InputError) as error:
        raise InputError(f"{where}: {error}") from error


def _checked(expected, value, where):
    if dataclasses.is_dataclass(expected):
        return from_json(expected, value, where)
    if typing.get_origin(expected) is dict and type(value) is dict:
        _, item_type = typing.get_args(expected)
        return {name: _checked(item_type, item, f"{where}.{name}") for name, item in value.items()}
    options = typing.get_args(expected) if isinstance(expected, types.UnionType) else (expected,)
    options = tuple(typing.get_origin(option) or option for option in options)
    if float in options and type(value) is int:
        value = float(value)
    if type(value) not in options:
        names = " or ".join("None" if option is type(None) else option.__name__ for option in options)
        raise InputError(f"{where}: expected {names}. Received: {value!r}")
    return value


def read_json(path):
    """Returns the object in a JSON file."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} must hold a JSON object. Received: {type(value).__name__}")
    return value


def write_json(path, value):
    """Writes a JSON file under a temporary name and renames it, so that a reader never sees half of it."""
    path = Path(path)
    content = (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()  # It fails before anything is written.
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)

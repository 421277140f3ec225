"""An exported model, read from its files alone. The code of the models and Keras are not imported."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from affect.config import Experiment, Faces, from_json
from affect.config.values import check_choices, check_value
from affect.errors import InputError
from affect.files import check_name
from affect.reading.predictor import VideoReader

if TYPE_CHECKING:  # because these import TensorFlow
    from affect.tasks.postprocessing import Postprocessing
    from affect.tasks.task import Task

FORMAT = 1


@dataclass(frozen=True)
class TensorEntry:
    """An input or output of a signature in `affect.json`. The first axis is the batch; `None` is a free axis."""

    dtype: Literal["bool", "float32", "int8", "string", "uint8"]
    shape: tuple[int | None, ...]
    sentence: str = ""
    # Of integers: a value is (integer - zero_point) * scale.
    scale: float | None = None
    zero_point: int | None = None

    def __post_init__(self):
        check_choices(self)


@dataclass(frozen=True)
class SignatureEntry:
    """A signature in `affect.json`."""

    inputs: dict[str, TensorEntry]
    outputs: dict[str, TensorEntry]
    sentence: str = ""


@dataclass(frozen=True)
class ConversionEntry:
    """How a TFLite file was converted: the fields that are used."""

    to: str
    frames: int | None = None


# Entries of `affect.json` that are used → their types.
ENTRIES = {
    "task": str,
    "classes": tuple[str, ...],
    "face_size": int,
    "signatures": dict[str, SignatureEntry],
}
OPTIONAL_ENTRIES = {"licence": str | None, "postprocessing": dict[str, dict[str, float]]}
LARGEST_FACE = 4096  # pixels on each side


@dataclass(frozen=True)
class Artefact(VideoReader, ABC):
    """An exported model: a SavedModel, a TFLite file, or a model behind a server.

    Args:
        path: Folder of the version, or `.tflite` file.
        classes: Class names in the order of the probabilities; for a regression, the names of the dimensions.
        faces: How faces must be cut for the model, as in `affect.reading.predictor.Predictor.faces`.
        experiment: The config that the model was trained with.
        face_size: Height and width of the input faces in pixels.
        description: Content of `affect.json`: signatures, versions, metrics, licence, ...
    """

    path: Path
    classes: tuple[str, ...]
    faces: Faces
    experiment: Experiment
    face_size: int
    description: dict[str, Any]

    @abstractmethod
    def call(self, name: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Runs a signature on inputs that `signature` has checked.

        Args:
            name: Name of the signature.
            inputs: Arrays by the names of its inputs.
        """

    def signature(self, name: str) -> Callable[[Mapping[str, Any]], dict[str, np.ndarray]]:
        """Returns a function of the model. The model is loaded at the first call.

        Args:
            name: One of `description["signatures"]`.

        Returns:
            Function from arrays by the names of its inputs to arrays by name. Strings are bytes.

        Raises:
            InputError: If there is no such signature. The function raises it on inputs of other names or dtypes.
        """
        signatures = self.description["signatures"]
        if name not in signatures:
            raise InputError(f"{self.path} has no signature {name!r}. Expected one of {sorted(signatures)}.")
        return partial(self._check_and_call, name, signatures[name]["inputs"])

    def _check_and_call(self, name, specs, inputs):
        if set(inputs) != set(specs):
            raise InputError(f"Signature {name} takes the inputs {sorted(specs)}. Received: {sorted(inputs)}")
        if "faces" in specs and "int" not in (dtype := np.asarray(inputs["faces"]).dtype.name):
            raise InputError(
                f"{self.path} takes faces as pixels of 0 to 255, uint8; multiply those that are scaled to [0, 1] "
                f"by 255 and round them. Received: faces of {dtype}"
            )
        for key, value in inputs.items():
            if (array := np.asarray(value)).dtype.kind == "f" and not np.isfinite(array).all():
                raise InputError(f"{self.path}: the input {key} of {name} holds NaN or infinity.")
        return self.call(name, inputs)

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 of the files of the model."""

    @property
    def card(self) -> str:
        return ""

    @property
    def licence(self) -> str:
        return self.description.get("licence") or ""

    @property
    def task(self) -> "Task":
        from affect.tasks import find_task

        return find_task(self.experiment)

    @property
    def most_frames(self) -> int | None:
        if "frame" in self.description["signatures"]:
            return None
        fixed, most = self.description.get("conversion", {}).get("frames"), self.experiment.data.eval_frames
        return min(fixed, most) if fixed else most

    @property
    def postprocessing(self) -> "dict[str, Postprocessing]":
        steps = self.description.get("postprocessing", {})
        if not steps:
            return {}
        from affect.tasks.postprocessing import Postprocessing

        return {name: from_json(Postprocessing, found, f"{self.path}: {name}") for name, found in steps.items()}

    def respond(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        if "serving_default" not in self.description["signatures"]:
            raise InputError(
                f"{self.path} takes one face at a time. Watch the video: affect watch {self.path} VIDEO; or convert "
                f"whole clips: affect convert NAME/VERSION --to {self.description['conversion']['to']}"
            )
        return self.signature("serving_default")(inputs)

    def respond_with_attention(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return (
            self.signature("explain")(inputs) if "explain" in self.description["signatures"] else self.respond(inputs)
        )

    @cached_property
    def frame_functions(self) -> dict[str, Callable[..., dict[str, np.ndarray]]]:
        names = [name for name in ("frame", "classify", "step") if name in self.description["signatures"]]
        if not names:
            self.task.check_reads_frames(self.path)
            raise InputError(
                f"{self.path} takes whole clips. Convert the network for single faces: "
                f"affect convert NAME/VERSION --part frame --to {self.description['conversion']['to']}"
            )
        return {name: partial(_call_by_name, self.signature(name)) for name in names}


def _call_by_name(function, **inputs):
    return function(inputs)


def name_labels(classes: Sequence[str], probabilities: np.ndarray, frame_mask: np.ndarray) -> np.ndarray:
    """Returns the output `label`, as the SavedModel computes it.

    Args:
        classes: Class names in order.
        probabilities: float (B, E).
        frame_mask: bool (B, F).

    Returns:
        bytes (B,): the likeliest class; empty for a clip without a face.
    """
    names = np.array([*(name.encode() for name in classes), b""])
    return names[np.where(frame_mask.any(axis=1), probabilities.argmax(axis=-1), len(classes))]


def read_description(description: dict[str, Any], kind: str, where: str, path: Path) -> dict[str, Any]:
    """Returns the arguments of an `Artefact` that its `affect.json` holds.

    Args:
        description: Content of `affect.json`.
        kind: The expected `kind`.
        where: Beginning of an error about the content.
        path: Path of the model in an error.

    Raises:
        InputError: If the kind or the version is another, or an entry is missing or of another type.
    """
    if (found := (description.get("kind"), description.get("format"))) != (kind, FORMAT):
        raise InputError(
            f"{path} is of kind and format {found}; this version of affect reads {(kind, FORMAT)}. Export it again."
        )
    if missing := {"faces", "experiment", *ENTRIES} - set(description):
        raise InputError(f"{where}it lacks {', '.join(sorted(missing))}. Export it again.")
    for name, kind_of_entry in (ENTRIES | OPTIONAL_ENTRIES).items():
        if name in description:
            check_value(kind_of_entry, description[name], f"{where}{name}")
    if "conversion" in description or kind == "tflite":
        values = description.get("conversion")
        used = {name: values[name] for name in ("to", "frames") if name in values} if isinstance(values, dict) else None
        from_json(ConversionEntry, used, f"{where}conversion")
    for name in description["signatures"]:
        check_name(name, where)
    if not description["classes"] or not 0 < description["face_size"] <= LARGEST_FACE:
        raise InputError(f"{where}it has no classes, or faces of another size than 1 to {LARGEST_FACE} pixels.")
    return {
        "classes": tuple(description["classes"]),
        "faces": from_json(Faces, description["faces"], f"{where}faces"),
        "experiment": from_json(Experiment, description["experiment"], f"{where}experiment"),
        "face_size": description["face_size"],
        "description": description,
    }


def measure_difference(value: np.ndarray, expected: np.ndarray) -> float:
    """Returns the largest difference of an array from the expected one.

    Args:
        value: The array.
        expected: The expected array.

    Returns:
        The largest absolute difference, divided by the largest absolute expected value if this is above 1. It is
        infinite if shapes, kinds of dtypes, strings or masks differ, or a number is not finite.
    """
    if value.shape != expected.shape or (expected.dtype.kind == "f") != (value.dtype.kind == "f"):
        return np.inf
    if expected.dtype.kind != "f":
        return 0.0 if value.tolist() == expected.tolist() else np.inf
    if not np.isfinite(value).all():
        return np.inf
    largest = float(np.abs(expected).max(initial=1.0))
    return float(np.abs(value - expected).max(initial=0.0)) / largest

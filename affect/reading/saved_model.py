"""A folder that `affect export` wrote: its checksums and golden pairs, and the SavedModel in it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from affect.config import read_json
from affect.errors import InputError, first_line, raise_failure
from affect.extras import require
from affect.files import check_zip, sha256_of
from affect.reading.artefact import Artefact, read_description
from affect.reading.operations import check_saved_model

KIND = "savedmodel"
ASSETS = "assets.extra"
SUMS = f"{ASSETS}/SHA256SUMS"
# File of the signature `serving_default` in an ONNX model, as Triton and ONNX Runtime call it.
ONNX_MODEL = "model.onnx"
MOST_GOLDEN_BYTES = 2**28
# Files of a SavedModel. TensorFlow would also read a saved_model.pbtxt or saved_model.cpb.
FILES = r"saved_model\.pb|fingerprint\.pb|variables/variables\.(index|data-\d{5}-of-\d{5})"


@dataclass(frozen=True)
class ExportedFolder(Artefact):
    """A folder `NAME/VERSION`."""

    @property
    def fingerprint(self) -> str:
        return sha256_of(self.path / SUMS)

    @property
    def card(self) -> str:
        file = self.path / ASSETS / "model_card.md"
        return file.read_text(encoding="utf-8") if file.is_file() else ""

    def golden(self) -> dict[str, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
        """Returns the pairs that every copy must reproduce: signature → `(inputs, outputs)`, arrays by name.

        Raises:
            InputError: If the file is damaged, or has arrays of other names or kinds.
        """
        pairs: dict[str, tuple[dict, dict]] = {name: ({}, {}) for name in self.description["signatures"]}
        file = self.path / ASSETS / "golden.npz"
        check_zip(file, MOST_GOLDEN_BYTES)
        try:
            with np.load(file, allow_pickle=False) as arrays:
                for key, value in arrays.items():
                    name, side, tensor = key.split("/")
                    if value.dtype.kind not in "bfSu" or not value.ndim:
                        raise ValueError(f"{key} is an array {value.shape} of {value.dtype}")
                    pairs[name][("inputs", "outputs").index(side)][tensor] = value
        except Exception as error:  # a damaged archive or array can fail in any way
            raise InputError(f"{file} cannot be read ({first_line(error)}). Export the model again.") from error
        return pairs


@dataclass(frozen=True)
class SavedModel(ExportedFolder):
    """A SavedModel. TensorFlow runs it, and is imported when the model is first called."""

    def call(self, name: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        import tensorflow as tf

        specs = self.description["signatures"][name]["inputs"]
        tensors = {key: tf.constant(value, specs[key]["dtype"]) for key, value in inputs.items()}
        try:
            return {key: value.numpy() for key, value in self.loaded.signatures[name](**tensors).items()}
        except (KeyError, TypeError, tf.errors.OpError) as error:
            # A check in the graph has its words in brackets.
            if found := re.search(r"assertion failed: \[([^\]]*)\]", str(error)):
                message = f"{self.path} refuses the request: {found[1]}. Received: {_list_shapes(inputs)}"
                raise InputError(message) from error
            raise InputError(f"{self.path}: signature {name} does not run ({first_line(error)}).") from error

    @cached_property
    def loaded(self) -> Any:
        """The object that `tf.saved_model.load` returns.

        Raises:
            InputError: If TensorFlow cannot load it.
        """
        import tensorflow as tf

        try:
            return tf.saved_model.load(str(self.path))
        except Exception as error:  # a damaged model can fail in any way
            raise_failure(error)
            reason = first_line(error)
            raise InputError(f"TensorFlow cannot load {self.path} ({reason}). Export it again.") from error


def _list_shapes(inputs):
    return ", ".join(f"{name} {np.shape(value)}" for name, value in inputs.items())


def latest_version(path: str | Path) -> Path:
    """Returns the folder of the highest version in a folder NAME. Any other path is returned unchanged."""
    models = [found for name in ("saved_model.pb", ONNX_MODEL) for found in Path(path).glob(f"*/{name}")]
    versions = [found.parent for found in models if found.parent.name.isdecimal()]
    return max(versions, key=lambda found: int(found.name), default=Path(path))


def read_saved_model(path: str | Path) -> SavedModel:
    """Reads a SavedModel. Its checksums are verified before anything else is read.

    Args:
        path: Folder `NAME/VERSION` that `affect export` wrote.

    Raises:
        InputError: If it is no such folder, or a file is missing, changed or was added; or as `check_saved_model`.
    """
    path = Path(path)
    if (path / ONNX_MODEL).is_file():
        raise InputError(
            f"{path} is an ONNX model. Expected the folder NAME/VERSION of a SavedModel. "
            "Make one: affect export RUN NAME"
        )
    arguments = read_exported(path, KIND, FILES)
    check_saved_model(path / "saved_model.pb")
    require("train", f"{path}, which TensorFlow runs,")
    return SavedModel(path, **arguments)


def read_exported(path: Path, kind: str, files: str) -> dict[str, Any]:
    """Verifies the checksums of an exported model, and returns the arguments of its `ExportedFolder`.

    Args:
        path: Folder `NAME/VERSION`.
        kind: Expected kind.
        files: Regular expression of the files that it may have beside `assets.extra/`.

    Raises:
        InputError: As `read_saved_model`.
    """
    if path.suffix == ".tflite":
        raise InputError(
            f"{path} is a TFLite file. Expected the folder NAME/VERSION of the SavedModel that it was converted from."
        )
    if not (path / SUMS).is_file():
        versions = sorted(str(sums.parents[1]) for sums in path.glob(f"*/{SUMS}"))
        hint = f"Name a version: {', '.join(versions)}." if versions else f"Make one: affect export RUN {path}"
        raise InputError(f"{path} is not an exported model: it has no {SUMS}. {hint}")
    _verify(path)
    if foreign := [name for name in _list_files(path) if not re.fullmatch(rf"(?s:{ASSETS}/.*)|{files}", name)]:
        raise InputError(f"{path} has the file {foreign[0]!r}, which no {kind} of affect has. It was not loaded.")
    file = path / ASSETS / "affect.json"
    return read_description(read_json(file), kind, f"{file}: ", path)


def write_sums(path: Path) -> None:
    """Writes the checksums of all files of an exported model, in the format of `sha256sum -c`."""
    lines = [f"{sha256_of(path / name)}  {name}\n" for name in _list_files(path)]
    (path / SUMS).write_text("".join(lines), encoding="utf-8")


def _verify(path):
    try:
        lines = (path / SUMS).read_text(encoding="utf-8").removesuffix("\n").split("\n")
        sums = {name: sha256 for sha256, name in (line.split("  ", 1) for line in lines)}
    except ValueError as error:
        raise InputError(f"{path / SUMS} is damaged. Copy {path} again, or export it again.") from error
    found = _list_files(path)
    faults = [f"{name} is missing" for name in sums if name not in found]
    faults += [f"{name} was added" for name in found if name not in sums]
    faults += [f"{name} was altered" for name in found if name in sums and sha256_of(path / name) != sums[name]]
    if faults:
        more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise InputError(f"{path} was changed after its export: {faults[0]}{more}. Copy it again, or export it again.")


def _list_files(path):
    """Returns the paths of all files in a folder except the checksums, relative to it, with slashes, sorted."""
    names = (file.relative_to(path).as_posix() for file in path.rglob("*") if not file.is_dir())
    return sorted(name for name in names if name != SUMS)

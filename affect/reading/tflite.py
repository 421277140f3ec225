"""TFLite files: a model, its description and its labels in one file with a checksum. They run without TensorFlow.

A file is the flatbuffer, with the description as JSON in the metadata `affect`, followed by a zip archive with
`labels.txt`, the layout of associated files in TFLite's metadata. The archive's comment ends the file with the SHA-256
of all bytes before it. This finds damage. It does not stop a forger, who can write a new checksum.
"""

import json
import math
import os
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from affect.errors import InputError, first_line
from affect.extras import require
from affect.files import is_intact, seal, sha256_of
from affect.reading.artefact import Artefact, name_labels, read_description

KIND = "tflite"
SUFFIX = ".tflite"
METADATA = "affect"
LABELS = "labels.txt"
# Limits for the files of others: bytes, and the numbers in all arrays of a model, weights included.
LARGEST, MOST_NUMBERS = 2**30, 2**31


@dataclass(frozen=True)
class TFLiteModel(Artefact):
    """A `.tflite` file. It has the outputs of the SavedModel that it was converted from, and imports no TensorFlow."""

    def call(self, name: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return self.runner.run(name, inputs)

    @property
    def fingerprint(self) -> str:
        return sha256_of(self.path)

    @cached_property
    def runner(self) -> "Runner":
        """The interpreter, created when the model is first called."""
        return self.run_with(None)

    def run_with(self, threads: int | None) -> "Runner":
        """Returns a new interpreter.

        Args:
            threads: Threads of the interpreter; `None` is one for each core.
        """
        content, description = _read(self.path)
        return Runner(content, description, threads)


def read_tflite(path: str | Path) -> TFLiteModel:
    """Reads a file that `affect convert` wrote.

    Args:
        path: `.tflite` file.

    Raises:
        InputError: If it is missing, changed, truncated or another kind of file; or if its features need packages that
            are not installed.
    """
    path = Path(path)
    model = TFLiteModel(path, **read_description(_read(path)[1], KIND, f"{path}: ", path))
    if model.experiment.model.features != "faces":
        require("train", f"{path}, which reads LGBP-TOP,")
    return model


def write_tflite(path: Path, flatbuffer: bytes, labels: tuple[str, ...]) -> None:
    """Writes a file that `read_tflite` reads.

    Args:
        path: `.tflite` file.
        flatbuffer: TFLite model with the metadata `affect`.
        labels: Class names in order.
    """
    path.write_bytes(flatbuffer)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(LABELS), "".join(f"{name}\n" for name in labels))
    seal(path)


def _read(path):
    """Returns the bytes of a file, for the interpreter, and its description, a dict."""
    try:
        if (size := path.stat().st_size) > LARGEST:
            raise InputError(f"{path} has {size} bytes, and a model of affect at most {LARGEST}. It was not loaded.")
        content, intact = path.read_bytes(), is_intact(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    if not intact and not _is_foreign(content):
        raise InputError(f"{path} is damaged: its checksum differs. Copy it again, or convert it again.")
    try:
        description = _find_description(content)
        if description is not None:
            _check(path, content)
            description = json.loads(description)
    except InputError:
        raise
    except Exception as error:  # offsets that point anywhere can fail in any way
        raise InputError(f"{path} is damaged ({type(error).__name__}). Copy it again, or convert it again.") from error
    if not isinstance(description, dict):
        raise InputError(
            f"{path} was not written by affect: it does not say how faces are cut, or what its outputs mean. Expected "
            "a file that affect convert wrote. LiteRT's Interpreter runs other files."
        )
    return content, description


def _is_foreign(content):
    """Returns whether bytes are a whole TFLite model without a description of affect's, or no TFLite model at all."""
    if content[4:8] != b"TFL3":
        return bool(content)
    try:
        return _find_description(content) is None
    except (struct.error, IndexError, ValueError, TypeError):  # as flatbuffers fails where bytes are missing
        return False


def _find_description(content):
    """Returns the bytes of the metadata `affect` of a TFLite model; `None` if it has none."""
    if content[4:8] != b"TFL3":
        return None
    model = schema.Model.GetRootAs(content)
    for index in range(model.MetadataLength()):
        if model.Metadata(index).Name() == METADATA.encode():
            return model.Buffers(model.Metadata(index).Buffer()).DataAsNumpy().tobytes()
    return None


def _check(path, content):
    """Raises an error if a model of a stranger has operators that are not builtin, or arrays that are too large."""
    if foreign := [name for name in count_operators(content) if name.startswith("custom:")]:
        name = foreign[0].removeprefix("custom:")
        raise InputError(f"{path} needs the operator {name!r}, which is not builtin. It was not loaded.")
    model, numbers = schema.Model.GetRootAs(content), 0
    for place in range(model.SubgraphsLength()):
        graph = model.Subgraphs(place)
        for index in range(graph.TensorsLength()):
            tensor = graph.Tensors(index)
            # A free axis has the length 1 here and -1 in its signature.
            numbers += math.prod(abs(tensor.Shape(axis)) for axis in range(tensor.ShapeLength()))
    if numbers > MOST_NUMBERS:
        raise InputError(f"{path} has arrays of {numbers} numbers, and a model of affect at most {MOST_NUMBERS}.")


def count_operators(flatbuffer: bytes) -> dict[str, int]:
    """Returns operator → count in a TFLite model; an operator that is not builtin is `custom:NAME`."""
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    model = schema.Model.GetRootAs(flatbuffer)
    counts = {}
    for place in range(model.SubgraphsLength()):
        graph = model.Subgraphs(place)
        for index in range(graph.OperatorsLength()):
            code = model.OperatorCodes(graph.Operators(index).OpcodeIndex())
            # The older field holds one byte. The smaller of the two values is a placeholder.
            name = names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            name = f"custom:{code.CustomCode().decode()}" if name == "CUSTOM" else name
            counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


class Runner:
    """Signatures of a TFLite model as functions of arrays.

    Args:
        content: Bytes of the file.
        description: Description in the file.
        threads: Threads of the interpreter; `None` is one for each core.
    """

    def __init__(self, content: bytes, description: dict[str, Any], threads: int | None = None):
        try:
            self._interpreter = Interpreter(model_content=content, num_threads=threads or os.cpu_count())
        except (RuntimeError, ValueError) as error:
            raise InputError(f"The TFLite model cannot be read ({first_line(error)}). Convert it again.") from error
        self._classes = description["classes"]
        self._specs = description["signatures"]
        self._frames = description["conversion"]["frames"]

    def run(self, name: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Runs a signature.

        The model takes one clip or face at a time, so those of a batch run one after the other. If its number of frames
        is fixed, clips are padded with masked frames, and the outputs for these are cut off.

        Args:
            name: Name of the signature.
            inputs: Arrays by name, whose first axis is the batch.

        Returns:
            Arrays by name. `label` is added beside `probabilities`: bytes, empty for a clip without a face.

        Raises:
            InputError: On a clip of more frames than the fixed number, or of none; or if the model cannot run.
        """
        specs = self._specs[name]
        arrays = {key: np.asarray(value, specs["inputs"][key]["dtype"]) for key, value in inputs.items()}
        frames = None
        if "frame_mask" in arrays:
            frames = arrays["frame_mask"].shape[1]
            if arrays["faces"].shape[:2] != arrays["frame_mask"].shape or not frames:
                raise InputError(
                    "faces and frame_mask must have the same clips and frames, and at least one frame. "
                    f"Received: faces {arrays['faces'].shape}, frame_mask {arrays['frame_mask'].shape}"
                )
            if self._frames:
                arrays = {key: self._pad(value) for key, value in arrays.items()}
        rows = zip(*(np.split(value, len(value)) for value in arrays.values()), strict=True)
        try:
            runner = self._interpreter.get_signature_runner(name)
            # Copy the outputs, because the next call overwrites the runner's arrays.
            answers = [{k: v.copy() for k, v in runner(**dict(zip(arrays, row, strict=True))).items()} for row in rows]
            found = {key: np.concatenate([answer[key] for answer in answers]) for key in specs["outputs"]}
        except (RuntimeError, ValueError, KeyError) as error:
            raise InputError(f"The TFLite model does not run ({first_line(error)}). Convert it again.") from error
        outputs = {}
        for key, spec in specs["outputs"].items():
            outputs[key] = found[key]
            if "scale" in spec:  # converted with --integer-io
                outputs[key] = (outputs[key] - np.float32(spec["zero_point"])) * np.float32(spec["scale"])
            if self._frames and frames and spec["shape"][1:2] == [None]:
                outputs[key] = outputs[key][:, :frames]
        if "probabilities" in outputs:
            outputs["label"] = name_labels(self._classes, outputs["probabilities"], arrays["frame_mask"])
        return outputs

    def _pad(self, value):
        missing = self._frames - value.shape[1]
        if missing < 0:
            raise InputError(f"This model takes clips of up to {self._frames} frames. Received: {value.shape[1]}")
        return np.pad(value, [(0, 0), (0, missing)] + [(0, 0)] * (value.ndim - 2))

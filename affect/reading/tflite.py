"""TFLite files: a model, its description and its labels in one file, sealed by a checksum; run without TensorFlow.

A file is the flatbuffer, with the description as JSON in the metadata `affect`, and then a zip archive with
`labels.txt`, as TFLite's metadata lays out associated files. The archive's comment ends the file with the SHA-256 of
all that comes before. It finds damage; who forges a file can write another.
"""

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from affect.errors import InputError
from affect.files import is_intact, seal
from affect.reading.artefact import Artefact, read_description

KIND = "tflite"
SUFFIX = ".tflite"
METADATA = "affect"
LABELS = "labels.txt"


@dataclass(frozen=True)
class TFLiteModel(Artefact):
    """A `.tflite` file. It gives what the SavedModel gives that it was converted from, and imports no TensorFlow."""

    def call(self, name: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return self.runner.run(name, inputs)

    @cached_property
    def runner(self) -> "Runner":
        """The interpreter, made when the model is first called."""
        return Runner(*_read(self.path))


def read_tflite(path: str | Path) -> TFLiteModel:
    """Reads a file that `affect convert` wrote.

    Args:
        path: `.tflite` file.

    Raises:
        InputError: When it is missing, altered, cut short or not such a file.
    """
    path = Path(path)
    return TFLiteModel(path, **read_description(_read(path)[1], KIND, f"{path}: ", path))


def write_tflite(path: Path, flatbuffer: bytes, labels: tuple[str, ...]) -> None:
    """Writes a file that `read_tflite` reads.

    Args:
        path: `.tflite` file.
        flatbuffer: TFLite model that has the metadata `affect`.
        labels: Class names in order.
    """
    path.write_bytes(flatbuffer)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(LABELS), "".join(f"{name}\n" for name in labels))
    seal(path)


def _read(path):
    """Returns the bytes of a file, which the interpreter takes, and its description, a dict."""
    try:
        content, intact = path.read_bytes(), is_intact(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    if not intact:
        raise InputError(
            f"{path} is not what affect convert wrote: its checksum is another. Copy it again, or convert it again."
        )
    model = schema.Model.GetRootAs(content)
    for index in range(model.MetadataLength()):
        if model.Metadata(index).Name() == METADATA.encode():
            buffer = model.Buffers(model.Metadata(index).Buffer())
            return content, json.loads(buffer.DataAsNumpy().tobytes())
    raise InputError(f"{path} has no metadata {METADATA!r}. Convert it again.")


def count_operators(flatbuffer: bytes) -> dict[str, int]:
    """Returns the operators of a TFLite model: name → how many; those that are not builtin are `custom:NAME`."""
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    model = schema.Model.GetRootAs(flatbuffer)
    counts = {}
    for place in range(model.SubgraphsLength()):
        graph = model.Subgraphs(place)
        for index in range(graph.OperatorsLength()):
            code = model.OperatorCodes(graph.Operators(index).OpcodeIndex())
            # The older field holds one byte, and the lesser of the two is a placeholder.
            name = names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            name = f"custom:{code.CustomCode().decode()}" if name == "CUSTOM" else name
            counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


class Runner:
    """Signatures of a TFLite model as functions of arrays.

    Args:
        content: Bytes of the file.
        description: Dict, of the file.
        threads: Of the interpreter; `None` is one a core.
    """

    def __init__(self, content, description, threads=None):
        self._interpreter = Interpreter(model_content=content, num_threads=threads or os.cpu_count())
        self._classes = description["classes"]
        self._specs = description["signatures"]
        self._frames = description["conversion"]["frames"]

    def run(self, name, inputs):
        """Runs a signature.

        The model takes one clip or face at a time, so those of a batch are run one after the other. Where its frames
        are fixed, clips are padded with masked ones, and what it says of these is cut off.

        Args:
            name: Of the signature.
            inputs: Dict of arrays with a first axis of batch.

        Returns:
            Dict of arrays, with `label` beside `probabilities`, bytes, empty for a clip without a frame.

        Raises:
            InputError: On a clip of more frames than are fixed, or of none.
        """
        specs = self._specs[name]
        inputs = {key: np.asarray(value, specs["inputs"][key]["dtype"]) for key, value in inputs.items()}
        frames = None
        if "frame_mask" in inputs:
            frames = inputs["frame_mask"].shape[1]
            if inputs["faces"].shape[:2] != inputs["frame_mask"].shape or not frames:
                raise InputError(
                    "faces and frame_mask must agree in clips and frames, one frame at least. "
                    f"Received: faces {inputs['faces'].shape}, frame_mask {inputs['frame_mask'].shape}"
                )
            if self._frames:
                inputs = {key: self._padded(value) for key, value in inputs.items()}
        runner = self._interpreter.get_signature_runner(name)
        rows = zip(*(np.split(value, len(value)) for value in inputs.values()), strict=True)
        # The runner's arrays are its own, and written over by the next call.
        answers = [{k: v.copy() for k, v in runner(**dict(zip(inputs, row, strict=True))).items()} for row in rows]
        outputs = {}
        for key, spec in specs["outputs"].items():
            outputs[key] = np.concatenate([answer[key] for answer in answers])
            if self._frames and frames and spec["shape"][1:2] == [None]:
                outputs[key] = outputs[key][:, :frames]
        if "probabilities" in outputs:
            names = np.array([*self._classes, ""], dtype=bytes)
            likeliest = outputs["probabilities"].argmax(axis=-1)
            has_face = inputs["frame_mask"].any(axis=1)
            outputs["label"] = names[np.where(has_face, likeliest, len(self._classes))]
        return outputs

    def _padded(self, value):
        missing = self._frames - value.shape[1]
        if missing < 0:
            raise InputError(f"This model takes clips of up to {self._frames} frames. Received: {value.shape[1]}")
        return np.pad(value, [(0, 0), (0, missing)] + [(0, 0)] * (value.ndim - 2))

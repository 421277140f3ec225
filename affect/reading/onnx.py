"""An ONNX model that `affect export --format onnx` wrote. ONNX Runtime runs it, without TensorFlow."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from affect.errors import InputError, first_line, raise_failure
from affect.extras import require
from affect.reading.artefact import name_labels
from affect.reading.operations import check_onnx
from affect.reading.saved_model import ONNX_MODEL, ExportedFolder, read_exported

KIND = "onnx"


def name_file(signature: str) -> str:
    """Returns the name of the file of a signature."""
    return ONNX_MODEL if signature == "serving_default" else f"{signature}.onnx"


def name_output(output: str, inputs: Iterable[str]) -> str:
    """Returns the name of an output in the file: `next_cell`, for example, if an input has the name `cell`.

    Args:
        output: Its name in the signature.
        inputs: Names of the inputs.
    """
    return f"next_{output}" if output in inputs else output


@dataclass(frozen=True)
class ONNXModel(ExportedFolder):
    """A folder with a file for each signature. It has the outputs of the SavedModel of the same run."""

    _sessions: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def call(self, name: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        signature = self.description["signatures"][name]
        arrays = {key: np.asarray(value, signature["inputs"][key]["dtype"]) for key, value in inputs.items()}
        if name not in self._sessions:
            self._sessions[name] = open_session(self.path / name_file(name))
        session = self._sessions[name]
        keys = [key for key, spec in signature["outputs"].items() if spec["dtype"] != "string"]
        found = session.run([name_output(key, arrays) for key in keys], arrays)
        outputs = dict(zip(keys, found, strict=True))
        if "label" in signature["outputs"]:
            outputs["label"] = name_labels(self.classes, outputs["probabilities"], arrays["frame_mask"])
        return outputs


def open_session(path: str | Path) -> Any:
    """Returns the `onnxruntime.InferenceSession` of a file, on the CPU.

    Args:
        path: `.onnx` file.

    Raises:
        InputError: If ONNX Runtime is not installed or cannot read the file, or as `check_onnx`.
    """
    require("onnx", f"{path}, which ONNX Runtime runs,", ["onnxruntime"])
    import onnxruntime

    content = check_onnx(path)
    try:
        return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:  # classes of its own, which share no base class
        raise_failure(error)
        raise InputError(f"{path} cannot be read ({first_line(error)}). Export it again.") from error


def read_onnx(path: str | Path) -> ONNXModel:
    """Reads an ONNX model. Its checksums are verified before anything else is read.

    Args:
        path: Folder `NAME/VERSION` that `affect export --format onnx` wrote.

    Raises:
        InputError: If it is no such folder, or a file is missing, changed or was added; or if ONNX Runtime is not
            installed.
    """
    path = Path(path)
    arguments = read_exported(path, KIND, r"[\w-]+\.onnx")
    require("onnx", f"{path}, which ONNX Runtime runs,", ["onnxruntime"])
    return ONNXModel(path, **arguments)

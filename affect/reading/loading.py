"""load(): a model from a run, a file, a config or a server. Functions import TensorFlow, because it takes seconds."""

from pathlib import Path
from typing import TYPE_CHECKING

from affect.config import find_bundled_artefact
from affect.errors import InputError
from affect.extras import require

if TYPE_CHECKING:
    from affect.reading.access import Access
    from affect.reading.artefact import Artefact
    from affect.reading.predictor import Predictor
    from affect.reading.saved_model import ExportedFolder

# How the address of a server begins.
SCHEMES = ("grpc://", "grpcs://", "http://", "https://")


def load(model: str | Path, *, artefact: str | Path | None = None, access: "Access | None" = None) -> "Predictor":
    """Loads a model: `affect.load("savedmodels/planted").read("video.mp4")`.

    Args:
        model: A run; an exported model (a folder `NAME`, whose latest version is read, or `NAME/VERSION`); a `.tflite`
            file; a config that needs no training; or the address of a server, such as `grpc://HOST:8500/NAME`.
        artefact: For a server, the local copy of the exported model that it serves. It says how faces are cut, and the
            server's answers are compared with it.
        access: For a server, the certificates and the token. `None` takes the token of the environment variable
            AFFECT_SERVER_TOKEN, if there is one.

    Returns:
        An `affect.reading.run.Trained`, `affect.reading.saved_model.SavedModel`, `affect.reading.onnx.ONNXModel`,
        `affect.reading.tflite.TFLiteModel` or `affect.reading.server.Served`.

    Raises:
        InputError: If there is no model, it is damaged, or the server serves another one; as
            `affect.reading.server.connect`.
    """
    from affect.reading.saved_model import latest_version, read_saved_model

    if not str(model).startswith(SCHEMES):
        return read_model(latest_version(model))
    require("serving", "A server")
    if artefact is None:
        raise InputError(
            f"A server is read with the exported model that it serves, which says how faces are cut. Expected: "
            f"affect.load({str(model)!r}, artefact='savedmodels/NAME')"
        )
    from affect.reading.access import read_access
    from affect.reading.server import serve

    access = read_access() if access is None else access
    return serve(str(model), read_saved_model(latest_version(artefact)), access=access)


def read_model(path: str | Path) -> "Predictor":
    """Reads a model from disk. The code of the networks is not imported for an exported model.

    Args:
        path: A run or a config, as in `affect.reading.run.load_trained`; or a SavedModel or a TFLite file, as in
            `read_artefact`. The name `"fer2013"` is the TFLite file that comes with affect.

    Raises:
        InputError: As those two; on a file of another kind. Only a `.py` config is executed.
    """
    from affect.reading.saved_model import ASSETS, ONNX_MODEL

    path = find_bundled_artefact(path) or Path(path)
    models = [path / name for name in ("saved_model.pb", ONNX_MODEL)]
    if path.suffix == ".tflite" or (path / ASSETS).is_dir() or any(map(Path.is_file, models)):
        return read_artefact(path)
    if path.is_file() and path.suffix not in (".py", ".json"):
        raise InputError(
            f"{path} is no model. Expected a run (the folder that holds best.keras and config.json), an exported model "
            "(a folder NAME/VERSION), a .tflite file or a .py config that needs no training."
        )
    from affect.reading.run import load_trained

    return load_trained(path)


def read_artefact(path: str | Path) -> "Artefact":
    """Reads an exported model. The code of the networks is not imported.

    Args:
        path: Folder `NAME/VERSION` that `affect export` wrote, or a `.tflite` file that `affect convert` wrote.

    Returns:
        An `affect.reading.saved_model.SavedModel`, `affect.reading.onnx.ONNXModel` or
        `affect.reading.tflite.TFLiteModel`.

    Raises:
        InputError: If it is no such folder or file, or was changed after it was written.
    """
    if Path(path).suffix == ".tflite":
        from affect.reading.tflite import read_tflite

        return read_tflite(path)
    return read_exported_folder(path)


def read_exported_folder(path: str | Path) -> "ExportedFolder":
    """Reads the folder of an exported model.

    Args:
        path: Folder `NAME/VERSION` that `affect export` wrote.

    Returns:
        An `affect.reading.saved_model.SavedModel` or `affect.reading.onnx.ONNXModel`.

    Raises:
        InputError: If it is no such folder, or was changed after it was written.
    """
    from affect.reading.saved_model import ONNX_MODEL, read_saved_model

    if (Path(path) / ONNX_MODEL).is_file():
        from affect.reading.onnx import read_onnx

        return read_onnx(path)
    return read_saved_model(path)

"""load(): a model from wherever it is. TensorFlow takes seconds to import, so it is imported inside."""

from pathlib import Path
from typing import TYPE_CHECKING

from affect.errors import InputError
from affect.extras import require

if TYPE_CHECKING:
    from affect.reading import Predictor

# How the address of a server begins.
SCHEMES = ("grpc://", "http://", "https://")


def load(model: str | Path, *, artefact: str | Path | None = None) -> "Predictor":
    """Loads a model: `affect.load("savedmodels/planted").read("video.mp4")`.

    Args:
        model: A run, an exported model (a folder `NAME`, of which the latest version is read, or `NAME/VERSION`), a
            `.tflite` file, a config that needs no training, or the address of a server, such as
            `grpc://HOST:8500/NAME`.
        artefact: Of a server, the exported model that it serves. It says how faces are cut, and is compared with what
            the server answers.

    Returns:
        `affect.reading.Predictor`: `affect.run.Trained`, `affect.artefact.Artefact` or `affect.client.Served`.

    Raises:
        InputError: Where there is no model, it is damaged, or the server serves another one.
    """
    from affect.artefact import latest_version, read_artefact
    from affect.predict import read_model

    if not str(model).startswith(SCHEMES):
        return read_model(latest_version(model))
    require("serving", "A server")
    if artefact is None:
        raise InputError(
            f"A server is read with the exported model that it serves, which says how faces are cut. Expected: "
            f"affect.load({str(model)!r}, artefact='savedmodels/NAME')"
        )
    from affect.client import serve

    return serve(str(model), read_artefact(latest_version(artefact)))

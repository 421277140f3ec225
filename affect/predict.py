"""predict(): faces of a clip → probabilities of the clip and of each frame, or valence and arousal over time."""

from pathlib import Path

import numpy as np

from affect.artefact import ASSETS, TFLITE, read_artefact
from affect.data import clip_inputs
from affect.errors import InputError
from affect.series import estimate
from affect.windows import recording_of


def read_model(path):
    """Reads what predicts; an exported model without any of the code that models are made of.

    Args:
        path: As of `affect.model.load_trained`, a run or a config; or of `affect.artefact.read_artefact`, a SavedModel
            or a TFLite file.

    Returns:
        `affect.model.Trained` or `affect.artefact.Artefact`. Both have `classes`, `faces`, `experiment`, `face_size`,
        `is_regression`, `respond` and `frame_functions`.

    Raises:
        InputError: As those two; on a file of another kind, of which none is ever run but a `.py` config.
    """
    path = Path(path)
    if path.suffix == TFLITE or (path / ASSETS).is_dir() or (path / "saved_model.pb").is_file():
        return read_artefact(path)
    if path.is_file() and path.suffix not in (".py", ".json"):
        raise InputError(
            f"{path} is no model. Expected a run (the folder that holds best.keras and config.json), an exported model "
            "(a folder NAME/VERSION), a .tflite file or a .py config that needs no training."
        )
    from affect.model import load_trained

    return load_trained(path)


def predict(trained, clip):
    """Predicts one clip.

    Args:
        trained: Of `read_model`.
        clip: `affect.records.Clip`, cut by `trained.faces`, with at least one face.

    Returns:
        Dict: `key`; `frames_decoded`, `frames_with_a_face` and `coverage`, their ratio; and `frames`. Of a model that
        classifies also `label`, the likeliest class, and `probabilities`, class → p(c|S); `frames` are those that were
        looked at (up to `data.eval_frames`, evenly spaced), each with `timestamp_s`, `importance` p(f|S) and
        `probabilities` p(c|f,S). Of a regression they are the points of its regular grid, each with `timestamp_s`,
        `valence` and `arousal`, `None` where there is no face; how far raters lag is taken off already, and they are
        post-processed as the run has fitted it.
    """
    if trained.is_regression:
        return _over_time(trained, clip)
    inputs, faces = clip_inputs(clip, trained.experiment.data, trained.face_size)
    return summarise(trained.classes, clip, faces, trained.respond(inputs))


def summarise(classes, clip, faces, outputs):
    """Returns the answer of a model for one clip (batch of 1) as `predict` describes."""
    probabilities = outputs["probabilities"][0]
    return {
        "key": clip.key,
        "label": classes[int(np.argmax(probabilities))],
        "probabilities": _named(classes, probabilities),
        **_seen(clip),
        "frames": [
            {
                "timestamp_s": face.timestamp_s,
                "importance": float(importance),
                "probabilities": _named(classes, row),
            }
            for face, importance, row in zip(
                faces, outputs["frame_importance"][0], outputs["frame_probabilities"][0], strict=True
            )
        ],
    }


def _over_time(trained, clip):
    (series,) = estimate(trained, [recording_of(clip)])
    nothing = dict.fromkeys(trained.classes)
    return {
        "key": clip.key,
        **_seen(clip),
        "frames": [
            {"timestamp_s": float(time_s), **(_named(trained.classes, row) if has_face else nothing)}
            for time_s, row, has_face in zip(series.times_s, series.predictions, series.frame_mask, strict=True)
        ],
    }


def _seen(clip):
    return {
        "frames_decoded": clip.frames_decoded,
        "frames_with_a_face": len(clip.faces),
        "coverage": len(clip.faces) / clip.frames_decoded,
    }


def _named(classes, probabilities):
    return {name: float(p) for name, p in zip(classes, probabilities, strict=True)}

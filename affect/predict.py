"""predict(): faces of a clip → probabilities of the clip and of each frame, or valence and arousal over time."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.special import softmax

from affect.artefact import ASSETS, TFLITE, read_artefact
from affect.augment import central_view, view_face
from affect.data import clip_inputs, evenly_spaced
from affect.errors import InputError
from affect.records import Clip
from affect.series import estimate
from affect.stream import RUNNING_POOLINGS
from affect.windows import recording_of

# Faces that are decoded and read at once.
BATCH_FACES = 32


def read_model(path):
    """Reads what predicts; an exported model without any of the code that models are made of.

    Args:
        path: As of `affect.model.load_trained`, a run or a config; or of `affect.artefact.read_artefact`, a SavedModel
            or a TFLite file.

    Returns:
        `affect.model.Trained` or `affect.artefact.Artefact`. Both have `classes`, `faces`, `experiment`, `face_size`,
        `is_regression`, `most_frames`, `respond` and `frame_functions`.

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


@dataclass(frozen=True)
class Answer:
    """What a model that classifies says of the faces of a clip.

    Args:
        places: int (K,), the faces that were read, by their places in the clip, ascending.
        probabilities: float (E,), p(c|S).
        importance: float (K,), p(f|S).
        frame_probabilities: float (K, E), p(c|f,S).
    """

    places: np.ndarray
    probabilities: np.ndarray
    importance: np.ndarray
    frame_probabilities: np.ndarray


def predict(trained, clip, cut=None, *, batch_faces=BATCH_FACES):
    """Predicts one clip by all of its faces, in memory that does not grow with them.

    `data.eval_frames` is of evaluation, and of models that take whole clips alone (`trained.most_frames`): a
    `affect.config.VideoModel`, and a TFLite file of whole clips.

    Args:
        trained: Of `read_model`.
        clip: `affect.records.Clip`, cut by `trained.faces`. Its faces may lie on disk: each is read when it is needed.
        cut: The `pipelines.faces.Cut` that came with the clip, which knows all frames and all faces of the video;
            `None` where no more is known than the clip's own faces.
        batch_faces: Faces that are read at once.

    Returns:
        Dict: `key`; `frames_decoded`, `frames_with_a_face` and `coverage`, their ratio; `faces_seen`, the tracks of the
        whole video, this one included; and `frames`. Of a model that classifies also `frames_read`, the faces that were
        read; `label`, the likeliest class, and `probabilities`, class → p(c|S), both `None` without a face. `frames`
        are then all decoded frames, each with `timestamp_s`, `has_face`, `importance` p(f|S) and `probabilities`
        p(c|f,S), both `None` where there is no face or it was not read. Of a regression `frames` are the points of its
        regular grid, each with `timestamp_s`, `has_face`, `valence` and `arousal`, `None` where there is no face; how
        far raters lag is taken off already, and they are post-processed as the run has fitted it. Its `decoded_frames`
        are all decoded frames in the same form, each with what the nearest point of the grid says.
    """
    if trained.is_regression:
        return _over_time(trained, clip, cut)
    answer = read_faces(trained, clip.faces, batch_faces) if len(clip.faces) else None
    return summarise(trained.classes, clip, answer, cut)


def places_read(trained, total):
    """Returns which of the `total` faces of a clip a model that classifies reads: int (K,), ascending."""
    if trained.most_frames is None:
        return np.arange(total)
    return evenly_spaced(total, trained.most_frames, trained.experiment.data.frame_spacing).numpy()


def read_faces(trained, faces, batch_faces=BATCH_FACES):
    """Returns the `Answer` of a model that classifies to the faces of a clip, a Sequence of one or more."""
    places = places_read(trained, len(faces))
    if trained.most_frames is not None:
        data = replace(trained.experiment.data, eval_frames=trained.most_frames)
        chosen = [faces[place] for place in places]
        inputs, _ = clip_inputs(Clip("", faces=chosen), data, trained.face_size)
        outputs = trained.respond(inputs)
        return Answer(
            places, outputs["probabilities"][0], outputs["frame_importance"][0], outputs["frame_probabilities"][0]
        )
    config, networks = trained.experiment.model, trained.frame_functions
    pooling = RUNNING_POOLINGS[config.temporal_pooling](networks, config)
    view = central_view(trained.experiment.data.crop_ratio)
    frame_logits = np.empty((len(faces), len(trained.classes)))
    for start in range(0, len(faces), batch_faces):
        batch = faces[start : start + batch_faces]
        pixels = np.stack([view_face(face.jpeg, view, trained.face_size).numpy() for face in batch])
        found = networks["frame"](faces=pixels)
        found = {name: np.asarray(value, np.float64) for name, value in found.items() if name != "attention"}
        for index in range(len(batch)):
            frame = {name: value[index] for name, value in found.items()}
            logits, frame_logits[start + index], _ = pooling.add(frame, log_keep=0.0)
    return Answer(places, softmax(logits), pooling.shares(frame_logits), softmax(frame_logits, axis=-1))


def summarise(classes, clip, answer, cut=None):
    """Returns the `Answer` to a clip, `None` where it has no face, as `predict` describes it."""
    nothing = {"importance": None, "probabilities": None}
    rows, result = {}, {"key": clip.key, "label": None, "probabilities": None}
    if answer is not None:
        result["label"] = classes[int(np.argmax(answer.probabilities))]
        result["probabilities"] = _named(classes, answer.probabilities)
        shares = zip(answer.places, answer.importance, answer.frame_probabilities, strict=True)
        rows = {
            place: {"importance": float(importance), "probabilities": _named(classes, row)}
            for place, importance, row in shares
        }
    frames = [
        {"timestamp_s": time_s, "has_face": place is not None, **rows.get(place, nothing)}
        for time_s, place in _decoded(clip, cut)
    ]
    return result | _seen(clip, cut) | {"frames_read": len(rows), "frames": frames}


def _over_time(trained, clip, cut):
    nothing = dict.fromkeys(trained.classes)
    grid, rate_hz = [], trained.experiment.windows.frame_rate_hz
    if len(clip.faces):
        (series,) = estimate(trained, [recording_of(clip)])
        grid = [
            {
                "timestamp_s": float(time_s),
                "has_face": bool(has_face),
                **(_named(trained.classes, row) if has_face else nothing),
            }
            for time_s, row, has_face in zip(series.times_s, series.predictions, series.frame_mask, strict=True)
        ]
    decoded = []
    for time_s, place in _decoded(clip, cut):
        values = nothing
        if place is not None:  # A point at most half a step away has a face: this one, or a nearer one.
            point = grid[min(round(time_s * rate_hz), len(grid) - 1)]
            values = {name: point[name] for name in trained.classes}
        decoded.append({"timestamp_s": time_s, "has_face": place is not None, **values})
    return {"key": clip.key, **_seen(clip, cut), "frames": grid, "decoded_frames": decoded}


def _decoded(clip, cut):
    """Yields `(timestamp_s, place)` of each frame: of its face among the clip's, `None` where it has none."""
    faces_s = [face.timestamp_s for face in clip.faces]
    place = 0
    for time_s in cut.times_s if cut else faces_s:
        has_face = place < len(faces_s) and faces_s[place] == time_s
        yield time_s, place if has_face else None
        place += has_face


def _seen(clip, cut):
    return {
        "frames_decoded": clip.frames_decoded,
        "frames_with_a_face": len(clip.faces),
        "coverage": len(clip.faces) / clip.frames_decoded if clip.frames_decoded else 0.0,
        "faces_seen": len(cut.seen) if cut else min(1, len(clip.faces)),
    }


def _named(classes, probabilities):
    return {name: float(p) for name, p in zip(classes, probabilities, strict=True)}

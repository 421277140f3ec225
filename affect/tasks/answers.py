"""A classifier and the faces of a clip → its answer, computed here or by a server, and the result of `predict`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from affect.config import FrameClassifier
from affect.data.clips import Clip, Face
from affect.data.views import clip_inputs, space_evenly, view_centre
from affect.errors import InputError
from affect.models.stream import RUNNING_POOLINGS
from affect.progress import Track, hide_progress
from affect.statistics import softmax
from affect.tasks.task import (
    Curves,
    Cut,
    LoadedModel,
    ServedModel,
    TrainedModel,
    count_faces,
    list_frames,
    name_values,
    pair_frames,
)

if TYPE_CHECKING:
    from affect.data.shards import Shards

# Faces that are decoded and read at once.
BATCH_FACES = 32
# Numbers of frames that clips are padded to for a server. It prepares itself for each of them by the warm-up requests.
FRAME_BUCKETS = (8, 16, 32, 64, 120)
# Largest difference from 1 of the sum of probabilities that a server computes in float32, or in TF32 on a GPU.
SHARES_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Answer:
    """A classifier's output for the faces of a clip.

    Args:
        places: int (K,), indices of the faces that were read, ascending.
        probabilities: float (E,), p(c|S).
        importance: float (K,), p(f|S).
        frame_probabilities: float (K, E), p(c|f,S).
    """

    places: np.ndarray
    probabilities: np.ndarray
    importance: np.ndarray
    frame_probabilities: np.ndarray


def run_split(
    trained: TrainedModel, shards: "Shards", split: str, track: Track, description: str
) -> Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Runs a classifier on all clips of a split.

    Args:
        trained: The model.
        shards: The data.
        split: Name of the split.
        track: Shows progress.
        description: Description of the work for `track`.

    Yields:
        `(batch, outputs)`: a batch of `affect.data.batches.eval_batches`, and the outputs of `trained.network` for it.
    """
    from affect.data.batches import eval_batches  # it imports TensorFlow

    data = trained.experiment.data
    batches = eval_batches(shards, data, split=split, classes=trained.classes, face_size=trained.face_size)
    steps = -(-len(shards.of_split(split)) // data.batch_clips)
    for tensors in track(batches, steps, description):
        batch = {name: value.numpy() for name, value in tensors.items()}  # arrays, for every backend of Keras
        yield batch, trained.network.predict_on_batch({name: batch[name] for name in ("faces", "frame_mask")})


def choose_places(trained: LoadedModel, total: int) -> np.ndarray:
    """Chooses the faces of a clip that a classifier reads.

    Args:
        trained: The model.
        total: Number of faces in the clip.

    Returns:
        int (K,), indices of the faces, ascending.
    """
    if trained.most_frames is None:
        return np.arange(total)
    return space_evenly(total, trained.most_frames, trained.experiment.data.frame_spacing)


def read_faces(
    trained: LoadedModel, faces: Sequence[Face], batch_faces: int = BATCH_FACES, track: Track = hide_progress
) -> Answer:
    """Runs a classifier on the faces of a clip.

    Args:
        trained: The model.
        faces: One face or more.
        batch_faces: Faces that are decoded and read at once.
        track: Shows progress.
    """
    places = choose_places(trained, len(faces))
    if trained.most_frames is not None:
        data = replace(trained.experiment.data, eval_frames=trained.most_frames)
        chosen = tuple(faces[place] for place in places)
        inputs, _ = clip_inputs(Clip("", faces=chosen), data, trained.face_size)
        outputs = trained.respond(inputs)
        return Answer(
            places, outputs["probabilities"][0], outputs["frame_importance"][0], outputs["frame_probabilities"][0]
        )
    config, networks = cast(FrameClassifier, trained.experiment.model), trained.frame_functions
    pooling: Any = RUNNING_POOLINGS[config.temporal_pooling](networks, config)
    crop_ratio = trained.experiment.data.crop_ratio
    frame_logits = np.empty((len(faces), len(trained.classes)))
    starts = range(0, len(faces), batch_faces)
    for start in track(starts, len(starts), "batches"):
        batch = faces[start : start + batch_faces]
        pixels = np.stack([view_centre(face.jpeg, crop_ratio, trained.face_size) for face in batch])
        found = networks["frame"](faces=pixels)
        found = {name: np.asarray(value, np.float64) for name, value in found.items() if name != "attention"}
        for index in range(len(batch)):
            frame = {name: value[index] for name, value in found.items()}
            logits, frame_logits[start + index], _ = pooling.add(frame, log_keep=0.0)
    return Answer(places, softmax(logits), pooling.shares(frame_logits), softmax(frame_logits))


def list_buckets(most: int) -> list[int]:
    """Lists the numbers of frames that clips are padded to for a server, ascending.

    Args:
        most: Largest number of frames, `data.eval_frames`. It is the last bucket.
    """
    return [*(frames for frames in FRAME_BUCKETS if frames < most), most]


def ask_server(served: ServedModel, clip: Clip, places: np.ndarray) -> Answer:
    """Sends faces of a clip to a server, as JPEG, and checks the server's classes.

    Args:
        served: The model.
        clip: The clip.
        places: Indices of the faces that are sent.

    Raises:
        InputError: If the server does not decode a face, has other classes, or answers no probabilities.
    """
    # A few lengths, because a server is slow when it sees a length for the first time.
    frames = next(size for size in list_buckets(served.experiment.data.eval_frames) if size >= len(places))
    jpegs = np.full((1, frames), b"", object)
    jpegs[0, : len(places)] = [clip.faces[place].jpeg for place in places]
    outputs = served.client.signature("jpeg")({"jpegs": jpegs})
    lost = len(places) - int(outputs["frame_mask"][0, : len(places)].sum())
    if lost:
        raise InputError(f"{clip.key}: {served.client} could not decode {lost} of {len(places)} faces. Cut them again.")
    probabilities, label = outputs["probabilities"][0], outputs["label"][0]
    likeliest = int(np.argmax(probabilities))
    if len(probabilities) != len(served.classes) or label != served.classes[likeliest].encode():
        found = label[:80].decode(errors="replace")
        raise InputError(
            f"{served.client} answers {found!r} for class {likeliest} of {len(probabilities)}, and the classes of "
            f"{served.path} are {', '.join(served.classes)}. Serve this folder, or give the served one."
        )
    importance, rows = (outputs[name][0, : len(places)] for name in ("frame_importance", "frame_probabilities"))
    for name, array in (
        ("probabilities", probabilities),
        ("frame_importance", importance),
        ("frame_probabilities", rows),
    ):
        if array.min() < 0 or np.abs(array.sum(axis=-1) - 1).max() > SHARES_TOLERANCE:
            raise InputError(
                f"{clip.key}: {served.client} answers {name} that are no shares of 1. Serve {served.path}."
            )
    return Answer(places, probabilities, importance, rows)


def summarise(classes: Sequence[str], clip: Clip, answer: Answer | None, cut: Cut | None = None) -> dict[str, Any]:
    """Returns an answer as the result that `affect.reading.predict.predict` describes.

    Args:
        classes: Class names in order.
        clip: The clip.
        answer: The model's answer; `None` for a clip without a face.
        cut: All frames and all tracks of the video; `None` if only the clip's own faces are known.
    """
    nothing = {"importance": None, "probabilities": None}
    rows: dict[int | None, dict[str, Any]] = {}
    result: dict[str, Any] = {"key": clip.key, "label": None, "probabilities": None}
    if answer is not None:
        result["label"] = classes[int(np.argmax(answer.probabilities))]
        result["probabilities"] = name_values(classes, answer.probabilities)
        shares = zip(answer.places, answer.importance, answer.frame_probabilities, strict=True)
        rows = {
            place: {"importance": float(importance), "probabilities": name_values(classes, row)}
            for place, importance, row in shares
        }
    frames = [
        {"timestamp_s": time_s, "has_face": place is not None, **rows.get(place, nothing)}
        for time_s, place in pair_frames(clip, cut)
    ]
    return result | count_faces(clip, cut) | {"frames_read": len(rows), "frames": frames}


def tabulate(classes: Sequence[str], clip: Clip, answer: Answer | None, cut: Cut | None = None) -> Curves:
    """Returns an answer as arrays.

    Args:
        classes: Class names in order.
        clip: The clip.
        answer: The model's answer; `None` for a clip without a face.
        cut: All frames and all tracks of the video; `None` if only the clip's own faces are known.
    """
    frames = list_frames(clip, cut)
    importance = np.full(len(frames["times_s"]), np.nan)
    values = np.full((len(importance), len(classes)), np.nan)
    if answer is None:
        return Curves(None, np.full(len(classes), np.nan), 0, importance=importance, values=values, **frames)
    read = np.isin(frames["places"], answer.places)  # the faces of a clip are in the order of its frames
    importance[read], values[read] = answer.importance, answer.frame_probabilities
    label, overall = classes[int(np.argmax(answer.probabilities))], np.asarray(answer.probabilities, np.float64)
    return Curves(label, overall, len(answer.places), importance=importance, values=values, **frames)

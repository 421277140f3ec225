"""Recordings → tf.data batches of windows: faces, or features, on a regular grid of time, and each frame's ratings."""

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import tensorflow as tf

from affect.data import records
from affect.data.augment import central_view, random_view, view_face
from affect.data.labels import DIMENSIONS
from affect.data.lgbp import FEATURES, lgbp_top
from affect.data.shards import batch_sizes, in_batches
from affect.errors import InputError

# Features of windows that are kept and not computed again in every epoch; 80 KiB for 4 s at 10 frames/s, so 3.6 hours
# of recordings at a stride of 1 s, or 7 at 2 s.
KEPT_BYTES = 2**30


@dataclass(frozen=True)
class Recording:
    """A recording, joined from its parts. Its faces stay on disk.

    Args:
        name: Of the recording; the key of a clip that is no part of one.
        subject: Person; empty where unknown.
        parts: `(path, offset, bytes)` of each part's record in its shard.
        times_s: float64 (T,), times of the faces, ascending.
        places: int (T, 2), the part that holds each face, and its place there.
        rating_times_s: float64 (T_l,), ascending; T_l = 0 of a recording that is not rated.
        ratings: float64 (T_l, 2), in the order of `affect.data.labels.DIMENSIONS`.
        other_faces: Faces of others than the main one, which shards made with `--faces all` hold; they are left out.
        faces: Sequence of the T `affect.data.records.Face`, where there is no shard that holds them; `parts` and
            `places` are not used then. Each is read when it is decoded, so that they may lie on disk.
    """

    name: str
    subject: str
    parts: tuple[tuple[str, int, int], ...]
    times_s: np.ndarray
    places: np.ndarray
    rating_times_s: np.ndarray
    ratings: np.ndarray
    other_faces: int = 0
    faces: Sequence[records.Face] | None = None

    @property
    def end_s(self):
        """Time of the last face or rating, whichever is later."""
        return max([0.0, *self.times_s[-1:], *self.rating_times_s[-1:]])


@dataclass(frozen=True)
class Window:
    """A window of a recording, F frames on the grid.

    Args:
        recording: `Recording`.
        times_s: float64 (F,), of the grid.
        faces: int (F,), the recording's face nearest to each point of the grid and at most half a step away, or -1.
        labels: float32 (F, 2), ratings `delay_s` after the face; 0 where there is none.
        is_rated: bool (F,), whether the label is within the series of ratings.
    """

    recording: Recording
    times_s: np.ndarray
    faces: np.ndarray
    labels: np.ndarray
    is_rated: np.ndarray

    @property
    def frame_mask(self):
        """bool (F,): frames with a face."""
        return self.faces >= 0

    @property
    def weights(self):
        """float32 (F,): 1 for frames with a face and a label, for the loss and the metrics."""
        return (self.frame_mask & self.is_rated).astype(np.float32)


def read_recordings(shards, split):
    """Reads what is needed to cut windows: times and ratings, and where the faces lie.

    Ratings are of the main face. Where shards hold others too (`--faces all`, keys `KEY@1`, `KEY@2`, ...), these are
    left out, and their faces counted.

    Args:
        shards: `affect.data.shards.Shards`.
        split: Name of the split.

    Returns:
        `(recordings, unrated)`: list of `Recording`, by name; names of recordings that have no ratings.

    Raises:
        InputError: On a split without ratings, and on a recording that lacks a part.
    """
    shards.of_split(split)
    found = {}
    for path in shards.files(split):
        offset = 0
        for serialized in tf.data.TFRecordDataset(path):
            size = len(serialized.numpy())
            record = {key: value.numpy() for key, value in records.parse_example(serialized).items()}
            del record["image/encoded"]
            name = (record["affect/recording"] or record["clip/media_id"]).decode()
            found.setdefault(name, []).append((int(record["affect/part"]), (path, offset + 12, size), record))
            offset += size + 16  # A record lies between its length, 8 bytes, and two checksums of 4.
    recordings, unrated = [], []
    for name, parts in sorted(found.items()):
        parts.sort(key=lambda part: part[0])
        if [part for part, _, _ in parts] != list(range(len(parts))):
            raise InputError(
                f"{shards.folder}: recording {name} must have the parts 0 to {len(parts) - 1}, each once. "
                f"Received: {[part for part, _, _ in parts]}. Make the shards again with --overwrite."
            )
        recording = _joined(name, [part[1:] for part in parts])
        if len(recording.ratings):
            recordings.append(recording)
        else:
            unrated.append(name)
    if not recordings:
        raise InputError(
            f"{shards.folder}: no recording of split {split!r} is rated in valence and arousal. "
            "Prepare a data set that is, such as recola or sewa."
        )
    return recordings, unrated


def _joined(name, parts):
    """Joins the parts of the main face, `(where, record)` in their order."""
    main = [part for part in parts if not _OTHER_FACE.fullmatch(part[1]["clip/media_id"].decode().removeprefix(name))]
    times_s = [record["image/timestamp"] / 1e6 for _, record in main]
    first = main[0][1]  # each holds the whole series
    return Recording(
        name=name,
        subject=first["affect/subject"].decode(),
        parts=tuple(where for where, _ in main),
        times_s=np.concatenate(times_s),
        places=np.array([(part, place) for part, times in enumerate(times_s) for place in range(len(times))], int),
        rating_times_s=first["affect/dimensions/timestamp"] / 1e6,
        ratings=np.stack([first[f"affect/dimensions/{name}"].astype(np.float64) for name in DIMENSIONS], -1),
        other_faces=sum(len(record["image/timestamp"]) for _, record in parts) - sum(map(len, times_s)),
    )


# What follows the recording's name in the key of a part of another face than the main one.
_OTHER_FACE = re.compile(r"@\d+(#\d+)?")


def recording_of(clip):
    """Returns a clip, such as one cut from a video to be predicted, as a recording that is not rated.

    Args:
        clip: `affect.data.records.Clip`.
    """
    return Recording(
        name=clip.key,
        subject=clip.subject,
        parts=(),
        times_s=np.array([face.timestamp_s for face in clip.faces], np.float64),
        places=np.empty((0, 2), int),
        rating_times_s=np.empty(0),
        ratings=np.empty((0, len(DIMENSIONS))),
        faces=clip.faces,
    )


def cut_window(recording, settings, start_s):
    """Cuts the window that starts at `start_s`.

    A point of the grid takes the nearest face, at most half a step away; frames without a face are not stored, so that
    the point is masked where there was none. A face is labelled by the rating `delay_s` after its own time, linear
    between the two ratings around it.

    Args:
        recording: `Recording`.
        settings: `affect.config.Windows`.
        start_s: In seconds of the recording.

    Returns:
        `Window`.
    """
    grid_s = start_s + np.arange(settings.frames) / settings.frame_rate_hz
    times_s, faces = grid_s, np.full(settings.frames, -1)
    if len(recording.times_s):
        after = np.searchsorted(recording.times_s, grid_s).clip(1, max(1, len(recording.times_s) - 1))
        around = np.stack([after - 1, after.clip(max=len(recording.times_s) - 1)])
        distance_s = np.abs(recording.times_s[around] - grid_s)
        nearest = around[distance_s.argmin(axis=0), np.arange(settings.frames)]
        is_near = distance_s.min(axis=0) <= 0.5 / settings.frame_rate_hz + 1e-6  # times are stored in µs
        faces, times_s = np.where(is_near, nearest, -1), np.where(is_near, recording.times_s[nearest], grid_s)
    is_rated = is_rated_at(recording, times_s, settings.delay_s)
    labels = np.zeros((settings.frames, len(DIMENSIONS)), np.float32)
    for dimension, ratings in enumerate(recording.ratings.T if is_rated.any() else ()):
        values = np.interp(times_s + settings.delay_s, recording.rating_times_s, ratings)
        labels[:, dimension] = np.where(is_rated, values, 0)
    return Window(recording, grid_s, faces, labels, is_rated)


def is_rated_at(recording, times_s, delay_s):
    """Returns whether there is a rating `delay_s` after each of `times_s`, bool of their shape."""
    if not len(recording.rating_times_s):
        return np.zeros(np.shape(times_s), bool)
    first_s, last_s = recording.rating_times_s[[0, -1]]
    rated_s = np.asarray(times_s) + delay_s
    return (rated_s >= first_s - 1e-6) & (rated_s <= last_s + 1e-6)


def train_windows(recordings, settings, data, *, face_size, seed, first_epoch=0, features="faces"):
    """Endless training batches, a function of the seed and the epoch alone, as those of `train_batches` for clips.

    Windows start each `stride_s`; those without a frame that has a face and a label are left out, and counted. The view
    of the faces is one for the window, or with `data.view_per_frame` one for each frame. Features are of the central
    crop, the same in every epoch: they are computed once and kept, up to `KEPT_BYTES`.

    Args:
        recordings: List of `Recording`.
        settings: `affect.config.Windows`.
        data: `affect.config.Data`.
        face_size: The model's, in pixels.
        seed: int.
        first_epoch: Epoch to start with.
        features: The model's: `"faces"`, or `"lgbp_top"`.

    Returns:
        `(dataset, steps, left_out)`: `({"faces": uint8 (B, F, H, W, 3), "frame_mask": bool (B, F)}, labels float32
        (B, F, 2), weights float32 (B, F))`; batches an epoch; windows that were left out. With `"lgbp_top"`, in place
        of `faces`, `features` float32 (B, F, `affect.data.lgbp.FEATURES`). Windows that do not fill a batch wait for
        another epoch's order, or are a smaller batch with `data.keep_last_batch`.

    Raises:
        InputError: When no window has a frame to learn from, and on features of views that are drawn at random.
    """
    if features != "faces" and (data.random_crop or data.flip or data.rotation_deg):
        raise InputError(
            f"model.features={features!r} are of the central crop alone: expected data.random_crop=False, "
            f"data.flip=False and data.rotation_deg=0. Received: {data.random_crop}, {data.flip}, {data.rotation_deg}"
        )
    windows = [
        cut_window(recording, settings, index * settings.stride_s)
        for recording in recordings
        for index in range(_count(recording.end_s, settings.stride_s))
    ]
    useful = [window for window in windows if window.weights.any()]
    if not useful:
        raise InputError(
            f"None of {len(windows)} windows has a frame with both a face and a rating {settings.delay_s} s later. "
            "Lower windows.delay_s, or prepare recordings that show a face."
        )
    sizes = batch_sizes(len(useful), data)

    def ordered():
        for epoch in itertools.count(first_epoch):
            order = np.random.default_rng([seed, epoch]).permutation(len(useful))
            for index in order[: sum(sizes)]:
                yield useful[index], (seed * 1_000_003 + epoch) % 2**31, index

    def view_of(draw, place):
        return random_view(data, tf.random.fold_in(draw, place) if data.view_per_frame else draw)

    dataset = in_batches(_decoded(ordered, settings, view_of, face_size, features), sizes)
    return dataset.map(as_triple).prefetch(2), len(sizes), len(windows) - len(useful)


def eval_windows(recordings, settings, data, *, face_size, features="faces", each_end=False, kept_bytes=KEPT_BYTES):
    """Batches for evaluation: each point of each recording's grid once, in order, central crop.

    The grid goes on to half a step behind the recording's end, because its last face may be nearest to a point there.

    Args:
        recordings, settings, data, face_size, features: As in `train_windows`; `stride_s` is not used.
        each_end: Whether each point of the grid is the last frame of a window of its own, for a network that predicts
            that one alone. The first windows are masked before the recording's start.
        kept_bytes: Most bytes of LGBP-TOP features that are kept until the dataset is read again.

    Returns:
        Dataset of dicts, of known length: `faces` or `features`, `frame_mask`, `labels` and `weights` as in
        `train_windows`, `is_rated` bool and `times_s` float64 (B, F), and `recording` string (B,). The last window of a
        recording is masked beyond its end.
    """
    step_s = 1 / settings.frame_rate_hz
    stride_s = step_s if each_end else settings.frames * step_s
    first_s = step_s * (1 - settings.frames) if each_end else 0.0

    def ordered():
        starts = (
            (recording, first_s + index * stride_s)
            for recording in recordings
            for index in range(_count(recording.end_s + step_s / 2, stride_s))
        )
        for place, (recording, start_s) in enumerate(starts):
            yield cut_window(recording, settings, start_s), 0, place

    view = central_view(data.crop_ratio)
    dataset = _decoded(ordered, settings, lambda draw, place: view, face_size, features, kept_bytes)
    dataset = dataset.batch(data.batch_clips)
    windows = sum(_count(recording.end_s + step_s / 2, stride_s) for recording in recordings)
    steps = -(-windows // data.batch_clips)
    return dataset.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(2)


def at_end(inputs, labels, weights):
    """Returns an element of training with the labels (B, 2) and weights (B,) of each window's last frame with a face.

    A window without a face has the weight 0.
    """
    frames = tf.shape(weights)[1]
    last = frames - 1 - tf.argmax(tf.reverse(inputs["frame_mask"], [1]), axis=1, output_type=tf.int32)
    return inputs, tf.gather(labels, last, batch_dims=1), tf.gather(weights, last, batch_dims=1)


def _count(end_s, stride_s):
    """Returns how many windows, a stride apart from 0, begin up to a time."""
    return math.floor(end_s / stride_s + 1e-9) + 1


def _decoded(ordered, settings, view_of, face_size, features, kept_bytes=KEPT_BYTES):
    """Dataset of the windows that `ordered()` yields, each with the two numbers of its draw; their faces decoded.

    The second number tells a window from all others, and features are kept by it, up to `kept_bytes`.
    """
    frames = settings.frames
    kept, most_kept = {}, kept_bytes // (4 * frames * FEATURES)

    @lru_cache(maxsize=16)  # the parts of a recording that is read in order are read once
    def jpegs(path, offset, size):
        with open(path, "rb") as file:
            file.seek(offset)
            return records.parse_example(file.read(size))["image/encoded"].numpy()

    def elements():
        for window, *draw in ordered():
            recording, encoded = window.recording, np.full(frames, b"", object)
            for place, face in enumerate(window.faces):
                if face < 0 or draw[1] in kept:
                    continue
                if recording.faces is not None:
                    encoded[place] = recording.faces[face].jpeg
                else:
                    part, position = recording.places[face]
                    encoded[place] = jpegs(*recording.parts[part])[position]
            yield {
                "jpeg": encoded,
                "draw": np.array(draw, np.int32),
                "frame_mask": window.frame_mask,
                "labels": window.labels,
                "weights": window.weights,
                "is_rated": window.is_rated,
                "times_s": window.times_s,
                "recording": recording.name,
            }

    def describe(index, faces, frame_mask):
        found = kept.get(int(index))
        if found is None:
            found = _features(faces, frame_mask)
            if len(kept) < most_kept:
                kept[int(index)] = found
        return found

    def decode(window):
        def face(inputs):
            jpeg, place = inputs
            return tf.cond(
                tf.strings.length(jpeg) > 0,
                lambda: view_face(jpeg, view_of(window["draw"], place), face_size),
                lambda: tf.zeros((face_size, face_size, 3), tf.uint8),
            )

        faces = tf.map_fn(
            face,
            (window["jpeg"], tf.range(frames)),
            fn_output_signature=tf.TensorSpec((face_size, face_size, 3), tf.uint8),
        )
        if features == "faces":
            seen = {"faces": faces}
        else:
            inputs = window["draw"][1], tf.image.rgb_to_grayscale(faces)[..., 0], window["frame_mask"]
            described = tf.ensure_shape(tf.numpy_function(describe, inputs, tf.float32), (frames, FEATURES))
            seen = {"features": described}
        return seen | {key: value for key, value in window.items() if key not in ("jpeg", "draw")}

    signature = {
        "jpeg": tf.TensorSpec((frames,), tf.string),
        "draw": tf.TensorSpec((2,), tf.int32),
        "frame_mask": tf.TensorSpec((frames,), tf.bool),
        "labels": tf.TensorSpec((frames, len(DIMENSIONS)), tf.float32),
        "weights": tf.TensorSpec((frames,), tf.float32),
        "is_rated": tf.TensorSpec((frames,), tf.bool),
        "times_s": tf.TensorSpec((frames,), tf.float64),
        "recording": tf.TensorSpec((), tf.string),
    }
    dataset = tf.data.Dataset.from_generator(elements, output_signature=signature)
    return dataset.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _features(faces, frame_mask):
    """LGBP-TOP (F, K) of grey faces (F, H, W): each run of frames that have one on its own; 0 in the others."""
    features = np.zeros((len(faces), FEATURES), np.float32)
    for run in np.split(np.arange(len(faces)), np.flatnonzero(np.diff(frame_mask)) + 1):
        if frame_mask[run[0]]:
            features[run] = lgbp_top(faces[run])
    return features


def as_triple(window):
    """Returns a window as an element of training: inputs, labels, weights."""
    inputs = {key: window[key] for key in ("faces", "features", "frame_mask") if key in window}
    return inputs, window["labels"], window["weights"]

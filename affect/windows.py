"""Recordings → tf.data batches of windows: faces, or features, on a regular grid of time, and each frame's ratings."""

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import tensorflow as tf

from affect import records
from affect.augment import central_view, random_view, view_face
from affect.errors import InputError
from affect.labels import DIMENSIONS
from affect.lgbp import FEATURES, lgbp_top

# Features of windows that are kept and not computed anew in every epoch; 80 KiB for 4 s at 10 frames/s, so 3.6 hours of
# recordings at a stride of 1 s, or 7 at 2 s.
KEPT_BYTES = 2**30


@dataclass(frozen=True)
class Recording:
    """A rated recording, joined from its parts. Its faces stay on disk.

    Args:
        name: Of the recording; the key of a clip that is no part of one.
        subject: Person; empty where unknown.
        parts: `(path, offset, bytes)` of each part's record in its shard.
        times_s: float64 (T,), times of the faces, ascending.
        places: int (T, 2), the part that holds each face, and its place there.
        rating_times_s: float64 (T_l,), ascending.
        ratings: float64 (T_l, 2), in the order of `affect.labels.DIMENSIONS`.
    """

    name: str
    subject: str
    parts: tuple[tuple[str, int, int], ...]
    times_s: np.ndarray
    places: np.ndarray
    rating_times_s: np.ndarray
    ratings: np.ndarray

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

    Args:
        shards: `affect.data.Shards`.
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
            offset += size + 16  # A record stands between its length, 8 bytes, and two checksums of 4.
    recordings, unrated = [], []
    for name, parts in sorted(found.items()):
        parts.sort(key=lambda part: part[0])
        if [part for part, _, _ in parts] != list(range(len(parts))):
            raise InputError(
                f"{shards.folder}: recording {name} must have the parts 0 to {len(parts) - 1}, each once. "
                f"Received: {[part for part, _, _ in parts]}. Make the shards again with --overwrite."
            )
        recording = _joined(name, [at for _, at, _ in parts], [record for _, _, record in parts])
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


def _joined(name, places, parts):
    times_s = [record["image/timestamp"] / 1e6 for record in parts]
    first = parts[0]  # each holds the whole series
    return Recording(
        name=name,
        subject=first["affect/subject"].decode(),
        parts=tuple(places),
        times_s=np.concatenate(times_s),
        places=np.array([(part, place) for part, times in enumerate(times_s) for place in range(len(times))], int),
        rating_times_s=first["affect/dimensions/timestamp"] / 1e6,
        ratings=np.stack([first[f"affect/dimensions/{name}"].astype(np.float64) for name in DIMENSIONS], -1),
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
    rated_s, series_s = times_s + settings.delay_s, recording.rating_times_s
    is_rated = (rated_s >= series_s[0] - 1e-6) & (rated_s <= series_s[-1] + 1e-6)
    labels = np.stack([np.interp(rated_s, series_s, ratings) for ratings in recording.ratings.T], -1)
    return Window(recording, grid_s, faces, np.where(is_rated[:, None], labels, 0).astype(np.float32), is_rated)


def train_windows(recordings, settings, data, *, face_size, seed, first_epoch=0, features="faces"):
    """Endless training batches, a function of the seed and the epoch alone, as `affect.data.train_batches` gives.

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
        of `faces`, `features` float32 (B, F, `affect.lgbp.FEATURES`). Windows that do not fill a batch wait for another
        epoch's order.

    Raises:
        InputError: When no window has a frame to learn from, and on features of views that are drawn at random.
    """
    if features != "faces" and (data.random_crop or data.flip or data.rotation_deg):
        raise InputError(
            f"model.features={features!r} are of the central crop alone: expected data.random_crop=False, "
            f"data.flip=False and data.rotation_deg=0. Received: {data.random_crop}, {data.flip}, {data.rotation_deg}"
        )
    windows = [window for recording in recordings for window in _windows(recording, settings, settings.stride_s)]
    useful = [window for window in windows if window.weights.any()]
    if not useful:
        raise InputError(
            f"None of {len(windows)} windows has a frame with both a face and a rating {settings.delay_s} s later. "
            "Lower windows.delay_s, or prepare recordings that show a face."
        )
    batch = min(data.batch_clips, len(useful))
    steps = len(useful) // batch

    def ordered():
        for epoch in itertools.count(first_epoch):
            order = np.random.default_rng([seed, epoch]).permutation(len(useful))
            for index in order[: steps * batch]:
                yield useful[index], (seed * 1_000_003 + epoch) % 2**31, index

    def view_of(draw, place):
        return random_view(data, tf.random.fold_in(draw, place) if data.view_per_frame else draw)

    dataset = _decoded(ordered, settings, view_of, face_size, features).batch(batch, drop_remainder=True)
    return dataset.map(_as_triple).prefetch(2), steps, len(windows) - len(useful)


def eval_windows(recordings, settings, data, *, face_size, features="faces"):
    """Batches for evaluation: each point of each recording's grid once, in order, central crop.

    Args:
        recordings, settings, data, face_size, features: As in `train_windows`; `stride_s` is not used.

    Returns:
        Dataset of dicts: `faces` or `features`, `frame_mask`, `labels` and `weights` as in `train_windows`, `times_s`
        float64 (B, F) and `recording` string (B,). The last window of a recording is masked beyond its end.
    """

    def ordered():
        stride_s = settings.frames / settings.frame_rate_hz
        windows = (window for recording in recordings for window in _windows(recording, settings, stride_s))
        for index, window in enumerate(windows):
            yield window, 0, index

    view = central_view(data.crop_ratio)
    dataset = _decoded(ordered, settings, lambda draw, place: view, face_size, features)
    return dataset.batch(data.batch_clips).prefetch(2)


def _windows(recording, settings, stride_s):
    count = math.floor(recording.end_s / stride_s) + 1
    return [cut_window(recording, settings, index * stride_s) for index in range(count)]


def _decoded(ordered, settings, view_of, face_size, features):
    """Dataset of the windows that `ordered()` yields, each with the two numbers of its draw; their faces decoded.

    The second number tells a window from all others, and features are kept by it.
    """
    frames = settings.frames
    kept, most_kept = {}, KEPT_BYTES // (4 * frames * FEATURES)

    @lru_cache(maxsize=16)  # the parts of a recording that is read in order are read once
    def jpegs(path, offset, size):
        with open(path, "rb") as file:
            file.seek(offset)
            return records.parse_example(file.read(size))["image/encoded"].numpy()

    def elements():
        for window, *draw in ordered():
            recording, encoded = window.recording, np.full(frames, b"", object)
            for place, face in enumerate(window.faces):
                if face >= 0 and draw[1] not in kept:
                    part, position = recording.places[face]
                    encoded[place] = jpegs(*recording.parts[part])[position]
            yield {
                "jpeg": encoded,
                "draw": np.array(draw, np.int32),
                "frame_mask": window.frame_mask,
                "labels": window.labels,
                "weights": window.weights,
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


def _as_triple(window):
    inputs = {key: window[key] for key in ("faces", "features", "frame_mask") if key in window}
    return inputs, window["labels"], window["weights"]

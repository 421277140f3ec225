"""Recordings → tf.data batches of windows: faces or features on a regular grid of time, and a rating for each frame."""

import itertools
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf

from affect.config import Data, Windows
from affect.config.experiment import Features
from affect.data import records
from affect.data.augment import central_view, random_views, view_faces
from affect.data.batches import batch_epochs, batch_sizes
from affect.data.labels import DIMENSIONS
from affect.data.lgbp import FEATURES, describe_window
from affect.data.ranks import ALONE, Rank
from affect.data.recordings import EvaluationGrid, Recording, count_windows, cut_window
from affect.data.shards import Shards
from affect.errors import InputError

# Size of the cache of features, which would otherwise be computed in each epoch. A window of 4 s at 10 frames/s takes
# 80 KiB, so the cache holds 3.6 hours of recordings at a stride of 1 s, or 7 hours at 2 s.
KEPT_BYTES = 2**30


def read_recordings(shards: Shards, split: str) -> tuple[list[Recording], list[str]]:
    """Reads what is needed to cut windows: times, ratings, and where the faces are on disk.

    Ratings belong to the main face. Shards of `--faces all` hold other faces too (keys `KEY@1`, `KEY@2`, ...). These
    are left out and counted.

    Args:
        shards: Where the recordings are.
        split: Name of the split.

    Returns:
        `(recordings, unrated)`: the recordings with ratings, sorted by name; the names of the others.

    Raises:
        InputError: When the split has no ratings, or a recording lacks a part.
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
            offset += size + 16  # 8 bytes of length and 4 of checksum precede a record, 4 of checksum follow it.
    recordings, unrated = [], []
    for name, parts in sorted(found.items()):
        parts.sort(key=lambda part: part[0])
        if [part for part, _, _ in parts] != list(range(len(parts))):
            raise InputError(
                f"{shards.folder}: recording {name} must have the parts 0 to {len(parts) - 1}, each once. "
                f"Received: {[part for part, _, _ in parts]}. Make the shards again with --overwrite."
            )
        recording = _join(name, [part[1:] for part in parts])
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


def _join(name: str, parts: Sequence[tuple[tuple[str, int, int], dict[str, Any]]]) -> Recording:
    """Joins the parts of a recording, each `(place, record)`, in their order. It leaves out parts of other faces."""
    main = [part for part in parts if not _OTHER_FACE.fullmatch(part[1]["clip/media_id"].decode().removeprefix(name))]
    times_s = [record["image/timestamp"] / 1e6 for _, record in main]
    first = main[0][1]  # each part holds the whole series of ratings
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


# The end of the key of a part that shows another face than the main one, after the name of the recording.
_OTHER_FACE = re.compile(r"@\d+(#\d+)?")


def train_windows(
    recordings: Sequence[Recording],
    config: Windows,
    data: Data,
    *,
    face_size: int,
    seed: int,
    first_epoch: int = 0,
    features: Features = "faces",
    rank: Rank = ALONE,
) -> tuple[tf.data.Dataset, list[int], int]:
    """Returns endless training batches of windows.

    As in `train_batches`, they depend on the seed and the epoch alone. A window starts every `stride_s`. Windows
    without any frame that has both a face and a label are left out and counted. All faces of a window have one view, or
    each has its own with `data.view_per_frame`. Features are computed from the central crop. They are the same in every
    epoch, so they are computed once and cached, up to `KEPT_BYTES`.

    Args:
        recordings: To cut from.
        config: How windows are cut.
        data: Views and batches.
        face_size: Height and width of the model's faces in pixels.
        seed: Of the order and the views.
        first_epoch: Epoch to start with.
        features: What the model reads.
        rank: Which of several processes reads them: its rows of each batch.

    Returns:
        `(dataset, sizes, left_out)`. The dataset gives `({"faces": uint8 (B, F, H, W, 3), "frame_mask": bool (B, F)},
        labels float32 (B, F, 2), weights float32 (B, F))`; with `"lgbp_top"`, `features` float32 (B, F,
        `affect.data.lgbp.FEATURES`) replaces `faces`. `sizes` are the sizes of the batches of an epoch, `left_out`
        the number of windows that were left out. With `data.keep_last_batch`, the windows that do not fill a batch are
        a smaller batch. Otherwise the epoch leaves them out; another epoch has another order.

    Raises:
        InputError: When no window has a frame to learn from, or features are combined with random views.
    """
    if features != "faces" and (data.random_crop or data.flip or data.rotation_deg):
        raise InputError(
            f"model.features={features!r} are of the central crop alone: expected data.random_crop=False, "
            f"data.flip=False and data.rotation_deg=0. Received: {data.random_crop}, {data.flip}, {data.rotation_deg}"
        )
    windows = [
        cut_window(recording, config, index * config.stride_s)
        for recording in recordings
        for index in range(count_windows(recording.end_s, config.stride_s))
    ]
    useful = [window for window in windows if window.weights.any()]
    if not useful:
        raise InputError(
            f"None of {len(windows)} windows has a frame with both a face and a rating {config.delay_s} s later. "
            "Lower windows.delay_s, or prepare recordings that show a face."
        )
    sizes = batch_sizes(len(useful), data)
    own_rows = np.flatnonzero(rank.find_rows(sizes))

    def list_windows():
        for epoch in itertools.count(first_epoch):
            order = np.random.default_rng([seed, epoch]).permutation(len(useful))
            for index in order[own_rows]:
                yield useful[index], (seed * 1_000_003 + epoch) % 2**31, index

    def view_of(draw):
        return random_views(data, draw, tf.range(config.frames))

    dataset = batch_epochs(_decode(list_windows, config, view_of, face_size, features), rank.divide(sizes))
    return dataset.map(as_triple).prefetch(2), sizes, len(windows) - len(useful)


def eval_windows(
    recordings: Sequence[Recording],
    config: Windows,
    data: Data,
    *,
    face_size: int,
    features: Features = "faces",
    each_end: bool = False,
    kept_bytes: int = KEPT_BYTES,
    rank: Rank = ALONE,
) -> tf.data.Dataset:
    """Returns batches for evaluation: each point of the grid of each recording once, in order, with the central crop.

    The grid ends at most half a step after the end of the recording, because the last face may be nearest to a point
    there.

    Args:
        recordings: To cut from.
        config: How windows are cut; `stride_s` is not used.
        data: `crop_ratio` and `batch_clips` are used.
        face_size: Height and width of the model's faces in pixels.
        features: What the model reads.
        each_end: Whether each point of the grid is the last frame of its own window, for a network that predicts the
            last frame alone. The first windows are then masked before the start of the recording.
        kept_bytes: Size of the cache of features, which is used when the dataset is read again.
        rank: Which of several processes reads them, each some of the batches.

    Returns:
        Dataset of dicts, of known length: `faces` or `features`, `frame_mask`, `labels` and `weights` as in
        `train_windows`, `is_rated` bool and `times_s` float64 (B, F), and `recording` string (B,). The last window of a
        recording is masked after its end.
    """
    grid = EvaluationGrid(config, each_end)

    def list_windows():
        for place, window in enumerate(grid.cut(recordings)):
            if rank.reads_batch(place // data.batch_clips):
                yield window, 0, place

    view = central_view(data.crop_ratio)
    dataset = _decode(list_windows, config, lambda draw: view, face_size, features, kept_bytes)
    dataset = dataset.batch(data.batch_clips)
    steps = rank.count_batches(-(-grid.count(recordings) // data.batch_clips))
    return dataset.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(2)


def at_end(
    inputs: Mapping[str, tf.Tensor], labels: tf.Tensor, weights: tf.Tensor
) -> tuple[Mapping[str, tf.Tensor], tf.Tensor, tf.Tensor]:
    """Returns a training batch with one label for each window: the label of its last frame with a face.

    Args:
        inputs: From `train_windows`, with `frame_mask` (B, F).
        labels: float32 (B, F, 2).
        weights: float32 (B, F).

    Returns:
        `(inputs, labels, weights)`: the same inputs, labels (B, 2) and weights (B,). The weight of a window without a
        face is 0.
    """
    frames = tf.shape(weights)[1]
    last = frames - 1 - tf.argmax(tf.reverse(inputs["frame_mask"], [1]), axis=1, output_type=tf.int32)
    return inputs, tf.gather(labels, last, batch_dims=1), tf.gather(weights, last, batch_dims=1)


def _decode(list_windows, config, view_of, face_size, features, kept_bytes=KEPT_BYTES):
    """Returns a dataset of windows with decoded faces, or with features.

    `list_windows()` yields `(window, epoch_seed, index)`. The last two seed the view. The index is unique to a window,
    and is its key in the cache of features, which holds up to `kept_bytes`.
    """
    frames = config.frames
    kept, most_kept = {}, kept_bytes // (4 * frames * FEATURES)

    @lru_cache(maxsize=16)  # A recording that is read in order needs each part once.
    def read_jpegs(path, offset, size):
        with open(path, "rb") as file:
            file.seek(offset)
            return records.parse_example(file.read(size))["image/encoded"].numpy()

    def list_elements():
        for window, *draw in list_windows():
            recording, encoded = window.recording, np.full(frames, b"", object)
            for place, face in enumerate(window.faces):
                if face < 0 or draw[1] in kept:
                    continue
                if recording.faces is not None:
                    encoded[place] = recording.faces[face].jpeg
                else:
                    part, position = recording.places[face]
                    encoded[place] = read_jpegs(*recording.parts[part])[position]
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
            found = describe_window(faces, frame_mask)
            if len(kept) < most_kept:
                kept[int(index)] = found
        return found

    def decode(window):
        faces = view_faces(window["jpeg"], view_of(window["draw"]), face_size)
        if features == "faces":
            seen = {"faces": faces}
        else:
            inputs = window["draw"][1], faces, window["frame_mask"]
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
    dataset = tf.data.Dataset.from_generator(list_elements, output_signature=signature)
    return dataset.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def as_triple(window: Mapping[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
    """Returns a batch of `eval_windows` in the form of `train_windows`: `(inputs, labels, weights)`."""
    inputs = {key: window[key] for key in ("faces", "features", "frame_mask") if key in window}
    return inputs, window["labels"], window["weights"]

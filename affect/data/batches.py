"""Shards → tf.data batches of clips. Frames are sampled before they are decoded."""

import functools
import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import numpy as np
import tensorflow as tf
from sklearn.model_selection import StratifiedGroupKFold

from affect.config import Data
from affect.data import records
from affect.data.augment import central_view, random_views, spread_view, view_faces
from affect.data.ranks import ALONE, Rank
from affect.data.shards import Shards
from affect.data.views import space_evenly
from affect.errors import InputError

# Largest size of the faces that are kept in memory between epochs.
KEPT_BYTES = 2**30

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def names_damage(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Decorates a function that reads shards, so that the error on damaged or wrong records names the shards.

    TensorFlow's error names neither the file nor a remedy.

    Args:
        function: It has an argument `data`, the folder of shards.

    Raises:
        InputError: From a call, when a record is damaged, or the shards do not hold the clips of the manifest.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except tf.errors.FailedPreconditionError as error:
            if "dataset was expected to contain" not in error.message:
                raise
            data = signature.bind(*args, **kwargs).arguments["data"]
            raise InputError(
                f"The shards of {data} do not hold the clips of its manifest.json. Find out which: affect verify {data}"
            ) from error
        except tf.errors.DataLossError as error:
            data = signature.bind(*args, **kwargs).arguments["data"]
            names = ", ".join(Shards(data).find_damaged())
            raise InputError(
                f"{data} is damaged: {names}. Copy it again, or run the same affect prepare with --overwrite."
            ) from error

    return call


def split_selection(clips: Sequence[Mapping[str, Any]], ratio: float, seed: int) -> tuple[list[str], list[str]]:
    """Splits training clips into clips to train on and clips to select the epoch with.

    Both have about the same share of each class. At least one clip of each class stays in training. No subject is in
    both. A recording with an unknown subject counts as a subject of its own, so its parts are never in both.

    Args:
        clips: Dicts with key, recording, label and subject.
        ratio: Share of the clips for selection, in [0, 0.5]; 0 selects none.
        seed: Of the split.

    Returns:
        `(train_keys, selection_keys)`.

    Raises:
        InputError: When the ratio is out of range, or the clips cannot be split so.
    """
    if not 0 <= ratio <= 0.5:
        raise InputError(f"data.selection_ratio must lie in [0, 0.5]. Received: {ratio}")
    keys = [clip["key"] for clip in clips]
    if ratio == 0:
        return keys, []
    folds = StratifiedGroupKFold(n_splits=round(1 / ratio), shuffle=True, random_state=seed)
    labels = [clip["label"] for clip in clips]
    subjects = [clip["subject"] or clip["recording"] for clip in clips]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that a class is rare; the check below is stricter
            splits = list(folds.split(keys, labels, subjects))
        for train, selection in splits:
            if len(selection) and {labels[index] for index in train} == set(labels):
                return [keys[index] for index in train], [keys[index] for index in selection]
        raise ValueError("no class may be set aside as a whole")
    except ValueError as error:
        raise InputError(
            f"{len(clips)} training clips cannot be split for selection ({error}). Set data.selection_ratio=0."
        ) from error


@dataclass(frozen=True)
class ClipTable:
    """Clips without their faces. A table of features has a row for each view of each face; this lists those of clips.

    The views of a face are rows side by side; so are the faces of a clip.

    Args:
        starts: int64 (S + 1,). The clips of shard s are those from `starts[s]` to `starts[s + 1]`.
        indices: int32 (C,), places of the clips in the keys that they were listed by.
        totals: int32 (C,), numbers of faces.
        labels: int32 (C,); with soft labels float32 (C, E).
        views: Views of a face.
    """

    starts: np.ndarray
    indices: np.ndarray
    totals: np.ndarray
    labels: np.ndarray
    views: int

    @property
    def faces(self) -> int:
        """Number of faces."""
        return int(self.totals.sum())

    @property
    def first_rows(self) -> np.ndarray:
        """Row of the first face of each clip, int64 (C,)."""
        return (np.cumsum(self.totals, dtype=np.int64) - self.totals) * self.views


def list_clips(shards: Shards, data: Data, *, classes: Sequence[str], keys: Sequence[str], views: int = 1) -> ClipTable:
    """Reads the clips of the training split without decoding their faces.

    Args:
        shards: Where the clips are.
        data: `train_split` and `soft_labels` are used.
        classes: Class names in the model's order.
        keys: Keys of the clips.
        views: Views of a face.
    """
    parse = _make_parser(classes, keys, voted=shards.classes if data.soft_labels else None)
    names = ("index", "total", "label")
    starts, clips = [0], []
    for file in shards.files(data.train_split):
        records = tf.data.TFRecordDataset(file).map(parse).filter(lambda clip: clip["index"] >= 0)
        clips += records.map(lambda clip: [clip[name] for name in names]).as_numpy_iterator()
        starts.append(len(clips))
    indices, totals, labels = (np.array(column) for column in zip(*clips, strict=True))
    return ClipTable(np.array(starts, np.int64), indices, totals, labels, views)


def faces_of_table(
    shards: Shards,
    data: Data,
    table: ClipTable,
    *,
    classes: Sequence[str],
    keys: Sequence[str],
    face_size: int,
    seed: int,
    batch_faces: int,
) -> tf.data.Dataset:
    """Returns each view of each face of a table once, in order.

    View k is the one that `train_batches` draws in epoch k, or with `data.view_per_frame` one that is drawn for each
    frame.

    Args:
        shards, data, classes, keys, face_size, seed: As in `train_batches`.
        table: From `list_clips` with the same keys.
        batch_faces: Faces in a batch; the last batch has fewer.

    Returns:
        Dataset of `(rows, faces)`: int64 (N,) and uint8 (N, H, W, 3).
    """
    parse = _make_parser(classes, keys)
    first_rows = np.zeros(len(keys), np.int64)
    first_rows[table.indices] = table.first_rows
    fixed: dict[str, Any] = {}

    def list_views(clip):
        frames = tf.range(clip["total"])
        drawn = []
        for number in range(table.views):
            view = random_views(data, _seed_view(seed, number, clip["index"]), frames)
            fixed.update(view)
            drawn.append(spread_view(view, clip["total"]))
        rows = {name: tf.stack([view[name] for view in drawn], axis=1) for name in drawn[0]}  # (F, V, ...)
        rows = {name: tf.reshape(value, [-1, *value.shape[2:]]) for name, value in rows.items()}
        first_row = tf.gather(tf.constant(first_rows), clip["index"])
        count = clip["total"] * table.views
        rows["row"] = first_row + tf.cast(tf.range(count), tf.int64)
        rows["jpeg"] = tf.repeat(clip["jpeg"], table.views)
        return tf.data.Dataset.from_tensor_slices(rows)

    def decode(rows):
        view = fixed | {name: rows[name] for name in ("offset", "flip")}
        if fixed["angle_rad"] is not None:
            view["angle_rad"] = rows["angle_rad"]
        return rows["row"], view_faces(rows["jpeg"], view, face_size)

    clips = tf.data.TFRecordDataset(shards.files(data.train_split)).map(parse)
    faces = clips.filter(lambda clip: clip["index"] >= 0).flat_map(list_views).batch(batch_faces)
    return faces.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(2)


def train_batches(
    shards: Shards,
    data: Data,
    *,
    classes: Sequence[str],
    keys: Sequence[str],
    face_size: int,
    seed: int,
    first_epoch: int = 0,
    views: int | None = None,
    table: ClipTable | None = None,
    rank: Rank = ALONE,
) -> tuple[tf.data.Dataset, int]:
    """Returns endless training batches.

    They depend on the seed and the epoch alone, so a resumed run continues with the batches that it would have had.
    Several processes have the same batches: each reads all records, and samples and decodes the clips of its own rows.

    Args:
        shards: Where the clips are.
        data: How clips are sampled.
        classes: Class names in the model's order.
        keys: Keys of the clips to train on.
        face_size: Height and width of the model's faces in pixels.
        seed: Of the order, the sampled frames and the views.
        first_epoch: Epoch to start with.
        views: Epochs whose views are drawn; the epochs after them repeat these views in turn. `None` draws views in
            every epoch.
        table: From `list_clips`, with the same keys and views. The dataset then gives the rows of the faces.
        rank: Which of several processes reads them; `processes` divides the size of each batch.

    Returns:
        `(dataset, steps)`. The dataset gives `({"faces": uint8 (B, F, H, W, 3), "frame_mask": bool (B, F)}, label int32
        (B,))`, where F is `data.frames`; with `data.soft_labels` the label is float32 (B, E). With a table, `rows`
        int64 (B, F), -1 where masked, replaces `faces`. `steps` is the number of batches in an epoch. With
        `data.keep_last_batch`, the clips that do not fill a batch are a smaller batch. Otherwise the epoch leaves them
        out; another epoch has another order.
    """
    sizes = batch_sizes(len(keys), data)
    is_own = tf.constant(rank.find_rows(sizes))
    files = tf.constant(shards.files(data.train_split))
    if table is None:
        parse = _make_parser(classes, keys, voted=shards.classes if data.soft_labels else None)
        read = tf.data.TFRecordDataset
    else:
        parse, read = _read_table(table)
        files = tf.range(len(files))

    def epoch(number):
        # Set the graph-level seed. Otherwise the order also depends on the global seed, and a seed of 0 is an error.
        tf.random.set_seed(1)
        draw = tf.stack([tf.constant(seed, tf.int64), number])
        clips = read(tf.random.experimental.stateless_shuffle(files, draw)).map(parse)
        clips = _keep_known(clips, len(keys))
        order = tf.random.stateless_uniform([], draw, maxval=2**31 - 1, dtype=tf.int64)
        clips = clips.shuffle(data.shuffle_clips, seed=order, reshuffle_each_iteration=False)
        clips = clips.take(sum(sizes)).enumerate().filter(lambda row, clip: is_own[row])
        return clips.map(lambda row, clip: clip | {"epoch": number})

    def sample(clip):
        # The draw depends on the clip and the epoch, so that the order and the number of threads do not change it.
        epoch = tf.cast(clip["epoch"], tf.int32)
        draw = tf.stack([seed * 1_000_003 + epoch, clip["index"]])
        total = clip["total"]
        chosen = tf.argsort(tf.random.stateless_uniform([total], draw))[: data.frames]
        if data.repeat_frames:
            chosen = tf.cond(
                tf.logical_and(total > 0, total < data.frames),
                lambda: tf.random.stateless_uniform([data.frames], draw, maxval=total, dtype=tf.int32),
                lambda: chosen,
            )
        chosen, number = tf.sort(chosen), epoch % views if views else epoch
        if table is not None:
            return _choose_rows(clip, chosen, number if views else 0, table.views, data.frames)
        places = chosen if views else tf.range(tf.size(chosen))
        view = random_views(data, _seed_view(seed, number, clip["index"]), places)
        return _decode(clip, chosen, view, face_size, frames=data.frames)

    dataset = tf.data.Dataset.range(first_epoch, 2**31).flat_map(epoch)
    dataset = dataset.map(sample, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return batch_epochs(dataset.map(_split_pair), rank.divide(sizes)).prefetch(2), len(sizes)


def _seed_view(seed, epoch, index):
    return tf.stack([seed * 1_000_003 + epoch, index]) + tf.constant([0, 2**30])


def _read_table(table):
    """Returns functions for `train_batches`: they read the clips of a table as if they were read from shards."""
    first_rows = table.first_rows

    def parse(place):
        columns = {"index": table.indices, "total": table.totals, "label": table.labels, "first_row": first_rows}
        return {name: tf.gather(tf.constant(values), place) for name, values in columns.items()}

    def read(files):
        starts = tf.constant(table.starts)
        return tf.data.Dataset.from_tensor_slices(files).flat_map(
            lambda file: tf.data.Dataset.range(starts[file], starts[file + 1])
        )

    return parse, read


def _choose_rows(clip, chosen, view, views, frames):
    """Returns what `_decode` does, with the rows of the faces."""
    rows = clip["first_row"] + tf.cast(chosen * views + view, tf.int64)
    rows = tf.pad(rows, [[0, frames - tf.size(chosen)]], constant_values=-1)
    rows = tf.ensure_shape(rows, (frames,))
    return {"rows": rows, "frame_mask": rows >= 0, "label": clip["label"]}


def batch_sizes(examples: int, data: Data) -> list[int]:
    """Returns the sizes of the batches of an epoch.

    Args:
        examples: Number of clips or windows.
        data: `batch_clips` and `keep_last_batch` are used.
    """
    most = min(data.batch_clips, examples)
    sizes, rest = [most] * (examples // most), examples % most
    return [*sizes, rest] if data.keep_last_batch and rest else sizes


def batch_epochs(dataset: tf.data.Dataset, sizes: Sequence[int]) -> tf.data.Dataset:
    """Returns an endless dataset in batches.

    Args:
        dataset: Of single examples, without an end.
        sizes: Sizes of the batches of an epoch, from `batch_sizes`. They repeat in each epoch.
    """
    if sizes[0] == sizes[-1]:
        return dataset.batch(sizes[0], drop_remainder=True)
    return dataset.batch(1).rebatch(sizes)


def keep_in_memory(dataset: tf.data.Dataset, faces: int, face_size: int) -> tf.data.Dataset:
    """Returns a dataset that decodes its faces once, if they fit into `KEPT_BYTES`, and else as it is.

    Args:
        dataset: Batches that are the same each time they are read.
        faces: Number of faces in them, with padding.
        face_size: Height and width of a face in pixels.
    """
    return dataset.cache() if faces * face_size**2 * 3 <= KEPT_BYTES else dataset


def eval_batches(
    shards: Shards,
    data: Data,
    *,
    split: str,
    classes: Sequence[str],
    face_size: int,
    keys: Sequence[str] | None = None,
    rank: Rank = ALONE,
) -> tf.data.Dataset:
    """Returns batches for evaluation: each clip once, up to `data.eval_frames` evenly spaced frames, central crop.

    A clip without a face has one frame, which is masked. Each batch is padded to its longest clip.

    Args:
        shards: Where the clips are.
        data: How clips are sampled.
        split: Name of the split.
        classes: Class names in the model's order.
        face_size: Height and width of the model's faces in pixels.
        keys: Keys of the clips; `None` is all clips of the split.
        rank: Which of several processes reads them, each some of the batches.

    Returns:
        Dataset of dicts: `faces` uint8 (B, F, H, W, 3), `frame_mask` bool (B, F), `timestamp_s` float64 (B, F), `label`
        int32 (B,), -1 if it is not one of the classes, and `key` string (B,).
    """
    keys = [clip["key"] for clip in shards.of_split(split)] if keys is None else keys
    clips = tf.data.TFRecordDataset(shards.files(split)).map(_make_parser(classes, keys))
    clips = _keep_known(clips, len(keys))

    def choose(total):
        chosen = tf.numpy_function(
            functools.partial(space_evenly, most=data.eval_frames, spacing=data.frame_spacing), [total], tf.int32
        )
        return tf.ensure_shape(chosen, (None,))

    def sample(clip):
        chosen = choose(clip["total"])
        view = central_view(data.crop_ratio)
        return _decode(clip, chosen, view, face_size, frames=tf.maximum(tf.size(chosen), 1))

    if rank.processes > 1:
        clips = clips.enumerate().filter(lambda place, clip: rank.reads_batch(place // data.batch_clips))
        clips = clips.map(lambda place, clip: clip)
    dataset = clips.map(sample, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.padded_batch(data.batch_clips).prefetch(2)


def _keep_known(clips, count):
    """Keeps the clips whose keys are wanted. It is an error if they are more or fewer than the keys."""
    return clips.filter(lambda clip: clip["index"] >= 0).apply(tf.data.experimental.assert_cardinality(count))


def _make_parser(
    classes: Sequence[str], keys: Sequence[str], *, voted: Sequence[str] | None = None
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Returns a parser of records. With `voted`, the classes in the order of the votes, its labels are soft.

    The `index` of a clip is its place in the keys, -1 if it is not one of them.
    """
    index_of = _make_table(classes, range(len(classes)))
    wanted = _make_table(keys, range(len(keys)))

    def parse(serialized):
        record = records.parse_example(serialized)
        label = index_of.lookup(record["clip/label/string"])
        if voted:
            votes = tf.pad(record["affect/votes"], [[0, len(voted) - tf.size(record["affect/votes"])]])
            votes = tf.gather(votes, [voted.index(name) for name in classes])
            total = tf.reduce_sum(votes)
            label = tf.where(total > 0, tf.math.divide_no_nan(votes, total), tf.one_hot(label, len(classes)))
        return {
            "jpeg": record["image/encoded"],
            "timestamp_s": tf.cast(record["image/timestamp"], tf.float64) / 1e6,
            "key": record["clip/media_id"],
            "index": wanted.lookup(record["clip/media_id"]),
            "total": tf.shape(record["image/encoded"])[0],
            "label": label,
        }

    return parse


def _make_table(keys: Iterable[str], values: Iterable[int]) -> tf.lookup.StaticHashTable:
    initializer = tf.lookup.KeyValueTensorInitializer(
        tf.constant(list(keys), tf.string), tf.constant(list(values), tf.int32)
    )
    return tf.lookup.StaticHashTable(initializer, default_value=-1)


def _decode(clip, chosen, view, face_size, *, frames):
    """Decodes only the chosen frames, and pads them to `frames`, with a mask."""
    faces = view_faces(tf.gather(clip["jpeg"], chosen), view, face_size)
    padding = frames - tf.size(chosen)
    faces = tf.pad(faces, [[0, padding], [0, 0], [0, 0], [0, 0]])
    mask = tf.pad(tf.ones_like(chosen, tf.bool), [[0, padding]])
    length = frames if isinstance(frames, int) else None
    return {
        "faces": tf.ensure_shape(faces, (length, face_size, face_size, 3)),
        "frame_mask": tf.ensure_shape(mask, (length,)),
        "timestamp_s": tf.pad(tf.gather(clip["timestamp_s"], chosen), [[0, padding]]),
        "label": clip["label"],
        "key": clip["key"],
    }


def _split_pair(clip):
    return {name: clip[name] for name in ("faces", "rows", "frame_mask") if name in clip}, clip["label"]

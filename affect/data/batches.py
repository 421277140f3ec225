"""Shards → tf.data batches of clips. Frames are sampled before they are decoded."""

import functools
import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import tensorflow as tf
from sklearn.model_selection import StratifiedGroupKFold

from affect.config import Data
from affect.data import records
from affect.data.augment import central_view, random_view, view_face
from affect.data.ranks import ALONE, Rank
from affect.data.shards import Shards
from affect.data.views import space_evenly
from affect.errors import InputError

# Largest size of the faces that are kept in memory between epochs.
KEPT_BYTES = 2**30

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def names_damage(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Decorates a function that reads shards, so that the error on a damaged record names the damaged shards.

    TensorFlow's error names neither the file nor a remedy.

    Args:
        function: It has an argument `data`, the folder of shards.

    Raises:
        InputError: From a call, when a record is damaged.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
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


def train_batches(
    shards: Shards,
    data: Data,
    *,
    classes: Sequence[str],
    keys: Sequence[str],
    face_size: int,
    seed: int,
    first_epoch: int = 0,
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
        rank: Which of several processes reads them; `processes` divides the size of each batch.

    Returns:
        `(dataset, steps)`. The dataset gives `({"faces": uint8 (B, F, H, W, 3), "frame_mask": bool (B, F)}, label int32
        (B,))`, where F is `data.frames`; with `data.soft_labels` the label is float32 (B, E). `steps` is the number of
        batches in an epoch. With `data.keep_last_batch`, the clips that do not fill a batch are a smaller batch.
        Otherwise the epoch leaves them out; another epoch has another order.
    """
    sizes = batch_sizes(len(keys), data)
    is_own = tf.constant(rank.find_rows(sizes))
    files = tf.constant(shards.files(data.train_split))
    parse = _make_parser(classes, voted=shards.classes if data.soft_labels else None)
    wanted = _make_table(keys, range(len(keys)))

    def epoch(number):
        # Set the graph-level seed. Otherwise the order also depends on the global seed, and a seed of 0 is an error.
        tf.random.set_seed(1)
        draw = tf.stack([tf.constant(seed, tf.int64), number])
        clips = tf.data.TFRecordDataset(tf.random.experimental.stateless_shuffle(files, draw)).map(parse)
        clips = clips.filter(lambda clip: wanted.lookup(clip["key"]) >= 0)
        order = tf.random.stateless_uniform([], draw, maxval=2**31 - 1, dtype=tf.int64)
        clips = clips.shuffle(data.shuffle_clips, seed=order, reshuffle_each_iteration=False)
        clips = clips.take(sum(sizes)).enumerate().filter(lambda row, clip: is_own[row])
        return clips.map(lambda row, clip: clip | {"epoch": number})

    def sample(clip):
        # The draw depends on the clip and the epoch, so that the order and the number of threads do not change it.
        draw = tf.stack([seed * 1_000_003 + tf.cast(clip["epoch"], tf.int32), wanted.lookup(clip["key"])])
        total = tf.shape(clip["jpeg"])[0]
        chosen = tf.argsort(tf.random.stateless_uniform([total], draw))[: data.frames]
        if data.repeat_frames:
            chosen = tf.cond(
                tf.logical_and(total > 0, total < data.frames),
                lambda: tf.random.stateless_uniform([data.frames], draw, maxval=total, dtype=tf.int32),
                lambda: chosen,
            )
        view_seed = draw + tf.constant([0, 2**30])
        view = random_view(data, view_seed)

        def view_of(place):
            return random_view(data, tf.random.fold_in(view_seed, place)) if data.view_per_frame else view

        return _decode(clip, tf.sort(chosen), view_of, face_size, frames=data.frames)

    dataset = tf.data.Dataset.range(first_epoch, 2**31).flat_map(epoch)
    dataset = dataset.map(sample, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return batch_epochs(dataset.map(_split_pair), rank.divide(sizes)).prefetch(2), len(sizes)


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
    parse = _make_parser(classes)
    clips = tf.data.TFRecordDataset(shards.files(split)).map(parse)
    if keys is not None:
        wanted = _make_table(keys, range(len(keys)))
        clips = clips.filter(lambda clip: wanted.lookup(clip["key"]) >= 0)

    def choose(total):
        chosen = tf.numpy_function(
            functools.partial(space_evenly, most=data.eval_frames, spacing=data.frame_spacing), [total], tf.int32
        )
        return tf.ensure_shape(chosen, (None,))

    def sample(clip):
        chosen = choose(tf.shape(clip["jpeg"])[0])
        view = central_view(data.crop_ratio)
        return _decode(clip, chosen, lambda place: view, face_size, frames=tf.maximum(tf.size(chosen), 1))

    if rank.processes > 1:
        clips = clips.enumerate().filter(lambda place, clip: rank.reads_batch(place // data.batch_clips))
        clips = clips.map(lambda place, clip: clip)
    dataset = clips.map(sample, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.padded_batch(data.batch_clips).prefetch(2)


def _make_parser(
    classes: Sequence[str], *, voted: Sequence[str] | None = None
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Returns a parser of records. With `voted`, the classes in the order of the votes, its labels are soft."""
    index_of = _make_table(classes, range(len(classes)))

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
            "label": label,
        }

    return parse


def _make_table(keys: Iterable[str], values: Iterable[int]) -> tf.lookup.StaticHashTable:
    initializer = tf.lookup.KeyValueTensorInitializer(
        tf.constant(list(keys), tf.string), tf.constant(list(values), tf.int32)
    )
    return tf.lookup.StaticHashTable(initializer, default_value=-1)


def _decode(clip, chosen, view_of, face_size, *, frames):
    """Decodes only the chosen frames, each with the view of its place, and pads them to `frames`, with a mask."""
    faces = tf.map_fn(
        lambda face: view_face(face[0], view_of(face[1]), face_size),
        (tf.gather(clip["jpeg"], chosen), tf.range(tf.size(chosen))),
        fn_output_signature=tf.TensorSpec((face_size, face_size, 3), tf.uint8),
    )
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
    return {"faces": clip["faces"], "frame_mask": clip["frame_mask"]}, clip["label"]

"""Shards → tf.data batches of clips. Frames are sampled before they are decoded."""

import functools
import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import tensorflow as tf
from sklearn.model_selection import StratifiedGroupKFold

from affect.config import Data, read_json
from affect.config.experiment import FrameSpacing
from affect.data import records
from affect.data.augment import central_view, random_view, view_face
from affect.errors import InputError
from affect.files import sha256_of


class Shards:
    """The shards of a folder, as its manifest describes them.

    Args:
        folder: The folder that `affect prepare` wrote.
        check_sizes: Whether an incomplete shard is an error.

    Attributes:
        settings: Dict of what changes the records: `records_version`, `faces_version` (absent in shards of version 1),
            `dataset`, `faces`.
        classes: Tuple of class names.
        faces: Dict of the settings with which the faces were cut.
        clips: List of dicts, one for each clip: key, label, subject, split, frames_with_a_face, ...
        shards: List of dicts, one for each shard: name, split, clips, bytes, sha256.
        left_out: List of sentences on files that looked like clips and were left out.

    Raises:
        InputError: When there is no manifest, the records have another version, or a shard is incomplete.
    """

    def __init__(self, folder: Path | str, *, check_sizes: bool = True) -> None:
        self.folder = Path(folder)
        manifest_path = self.folder / "manifest.json"
        if not manifest_path.is_file():
            raise InputError(f"{folder} holds no manifest.json. Make shards: affect prepare SOURCE --out {folder}")
        _refuse_pointer(manifest_path)
        manifest = read_json(manifest_path)
        try:
            self.settings, version = manifest["settings"], manifest["settings"]["records_version"]
            self.classes, self.clips = tuple(manifest["classes"]), manifest["clips"]
            self.faces, self.shards = self.settings["faces"], manifest["shards"]
            self.left_out = list(manifest.get("left_out", ()))
            sizes = {shard["name"]: shard["bytes"] for shard in self.shards}
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{manifest_path} is not a manifest of shards: {error!r}. Make shards: affect prepare SOURCE --out DIR"
            ) from error
        if version != records.VERSION:
            raise InputError(
                f"{folder} holds records of version {version}; this version of affect reads {records.VERSION}. "
                f"Prepare it again: affect prepare SOURCE --out {folder} --overwrite"
            )
        for name, size in sizes.items() if check_sizes else ():
            path = self.folder / name
            found = path.stat().st_size if path.is_file() else 0
            if found != size:
                _refuse_pointer(path)
                fault = f"has {found} of {size} bytes" if found else "is missing"
                raise InputError(f"{path} {fault}. Copy it again, or run the same affect prepare with --overwrite.")

    def of_split(self, split: str) -> list[dict[str, Any]]:
        """Returns the clips of a split.

        Raises:
            InputError: When the split is unknown. The error lists the splits.
        """
        clips = [clip for clip in self.clips if clip["split"] == split]
        if not clips:
            splits = sorted({clip["split"] for clip in self.clips})
            raise InputError(f"{self.folder} has no split {split!r}. Expected one of {splits}.")
        return clips

    def files(self, split: str) -> list[str]:
        """Returns the paths of a split's shards."""
        return [str(self.folder / shard["name"]) for shard in self.shards if shard["split"] == split]

    def find_damaged(self) -> list[str]:
        """Returns the names of the shards whose SHA-256 differs from the manifest. It reads all shards."""
        return [shard["name"] for shard in self.shards if sha256_of(self.folder / shard["name"]) != shard["sha256"]]


def is_pointer(path: Path | str) -> bool:
    """Returns whether a file is a pointer of Git LFS, the small text that replaces a file until it is fetched."""
    start = b"version https://git-lfs.github.com/spec/"
    if not Path(path).is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(start)) == start


def _refuse_pointer(path: Path | str) -> None:
    if is_pointer(path):
        raise InputError(f"{path} is a Git LFS pointer and not the file itself. Fetch the file: git lfs pull")


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
) -> tuple[tf.data.Dataset, int]:
    """Returns endless training batches.

    They depend on the seed and the epoch alone, so a resumed run continues with the batches that it would have had.

    Args:
        shards: Where the clips are.
        data: How clips are sampled.
        classes: Class names in the model's order.
        keys: Keys of the clips to train on.
        face_size: Height and width of the model's faces in pixels.
        seed: Of the order, the sampled frames and the views.
        first_epoch: Epoch to start with.

    Returns:
        `(dataset, steps)`. The dataset gives `({"faces": uint8 (B, F, H, W, 3), "frame_mask": bool (B, F)}, label int32
        (B,))`, where F is `data.frames`; with `data.soft_labels` the label is float32 (B, E). `steps` is the number of
        batches in an epoch. With `data.keep_last_batch`, the clips that do not fill a batch are a smaller batch.
        Otherwise the epoch leaves them out; another epoch has another order.
    """
    sizes = batch_sizes(len(keys), data)
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
        return clips.take(sum(sizes)).map(lambda clip: clip | {"epoch": number})

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
    return batch_epochs(dataset.map(_split_pair), sizes).prefetch(2), len(sizes)


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


def eval_batches(
    shards: Shards, data: Data, *, split: str, classes: Sequence[str], face_size: int, keys: Sequence[str] | None = None
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

    Returns:
        Dataset of dicts: `faces` uint8 (B, F, H, W, 3), `frame_mask` bool (B, F), `timestamp_s` float64 (B, F), `label`
        int32 (B,), -1 if it is not one of the classes, and `key` string (B,).
    """
    parse = _make_parser(classes)
    clips = tf.data.TFRecordDataset(shards.files(split)).map(parse)
    if keys is not None:
        wanted = _make_table(keys, range(len(keys)))
        clips = clips.filter(lambda clip: wanted.lookup(clip["key"]) >= 0)

    def sample(clip):
        chosen = space_evenly(tf.shape(clip["jpeg"])[0], data.eval_frames, data.frame_spacing)
        view = central_view(data.crop_ratio)
        return _decode(clip, chosen, lambda place: view, face_size, frames=tf.maximum(tf.size(chosen), 1))

    dataset = clips.map(sample, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.padded_batch(data.batch_clips).prefetch(2)


def clip_inputs(clip: records.Clip, data: Data, face_size: int) -> tuple[dict[str, np.ndarray], list[records.Face]]:
    """Returns the model's inputs for one clip, with the frames and the view of `eval_batches`.

    Args:
        clip: With at least one face.
        data: How clips are sampled.
        face_size: Height and width of the model's faces in pixels.

    Returns:
        `(inputs, chosen)`: dict of `faces` uint8 (1, F, H, W, 3) and `frame_mask` bool (1, F); the F chosen faces.
    """
    places = space_evenly(len(clip.faces), data.eval_frames, data.frame_spacing)
    chosen = [clip.faces[place] for place in places.numpy()]
    view = central_view(data.crop_ratio)
    faces = np.stack([view_face(face.jpeg, view, face_size).numpy() for face in chosen])[None]
    return {"faces": faces, "frame_mask": np.ones((1, len(chosen)), bool)}, chosen


def space_evenly(total: tf.Tensor | int, most: int, spacing: FrameSpacing = "nearest") -> tf.Tensor:
    """Returns the indices of evenly spaced frames, int32 (min(total, most),).

    Args:
        total: Number of frames.
        most: Largest number of indices.
        spacing: Which frame a position between two frames means: the `"nearest"`, or the frame before it, `"floor"`.
    """
    count = tf.minimum(total, most)
    step = tf.cast(tf.maximum(total - 1, 0), tf.float64) / tf.cast(tf.maximum(count - 1, 1), tf.float64)
    places = tf.range(tf.cast(count, tf.float64), dtype=tf.float64) * step
    if spacing == "floor":
        chosen = tf.cast(tf.floor(places), tf.int32)
        return tf.concat([chosen[:-1], [total - 1]], 0) if count > 1 else chosen  # the product may be rounded down
    return tf.cast(tf.round(places), tf.int32)


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

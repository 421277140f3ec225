"""Shards → tf.data batches of clips: read, sample frames, decode only those, cut the view, batch."""

import functools
import inspect
import warnings
from pathlib import Path

import numpy as np
import tensorflow as tf
from sklearn.model_selection import StratifiedGroupKFold

from affect.config import read_json
from affect.data import records
from affect.data.augment import central_view, random_view, view_face
from affect.errors import InputError
from affect.files import sha256_of


class Shards:
    """The shards of a folder, as its manifest describes them.

    Args:
        folder: Where `affect prepare` wrote.
        check_sizes: Whether a shard that is not there whole is an error.

    Attributes:
        settings: Dict of what changes the records: `records_version`, `dataset`, `faces`.
        classes: Tuple of class names.
        faces: Dict of the settings by which the faces were cut.
        clips: List of dicts, one for each clip: key, label, subject, split, frames_with_a_face, ...
        shards: List of dicts, one for each shard file: name, split, clips, bytes, sha256.
        left_out: List of sentences on what looked like a clip and is none.

    Raises:
        InputError: When there is no manifest, when records are of another version, or when a shard is not there whole.
    """

    def __init__(self, folder, *, check_sizes=True):
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

    def of_split(self, split):
        """Returns the clips of a split; an unknown split is an error that lists those there are."""
        clips = [clip for clip in self.clips if clip["split"] == split]
        if not clips:
            splits = sorted({clip["split"] for clip in self.clips})
            raise InputError(f"{self.folder} has no split {split!r}. Expected one of {splits}.")
        return clips

    def files(self, split):
        """Returns the paths of a split's shards."""
        return [str(self.folder / shard["name"]) for shard in self.shards if shard["split"] == split]

    def damaged(self):
        """Returns the names of the shards whose bytes are not those that were written. It reads them all."""
        return [shard["name"] for shard in self.shards if sha256_of(self.folder / shard["name"]) != shard["sha256"]]


def is_pointer(path):
    """Returns whether a file is the small text that a repository of Git LFS holds where a file was not fetched."""
    start = b"version https://git-lfs.github.com/spec/"
    if not Path(path).is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(start)) == start


def _refuse_pointer(path):
    if is_pointer(path):
        raise InputError(f"{path} is a Git LFS pointer and not the file itself. Fetch the file: git lfs pull")


def names_damage(verb):
    """Decorates a function with an argument `data`, a folder of shards: a damaged record is an error that names them.

    TensorFlow's own says neither which file nor what to do.
    """
    signature = inspect.signature(verb)

    @functools.wraps(verb)
    def named(*args, **kwargs):
        try:
            return verb(*args, **kwargs)
        except tf.errors.DataLossError as error:
            data = signature.bind(*args, **kwargs).arguments["data"]
            names = ", ".join(Shards(data).damaged())
            raise InputError(
                f"{data} is damaged: {names}. Copy it again, or run the same affect prepare with --overwrite."
            ) from error

    return named


def split_selection(clips, ratio, seed):
    """Splits training clips into those trained on and those that select the epoch.

    The parts have about the same share of each class, no class is set aside as a whole, and no subject is in both
    (where subjects are unknown, every recording is its own, and no parts of one are in both).

    Args:
        clips: List of dicts with key, recording, label and subject.
        ratio: Share for selection in [0, 0.5]; 0 sets nothing aside.
        seed: int.

    Returns:
        `(train_keys, selection_keys)`: lists of str.
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
            warnings.simplefilter("ignore", UserWarning)  # that a class is rare; the check below is sharper
            splits = list(folds.split(keys, labels, subjects))
        for train, selection in splits:
            if len(selection) and {labels[index] for index in train} == set(labels):
                return [keys[index] for index in train], [keys[index] for index in selection]
        raise ValueError("no class may be set aside as a whole")
    except ValueError as error:
        raise InputError(
            f"{len(clips)} training clips cannot be split for selection ({error}). Set data.selection_ratio=0."
        ) from error


def train_batches(shards, data, *, classes, keys, face_size, seed, first_epoch=0):
    """Endless training batches, a function of the seed and the epoch alone: a resumed run sees what it would have seen.

    Args:
        shards: `Shards`.
        data: `affect.config.Data`.
        classes: Class names in the model's order.
        keys: Keys of the clips that are trained on.
        face_size: The model's, in pixels.
        seed: int.
        first_epoch: Epoch to start with.

    Returns:
        `(dataset, steps)`: `({"faces": uint8 (B, F, H, W, 3), "frame_mask": bool (B, F)}, label int32 (B,))` with F =
        `data.frames`, and with `data.soft_labels` the label float32 (B, E); batches an epoch. Clips that do not fill a
        batch wait for another epoch's order, or are a smaller batch with `data.keep_last_batch`.
    """
    sizes = batch_sizes(len(keys), data)
    files = tf.constant(shards.files(data.train_split))
    parse = _parser(classes, voted=shards.classes if data.soft_labels else None)
    wanted = _table(keys, range(len(keys)))

    def epoch(number):
        # Set the graph-level seed. Otherwise the order also depends on the global seed, and 0 is an error.
        tf.random.set_seed(1)
        draw = tf.stack([tf.constant(seed, tf.int64), number])
        clips = tf.data.TFRecordDataset(tf.random.experimental.stateless_shuffle(files, draw)).map(parse)
        clips = clips.filter(lambda clip: wanted.lookup(clip["key"]) >= 0)
        order = tf.random.stateless_uniform([], draw, maxval=2**31 - 1, dtype=tf.int64)
        clips = clips.shuffle(data.shuffle_clips, seed=order, reshuffle_each_iteration=False)
        return clips.take(sum(sizes)).map(lambda clip: clip | {"epoch": number})

    def sample(clip):
        # Drawn by clip and epoch, so that neither order nor the number of threads changes what is drawn.
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

        return _decoded(clip, tf.sort(chosen), view_of, face_size, frames=data.frames)

    dataset = tf.data.Dataset.range(first_epoch, 2**31).flat_map(epoch)
    dataset = dataset.map(sample, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return in_batches(dataset.map(_as_pair), sizes).prefetch(2), len(sizes)


def batch_sizes(examples, data):
    """Returns how many of an epoch's examples each batch holds, a list.

    Args:
        examples: Clips, or windows.
        data: `affect.config.Data`; `batch_clips` and `keep_last_batch` are used.
    """
    most = min(data.batch_clips, examples)
    sizes, rest = [most] * (examples // most), examples % most
    return [*sizes, rest] if data.keep_last_batch and rest else sizes


def in_batches(dataset, sizes):
    """Returns an endless dataset in batches of an epoch's `sizes`, epoch after epoch."""
    if sizes[0] == sizes[-1]:
        return dataset.batch(sizes[0], drop_remainder=True)
    return dataset.batch(1).rebatch(sizes)


def eval_batches(shards, data, *, split, classes, face_size, keys=None):
    """Batches for evaluation: every clip once, up to `data.eval_frames` evenly spaced frames, central crop.

    A clip without a face is one frame that is masked. Each batch is padded to its longest clip.

    Args:
        shards, data, classes, face_size: As in `train_batches`.
        split: Name of the split.
        keys: Clips that are wanted; `None` is all.

    Returns:
        Dataset of dicts: `faces` uint8 (B, F, H, W, 3), `frame_mask` bool (B, F), `timestamp_s` float64 (B, F), `label`
        int32 (B,), -1 where it is not one of the classes, and `key` string (B,).
    """
    parse = _parser(classes)
    clips = tf.data.TFRecordDataset(shards.files(split)).map(parse)
    if keys is not None:
        wanted = _table(keys, range(len(keys)))
        clips = clips.filter(lambda clip: wanted.lookup(clip["key"]) >= 0)

    def sample(clip):
        chosen = evenly_spaced(tf.shape(clip["jpeg"])[0], data.eval_frames, data.frame_spacing)
        view = central_view(data.crop_ratio)
        return _decoded(clip, chosen, lambda place: view, face_size, frames=tf.maximum(tf.size(chosen), 1))

    dataset = clips.map(sample, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.padded_batch(data.batch_clips).prefetch(2)


def clip_inputs(clip, data, face_size):
    """Returns one `records.Clip` as the model's inputs, by the rules of `eval_batches`.

    Args:
        clip: `affect.data.records.Clip` with at least one face.
        data: `affect.config.Data`.
        face_size: The model's, in pixels.

    Returns:
        `(inputs, chosen)`: dict of `faces` uint8 (1, F, H, W, 3) and `frame_mask` bool (1, F); the F chosen
        `affect.data.records.Face`.
    """
    chosen = [
        clip.faces[index] for index in evenly_spaced(len(clip.faces), data.eval_frames, data.frame_spacing).numpy()
    ]
    view = central_view(data.crop_ratio)
    faces = np.stack([view_face(face.jpeg, view, face_size).numpy() for face in chosen])[None]
    return {"faces": faces, "frame_mask": np.ones((1, len(chosen)), bool)}, chosen


def evenly_spaced(total, most, spacing="nearest"):
    """Returns the indices, int32 (min(total, most),), of frames evenly spaced over all `total`.

    `spacing` says which frame an evenly spaced place is: the `"nearest"`, or the one before it, `"floor"`.
    """
    count = tf.minimum(total, most)
    step = tf.cast(tf.maximum(total - 1, 0), tf.float64) / tf.cast(tf.maximum(count - 1, 1), tf.float64)
    places = tf.range(tf.cast(count, tf.float64), dtype=tf.float64) * step
    if spacing == "floor":
        chosen = tf.cast(tf.floor(places), tf.int32)
        return tf.concat([chosen[:-1], [total - 1]], 0) if count > 1 else chosen  # the last is no product
    return tf.cast(tf.round(places), tf.int32)


def _parser(classes, *, voted=None):
    """Returns the parser of records; with `voted`, the classes in the order of the votes, labels are soft."""
    index_of = _table(classes, range(len(classes)))

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


def _table(keys, values):
    initializer = tf.lookup.KeyValueTensorInitializer(
        tf.constant(list(keys), tf.string), tf.constant(list(values), tf.int32)
    )
    return tf.lookup.StaticHashTable(initializer, default_value=-1)


def _decoded(clip, chosen, view_of, face_size, *, frames):
    """Decodes the chosen frames only, each in the view of its place, and pads them to `frames` with a mask."""
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


def _as_pair(clip):
    return {"faces": clip["faces"], "frame_mask": clip["frame_mask"]}, clip["label"]

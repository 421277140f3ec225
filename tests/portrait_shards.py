"""Clips of the portrait in one shard, whose bytes are known one by one."""

import hashlib

import cv2
import tensorflow as tf

from affect.config import to_json, write_json
from affect.data.clips import VERSION, Clip, Face
from affect.data.examples import encode_example
from tests.pictures import SMALL_FACES, portrait


def jpeg(index=0, size=64):
    """The portrait as JPEG; at another index it is shifted."""
    return cv2.imencode(".jpg", portrait(size=size, shift=(index, 0)))[1].tobytes()


def portrait_clip(key, label="happy", faces=3, **others):
    """A clip of so many faces, ten a second; `others` are fields of `Clip`."""
    faces = tuple(
        Face(index / 10, jpeg(index), (0.0,) * 4, (0.0,) * 10, 1.0, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
        for index in range(faces)
    )
    return Clip(key, label, frames_decoded=len(faces), faces=faces, **others)


CLIPS = (portrait_clip("a"), portrait_clip("b", "sad"), portrait_clip("c", faces=0), portrait_clip("d", faces=5))


def write_shard(folder, examples, *, listed=CLIPS, split="all", shards=()):
    """Writes examples (bytes) as one shard, and a manifest of it and of the clips that are said to be in it.

    Args:
        folder: Made here.
        examples: Bytes of the records.
        listed: `Clip`s of the manifest.
        split: Of all clips.
        shards: Further entries of the manifest.

    Returns:
        Path of the shard.
    """
    folder.mkdir(exist_ok=True)
    path = folder / f"{split}-00000-of-00001.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in examples:
            writer.write(example)
    content = path.read_bytes()
    sizes = {"clips": len(examples), "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest = {
        "settings": {"records_version": VERSION, "dataset": "folder", "faces": to_json(SMALL_FACES)},
        "classes": ["happy", "sad"],
        "shards": [{"name": path.name, "split": split, **sizes}, *shards],
        "clips": [
            {
                "key": each.key,
                "label": each.label,
                "subject": each.subject,
                "split": split,
                "frames_with_a_face": len(each.faces),
                "problem": "",
            }
            for each in listed
        ],
    }
    write_json(folder / "manifest.json", manifest)
    return path


def encode(clips):
    """Returns the records of clips as bytes."""
    return [encode_example(each) for each in clips]


def flip(path, place, bit=0):
    """Flips one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)

"""Clips whose faces are flat colours that say which they are, and shards of such clips."""

import json
from functools import cache

import numpy as np
import tensorflow as tf

from affect.data.clips import VERSION, Clip, Face
from affect.data.examples import encode_example
from affect.data.shards import Shards

SIZE = 8


@cache
def flat(red, green):
    colour = np.full((SIZE, SIZE, 3), (red, green, 128), np.uint8)
    return tf.io.encode_jpeg(colour, quality=100, chroma_downsampling=False).numpy()


@cache
def textured(seed):
    return tf.io.encode_jpeg(np.random.default_rng(seed).integers(0, 256, (40, 40, 3)).astype(np.uint8)).numpy()


def make_clip(number, frames, *, key=None, label="happy", subject="", jpegs=None):
    jpegs = jpegs or [flat(8 * number, 8 * frame) for frame in range(frames)]
    box, landmarks, transform = (1.0, 2.0, 9.0, 10.0), tuple(map(float, range(10))), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    faces = tuple(Face(0.25 * frame, jpeg, box, landmarks, 0.9, transform) for frame, jpeg in enumerate(jpegs))
    return Clip(key or f"clip {number}", label, 0, subject, "00", 4.0, len(faces), faces)


def write_shards(folder, classes=("happy", "sad"), **splits):
    """Writes a shard for each list of clips, and the manifest, as prepare does: `train=[[clip, clip], [clip]]`."""
    folder.mkdir(exist_ok=True)
    shards, entries = [], []
    for split, groups in splits.items():
        for index, clips in enumerate(groups):
            name = f"{split}-{index:05d}-of-{len(groups):05d}.tfrecord"
            with tf.io.TFRecordWriter(str(folder / name)) as writer:
                for clip in clips:
                    writer.write(encode_example(clip))
            size = (folder / name).stat().st_size
            shards.append({"name": name, "split": split, "clips": len(clips), "bytes": size, "sha256": "00"})
            entries += [
                {
                    "key": clip.key,
                    "label": clip.label,
                    "subject": clip.subject,
                    "split": split,
                    "frames_decoded": clip.frames_decoded,
                    "frames_with_a_face": len(clip.faces),
                    "problem": "" if clip.faces else "no face",
                }
                for clip in clips
            ]
    manifest = {
        "settings": {"records_version": VERSION, "dataset": "folder", "faces": {"face_size": SIZE}},
        "classes": list(classes),
        "counts": {"clips": len(entries)},
        "shards": shards,
        "clips": entries,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return Shards(folder)

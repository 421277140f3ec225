"""How TensorFlow parses a record. `affect.data.examples` describes the records, and writes them."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from affect.data.clips import VERSION, name_rating_fault

# Keys that version 1 did not have get a default, so that its records reach the check of the version.
_CONTEXT = {
    "affect/version": tf.io.FixedLenFeature((), tf.int64),
    "affect/dimensions/arousal": tf.io.RaggedFeature(tf.float32),
    "affect/dimensions/timestamp": tf.io.RaggedFeature(tf.int64),
    "affect/dimensions/valence": tf.io.RaggedFeature(tf.float32),
    "affect/frames_decoded": tf.io.FixedLenFeature((), tf.int64),
    "affect/part": tf.io.FixedLenFeature((), tf.int64, default_value=0),
    "affect/recording": tf.io.FixedLenFeature((), tf.string, default_value=""),
    "affect/source_sha256": tf.io.FixedLenFeature((), tf.string),
    "affect/subject": tf.io.FixedLenFeature((), tf.string),
    "affect/votes": tf.io.RaggedFeature(tf.float32),
    "clip/media_id": tf.io.FixedLenFeature((), tf.string),
    "clip/label/string": tf.io.FixedLenFeature((), tf.string),
    "image/frame_rate": tf.io.FixedLenFeature((), tf.float32),
}
_FRAMES = {
    "image/encoded": tf.io.FixedLenSequenceFeature((), tf.string, allow_missing=True),
    "image/timestamp": tf.io.FixedLenSequenceFeature((), tf.int64, allow_missing=True),
    "face/box": tf.io.FixedLenSequenceFeature((4,), tf.float32, allow_missing=True),
    "face/landmarks": tf.io.FixedLenSequenceFeature((10,), tf.float32, allow_missing=True),
    "face/score": tf.io.FixedLenSequenceFeature((), tf.float32, allow_missing=True),
    "face/transform": tf.io.FixedLenSequenceFeature((6,), tf.float32, allow_missing=True),
}


def name_record_fault(record: Mapping[str, Any]) -> str:
    """Returns the result of `name_rating_fault` for a record.

    Args:
        record: From `parse_example`, in NumPy.
    """
    return name_rating_fault(
        record["affect/dimensions/timestamp"] / 1e6,
        int(record["affect/frames_decoded"]),
        float(record["image/frame_rate"]),
        record["image/timestamp"] / 1e6,
    )


def parse_example(serialized: tf.Tensor | bytes) -> dict[str, tf.Tensor]:
    """Parses a record, also in a tf.data graph. It does not decode the JPEGs.

    Args:
        serialized: Scalar string.

    Returns:
        Dict of tensors: the context keys, scalars; `affect/votes` float32 (E,) in the order of the manifest's classes,
        or (0,) without raters; the series `affect/dimensions/timestamp` int64 in microseconds and
        `affect/dimensions/valence` and `affect/dimensions/arousal` float32, all (T_l,), with T_l = 0 without ratings;
        and, for the T frames with a face, `image/encoded` (T,) string, `image/timestamp` (T,) int64 in microseconds,
        `face/box` (T, 4), `face/landmarks` (T, 10), `face/score` (T,) and `face/transform` (T, 6) float32.

    Raises:
        tf.errors.InvalidArgumentError: When the record has another version.
    """
    context, frames = tf.io.parse_single_sequence_example(serialized, _CONTEXT, _FRAMES)
    check = tf.debugging.assert_equal(
        context["affect/version"], tf.constant(VERSION, tf.int64), "These shards are of another version of the records."
    )
    with tf.control_dependencies([check]):
        return {key: tf.identity(value) for key, value in (context | frames).items()}

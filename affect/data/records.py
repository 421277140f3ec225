"""The TFRecord schema: one SequenceExample for each clip, with the keys of MediaSequence where it has them.

MediaSequence is MediaPipe's convention for video in SequenceExamples
(https://github.com/google-ai-edge/mediapipe/tree/master/mediapipe/util/sequence). Its times are in microseconds, and so
are the times in records. Everywhere else in this project times are in seconds. A clip without a face is an example
without frames.

A long recording may be stored as several examples. Each of them has its own key, the name of the recording, and its
place in it. Each also holds the whole series of valence and arousal, because raters lag behind the video: the rating of
a frame may come after the last frame of the example. Frames without a face are not stored.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from affect.data.clips import VERSION, Clip, Dimensions, name_rating_fault

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


def _make_feature(values: Iterable[Any]) -> tf.train.Feature:
    values = list(values)
    if not values:
        return tf.train.Feature()  # It has no kind, so a reader takes it for any kind.
    if isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if isinstance(values[0], int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def encode_example(clip: Clip) -> bytes:
    """Returns a clip as the bytes of a SequenceExample. Equal clips give equal bytes."""
    faces, dimensions = clip.faces, clip.dimensions or Dimensions((), (), ())
    context: dict[str, Iterable[Any]] = {
        "affect/dimensions/arousal": map(float, dimensions.arousal),
        "affect/dimensions/timestamp": [round(time_s * 1e6) for time_s in dimensions.times_s],
        "affect/dimensions/valence": map(float, dimensions.valence),
        "affect/frames_decoded": [int(clip.frames_decoded)],
        "affect/part": [int(clip.part)],
        "affect/recording": [(clip.key if clip.recording is None else clip.recording).encode()],
        "affect/source_sha256": [clip.source_sha256.encode()],
        "affect/subject": [clip.subject.encode()],
        "affect/version": [VERSION],
        "affect/votes": map(float, clip.votes or ()),
        "clip/media_id": [clip.key.encode()],
        "clip/label/index": [int(clip.label_index)],
        "clip/label/string": [clip.label.encode()],
        "image/format": [b"JPEG"],
        "image/frame_rate": [float(clip.frame_rate_hz)],
    }
    frames: dict[str, list[Iterable[Any]]] = {
        "image/encoded": [[face.jpeg] for face in faces],
        "image/timestamp": [[round(face.timestamp_s * 1e6)] for face in faces],
        "face/box": [map(float, face.box) for face in faces],
        "face/landmarks": [map(float, face.landmarks) for face in faces],
        "face/score": [[float(face.score)] for face in faces],
        "face/transform": [map(float, face.transform) for face in faces],
    }
    example = tf.train.SequenceExample()
    for key in sorted(context):
        example.context.feature[key].CopyFrom(_make_feature(context[key]))
    for key in sorted(frames):
        example.feature_lists.feature_list[key].feature.extend(_make_feature(values) for values in frames[key])
    return example.SerializeToString(deterministic=True)


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

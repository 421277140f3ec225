"""The TFRecord schema: one SequenceExample for each clip, with the keys of MediaSequence where it has them.

MediaSequence is MediaPipe's convention for video in SequenceExamples
(https://github.com/google-ai-edge/mediapipe/tree/master/mediapipe/util/sequence). Its times are in microseconds, and so
are the times in records. Everywhere else in this project times are in seconds. A clip without a face is an example
without frames.

A long recording may be stored as several examples. Each of them has its own key, the name of the recording, and its
place in it. Each also holds the whole series of valence and arousal, because raters lag behind the video: the rating of
a frame may come after the last frame of the example. Frames without a face are not stored.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import tensorflow as tf

from affect.data.clips import VERSION, Clip, Dimensions

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


def name_rating_fault(
    times_s: Sequence[float] | np.ndarray, frames: int, frame_rate_hz: float, faces_s: Iterable[float] = ()
) -> str:
    """Compares the times of a recording's ratings with both ends of its video.

    The video ends after its number of frames at their rate, or with its last face if that is later. The frames may also
    be slower than their rate says, for example when the video's own rate is lower than the requested rate. Then the
    times of the faces give the distance between frames. Ratings may begin after the start of the video, and end before
    or after its end, by the largest of 1 s, 1 % of its length, and two of its frames.

    Args:
        times_s: Times of the ratings in seconds, ascending.
        frames: Number of frames of the video that were looked at.
        frame_rate_hz: Of these frames; 0 if unknown. Then only the last face gives the end, and ratings may be longer.
        faces_s: Times of the faces in seconds, in any order.

    Returns:
        One sentence on the fault; empty without a fault, and without ratings.
    """
    if not len(times_s) or not frames:
        return ""
    faces_s = sorted({float(time_s) for time_s in faces_s})
    fault = _describe_rating_fault(times_s, frames, frame_rate_hz, faces_s)
    step_s = min((after_s - before_s for before_s, after_s in pairwise(faces_s)), default=0.0)
    if fault and step_s * frame_rate_hz > 1.5 and not _describe_rating_fault(times_s, frames, 1 / step_s, faces_s):
        return ""
    return fault


def _describe_rating_fault(
    times_s: Sequence[float] | np.ndarray, frames: int, frame_rate_hz: float, faces_s: list[float]
) -> str:
    first_s, end_s = float(times_s[0]), float(times_s[-1])
    length_s = max([frames / frame_rate_hz if frame_rate_hz > 0 else 0.0, *faces_s[-1:]])
    tolerance_s = max(1.0, 0.01 * length_s, 2 / frame_rate_hz if frame_rate_hz > 0 else 0.0)
    begins_late, ends_early = first_s > tolerance_s, end_s < length_s - tolerance_s
    ends_late = frame_rate_hz > 0 and end_s > length_s + tolerance_s
    if not begins_late and not ends_early and not ends_late:
        return ""
    hint = ""
    if ends_late and abs(end_s / 1000 - length_s) <= tolerance_s:
        hint = " They look like milliseconds."
    elif ends_late and abs(end_s / frame_rate_hz - length_s) <= tolerance_s:
        hint = " They look like numbers of frames."
    return (
        f"The ratings are of another time than the video: they go from {first_s:g} to {end_s:g} s, and the video is "
        f"{length_s:.4g} s long.{hint} Times must be in seconds of the video."
    )


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

"""The TFRecord schema: one SequenceExample a clip, with MediaSequence's keys where it has them.

MediaSequence is MediaPipe's convention for video in SequenceExamples
(https://github.com/google-ai-edge/mediapipe/tree/master/mediapipe/util/sequence); times are in microseconds there, as
in its keys here, and in seconds everywhere else in this project. A clip without a face is an example with no frames.
"""

from dataclasses import dataclass, field

import tensorflow as tf

# Raised whenever a record written before would be read differently.
VERSION = 1

# Points of `face/landmarks`; right and left are the subject's own.
LANDMARKS = ("right_eye", "left_eye", "nose", "mouth_right", "mouth_left")

_CONTEXT = {
    "affect/version": tf.io.FixedLenFeature((), tf.int64),
    "affect/frames_decoded": tf.io.FixedLenFeature((), tf.int64),
    "affect/source_sha256": tf.io.FixedLenFeature((), tf.string),
    "affect/subject": tf.io.FixedLenFeature((), tf.string),
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


@dataclass(frozen=True)
class Face:
    """One cut face.

    Args:
        timestamp_s: Presentation time of its frame in seconds.
        jpeg: The aligned face, JPEG, RGB, `face_size` × `face_size`.
        box: `(x0, y0, x1, y1)` in pixels of the displayed frame.
        landmarks: Five `(x, y)` in pixels of the displayed frame, in the order of `LANDMARKS`.
        score: The detector's, in [0, 1].
        transform: `(a, b, tx, c, d, ty)`: frame pixels to face pixels, row by row.
    """

    timestamp_s: float
    jpeg: bytes
    box: tuple[float, ...]
    landmarks: tuple[float, ...]
    score: float
    transform: tuple[float, ...]


@dataclass(frozen=True)
class Clip:
    """A clip and the faces cut from it.

    Args:
        key: Unique name in its data set, `"train/happy/0003"`.
        label: Class name; empty where there is none.
        label_index: Its place in the manifest's classes, for other readers of MediaSequence; -1 where there is none.
        subject: Person; empty where unknown.
        source_sha256: Of the video file.
        frame_rate_hz: Of the video; 0 where unknown.
        frames_decoded: Frames that were looked at.
        faces: Tuple of `Face` in time order; empty where there is no face.
    """

    key: str
    label: str = ""
    label_index: int = -1
    subject: str = ""
    source_sha256: str = ""
    frame_rate_hz: float = 0.0
    frames_decoded: int = 0
    faces: tuple[Face, ...] = field(default=(), repr=False)


def _feature(values):
    values = list(values)
    if values and isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if values and isinstance(values[0], int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def encode_example(clip):
    """Returns a `Clip` as the bytes of a SequenceExample. The same clip always gives the same bytes."""
    faces = clip.faces
    context = {
        "affect/version": [VERSION],
        "affect/frames_decoded": [int(clip.frames_decoded)],
        "affect/source_sha256": [clip.source_sha256.encode()],
        "affect/subject": [clip.subject.encode()],
        "clip/media_id": [clip.key.encode()],
        "clip/label/index": [int(clip.label_index)],
        "clip/label/string": [clip.label.encode()],
        "image/format": [b"JPEG"],
        "image/frame_rate": [float(clip.frame_rate_hz)],
    }
    frames = {
        "image/encoded": [[face.jpeg] for face in faces],
        "image/timestamp": [[round(face.timestamp_s * 1e6)] for face in faces],
        "face/box": [map(float, face.box) for face in faces],
        "face/landmarks": [map(float, face.landmarks) for face in faces],
        "face/score": [[float(face.score)] for face in faces],
        "face/transform": [map(float, face.transform) for face in faces],
    }
    example = tf.train.SequenceExample()
    for key in sorted(context):
        example.context.feature[key].CopyFrom(_feature(context[key]))
    for key in sorted(frames):
        example.feature_lists.feature_list[key].feature.extend(_feature(values) for values in frames[key])
    return example.SerializeToString(deterministic=True)


def parse_example(serialized):
    """Parses a record in a tf.data graph; JPEGs are not decoded.

    Args:
        serialized: Scalar string tensor.

    Returns:
        Dict of tensors: the context keys (scalars) and, for the T frames with a face, `image/encoded` (T,) string,
        `image/timestamp` (T,) int64 in microseconds, `face/box` (T, 4), `face/landmarks` (T, 10), `face/score` (T,)
        and `face/transform` (T, 6) float32.

    Raises:
        tf.errors.InvalidArgumentError: When the record is of another version.
    """
    context, frames = tf.io.parse_single_sequence_example(serialized, _CONTEXT, _FRAMES)
    check = tf.debugging.assert_equal(
        context["affect/version"], tf.constant(VERSION, tf.int64), "These shards are of another version of the records."
    )
    with tf.control_dependencies([check]):
        return {key: tf.identity(value) for key, value in (context | frames).items()}

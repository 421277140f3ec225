"""The TFRecord schema: one SequenceExample for each clip, with the keys of MediaSequence where it has them.

MediaSequence is MediaPipe's convention for video in SequenceExamples
(https://github.com/google-ai-edge/mediapipe/tree/master/mediapipe/util/sequence). Its times are in microseconds, and so
are the times in records. Everywhere else in this project times are in seconds. A clip without a face is an example
without frames.

A long recording may be stored as several examples. Each of them has its own key, the name of the recording, and its
place in it. Each also holds the whole series of valence and arousal, because raters lag behind the video: the rating of
a frame may come after the last frame of the example. Frames without a face are not stored.

TensorFlow is not imported, because it takes seconds and 2 GB: a machine that only prepares videos does without it.
"""

import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import google_crc32c
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from affect.data.clips import VERSION, Clip, Dimensions

# The messages of TensorFlow's feature.proto and example.proto that make up a SequenceExample: message → fields, in the
# order of their numbers, which begin with 1. A field is `[repeated] type name`, or a map from strings.
_MESSAGES = {
    "BytesList": ["repeated bytes value"],
    "FloatList": ["repeated float value"],
    "Int64List": ["repeated int64 value"],
    "Feature": ["BytesList bytes_list", "FloatList float_list", "Int64List int64_list"],
    "Features": ["map Feature feature"],
    "FeatureList": ["repeated Feature feature"],
    "FeatureLists": ["map FeatureList feature_list"],
    "SequenceExample": ["Features context", "FeatureLists feature_lists"],
}


def _make_field(number: int, words: str) -> FieldDescriptorProto:
    *repeated, kind, name = words.split()
    label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
    field = FieldDescriptorProto(name=name, number=number, label=label)
    if kind in _MESSAGES or kind.endswith("Entry"):
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, kind
    else:
        field.type = getattr(FieldDescriptorProto, f"TYPE_{kind.upper()}")
    return field


def _make_sequence_example() -> Any:
    """Returns the class of the message. Its pool is its own, because TensorFlow has messages of the same names."""
    file = FileDescriptorProto(name="example.proto", package="affect", syntax="proto3")
    for message, fields in _MESSAGES.items():
        made: DescriptorProto = file.message_type.add(name=message)
        for number, words in enumerate(fields, 1):
            *kinds, value, name = words.split()
            if kinds == ["map"]:
                entry = made.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
                entry.options.map_entry = True
                entry.field.extend([_make_field(1, "string key"), _make_field(2, f"{value} value")])
                words = f"repeated {entry.name} {name}"
            made.field.append(_make_field(number, words))
    for field in file.message_type[list(_MESSAGES).index("Feature")].field:
        field.oneof_index = 0
    file.message_type[list(_MESSAGES).index("Feature")].oneof_decl.add(name="kind")
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("affect.SequenceExample"))


SequenceExample = _make_sequence_example()


def _set_feature(feature: Any, values: Iterable[Any]) -> None:
    """Fills a feature. Without a value it has no kind, so that a reader takes it for any kind."""
    values = list(values)
    if not values:
        return
    kinds = {bytes: feature.bytes_list, int: feature.int64_list, float: feature.float_list}
    kinds[type(values[0])].value.extend(values)


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
    example = SequenceExample()
    for key in sorted(context):
        _set_feature(example.context.feature[key], context[key])
    for key in sorted(frames):
        features = example.feature_lists.feature_list[key].feature
        for values in frames[key]:
            _set_feature(features.add(), values)
    return example.SerializeToString(deterministic=True)


def mask_crc32c(content: bytes) -> int:
    """Returns the checksum of a TFRecord file for a length or a record."""
    crc = google_crc32c.value(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def write_record(path: str | os.PathLike[str], record: bytes) -> None:
    """Writes a TFRecord file of one record: its length, the checksum of that, the record, its checksum.

    Args:
        path: File that is written.
        record: From `encode_example`.
    """
    length = struct.pack("<Q", len(record))
    checksums = (struct.pack("<I", mask_crc32c(content)) for content in (length, record))
    Path(path).write_bytes(length + next(checksums) + record + next(checksums))

"""The TFRecord schema: what is written is read, under MediaSequence's names."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from affect.data.clips import VERSION, Clip, Dimensions, Face
from affect.data.examples import encode_example, write_record
from affect.data.records import parse_example

FACES = (
    Face(
        0.04,
        b"\xff\xd8first",
        (1.5, 2.0, 30.25, 40.0),
        tuple(map(float, range(10))),
        0.5,
        (0.5, -0.25, 3.0, 0.25, 0.5, -7.0),
    ),
    Face(1.234567, b"\xff\xd8second", (0.0, 0.0, 8.0, 8.0), (0.5,) * 10, 1.0, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)),
)
CLIP = Clip("train/café/0003", "happy", 3, "anna", "ab" * 32, 29.97, 75, FACES)


def feature_list(example, key):
    """Returns the values of each frame as the protocol buffer holds them."""
    kinds = (feature.WhichOneof("kind") for feature in example.feature_lists.feature_list[key].feature)
    features = example.feature_lists.feature_list[key].feature
    return [list(getattr(feature, kind).value) for feature, kind in zip(features, kinds, strict=True)]


def test_a_clip_comes_back_whole():
    record = {key: value.numpy() for key, value in parse_example(encode_example(CLIP)).items()}
    assert record["affect/version"] == VERSION == 2
    assert record["affect/frames_decoded"] == 75
    assert record["affect/source_sha256"] == b"ab" * 32
    assert record["affect/subject"] == b"anna"
    assert record["clip/media_id"].decode() == "train/café/0003"
    assert record["clip/label/string"] == b"happy"
    assert record["image/frame_rate"] == np.float32(29.97)
    assert record["image/encoded"].tolist() == [b"\xff\xd8first", b"\xff\xd8second"]
    assert record["image/timestamp"].tolist() == [40_000, 1_234_567]
    np.testing.assert_array_equal(record["face/box"], [[1.5, 2, 30.25, 40], [0, 0, 8, 8]])
    np.testing.assert_array_equal(record["face/landmarks"], [np.arange(10), [0.5] * 10])
    np.testing.assert_array_equal(record["face/score"], [0.5, 1])
    np.testing.assert_array_equal(record["face/transform"], [[0.5, -0.25, 3, 0.25, 0.5, -7], [1, 0, 0, 0, 1, 0]])
    assert {key: value.dtype.name for key, value in record.items() if key.startswith("face/")} == {
        "face/box": "float32",
        "face/landmarks": "float32",
        "face/score": "float32",
        "face/transform": "float32",
    }


def test_a_clip_without_faces_is_an_example_without_frames():
    record = parse_example(encode_example(Clip("a")))
    shapes = {key: tuple(value.shape) for key, value in record.items()}
    assert shapes == {
        "affect/version": (),
        "affect/dimensions/arousal": (0,),
        "affect/dimensions/timestamp": (0,),
        "affect/dimensions/valence": (0,),
        "affect/frames_decoded": (),
        "affect/part": (),
        "affect/recording": (),
        "affect/source_sha256": (),
        "affect/subject": (),
        "affect/votes": (0,),
        "clip/media_id": (),
        "clip/label/string": (),
        "image/frame_rate": (),
        "image/encoded": (0,),
        "image/timestamp": (0,),
        "face/box": (0, 4),
        "face/landmarks": (0, 10),
        "face/score": (0,),
        "face/transform": (0, 6),
    }
    assert record["clip/label/string"].numpy() == record["affect/subject"].numpy() == b""


def test_votes_and_the_whole_series_of_a_recording_come_back():
    rated = Dimensions((0.0, 0.04, 299.96), (-0.5, 0.25, 0.125), (1.0, 0.0, -1.0))
    clip = replace(CLIP, key="talk#0003", recording="talk", part=3, votes=(0.25, 0.0, 0.75), dimensions=rated)
    record = {key: value.numpy() for key, value in parse_example(encode_example(clip)).items()}
    assert (record["clip/media_id"], record["affect/recording"], record["affect/part"]) == (b"talk#0003", b"talk", 3)
    assert record["affect/votes"].tolist() == [0.25, 0.0, 0.75]
    assert record["affect/dimensions/timestamp"].tolist() == [0, 40_000, 299_960_000]
    assert record["affect/dimensions/valence"].tolist() == [-0.5, 0.25, 0.125]
    assert record["affect/dimensions/arousal"].tolist() == [1.0, 0.0, -1.0]


def test_what_was_not_rated_is_empty_and_of_the_same_type():
    examples = [encode_example(replace(CLIP, votes=(1.0,), dimensions=Dimensions((0.5,), (1.0,), (1.0,))))]
    examples.append(encode_example(CLIP))
    rated, not_rated = tf.data.Dataset.from_tensor_slices(examples).map(parse_example)
    for key in ("affect/votes", *(f"affect/dimensions/{name}" for name in ("timestamp", "valence", "arousal"))):
        assert (rated[key].shape, not_rated[key].shape) == ((1,), (0,))
        assert rated[key].dtype == not_rated[key].dtype == (tf.int64 if "timestamp" in key else tf.float32)
    assert (not_rated["affect/recording"].numpy().decode(), not_rated["affect/part"].numpy()) == (CLIP.key, 0)


def test_the_same_clip_gives_the_same_bytes():
    twin = replace(CLIP, faces=tuple(replace(face) for face in FACES))
    assert encode_example(CLIP) == encode_example(twin)
    assert encode_example(CLIP) != encode_example(replace(CLIP, subject="bert"))


@pytest.mark.parametrize(
    "clip", [CLIP, Clip("a"), replace(CLIP, votes=(1.0, 0.0), dimensions=Dimensions((0.5,), (1.0,), (-1.0,)))]
)
def test_a_file_of_a_record_has_the_bytes_of_tensorflows(clip, tmp_path):
    record = encode_example(clip)
    assert tf.train.SequenceExample.FromString(record).SerializeToString(deterministic=True) == record
    write_record(tmp_path / "ours", record)
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        writer.write(record)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_keys_and_kinds_are_those_of_mediasequence():
    example = tf.train.SequenceExample.FromString(encode_example(CLIP))
    context = example.context.feature
    assert list(context["clip/media_id"].bytes_list.value) == ["train/café/0003".encode()]
    assert list(context["clip/label/index"].int64_list.value) == [3]
    assert list(context["clip/label/string"].bytes_list.value) == [b"happy"]
    assert list(context["image/format"].bytes_list.value) == [b"JPEG"]
    assert list(context["image/frame_rate"].float_list.value) == [np.float32(29.97)]
    assert feature_list(example, "image/encoded") == [[b"\xff\xd8first"], [b"\xff\xd8second"]]
    assert feature_list(example, "image/timestamp") == [[40_000], [1_234_567]]
    assert set(example.feature_lists.feature_list) == {
        "image/encoded",
        "image/timestamp",
        "face/box",
        "face/landmarks",
        "face/score",
        "face/transform",
    }


def test_a_clip_without_label_has_index_minus_one():
    example = tf.train.SequenceExample.FromString(encode_example(Clip("a")))
    assert list(example.context.feature["clip/label/index"].int64_list.value) == [-1]


@pytest.mark.parametrize(("version", "lacking"), [(1, ("affect/part", "affect/recording")), (3, ())])
def test_another_version_is_refused(version, lacking):
    example = tf.train.SequenceExample.FromString(encode_example(CLIP))
    example.context.feature["affect/version"].int64_list.value[0] = version
    for key in lacking:
        del example.context.feature[key]
    other = example.SerializeToString()
    text = "These shards are of another version of the records"
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        parse_example(other)
    dataset = tf.data.Dataset.from_tensors(other).map(parse_example)
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        next(iter(dataset))


def test_records_are_parsed_in_a_graph():
    dataset = tf.data.Dataset.from_tensor_slices([encode_example(CLIP), encode_example(Clip("a"))]).map(parse_example)
    assert dataset.element_spec["face/box"].shape.as_list() == [None, 4]
    assert [record["image/encoded"].shape[0] for record in dataset] == [2, 0]

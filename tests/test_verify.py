"""affect verify: damage is named, to the clip; what is whole passes; nothing passes in silence."""

import random
import re
import shutil
import struct
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from affect.config import read_json, write_json
from affect.data.clips import Dimensions
from affect.data.examples import encode_example
from affect.data.inspect import inspect
from affect.data.verify import read_framed, verify
from affect.errors import InputError
from tests.commands import affect, refused
from tests.mutations import mutate
from tests.portrait_shards import CLIPS, encode, flip, jpeg, portrait_clip, write_shard


@pytest.fixture
def folder(tmp_path):
    """Folder of one shard with `CLIPS`."""
    write_shard(tmp_path / "shards", encode(CLIPS))
    return tmp_path / "shards"


def found(folder):
    """Returns what is wrong as a dict: key of the clip, or name of the shard → problem."""
    return {entry["key"] or entry["shard"]: entry["problem"] for entry in verify(folder)["damage"]}


SHARD = "all-00000-of-00001.tfrecord"
SHA256 = "its SHA-256 is not the manifest's"


def starts():
    """Returns where each record of `CLIPS` begins in the shard."""
    places = [0]
    for example in encode(CLIPS):
        places.append(places[-1] + len(example) + 16)
    return places


def test_prepared_shards_are_whole(shards):
    counts = read_json(shards / "manifest.json")["counts"]
    tracked = []

    def track(iterable, total, description):
        for each in iterable:
            tracked.append((total, description))
            yield each

    report = verify(shards, track=track)
    assert report == {"shards": 2, "records": 16, "faces": counts["faces"], "damage": []}
    assert tracked == [(16, "clips")] * 16


def test_shards_written_by_hand_are_whole(folder):
    assert verify(folder) == {"shards": 1, "records": 4, "faces": 11, "damage": []}


def test_framing_is_read_as_tensorflow_writes_it(tmp_path):
    contents = [b"", b"123456789", bytes(range(256)) * 300]
    with tf.io.TFRecordWriter(str(tmp_path / "a")) as writer:
        for content in contents:
            writer.write(content)
    with open(tmp_path / "a", "rb") as file:
        assert list(read_framed(file)) == [(content, "") for content in contents]


def test_a_byte_of_a_jpeg(folder):
    place = (folder / SHARD).read_bytes().index(jpeg(2)) + 400
    flip(folder / SHARD, place)
    damage = found(folder)
    assert set(damage) == {SHARD, "a"}
    assert damage[SHARD] == SHA256
    assert damage["a"].startswith("its checksum does not match")


def test_checksums(folder):
    flip(folder / SHARD, starts()[2] - 1)  # of b's content
    flip(folder / SHARD, starts()[3] + 9)  # of d's length
    assert found(folder) == {
        SHARD: SHA256,
        "b": "its checksum does not match",
        "d": "the checksum of its length does not match",
    }


@pytest.mark.parametrize("place", [0, 3, 7])
def test_a_length_takes_the_rest_with_it(folder, place):
    flip(folder / SHARD, starts()[1] + place, 4)
    damage = found(folder)
    rest = "record 2 and what follows cannot be read: its length is damaged"
    assert damage.pop(SHARD) == f"{SHA256}; {rest}; it holds 1 of 4 records"
    assert damage == dict.fromkeys("bcd", "it is in no shard of split all")


def test_a_length_with_its_checksum_is_not_believed(folder):
    """Such a record would be larger than memory."""
    with open(folder / SHARD, "rb") as file:
        content = file.read()
    with tf.io.TFRecordWriter(str(folder / "other")) as writer:
        writer.write(struct.pack("<Q", 2**60))
    # CRC-32C of those eight bytes, masked, as TensorFlow wrote it behind them.
    checksum = (folder / "other").read_bytes()[-4:]
    (folder / SHARD).write_bytes(content[: starts()[1]] + struct.pack("<Q", 2**60) + checksum + content)
    assert "record 2 and what follows cannot be read: the file ends in it" in found(folder)[SHARD]


@pytest.mark.parametrize(("cut", "where"), [(5, "in its length"), (100, "in it")])
def test_a_truncated_shard(folder, cut, where):
    content = (folder / SHARD).read_bytes()
    end = starts()[3] + cut
    (folder / SHARD).write_bytes(content[:end])
    assert found(folder) == {
        SHARD: f"it has {end} of {len(content)} bytes; {SHA256}; record 4 and what follows cannot be read: "
        f"the file ends {where}; it holds 3 of 4 records",
        "d": "it is in no shard of split all",
    }


def test_a_shard_that_is_gone_or_no_file(folder):
    missing = dict.fromkeys("abcd", "it is in no shard of split all")
    (folder / SHARD).unlink()
    assert found(folder) == missing | {SHARD: "it cannot be read (No such file or directory)"}
    (folder / SHARD).mkdir()
    assert found(folder) == missing | {SHARD: "it cannot be read (Is a directory)"}


def test_a_record_twice(tmp_path):
    write_shard(tmp_path / "s", encode([*CLIPS, CLIPS[1]]))
    assert found(tmp_path / "s") == {"b": "it is 2 times in the shards"}


def test_records_that_are_no_clips_are_counted(tmp_path):
    examples = [
        *encode(CLIPS),
        encode_example(portrait_clip("x")),
        b"neither",
        b"nor",
        encode_example(portrait_clip("y")),
    ]
    write_shard(tmp_path / "s", examples)
    assert found(tmp_path / "s") == {
        SHARD: "2 records belong to no clip of the manifest, the first is record 5; "
        "2 records cannot be read, the first is record 6"
    }


def test_a_manifest_that_lists_a_clip_too_many_or_twice(tmp_path):
    write_shard(tmp_path / "s", encode(CLIPS), listed=[*CLIPS, portrait_clip("e"), CLIPS[0]])
    assert found(tmp_path / "s") == {
        "e": "it is in no shard of split all",
        "a": "it is 2 times in the manifest",
    }


def test_a_clip_in_a_shard_of_another_split(folder):
    manifest = read_json(folder / "manifest.json")
    manifest["clips"][1]["split"] = "train"
    write_json(folder / "manifest.json", manifest)
    assert found(folder) == {"b": "it is of split train and lies in split all"}


def with_jpeg(content):
    return replace(CLIPS[0], faces=(*CLIPS[0].faces[:2], replace(CLIPS[0].faces[2], jpeg=content)))


def without_a_box():
    example = tf.train.SequenceExample.FromString(encode_example(CLIPS[0]))
    del example.feature_lists.feature_list["face/box"].feature[2]
    return example.SerializeToString()


BAD_FACE = "1 of 3 faces are damaged, the first is face 3 "
BAD = {
    "truncated": (with_jpeg(jpeg(2)[:-40]), BAD_FACE + r"\(image file is truncated .*\)"),
    "size": (with_jpeg(jpeg(2, size=32)), BAD_FACE + r"\(32×32 pixels, not 64×64\)"),
    "text": (with_jpeg(b"text"), BAD_FACE + r"\(not a JPEG\)"),
    "empty": (with_jpeg(b""), BAD_FACE + r"\(not a JPEG\)"),
    "label": (portrait_clip("a", "sad"), "its label is 'sad', and 'happy' in the manifest"),
    "class": (portrait_clip("a", "x"), "its label is 'x', .*; its label 'x' is none of the classes .*"),
    "subject": (portrait_clip("a", subject="anna"), "its subject is 'anna', and '' in the manifest"),
    "votes": (portrait_clip("a", votes=(0.5, 0.25, 0.25)), "it has 3 votes for 2 classes"),
    "times": (
        replace(CLIPS[0], faces=tuple(replace(face, timestamp_s=1) for face in CLIPS[0].faces)),
        "image/timestamp does not rise",
    ),
    "faces": (portrait_clip("a", faces=2), "it has 2 of 3 faces"),
    "ratings": (
        portrait_clip("a", dimensions=Dimensions((0.0, 0.1), (0.5, 0.5), (1.0,))),
        "its valence, arousal and their times differ in length",
    ),
    "rated": (
        portrait_clip("a", dimensions=Dimensions((0.1, 0.0), (0.5, 0.5), (1.0, 1.0))),
        "affect/dimensions/timestamp does not rise",
    ),
    "counts": (without_a_box(), "it has (3 face/landmarks|.*, 2 face/box|2 face/box), .*3 image/encoded.*"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_record_that_was_written_wrong(tmp_path, case):
    """Its checksums are good, and so is the shard's."""
    wrong, problem = BAD[case]
    example = wrong if isinstance(wrong, bytes) else encode_example(wrong)
    write_shard(tmp_path / "s", [example, *encode(CLIPS[1:])])
    (entry,) = verify(tmp_path / "s")["damage"]
    assert (entry["key"], entry["shard"]) == ("a", SHARD)
    assert re.fullmatch(problem, entry["problem"])


def test_a_manifest_that_cannot_be_used(folder):
    manifest = read_json(folder / "manifest.json")
    for change in (
        {"clips": [{"key": "a"}]},
        {"clips": [{}]},
        {"shards": [{"name": SHARD, "bytes": 3}]},
        {"shards": [{"name": 3, "bytes": 3, "split": "", "clips": 0, "sha256": ""}]},
        {"settings": manifest["settings"] | {"faces": {"face_size": None}}},
    ):
        write_json(folder / "manifest.json", manifest | change)
        with pytest.raises(
            InputError, match=r"manifest.json(: a name of a file| is not a manifest of shards: .*Copy it again)"
        ):
            verify(folder)


@pytest.mark.parametrize("count", [60, pytest.param(2000, marks=pytest.mark.large)])
def test_no_mutation_passes_in_silence(folder, count):
    content, rng = (folder / SHARD).read_bytes(), random.Random(count)
    for index in range(count):
        damaged = mutate(content, rng)
        (folder / SHARD).write_bytes(damaged)
        try:
            damage = found(folder)
        except Exception as error:
            error.add_note(f"mutation {index} of seed {count}")
            raise
        assert (damaged != content) == (SHARD in damage), index
        assert all(len(problem.splitlines()) == 1 for problem in damage.values())


def test_the_command_names_the_damage(folder, tmp_path):
    code, out, lines = affect("verify", folder)
    assert (code, out, lines) == (0, f"{folder}: 1 shard, 4 records, 11 faces: whole\n", [])
    flip(folder / SHARD, starts()[2] - 1)
    code, out, lines = affect("verify", folder)
    assert code == 1
    assert out == f"{folder}: 1 shard, 4 records, 11 faces: damage in 1 clip and 1 shard\n"
    assert lines == [
        f"affect: {SHARD}: {SHA256}",
        f"affect: b in {SHARD}: its checksum does not match",
        "affect: Copy the shards again, or run the same affect prepare with --overwrite.",
    ]
    assert "holds no manifest.json" in refused("verify", tmp_path)
    shutil.rmtree(folder)
    assert "holds no manifest.json" in refused("verify", folder)


def test_shards_that_the_manifest_does_not_list_are_named(folder):
    names = (
        "train-00000-of-00002.tfrecord",
        "all-00000-of-00001 (1).tfrecord",
        "all-00000-of-00001",
        "manifest (1).json",
    )
    for name in names:
        (folder / name).write_bytes((folder / SHARD).read_bytes())
    (folder / "notes.json").write_text('{"of": "somebody"}')
    (folder / "folder").mkdir()
    (folder / "shards.TFRECORD").symlink_to("gone")
    problem = "the manifest does not list it; two prepares may have been copied together"
    assert found(folder) == dict.fromkeys((*names, "shards.TFRECORD"), problem)
    assert len(inspect(folder)["left_out"]) == 5


def test_a_shard_that_is_a_pointer_is_called_that(folder):
    (folder / SHARD).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert found(folder)[SHARD] == "it is a Git LFS pointer and not the file itself. Fetch the file: git lfs pull"
    assert f"{folder / SHARD} is a Git LFS pointer" in refused("inspect", folder)
    (folder / "manifest.json").write_bytes((folder / SHARD).read_bytes())
    assert f"{folder / 'manifest.json'} is a Git LFS pointer" in refused("verify", folder)


def rated_clip(*, end_s, first_s=0.0, frames=3, rate=0.0, step_s=0.04):
    times_s = tuple(float(time) for time in np.arange(first_s, end_s + step_s / 2, step_s))
    return replace(
        portrait_clip("a", dimensions=Dimensions(times_s, times_s, times_s)), frames_decoded=frames, frame_rate_hz=rate
    )


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (rated_clip(end_s=300, frames=7501, rate=25), ""),  # 300.0 s of ratings for 300.04 s of video
        (rated_clip(end_s=300, frames=7560, rate=25), ""),
        (rated_clip(end_s=2, frames=50, rate=25), ""),
        (rated_clip(end_s=1960, step_s=40, frames=50, rate=25), "from 0 to 1960 s, .* 2 s long. They look like millis"),
        (rated_clip(end_s=500, step_s=1, frames=500, rate=25), "500 s, .* 20 s long. They look like numbers of frames"),
        (rated_clip(end_s=10, frames=7500, rate=25), "from 0 to 10 s, and the video is 300 s long. Times must"),
        (rated_clip(first_s=100, end_s=300, frames=7500, rate=25), "they go from 100 to 300 s, and the video is 300 s"),
        (rated_clip(end_s=310, frames=7500, rate=25), "from 0 to 310 s, and the video is 300 s"),
        (rated_clip(end_s=310), ""),  # the rate is unknown
        (rated_clip(end_s=300, frames=3000, rate=25), ""),  # faces are 0.1 s apart: the video's own rate was 10
        (rated_clip(end_s=120, frames=3000, rate=25), ""),
        (rated_clip(end_s=30, frames=3000, rate=25), "from 0 to 30 s, and the video is 120 s"),
    ],
)
def test_ratings_are_compared_with_their_video_at_both_ends(tmp_path, made, problem):
    write_shard(tmp_path / "s", encode([made]), listed=[made])
    report, seen = found(tmp_path / "s"), inspect(tmp_path / "s")["problems"]
    assert report.keys() == seen.keys() == ({"a"} if problem else set())
    assert all(re.search(problem, text) for text in (*report.values(), *seen.values()))

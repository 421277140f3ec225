"""Shards to batches. Each face is a flat colour that says which it is: red is 8 × clip, green 8 × frame."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from affect.config import Data
from affect.data.batches import eval_batches, keep_in_memory, names_damage, split_selection, train_batches
from affect.data.ranks import ALONE, Rank
from affect.data.shards import Shards
from affect.data.views import clip_inputs, space_evenly
from affect.errors import InputError
from tests.clips import SIZE, flat, make_clip, textured, write_shards

DATA = Data(batch_clips=2, frames=3, eval_frames=4, crop_ratio=1.0, flip=False, rotation_deg=0.0)
BROKEN = b"\xff\xd8 not a JPEG"


def numbers(faces):
    """Returns the clip and the frame that each face (..., H, W, 3) says it is."""
    faces = np.asarray(faces)
    assert faces.dtype == np.uint8
    assert (np.ptp(faces.astype(int), axis=(-3, -2)) == 0).all()
    return np.rint(faces[..., 0, 0, 0] / 8).astype(int), np.rint(faces[..., 0, 0, 1] / 8).astype(int)


def epochs(
    shards, count, *, data=DATA, keys=None, seed=0, first_epoch=0, threads=None, classes=("happy", "sad"), rank=ALONE
):
    """Returns epochs of training, each a list of (faces, mask, labels)."""
    keys = [clip["key"] for clip in shards.clips] if keys is None else keys
    dataset, steps = train_batches(
        shards, data, classes=classes, keys=keys, face_size=SIZE, seed=seed, first_epoch=first_epoch, rank=rank
    )
    if threads:
        options = tf.data.Options()
        options.threading.private_threadpool_size = threads
        dataset = dataset.with_options(options)
    batches = [
        (inputs["faces"].numpy(), inputs["frame_mask"].numpy(), labels.numpy())
        for inputs, labels in dataset.take(count * steps)
    ]
    return [batches[start : start + steps] for start in range(0, count * steps, steps)]


def assert_same(left, right):
    for batches, others in zip(left, right, strict=True):
        for batch, other in zip(batches, others, strict=True):
            for array, twin in zip(batch, other, strict=True):
                np.testing.assert_array_equal(array, twin)


def evaluated(shards, *, data=DATA, split="test", classes=("happy", "sad"), keys=None, face_size=SIZE, rank=ALONE):
    batches = eval_batches(shards, data, split=split, classes=classes, face_size=face_size, keys=keys, rank=rank)
    return [{name: value.numpy() for name, value in batch.items()} for batch in batches]


@pytest.fixture(scope="module")
def seven(tmp_path_factory):
    """Clips 1 to 7 of 5 to 11 frames in three shards; even ones are happy, odd ones sad."""
    clips = [make_clip(number, 4 + number, label=("happy", "sad")[number % 2]) for number in range(1, 8)]
    return write_shards(tmp_path_factory.mktemp("shards") / "seven", train=[clips[:3], clips[3:6], clips[6:]])


@pytest.fixture(scope="module")
def textures(tmp_path_factory):
    """Six clips of five frames, all of them the same picture."""
    clips = [make_clip(number, 5, jpegs=[textured(0)] * 5) for number in range(6)]
    return write_shards(tmp_path_factory.mktemp("shards") / "textures", train=[clips])


# Shards


def test_shards_are_what_the_manifest_says(tmp_path):
    clips = [make_clip(1, 2, key="train/fröhlich/1", label="fröhlich"), make_clip(2, 0, label="悲しい")]
    shards = write_shards(
        tmp_path / "ä b", ("fröhlich", "悲しい"), train=[clips[:1], clips[1:]], val=[[make_clip(3, 1)]]
    )
    assert shards.classes == ("fröhlich", "悲しい")
    assert shards.faces == {"face_size": SIZE}
    assert [clip["key"] for clip in shards.of_split("train")] == ["train/fröhlich/1", "clip 2"]
    assert [clip["key"] for clip in shards.of_split("val")] == ["clip 3"]
    folder = tmp_path / "ä b"
    assert shards.files("train") == [str(folder / f"train-0000{index}-of-00002.tfrecord") for index in (0, 1)]
    assert Shards(str(folder)).files("val") == [str(folder / "val-00000-of-00001.tfrecord")]


def refusal(function, *args, **kwargs):
    with pytest.raises(InputError) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_unknown_split_lists_those_there_are(tmp_path):
    shards = write_shards(tmp_path, train=[[make_clip(1, 1)]], test=[[make_clip(2, 1)]])
    assert f"{tmp_path} has no split 'val'. Expected one of ['test', 'train']." in refusal(shards.of_split, "val")


def test_a_folder_without_a_manifest_says_how_to_make_one(tmp_path):
    text = refusal(Shards, tmp_path / "none")
    assert f"{tmp_path / 'none'} holds no manifest.json" in text
    assert "affect prepare SOURCE --out" in text


def test_records_of_another_version_are_refused(tmp_path):
    write_shards(tmp_path, train=[[make_clip(1, 1)]])
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"records_version": 2', '"records_version": 1'))
    text = refusal(Shards, tmp_path)
    assert f"{tmp_path} holds records of version 1; this version of affect reads 2." in text
    assert "--overwrite" in text


def test_a_missing_shard_is_named(tmp_path):
    write_shards(tmp_path, train=[[make_clip(1, 1)], [make_clip(2, 1)]])
    (tmp_path / "train-00001-of-00002.tfrecord").unlink()
    assert f"{tmp_path / 'train-00001-of-00002.tfrecord'} is missing." in refusal(Shards, tmp_path)


def test_a_shard_that_was_copied_in_part_is_named(tmp_path):
    write_shards(tmp_path, train=[[make_clip(1, 1)]])
    shard = tmp_path / "train-00000-of-00001.tfrecord"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:100])
    assert f"{shard} has 100 of {len(whole)} bytes. Copy it again" in refusal(Shards, tmp_path)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold a JSON object"),
        ("{}", "is not a manifest of shards: KeyError('settings')"),
        ('{"settings": 3}', "is not a manifest of shards: TypeError"),
        ('{"settings": {"records_version": 2}}', "is not a manifest of shards: KeyError('classes')"),
        (
            '{"settings": {"records_version": 2, "faces": {}}, "classes": [], "clips": [], "shards": [{}]}',
            "is not a manifest of shards: KeyError('name')",
        ),
        (
            '{"settings": {"records_version": 2, "faces": {}}, "classes": 3, "clips": [], "shards": []}',
            "is not a manifest of shards: TypeError",
        ),
    ],
)
def test_a_manifest_that_is_not_one_is_refused(tmp_path, content, cause):
    (tmp_path / "manifest.json").write_text(content)
    text = refusal(Shards, tmp_path)
    assert str(tmp_path / "manifest.json") in text
    assert cause in text


# Training


def test_a_clip_that_the_manifest_lists_twice_is_named(tmp_path):
    with pytest.raises(
        InputError, match="manifest.json lists the clip 'clip 2' 2 times. Two outputs of affect prepare"
    ):
        write_shards(tmp_path, train=[[make_clip(1, 2), make_clip(2, 2)], [make_clip(3, 2)]], test=[[make_clip(2, 2)]])


@pytest.mark.parametrize("place", ["first", "second", "added"])
def test_shards_of_two_outputs_in_one_folder_are_not_read(tmp_path, place):
    """The shard of another output has as many bytes, so that its size says nothing."""
    named = [
        [make_clip(number, 2, key=f"clip {number}", label="happy") for number in pair] for pair in ((1, 2), (3, 4))
    ]
    shards = write_shards(tmp_path / "one", train=named)
    write_shards(tmp_path / "two", train=[[make_clip(number, 2, label="happy") for number in (7, 8)]])
    first, second = shards.files("train")
    other = (tmp_path / "two" / "train-00000-of-00001.tfrecord").read_bytes()
    if place == "added":  # and the manifest was written for it: a clip is in the shards twice
        other = Path(first).read_bytes() + Path(second).read_bytes()
        shards.shards[1]["bytes"] = len(other)
    Path(first if place == "first" else second).write_bytes(other)

    @names_damage
    def read(data, function):
        return function(shards)

    for function in (lambda shards: epochs(shards, 2), lambda shards: evaluated(shards, split="train")):
        with pytest.raises(
            InputError, match="shards of one do not hold the clips of its manifest.json.* affect verify"
        ):
            read("one", function)


def test_training_frames_are_drawn_without_replacement_in_time_order(seven):
    seen = {number: set() for number in range(1, 8)}
    for epoch in epochs(seven, 20):
        for faces, mask, labels in epoch:
            assert faces.shape == (2, 3, SIZE, SIZE, 3)
            assert mask.all() and mask.dtype == bool
            assert labels.dtype == np.int32
            clips, frames = numbers(faces)
            for row, label in enumerate(labels):
                number = clips[row, 0]
                assert (clips[row] == number).all()
                assert (np.diff(frames[row]) > 0).all()
                assert label == number % 2
                seen[number] |= set(frames[row].tolist())
    assert seen == {number: set(range(4 + number)) for number in range(1, 8)}


def test_every_frame_is_drawn_as_often(tmp_path):
    shards = write_shards(tmp_path, train=[[make_clip(number, 5) for number in range(1, 7)]])
    drawn = np.zeros(5, int)
    for epoch in epochs(shards, 40):
        for faces, _, _ in epoch:
            drawn += np.bincount(numbers(faces)[1].ravel(), minlength=5)
    assert drawn.sum() == 40 * 6 * 3
    assert drawn.min() > 120 and drawn.max() < 168  # 144 each, and a deviation of 7.6.


def test_a_clip_is_seen_at_most_once_an_epoch_and_in_another_order_in_each(seven):
    orders = []
    for epoch in epochs(seven, 12):
        order = [int(number) for faces, _, _ in epoch for number in numbers(faces)[0][:, 0]]
        assert len(epoch) == 3  # The seventh clip does not fill a batch.
        assert len(set(order)) == 6
        orders.append(tuple(order))
    assert len(set(orders)) == 12
    assert len({frozenset(order) for order in orders}) > 3  # It is not always the same clip that waits.


@pytest.mark.parametrize("shuffle_clips", [1, 2, 1000])
def test_any_shuffle_buffer_gives_every_clip_once(seven, shuffle_clips):
    data = Data(batch_clips=7, frames=1, crop_ratio=1.0, flip=False, rotation_deg=0.0, shuffle_clips=shuffle_clips)
    for epoch in epochs(seven, 2, data=data):
        (batch,) = epoch
        assert sorted(numbers(batch[0])[0][:, 0]) == [1, 2, 3, 4, 5, 6, 7]


def test_a_batch_larger_than_the_data_is_all_of_it(seven):
    data = Data(batch_clips=100, frames=2, crop_ratio=1.0, flip=False, rotation_deg=0.0)
    (epoch,) = epochs(seven, 1, data=data)
    (batch,) = epoch
    assert sorted(numbers(batch[0])[0][:, 0]) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(("kept", "sizes"), [(False, [3, 3]), (True, [3, 3, 1])])
def test_the_last_clips_of_an_epoch_are_a_smaller_batch_on_request(seven, kept, sizes):
    keys = [clip["key"] for clip in seven.clips]
    data = replace(DATA, batch_clips=3, keep_last_batch=kept)
    dataset, steps = train_batches(seven, data, classes=("happy", "sad"), keys=keys, face_size=SIZE, seed=0)
    batches = list(dataset.take(2 * len(sizes)).as_numpy_iterator())
    assert steps == len(sizes) and [len(labels) for _, labels in batches] == 2 * sizes
    for epoch in (batches[:steps], batches[steps:]):
        faces = np.concatenate([inputs["faces"] for inputs, _ in epoch])
        assert len(np.unique(faces.reshape(len(faces), -1), axis=0)) == sum(sizes)  # no clip twice


def test_only_the_wanted_clips_are_trained_on(seven):
    keys = ["clip 6", "clip 1", "clip 3"]
    for epoch in epochs(
        seven, 3, data=Data(batch_clips=3, frames=1, crop_ratio=1.0, flip=False, rotation_deg=0), keys=keys
    ):
        (batch,) = epoch
        assert sorted(numbers(batch[0])[0][:, 0]) == [1, 3, 6]


def test_short_clips_are_padded_with_black_frames_that_are_masked(tmp_path):
    shards = write_shards(tmp_path, train=[[make_clip(number, number, key=str(number)) for number in (0, 1, 2, 5)]])
    data = Data(batch_clips=4, frames=4, crop_ratio=1.0, flip=True, rotation_deg=10.0)
    (((faces, mask, _),),) = epochs(shards, 1, data=data)
    order = np.argsort(mask.sum(axis=1))
    assert mask[order].tolist() == [[False] * 4, [True] + [False] * 3, [True] * 2 + [False] * 2, [True] * 4]
    assert (faces[~mask] == 0).all()
    assert numbers(faces)[1][order[2]].tolist() == [0, 1, 0, 0]
    assert numbers(faces)[0][order[2]].tolist() == [2, 2, 0, 0]


def test_only_the_frames_that_are_drawn_are_decoded_in_training(tmp_path):
    whole = write_shards(tmp_path / "whole", train=[[make_clip(number, 9) for number in (1, 2)]])
    expected = epochs(whole, 1, seed=3)
    drawn = dict.fromkeys((1, 2))
    for faces, _, _ in expected[0]:
        for clips, frames in zip(*numbers(faces), strict=True):
            drawn[int(clips[0])] = frames.tolist()
    broken = [
        make_clip(number, 9, jpegs=[flat(8 * number, 8 * frame) if frame in frames else BROKEN for frame in range(9)])
        for number, frames in drawn.items()
    ]
    assert sum(face.jpeg == BROKEN for clip in broken for face in clip.faces) == 12
    assert_same(epochs(write_shards(tmp_path / "broken", train=[broken]), 1, seed=3), expected)


def test_all_frames_of_a_clip_have_one_view(textures):
    data = Data(batch_clips=6, frames=4, crop_ratio=0.5, flip=True, rotation_deg=10.0)
    views = set()
    for epoch in epochs(textures, 3, data=data):
        ((faces, _, _),) = epoch
        for clip in faces:
            for frame in clip[1:]:
                np.testing.assert_array_equal(frame, clip[0])
            views.add(clip[0].tobytes())
    assert len(views) == 18  # Another clip or epoch, another view.


def test_each_frame_may_have_a_view_of_its_own(textures):
    # Sixteen frames are drawn of five, all of them the same picture; a frame drawn twice has two views.
    data = Data(batch_clips=6, frames=16, crop_ratio=0.5, rotation_deg=0.0, view_per_frame=True, repeat_frames=True)
    views = {face.tobytes() for epoch in epochs(textures, 2, data=data) for faces, _, _ in epoch for face in faces[0]}
    assert len(views) > 28  # of 32: 21 × 21 places and two sides, so two of them seldom meet


def test_short_clips_may_be_filled_with_frames_drawn_again(tmp_path):
    # Clips of no frame, two, exactly four, and more.
    shards = write_shards(tmp_path, train=[[make_clip(number, number, key=str(number)) for number in (0, 2, 4, 9)]])
    data = Data(batch_clips=4, frames=4, crop_ratio=1.0, flip=False, rotation_deg=0.0, repeat_frames=True)
    firsts = np.zeros(5, int)  # how often of the four frames drawn of two so many are the first
    for ((faces, mask, _),) in epochs(shards, 120, data=data):
        (empty,) = np.flatnonzero(~mask.all(axis=1))
        assert not mask[empty].any() and not faces[empty].any()
        clips, frames = numbers(faces)
        rows = {int(clips[row, 0]): frames[row].tolist() for row in range(4) if row != empty}
        assert rows.keys() == {2, 4, 9}
        assert rows[2] == sorted(rows[2]) and set(rows[2]) <= {0, 1}
        assert rows[4] == [0, 1, 2, 3]
        assert (np.diff(rows[9]) > 0).all()
        firsts[rows[2].count(0)] += 1
    # Binomial: 120 × (1, 4, 6, 4, 1) / 16 = 7.5, 30, 45, 30, 7.5.
    assert (firsts > [1, 15, 27, 15, 1]).all() and (firsts < [18, 47, 65, 47, 18]).all()


@pytest.mark.parametrize("switches", [{}, {"view_per_frame": True, "repeat_frames": True, "random_crop": False}])
@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_an_epoch_is_the_same_after_a_restart(textures, seven, seed, switches):
    data = Data(batch_clips=2, frames=6, **switches)
    for shards in (textures, seven):
        whole = epochs(shards, 3, data=data, seed=seed)
        assert_same(epochs(shards, 2, data=data, seed=seed, first_epoch=1), whole[1:])


def test_the_programs_seed_and_threads_change_nothing(textures, seven):
    data = Data(batch_clips=2, frames=3)
    for shards in (textures, seven):
        expected = epochs(shards, 2, data=data, seed=5)
        for global_seed, threads in ((0, None), (7, 1), (2**31, 16)):
            tf.random.set_seed(global_seed)
            tf.random.uniform([3])
            assert_same(epochs(shards, 2, data=data, seed=5, threads=threads), expected)


def test_training_batches_leave_the_programs_random_numbers_alone(seven):
    tf.random.set_seed(3)
    expected = tf.random.uniform([4]).numpy()
    tf.random.set_seed(3)
    epochs(seven, 1)
    np.testing.assert_array_equal(tf.random.uniform([4]), expected)


def test_another_seed_gives_another_order_other_frames_and_other_views(textures, seven):
    orders, frames_of, views = [], [], []
    for seed in (0, 1):
        data = Data(batch_clips=7, frames=3, crop_ratio=1.0, flip=False, rotation_deg=0.0)
        (((faces, _, _),),) = epochs(seven, 1, data=data, seed=seed)
        clips, frames = numbers(faces)
        orders.append(clips[:, 0].tolist())
        frames_of.append(dict(zip(orders[-1], frames.tolist(), strict=True)))
        (((faces, _, _),),) = epochs(textures, 1, data=Data(batch_clips=6, frames=1), seed=seed)
        views.append({clip.tobytes() for clip in faces})
    assert orders[0] != orders[1]
    assert all(frames_of[0][number] != frames_of[1][number] for number in (6, 7))
    assert not views[0] & views[1]


def test_a_dataset_can_be_read_twice(seven):
    keys = [clip["key"] for clip in seven.clips]
    dataset, _ = train_batches(seven, DATA, classes=("happy", "sad"), keys=keys, face_size=SIZE, seed=0)
    first, second = ([labels.numpy() for _, labels in dataset.take(6)] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_soft_labels_are_the_votes_in_the_order_of_the_models_classes(tmp_path):
    shared = {"classes": ("angry", "fear", "happy", "sad")}
    votes = {1: (0.25, 0.0, 0.5, 0.25), 2: (0.0, 1.0, 0.0, 0.0), 3: None}
    clips = [replace(make_clip(number, 2, label="sad"), votes=share) for number, share in votes.items()]
    shards = write_shards(tmp_path / "shards", train=[clips], **shared)
    data = replace(DATA, batch_clips=3, soft_labels=True)
    ((faces, _, labels),) = epochs(shards, 1, data=data, classes=("sad", "angry", "happy"))[0]
    found = dict(zip(numbers(faces)[0][:, 0].tolist(), labels.tolist(), strict=True))
    # Clip 2 has only votes of classes that the model does not have, and clip 3 has no votes. So their labels count.
    assert found == {1: [0.25, 0.25, 0.5], 2: [1, 0, 0], 3: [1, 0, 0]}
    assert labels.dtype == np.float32
    evaluation = evaluated(shards, data=data, split="train", classes=("angry", "happy", "sad"))
    assert evaluation[0]["label"].tolist() == [2, 2, 2]


def test_labels_are_numbered_in_the_order_of_the_models_classes(tmp_path):
    clips = [make_clip(1, 1, label="悲しい"), make_clip(2, 1, label="fröhlich"), make_clip(3, 1, label="")]
    others = [replace(clip, key=f"test {clip.key}") for clip in clips]
    shards = write_shards(tmp_path, ("fröhlich", "悲しい"), train=[clips], test=[others])
    for classes, expected in (
        (("fröhlich", "悲しい"), {1: 1, 2: 0, 3: -1}),
        (("悲しい", "x", "fröhlich"), {1: 0, 2: 2, 3: -1}),
        (("悲しい",), {1: 0, 2: -1, 3: -1}),
    ):
        data = Data(batch_clips=3, frames=1, crop_ratio=1.0)
        (((faces, _, labels),),) = epochs(shards, 1, data=data, classes=classes, keys=[clip.key for clip in clips])
        assert dict(zip(numbers(faces)[0][:, 0].tolist(), labels.tolist(), strict=True)) == expected
        (batch,) = evaluated(shards, data=data, classes=classes)
        assert batch["label"].tolist() == [expected[number] for number in (1, 2, 3)]


# Evaluation


@pytest.mark.parametrize(
    ("total", "most", "expected"),
    [
        (0, 3, []),
        (1, 5, [0]),
        (3, 120, [0, 1, 2]),
        (7, 1, [0]),
        (5, 2, [0, 4]),
        (5, 3, [0, 2, 4]),
        (10, 4, [0, 3, 6, 9]),
        (6, 4, [0, 2, 3, 5]),  # 0, 1⅔, 3⅓, 5
        (4, 4, [0, 1, 2, 3]),
        (241, 3, [0, 120, 240]),
    ],
)
def test_evenly_spaced_by_hand(total, most, expected):
    found = space_evenly(total, most)
    assert found.dtype == np.int32
    assert found.tolist() == expected


@given(st.integers(2, 100_000), st.integers(2, 500))
def test_evenly_spaced_takes_the_first_the_last_and_none_twice(total, most):
    found = space_evenly(total, most)
    assert len(found) == min(total, most)
    assert (found[0], found[-1]) == (0, total - 1)
    steps = np.diff(found)
    assert steps.min() >= 1
    assert steps.max() - steps.min() <= 1


def test_every_clip_is_evaluated_once_in_the_order_of_the_shards(tmp_path):
    clips = [make_clip(number, frames, key=f"ä/{number}") for number, frames in enumerate((10, 1, 0, 5, 2), start=1)]
    shards = write_shards(tmp_path, test=[clips[:3], clips[3:]])
    batches = evaluated(shards)
    assert [key.decode() for batch in batches for key in batch["key"]] == [f"ä/{number}" for number in range(1, 6)]
    assert [batch["faces"].shape for batch in batches] == [
        (2, 4, SIZE, SIZE, 3),
        (2, 4, SIZE, SIZE, 3),
        (1, 2, SIZE, SIZE, 3),
    ]
    expected = [[0, 3, 6, 9], [0], [], [0, 1, 3, 4], [0, 1]]  # 5 frames, 4 of them: 0, 1⅓, 2⅔, 4.
    rows = [(batch, row) for batch in batches for row in range(len(batch["key"]))]
    for number, (frames, (batch, row)) in enumerate(zip(expected, rows, strict=True), start=1):
        length = len(frames)
        assert batch["frame_mask"][row].tolist() == [True] * length + [False] * (len(batch["frame_mask"][row]) - length)
        clip_numbers, frame_numbers = numbers(batch["faces"][row])
        assert clip_numbers[:length].tolist() == [number] * length
        assert frame_numbers[:length].tolist() == frames
        assert batch["timestamp_s"][row, :length].tolist() == [0.25 * frame for frame in frames]
        assert (batch["faces"][row, length:] == 0).all()
        assert (batch["timestamp_s"][row, length:] == 0).all()
    assert {name: value.dtype for name, value in batches[0].items()} == {
        "faces": np.uint8,
        "frame_mask": bool,
        "timestamp_s": np.float64,
        "label": np.int32,
        "key": object,
    }


def test_a_clip_without_a_face_is_one_masked_frame(tmp_path):
    (batch,) = evaluated(write_shards(tmp_path, test=[[make_clip(1, 0, label="sad")]]))
    assert batch["faces"].tolist() == np.zeros((1, 1, SIZE, SIZE, 3)).tolist()
    assert batch["frame_mask"].tolist() == [[False]]
    assert batch["label"].tolist() == [1]


def test_only_the_frames_that_are_looked_at_are_decoded_in_evaluation(tmp_path):
    clip = make_clip(1, 5, jpegs=[flat(8, 0), BROKEN, BROKEN, BROKEN, flat(8, 32)])
    shards = write_shards(tmp_path, test=[[clip]])
    (batch,) = evaluated(shards, data=Data(eval_frames=2, crop_ratio=1.0))
    assert numbers(batch["faces"])[1].tolist() == [[0, 4]]
    inputs, _ = clip_inputs(clip, Data(eval_frames=2, crop_ratio=1.0), SIZE)
    assert numbers(inputs["faces"])[1].tolist() == [[0, 4]]
    with pytest.raises(tf.errors.InvalidArgumentError):  # A broken face that is looked at does not pass for a face.
        evaluated(shards, data=Data(eval_frames=3))


def test_a_long_clip_is_looked_at_in_as_many_frames_as_asked(tmp_path):
    clip = make_clip(1, 0, jpegs=[flat(8, 8)] * 3571)
    (batch,) = evaluated(write_shards(tmp_path, test=[[clip]]), data=Data(eval_frames=120, crop_ratio=1.0))
    assert batch["faces"].shape == (1, 120, SIZE, SIZE, 3)
    np.testing.assert_allclose(batch["timestamp_s"][0], 0.25 * 30 * np.arange(120))  # 3570 = 119 × 30.


def test_only_the_wanted_clips_are_evaluated(seven):
    batches = evaluated(seven, split="train", keys=["clip 6", "clip 2", "clip 3"])
    assert [key for batch in batches for key in batch["key"]] == [b"clip 2", b"clip 3", b"clip 6"]


def test_evaluation_is_the_same_each_time(seven):
    first, second = (evaluated(seven, split="train", data=Data(batch_clips=3)) for _ in range(2))
    for batch, other in zip(first, second, strict=True):
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name])


@pytest.mark.parametrize(("frames", "crop_ratio", "face_size"), [(7, 0.875, 24), (2, 1.0, 40), (1, 0.5, 48)])
def test_one_clip_in_memory_is_seen_as_it_is_in_shards(tmp_path, frames, crop_ratio, face_size):
    clip = make_clip(1, frames, jpegs=[textured(frame) for frame in range(frames)])
    data = Data(eval_frames=3, crop_ratio=crop_ratio)
    (batch,) = evaluated(write_shards(tmp_path, test=[[clip]]), data=data, face_size=face_size)
    inputs, chosen = clip_inputs(clip, data, face_size)
    assert set(inputs) == {"faces", "frame_mask"}
    for name, value in inputs.items():
        assert value.dtype == batch[name].dtype
        np.testing.assert_array_equal(value, batch[name])
    expected = {7: [0, 3, 6], 2: [0, 1], 1: [0]}[frames]
    assert chosen == [clip.faces[index] for index in expected]
    assert batch["timestamp_s"][0].tolist() == [face.timestamp_s for face in chosen]


# Selection


def entries(counts, clips_a_subject=1):
    """Clips of each class, some of them of one subject."""
    found = []
    for label, count in counts.items():
        for index in range(count):
            subject = f"{index // clips_a_subject}" if clips_a_subject > 1 else ""
            key = f"{label}/{index}"
            found.append({"key": key, "recording": key, "label": label, "subject": subject})
    return found


@pytest.mark.parametrize(("ratio", "share"), [(0.5, 1 / 2), (0.3, 1 / 3), (0.2, 1 / 5), (0.1, 1 / 10)])
def test_selection_has_the_share_of_each_class(ratio, share):
    counts = {"fröhlich": 60, "sad": 30, "angry": 30}
    clips = entries(counts)
    for seed in range(5):
        train, selection = split_selection(clips, ratio, seed)
        assert sorted(train + selection) == sorted(clip["key"] for clip in clips)
        for label, count in counts.items():
            assert abs(sum(key.startswith(label) for key in selection) - count * share) <= 1


def test_no_subject_is_both_trained_on_and_selected_by():
    clips = entries({"happy": 40, "sad": 40}, clips_a_subject=4)
    subject_of = {clip["key"]: clip["subject"] for clip in clips}
    for seed in range(10):
        train, selection = split_selection(clips, 0.2, seed)
        assert sorted(train + selection) == sorted(subject_of)
        assert not {subject_of[key] for key in train} & {subject_of[key] for key in selection}
        assert len(selection) == 16


def test_no_recording_is_both_trained_on_and_selected_by():
    whole = entries({"happy": 20, "sad": 20})
    parts = [clip | {"key": f"{clip['key']}#{part:03d}"} for clip in whole for part in range(3)]
    for seed in range(10):
        train, selection = split_selection(parts, 0.2, seed)
        assert sorted(train + selection) == sorted(clip["key"] for clip in parts)
        assert not {key[:-4] for key in train} & {key[:-4] for key in selection}
        assert len(selection) == 24


def test_the_selection_is_a_function_of_the_seed():
    clips = entries({"happy": 20, "sad": 20})
    splits = [split_selection(clips, 0.2, seed) for seed in (0, 1, 2, 0)]
    assert splits[0] == splits[3]
    assert len({tuple(selection) for _, selection in splits}) == 3


def test_nothing_is_set_aside_at_ratio_0():
    clips = entries({"happy": 3})
    assert split_selection(clips, 0, 0) == split_selection(clips, 0.0, 0) == (["happy/0", "happy/1", "happy/2"], [])


@pytest.mark.parametrize("ratio", [-0.1, 0.51, 1, float("nan")])
def test_a_ratio_out_of_range_is_refused(ratio):
    assert "data.selection_ratio must lie in [0, 0.5]. Received:" in refusal(
        split_selection, entries({"a": 9}), ratio, 0
    )


@pytest.mark.parametrize(
    ("clips", "ratio"),
    [
        (entries({"happy": 3, "sad": 3}), 0.15),
        (entries({"happy": 20, "sad": 20}), 1e-9),
        (entries({"happy": 20, "sad": 20}, clips_a_subject=20), 0.5),  # One subject.
        (
            [{"key": str(n), "recording": "", "label": f"of {n % 2}", "subject": f"{n % 2}"} for n in range(8)],
            0.5,
        ),  # A class, a subject.
        ([], 0.2),
    ],
)
def test_clips_that_cannot_be_split_are_refused(clips, ratio):
    assert f"{len(clips)} training clips cannot be split for selection" in refusal(split_selection, clips, ratio, 0)


@pytest.mark.filterwarnings("ignore:The least populated class")
def test_a_class_never_goes_to_the_selection_as_a_whole():
    clips = [*entries({"happy": 20}), {"key": "rare", "recording": "rare", "label": "sad", "subject": ""}]
    for seed in range(20):
        train, selection = split_selection(clips, 0.5, seed)
        assert "rare" in train
        assert 10 <= len(selection) <= 11


@pytest.mark.parametrize(("faces", "times"), [(10, 1), (10**6, 2)])
def test_batches_that_fit_into_memory_are_decoded_once(faces, times):
    read = []

    def decode():
        read.append(None)
        yield 1

    whole = tf.data.Dataset.from_generator(decode, output_signature=tf.TensorSpec((), tf.int32))
    dataset = keep_in_memory(whole, faces, 64)
    assert [[*dataset.as_numpy_iterator()] for _ in range(2)] == [[1], [1]]
    assert len(read) == times


# Several processes


def test_processes_read_the_rows_of_one_process(seven):
    data = replace(DATA, batch_clips=4, keep_last_batch=True, flip=True, rotation_deg=5.0)
    keys = [clip["key"] for clip in seven.clips][:6]  # batches of 4 and 2
    whole = epochs(seven, 2, data=data, keys=keys)
    of_ranks = [epochs(seven, 2, data=data, keys=keys, rank=Rank(number, 2)) for number in range(2)]
    joined = [
        [tuple(map(np.concatenate, zip(*batches, strict=True))) for batches in zip(*same, strict=True)]
        for same in zip(*of_ranks, strict=True)
    ]
    assert [len(batch[-1]) for batch in whole[0]] == [4, 2]
    assert_same(joined, whole)


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_processes_evaluate_the_batches_of_one_process(seven, processes):
    whole = evaluated(seven, split="train")
    assert len(whole) == 4
    for number in range(processes):
        own = evaluated(seven, split="train", rank=Rank(number, processes))
        assert len(own) == len(whole[number::processes])
        for batch, same in zip(own, whole[number::processes], strict=True):
            for name, values in same.items():
                np.testing.assert_array_equal(batch[name], values)

"""Windows of recordings. Red says which recording a face is of, green which face it is; ratings are lines in time."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from scipy import fft

from affect.config import Data, VideoRegressor, Windows
from affect.data.clips import Dimensions
from affect.data.lgbp import FEATURES, lgbp_top
from affect.data.ranks import ALONE, Rank
from affect.data.recordings import cut_window, recording_of
from affect.data.windows import at_end, eval_windows, read_recordings, train_windows
from affect.errors import InputError
from affect.losses import ConcordanceLoss
from affect.models.video_networks import build_video_regressor
from tests.clips import make_clip, write_shards

SIZE = 8
DATA = Data(batch_clips=2, crop_ratio=1.0, flip=False, rotation_deg=0.0)
SETTINGS = Windows(length_s=1.0, stride_s=0.5, frame_rate_hz=4.0, delay_s=0.6)


def line(end_s, step_s=0.04):
    """Valence t/10 and arousal 0.5 - t/5, rated from 0 to `end_s`."""
    times_s = np.arange(round(end_s / step_s) + 1) * step_s
    return Dimensions(tuple(times_s), tuple(times_s / 10), tuple(0.5 - times_s / 5))


def part(number, times_s, place, key, recording, dimensions):
    """Faces at `times_s`; the green of each is that of its time in quarters of a second."""
    clip = make_clip(number, 32, key=key, label="", subject=f"subject {number}")
    faces = tuple(replace(clip.faces[round(4 * time_s)], timestamp_s=time_s) for time_s in times_s)
    return replace(clip, faces=faces, recording=recording, part=place, dimensions=dimensions)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """`long`: faces each 0.25 s from 0 to 3.75 s but for 1.0 to 1.5 s, rated to 4 s, two parts in two shards and in the
    wrong order. `short`: two faces a little off the grid, rated to 1.4 s. `unrated`: a face and no ratings."""
    long, short = line(4.0), line(1.4)
    first = part(1, [0, 0.25, 0.5, 0.75, 1.75], 0, "long/0", "long", long)
    second = part(1, np.arange(2, 4, 0.25), 1, "long/1", "long", long)
    groups = [
        [second],
        [part(2, [0.27, 0.48], 0, "short", None, short), first, part(3, [0.0], 0, "unrated", None, None)],
    ]
    return write_shards(tmp_path_factory.mktemp("windows"), classes=(), train=groups, test=[[make_clip(0, 1)]])


@pytest.fixture(scope="module")
def recordings(shards):
    found, _ = read_recordings(shards, "train")
    return found


def greens(faces):
    return np.rint(np.asarray(faces, float)[..., SIZE // 2, SIZE // 2, 1] / 8).astype(int)


def reds(faces):
    return np.rint(np.asarray(faces, float)[..., SIZE // 2, SIZE // 2, 0] / 8).astype(int)


def test_recordings_are_joined_from_their_parts(shards):
    (long, short), unrated = read_recordings(shards, "train")
    assert (long.name, long.subject, short.name, unrated) == ("long", "subject 1", "short", ["unrated"])
    np.testing.assert_allclose(long.times_s, [0, 0.25, 0.5, 0.75, 1.75, *np.arange(2, 4, 0.25)])
    assert long.places.tolist() == [[0, k] for k in range(5)] + [[1, k] for k in range(8)]
    assert (len(long.parts), long.end_s, short.end_s) == (2, 4.0, pytest.approx(1.4))
    np.testing.assert_allclose(long.ratings[-1], [0.4, -0.3], atol=1e-7)


def test_faces_of_others_are_left_out_and_counted(tmp_path):
    rated = line(4.0)
    keys = ("long#000", "long#001", "long@1#000", "long@1#001", "long@2")
    times_s = ([0.0, 0.25], [0.5], [0.0, 0.25, 0.5], [0.75], [1.0])
    clips = [part(k, times, k, key, "long", rated) for k, (key, times) in enumerate(zip(keys, times_s, strict=True))]
    (recording,), _ = read_recordings(write_shards(tmp_path, classes=(), train=[clips]), "train")
    np.testing.assert_allclose(recording.times_s, [0, 0.25, 0.5])
    assert (len(recording.parts), recording.other_faces) == (2, 5)
    (batch,) = eval_windows([recording], SETTINGS, replace(DATA, batch_clips=9), face_size=SIZE).as_numpy_iterator()
    np.testing.assert_array_equal(reds(batch["faces"][0]), [0, 0, 1, 0])  # the last is masked


def test_a_clip_in_memory_has_the_windows_of_its_shard(recordings):
    faces = part(1, [0, 0.25, 0.5, 0.75, 1.75], 0, "long/0", "long", None)
    faces = replace(faces, faces=faces.faces + part(1, np.arange(2, 4, 0.25), 1, "long/1", "long", None).faces)
    settings = replace(SETTINGS, delay_s=0.0)
    (ours,), (theirs,) = (
        eval_windows([recording], settings, replace(DATA, batch_clips=4), face_size=SIZE).take(1).as_numpy_iterator()
        for recording in (recording_of(faces), recordings[0])
    )
    for name in ("faces", "frame_mask", "times_s"):
        np.testing.assert_array_equal(ours[name], theirs[name])
    assert theirs["is_rated"].all() and not ours["is_rated"].any() and not ours["weights"].any()


def test_each_point_is_the_end_of_a_window_of_its_own(recordings):
    batches = eval_windows(recordings[1:], SETTINGS, DATA, face_size=SIZE, each_end=True)
    assert len(batches) == 4  # seven windows, two a batch; the recording ends at 1.4 s
    whole = [np.concatenate(values) for values in zip(*((b["times_s"], b["frame_mask"]) for b in batches), strict=True)]
    np.testing.assert_allclose(whole[0][:, -1], np.arange(7) / 4)
    np.testing.assert_allclose(whole[0][0], [-0.75, -0.5, -0.25, 0])
    np.testing.assert_array_equal(whole[1][[0, 2, 5]], [[False] * 4, [False, False, True, True], [True] + 3 * [False]])


def test_the_label_of_the_end_is_that_of_the_last_face():
    inputs = {"frame_mask": np.array([[True, False, True, False], [False] * 4])}
    labels, weights = np.arange(16.0).reshape(2, 4, 2), np.array([[1.0, 0, 0.5, 0], [0, 0, 0, 0]])
    _, ends, end_weights = at_end(inputs, labels, weights)
    np.testing.assert_array_equal(ends[0], [4, 5])
    np.testing.assert_array_equal(end_weights, [0.5, 0])


def test_a_window_by_hand(recordings):
    window = cut_window(recordings[0], SETTINGS, 0.5)
    np.testing.assert_array_equal(window.times_s, [0.5, 0.75, 1.0, 1.25])
    np.testing.assert_array_equal(window.frame_mask, [True, True, False, False])
    np.testing.assert_array_equal(window.faces, [2, 3, -1, -1])
    np.testing.assert_array_equal(window.is_rated, [True] * 4)
    rated_s = np.array([1.1, 1.35, 1.6, 1.85])  # 0.6 s later; 1.1 and 1.35 lie between two ratings
    np.testing.assert_allclose(window.labels, np.stack([rated_s / 10, 0.5 - rated_s / 5], -1), atol=1e-6)
    np.testing.assert_array_equal(window.weights, [1, 1, 0, 0])


def test_a_face_off_the_grid_is_labelled_by_its_own_time(recordings):
    window = cut_window(recordings[1], SETTINGS, 0.0)
    np.testing.assert_array_equal(window.faces, [-1, 0, 1, -1])
    np.testing.assert_allclose(window.labels[1:3, 0], [0.087, 0.108], atol=1e-6)
    np.testing.assert_array_equal(window.is_rated, [True, True, True, True])


def test_beyond_the_series_there_is_no_label(recordings):
    window = cut_window(recordings[0], SETTINGS, 3.0)
    np.testing.assert_array_equal(window.faces, [9, 10, 11, 12])
    np.testing.assert_array_equal(window.is_rated, [True, True, False, False])  # 3.6 and 3.85 s, but not 4.1
    np.testing.assert_array_equal(window.labels[2:], 0)
    np.testing.assert_array_equal(window.weights, [1, 1, 0, 0])
    assert not cut_window(recordings[0], SETTINGS, 9.0).frame_mask.any()


def test_evaluation_sees_each_point_of_the_grid_once(recordings):
    batches = list(eval_windows(recordings, SETTINGS, DATA, face_size=SIZE).as_numpy_iterator())
    whole = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    assert whole["recording"].tolist() == [b"long"] * 5 + [b"short"] * 2
    np.testing.assert_array_equal(whole["times_s"][:5].ravel(), np.arange(20) / 4)
    long, mask = whole["faces"][:5].reshape(20, SIZE, SIZE, 3), whole["frame_mask"][:5].ravel()
    seen = [0, 1, 2, 3, 7, *range(8, 16)]
    np.testing.assert_array_equal(np.flatnonzero(mask), seen)
    np.testing.assert_array_equal(greens(long[mask]), seen)
    assert (reds(long[mask]) == 1).all() and (long[~mask] == 0).all()
    assert reds(whole["faces"][5][1]) == 2
    assert whole["weights"][:5].sum() == 11  # without the two faces of 3.5 and 3.75 s, which are rated later


def pass_over(recordings, seed, first_epoch=0, epochs=1, data=DATA, rank=ALONE):
    dataset, sizes, left_out = train_windows(
        recordings, SETTINGS, data, face_size=SIZE, seed=seed, first_epoch=first_epoch, rank=rank
    )
    return list(dataset.take(len(sizes) * epochs).as_numpy_iterator()), left_out


def test_training_is_a_function_of_the_seed_and_the_epoch(recordings):
    data = replace(DATA, flip=True, rotation_deg=10.0, crop_ratio=0.8)
    once, left_out = pass_over(recordings, seed=3, epochs=3, data=data)
    assert left_out == 3  # long from 3.5 and 4 s, whose faces are rated too late, and short from 1 s, without a face
    again, _ = pass_over(recordings, seed=3, first_epoch=1, epochs=2, data=data)
    for left, right in zip(once[len(once) // 3 :], again, strict=True):
        for x, y in zip(keras.tree.flatten(left), keras.tree.flatten(right), strict=True):
            np.testing.assert_array_equal(x, y)
    firsts = [[float(labels[:, 0, 0].sum()) for _, labels, _ in pass_over(recordings, seed=s)[0]] for s in range(5)]
    assert len({tuple(first) for first in firsts}) > 1
    whole, _ = pass_over(recordings, seed=0, epochs=5, data=replace(DATA, batch_clips=1))
    labels = np.array([float(labels.sum()) for _, labels, _ in whole]).reshape(5, -1)
    assert len({tuple(order) for order in labels}) == 5  # another order in each epoch


def test_an_epoch_of_training_has_each_useful_window_once(recordings):
    batches, _ = pass_over(recordings, seed=0, data=replace(DATA, batch_clips=3))
    weights = np.concatenate([weights for _, _, weights in batches])
    inputs = {key: np.concatenate([inputs[key] for inputs, _, _ in batches]) for key in ("faces", "frame_mask")}
    assert inputs["faces"].shape == (9, 4, SIZE, SIZE, 3) and weights.any(axis=1).all()
    starts = sorted((reds(f[m][0]).item(), greens(f[m][0]).item()) for f, m in zip(*inputs.values(), strict=True))
    assert starts == [(1, 0), (1, 2), (1, 7), (1, 7), (1, 8), (1, 10), (1, 12), (2, 1), (2, 2)]


def test_the_network_learns_from_windows(recordings):
    config = VideoRegressor(
        "conv3d", "softmax", face_size=SIZE, blocks=1, filters=2, attention_filters=2, hidden_units=4
    )
    model = build_video_regressor(config)
    model.compile("sgd", ConcordanceLoss(0.5), jit_compile=False)
    dataset, sizes, _ = train_windows(recordings, SETTINGS, DATA, face_size=SIZE, seed=0)
    history = model.fit(dataset, steps_per_epoch=len(sizes), epochs=1, shuffle=False, verbose=0)
    assert np.isfinite(history.history["loss"][0])


def passed(dataset):
    batches = list(dataset.as_numpy_iterator())
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


@pytest.mark.parametrize("kept_bytes", [2**30, 0])
def test_features_are_of_the_faces_that_evaluation_sees(recordings, monkeypatch, kept_bytes):
    taken = []

    def transform(values, size, fft2=fft.fft2):
        if values.ndim == 3:  # faces, and no kernel
            taken.append(len(values))
        return fft2(values, size)

    of_faces = passed(eval_windows(recordings, SETTINGS, DATA, face_size=SIZE))
    dataset = eval_windows(recordings, SETTINGS, DATA, face_size=SIZE, features="lgbp_top", kept_bytes=kept_bytes)
    with monkeypatch.context() as patch:
        patch.setattr(fft, "fft2", transform)
        of_features = passed(dataset)
        assert sorted(taken) == [1, 2, 4, 4, 4]
        again = passed(dataset)
        assert len(taken) == (5 if kept_bytes else 10)
    assert of_faces.keys() - of_features.keys() == {"faces"}
    assert of_features.keys() - of_faces.keys() == {"features"}
    for key in of_faces.keys() & of_features.keys():
        np.testing.assert_array_equal(of_features[key], of_faces[key])
    runs = [(0, slice(0, 4)), (1, slice(3, 4)), (2, slice(0, 4)), (3, slice(0, 4)), (5, slice(1, 3))]
    expected = np.zeros((7, 4, FEATURES), np.float32)
    for window, run in runs:
        grey = np.rint(of_faces["faces"][window, run] @ np.array([0.2989, 0.5870, 0.1140]))
        expected[window, run] = lgbp_top(grey)
    np.testing.assert_allclose(of_features["features"], expected, atol=1e-5)
    np.testing.assert_array_equal(again["features"], of_features["features"])


def test_the_network_learns_from_features(recordings):
    data = replace(DATA, random_crop=False)
    batches = {}
    for features in ("faces", "lgbp_top"):
        dataset, sizes, _ = train_windows(
            recordings, SETTINGS, data, face_size=SIZE, seed=0, first_epoch=2, features=features
        )
        batches[features] = list(dataset.take(2 * len(sizes)).as_numpy_iterator())
    for (of_faces, *faces), (of_features, *same) in zip(*batches.values(), strict=True):
        assert list(of_features) == ["features", "frame_mask"]
        assert (of_features["features"].any(axis=2) == of_faces["frame_mask"]).all()
        for x, y in zip(faces, same, strict=True):
            np.testing.assert_array_equal(x, y)
    model = build_video_regressor(VideoRegressor("bilstm", features="lgbp_top", recurrent_units=3, hidden_units=4))
    model.compile("sgd", ConcordanceLoss(0.5), jit_compile=False)
    history = model.fit(dataset, steps_per_epoch=len(sizes), epochs=1, shuffle=False, verbose=0)
    assert np.isfinite(history.history["loss"][0])
    with pytest.raises(InputError, match="'lgbp_top' are of the central crop alone: expected data.random_crop=False"):
        train_windows(recordings, SETTINGS, DATA, face_size=SIZE, seed=0, features="lgbp_top")


def test_what_cannot_be_learnt_from_is_refused(shards, recordings, tmp_path):
    with pytest.raises(InputError, match="no recording of split 'test' is rated in valence and arousal"):
        read_recordings(shards, "test")
    late = replace(SETTINGS, delay_s=10.0)
    with pytest.raises(InputError, match="None of 12 windows has a frame with both a face and a rating 10.0 s later"):
        train_windows(recordings, late, DATA, face_size=SIZE, seed=0)
    lacking = write_shards(tmp_path, train=[[part(1, [0.0], 1, "long/1", "long", line(1.0))]])
    text = r"recording long must have the parts 0 to 0, each once. Received: \[1\]"
    with pytest.raises(InputError, match=text):
        read_recordings(lacking, "train")


def test_processes_read_the_rows_and_evaluate_the_batches_of_one_process(recordings):
    data = replace(DATA, flip=True)
    whole, _ = pass_over(recordings, seed=3, epochs=2, data=data)
    shares = [pass_over(recordings, seed=3, epochs=2, data=data, rank=Rank(number, 2))[0] for number in range(2)]
    for batch, *parts in zip(whole, *shares, strict=True):
        for values, first, second in zip(*(keras.tree.flatten(each) for each in (batch, *parts)), strict=True):
            np.testing.assert_array_equal(np.concatenate([first, second]), values)
    whole = list(eval_windows(recordings, SETTINGS, DATA, face_size=SIZE).as_numpy_iterator())
    for number in range(2):
        own = eval_windows(recordings, SETTINGS, DATA, face_size=SIZE, rank=Rank(number, 2))
        assert len(own) == len(whole[number::2])
        for batch, same in zip(own.as_numpy_iterator(), whole[number::2], strict=True):
            for name, values in same.items():
                np.testing.assert_array_equal(batch[name], values)

"""Streams beside what they must equal: the layers and the whole model offline, weighted sums, and windows of shards."""

import math
import tracemalloc
from dataclasses import replace

import keras
import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from affect.config import Data, FrameClassifier, VideoRegressor, Windows
from affect.data.augment import view_centre_in_graph
from affect.data.clips import Dimensions
from affect.data.windows import eval_windows, read_recordings
from affect.errors import InputError
from affect.layers import TEMPORAL_POOLINGS
from affect.models.frame_classifier import build_frame_classifier, detail_classifier, frame_networks
from affect.models.stream import RUNNING_POOLINGS, RunningJointSoftmax, StreamingClassifier, StreamingRegressor
from affect.models.video_networks import build_video_regressor
from tests.clips import SIZE, make_clip, write_shards

CLASSES = ("angry", "happy", "sad")
CONFIG = FrameClassifier(backbone="mini_xception", weights=None, face_size=32, heads=2, hidden_units=5, lstm_units=6)
RANDOM = np.random.default_rng(0)
CLIPS = [[0, 1, 1, 0, 1, 1], [1, 0, 1]]  # 1: a frame with a face


def joint_softmax(rows, **options):
    """Returns a stream whose k-th face, (k,), has the scores `rows[k]`."""
    networks = {"frame": lambda faces: {"frame_logits": rows[faces[:, 0]]}}
    return StreamingClassifier(networks, CONFIG, CLASSES[: rows.shape[1]], **options)


@pytest.mark.parametrize("name", TEMPORAL_POOLINGS)
def test_after_each_frame_every_pooling_is_where_the_offline_model_is(name):
    keras.utils.set_random_seed(1)
    config = replace(CONFIG, temporal_pooling=name)
    model = build_frame_classifier(config, CLASSES)
    classifier = model.get_layer("frame_logits")
    for weight in classifier.weights:  # so that frames and classes differ
        weight.assign(weight + RANDOM.normal(size=weight.shape))
    faces = RANDOM.integers(0, 256, (2, 6, 32, 32, 3), dtype=np.uint8)
    masks = np.zeros((2, 6, 6), bool)  # each clip after each frame
    for clip, has_face in enumerate(CLIPS):
        for last in range(len(has_face)):
            masks[clip, last, : last + 1] = has_face[: last + 1]
    inputs = {"faces": np.repeat(faces, 6, axis=0), "frame_mask": masks.reshape(12, 6)}
    offline = {
        key: np.asarray(value, np.float64) for key, value in detail_classifier(model)(inputs, training=False).items()
    }
    networks = {
        part: lambda network=network, **inputs: network(inputs, training=False)
        for part, network in frame_networks(model).items()
    }
    bound = 1e-5 if name == "lstm" else 1e-6
    for clip, has_face in enumerate(CLIPS):
        stream = StreamingClassifier(networks, config, CLASSES)
        for last, seen in enumerate(has_face):
            reading = stream.add(last / 10, faces[clip, last] if seen else None)
            assert (reading.frames, reading.frames_with_a_face) == (last + 1, sum(has_face[: last + 1]))
            if not any(has_face[: last + 1]):
                assert reading.probabilities is reading.label is None
                continue
            row = 6 * clip + last
            expected = softmax(offline["logits"][row])
            np.testing.assert_allclose(list(reading.probabilities.values()), expected, atol=bound, rtol=0)
            assert reading.label == CLASSES[expected.argmax()]
            assert reading.importance == pytest.approx(offline["frame_importance"][row, last], abs=bound)
            if seen:
                alone = softmax(offline["frame_logits"][row, last])
                np.testing.assert_allclose(list(reading.frame_probabilities.values()), alone, atol=bound, rtol=0)
                np.testing.assert_allclose(reading.attention, offline["attention"][row, last], atol=1e-6)
            else:
                assert reading.frame_probabilities is reading.attention is None


def test_each_pooling_has_its_running_form():
    assert RUNNING_POOLINGS.keys() == TEMPORAL_POOLINGS.keys()


def test_joint_softmax_by_hand():
    stream = joint_softmax(np.log([[1.0, 2.0], [4.0, 3.0]]))
    first, none, second = stream.add(0.0, [0]), stream.add(0.1, None), stream.add(0.2, [1])
    assert first.probabilities == none.probabilities == pytest.approx({"angry": 1 / 3, "happy": 2 / 3})
    assert (first.importance, none.importance) == (pytest.approx(1), 0)
    assert second.probabilities == pytest.approx({"angry": 0.5, "happy": 0.5})
    assert second.frame_probabilities == pytest.approx({"angry": 4 / 7, "happy": 3 / 7})
    assert second.importance == pytest.approx(0.7)


@pytest.mark.parametrize("name", ["joint_softmax", "average"])
def test_forgetting_is_a_weighted_sum(name):
    rows, half_life_s = RANDOM.normal(0, 3, (40, 3)), 0.7
    times_s = np.cumsum(RANDOM.uniform(0.01, 0.5, 40))
    has_face = RANDOM.uniform(size=40) < 0.7
    networks = {"frame": lambda faces: {"frame_logits": rows[faces[:, 0]]}}
    config = replace(CONFIG, temporal_pooling=name)
    stream = StreamingClassifier(networks, config, CLASSES, half_life_s=half_life_s)
    for last, time_s in enumerate(times_s):
        reading = stream.add(time_s, [last] if has_face[last] else None)
        seen = np.flatnonzero(has_face[: last + 1])
        weights = 0.5 ** ((time_s - times_s[seen]) / half_life_s)
        if name == "average":
            expected = softmax(weights @ rows[seen] / weights.sum()) if len(seen) else None
            share = weights / weights.sum()
        else:
            total = weights @ np.exp(rows[seen])
            expected, share = total / total.sum(), weights * np.exp(rows[seen]).sum(axis=1) / total.sum()
        if len(seen):
            np.testing.assert_allclose(list(reading.probabilities.values()), expected, atol=1e-9)
        if has_face[last]:
            assert reading.importance == pytest.approx(share[-1], abs=1e-9)


def test_a_pause_longer_than_any_weight_begins_anew():
    stream = joint_softmax(np.log([[1.0, 9.0], [4.0, 1.0]]), half_life_s=1e-3)
    stream.add(0.0, [0])
    reading = stream.add(1e6, [1])  # the weight of the first frame is 2^(-1e9), which no float can hold
    assert reading.probabilities == pytest.approx({"angry": 0.8, "happy": 0.2})
    assert reading.importance == pytest.approx(1)


@pytest.mark.parametrize("name", ["max", "statistics", "lstm"])
def test_poolings_that_cannot_forget_say_so(name):
    with pytest.raises(
        InputError, match=f"one of \\['average', 'joint_softmax'\\]. Received: temporal_pooling='{name}'"
    ):
        StreamingClassifier({}, replace(CONFIG, temporal_pooling=name), CLASSES, half_life_s=1.0)


@pytest.mark.parametrize("half_life_s", [0, -1.0, math.inf, math.nan])
def test_a_half_life_is_positive(half_life_s):
    with pytest.raises(InputError, match="half_life_s must be a positive number of seconds. Received: "):
        joint_softmax(np.zeros((1, 2)), half_life_s=half_life_s)


@pytest.mark.parametrize("timestamp_s", [1.0, 0.5, math.nan])
def test_times_rise(timestamp_s):
    stream = joint_softmax(np.zeros((1, 2)))
    stream.add(1.0, [0])
    with pytest.raises(InputError, match="Times of frames must rise. Received: .* after 1.0"):
        stream.add(timestamp_s, [0])


@pytest.mark.parametrize("frames", [100_000, pytest.param(1_000_000, marks=pytest.mark.large)])
def test_no_frame_is_lost_among_many(frames):
    rows = RANDOM.normal(0, 3, (frames, 7))
    pooling = RunningJointSoftmax({}, CONFIG)
    for row in rows:
        logits, _, importance = pooling.add({"frame_logits": row}, 0.0)
    np.testing.assert_allclose(logits, logsumexp(rows, axis=0), atol=1e-9, rtol=0)
    assert importance == pytest.approx(math.exp(logsumexp(rows[-1]) - logsumexp(rows)), rel=1e-9)


def test_memory_does_not_grow():
    stream = joint_softmax(RANDOM.normal(size=(8, 3)), half_life_s=5.0)
    of_this_test = tracemalloc.Filter(True, __file__, all_frames=True)  # other threads of the process allocate too

    def feed(first, frames):
        for index in range(first, first + frames):
            stream.add(index / 25, [index % 8] if index % 3 else None)
        snapshot = tracemalloc.take_snapshot().filter_traces([of_this_test])
        return sum(trace.size for trace in snapshot.traces)

    tracemalloc.start(10)
    try:
        before = feed(0, 200)
        assert before > 0 and feed(200, 5000) - before < 4096  # less than a byte a frame
    finally:
        tracemalloc.stop()


SETTINGS = Windows(length_s=1.0, frame_rate_hz=4.0, delay_s=0.0)
# Faces on the grid, midway between two of its points, twice about one, right before a window, none for two windows.
BY_HAND = [0.0, 0.125, 0.24, 0.26, 0.5, 0.9, 0.99, 1.125, None, None, None, None, 4.3, 4.625]


def recordings():
    """Yields, for each recording, the times of its frames in seconds and whether they have a face."""
    times_s = [1.5 + 0.5 * index if time_s is None else time_s for index, time_s in enumerate(BY_HAND, -8)]
    yield times_s, [time_s is not None for time_s in BY_HAND]
    for longest_s in (0.1, 0.3, 2.0):
        random = np.random.default_rng(1)
        times_s = np.cumsum(random.uniform(0.01, longest_s, 24)).round(6)
        yield times_s.tolist(), (random.uniform(size=24) < 0.8).tolist()


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    """Shards of the recordings, each rated up to its last frame, and the faces and times that went into them."""
    clips, streams = [], []
    for number, (times_s, has_face) in enumerate(recordings()):
        made = make_clip(number, len(times_s), key=f"recording {number}", label="")
        faces = [replace(face, timestamp_s=time_s) for face, time_s in zip(made.faces, times_s, strict=True)]
        faces = [face if seen else None for face, seen in zip(faces, has_face, strict=True)]
        ratings = Dimensions((0.0, times_s[-1]), (0.0, 1.0), (1.0, 0.0))
        clips.append(replace(made, faces=tuple(face for face in faces if face), dimensions=ratings))
        streams.append([(time_s, face) for time_s, face in zip(times_s, faces, strict=True)])
    return write_shards(tmp_path_factory.mktemp("rated"), classes=(), train=[clips]), streams


def test_windows_of_a_stream_are_those_of_its_recording(rated):
    shards, streams = rated
    found, _ = read_recordings(shards, "train")
    keras.utils.set_random_seed(1)
    small = {"face_size": SIZE, "blocks": 1, "filters": 3, "attention_filters": 2, "hidden_units": 6}
    model = build_video_regressor(VideoRegressor(temporal="conv3d", attention="softmax", **small))
    offline = {}
    for batch in eval_windows(found, SETTINGS, Data(batch_clips=1, crop_ratio=1.0), face_size=SIZE).as_numpy_iterator():
        offline.setdefault(batch["recording"][0].decode(), []).append(batch)
    for recording, stream in zip(found, streams, strict=True):
        regressor = StreamingRegressor(lambda **inputs: model.predict_on_batch(inputs), SETTINGS, face_size=SIZE)
        readings = []
        for time_s, face in stream:
            readings += regressor.add(time_s, face and view_centre_in_graph(face.jpeg, 1.0, SIZE).numpy())
        readings += regressor.flush()
        assert len(readings) > 1
        for reading, batch in zip(readings, offline[recording.name], strict=True):
            np.testing.assert_array_equal(reading.times_s, batch["times_s"][0])
            np.testing.assert_array_equal(reading.frame_mask, batch["frame_mask"][0])
            inputs = {name: batch[name] for name in ("faces", "frame_mask")}
            np.testing.assert_array_equal(reading.dimensions, model.predict_on_batch(inputs)[0])
        assert np.std([reading.dimensions for reading in readings]) > 1e-6  # not a dead network


def test_a_window_waits_for_half_a_step_after_its_last_point():
    seen = []

    def network(faces, frame_mask):
        seen.append((faces[0, :, 0, 0, 0].tolist(), frame_mask[0].tolist()))
        return np.array([[0.25, 0.5]])  # of a network that predicts ends

    regressor = StreamingRegressor(network, SETTINGS, face_size=2)
    assert regressor.latency_s == 0.875
    assert regressor.flush() == []

    def face(value):
        return np.full((2, 2, 3), value, np.uint8)

    assert [regressor.add(0.25 * index, face(index + 1)) for index in range(4)] == [[]] * 4
    assert regressor.add(0.875, face(9)) == []  # midway: no nearer to 0.75 than 0.75 itself; nearest to 1 as yet
    (window,) = regressor.add(0.9, None)
    assert window.dimensions.tolist() == [0.25, 0.5]
    (window,) = regressor.add(1.2, face(10)) + regressor.flush()
    np.testing.assert_array_equal(window.times_s, [1.0, 1.25, 1.5, 1.75])
    assert seen == [([1, 2, 3, 4], [True] * 4), ([9, 10, 0, 0], [True, True, False, False])]
    with pytest.raises(InputError, match="Times of frames must rise. Received: 1.2 after 1.2"):
        regressor.add(1.2, None)

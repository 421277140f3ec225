"""Faces followed between key frames: by a detector of a known truth, and beside full detection on real clips."""

import cv2
import numpy as np
import pytest

from affect.config import Faces
from affect.errors import InputError
from affect.pipelines.appearance import ALIKE, describe_face
from affect.pipelines.detectors import DETECTORS
from affect.pipelines.follow import KEY_S, WINDOW_FRAMES, find_faces
from affect.pipelines.tracks import compare_looks, iou
from affect.pipelines.video import read_frames
from tests.detections import DETECTOR_CLASSES, Known, detection
from tests.pictures import portrait

FOLLOWING = [name for name, row in DETECTOR_CLASSES.items() if hasattr(row, "follow")]


class NoFollow:
    def __init__(self, truth):
        known = Known(truth)
        self.detected, self.detect = known.detected, known.detect


def video(count, *, frame_rate_hz=30, colour=lambda index: 100):
    for index in range(count):
        frame = np.full((64, 64, 3), colour(index), np.uint8)
        frame[0, 0] = index
        yield index / frame_rate_hz, frame


def find(detector, frames, detect="follow"):
    """Returns the x0 of the faces of each frame."""
    found = list(find_faces(frames, detector, detect))
    assert [int(frame[0, 0, 0]) for _, frame, _ in found] == list(range(len(found)))
    return [sorted(float(one.box[0]) for one in detections) for _, _, detections in found]


def xs(truth):
    return [sorted(float(one.box[0]) for one in detections) for detections in truth]


def test_a_moving_face_is_detected_twice_a_second_and_followed_in_between():
    truth = [[detection(5 + 0.3 * index)] for index in range(100)]
    detector = Known(truth)
    assert find(detector, video(100)) == xs(truth)
    # The first frame, then a frame each 15 at 30 frames/s, and the last.
    assert detector.detected == [0, 15, 30, 45, 60, 75, 90, 99]
    assert sorted(detector.detected + detector.followed) == list(range(100))


@pytest.mark.parametrize(("frame_rate_hz", "gap"), [(120, WINDOW_FRAMES), (10, 5), (4, 2), (2, 1), (1, 1)])
def test_key_frames_are_never_further_apart_than_they_may_be(frame_rate_hz, gap):
    detector = Known([[detection(5)]] * 50)
    find(detector, video(50, frame_rate_hz=frame_rate_hz))
    assert max(np.diff(detector.detected)) == gap
    assert gap == 1 or gap / frame_rate_hz <= KEY_S


def test_every_frame_is_detected_where_that_is_asked_for_or_the_detector_cannot_follow():
    truth = [[detection(5)] if index == 40 else [] for index in range(60)]
    for detector, detect in ((Known(truth), "every"), (NoFollow(truth), "follow")):
        assert find(detector, video(60), detect) == xs(truth)
        assert detector.detected == list(range(60))
    # What following may miss: a face that is gone before the next key frame.
    assert find(Known(truth), video(60)) == [[]] * 60


@pytest.mark.parametrize("seen", [range(20), range(20, 100), range(33, 71), range(29, 100), range(7), range(93, 100)])
def test_a_face_that_comes_or_goes_is_found_in_each_of_its_frames(seen):
    truth = [[detection(5)] if index in seen else [] for index in range(100)]
    detector = Known(truth)
    assert find(detector, video(100)) == xs(truth)
    assert len(detector.detected) < 30


def test_a_second_face_that_comes_does_not_disturb_the_first():
    truth = [[detection(5), detection(40)] if index >= 50 else [detection(5)] for index in range(100)]
    detector = Known(truth)
    assert find(detector, video(100)) == xs(truth)
    assert len(detector.detected) < 20


def test_full_detection_returns_where_a_face_is_lost_in_between():
    truth = [[] if index in (50, 51, 54) else [detection(5)] for index in range(100)]
    detector = Known(truth)
    assert find(detector, video(100)) == xs(truth)
    assert {50, 51, 54} <= set(detector.detected)
    assert len(detector.detected) == 8 + 3


def test_full_detection_returns_where_a_face_strays_or_two_become_one():
    class Careless(Known):
        def follow(self, frames, boxes):
            super().follow(frames, boxes)
            return [detection(60) if int(frame[0, 0, 0]) == 50 else detection(5) for frame in frames]

    detector = Careless([[detection(5)]] * 100)
    assert find(detector, video(100)) == [[5.0]] * 100
    assert 50 in detector.detected
    detector = Careless([[detection(5), detection(13)]] * 30)
    assert find(detector, video(30)) == [[5.0, 13.0]] * 30
    assert set(detector.detected) == set(range(30))


def test_both_sides_of_a_cut_are_key_frames():
    truth = [[detection(5)] if index < 50 else [detection(6), detection(40)] for index in range(100)]
    detector = Known(truth)
    assert find(detector, video(100, colour=lambda index: 30 if index < 50 else 200)) == xs(truth)
    assert {49, 50} <= set(detector.detected)
    assert len(detector.detected) == 8 + 2


def test_frames_of_another_size_begin_anew():
    def frames():
        for index, (timestamp_s, frame) in enumerate(video(60)):
            yield timestamp_s, frame if index < 25 else np.pad(frame, ((0, 16), (0, 0), (0, 0)))

    class OneShape(Known):
        def detect(self, frames):
            assert len({frame.shape for frame in frames}) == 1
            return super().detect(frames)

    detector = OneShape([[detection(5)]] * 60)
    assert find(detector, frames()) == [[5.0]] * 60
    assert {24, 25} <= set(detector.detected)


def test_damage_is_reported_after_the_frames_before_it():
    def frames():
        yield from video(20)
        raise InputError("damaged")

    found = find_faces(frames(), Known([[detection(5)]] * 20), "follow")
    assert [len(next(found)[2]) for _ in range(20)] == [1] * 20
    with pytest.raises(InputError, match="damaged"):
        next(found)


def test_no_more_than_a_window_is_read_ahead():
    read = []

    def frames():
        for timestamp_s, frame in video(200):
            read.append(timestamp_s)
            yield timestamp_s, frame

    for given, _ in enumerate(find_faces(frames(), Known([[detection(5)]] * 200), "follow")):
        assert len(read) - given <= WINDOW_FRAMES + 1


def swaying(index):
    return portrait(size=240, shift=(60 * np.sin(index / 6), 0))


def behind_a_bar(index):
    frame = portrait(size=240).copy()
    frame[:, max(12 * index - 140, 0) : max(12 * index - 70, 0)] = 120
    return frame


@pytest.mark.parametrize("name", FOLLOWING)
@pytest.mark.parametrize("scene", [swaying, behind_a_bar])
def test_a_restless_or_hidden_face_is_followed_as_full_detection_finds_it(name, scene):
    detector = DETECTORS[name](Faces(detector=name))
    frames = [(index / 30, scene(index)) for index in range(36)]
    every = [detections for _, _, detections in find_faces(frames, detector, "every")]
    followed = [detections for _, _, detections in find_faces(frames, detector, "follow")]
    assert [len(detections) for detections in followed] == [len(detections) for detections in every]
    assert sum(map(len, every)) >= 20
    for a, b in zip(every, followed, strict=True):
        assert all(iou(one.box, other.box) > 0.75 for one, other in zip(a, b, strict=True))


@pytest.mark.parametrize("name", FOLLOWING)
@pytest.mark.parametrize(
    ("clip", "start_s", "end_s", "least"),
    [("single_face.mp4", None, None, 72), ("face_noface.mov", None, 4.0, 70), ("noface_face.mov", 2.5, None, 70)],
)
def test_real_faces_are_followed_as_full_detection_finds_them(shared_data, name, clip, start_s, end_s, least):
    # At 0.8 letters of a title are a face for one frame.
    detector = DETECTORS[name](Faces(detector=name, score_threshold=0.9))
    frames = list(read_frames(shared_data / "clips" / clip, start_s=start_s, end_s=end_s))
    every = [detections for _, _, detections in find_faces(frames, detector, "every")]
    followed = [detections for _, _, detections in find_faces(frames, detector, "follow")]
    # No frame more and no frame less; these clips have one face at most.
    assert [len(detections) for detections in followed] == [len(detections) for detections in every]
    pairs = [(a[0], b[0]) for a, b in zip(every, followed, strict=True) if a]
    assert least <= len(pairs)
    overlaps = [iou(a.box, b.box) for a, b in pairs]
    distances = [np.linalg.norm(a.landmarks - b.landmarks, axis=1).mean() / (a.box[2] - a.box[0]) for a, b in pairs]
    assert np.mean(overlaps) >= 0.9
    assert min(overlaps) > 0.8
    assert np.mean(distances) <= 0.03
    assert max(distances) < 0.05
    # What it looks like between key frames is taken from them.
    assert max(compare_looks(a, b) for a, b in pairs) < ALIKE


def test_faces_that_touch_are_each_described_in_every_frame():
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.integers(0, 200, (4, 4, 3), np.uint8), (64, 64), interpolation=cv2.INTER_LINEAR)
    frames = [scene + rng.integers(0, 9, (64, 64, 3), np.uint8) for _ in range(12)]
    for index, frame in enumerate(frames):
        frame[0, 0] = index
    truth = [[detection(5), detection(27 - index / 3)] for index in range(12)]
    detector = Known(truth)
    found = list(find_faces(((index / 30, frame) for index, frame in enumerate(frames)), detector, "follow"))
    assert len(detector.detected) < 5
    for (_, frame, detections), faces in zip(found, truth, strict=True):
        described = {
            one.box[0]: np.array_equal(one.descriptor, describe_face(frame, one.landmarks)) for one in detections
        }
        is_key = frame[0, 0, 0] in detector.detected
        touch = iou(faces[0].box, faces[1].box) > 0
        assert set(described.values()) == {is_key or touch}

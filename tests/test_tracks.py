"""Tracks by hand: which face is which from frame to frame, and which of them is meant."""

import numpy as np
import pytest

from pipelines.tracks import TRACK_GAP_S, Detection, Track, Tracks, chosen_tracks, iou, match

SHAPE = (100, 100, 3)


def detection(x, size=20.0, y=0.0, landmarks_at=(0.0, 0.0)):
    landmarks = np.tile(np.float32(landmarks_at), (5, 1))
    return Detection(np.array([x, y, x + size, y + size], np.float32), landmarks, 0.9)


def track(frames):
    """Links frames of (timestamp_s, detections); returns the x0 of each track's boxes, in the order of the ids."""
    tracks, found = Tracks(), {}
    for timestamp_s, detections in frames:
        for track_id, one in zip(tracks.add(timestamp_s, SHAPE, detections), detections, strict=True):
            found.setdefault(track_id, []).append(float(one.box[0]))
    assert sorted(found) == list(range(len(found)))
    assert [summary.frames for summary in tracks.summaries()] == [len(found[track_id]) for track_id in sorted(found)]
    return [found[track_id] for track_id in sorted(found)]


def test_iou_by_hand():
    assert iou((0, 0, 4, 4), (2, 2, 6, 6)) == pytest.approx(4 / 28)
    assert iou((0, 0, 4, 4), (0, 0, 4, 4)) == 1
    assert iou((0, 0, 4, 4), (4, 0, 8, 4)) == iou((0, 0, 4, 4), (9, 9, 12, 12)) == 0


def test_two_faces_that_cross_keep_their_tracks():
    # Faces of different height pass; the detector's order changes from frame to frame, as it does with its scores.
    frames = []
    for index in range(21):
        pair = [detection(4.0 * index), detection(80 - 4.0 * index, y=12)]
        frames.append((index / 25, pair[::-1] if index % 2 else pair))
    assert track(frames) == [[4.0 * index for index in range(21)], [80 - 4.0 * index for index in range(21)]]


def test_one_detection_goes_to_the_track_it_overlaps_most():
    assert track([(0.0, [detection(0), detection(10)]), (0.1, [detection(8)])]) == [[0.0], [10.0, 8.0]]


def test_assignment_is_the_best_of_all_and_not_the_first():
    # Taken one by one, the face at 6 would take the track at 8 and leave the face at 13 to a new one.
    frames = [(0.0, [detection(0), detection(8)]), (0.1, [detection(6), detection(13)])]
    assert track(frames) == [[0.0, 6.0], [8.0, 13.0]]


def test_landmarks_tell_faces_apart_whose_boxes_overlap_alike():
    left, right = detection(0, landmarks_at=(5, 10)), detection(4, landmarks_at=(19, 10))
    one, other = detection(2, landmarks_at=(18, 10)), detection(2, landmarks_at=(6, 10))
    assert match([left, right], [one, other]) == [(0, 1), (1, 0)]
    assert match([left, right], [other, one]) == [(0, 0), (1, 1)]
    assert match([], [left]) == match([left], []) == match([left], [detection(50)]) == []


def test_ids_count_from_left_to_right_whatever_the_detectors_order():
    first, second = detection(10), detection(60)
    assert Tracks().add(0.0, SHAPE, [second, first]) == [1, 0]
    assert Tracks().add(0.0, SHAPE, [first, second]) == [0, 1]


@pytest.mark.parametrize(("gap_s", "tracks"), [(0.04, 1), (TRACK_GAP_S - 0.01, 1), (TRACK_GAP_S + 0.01, 2)])
def test_a_long_gap_begins_a_new_track(gap_s, tracks):
    assert len(track([(1.0, [detection(0)]), (1.0 + gap_s / 2, []), (1.0 + gap_s, [detection(1)])])) == tracks


def test_a_jump_begins_a_new_track():
    assert len(track([(0.0, [detection(0)]), (0.04, [detection(15)])])) == 2  # overlap 5 / 35


def test_summaries_by_hand():
    tracks = Tracks()
    tracks.add(0.0, SHAPE, [detection(40, size=20, y=40)])  # its centre is the frame's
    tracks.add(0.1, SHAPE, [])
    tracks.add(0.2, SHAPE, [detection(40, size=30, y=40)])  # off by 5 and 5, of 50 and 50
    assert tracks.frames == 3
    (summary,) = tracks.summaries()
    assert (summary.id, summary.frames, summary.mean_area_px) == (0, 2, (400 + 900) / 2)
    assert summary.mean_distance_ratio == pytest.approx((0 + 0.1) / 2)


@pytest.mark.parametrize(
    ("tracks", "main", "largest"),
    [
        ([Track(0, 50, 100.0, 0.5), Track(1, 40, 900.0, 0.1)], [0, 1], 1),  # the longest is the main one,
        ([Track(0, 50, 100.0, 0.5), Track(1, 46, 90.0, 0.1)], [1, 0], 0),  # of about as long ones the most central,
        ([Track(0, 50, 100.0, 0.2), Track(1, 50, 144.0, 0.2)], [1, 0], 1),  # of equally central ones the largest,
        ([Track(0, 50, 100.0, 0.2), Track(1, 50, 100.0, 0.2)], [0, 1], 0),  # of equal ones the first.
        ([Track(0, 2, 900.0, 0.0), Track(1, 50, 100.0, 0.5)], [1, 0], 1),  # A face of a moment is not the largest.
        ([Track(0, 9, 1.0, 0.5), Track(1, 50, 1.0, 0.5), Track(2, 20, 1.0, 0.0)], [1, 2, 0], 1),
    ],
)
def test_main_and_largest_track(tracks, main, largest):
    for order in (tracks, tracks[::-1]):
        assert chosen_tracks(order, "all") == main
        assert chosen_tracks(order, "main") == main[:1]
        assert chosen_tracks(order, "largest") == [largest]


@pytest.mark.parametrize("which", ["main", "largest", "all"])
def test_no_tracks_are_no_choice(which):
    assert chosen_tracks([], which) == []

"""Tracks by hand: which face is which from frame to frame, and which of them is meant."""

from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest

from affect.config import Faces
from affect.pipelines.appearance import ALIKE, DIFFERENT, Dissolves, describe_face, find_cuts
from affect.pipelines.detectors import DETECTORS
from affect.pipelines.faces import cut_video, find_turn
from affect.pipelines.follow import find_faces
from affect.pipelines.tracks import KNOWN_TRACKS, TRACK_GAP_S, Detection, Track, Tracks, choose_tracks, iou, match
from tests.pictures import no_face, portrait, write_video

SHAPE = (100, 100, 3)


def detection(x, size=20.0, y=0.0, landmarks_at=(0.0, 0.0)):
    landmarks = np.tile(np.float32(landmarks_at), (5, 1))
    return Detection(np.array([x, y, x + size, y + size], np.float32), landmarks, 0.9)


ANNA, BERT, CARL = np.float32(np.eye(3)) * 2**0.5  # descriptors of three people, 2 apart


def seen(who, x, *, y=0.0, shot=0):
    """A detection of somebody, given their descriptor."""
    return replace(detection(x, y=y), descriptor=np.float32(who), shot=shot)


def link(frames):
    """Links frames of (timestamp_s, detections); returns the ids of each frame."""
    tracks = Tracks()
    return [tracks.add(timestamp_s, SHAPE, detections) for timestamp_s, detections in frames]


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


def test_faces_for_which_nobody_competes_are_all_paired():
    rng = np.random.default_rng(0)
    before = [detection(60.0 * place) for place in rng.permutation(7)]
    after = [detection(60.0 * place + 4) for place in rng.permutation(9)[:6]]
    fits = [(i, j) for i in range(7) for j in range(6) if match([before[i]], [after[j]])]
    assert match(before, after) == fits
    assert 4 <= len(fits) < 6


def test_ids_count_from_left_to_right_whatever_the_detectors_order():
    first, second = detection(10), detection(60)
    assert Tracks().add(0.0, SHAPE, [second, first]) == [1, 0]
    assert Tracks().add(0.0, SHAPE, [first, second]) == [0, 1]


@pytest.mark.parametrize(("gap_s", "tracks"), [(0.04, 1), (TRACK_GAP_S - 0.01, 1), (TRACK_GAP_S + 0.01, 2)])
def test_a_long_gap_begins_a_new_track(gap_s, tracks):
    frames = [(1.0, [detection(0)]), (1.5, []), (1.5 + gap_s, []), (2.0 + gap_s, [detection(1)])]
    assert len(track(frames)) == tracks


@pytest.mark.parametrize("step_s", [0.04, 2.1, 5.0, 60.0, 3600.0])
def test_time_in_which_no_frame_was_looked_at_is_no_gap(step_s):
    assert track([(step_s * index, [detection(index)]) for index in range(9)]) == [[float(x) for x in range(9)]]
    # Nor is a single frame in which the face was not found.
    frames = [(step_s * index, [] if index == 4 else [detection(0)]) for index in range(9)]
    assert track(frames) == [[0.0] * 8]


def test_a_cut_ends_every_track():
    shots = [[seen(ANNA, 0), seen(BERT, 60)], [seen(CARL, 1, shot=1)], [seen(CARL, 1, shot=1)]]
    assert link([(index / 25, faces) for index, faces in enumerate(shots)]) == [[0, 1], [2], [2]]
    # Nobody knows what they look like: the one after the cut is another.
    unknown = [replace(detection(0), shot=0), seen(ANNA, 0, shot=1)]
    assert link([(0.0, unknown[:1]), (0.04, unknown[1:])]) == [[0], [1]]


def test_a_person_is_known_again_after_a_cut_and_a_gap():
    frames = [(0.0, [seen(ANNA, 0), seen(BERT, 60)]), (0.04, [seen(BERT, 5, shot=1), seen(ANNA, 70, shot=1)])]
    assert link(frames) == [[0, 1], [1, 0]]
    frames = [(0.0, [seen(ANNA, 0)]), *[(1.0 + index, [seen(BERT, 50)]) for index in range(9)], (11.0, [seen(ANNA, 3)])]
    assert link(frames) == [[0], *[[1]] * 9, [0]]


def test_a_person_whose_last_face_has_no_descriptor_is_known_again():
    gap = [(0.08 + index, []) for index in range(4)]
    again = (4.0, [seen(0.9 * ANNA, 60)])
    assert link([(0.0, [seen(ANNA, 0)]), (0.04, [detection(0)]), *gap, again])[-1] == [0]
    # Of two people who fit about as well, one may be the other as far as is known.
    pair = [(0.0, [seen(ANNA, 0), seen(ANNA, 40)]), (0.04, [detection(0), detection(40)])]
    assert link([*pair, *gap, again])[-1] == [2]


def test_people_of_one_place_whose_cut_was_not_seen_are_two():
    assert link([(index / 25, [seen(ANNA if index < 5 else BERT, 0)]) for index in range(10)]) == [[0]] * 5 + [[1]] * 5


def test_who_fits_two_people_as_well_is_neither():
    apart = [(0.0, [seen(0.8 * ANNA + 0.2 * BERT, 0), seen(0.2 * ANNA + 0.8 * BERT, 60)])]  # 1.2, and 0.6 to the middle
    assert link([*apart, (0.04, [seen((ANNA + BERT) / 2, 30, shot=1)])]) == [[0, 1], [2]]
    assert link([*apart, (0.04, [seen(0.6 * ANNA + 0.4 * BERT, 30, shot=1)])]) == [[0, 1], [0]]


@pytest.mark.parametrize("step", [4.0, 12.0, 25.0, 30.0])
def test_a_face_that_moves_fast_is_linked_by_motion_and_looks(step):
    there = [(index / 4, [seen(ANNA, step * index)]) for index in range(9)]
    assert link(there) == [[0]] * 9
    # Two who pass keep their tracks, and one who is hidden meanwhile is the same afterwards.
    pair = [(index / 4, [seen(ANNA, step * index), seen(BERT, step * (8 - index))]) for index in range(9)]
    assert link(pair) == [[0, 1]] * 9
    hidden = [(time_s, faces if index not in (3, 4, 5) else faces[:1]) for index, (time_s, faces) in enumerate(pair)]
    assert link(hidden) == [[0, 1] if index not in (3, 4, 5) else [0] for index in range(9)]


def test_faces_that_look_the_same_pass_by_motion_alone():
    for who in (None, ANNA):
        faces = [[detection(4.0 * index), detection(80 - 4.0 * index)] for index in range(21)]
        faces = [[replace(face, descriptor=who) for face in frame] for frame in faces]
        assert link([(index / 25, frame) for index, frame in enumerate(faces)]) == [[0, 1]] * 21


def test_a_half_hidden_face_that_comes_out_goes_on_with_its_track():
    half = 0.3 * ANNA + 0.7 * CARL
    assert np.linalg.norm(half - ANNA) > DIFFERENT
    frames = [(0.0, [seen(ANNA, 0)]), (0.1, []), (0.2, [seen(half, 40)]), (0.3, [seen(0.8 * ANNA + 0.2 * half, 40)])]
    assert link(frames) == [[0], [], [1], [0]]


def test_memory_of_looks_is_bounded_and_all_tracks_are_summed_up():
    tracks = Tracks()
    for index in range(KNOWN_TRACKS + 50):
        who = np.zeros(KNOWN_TRACKS + 50, np.float32)
        who[index] = 2
        assert tracks.add(float(index), SHAPE, [seen(who, 0)]) == [index]
    assert [summary.id for summary in tracks.summaries()] == list(range(KNOWN_TRACKS + 50))


def test_a_picture_on_the_wall_gives_way_to_a_person_who_moves():
    tracks = Tracks()
    for index in range(40):
        x = 60 + 3 * np.sin(index)
        person = [replace(detection(x, landmarks_at=(x + 10, 70), y=60), descriptor=BERT)] if index >= 30 else []
        tracks.add(index / 25, SHAPE, [seen(ANNA, 40, y=40), *person])
    picture, person = tracks.summaries()
    assert (picture.is_still, person.is_still) == (True, False)
    assert choose_tracks([picture, person], "all") == [1, 0]
    assert choose_tracks([picture, replace(person, frames=9)], "main") == [0]  # too short
    assert choose_tracks([picture], "main") == [0]
    assert choose_tracks([picture, replace(person, is_still=True)], "main") == [0]
    # However long a picture hangs there, a person of two seconds is enough.
    long = replace(picture, frames=25 * 600, duration_s=600.0)
    assert choose_tracks([long, replace(person, frames=51)], "main") == [1]
    assert choose_tracks([long, replace(person, frames=49)], "main") == [0]


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
        assert choose_tracks(order, "all") == main
        assert choose_tracks(order, "main") == main[:1]
        assert choose_tracks(order, "largest") == [largest]


@pytest.mark.parametrize("which", ["main", "largest", "all"])
def test_no_tracks_are_no_choice(which):
    assert choose_tracks([], which) == []


def test_descriptor_of_a_face_by_its_laws():
    points = np.float32([[60, 60], [100, 60], [80, 80], [65, 100], [95, 100]])
    frame = portrait(size=160)
    one = describe_face(frame, points)
    assert (one.shape, one.dtype.name) == ((320,), "float32")
    turned = np.ascontiguousarray(np.rot90(frame))  # x, y → y, 159 − x
    other = describe_face(turned, np.column_stack([points[:, 1], 159 - points[:, 0]]))
    assert np.linalg.norm(one - other) < 0.5 * ALIKE
    darker = describe_face((frame * 0.7).astype(np.uint8), points)
    assert np.linalg.norm(one - darker) < 0.5 * ALIKE
    large = describe_face(np.repeat(np.repeat(frame, 8, 0), 8, 1), points * 8 + 3.5)
    assert np.linalg.norm(one - large) < 0.5 * ALIKE
    assert np.linalg.norm(one - describe_face(no_face(0), points)) > DIFFERENT
    assert describe_face(np.full((160, 160, 3), 90, np.uint8), points) is None
    assert describe_face(frame, points + 1000) is None
    red = (frame * np.array([1.0, 0.75, 0.6])).astype(np.uint8)
    assert np.linalg.norm(one - describe_face(red, points)) < 0.8 * ALIKE
    for edge in (-70, 70):
        assert np.isfinite(describe_face(frame, points + edge)).all()
    point = describe_face(frame, np.full((5, 2), 80.0))
    assert point is None or np.isfinite(point).all()


def on_wall(head, wall, *, x=80, width=160):
    """Pastes the portrait's head on a wall, uint8 (160, width, 3), with its middle at x."""
    frame = np.ascontiguousarray(wall[:160, :width])
    oval = np.zeros(frame.shape[:2], np.uint8)
    cv2.ellipse(oval, (x, 80), (46, 62), 0, 0, 360, 255, -1)
    shown = np.zeros_like(frame)
    shown[:, max(x - 80, 0) : x + 80] = head[:, max(80 - x, 0) : 80 + width - x]
    return np.where(oval[..., None] > 0, shown, frame)


def coloured(seed, width=160):
    rough = np.random.default_rng(seed).integers(30, 220, (5, 5 * width // 160, 3)).astype(np.uint8)
    return cv2.resize(rough, (width, 160), interpolation=cv2.INTER_CUBIC)


def test_the_background_is_no_part_of_the_face():
    points = np.float32([[60, 60], [100, 60], [80, 80], [65, 100], [95, 100]])
    seen_before = [describe_face(on_wall(portrait(), coloured(seed)), points) for seed in range(8)]
    apart = [np.linalg.norm(one - other) for one in seen_before for other in seen_before]
    assert max(apart) < 0.8 * ALIKE


def test_a_walk_before_a_coloured_wall_is_one_track(mtcnn):
    wall = coloured(3, width=640)
    frames = [(index / 2, on_wall(portrait(), wall, x=80 + 75 * index, width=640)) for index in range(7)]
    assert seen_in(frames, mtcnn) == [7]


def test_cuts_are_where_most_colours_change():
    assert find_cuts([portrait(), portrait(shift=(3, 0)), no_face(0), no_face(1), portrait()]) == [2, 4]
    assert find_cuts([portrait(size=160), portrait(size=240)]) == []


def dissolve(before, after, rate_hz, length_s):
    """Frames of (timestamp_s, frame) of a picture that dissolves into another, half of it after 2 s."""
    for index in range(5 * rate_hz):
        share = np.clip(0.5 + (index / rate_hz - 2) / length_s, 0, 1)
        frame = (1 - share) * before + share * np.roll(after, index // 4, axis=1)
        yield index / rate_hz, frame.astype(np.uint8)


@pytest.mark.parametrize(("rate_hz", "length_s"), [(5, 1.0), (12, 0.4), (25, 0.6), (25, 1.0), (25, 2.0)])
def test_where_a_scene_dissolves_the_time_before_is_found(rate_hz, length_s):
    dissolves, scene = Dissolves(), dissolve(portrait(), no_face(0), rate_hz, length_s)
    found = [(timestamp_s, dissolves.add(timestamp_s, frame)) for timestamp_s, frame in scene]
    first = next(timestamp_s for timestamp_s, before_s in found if before_s is not None)
    assert 2 - length_s / 2 < first < 2 + length_s / 2 + 0.1
    for timestamp_s, before_s in found:
        assert before_s is None or timestamp_s - 2.09 < before_s < timestamp_s
        # Just after it, the time is one before it, where it took no longer than what is remembered.
        if 0 < timestamp_s - (2 + length_s / 2) < 0.3 and length_s <= 1:
            assert before_s is not None and before_s <= 2 - length_s / 2 + 0.35 * length_s
    assert (found[0][1], found[-1][1]) == (None, None)


def test_neither_a_cut_nor_a_person_who_moves_is_a_dissolve():
    head, wall = portrait(), coloured(0, 640)
    cut = [head if index < 10 else no_face(index) for index in range(20)]
    moves = [on_wall(head, wall, x=80 + 20 * index, width=640) for index in range(20)]
    pan = [np.ascontiguousarray(wall[:, 12 * index : 12 * index + 160]) for index in range(20)]
    for frames in (cut, moves, pan):
        dissolves = Dissolves()
        assert [dissolves.add(index / 10, frame) for index, frame in enumerate(frames)] == [None] * 20


def test_who_dissolves_into_somebody_else_ends_and_is_known_again():
    def mixed(share, before_s):
        return replace(seen((1 - share) * ANNA + share * BERT, 0), before_s=before_s)

    frames = [(index / 10, [seen(ANNA, 0)]) for index in range(10)]
    frames += [(1 + index / 10, [mixed(index / 10 - 0.05, 0.8)]) for index in range(1, 11)]
    frames += [(2.1 + index / 10, [mixed(1, 0.8)]) for index in range(5)]
    frames += [(2.6 + index / 10, [seen(BERT, 0)]) for index in range(30)]
    ids = [track for (track,) in link(frames)]
    assert ids == [0] * 16 + [1] * 39
    # It is the same person in another light.
    same = [(time_s, [replace(seen(ANNA, 0), before_s=face.before_s)]) for time_s, (face,) in frames]
    assert link(same) == [[0]] * 55
    back = [(6 + index / 10, [seen(ANNA, 0, shot=1)]) for index in range(3)]
    assert link([*frames, *back])[-3:] == [[0]] * 3


def test_after_frames_without_it_a_face_must_look_more_alike():
    other = 0.39 * ANNA + 0.61 * BERT
    assert 1.2 < np.linalg.norm(ANNA - other) < DIFFERENT
    assert link([(0.0, [seen(ANNA, 0)]), (0.1, [seen(other, 0)])]) == [[0], [0]]
    assert link([(0.0, [seen(ANNA, 0)]), (0.1, []), (0.2, [seen(other, 0)])]) == [[0], [], [1]]


@pytest.fixture(scope="module")
def mtcnn():
    return DETECTORS["mtcnn"](Faces())


def seen_in(frames, detector, detect="follow"):
    """Returns the number of frames of each track, in their order."""
    tracks = Tracks()
    for timestamp_s, frame, detections in find_faces(frames, detector, detect):
        tracks.add(timestamp_s, frame.shape, detections)
    return [summary.frames for summary in tracks.summaries()]


@pytest.mark.parametrize(("step_s", "step_px"), [(5.0, 3), (5.0, 40), (0.25, 60), (0.5, 90)])
def test_a_real_face_is_kept_at_low_rates_and_high_speeds(mtcnn, step_s, step_px):
    frames = []
    for index in range(6):
        frame = np.full((160, 640, 3), 90, np.uint8)
        x = (step_px * index) % 480
        frame[:, x : x + 160] = portrait(shift=(0, index))
        frames.append((step_s * index, frame))
    assert seen_in(frames, mtcnn) == [6]


def test_a_real_face_is_known_again_after_a_gap(mtcnn):
    scenes = [portrait(shift=(index, 0)) for index in range(4)], [no_face(index) for index in range(7)]
    scenes = [*scenes[0], *scenes[1], *scenes[0]]
    assert seen_in([(index / 2, frame) for index, frame in enumerate(scenes)], mtcnn) == [8]


@pytest.mark.parametrize("detect", ["every", "follow"])
@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("scene_cut", [20, 12]),
        ("walk_4fps", [9]),
        ("leaves_3s", [68]),
        ("fps0.2", [32]),
        ("crossing", [48]),  # of the one in front
    ],
)
def test_people_of_the_failing_videos(shared_data, mtcnn, name, frames, detect):
    path = shared_data / "failing" / f"{name}.mp4"
    cut = cut_video(path, Faces(face_size=32, detect=detect), mtcnn, lambda track_id, face: None)
    assert [one.frames for one in cut.seen][: len(frames)] == frames
    assert len(cut.seen) == len(frames) or name == "crossing"
    assert cut.tracks[0] in cut.seen


@pytest.mark.parametrize("detect", ["every", "follow"])
def test_people_who_pass_keep_their_tracks(shared_data, mtcnn, detect):
    faces = {}
    path = shared_data / "failing" / "crossing.mp4"
    cut_video(path, Faces(face_size=32, detect=detect), mtcnn, lambda i, face: faces.setdefault(i, []).append(face))
    # One walks to the right all the time, the other two to the left.
    front, *others = sorted(faces.values(), key=len, reverse=True)
    xs = [face.box[0] for face in front]
    assert min(np.diff(xs)) > -3
    assert xs[-1] - xs[0] > 200
    for other in others:
        assert max(np.diff([face.box[0] for face in other]), default=0) < 10
    assert Counter(len(other) >= 25 for other in others)[True] == 2


def test_a_poster_gives_way_to_a_person(shared_data, mtcnn):
    path = shared_data / "failing" / "poster.mp4"
    cut = cut_video(path, Faces(face_size=32), mtcnn, lambda track_id, face: None)
    (person,) = cut.tracks
    assert person.frames == 24
    assert person.mean_area_px**0.5 > 80
    assert len(cut.seen) > 1


@pytest.mark.parametrize("name", ["face_noface.mov", "single_face.mp4"])
def test_a_camera_that_moves_does_not_end_a_track(shared_data, mtcnn, name):
    cut = cut_video(shared_data / "clips" / name, Faces(face_size=32), mtcnn, lambda track_id, face: None, end_s=2.5)
    (track,) = cut.seen
    assert not track.is_still


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_picture_is_named(mtcnn, tmp_path, turn):
    frames = [np.rot90(portrait(shift=(index, 0)), turn // 90) for index in range(12)]
    path = write_video(tmp_path / "a.mp4", frames)
    assert find_turn(path, mtcnn) == turn
    if turn == 270:
        return  # lying on this side, her face is found in a few frames as it is
    cut = cut_video(path, Faces(face_size=32), mtcnn, lambda track_id, face: None)
    assert (cut.seen, cut.problem) == (
        (),
        f"{path} shows no face in 12 frames. Rotated clockwise by {turn} degrees it does: rotate the video, or correct "
        "its display angle.",
    )


def test_what_is_never_surely_a_face_must_be_there_for_a_tenth_of_the_frames():
    def detection(x, score):
        points = np.array([[x + dx, 10 + dy] for dx, dy in ((5, 5), (15, 5), (10, 10), (6, 15), (14, 15))], np.float32)
        return Detection(np.array([x, 10, x + 20, 30], np.float32), points, score)

    tracks = Tracks()
    for frame in range(40):
        found = (
            [detection(10, 0.85)] * (frame < 4)
            + [detection(60, 0.85)] * (frame < 3)
            + [detection(90, 0.95)] * (frame < 1)
        )
        tracks.add(frame / 25, (120, 160), found)
    assert [(track.id, track.frames) for track in tracks.summaries()] == [(0, 4), (2, 1)]

"""Faces from a CSV file: which row belongs to which frame, what is cut, and what is no row."""

import re
from dataclasses import replace

import numpy as np
import pytest

from affect.config import Faces
from affect.data.clips import LANDMARKS
from affect.errors import InputError
from affect.pipelines.detectors.boxes import POINTS, Boxes
from affect.pipelines.faces import align

HEADER = "key,timestamp_s,x0,y0,x1,y1"


def boxes(tmp_path, text, **settings):
    path = tmp_path / "boxes.csv"
    path.write_text(text)
    return Boxes(replace(Faces(detector="boxes", boxes=str(path)), **settings))


def test_rows_belong_to_the_frames_of_their_time_and_clip(tmp_path):
    text = f"{HEADER},score\na,0.04,10,20,30,50,0.95\na,0,1,2,3,4,\nb,0.04,0,0,9,9,1\na,0.04,60,20,80,50,1\n"
    detector = boxes(tmp_path, text + "a,0.04,60,20,80,50,0.79\n")
    found = detector.detect_at("a", [0.0, 0.0367, 0.042, 0.08])
    assert [[detection.score for detection in frame] for frame in found] == [[1.0], [1.0, 0.95], [1.0, 0.95], []]
    np.testing.assert_array_equal(found[1][1].box, [10, 20, 30, 50])
    assert (found[1][1].box.dtype, found[1][1].landmarks.dtype) == (np.float32, np.float32)
    assert detector.detect_at("c", [0.0]) == [[]]
    low = boxes(tmp_path, text, score_threshold=0.96)
    assert [len(frame) for frame in low.detect_at("a", [0.04])] == [1]


def test_landmarks_that_are_given_are_kept(tmp_path):
    assert POINTS[:2] == ("right_eye_x", "right_eye_y")
    text = f"{HEADER},{','.join(POINTS)}\na,0,0,0,9,9,{','.join(map(str, range(10)))}\n"
    ((found,),) = boxes(tmp_path, text).detect_at("a", [0.0])
    np.testing.assert_array_equal(found.landmarks, np.arange(10).reshape(len(LANDMARKS), 2))


def test_the_header_decides_in_any_order_and_case(tmp_path):
    text = f" Score , {HEADER.replace('x0,y0', 'Y0,X0')}\n0.5,Cafe\u0301,0,2,1,30,40\n"
    assert boxes(tmp_path, text).detect_at("Café", [0.0]) == [[]]  # the score is below the threshold
    ((found,),) = boxes(tmp_path, text, score_threshold=0.4).detect_at("Café", [0.0])
    np.testing.assert_array_equal(found.box, [1, 2, 30, 40])


def test_without_landmarks_a_square_around_the_box_is_cut(tmp_path):
    ((found,),) = boxes(tmp_path, f"{HEADER}\na,0,40,30,60,70\n").detect_at("a", [0.0])
    # Middle (50, 50), side 40; with a margin of a quarter on each side the face shows 60 pixels, from 20 to 80.
    _, matrix = align(np.zeros((100, 100, 3), np.uint8), found.landmarks, 120, 0.25)
    np.testing.assert_allclose(matrix, [[2, 0, -40], [0, 2, -40]], atol=1e-4)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("a,soon,0,0,9,9,,", "timestamp_s must be a number. Received: 'soon'"),
        ("a,0,nan,0,9,9,,", "x0 must be a number. Received: 'nan'"),
        ("a,0,0,0,1e9,9,,", "x1 must be a number. Received: '1e9'"),
        ("a,0,9,0,9,9,,", r"x1 and y1 must be greater than x0 and y0. Received: 9\.0, 0\.0, 9\.0, 9\.0"),
        ("a,0,0,0,9,9,1.5,", r"the score must lie in \[0, 1\]. Received: 1\.5"),
        ("a,0,0,0,9,9,,3", "right_eye_y must be a number. Received: ''"),
        ("a,0,0,0,9", "expected 8 fields"),
    ],
)
def test_what_is_no_row_is_refused_by_line(tmp_path, row, expected):
    text = f"{HEADER},score,right_eye_x\na,0,0,0,9,9,,\n{row}\n"
    with pytest.raises(InputError, match=f"^{re.escape(str(tmp_path))}/boxes.csv, line 3: {expected}"):
        boxes(tmp_path, text)


def test_landmarks_in_one_point_are_refused(tmp_path):
    text = f"{HEADER},{','.join(POINTS)}\na,0,0,0,9,9{',5' * 10}\n"
    with pytest.raises(InputError, match="line 2: all landmarks are the same point"):
        boxes(tmp_path, text)


@pytest.mark.parametrize("settings", [{"detector": "boxes"}, {"boxes": "boxes.csv"}])
def test_the_detector_and_its_file_belong_together(settings):
    with pytest.raises(InputError, match="The detector boxes and a CSV file of boxes belong together. Received: "):
        Faces(**settings)

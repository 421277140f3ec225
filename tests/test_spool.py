"""Faces on disk come back as they were, track by track."""

import math
import os
from pathlib import Path

import pytest

from affect.data.clips import Face
from affect.pipelines.spool import Spool


def face(number):
    return Face(
        timestamp_s=number / 3,
        jpeg=bytes([number]) * number,
        box=(0.1, 2.0, 3.0, number / 7),
        landmarks=(math.pi,) * 9 + (float(number),),
        score=1 / 3,
        transform=(1.0, 0.5, -20.25, -0.5, 1.0, 1e-9),
    )


def test_faces_come_back_by_track_in_their_order(tmp_path):
    spool = Spool(tmp_path)
    for number in range(9):
        spool.add(number % 2, face(number))
    assert list(spool.faces(0)) == [face(number) for number in (0, 2, 4, 6, 8)]
    assert list(spool.faces(1)) == [face(number) for number in (1, 3, 5, 7)]


def test_no_file_stays_open_between_two_faces(tmp_path):
    """On Windows, a folder with an open file could not be removed."""
    spool = Spool(tmp_path)
    for number in range(3):
        spool.add(0, face(number))
    faces = spool.faces(0)
    assert [next(faces), next(faces)] == [face(0), face(1)]
    (path,) = tmp_path.iterdir()
    assert str(path) not in map(os.path.realpath, Path("/proc/self/fd").iterdir())
    assert list(faces) == [face(2)]


def test_a_track_is_read_face_by_face(tmp_path):
    spool = Spool(tmp_path)
    for number in range(6):
        spool.add(0, face(number))
    found = spool.track(0)
    assert (len(found), list(found), found[1], found[-1]) == (6, [*map(face, range(6))], face(1), face(5))
    assert found[4:9] == [face(4), face(5)]
    with pytest.raises(IndexError):
        found[6]


def test_landmarks_may_be_unknown(tmp_path):
    spool, unknown = Spool(tmp_path), Face(0.0, b"", (0.0,) * 4, (math.nan,) * 10, 1.0, (0.0,) * 6)
    spool.add(3, unknown)
    (found,) = spool.faces(3)
    assert all(map(math.isnan, found.landmarks))
    assert len(found.landmarks) == 10


def test_a_track_without_faces_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        next(Spool(tmp_path).faces(0))

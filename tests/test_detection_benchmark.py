"""`benchmarks/detection.py` counts what it says it counts; what the recall is, no test says."""

import numpy as np
import skimage.data

from affect.config import Faces
from benchmarks.detection import Face, is_found, measure, measure_time, place, text

FACE = Face(
    skimage.data.astronaut(),
    np.array([181.6, 63.7, 264.6, 171.1]),
    np.array([[203.5, 100.1], [245.4, 102.2], [224.2, 126.4], [201.8, 138.6], [244.4, 140.4]]),
)


def test_faces_of_ours_and_of_the_package_are_counted_on_the_same_frames():
    sweeps = {
        "size": ((240, 320), (0.5, 1), (0, 1)),
        "margin": ((240, 185), (-0.1,), (0, 1)),
        "rotation": ((240, 320), (15, 180), (0, 0)),
    }
    rows = measure([FACE] * 2, Faces(min_face_px=20), sweeps)
    assert [(row["sweep"], row["value"], row["faces"], row["whole"], row["ours"], row["mtcnn"]) for row in rows] == [
        ("size", 0.5, 2, True, 1, 1),
        ("size", 1, 2, True, 1, 1),
        ("margin", -0.1, 2, False, 1, 0),
        ("rotation", 15, 2, False, 1, 1),
        ("rotation", 180, 2, False, 0, 0),
    ]
    lines = text(rows).splitlines()
    assert "| 100% | 1.000 | 1.000 |" in lines and "| -10% | 1.000 | 0.000 |" in lines
    assert lines[-1] == (
        "2 faces: ours finds at least as many as mtcnn in 5 of 5 cells; "
        "of whole, upright, lit and sharp faces at least 1.000"
    )


def test_the_time_of_each_way_is_of_each_image(face_videos):
    spent = measure_time(face_videos / "still.mp4", Faces(), rounds=1)
    assert {name: row["images"] for name, row in spent.items()} == {"detect": 8, "follow": 8, "mtcnn": 8}
    assert all(row["wall_ms"] > 0 and row["cpu_ms"] > 0 for row in spent.values())
    assert "follow" not in measure_time(face_videos / "no_face.mp4", Faces(), rounds=1)


def test_a_face_is_placed_where_its_landmarks_are_said_to_be():
    frame, landmarks = place(FACE, 100, (120, 160))
    assert frame.shape == (120, 160, 3)
    np.testing.assert_allclose((landmarks[1] - landmarks[0]) * 107.4 / 100, FACE.landmarks[1] - FACE.landmarks[0])
    _, turned = place(FACE, 100, (120, 160), rotation_deg=90)
    # The eye on the left is above after a quarter turn clockwise.
    np.testing.assert_allclose(turned - (80, 60), np.column_stack([60 - landmarks[:, 1], landmarks[:, 0] - 80]))
    assert is_found([landmarks + 50, landmarks + 3], landmarks, 5)
    assert not is_found([landmarks + 5], landmarks, 5)
    assert not is_found([], landmarks, 5)

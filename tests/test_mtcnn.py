"""MTCNN: what the package gives is what we give, and O-Net alone finds a face again."""

import numpy as np
import pytest
import tensorflow as tf
from mtcnn import MTCNN
from mtcnn.utils.images import extract_patches

from affect.config import Faces
from pipelines.detectors.mtcnn import Mtcnn, cut_patches
from pipelines.tracks import iou
from tests.conftest import no_face, portrait


@pytest.fixture(scope="module")
def detector():
    return Mtcnn(Faces(min_face_px=20))


@pytest.fixture(scope="module")
def found(detector):
    ((face,),) = detector.detect([portrait(size=320)])
    return face


def same(one, other):
    # A processor may sum a larger batch in another order, which moves the last digits of a coordinate.
    np.testing.assert_allclose(one.box, other.box, atol=1e-3)
    np.testing.assert_allclose(one.landmarks, other.landmarks, atol=1e-3)
    assert one.score == pytest.approx(other.score, abs=1e-5)


def test_detections_are_the_packages_own(found):
    # At 20 pixels the package runs whole; its JSON rounds to pixels.
    (expected,) = MTCNN().detect_faces(portrait(size=320), min_face_size=20, threshold_onet=0.9, box_format="xyxy")
    np.testing.assert_array_equal(np.round(found.box), expected["box"])
    points = [expected["keypoints"][name] for name in ("right_eye", "left_eye", "nose", "mouth_right", "mouth_left")]
    # The package calls the eye on the image's left the left one, which is the subject's right.
    points = np.array(points)[[1, 0, 2, 4, 3]]
    np.testing.assert_array_equal(np.round(found.landmarks), points)
    assert found.score == pytest.approx(expected["confidence"], abs=1e-5)


def test_a_face_is_the_same_whatever_stands_beside_it(detector, found):
    frames = [no_face(0, size=320), *[portrait(size=320)] * 6, np.zeros((320, 320, 3), np.uint8)]
    assert [len(detections) for detections in detector.detect(frames)] == [0, 1, 1, 1, 1, 1, 1, 0]
    for detections in detector.detect(frames)[1:-1]:
        same(detections[0], found)
    (alone,) = detector.follow([portrait(size=320)], [found.box])
    for one in detector.follow(frames[1:6], [found.box] * 5):
        same(one, alone)


@pytest.mark.parametrize(("dx", "dy", "scale"), [(0, 0, 1), (0.15, 0, 1), (-0.2, 0.1, 1), (0, 0, 1.2), (0, 0, 0.8)])
def test_a_face_is_found_again_from_a_box_beside_it(detector, found, dx, dy, scale):
    size = found.box[2:] - found.box[:2]
    centre = (found.box[2:] + found.box[:2]) / 2 + size * (dx, dy)
    box = np.concatenate([centre - scale * size / 2, centre + scale * size / 2])
    (again,) = detector.follow([portrait(size=320)], [box])
    assert iou(again.box, found.box) > 0.85
    assert np.linalg.norm(again.landmarks - found.landmarks, axis=1).mean() < 0.03 * size[0]
    assert 0.9 < again.score <= 1
    assert (again.box.dtype, again.landmarks.dtype, type(again.score)) == (np.float32, np.float32, float)


def test_a_face_that_is_gone_is_not_found_again(detector, found):
    frames = [no_face(0, size=320), np.zeros((320, 320, 3), np.uint8), np.full((320, 320, 3), 255, np.uint8)]
    assert detector.follow(frames, [found.box] * 3) == [None] * 3


@pytest.mark.parametrize("size", [24, 48])
def test_patches_are_cut_as_the_package_cuts_them(size):
    frame = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    boxes = np.array([[10, 20, 58, 68], [3.3, 4.7, 80.2, 81.6], [-20, -9, 40, 51], [70, 50, 140, 120.5], [5, 5, 9, 9]])
    images = ((frame[None].astype(np.float64)) - 127.5) / 128
    rows = np.column_stack([np.zeros(len(boxes)), boxes])
    expected = extract_patches(tf.constant(images), rows, expected_size=(size, size)).numpy()
    patches = cut_patches([frame] * len(boxes), boxes, size)
    assert (patches.shape, patches.dtype) == ((5, size, size, 3), np.float32)
    np.testing.assert_allclose(patches, expected, atol=2e-4)
    assert (patches[2, :3] == 0).all()
    assert (patches[3, :, -3:] == 0).all()

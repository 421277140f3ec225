"""MTCNN: what the package gives is what we give, and O-Net alone finds a face again."""

import importlib.metadata
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from mtcnn import MTCNN
from mtcnn.utils import bboxes, images

from affect.config import Faces
from affect.errors import InputError
from affect.files import sha256_of
from affect.pipelines.detectors.convert_mtcnn import SIZES_PX, convert
from affect.pipelines.detectors.litert import Network
from affect.pipelines.detectors.mtcnn import (
    NETWORKS,
    NETWORKS_FOLDER,
    Mtcnn,
    cut_patches,
    face_sizes,
    make_square,
    move_boxes,
    suppress,
)
from affect.pipelines.tracks import iou
from tests.pictures import no_face, portrait

# What mtcnn 1.0 gives for the astronaut: x0 y0 x1 y1; and eyes, nose and corners of the mouth, from the left.
FACE_BOX = np.array([181.6, 63.7, 264.6, 171.1])
POINTS = np.array([[203.5, 100.1], [245.4, 102.2], [224.2, 126.4], [201.8, 138.6], [244.4, 140.4]])


@pytest.fixture(scope="module")
def detector():
    return Mtcnn(Faces(min_face_px=20))


@pytest.fixture(scope="module")
def detector_40px():
    return Mtcnn(Faces())


@pytest.fixture(scope="module")
def found(detector):
    ((face,),) = detector.detect([portrait(size=320)])
    return face


@pytest.fixture(scope="module")
def package():
    return MTCNN()


def same(one, other):
    """Compares every bit."""
    np.testing.assert_array_equal(one.box, other.box)
    np.testing.assert_array_equal(one.landmarks, other.landmarks)
    assert one.score == other.score


@pytest.mark.parametrize("name", NETWORKS)
def test_the_networks_are_the_files_that_were_made_once(name):
    assert sha256_of(NETWORKS_FOLDER / f"{name}.tflite") == NETWORKS[name]


def test_the_licence_of_the_networks_is_beside_them():
    text = (NETWORKS_FOLDER / "LICENSE").read_text(encoding="utf-8")
    assert text.endswith(importlib.metadata.distribution("mtcnn").read_text("LICENSE"))
    assert "Iván de Paz Centeno" in text.partition("\n\n")[0]
    assert sorted(path.name for path in NETWORKS_FOLDER.iterdir()) == [
        "LICENSE",
        *(f"{name}.tflite" for name in sorted(NETWORKS)),
    ]


@pytest.mark.parametrize(("index", "name"), enumerate(SIZES_PX))
def test_networks_that_are_made_again_compute_what_the_packages_do(package, tmp_path, index, name):
    size, network = SIZES_PX[name], package.stages[index].model
    path = tmp_path / "again.tflite"
    path.write_bytes(convert(size, network))
    shipped, again = Network(NETWORKS_FOLDER / f"{name}.tflite"), Network(path)
    rng = np.random.default_rng(0)
    for height, width in [(size, size)] * 8 if size else [(12, 12), (13, 40), (61, 108)]:
        pixels = rng.uniform(0, 255, (height, width, 3)).astype(np.float32)
        expected = [output.numpy()[0] for output in network(images.normalize_images(pixels[None]))]
        outputs = shipped(pixels)
        assert outputs.keys() == {output.shape[-1] for output in expected}
        for output in expected:
            # The largest difference was 1.3e-6: of scores, and of offsets in shares of a box's side.
            np.testing.assert_allclose(outputs[output.shape[-1]], output, atol=3e-6, rtol=0)
            np.testing.assert_allclose(again(pixels)[output.shape[-1]], output, atol=3e-6, rtol=0)


def test_a_network_keeps_the_interpreters_of_the_last_shapes():
    network, many = (Network(NETWORKS_FOLDER / "p_net.tflite", most_shapes=most) for most in (2, 32))
    frames = [np.full((12 + side, 20, 3), 10.0 * side, np.float32) for side in (0, 3, 6, 0, 0, 3)]
    for frame in frames:
        for one, other in zip(network(frame).values(), many(frame).values(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_faces_are_found_and_followed_without_tensorflow():
    code = (
        "import sys, numpy as np\n"
        "from affect.config import Faces\n"
        "from affect.pipelines.detectors import DETECTORS\n"
        "import skimage.data\n"
        "detector, frame = DETECTORS['mtcnn'](Faces()), skimage.data.astronaut()\n"
        "((face,),) = detector.detect([frame])\n"
        "(again,) = detector.follow([frame], [face.box])\n"
        "from affect.pipelines.tracks import Tracks, match\n"
        "assert match([face], [again]) == [(0, 0)]\n"
        "print('LOADED', sorted({'tensorflow', 'keras', 'mtcnn', 'jax', 'joblib'} & set(sys.modules)))\n"
        "print('OPTIMISER', 'scipy.optimize' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "LOADED []\nOPTIMISER False\n"


def some_boxes(count, seed):
    """Returns boxes, many of which overlap, and scores that fall: as the package sorts them."""
    rng = np.random.default_rng(seed)
    start = rng.uniform(-10, 60, (count, 2))
    return np.hstack([start, start + rng.uniform(5, 50, (count, 2))]), np.sort(rng.uniform(size=count))[::-1]


@pytest.mark.parametrize("count", [1, 2, 30, 300])
@pytest.mark.parametrize(("method", "of_smaller"), [("union", False), ("min", True)])
def test_boxes_are_suppressed_as_the_package_does(count, method, of_smaller):
    boxes, scores = some_boxes(count, count)
    rows = np.column_stack([np.zeros(count), boxes, scores])
    for most in (0.3, 0.5, 0.7):
        kept = bboxes.smart_nms_from_bboxes(rows, threshold=most, method=method)
        mixed = np.random.default_rng(1).permutation(count)
        found = mixed[suppress(boxes[mixed], scores[mixed], most, of_smaller=of_smaller)]
        np.testing.assert_array_equal(boxes[found], kept[:, 1:5])
    assert suppress(np.empty((0, 4)), np.empty(0), 0.5).tolist() == []


def test_boxes_are_squared_and_moved_as_the_package_does():
    boxes, _ = some_boxes(50, 0)
    rows = np.column_stack([np.zeros(50), boxes])
    np.testing.assert_array_equal(make_square(boxes), bboxes.resize_to_square(rows)[:, 1:])
    offsets = np.random.default_rng(2).normal(scale=0.2, size=(50, 4)).astype(np.float32)
    np.testing.assert_array_equal(move_boxes(boxes, offsets), bboxes.adjust_bboxes(rows, offsets)[:, 1:])


def test_detections_are_the_packages_own(package, found):
    # At 20 pixels the package runs whole; its JSON rounds to pixels.
    (expected,) = package.detect_faces(portrait(size=320), min_face_size=20, threshold_onet=0.9, box_format="xyxy")
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


def test_a_face_is_the_same_in_any_thread(detector, found):
    frames = [portrait(size=320), no_face(0, size=320), portrait(size=160)] * 4
    expected = detector.detect(frames)
    with ThreadPoolExecutor(4) as pool:
        for given, alone in zip(pool.map(lambda frame: detector.detect([frame])[0], frames), expected, strict=True):
            assert len(given) == len(alone)
            for one, other in zip(given, alone, strict=True):
                same(one, other)
        for (one,) in pool.map(lambda frame: detector.follow([frame], [found.box]), frames[::3]):
            same(one, detector.follow([portrait(size=320)], [found.box])[0])


def test_a_face_is_the_same_where_another_one_enters_the_frame(detector):
    # The faces are far apart, and the right one is at the same place in both frames.
    alone, beside = (np.full((320, 960, 3), 90, np.uint8) for _ in range(2))
    beside[:, :320] = alone[:, 640:] = beside[:, 640:] = portrait(size=320)
    ((face,),) = detector.detect([alone])
    (both,) = detector.detect([beside])
    assert len(both) == 2
    same(max(both, key=lambda one: one.box[0]), face)


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
    boxes = [[10, 20, 58, 68], [3.3, 4.7, 80.2, 81.6], [-20, -9, 40, 51], [70, 50, 140, 120.5], [5, 5, 9, 9]]
    boxes = np.array([*boxes, [0, 0, 120, 90], [-300, -300, -200, -200], [0.5, 0.5, 119.5, 89.5]])
    scaled = ((frame[None].astype(np.float64)) - 127.5) / 128
    rows = np.column_stack([np.zeros(len(boxes)), boxes])
    expected = images.extract_patches(tf.constant(scaled), rows, expected_size=(size, size)).numpy()
    patches = cut_patches([frame] * 8, boxes, size)
    assert (len(patches), patches[0].shape, patches[0].dtype) == (8, (size, size, 3), np.float32)
    np.testing.assert_allclose((np.stack(patches) - 127.5) / 128, expected, atol=2e-4)
    assert (patches[2][:3] == 127.5).all()
    assert (patches[3][:, -3:] == 127.5).all()
    assert (patches[6] == 127.5).all()
    for box, patch in zip(boxes, patches, strict=True):
        np.testing.assert_array_equal(cut_patches([frame.astype(np.float32)], box[None], size)[0], patch)


def close_up(ratio, *, height, width, shift=(0, 0)):
    """Returns the astronaut in a frame, her box `ratio` times as high as the shorter side; and her landmarks.

    `shift` moves her to the right and down, as shares of the box's height.
    """
    size = ratio * min(height, width)
    scale = size / (FACE_BOX[3] - FACE_BOX[1])
    place = np.array([width, height]) / 2 + size * np.array(shift) - scale * (FACE_BOX[:2] + FACE_BOX[2:]) / 2
    matrix = np.array([[scale, 0, place[0]], [0, scale, place[1]]])
    frame = cv2.warpAffine(skimage.data.astronaut(), matrix, (width, height), flags=cv2.INTER_AREA)
    return frame, scale * POINTS + place, size


def check(face, points, size):
    assert np.linalg.norm(face.landmarks - points, axis=1).mean() < 0.08 * size


@pytest.mark.parametrize("height", [120, 241, 360, 480, 721, 1080])
@pytest.mark.parametrize("margin", [-0.08, -0.05, 0, 0.05, 0.2])
def test_a_face_that_fills_the_frame_is_found_and_followed(detector_40px, margin, height):
    # The frame is the face's box with a margin on each side, as a share of the box.
    width = round(height * 83 / 107.4)
    frame, points, size = close_up(height / width / (1 + 2 * margin), height=height, width=width)
    ((face,),) = detector_40px.detect([frame])
    check(face, points, size)
    (again,) = detector_40px.follow([frame], [face.box])
    check(again, points, size)


@pytest.mark.parametrize("ratio", [0.3, 0.6, 1])
@pytest.mark.parametrize("side", [(-1, 0), (1, 0), (0, -1), (0, 1)])
def test_a_face_that_the_edge_of_the_frame_cuts_is_found_and_followed(detector_40px, side, ratio):
    # A tenth of its box is outside, which is 0.77 times as wide as high.
    shift = np.array(side) * (np.array([320, 240]) / (2 * ratio * 240) - 0.4 * np.array([0.77, 1]))
    frame, points, size = close_up(ratio, height=240, width=320, shift=shift)
    ((face,),) = detector_40px.detect([frame])
    check(face, points, size)
    (again,) = detector_40px.follow([frame], [face.box])
    check(again, points, size)


@pytest.mark.parametrize(("size", "outside"), [(120, 0.25), (144, 0.25), (180, 0.3)])
def test_a_face_without_its_chin_is_found(detector_40px, size, outside):
    # O-Net's first scores are 0.84, 0.79 and 0.86; the second's is 0.99 when it is looked at again in its own box.
    height = 283
    shift = (0, height / size / 2 - 0.5 + outside)
    frame, points, _ = close_up(size / height, height=height, width=300, shift=shift)
    ((face,),) = detector_40px.detect([frame])
    check(face, points, size)


@pytest.mark.parametrize("size", [24, 30, 39])
def test_a_face_below_forty_pixels_is_found_where_that_is_asked_for(detector, size):
    # In the middle of a frame, and with a frame that is no larger.
    for shape in ((120, 160), (size, round(0.9 * size))):
        frame, points, size = close_up(size / min(shape), height=shape[0], width=shape[1])
        ((face,),) = detector.detect([frame])
        check(face, points, size)


def test_every_level_that_holds_a_field_of_the_first_network_is_searched():
    for min_face_px, shorter_px in ((20, 368), (40, 368), (40, 41), (40, 40), (40, 39), (300, 1080), (12, 12)):
        sizes = face_sizes(min_face_px, shorter_px)
        assert sizes[0] == min_face_px
        np.testing.assert_allclose(np.diff(np.log(sizes)), np.log(1 / 0.709))
        assert sizes[-1] * 0.709 <= shorter_px < sizes[-1]
    assert face_sizes(40, 28) == []
    with pytest.raises(InputError, match=r"faces\.min_face_px must lie in \[1, inf\]. Received: 0"):
        Faces(min_face_px=0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 64), (13, 400), (27, 27), (39, 41), (40, 40)])
def test_a_frame_too_small_for_a_face_has_none(detector_40px, shape):
    frames = [np.full((*shape, 3), shade, np.uint8) for shade in (0, 90, 255)]
    assert detector_40px.detect(frames) == [[], [], []]
    assert detector_40px.follow(frames, [[0, 0, 40, 40]] * 3) == [None] * 3


def test_close_ups_are_found_in_a_batch_as_alone(detector_40px):
    frames = [close_up(ratio, height=241, width=183)[0] for ratio in (0.5, 0.9, 1.1, 1.3, 1.4)]
    for (one,), frame in zip(detector_40px.detect(frames), frames, strict=True):
        ((alone,),) = detector_40px.detect([frame])
        same(one, alone)

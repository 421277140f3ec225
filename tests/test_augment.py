"""Views of a face, read off pixels computed by hand. Faces are PNG, lossless, which the JPEG decoder reads too."""

import math
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tensorflow as tf

from affect.config import Data
from affect.data.augment import central_view, random_view, random_views, view_faces

ROWS, COLUMNS = np.mgrid[:8, :8]
SIZES = [(256, 256), (256, 256), (255, 255), (97, 97), (224, 224), (64, 80), (80, 64)]
# Each pixel says where it stands: red is 10 × row, green 10 × column.
NUMBERED = np.stack([10 * ROWS, 10 * COLUMNS, np.full((8, 8), 7)], axis=-1).astype(np.uint8)


def png(face):
    return tf.io.encode_png(np.asarray(face, np.uint8))


def view_face(image, view, face_size):
    (face,) = view_faces([image], view, face_size).numpy()
    return face


def cut(face, face_size, **view):
    return view_face(png(face), central_view(1.0) | view, face_size)


def test_the_whole_face_at_its_own_size_is_itself():
    np.testing.assert_array_equal(view_face(png(NUMBERED), central_view(1.0), 8), NUMBERED)


def test_the_central_half():
    np.testing.assert_array_equal(view_face(png(NUMBERED), central_view(0.5), 4), NUMBERED[2:6, 2:6])


def test_the_crop_of_paper_a_is_central():
    face = np.zeros((256, 256, 3), np.uint8)
    face[16:240, 16:240] = 90
    np.testing.assert_array_equal(view_face(png(face), central_view(0.875), 224), np.full((224, 224, 3), 90))


def test_a_smaller_size_is_antialiased():
    # Halved, a pixel weighs four of the face's by 1 3 3 1; at a border three, by 3 3 1.
    expected = [round(50 / 7), 25, 45, round(440 / 7)]
    face = view_face(png(NUMBERED), central_view(1.0), 4)
    np.testing.assert_array_equal(face[..., 0], np.repeat(expected, 4).reshape(4, 4))
    np.testing.assert_array_equal(face[..., 1], np.tile(expected, 4).reshape(4, 4))
    np.testing.assert_array_equal(face[..., 2], np.full((4, 4), 7))


def test_a_larger_size_lies_between_the_faces_pixels():
    face = view_face(png(NUMBERED), central_view(0.25), 4)  # Rows and columns 3 and 4.
    np.testing.assert_array_equal(face[:, 0, 0], [30, 32, 38, 40])  # 30 + 10 × (0, ¼, ¾, 1), to even.
    np.testing.assert_array_equal(face[0, :, 1], [30, 32, 38, 40])


@pytest.mark.parametrize(
    ("offset", "rows", "columns"),
    [
        ((0.0, 0.0), slice(0, 4), slice(0, 4)),
        ((1.0, 0.0), slice(4, 8), slice(0, 4)),
        ((0.25, 0.75), slice(1, 5), slice(3, 7)),
    ],
)
def test_the_offset_says_how_far_down_and_to_the_right_the_crop_lies(offset, rows, columns):
    face = cut(NUMBERED, 4, crop_ratio=0.5, offset=tf.constant(offset))
    np.testing.assert_array_equal(face, NUMBERED[rows, columns])


def test_a_flip_mirrors_left_and_right():
    np.testing.assert_array_equal(cut(NUMBERED, 8, flip=tf.constant(True)), NUMBERED[:, ::-1])
    np.testing.assert_array_equal(cut(NUMBERED, 8, flip=tf.constant(False)), NUMBERED)


@pytest.mark.parametrize(("degrees", "row", "column"), [(90, 4, 7), (-90, 4, 1), (180, 1, 4), (0, 7, 4)])
def test_a_positive_angle_turns_anticlockwise(degrees, row, column):
    face = np.zeros((9, 9, 3), np.uint8)
    face[7, 4] = 200  # Below the centre.
    turned = cut(face, 9, angle_rad=math.radians(degrees))
    expected = np.zeros((9, 9, 3), np.uint8)
    expected[row, column] = 200
    np.testing.assert_array_equal(turned, expected)


def test_what_a_turn_brings_in_is_the_border_reflected():
    # Turned by 45°, the top left corner shows row 4 - 4√2 = -1.657, the mirror image of row 0.657.
    face = np.repeat(10 * np.arange(9), 9 * 3).reshape(9, 9, 3)
    assert cut(face, 9, angle_rad=math.pi / 4)[0, 0].tolist() == [7, 7, 7]


@pytest.mark.parametrize("level", [1, 100, 254, 255])
@pytest.mark.parametrize("degrees", [-10, 3, 7.7, 45])
def test_a_turn_leaves_a_flat_face_as_it_is(level, degrees):
    face = np.full((16, 16, 3), level)
    np.testing.assert_array_equal(cut(face, 16, angle_rad=math.radians(degrees)), face)


def test_a_turn_does_not_darken():
    face = np.repeat(3 * np.arange(64), 64 * 3).reshape(64, 64, 3)  # Even brightness: the middle's mean is the same.
    turned = cut(face, 64, angle_rad=math.radians(5))
    assert turned[16:48, 16:48].mean() == pytest.approx(3 * 31.5, abs=0.05)


def test_the_same_seed_gives_the_same_view_and_another_seed_another():
    data = Data(crop_ratio=0.5, flip=True, rotation_deg=10.0)
    views = [random_view(data, tf.constant(seed)) for seed in ([3, 4], [3, 4], [3, 5], [4, 4])]
    face = np.random.default_rng(0).integers(0, 256, (32, 32, 3))
    faces = [view_face(png(face), view, 16) for view in views]
    np.testing.assert_array_equal(faces[0], faces[1])
    for other in faces[2:]:
        assert not np.array_equal(faces[0], other)
    assert float(views[0]["angle_rad"]) == float(views[1]["angle_rad"])


def test_random_views_fill_their_ranges():
    data = Data(crop_ratio=0.875, flip=True, rotation_deg=10.0)
    views = [random_view(data, tf.constant([1, seed])) for seed in range(300)]
    offsets = np.array([view["offset"] for view in views])
    degrees = np.degrees([view["angle_rad"] for view in views])
    assert 0 <= offsets.min() < 0.02 and 0.98 < offsets.max() < 1
    assert -10 <= degrees.min() < -9.5 and 9.5 < degrees.max() <= 10
    assert 110 < sum(bool(view["flip"]) for view in views) < 190
    assert {view["crop_ratio"] for view in views} == {0.875}


def test_a_crop_that_is_not_random_is_central_and_changes_no_other_draw():
    for seed in range(5):
        view = random_view(Data(random_crop=False), tf.constant([1, seed]))
        twin = random_view(Data(random_crop=True), tf.constant([1, seed]))
        assert view["offset"].numpy().tolist() == [0.5, 0.5] != twin["offset"].numpy().tolist()
        assert (bool(view["flip"]), float(view["angle_rad"])) == (bool(twin["flip"]), float(twin["angle_rad"]))


def test_what_is_turned_off_stays_off():
    data = Data(crop_ratio=1.0, flip=False, rotation_deg=0.0)
    for seed in range(10):
        face = view_face(png(NUMBERED), random_view(data, tf.constant([0, seed])), 8)
        np.testing.assert_array_equal(face, NUMBERED)


@pytest.mark.parametrize("view", [central_view(0.875), random_view(Data(), tf.constant([0, 0]))])
def test_the_view_is_bytes_of_the_models_size(view):
    face = view_face(png(np.random.default_rng(0).integers(0, 256, (48, 48, 3))), view, 32)
    assert face.dtype == np.uint8
    assert face.shape == (32, 32, 3)


def test_red_is_the_first_channel_of_a_jpeg():
    jpeg = tf.io.encode_jpeg(np.full((16, 16, 3), (250, 10, 20), np.uint8), quality=100)
    assert np.abs(view_face(jpeg, central_view(1.0), 8) - np.array([250, 10, 20])).max() <= 3


def test_a_grey_jpeg_has_three_equal_channels():
    jpeg = tf.io.encode_jpeg(np.full((16, 16, 1), 77, np.uint8), format="grayscale", quality=100)
    np.testing.assert_array_equal(view_face(jpeg, central_view(1.0), 8), np.full((8, 8, 3), 77))


def test_a_face_that_is_not_square_is_cut_to_its_central_square():
    wide = np.concatenate([np.full((8, 2, 3), 255), NUMBERED, np.full((8, 2, 3), 255)], axis=1)
    np.testing.assert_array_equal(view_face(png(wide), central_view(1.0), 8), NUMBERED)


def view_by_tensorflow(jpeg, view, face_size):
    """A view in operations on one face, as affect made them before it viewed all faces of a clip in one call."""
    face = tf.io.decode_jpeg(jpeg, channels=3, dct_method="INTEGER_ACCURATE")
    side = max(1, int(tf.round(tf.cast(min(face.shape[:2]), tf.float32) * view["crop_ratio"])))
    top, left = (int(tf.round(view["offset"][axis] * (face.shape[axis] - side))) for axis in (0, 1))
    face = face[top : top + side, left : left + side]
    if view["angle_rad"] is not None:
        angle, centre = float(view["angle_rad"]), (side - 1) / 2
        cos, sin = np.cos(angle), np.sin(angle)
        matrix = [[cos, -sin, centre * (1 - cos + sin)], [sin, cos, centre * (1 - cos - sin)]]
        how, border = {
            "reflect": (cv2.INTER_LINEAR, cv2.BORDER_REFLECT),
            "black": (cv2.INTER_NEAREST, cv2.BORDER_CONSTANT),
        }[view["border"]]
        how |= cv2.WARP_INVERSE_MAP
        face = cv2.warpAffine(face.numpy(), np.array(matrix), (side, side), flags=how, borderMode=border)
    if view["flip"]:
        face = tf.reverse(face, [1])
    if side == face_size:
        return face
    return tf.round(tf.image.resize(tf.cast(face, tf.float32), (face_size, face_size), antialias=True))


@pytest.mark.parametrize("face_size", [1, 48, 96, 224])
@pytest.mark.parametrize("border", ["reflect", "black", None])
def test_all_faces_at_once_are_what_tensorflow_makes_of_each(border, face_size):
    """Bit by bit, so that training with a given seed sees what it saw before."""
    draw = np.random.default_rng(face_size).integers
    data = Data(rotation_border=border or "reflect", rotation_deg=10.0 if border else 0.0, view_per_frame=True)
    faces = [cv2.GaussianBlur(draw(0, 256, (*size, 3)).astype(np.uint8), (5, 5), 2) for size in SIZES]
    jpegs = [tf.io.encode_jpeg(face, quality=95) for face in faces]
    views = random_views(data, tf.constant([1, 2]), tf.range(len(jpegs)))
    found = view_faces(jpegs, views, face_size)
    for place, jpeg in enumerate(jpegs):
        view = random_view(data, tf.random.fold_in([1, 2], place))
        np.testing.assert_array_equal(found[place], view_by_tensorflow(jpeg, view, face_size))


def test_a_face_that_is_absent_is_black():
    found = view_faces(["", png(NUMBERED).numpy()], central_view(1.0), 8)
    np.testing.assert_array_equal(found, [np.zeros_like(NUMBERED), NUMBERED])


def test_one_view_of_a_clip_is_the_view_of_each_of_its_frames():
    data, seed = Data(), tf.constant([3, 4])
    view, shared = random_view(data, seed), random_views(data, seed, tf.range(5))
    image = png(NUMBERED).numpy()
    faces = view_faces([image] * 5, shared, 16).numpy()
    np.testing.assert_array_equal(faces, np.stack([view_face(image, view, 16)] * 5))


def test_a_crop_of_nothing_is_one_pixel():
    np.testing.assert_array_equal(cut(np.full((8, 8, 3), 30), 4, crop_ratio=0.0), np.full((4, 4, 3), 30))


def test_a_script_may_end_while_its_batches_are_read(shards):
    code = (
        "import sys\n"
        "from affect.config import load_config\n"
        "from affect.training.train import prepare_training\n"
        "from affect.tasks import find_task\n"
        "experiment = load_config('smoke', ['data.rotation_deg=5'])\n"
        "training = prepare_training(experiment, sys.argv[1])\n"
        "model = find_task(experiment).build(experiment.model, training.classes, experiment.train)\n"
        "batches = iter(training.batches(model)[0])\n"
        "next(batches)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, shards], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]

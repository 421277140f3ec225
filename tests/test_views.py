"""The view of evaluation in NumPy equals the one in a TensorFlow graph, bit by bit."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from affect.config import Data, Windows
from affect.data.augment import view_centre_in_graph
from affect.data.clips import Clip, Face
from affect.data.lgbp import to_grey
from affect.data.recordings import EvaluationGrid, read_windows, recording_of
from affect.data.views import scale_face, view_centre
from affect.data.windows import eval_windows

SIZES = [1, 2, 3, 17, 32, 48, 63, 64, 65, 95, 96, 112, 128, 168, 196, 224, 256, 511]


def draw(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def encode(face, suffix=".jpg", quality=95):
    return cv2.imencode(suffix, face, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


@pytest.mark.parametrize("size", [1, 16, 48, 64, 96, 112, 224])
def test_a_face_is_scaled_as_tensorflow_does(size):
    for length in SIZES:
        face = draw(length, length, size)
        expected = tf.round(tf.image.resize(tf.cast(face, tf.float32), (size, size), antialias=True))
        np.testing.assert_array_equal(scale_face(face, size), expected, err_msg=f"{length} to {size}")


@pytest.mark.parametrize("face_size", [None, 16, 64, 224])
@pytest.mark.parametrize("crop_ratio", [1.0, 0.875, 0.9, 0.5, 1 / 3])
def test_the_central_view_is_the_one_of_the_graph(crop_ratio, face_size):
    for index, (height, width) in enumerate([(64, 64), (97, 97), (224, 224), (255, 255), (40, 57), (57, 40)]):
        for suffix, quality in ((".jpg", 95), (".jpg", 60), (".png", 0)):
            image = encode(cv2.GaussianBlur(draw(height, width, index), (5, 5), 2), suffix, quality)
            expected = view_centre_in_graph(image, crop_ratio, face_size)
            np.testing.assert_array_equal(view_centre(image, crop_ratio, face_size), expected)


def test_a_grey_face_has_three_equal_channels():
    image = encode(draw(32, 32)[..., 0])
    np.testing.assert_array_equal(view_centre(image, 1.0, 16), view_centre_in_graph(image, 1.0, 16))


def test_a_face_that_is_no_image_is_an_error():
    with pytest.raises(ValueError, match="A face of 3 bytes is no image"):
        view_centre(b"abc", 1.0, 16)


def test_grey_is_as_tensorflow_computes_it():
    levels = np.arange(0, 256, 3, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1)
    np.testing.assert_array_equal(to_grey(colours), tf.image.rgb_to_grayscale(colours)[..., 0])


@pytest.mark.parametrize("features", ["faces", "lgbp_top"])
@pytest.mark.parametrize("each_end", [False, True])
def test_windows_in_memory_are_those_of_the_graph(each_end, features):
    """21 faces with a gap, in windows of 5 frames."""
    times_s = [index / 10 for index in range(24) if index not in (6, 7, 15)]
    faces = [
        Face(time_s, encode(draw(40, 40, i)), (0.0,) * 4, (0.0,) * 10, 1.0, (0.0,) * 6)
        for i, time_s in enumerate(times_s)
    ]
    recording = recording_of(Clip("film.mp4", faces=faces))
    windows, data = Windows(length_s=0.5, frame_rate_hz=10.0, delay_s=0.0), Data(batch_clips=3, crop_ratio=0.875)
    seen = {"face_size": 32, "features": features}
    expected = [*eval_windows([recording], windows, data, each_end=each_end, **seen).as_numpy_iterator()]
    found = [*read_windows([recording], EvaluationGrid(windows, each_end), data, **seen)]
    assert len(found) == len(expected) > 1
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.keys() == theirs.keys()
        for name, value in theirs.items():
            assert mine[name].dtype == value.dtype
            np.testing.assert_array_equal(mine[name], value, err_msg=name)

"""Views of a face: the crop of the stored face that the model sees. A view is drawn for a clip or for a frame."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import cv2
import numpy as np
import tensorflow as tf

from affect.config import Data
from affect.config.experiment import Border

_BORDERS = {"reflect": (cv2.INTER_LINEAR, cv2.BORDER_REFLECT), "black": (cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)}


def central_view(crop_ratio: float) -> dict[str, Any]:
    """Returns the view of evaluation: a central square, neither mirrored nor turned.

    Args:
        crop_ratio: Side of the square as a share of the side of the face.
    """
    view = {"crop_ratio": crop_ratio, "offset": tf.constant([0.5, 0.5]), "flip": False}
    return view | {"angle_rad": None, "border": "reflect"}


def random_view(data: Data, seed: tf.Tensor) -> dict[str, Any]:
    """Draws a view of training.

    Args:
        data: `crop_ratio`, `random_crop`, `flip`, `rotation_deg` and `rotation_border` are used.
        seed: int (2,). The same seed gives the same view.

    Returns:
        Dict that `view_face` takes.
    """
    draw = tf.random.stateless_uniform([4], seed)
    limit_rad = data.rotation_deg * 3.141592653589793 / 180
    return {
        "crop_ratio": data.crop_ratio,
        "offset": draw[:2] if data.random_crop else tf.constant([0.5, 0.5]),
        "flip": tf.logical_and(data.flip, draw[2] < 0.5),
        "angle_rad": (2 * draw[3] - 1) * limit_rad if data.rotation_deg else None,
        "border": data.rotation_border if data.rotation_deg else "reflect",
    }


def view_face(jpeg: tf.Tensor | bytes, view: Mapping[str, Any], face_size: int | None) -> tf.Tensor:
    """Decodes a face and applies a view: crop, turn about the centre (`turn_face`), mirror, scale (antialiased).

    Args:
        jpeg: Scalar string.
        view: From `central_view` or `random_view`.
        face_size: Height and width of the result in pixels; `None` does not scale.

    Returns:
        uint8 (face_size, face_size, 3), RGB.
    """
    face = tf.io.decode_jpeg(jpeg, channels=3, dct_method="INTEGER_ACCURATE")
    side = tf.cast(tf.minimum(tf.shape(face)[0], tf.shape(face)[1]), tf.float32)
    crop = tf.maximum(tf.cast(tf.round(side * view["crop_ratio"]), tf.int32), 1)
    room = tf.cast(tf.shape(face)[:2] - crop, tf.float32)
    top_left = tf.cast(tf.round(view["offset"] * room), tf.int32)
    face = tf.slice(face, tf.concat([top_left, [0]], 0), tf.stack([crop, crop, 3]))
    if view["angle_rad"] is not None:
        face = turn_face(face, view["angle_rad"], view["border"])
    if view["flip"] is not False:
        face = tf.cond(view["flip"], lambda: tf.reverse(face, [1]), lambda: face)
    if face_size is None:
        return face
    return tf.cond(crop == face_size, lambda: face, lambda: _scale(face, face_size))


def _scale(face, face_size):
    scaled = tf.image.resize(face, (face_size, face_size), antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(scaled), 0, 255), tf.uint8)


def turn_face(face: tf.Tensor, angle_rad: tf.Tensor | float, border: Border = "reflect") -> tf.Tensor:
    """Returns a face turned anticlockwise about its centre, uint8 (H, W, 3).

    OpenCV turns it, because TensorFlow's operation takes ten times as long. It is no part of a graph that is exported.

    Args:
        face: uint8 (H, W, 3).
        angle_rad: Angle of the turn.
        border: `"reflect"` interpolates between four pixels and reflects the face at its border; `"black"` takes the
            nearest pixel and leaves the corners black.
    """
    turned = tf.numpy_function(partial(_turn, border=border), [face, tf.cast(angle_rad, tf.float64)], tf.uint8)
    return tf.ensure_shape(turned, (None, None, 3))


def _turn(face, angle_rad, border):
    centre = (face.shape[0] - 1) / 2
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    # Maps pixels of the result to pixels of the face.
    matrix = [[cos, -sin, centre - centre * cos + centre * sin], [sin, cos, centre - centre * sin - centre * cos]]
    flags, mode = _BORDERS[border]
    size = face.shape[1], face.shape[0]
    return cv2.warpAffine(face, np.array(matrix), size, flags=flags | cv2.WARP_INVERSE_MAP, borderMode=mode)

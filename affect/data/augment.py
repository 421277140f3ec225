"""Views of a face: the crop of the stored face that the model sees. A view is drawn for a clip or for a frame."""

import atexit
import gc
from collections.abc import Mapping
from functools import cache, lru_cache, partial
from typing import Any

import cv2
import numpy as np
import tensorflow as tf
from scipy.sparse import csr_array

from affect.config import Data
from affect.config.experiment import Border
from affect.data.views import cut_square, decode_face, list_taps, scale_face

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
        Dict that `view_faces` takes.
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


def random_views(data: Data, seed: tf.Tensor, places: tf.Tensor) -> dict[str, Any]:
    """Draws the view of all frames of a clip, or with `data.view_per_frame` one for each frame.

    Args:
        data: As in `random_view`.
        seed: int (2,).
        places: int (F,), numbers of the frames. With `data.view_per_frame` the draw of a frame depends on its own.

    Returns:
        Dict that `view_faces` takes.
    """
    if not data.view_per_frame:
        return random_view(data, seed)
    shared = random_view(data, seed)  # what is not drawn
    drawn = [name for name in ("offset", "flip", "angle_rad") if shared[name] is not None]

    def draw(place):
        view = random_view(data, tf.random.fold_in(seed, place))
        return {name: view[name] for name in drawn}

    signature = {name: tf.TensorSpec(shared[name].shape, shared[name].dtype) for name in drawn}
    return shared | tf.map_fn(draw, places, fn_output_signature=signature)


def view_faces(jpegs: Any, view: Mapping[str, Any], face_size: int) -> Any:
    """Decodes faces and applies views: crop, turn about the centre (`turn_face`), mirror, scale (antialiased).

    All faces are viewed in one call of NumPy and OpenCV, because operations on single faces take twice as long in a
    TensorFlow graph. This is no part of a graph that is exported.

    Args:
        jpegs: Strings (F,). An empty string gives a black face.
        view: From `central_view` or `random_view`; its `offset`, `flip` and `angle_rad` are of all faces, or have a
            first axis of F.
        face_size: Height and width of the result in pixels.

    Returns:
        uint8 (F, face_size, face_size, 3), RGB.
    """
    _end_iterators_at_exit()
    jpegs = tf.convert_to_tensor(jpegs)
    turns = view["angle_rad"] is not None
    settings = {"crop_ratio": view["crop_ratio"], "border": view["border"] if turns else None, "face_size": face_size}
    draws = spread_view(view, tf.size(jpegs)).values()
    faces = tf.numpy_function(partial(_view, **settings), [jpegs, *draws], tf.uint8)
    return tf.ensure_shape(faces, (jpegs.shape[0], face_size, face_size, 3))


@cache
def _end_iterators_at_exit():
    atexit.register(_end_iterators)


def _end_iterators():
    """Ends the threads of datasets that are still read: a thread that calls Python while it ends aborts the process."""
    for each in gc.get_objects():
        if issubclass(type(each), tf.data.Iterator):
            vars(each).clear()


def spread_view(view: Mapping[str, Any], count: Any) -> dict[str, Any]:
    """Returns what is drawn of a view, for each face: `offset` (F, 2), `flip` and `angle_rad` (F,).

    Args:
        view: As `view_faces` takes it.
        count: Number of faces, F.
    """
    turns = view["angle_rad"] is not None
    angle_rad = tf.cast(view["angle_rad"], tf.float64) if turns else tf.zeros([], tf.float64)
    return {
        "offset": tf.broadcast_to(view["offset"], [count, 2]),
        "flip": tf.broadcast_to(view["flip"], [count]),
        "angle_rad": tf.broadcast_to(angle_rad, [count]),
    }


def _view(jpegs, offsets, flips, angles_rad, *, crop_ratio, border, face_size):
    faces = np.zeros((len(jpegs), face_size, face_size, 3), np.uint8)
    decoded, stored = b"", np.empty(0, np.uint8)
    for place, jpeg in enumerate(jpegs):
        if not jpeg:
            continue
        if jpeg != decoded:  # several views of a face stand side by side
            decoded, stored = jpeg, decode_face(jpeg)
        face = cut_square(stored, crop_ratio, offsets[place])
        if border is not None:
            face = turn_face(face, angles_rad[place], border)
        if flips[place]:
            face = cv2.flip(face, 1)
        faces[place] = scale_face(face, face_size, average_lines_sparse)
    return faces


def average_lines_sparse(lines: np.ndarray, size: int) -> np.ndarray:
    """Does what `affect.data.views.average_lines` does, with SciPy, and is three times as fast.

    Args:
        lines, size: As there.
    """
    return _list_weights(len(lines), size) @ lines.astype(np.float32)


@lru_cache(maxsize=64)
def _list_weights(length: int, size: int) -> csr_array:
    """Returns the weights of `list_taps` as a matrix (size, length). SciPy adds up each row in the order given here."""
    taps, weights = list_taps(length, size)
    return csr_array((weights.ravel(), taps.ravel(), np.arange(size + 1) * taps.shape[1]), shape=(size, length))


def view_centre_in_graph(jpeg: tf.Tensor | bytes, crop_ratio: float, face_size: int | None) -> tf.Tensor:
    """Does what `affect.data.views.view_centre` does, in operations of TensorFlow, which a graph is exported with.

    Args:
        jpeg: Scalar string.
        crop_ratio, face_size: As there.

    Returns:
        uint8 (face_size, face_size, 3), RGB.
    """
    face = tf.io.decode_jpeg(jpeg, channels=3, dct_method="INTEGER_ACCURATE")
    side = tf.cast(tf.minimum(tf.shape(face)[0], tf.shape(face)[1]), tf.float32)
    crop = tf.maximum(tf.cast(tf.round(side * crop_ratio), tf.int32), 1)
    room = tf.cast(tf.shape(face)[:2] - crop, tf.float32)
    top_left = tf.cast(tf.round(0.5 * room), tf.int32)
    face = tf.slice(face, tf.concat([top_left, [0]], 0), tf.stack([crop, crop, 3]))
    if face_size is None:
        return face
    return tf.cond(crop == face_size, lambda: face, lambda: _scale(face, face_size))


def _scale(face, face_size):
    scaled = tf.image.resize(face, (face_size, face_size), antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(scaled), 0, 255), tf.uint8)


def turn_face(face: np.ndarray, angle_rad: float, border: Border = "reflect") -> np.ndarray:
    """Returns a face turned anticlockwise about its centre, uint8 (H, W, 3).

    Args:
        face: uint8 (H, W, 3).
        angle_rad: Angle of the turn.
        border: `"reflect"` interpolates between four pixels and reflects the face at its border; `"black"` takes the
            nearest pixel and leaves the corners black.
    """
    centre = (face.shape[0] - 1) / 2
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    # Maps pixels of the result to pixels of the face.
    matrix = [[cos, -sin, centre - centre * cos + centre * sin], [sin, cos, centre - centre * sin - centre * cos]]
    flags, mode = _BORDERS[border]
    size = face.shape[1], face.shape[0]
    # With a fourth channel OpenCV gives the same numbers in less than half of the time.
    turned = cv2.warpAffine(
        cv2.cvtColor(face, cv2.COLOR_RGB2RGBA),
        np.array(matrix),
        size,
        flags=flags | cv2.WARP_INVERSE_MAP,
        borderMode=mode,
    )
    return cv2.cvtColor(turned, cv2.COLOR_RGBA2RGB)

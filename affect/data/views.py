"""The view of evaluation in NumPy: what a model sees of a stored face. The numbers equal those of the tf.data batches.

`affect.data.augment` computes the same in a TensorFlow graph, and the views of training. A test compares the two, bit
by bit. So an artefact reads a video without TensorFlow, and sees what its network saw.
"""

from functools import lru_cache

import cv2
import numpy as np

from affect.config import Data
from affect.config.experiment import FrameSpacing
from affect.data.clips import Clip, Face


def view_centre(jpeg: bytes, crop_ratio: float, face_size: int | None) -> np.ndarray:
    """Decodes a face, cuts its central square and scales it.

    Args:
        jpeg: JPEG or PNG.
        crop_ratio: Side of the square as a share of the shorter side of the face.
        face_size: Height and width of the result in pixels; `None` does not scale.

    Returns:
        uint8 (face_size, face_size, 3), RGB.

    Raises:
        ValueError: If the image cannot be decoded.
    """
    face = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if face is None:
        raise ValueError(f"A face of {len(jpeg)} bytes is no image that can be decoded.")
    side = max(1, round(np.float32(min(face.shape[:2])) * np.float32(crop_ratio)))
    top, left = (round((length - side) / 2) for length in face.shape[:2])
    face = face[top : top + side, left : left + side]
    return face if face_size is None else scale_face(face, face_size)


def scale_face(face: np.ndarray, size: int) -> np.ndarray:
    """Scales a face as `tf.image.resize(face, (size, size), antialias=True)` does, and rounds it.

    Each pixel of the result is a weighted mean, first of rows and then of columns. The weights are a triangle, which is
    as wide as the scale when the face shrinks. Sums are float32, in the order of TensorFlow's.

    Args:
        face: uint8 (H, W, 3).
        size: Height and width of the result in pixels.

    Returns:
        uint8 (size, size, 3).
    """
    if face.shape[:2] == (size, size):
        return face
    rows, weights = _list_taps(face.shape[0], size)
    high = np.zeros((size, *face.shape[1:]), np.float32)
    for tap in range(rows.shape[1]):
        high += weights[:, tap, None, None] * face[rows[:, tap]]
    columns, weights = _list_taps(face.shape[1], size)
    scaled = np.zeros((size, size, 3), np.float32)
    for tap in range(columns.shape[1]):
        scaled += weights[:, tap, None] * high[:, columns[:, tap]]
    return np.rint(scaled).clip(0, 255).astype(np.uint8)


@lru_cache(maxsize=64)
def _list_taps(length: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pixels that each pixel of a scaled line is the mean of, int (size, K), and their weights, float32."""
    one, half = np.float32(1), np.float32(0.5)
    step = np.float32(1 / float(np.float32(size) / np.float32(length)))
    reach = max(step, one)
    centres = (np.arange(size, dtype=np.float32) + half) * step
    first = np.ceil(centres - reach - half).astype(int).clip(0, length - 1)
    last = np.floor(centres + reach - half).astype(int).clip(0, length - 1)
    pixels = first[:, None] + np.arange((last - first).max() + 1)
    distances = np.abs((pixels.astype(np.float32) + half - centres[:, None]) * (one / reach))
    weights = np.where(pixels <= last[:, None], np.maximum(one - distances, 0), 0).astype(np.float32)
    total = np.zeros(size, np.float32)
    for tap in weights.T:  # in this order, because float32 sums depend on it
        total += tap
    return np.minimum(pixels, length - 1), weights * (one / total)[:, None]


def space_evenly(total: int, most: int, spacing: FrameSpacing = "nearest") -> np.ndarray:
    """Returns the indices of evenly spaced frames, int32 (min(total, most),).

    Args:
        total: Number of frames.
        most: Largest number of indices.
        spacing: Which frame a position between two frames means: the `"nearest"`, or the frame before it, `"floor"`.
    """
    count = min(total, most)
    places = np.arange(count) * (max(total - 1, 0) / max(count - 1, 1))
    if spacing == "nearest":
        return np.rint(places).astype(np.int32)
    chosen = np.floor(places).astype(np.int32)
    if count > 1:
        chosen[-1] = total - 1  # the product may be rounded down
    return chosen


def clip_inputs(clip: Clip, data: Data, face_size: int) -> tuple[dict[str, np.ndarray], list[Face]]:
    """Returns the model's inputs for one clip, with the frames and the view of `affect.data.batches.eval_batches`.

    Args:
        clip: With at least one face.
        data: How clips are sampled.
        face_size: Height and width of the model's faces in pixels.

    Returns:
        `(inputs, chosen)`: dict of `faces` uint8 (1, F, H, W, 3) and `frame_mask` bool (1, F); the F chosen faces.
    """
    chosen = [clip.faces[place] for place in space_evenly(len(clip.faces), data.eval_frames, data.frame_spacing)]
    pixels = np.stack([view_centre(face.jpeg, data.crop_ratio, face_size) for face in chosen])[None]
    return {"faces": pixels, "frame_mask": np.ones((1, len(chosen)), bool)}, chosen

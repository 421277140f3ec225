"""What a model sees of a stored face, in NumPy and OpenCV: the view of evaluation, and the parts of all views.

`affect.data.augment` makes the views of training from these parts, and computes the view of evaluation in a TensorFlow
graph too, because exported models need it there. A test compares the two, bit by bit. So an artefact reads a video
without TensorFlow, and sees what its network saw.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import cv2
import numpy as np

from affect.config import Data, Faces
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
    face = cut_square(decode_face(jpeg), crop_ratio)
    return face if face_size is None else scale_face(face, face_size)


def decode_face(jpeg: bytes) -> np.ndarray:
    """Decodes a face, uint8 (H, W, 3), RGB.

    Args:
        jpeg: JPEG or PNG.

    Raises:
        ValueError: If the image cannot be decoded.
    """
    face = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if face is None:
        raise ValueError(f"A face of {len(jpeg)} bytes is no image that can be decoded.")
    return face


def cut_square(face: np.ndarray, crop_ratio: float, offset: Sequence[float] | np.ndarray = (0.5, 0.5)) -> np.ndarray:
    """Cuts a square out of a face.

    Args:
        face: uint8 (H, W, 3).
        crop_ratio: Side of the square as a share of the shorter side of the face.
        offset: Where it lies, down and to the right: 0 is at the border, 1 at the other one.

    Returns:
        A part of `face`, not a copy.
    """
    side = max(1, round(np.float32(min(face.shape[:2])) * np.float32(crop_ratio)))
    top, left = (
        round(np.float32(share) * np.float32(length - side))
        for share, length in zip(offset, face.shape[:2], strict=True)
    )
    return face[top : top + side, left : left + side]


def place_template(faces: Faces, crop_ratio: float, face_size: int) -> np.ndarray:
    """Returns where the landmarks of a face go in what a model sees: the template, cropped and scaled as the face is.

    A program that cuts faces for the model itself, such as an app, brings landmarks to these places.

    Args:
        faces: `template`, `margin_ratio` and `face_size` are used.
        crop_ratio: As in `view_centre`.
        face_size: Height and width of the model's faces in pixels.

    Returns:
        float64 (5, 2), x and y of the centres of pixels, in the order of `affect.data.clips.LANDMARKS`.
    """
    stored = (np.array(faces.template) + faces.margin_ratio) / (1 + 2 * faces.margin_ratio) * faces.face_size
    places = np.arange(faces.face_size)
    kept = cut_square(np.broadcast_to(places[:, None], (faces.face_size, faces.face_size)), crop_ratio)[:, 0]
    return (stored - kept[0] + 0.5) * face_size / len(kept) - 0.5


def average_lines(lines: np.ndarray, size: int) -> np.ndarray:
    """Scales the first axis: each line of the result is a weighted mean of lines, as in `scale_face`.

    Args:
        lines: (H, N).
        size: Number of lines of the result.

    Returns:
        float32 (size, N).
    """
    taps, weights = list_taps(len(lines), size)
    scaled = np.zeros((size, lines.shape[1]), np.float32)
    for tap in range(taps.shape[1]):
        scaled += weights[:, tap, None] * lines[taps[:, tap]]
    return scaled


def scale_face(
    face: np.ndarray, size: int, average: Callable[[np.ndarray, int], np.ndarray] = average_lines
) -> np.ndarray:
    """Scales a face as `tf.image.resize(face, (size, size), antialias=True)` does, and rounds it.

    Each pixel of the result is a weighted mean, first of rows and then of columns. The weights are a triangle, which is
    as wide as the scale when the face shrinks. Sums are float32, in the order of TensorFlow's.

    Args:
        face: uint8 (H, W, 3).
        size: Height and width of the result in pixels.
        average: `average_lines`, or another function that gives the same numbers.

    Returns:
        uint8 (size, size, 3).
    """
    height, width = face.shape[:2]
    if (height, width) == (size, size):
        return face
    rows = average(face.reshape(height, -1), size)
    # Columns become rows, because lines that are contiguous are averaged faster.
    columns = average(cv2.transpose(rows.reshape(size, width, 3)).reshape(width, -1), size)
    return cv2.transpose(np.rint(columns).clip(0, 255).astype(np.uint8).reshape(size, size, 3))


@lru_cache(maxsize=64)
def list_taps(length: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pixels that each pixel of a scaled line is the mean of, int (size, K), and their weights, float32.

    Args:
        length: Of the line, in pixels.
        size: Length of the scaled line in pixels.
    """
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

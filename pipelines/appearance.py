"""Descriptors of faces, scene cuts and dissolves, by which the people of one video are told apart.

The descriptor of a face is computed from its upright picture: lightness and colour on a coarse grid, and the strength
of edges by direction. Pixels count less the farther they are from the middle, because the background changes behind a
head. This is no face recognition: it compares faces of one video, filmed by one camera. The features of MTCNN and of
the backbones are not used: a network that finds faces or reads expressions learns to ignore who a person is, and other
detectors have no features.
"""

from collections.abc import Iterable
from itertools import pairwise

import cv2
import numpy as np

# A scene is cut if at least this share of the pixels changes its colour. There are 512 colours.
CUT_RATIO = 0.5
# One picture dissolves into another if a picture between them is a mixture of both: its share of either is at least
# MIXED_SHARE, its difference from the mixture is less than MIXED_REST of their difference, and they differ by at least
# MIXED_LEVELS of 256 levels. They are at most DISSOLVE_S apart. Pictures of the size THUMB are compared, at least
# DISSOLVE_STEP_S apart.
MIXED_SHARE, MIXED_REST, MIXED_LEVELS = 0.3, 0.12, 20.0
DISSOLVE_S, DISSOLVE_STEP_S, THUMB = 2.0, 0.08, (32, 24)
# Side of the upright picture, as a multiple of the distance from the eyes to the mouth, and in pixels.
SIDE_RATIO, SIDE_PX = 2.6, 32
# The picture is divided into GRID × GRID places for lightness and colour, and CELLS × CELLS for edges.
GRID, CELLS = 8, 4
DIRECTIONS = 8
# Weights of lightness, colour and edges. The mean of lightness and colour is subtracted, because lamps change it.
LIGHT, COLOUR, EDGES = 1.35, 1.0, 2.7
# Width and height of the head, an ellipse, as a share of the picture. Pixels outside have almost no weight.
HEAD_RATIO = 0.72, 0.85
# Distances of two descriptors. 35 faces were pasted ten times each on coloured backgrounds, rotated, scaled, made
# lighter or darker, and encoded as JPEG. Of 1,558 pairs of one person 98.8 % are closer than ALIKE and 99.4 % closer
# than DIFFERENT. Of 58,820 pairs of two people none is closer than ALIKE, and 0.9 % are closer than DIFFERENT.
ALIKE, DIFFERENT = 1.0, 1.25
# A picture whose lightness varies by fewer of 256 levels is flat and has no descriptor.
FLAT_LEVELS = 2.0


def _weigh_head():
    """Returns the weight of each pixel of the upright picture, float32 (SIDE_PX, SIDE_PX) in [0, 1]."""
    y, x = (np.mgrid[:SIDE_PX, :SIDE_PX] + 0.5) * 2 / SIDE_PX - 1
    return np.exp(-(((x / HEAD_RATIO[0]) ** 2 + (y / HEAD_RATIO[1]) ** 2) ** 2)).astype(np.float32)


_WEIGHT = _weigh_head()
_PLACE_WEIGHT = cv2.resize(_WEIGHT, (GRID, GRID), interpolation=cv2.INTER_AREA)
_PLACE_SHARE = (_PLACE_WEIGHT / _PLACE_WEIGHT.sum())[..., None]
_CELL = np.arange(SIDE_PX) * CELLS // SIDE_PX
_CELL = DIRECTIONS * (CELLS * _CELL[:, None] + _CELL)  # first bin of each pixel's cell


def describe_face(frame: np.ndarray, landmarks: np.ndarray) -> np.ndarray | None:
    """Computes the descriptor of a face.

    Args:
        frame: uint8 (H, W, 3), RGB.
        landmarks: float (5, 2): x y in pixels, in the order of `affect.data.clips.LANDMARKS`.

    Returns:
        float32 (3 · GRID² + DIRECTIONS · CELLS²,); `None` if the picture is flat or lies outside the frame.
    """
    face = _cut_upright(frame, np.asarray(landmarks, np.float64))
    if face is None:
        return None
    lab = cv2.cvtColor(face, cv2.COLOR_RGB2LAB).astype(np.float32)
    weighted = cv2.resize(lab * _WEIGHT[..., None], (GRID, GRID), interpolation=cv2.INTER_AREA)
    places = weighted / _PLACE_WEIGHT[..., None]  # (GRID, GRID, 3)
    places -= (places * _PLACE_SHARE).sum(axis=(0, 1))
    places *= np.sqrt(_PLACE_SHARE)
    levels = np.linalg.norm(places[..., 0])
    if levels < FLAT_LEVELS:
        return None
    light, colours = LIGHT * places[..., 0] / (levels + 4), COLOUR * GRID / 100 * places[..., 1:]
    strength, angle = cv2.cartToPolar(
        cv2.Sobel(lab[..., 0], cv2.CV_32F, 1, 0), cv2.Sobel(lab[..., 0], cv2.CV_32F, 0, 1)
    )
    strength, angle = strength * _WEIGHT, angle * np.float32(DIRECTIONS / np.pi)
    direction = angle.astype(int)
    part = strength * (angle - direction)  # of the next direction
    edges = np.bincount((_CELL + direction % DIRECTIONS).ravel(), (strength - part).ravel(), DIRECTIONS * CELLS**2)
    edges += np.bincount((_CELL + (direction + 1) % DIRECTIONS).ravel(), part.ravel(), DIRECTIONS * CELLS**2)
    edges = EDGES * np.sqrt(edges / (edges.sum() + 1e-6))
    return np.concatenate([light.ravel(), colours.ravel(), edges]).astype(np.float32)


def find_cuts(frames: Iterable[np.ndarray]) -> list[int]:
    """Returns the indices of the frames, uint8 (H, W, 3), that begin a new scene."""
    histograms = []
    for frame in frames:
        few = np.ascontiguousarray(frame[::4, ::4])
        histogram = cv2.calcHist([few], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3)
        histograms.append(histogram.ravel() / (few.shape[0] * few.shape[1]))
    return [i for i, (a, b) in enumerate(pairwise(histograms), 1) if np.abs(a - b).sum() / 2 > CUT_RATIO]


class Dissolves:
    """Finds where one scene dissolves into another. It holds a few thumbnails of the last `DISSOLVE_S` seconds."""

    def __init__(self) -> None:
        self._past: list[tuple[float, np.ndarray]] = []  # (timestamp_s, float32 thumbnail)
        self._products = np.zeros((0, 0))  # scalar products of the thumbnails
        self._before_s: float | None = None  # result of the last comparison

    def add(self, timestamp_s: float, frame: np.ndarray) -> float | None:
        """Compares the next frame with the frames before, if the last comparison is `DISSOLVE_STEP_S` ago.

        Args:
            timestamp_s: Time of the frame.
            frame: uint8 (H, W, 3), RGB.

        Returns:
            Time of the earlier frame from which the scene has dissolved into this one; `None` without a dissolve.
        """
        if self._past and 0 <= timestamp_s - self._past[-1][0] < DISSOLVE_STEP_S - 1e-6:
            return self._before_s
        gone = sum(not 0 <= timestamp_s - at_s <= DISSOLVE_S + 1e-6 for at_s, _ in self._past)
        self._past, self._products = self._past[gone:], self._products[gone:, gone:]
        step = max(1, min(frame.shape[0] // 96, frame.shape[1] // 128))
        thumb = cv2.resize(np.ascontiguousarray(frame[::step, ::step]), THUMB, interpolation=cv2.INTER_AREA)
        thumb = thumb.astype(np.float32).ravel() - 128
        products = np.array([*(np.dot(other, thumb) for _, other in self._past), np.dot(thumb, thumb)], np.float64)
        self._before_s = self._find(products, thumb.size)
        self._past.append((timestamp_s, thumb))
        self._products = np.pad(self._products, (0, 1))
        self._products[-1] = self._products[:, -1] = products
        return self._before_s

    def _find(self, products, size):
        """Looks for a mixture among the thumbnails.

        Args:
            products: Scalar products of the next thumbnail with the others, then with itself.
            size: Numbers in a thumbnail.

        Returns:
            As `add`.
        """
        others = products[:-1]
        # Scalar products of the thumbnails' differences from the next one.
        product = self._products - others[:, None] - others + products[-1]
        differ = product.diagonal()
        if not np.any(differ >= size * MIXED_LEVELS**2):
            return None
        # For thumbnail i before j: the share of i in j, and the difference of j from the mixture, as a share of the
        # difference of i from the next thumbnail.
        share = product / np.maximum(differ, 1)[:, None]
        rest = differ / np.maximum(differ, 1)[:, None] - share**2
        mixed = (np.minimum(share, 1 - share) >= MIXED_SHARE) & (rest < MIXED_REST**2)
        mixed &= (differ >= size * MIXED_LEVELS**2)[:, None]
        first = np.flatnonzero(np.triu(mixed, 1).any(axis=1))
        return self._past[first[0]][0] if len(first) else None


def _cut_upright(frame, landmarks):
    """Returns the picture of a face, uint8 (SIDE_PX, SIDE_PX, 3), eyes above mouth; `None` outside the frame."""
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    down, centre = mouth - eyes, (eyes + mouth) / 2
    length = max(float(np.hypot(*down)), 1.0)
    scale = SIDE_PX / (SIDE_RATIO * length)
    # The upright square around the rotated one is first shrunk by area.
    reach = SIDE_RATIO * length / np.sqrt(2)
    x0, y0 = np.clip(np.floor(centre - reach), 0, frame.shape[1::-1]).astype(int)
    x1, y1 = np.clip(np.ceil(centre + reach), 0, frame.shape[1::-1]).astype(int)
    step = max(1, int(0.25 / scale))
    part = frame[y0:y1:step, x0:x1:step]
    if not part.size:
        return None
    shrink = min(1.0, 1.5 * scale * step)
    size = [max(1, round(side * shrink)) for side in part.shape[1::-1]]
    small = cv2.resize(np.ascontiguousarray(part), size, interpolation=cv2.INTER_AREA)
    cosine, sine = (down[1], -down[0]) / np.hypot(*down) if np.any(down) else (1.0, 0.0)
    turn = scale * np.array([[cosine, sine], [-sine, cosine]]) / (np.array(size) / (x1 - x0, y1 - y0))
    middle = (centre - (x0, y0)) * size / (x1 - x0, y1 - y0)
    matrix = np.column_stack([turn, SIDE_PX / 2 - turn @ middle])
    return cv2.warpAffine(small, matrix, (SIDE_PX, SIDE_PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

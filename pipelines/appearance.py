"""What a face looks like in a few numbers, and where a scene is cut: what tells the people of one video apart.

The descriptor of a face is made of its upright picture: lightness and colour on a coarse grid, and the strength of its
edges by direction. It is no face recognition: it compares faces of one video, filmed by one camera.
"""

from itertools import pairwise

import cv2
import numpy as np

# A scene is cut where at least this share of the pixels changes its colour among 512.
CUT_RATIO = 0.5
# Side of the upright picture, as a multiple of the distance from the eyes to the mouth, and in pixels.
SIDE_RATIO, SIDE_PX = 3.2, 32
# The picture is divided into GRID × GRID places for lightness and colour, and CELLS × CELLS for edges.
GRID, CELLS = 8, 4
DIRECTIONS = 8
# Distances of two descriptors. On 67 faces of photographs, turned, scaled, blurred and encoded as JPEG again, 97 % of
# the pairs of one person are closer than ALIKE and all are closer than DIFFERENT; no pair of two people is closer than
# ALIKE, and 1 % is closer than DIFFERENT.
ALIKE, DIFFERENT = 1.0, 1.35
# A picture whose lightness varies less, in levels of 256, shows nothing that could be compared.
FLAT_LEVELS = 2.0

_CELL = np.arange(SIDE_PX) * CELLS // SIDE_PX
_CELL = DIRECTIONS * (CELLS * _CELL[:, None] + _CELL)  # first bin of each pixel's cell


def describe_face(frame, landmarks):
    """Describes what a face looks like.

    Args:
        frame: uint8 (H, W, 3), RGB.
        landmarks: float (5, 2): x y in pixels, in the order of `affect.records.LANDMARKS`.

    Returns:
        float32 (3 · GRID² + DIRECTIONS · CELLS²,); `None` where the picture is flat or lies outside the frame.
    """
    face = _cut_upright(frame, np.asarray(landmarks, np.float64))
    if face is None:
        return None
    lab = cv2.cvtColor(face, cv2.COLOR_RGB2LAB)
    colours = cv2.resize(lab, (GRID, GRID), interpolation=cv2.INTER_AREA).astype(np.float32)
    light, colours = colours[..., 0], (colours[..., 1:] - 128) / 100
    if light.std() < FLAT_LEVELS:
        return None
    light = (light - light.mean()) / (light.std() + 4) / GRID
    grey = lab[..., 0].astype(np.float32)
    strength, angle = cv2.cartToPolar(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    direction = np.minimum(angle % np.pi * (DIRECTIONS / np.pi), DIRECTIONS - 1).astype(int)
    edges = np.bincount((_CELL + direction).ravel(), strength.ravel(), DIRECTIONS * CELLS**2)
    edges = 2 * np.sqrt(edges / (edges.sum() + 1e-6))
    return np.concatenate([light.ravel(), colours.ravel(), edges]).astype(np.float32)


def find_cuts(frames):
    """Returns the indices of the frames, uint8 (H, W, 3), before which the scene is cut."""
    histograms = []
    for frame in frames:
        few = np.ascontiguousarray(frame[::4, ::4])
        histogram = cv2.calcHist([few], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3)
        histograms.append(histogram.ravel() / (few.shape[0] * few.shape[1]))
    return [i for i, (a, b) in enumerate(pairwise(histograms), 1) if np.abs(a - b).sum() / 2 > CUT_RATIO]


def _cut_upright(frame, landmarks):
    """Returns the picture of a face, uint8 (SIDE_PX, SIDE_PX, 3), eyes above the mouth; `None` outside the frame."""
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    down, centre = mouth - eyes, (eyes + mouth) / 2
    length = max(float(np.hypot(*down)), 1.0)
    scale = SIDE_PX / (SIDE_RATIO * length)
    # The upright square around the turned one is first made smaller, by area.
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

"""MTCNN: the networks of the package mtcnn 1.0.0 as TFLite files, without TensorFlow.

`affect.pipelines.detectors.convert_mtcnn` makes the files. What happens between the networks follows the package.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import cv2
import numpy as np

from affect.config import Faces
from affect.pipelines.detectors.litert import Network
from affect.pipelines.tracks import Detection, iou

NETWORKS_FOLDER = Path(__file__).parent / "networks"
# Name of a `.tflite` file in the folder → its SHA-256.
NETWORKS = {
    "p_net": "fb2a6e07982e4a0d3956ee4c39fa471ee96663a48b8380757810d252a8205929",
    "r_net": "27b02452e926fdd03d2468371586ce4f3489caf1f304f3a752a3c9479e19e6be",
    "o_net": "7321a54880b35f3dd9c9a7a599c0f1cd89497e1c1f312f78627898acf5c42eb1",
}
# The package's factor from one level of the image pyramid to the next.
_SCALE_FACTOR = 0.709
# The package's smallest scores of P-Net and R-Net, and the overlaps from which two boxes show one face.
_PROPOSE_SCORE, _REFINE_SCORE = 0.6, 0.7
_SAME_IN_LEVEL_IOU, _SAME_PROPOSAL_IOU = 0.5, 0.7
# The package pads frames with this level, which is 0 after scaling.
_GREY = 127.5
# Side of P-Net's receptive field, and distance from one to the next, in pixels.
_FIELD_PX, _STRIDE_PX = 12, 2
# Sides of the inputs of R-Net and O-Net in pixels.
_REFINE_PX, _OUTPUT_PX = 24, 48
# Faces of at least this share of the frame's shorter side are also searched across the edges of the frame.
_FILLING_RATIO = 0.7
# If O-Net's own box overlaps its input box by at least this, O-Net is as exact as full detection. Otherwise it is run
# again on its own box.
_SETTLED_IOU = 0.8
# O-Net's score depends on the place of its input box. A face of at least this score is examined again in its own box.
_UNSURE_SCORE = 0.3
# Two faces of a larger overlap are one face.
_SAME_FACE_IOU = 0.5
# A point that is farther outside the frame is not on its edge.
_ROUNDING_PX = 1e-4
_BILINEAR = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


def face_sizes(min_face_px: float, shorter_px: float) -> list[float]:
    """Returns the sizes of the faces that P-Net looks for, one for each level of the image pyramid.

    Args:
        min_face_px: Smallest face that is looked for, in pixels.
        shorter_px: Shorter side of the frame in pixels.

    Returns:
        Sizes in pixels, which rise by the package's factor. The last one is the first above `shorter_px`: a face that
        fills the frame is between the last two, and a face that is cut off on all sides is near the last. The list is
        empty if the smallest face is above `shorter_px` itself.
    """
    sizes, size = [], float(min_face_px)
    while size * _SCALE_FACTOR <= shorter_px:
        sizes.append(size)
        size /= _SCALE_FACTOR
    return sizes


class Mtcnn:
    """Detects faces and five landmarks with MTCNN (Zhang et al., 2016, arXiv 1604.02878).

    A face is the same whatever other faces and frames are searched with it, and with any number of threads or workers.

    Args:
        faces: `min_face_px` and `score_threshold` are used.
    """

    def __init__(self, faces: Faces):
        self.min_face_px = faces.min_face_px
        self.score_threshold = faces.score_threshold
        networks = (Network(NETWORKS_FOLDER / f"{name}.tflite") for name in NETWORKS)
        self._propose_net, self._refine_net, self._output_net = networks
        self._lock = Lock()  # networks and buffers are for one thread at a time
        # The halved frame as uint8 and as float32. To allocate them for each frame took longer than to halve it.
        self._halved = np.empty((0, 0, 3), np.uint8), np.empty((0, 0, 3), np.float32)

    def detect(self, frames: Sequence[np.ndarray]) -> list[list[Detection]]:
        """Detects the faces of each frame.

        Args:
            frames: uint8 (H, W, 3), RGB.

        Returns:
            The faces of each frame, best first; empty for a frame without a face.
        """
        with self._lock:
            return [self._detect(frame) for frame in frames]

    def _detect(self, frame):
        boxes = self._propose(frame)
        boxes = self._refine(frame, boxes) if len(boxes) else boxes
        if not len(boxes):
            return []
        found = self._look([frame] * len(boxes), boxes)
        found = [one for one in found if one.score > min(_UNSURE_SCORE, self.score_threshold)]
        boxes, scores = np.reshape([one.box for one in found], (-1, 4)), np.array([one.score for one in found])
        kept = suppress(boxes, scores, _SAME_PROPOSAL_IOU, of_smaller=True)
        return self._look_again(frame, [found[index] for index in kept])

    def _propose(self, frame):
        """Runs P-Net on every level of the pyramid, from the smallest face to one that is larger than the frame.

        mtcnn 1.0 counts the levels as if the smallest face had 12 pixels. With a smallest face of 20 pixels it
        therefore stops at faces of about 0.85 of the frame's shorter side. With a larger one its last levels are too
        small for P-Net, which raises an error, and the package reports "no faces" for the whole batch.

        Returns:
            float64 (N, 4): square boxes.
        """
        sides, halved = frame.shape[:2], self._halve(frame)
        found = []  # boxes and scores of each level
        for face_px in face_sizes(self.min_face_px, min(sides)):
            scale = _FIELD_PX / face_px
            level = _shrink(halved, *(int(side * scale + 1e-6) for side in sides))
            # The other networks get the same grey outside the frame.
            edge = _FIELD_PX // 2 if face_px > _FILLING_RATIO * min(sides) else 0
            if edge:
                level = cv2.copyMakeBorder(level, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=[_GREY] * 3)
            outputs = self._propose_net(level)
            rows, columns = (outputs[2][..., 1] > _PROPOSE_SCORE).nonzero()
            if not len(rows):
                continue
            # The package's boxes begin one pixel after the field.
            fields = _STRIDE_PX * np.stack([columns, rows, columns, rows], axis=1) + (1, 1, _FIELD_PX, _FIELD_PX)
            here = fields + (_FIELD_PX - 1.0) * outputs[4][rows, columns]
            score = outputs[2][rows, columns, 1]
            kept = suppress(here, score, _SAME_IN_LEVEL_IOU)
            found.append(((here[kept] - edge) / scale, score[kept]))
        if not found:
            return np.empty((0, 4))
        boxes, scores = map(np.concatenate, zip(*found, strict=True))
        return make_square(boxes[suppress(boxes, scores, _SAME_PROPOSAL_IOU)])

    def _halve(self, frame):
        """Shrinks a frame by 2, once or more, while the smallest face in it is wider than 1.5 times P-Net's field.

        Returns:
            float32 (H, W, 3), which the next call overwrites.
        """
        factor = 2 ** max(0, math.floor(math.log2(self.min_face_px / (1.5 * _FIELD_PX))))
        height, width = (math.ceil(side / factor) for side in frame.shape[:2])
        if self._halved[0].shape != (height, width, 3):
            self._halved = np.empty((height, width, 3), np.uint8), np.empty((height, width, 3), np.float32)
        small, halved = self._halved
        np.copyto(halved, _shrink(frame, height, width, small))
        return halved

    def _refine(self, frame, boxes):
        """Runs R-Net on the boxes of P-Net. Returns the boxes that remain, moved and square, (N, 4)."""
        if (boxes[:, 2:] - boxes[:, :2]).prod(axis=1).sum() > math.prod(frame.shape[:2]):
            frame = frame.astype(np.float32)  # faster than to convert the part of each patch
        outputs = [self._refine_net(patch) for patch in cut_patches([frame] * len(boxes), boxes, _REFINE_PX)]
        sure = [index for index, output in enumerate(outputs) if output[2][1] > _REFINE_SCORE]
        if not sure:
            return np.empty((0, 4))
        boxes = move_boxes(boxes[sure], np.array([outputs[index][4] for index in sure]))
        scores = np.array([outputs[index][2][1] for index in sure])
        return make_square(boxes[suppress(boxes, scores, _SAME_PROPOSAL_IOU)])

    def _look(self, frames, boxes):
        """Runs O-Net on a box of each of N frames, made square. Returns N `Detection`, with any score."""
        boxes = make_square(np.asarray(boxes, np.float64))
        outputs = [self._output_net(patch) for patch in cut_patches(frames, boxes, _OUTPUT_PX)]
        # All x of the landmarks come first, then all y. The package's sides are one pixel longer than the box.
        landmarks = np.array([output[10] for output in outputs]).reshape(-1, 2, 5).transpose(0, 2, 1)
        starts = boxes[:, None, :2]
        landmarks = (landmarks * (boxes[:, None, 2:] - starts + 1) + starts - 1).astype(np.float32)
        moved = move_boxes(boxes, np.array([output[4] for output in outputs])).astype(np.float32)
        scores = [float(output[2][1]) for output in outputs]
        return [Detection(*one) for one in zip(moved, landmarks, scores, strict=True)]

    def _look_again(self, frame, found):
        """Examines the unsure faces again in their own boxes. Returns the sure faces, best first."""
        least = self.score_threshold
        sure, unsure = [one for one in found if one.score > least], [one for one in found if one.score <= least]
        again = self._look([frame] * len(unsure), [one.box for one in unsure]) if unsure else []
        for one in sorted(again, key=lambda one: -one.score):
            if one.score > least and all(iou(one.box, other.box) < _SAME_FACE_IOU for other in sure):
                sure.append(one)
        return sorted(sure, key=lambda one: -one.score)

    def follow(self, frames: Sequence[np.ndarray], boxes: np.ndarray) -> list[Detection | None]:
        """Looks for a face in each frame, near its box, with O-Net only.

        Args:
            frames: N arrays, uint8 (H, W, 3), RGB.
            boxes: float (N, 4): x0 y0 x1 y1 in pixels.

        Returns:
            N faces; `None` for a frame without a face near its box.
        """
        if not len(frames):
            return []
        with self._lock:
            found = self._look(frames, boxes)
            far = [i for i, (one, box) in enumerate(zip(found, boxes, strict=True)) if iou(one.box, box) < _SETTLED_IOU]
            again = self._look([frames[i] for i in far], [found[i].box for i in far]) if far else []
        for i, detection in zip(far, again, strict=True):
            found[i] = detection
        return [detection if detection.score > self.score_threshold else None for detection in found]


def _shrink(image, height, width, out=None):
    """Shrinks an image: each pixel is the mean of its area."""
    return cv2.resize(image, (width, height), dst=out, interpolation=cv2.INTER_AREA)


def suppress(boxes: np.ndarray, scores: np.ndarray, most: float, *, of_smaller: bool = False) -> np.ndarray:
    """Finds the boxes that no better box overlaps by more than a limit.

    As in the package, a box also goes if the better box goes itself.

    Args:
        boxes: (N, 4): x0 y0 x1 y1.
        scores: (N,).
        most: Limit of the overlap.
        of_smaller: Whether the overlap is the intersection's share of the smaller box, and not of the union.

    Returns:
        Indices, best first.
    """
    if len(scores) < 2:
        return np.arange(len(scores))
    order = np.argsort(scores, kind="stable")[::-1]  # P-Net often gives several boxes the score 1.0
    boxes = boxes[order]
    starts, ends = boxes[:, :2], boxes[:, 2:]
    areas = (ends - starts).prod(axis=1)
    sides = np.minimum(ends[:, None], ends) - np.maximum(starts[:, None], starts)
    shared = np.maximum(sides, 0).prod(axis=2)
    whole = np.minimum(areas[:, None], areas) if of_smaller else areas[:, None] + areas - shared
    # The first box that overlaps a box is the box itself, or a better one.
    first = (shared > most * whole).argmax(axis=0)
    return order[first == np.arange(len(order))]


def make_square(boxes: np.ndarray) -> np.ndarray:
    """Widens the shorter sides of boxes around their middles.

    Args:
        boxes: (N, 4): x0 y0 x1 y1.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    longest = sides.max(axis=1, keepdims=True)
    start = boxes[:, :2] + sides * 0.5 - longest * 0.5
    return np.hstack([start, start + longest])


def move_boxes(boxes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Moves the corners of boxes.

    Args:
        boxes: (N, 4): x0 y0 x1 y1.
        offsets: (N, 4), in shares of the sides. As in the package, the sides are one pixel longer than the boxes.
    """
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    return boxes + offsets * np.tile(sides, 2)


def cut_patches(frames: Sequence[np.ndarray], boxes: np.ndarray, size: int) -> list[np.ndarray]:
    """Cuts a box out of each frame as the package does (`tf.image.crop_and_resize`): bilinear, without averaging.

    Args:
        frames: N arrays, uint8 or float32 (H, W, 3), in [0, 255].
        boxes: (N, 4): x0 y0 x1 y1 in pixels.
        size: Height and width of a patch in pixels.

    Returns:
        N patches, float32 (size, size, 3) in [0, 255]; grey outside the frame.
    """
    ends = np.tile([frame.shape[1::-1] for frame in frames], 2) - 1.0  # the last column and row, twice
    points = boxes * (ends / (ends + 1))  # the first and the last point of each patch
    steps = (points[:, 2:] - points[:, :2]) / (size - 1)
    parts = np.clip(np.floor(points) + (0, 0, 1, 1), 0, ends).astype(int)  # the pixels that each patch needs
    matrices = np.zeros((len(boxes), 2, 3))
    matrices[:, (0, 1), (0, 1)] = steps
    matrices[:, :, 2] = points[:, :2] - parts[:, :2]
    patches = []
    for frame, (left, top, right, bottom), matrix in zip(frames, parts.tolist(), matrices, strict=True):
        part = frame[top : bottom + 1, left : right + 1].astype(np.float32, copy=False)
        patches.append(cv2.warpAffine(part, matrix, (size, size), flags=_BILINEAR, borderMode=cv2.BORDER_REPLICATE))
    across = (points[:, :2] < 0).any(axis=1) | (points[:, 2:] > ends[:, 2:]).any(axis=1)
    for index in np.flatnonzero(across):
        grid = points[index, :2] + np.arange(size)[:, None] * steps[index]
        outside = (grid < -_ROUNDING_PX) | (grid > ends[index, :2] + _ROUNDING_PX)  # columns, rows
        patches[index][:, outside[:, 0]] = patches[index][outside[:, 1]] = _GREY
    return patches

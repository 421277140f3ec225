"""MTCNN through the package mtcnn 1.0, which carries its weights."""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import keras
import numpy as np
import tensorflow as tf
from mtcnn import MTCNN
from mtcnn.utils.bboxes import (
    adjust_bboxes,
    generate_bounding_box,
    pick_matches,
    replace_confidence,
    resize_to_square,
    smart_nms_from_bboxes,
)
from mtcnn.utils.images import normalize_images
from mtcnn.utils.landmarks import adjust_landmarks

from affect.config import Faces
from affect.errors import InputError
from affect.pipelines.tracks import Detection, iou

# The package's factor from one level of the image pyramid to the next.
_SCALE_FACTOR = 0.709
# The package's smallest scores of P-Net and R-Net, and the overlaps from which two boxes show one face.
_PROPOSE_SCORE, _REFINE_SCORE = 0.6, 0.7
_SAME_IN_LEVEL_IOU, _SAME_PROPOSAL_IOU = 0.5, 0.7
# The package pads frames with this level, which is 0 after scaling.
_GREY = 127.5
# Side of P-Net's receptive field in pixels.
_FIELD_PX = 12
# Faces of at least this share of the frame's shorter side are also searched across the edges of the frame.
_FILLING_RATIO = 0.7
# Sides of the networks' inputs in pixels; P-Net accepts any size.
_INPUT_SIZES = (None, 24, 48)
# Larger batches are no faster and need more memory.
_BATCH_FRAMES = 4
# If O-Net's own box overlaps its input box by at least this, O-Net is as exact as full detection. Otherwise it is run
# again on its own box.
_SETTLED_IOU = 0.8
# O-Net's score depends on the place of its input box. A face of at least this score is examined again in its own box.
_UNSURE_SCORE = 0.3
# Two faces of a larger overlap are one face.
_SAME_FACE_IOU = 0.5


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

    Args:
        faces: `min_face_px` and `score_threshold` are used.

    Raises:
        InputError: When Keras has another backend than TensorFlow, because the package needs TensorFlow.
    """

    def __init__(self, faces: Faces):
        if keras.backend.backend() != "tensorflow":
            raise InputError(
                "mtcnn cuts faces on Keras's TensorFlow backend only; runs and shards are the same on every backend. "
                f"Unset KERAS_BACKEND for this command. Received: KERAS_BACKEND={keras.backend.backend()}"
            )
        self.min_face_px = faces.min_face_px
        self.score_threshold = faces.score_threshold
        stages = zip(MTCNN().stages, _INPUT_SIZES, strict=True)
        self._propose_net, self._refine_net, self._output_net = (_compile(stage.model, size) for stage, size in stages)
        self._pyramids: dict[int, Any] = {}  # number of levels → graph

    def detect(self, frames: Sequence[np.ndarray]) -> list[list[Detection]]:
        """Detects the faces of each frame.

        Args:
            frames: uint8 (H, W, 3), RGB, all of one shape.

        Returns:
            The faces of each frame, best first; empty for a frame without a face.
        """
        batches = (frames[start : start + _BATCH_FRAMES] for start in range(0, len(frames), _BATCH_FRAMES))
        return [detections for batch in batches for detections in self._detect(batch)]

    def _detect(self, frames):
        # MTCNN.detect_faces is not used, because it reports every failure as "no faces".
        images, rows = np.stack(frames), self._propose(frames)
        rows = self._refine(images, rows) if len(rows) else rows
        rows = self._finish(images, rows) if len(rows) else rows
        found = [[] for _ in frames]
        for row in rows:
            found[int(row[0])].append(_make_detection(row[1:5], row[6:16], row[5]))
        return self._look_again(frames, found)

    def _propose(self, frames):
        """Runs P-Net on every level of the pyramid, from the smallest face to one that is larger than the frame.

        mtcnn 1.0 counts the levels as if the smallest face had 12 pixels. With a smallest face of 20 pixels it
        therefore stops at faces of about 0.85 of the frame's shorter side. With a larger one its last levels are too
        small for P-Net, which raises an error, and the package reports "no faces" for the whole batch.

        Returns:
            (N, 6): index of the frame, x0 y0 x1 y1, score.
        """
        sides = frames[0].shape[:2]
        sizes_px = face_sizes(self.min_face_px, min(sides))
        if not sizes_px:
            return np.empty((0, 6))
        scales = [_FIELD_PX / face_px for face_px in sizes_px]
        # The other networks get the same grey outside the frame.
        edges = [_FIELD_PX // 2 if face_px > _FILLING_RATIO * min(sides) else 0 for face_px in sizes_px]
        shapes = [[int(side * scale + 1e-6) for side in sides] for scale in scales]
        pyramid = self._build_pyramid(len(scales))
        levels = pyramid(_halve(frames, self.min_face_px), np.array(shapes, np.int32), np.array(edges, np.int32))
        found = []
        for outputs, scale, edge in zip(levels, scales, edges, strict=True):
            rows = generate_bounding_box(*outputs, _PROPOSE_SCORE)
            rows[:, 1:5] = (rows[:, 1:5] - edge) / scale
            found.append(smart_nms_from_bboxes(rows, threshold=_SAME_IN_LEVEL_IOU, initial_sort=False))
        return resize_to_square(smart_nms_from_bboxes(np.concatenate(found), threshold=_SAME_PROPOSAL_IOU))

    def _build_pyramid(self, count):
        """Returns a graph that scales frames to `count` levels and runs P-Net on each level."""
        if count not in self._pyramids:

            def run(images, shapes, edges):
                outputs = []
                for i in range(count):
                    level = tf.image.resize(images, shapes[i], method="area")
                    padding = [[0, 0], [edges[i]] * 2, [edges[i]] * 2, [0, 0]]
                    outputs.append(self._propose_net(tf.pad(level, padding, constant_values=_GREY)))
                return outputs

            images = tf.TensorSpec((None, None, None, 3), tf.uint8)
            numbers = tf.TensorSpec((count, 2), tf.int32), tf.TensorSpec((count,), tf.int32)
            self._pyramids[count] = tf.function(run, input_signature=[images, *numbers])
        return self._pyramids[count]

    def _refine(self, images, rows):
        """Runs R-Net on the proposals of P-Net. Returns the proposals that remain, (N, 6)."""
        offsets, scores = self._refine_net(_crop(images, rows, _INPUT_SIZES[1]))
        rows = adjust_bboxes(replace_confidence(rows, scores), offsets)
        rows = pick_matches(rows, score_threshold=_REFINE_SCORE)
        return resize_to_square(smart_nms_from_bboxes(rows, threshold=_SAME_PROPOSAL_IOU))

    def _finish(self, images, rows):
        """Runs O-Net on the boxes of R-Net. Returns faces, (N, 16): x and y of five landmarks follow the score."""
        offsets, landmarks, scores = self._output_net(_crop(images, rows, _INPUT_SIZES[2]))
        landmarks = adjust_landmarks(landmarks, rows)
        rows = adjust_bboxes(replace_confidence(rows, scores), offsets)
        rows = np.concatenate([rows, landmarks], axis=-1)
        rows = pick_matches(rows, scores_column=5, score_threshold=min(_UNSURE_SCORE, self.score_threshold))
        return smart_nms_from_bboxes(rows, threshold=_SAME_PROPOSAL_IOU, method="min")

    def _look_again(self, frames, found):
        """Examines the unsure faces again in their own boxes. Returns the sure faces of each frame, best first."""
        least = self.score_threshold
        sure = [[one for one in detections if one.score > least] for detections in found]
        unsure = [(i, one) for i, detections in enumerate(found) for one in detections if one.score <= least]
        if unsure:
            places = [i for i, _ in unsure]
            again = self._look([frames[i] for i in places], np.array([one.box for _, one in unsure]))
            for i, one in sorted(zip(places, again, strict=True), key=lambda pair: -pair[1].score):
                if one.score > least and all(iou(one.box, other.box) < _SAME_FACE_IOU for other in sure[i]):
                    sure[i].append(one)
        return [sorted(detections, key=lambda one: -one.score) for detections in sure]

    def follow(self, frames: Sequence[np.ndarray], boxes: np.ndarray) -> list[Detection | None]:
        """Looks for a face in each frame, near its box, with O-Net only.

        Args:
            frames: N arrays, uint8 (H, W, 3), RGB.
            boxes: float (N, 4): x0 y0 x1 y1 in pixels.

        Returns:
            N faces; `None` for a frame without a face near its box.
        """
        found = self._look(frames, boxes)
        far = [i for i, (one, box) in enumerate(zip(found, boxes, strict=True)) if iou(one.box, box) < _SETTLED_IOU]
        if far:
            again = self._look([frames[i] for i in far], np.array([found[i].box for i in far]))
            for i, detection in zip(far, again, strict=True):
                found[i] = detection
        return [detection if detection.score > self.score_threshold else None for detection in found]

    def _look(self, frames, boxes):
        """Returns the `Detection` of O-Net for each box, with any score."""
        rows = resize_to_square(np.column_stack([np.arange(len(frames)), boxes]))
        offsets, landmarks, scores = self._output_net(cut_patches(frames, rows[:, 1:], _INPUT_SIZES[-1]))
        landmarks, scores = adjust_landmarks(landmarks, rows), scores.numpy()[:, 1]
        boxes = adjust_bboxes(rows, offsets)[:, 1:]
        return [_make_detection(*one) for one in zip(boxes, landmarks, scores, strict=True)]


def _halve(frames, min_face_px):
    """Shrinks frames by 2, once or more, while the smallest face in them is wider than 1.5 times P-Net's field.

    Returns:
        uint8 (N, H, W, 3).
    """
    factor = 2 ** max(0, math.floor(math.log2(min_face_px / (1.5 * _FIELD_PX))))
    if factor == 1:
        return np.stack(frames)
    size = [math.ceil(side / factor) for side in frames[0].shape[1::-1]]
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])


def _crop(images, rows, size):
    """Returns the patches of boxes, float32 (N, size, size, 3), as the package cuts them."""
    height, width = images.shape[1:3]
    boxes = rows[:, [2, 1, 4, 3]] / (height, width, height, width)
    grey = {"extrapolation_value": _GREY}
    return tf.image.crop_and_resize(images, boxes, rows[:, 0].astype(int), (size, size), **grey)


def _compile(network, size):
    """Returns a network as one graph, because a call layer by layer spends most of its time in Python.

    A single patch is computed together with a blank one. Alone it would use another kernel, whose last bits depend on
    the number of threads. So a face is the same beside any other faces, and with any number of workers.
    """
    signature = [tf.TensorSpec((None, size, size, 3), tf.float32)]
    graph = tf.function(lambda pixels: network(normalize_images(pixels)), input_signature=signature)

    def call(images):
        if size is None or len(images) > 1:
            return graph(images)
        return [output[:1] for output in graph(tf.concat([images, tf.zeros_like(images)], axis=0))]

    return call


def _make_detection(box, landmarks, score):
    points = landmarks.reshape(2, 5).T  # the package returns all x, then all y
    return Detection(box.astype(np.float32), points.astype(np.float32), float(score))


def cut_patches(frames: Sequence[np.ndarray], boxes: np.ndarray, size: int) -> np.ndarray:
    """Cuts a box out of each frame as the package does (`tf.image.crop_and_resize`), without copying the frames.

    Args:
        frames: N arrays, uint8 (H, W, 3).
        boxes: (N, 4): x0 y0 x1 y1 in pixels.
        size: Height and width of a patch in pixels.

    Returns:
        float32 (N, size, size, 3) in [0, 255]; grey outside the frame.
    """
    corners = np.empty((len(frames), 2, 2, size, size, 3), np.float32)  # left and right of top and bottom
    shares = np.empty((len(frames), 2, size), np.float32)
    inside = np.empty((len(frames), size, size), bool)
    for i, (frame, (x0, y0, x1, y1)) in enumerate(zip(frames, boxes, strict=True)):
        height, width = frame.shape[:2]
        top, bottom, shares[i, 0], in_y = _lay_grid(y0, y1, height, size)
        left, right, shares[i, 1], in_x = _lay_grid(x0, x1, width, size)
        inside[i] = in_y[:, None] & in_x
        for j, rows in enumerate((top, bottom)):
            for k, columns in enumerate((left, right)):
                corners[i, j, k] = frame[rows[:, None], columns]
    down, right = shares[:, 0, :, None, None], shares[:, 1, None, :, None]
    lines = corners[:, :, 0] + (corners[:, :, 1] - corners[:, :, 0]) * right[:, None]
    patches = lines[:, 0] + (lines[:, 1] - lines[:, 0]) * down
    return np.where(inside[..., None], patches, np.float32(_GREY))


def _lay_grid(start, end, length, size):
    """Returns the pixels before and after `size` points from start to end, their weights, and which are inside."""
    start, end = (np.float32(place / length * (length - 1)) for place in (start, end))
    points = start + np.arange(size, dtype=np.float32) * ((end - start) / (size - 1))
    inside = (points >= 0) & (points <= length - 1)
    points = np.clip(points, 0, length - 1)
    before = np.floor(points).astype(int)
    return before, np.ceil(points).astype(int), points - before, inside

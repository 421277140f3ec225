"""Detections that are written by hand, a detector that knows the truth, and the classes of affect's detectors."""

import numpy as np

from affect.pipelines.detectors.boxes import Boxes
from affect.pipelines.detectors.dlib import Dlib
from affect.pipelines.detectors.mtcnn import Mtcnn
from affect.pipelines.tracks import Detection, iou

# Name in `DETECTORS` → class of what that row makes.
DETECTOR_CLASSES = {"boxes": Boxes, "dlib": Dlib, "mtcnn": Mtcnn}


def detection(x, y=20.0, size=20.0):
    box = np.array([x, y, x + size, y + size], np.float32)
    return Detection(box, np.float32(np.linspace(box[:2], box[2:], 5)), 0.95)


class Known:
    """A detector that knows the truth: for each frame a list of `Detection`. A frame's first pixel is its index."""

    def __init__(self, truth):
        self.truth, self.detected, self.followed = truth, [], []

    def detect(self, frames):
        indices = [int(frame[0, 0, 0]) for frame in frames]
        self.detected += indices
        return [self.truth[index] for index in indices]

    def follow(self, frames, boxes):
        indices = [int(frame[0, 0, 0]) for frame in frames]
        self.followed += indices
        assert boxes.shape == (len(frames), 4)
        found = []
        for index, box in zip(indices, boxes, strict=True):
            faces = sorted(self.truth[index], key=lambda one: -iou(one.box, box))
            found.append(faces[0] if faces and iou(faces[0].box, box) > 0.4 else None)
        return found

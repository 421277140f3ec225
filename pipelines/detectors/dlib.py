"""dlib's HOG detector and 68 landmarks: paper A's faces are dlib's."""

import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from affect.config import Faces
from affect.extras import require
from affect.pipelines.tracks import Detection

MODEL = "shape_predictor_68_face_landmarks.dat"
# Width of the smallest face that the detector finds, in pixels of its input image.
FIELD_PX = 80
# dlib's score is a margin, which is 0 if face and background are equally likely. The score of a detection is the
# logistic function of SLOPE × margin: 0.5 is dlib's own threshold, 0.8 is a margin of 0.35.
SLOPE = 4.0


class Dlib:
    """Detects faces with dlib's HOG detector, and computes five landmarks from its 68.

    The package face_recognition_models holds the model of the landmarks (Kazemi and Sullivan, 2014). It was trained on
    300-W, whose licence excludes commercial use.

    Args:
        faces: `min_face_px` and `score_threshold` are used.

    Raises:
        InputError: When the packages are not installed.
    """

    def __init__(self, faces: Faces):
        require("dlib", "The detector dlib")
        import dlib

        # The package is not imported, because it needs pkg_resources, which setuptools no longer has.
        models = find_spec("face_recognition_models")
        assert models and models.submodule_search_locations  # `require` found it
        self.detector = dlib.get_frontal_face_detector()
        self.predictor = dlib.shape_predictor(str(Path(models.submodule_search_locations[0]) / "models" / MODEL))
        self.min_face_px = faces.min_face_px
        self.score_threshold = faces.score_threshold
        # The image is enlarged by 2 until the smallest face is as large as the detector's field.
        self.doublings = max(0, math.ceil(math.log2(FIELD_PX / max(1, faces.min_face_px))))

    def detect(self, frames: Sequence[np.ndarray]) -> list[list[Detection]]:
        """Detects the faces of each frame.

        Args:
            frames: uint8 (H, W, 3), RGB.

        Returns:
            The faces of each frame, best first; empty for a frame without a face.
        """
        return [self._detect(np.ascontiguousarray(frame)) for frame in frames]

    def _detect(self, frame):
        found = []
        rectangles, margins, _ = self.detector.run(frame, self.doublings, 0.0)
        for rectangle, margin in zip(rectangles, margins, strict=True):
            score = 1 / (1 + math.exp(-SLOPE * margin))
            if rectangle.width() < self.min_face_px or score < self.score_threshold:
                continue
            points = self.predictor(frame, rectangle).parts()
            points = np.array([(point.x, point.y) for point in points], np.float32)  # (68, 2)
            # An eye is the mean of its six points, as in the mean shape to which faces are aligned.
            landmarks = [points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]]
            box = (rectangle.left(), rectangle.top(), rectangle.right() + 1, rectangle.bottom() + 1)
            found.append(Detection(np.array(box, np.float32), np.array(landmarks, np.float32), score))
        return sorted(found, key=lambda detection: -detection.score)

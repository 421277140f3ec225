"""dlib's HOG detector and 68 landmarks: paper A's faces are dlib's."""

import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from affect.extras import require
from affect.pipelines.tracks import Detection

MODEL = "shape_predictor_68_face_landmarks.dat"
# Width of the smallest face that the detector finds, in pixels of the image that it is given.
FIELD_PX = 80
# Its score is a margin, 0 where face and background are even. A detection's score is the logistic of so many margins:
# 0.5 is dlib's own threshold, 0.8 a margin of 0.35.
SLOPE = 4.0


class Dlib:
    """Detects faces with dlib's HOG detector and takes the five landmarks out of its 68.

    The model of the landmarks (Kazemi and Sullivan, 2014) is that of the package face_recognition_models. It was
    trained on 300-W, whose licence leaves out commercial use.

    Args:
        faces: `affect.config.Faces`; `min_face_px` and `score_threshold` are used.

    Raises:
        InputError: When the packages are not installed.
    """

    def __init__(self, faces):
        require("dlib", "The detector dlib")
        import dlib

        models = find_spec("face_recognition_models")  # not imported: it needs pkg_resources, which is no more
        self.detector = dlib.get_frontal_face_detector()
        self.predictor = dlib.shape_predictor(str(Path(models.submodule_search_locations[0]) / "models" / MODEL))
        self.min_face_px = faces.min_face_px
        self.score_threshold = faces.score_threshold
        # The image is doubled until the smallest face is as large as the detector's field.
        self.doublings = max(0, math.ceil(math.log2(FIELD_PX / max(1, faces.min_face_px))))

    def detect(self, frames):
        """Detects the faces of each frame.

        Args:
            frames: List of uint8 arrays (H, W, 3), RGB.

        Returns:
            List of lists of `Detection`, best first; a frame without a face has an empty list.
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
            # Eyes: the mean of their six points, as in the mean shape that faces are aligned to.
            landmarks = [points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]]
            box = (rectangle.left(), rectangle.top(), rectangle.right() + 1, rectangle.bottom() + 1)
            found.append(Detection(np.array(box, np.float32), np.array(landmarks, np.float32), score))
        return sorted(found, key=lambda detection: -detection.score)

"""MTCNN through the package mtcnn 1.0, which carries its weights."""

import keras
import numpy as np
from mtcnn import MTCNN
from mtcnn.stages import StageONet, StagePNet, StageRNet
from mtcnn.utils.images import standarize_batch

from affect.errors import InputError
from pipelines.faces import Detection

# The package's own factor from one level of the image pyramid to the next.
_SCALE_FACTOR = 0.709


class _ProposalStage(StagePNet):
    """P-Net without the pyramid levels below its 12-pixel field.

    mtcnn 1.0 counts the levels as if the smallest face were 12 pixels. With any larger one the last levels are too
    small for P-Net, which raises, and the package reports «no faces» for the whole batch. The count depends on the
    shapes alone, so it is given the shapes of the first level.
    """

    def __call__(self, *, images_oshapes, min_face_size, **kwargs):
        shapes = images_oshapes * (12 / min_face_size / _SCALE_FACTOR)
        return super().__call__(images_oshapes=shapes, min_face_size=min_face_size, **kwargs)


class Mtcnn:
    """Detects faces and five landmarks with MTCNN (Zhang et al., 2016, arXiv 1604.02878).

    Args:
        faces: `affect.config.Faces`; `min_face_px` and `score_threshold` are used.

    Raises:
        InputError: On another Keras backend than TensorFlow's, on which the package does not run.
    """

    def __init__(self, faces):
        if keras.backend.backend() != "tensorflow":
            raise InputError(
                "mtcnn cuts faces on Keras's TensorFlow backend only; runs and shards are the same on every backend. "
                f"Unset KERAS_BACKEND for this command. Received: KERAS_BACKEND={keras.backend.backend()}"
            )
        self.min_face_px = faces.min_face_px
        self.score_threshold = faces.score_threshold
        self.stages = MTCNN(stages=[_ProposalStage, StageRNet, StageONet]).stages

    def detect(self, frames):
        """Detects the faces of each frame.

        Args:
            frames: List of uint8 arrays (H, W, 3), RGB, all of one shape.

        Returns:
            List of lists of `Detection`, best first; a frame without a face has an empty list.
        """
        found = [[] for _ in frames]
        if min(frames[0].shape[:2]) < self.min_face_px:
            return found
        # The stages are called here and not through MTCNN.detect_faces, which takes every failure for «no faces».
        images, shapes, _ = standarize_batch(frames, normalize=True)
        boxes = None
        for stage in self.stages:
            boxes = stage(
                images_normalized=images,
                images_oshapes=shapes,
                bboxes_batch=boxes,
                min_face_size=self.min_face_px,
                threshold_onet=self.score_threshold,
            )
            if not len(boxes):
                return found
        for row in boxes[np.argsort(-boxes[:, 5], kind="stable")]:
            landmarks = row[6:16].reshape(2, 5).T  # the package gives all x, then all y
            found[int(row[0])].append(
                Detection(row[1:5].astype(np.float32), landmarks.astype(np.float32), float(row[5]))
            )
        return found

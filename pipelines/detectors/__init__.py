"""Face detectors: name → class. A row is built from `affect.config.Faces` and detects faces in lists of frames."""

from pipelines.detectors.dlib import Dlib
from pipelines.detectors.mtcnn import Mtcnn

DETECTORS = {
    "dlib": Dlib,
    "mtcnn": Mtcnn,
}

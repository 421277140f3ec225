"""Face detectors: name → class.

A row is built from `affect.config.Faces`. `detect(frames)` gives a list of `pipelines.tracks.Detection` for each frame.
A row may also have `follow(frames, boxes)`, which looks for one face in each frame, about in its box, and gives a
`Detection` or `None` for each; a row without it is run on every frame.
"""

from pipelines.detectors.dlib import Dlib
from pipelines.detectors.mtcnn import Mtcnn

DETECTORS = {
    "dlib": Dlib,
    "mtcnn": Mtcnn,
}

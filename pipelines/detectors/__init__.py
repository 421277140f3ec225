"""Face detectors: name → class.

A row is built from `affect.config.Faces`. `detect(frames)` gives a list of `affect.pipelines.tracks.Detection` for each
frame.
A row may also have `follow(frames, boxes)`, which looks for one face in each frame, about in its box, and gives a
`Detection` or `None` for each; a row without it is run on every frame. A row that has
`detect_at(key, timestamps_s)` instead of `detect` is asked by clip and times, and sees no pixels.
"""

from affect.pipelines.detectors.boxes import Boxes
from affect.pipelines.detectors.dlib import Dlib
from affect.pipelines.detectors.mtcnn import Mtcnn

DETECTORS = {
    "boxes": Boxes,
    "dlib": Dlib,
    "mtcnn": Mtcnn,
}

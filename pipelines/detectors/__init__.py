"""Face detectors: name → class.

A detector is built from `affect.config.Faces`. It has one of these methods:

- `detect(frames)` returns a list of `affect.pipelines.tracks.Detection` for each frame.
- `detect_at(key, timestamps_s)` does the same by clip and times, and gets no pixels.

A detector with `detect` may also have `follow(frames, boxes)`. It looks for one face in each frame, near its box, and
returns a `Detection` or `None` for each. A detector without `follow` is run on every frame.
`affect.pipelines.follow.Detector` has the types.
"""

from collections.abc import Callable

from affect.config import Faces
from affect.pipelines.detectors.boxes import Boxes
from affect.pipelines.detectors.dlib import Dlib
from affect.pipelines.detectors.mtcnn import Mtcnn
from affect.pipelines.follow import Detector

DETECTORS: dict[str, Callable[[Faces], Detector]] = {
    "boxes": Boxes,
    "dlib": Dlib,
    "mtcnn": Mtcnn,
}

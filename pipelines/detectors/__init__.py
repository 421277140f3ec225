"""Face detectors: name → what makes one. A detector is imported when it is made.

A detector is built from `affect.config.Faces`. It has one of these methods:

- `detect(frames)` returns a list of `affect.pipelines.tracks.Detection` for each frame.
- `detect_at(key, timestamps_s)` does the same by clip and times, and gets no pixels.

A detector with `detect` may also have `follow(frames, boxes)`. It looks for one face in each frame, near its box, and
returns a `Detection` or `None` for each. A detector without `follow` is run on every frame.
`affect.pipelines.follow.Detector` has the types.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from affect.config import Faces

if TYPE_CHECKING:
    from affect.pipelines.follow import Detector


def _make_boxes(faces):
    from affect.pipelines.detectors.boxes import Boxes

    return Boxes(faces)


def _make_dlib(faces):
    from affect.pipelines.detectors.dlib import Dlib

    return Dlib(faces)


def _make_mtcnn(faces):
    from affect.pipelines.detectors.mtcnn import Mtcnn

    return Mtcnn(faces)


DETECTORS: "dict[str, Callable[[Faces], Detector]]" = {
    "boxes": _make_boxes,
    "dlib": _make_dlib,
    "mtcnn": _make_mtcnn,
}

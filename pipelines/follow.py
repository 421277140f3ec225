"""Frames → the faces in each: detected in every frame, or detected in key frames and followed in between.

The detector searches the whole of each key frame. Key frames are at most half a second apart. If two neighbouring key
frames show the same face, it is looked for between them on the straight line from one box to the other, in all frames
of the window at once. Its descriptor there is interpolated. If its box overlaps another face, it is described instead.

Other frames are searched as a whole too: both sides of a scene cut, frames in which a face is lost or two faces become
one, and, by halving, frames between key frames that do not show the same faces. A face that no key frame shows can be
missed, because it appears and disappears between two of them. The same video always gives the same faces.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Protocol

import numpy as np

from affect.config.experiment import Detect
from affect.errors import InputError
from affect.pipelines.appearance import Dissolves, describe_face, find_cuts
from affect.pipelines.tracks import TRACK_IOU, Detection, iou, match

# Key frames are at most so far apart, in seconds and in frames. So many frames are in memory.
KEY_S = 0.5
WINDOW_FRAMES = 16
# Two faces of a larger overlap are one face.
SAME_FACE_IOU = 0.7


class FrameDetector(Protocol):
    """A detector that searches frames. With a method `follow`, as in `FollowingDetector`, it follows faces too."""

    def detect(self, frames: Sequence[np.ndarray]) -> list[list[Detection]]:
        """Returns the faces of each frame, best first, given frames of one shape, uint8 (H, W, 3), RGB."""


class FollowingDetector(FrameDetector, Protocol):
    """A detector that also follows faces."""

    def follow(self, frames: Sequence[np.ndarray], boxes: np.ndarray) -> list[Detection | None]:
        """Looks for one face in each frame, near its box.

        Args:
            frames: N arrays, uint8 (H, W, 3), RGB.
            boxes: float (N, 4): x0 y0 x1 y1 in pixels.

        Returns:
            N faces; `None` for a frame without a face near its box.
        """


class ListDetector(Protocol):
    """A detector that knows the faces beforehand, and gets no pixels."""

    def detect_at(self, key: str, timestamps_s: Sequence[float]) -> list[list[Detection]]:
        """Returns the faces of each frame, best first.

        Args:
            key: Key of the clip.
            timestamps_s: Times of the frames in seconds of the video.
        """


# Built from a row of `affect.pipelines.detectors.DETECTORS`.
Detector = FrameDetector | FollowingDetector | ListDetector


def find_faces(
    frames: Iterable[tuple[float, np.ndarray]],
    detector: Detector,
    detect: Detect,
    clip_key: str = "",
    most_s: float = math.inf,
) -> Iterator[tuple[float, np.ndarray, list[Detection]]]:
    """Finds the faces of each frame.

    Args:
        frames: `(timestamp_s, frame)`. An `InputError` that it raises is raised again after the frames before it.
        detector: Built from a row of `DETECTORS`. Without a method `follow` it detects in every frame.
        detect: Whether faces are followed between key frames.
        clip_key: Key of the clip, for a detector that has `detect_at`.
        most_s: A frame is held back until a frame comes that is later by more than this. At most `WINDOW_FRAMES` are
            held.

    Yields:
        `(timestamp_s, frame, detections)`. Each detection has its descriptor, the number of its shot, and in a dissolve
        the time at which the dissolve began. A shot ends at a scene cut.

    Raises:
        InputError: When `frames` raises it.
    """
    follows = detect == "follow" and hasattr(detector, "follow")
    dissolves = Dissolves()
    key: np.ndarray | None = None  # the last frame of the window before
    known: list[Detection] = []  # its detections
    shot = 0  # the number of its shot
    for window in _split_into_windows(frames, min(most_s, KEY_S if follows else math.inf)):
        images = [frame for _, frame in window]
        goes_on = key is not None and key.shape == images[0].shape
        # Indices into this window. A cut before its first frame has the index 0.
        cuts = find_cuts(images) if key is None else [index - 1 for index in find_cuts([key, *images])]
        if hasattr(detector, "detect_at"):
            found = detector.detect_at(clip_key, [timestamp_s for timestamp_s, _ in window])
            found = _describe(images, found)
        elif not follows:
            found = _describe(images, detector.detect(images))
        elif goes_on:
            found = _follow([key, *images], {0: known}, [index + 1 for index in cuts], detector)[1:]
        else:
            found = _follow(images, {}, cuts, detector)
        key, known = images[-1], found[-1]
        for index, ((timestamp_s, frame), detections) in enumerate(zip(window, found, strict=True)):
            shot += index in cuts
            before_s = dissolves.add(timestamp_s, frame)
            yield timestamp_s, frame, [replace(one, shot=shot, before_s=before_s) for one in detections]


def _describe(frames, found):
    """Returns the detections of each frame with their descriptors."""
    return [
        [replace(detection, descriptor=describe_face(frame, detection.landmarks)) for detection in detections]
        for frame, detections in zip(frames, found, strict=True)
    ]


def _split_into_windows(frames, key_s):
    """Yields lists of `(timestamp_s, frame)` of one shape, each of which ends within `key_s` after the one before."""
    window, before_s, error = [], None, None
    try:
        for timestamp_s, frame in frames:
            before_s = timestamp_s if before_s is None else before_s
            late = timestamp_s - before_s > key_s + 1e-6
            if window and (late or len(window) == WINDOW_FRAMES or window[0][1].shape != frame.shape):
                yield window
                before_s, window = window[-1][0], []
            window.append((timestamp_s, frame))
    except InputError as damaged:
        error = damaged
    if window:
        yield window
    if error:
        raise error


def _follow(frames, known, cuts, detector):
    """Returns the detections of each frame.

    Args:
        frames: List of frames of one shape.
        known: Index of a frame → its detections, where these are known already.
        cuts: Indices of the frames that begin a shot.
        detector: Has `detect` and `follow`.
    """

    def detect(indices):
        images = [frames[index] for index in indices]
        return zip(indices, _describe(images, detector.detect(images)), strict=True)

    known = dict(known)
    keys = {0, len(frames) - 1} | {side for index in cuts for side in (index - 1, index) if side >= 0}
    while new := sorted(keys - known.keys()):
        known |= detect(new)
        for a, b in pairwise(sorted(known)):
            if b - a > 1 and not len(match(known[a], known[b])) == len(known[a]) == len(known[b]):
                keys.add((a + b) // 2)
    places, boxes, looks = [], [], []
    for a, b in pairwise(sorted(known)):
        for i, j in match(known[a], known[b]):
            one, other = known[a][i], known[b][j]
            for index in range(a + 1, b):
                share = (index - a) / (b - a)
                places.append(index)
                boxes.append((1 - share) * one.box + share * other.box)
                looks.append(_blend(one.descriptor, other.descriptor, share))
    found = [known.get(index, []) for index in range(len(frames))]
    lost: set[int] = set()
    if places:
        followed = detector.follow([frames[index] for index in places], np.array(boxes))
        for index, box, descriptor, detection in zip(places, boxes, looks, followed, strict=True):
            strayed = detection is None or iou(detection.box, box) < TRACK_IOU
            if strayed or any(iou(detection.box, other.box) > SAME_FACE_IOU for other in found[index]):
                lost.add(index)
            else:
                found[index] = [*found[index], replace(detection, descriptor=descriptor)]
    for index in set(places) - lost:
        if any(one.descriptor is None for one in found[index]) or _touch(found[index]):
            found[index] = _describe([frames[index]], [found[index]])[0]
    if lost:
        for index, detections in detect(sorted(lost)):
            found[index] = detections
    return found


def _blend(one, other, share):
    """Returns the interpolated descriptor of two key frames; `None` if one of them is unknown."""
    return None if one is None or other is None else (1 - np.float32(share)) * one + np.float32(share) * other


def _touch(detections):
    """Returns whether two faces of a frame overlap, so that one may be mistaken for the other."""
    return any(iou(one.box, other.box) > 0 for one, other in combinations(detections, 2))

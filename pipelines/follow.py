"""Frames → the faces in each: detected in every frame, or detected in key frames and followed in between.

Half a second apart at most, key frames get the detector's full detection. A face of two neighbouring key frames is
looked for on the straight line between its two boxes, in all frames of the window at once. Full detection returns
where that is not enough: on both sides of a scene cut, in frames in which a face is lost or two become one, and, by
halving, between key frames that do not show the same faces. What this can miss is a face that no key frame shows: one
that appears and goes between two of them. The same video always gives the same faces.
"""

import math
from itertools import pairwise

import cv2
import numpy as np

from affect.errors import InputError
from pipelines.tracks import TRACK_IOU, iou, match

# Key frames are at most so far apart in time and in frames; so many frames are held.
KEY_S = 0.5
WINDOW_FRAMES = 16
# A scene is cut where at least this share of the pixels changes its colour among 512.
CUT_RATIO = 0.5
# Two faces that overlap more are one.
SAME_FACE_IOU = 0.7


def find_faces(frames, detector, detect, clip_key="", most_s=math.inf):
    """Finds the faces of each frame.

    Args:
        frames: Iterable of `(timestamp_s, frame)`; its `InputError` is raised after the frames before it.
        detector: Built from a row of `DETECTORS`. Without a method `follow` it detects in every frame.
        detect: `affect.config.Faces.detect`: `"follow"` or `"every"`.
        clip_key: The clip's, for a detector that has `detect_at`.
        most_s: Frames are held back for so long at most, and until the next one comes; `WINDOW_FRAMES` of them at most.

    Yields:
        `(timestamp_s, frame, detections)`, `detections` a list of `Detection`.
    """
    follows = detect == "follow" and hasattr(detector, "follow")
    key, known = None, {}  # the key frame before the window, and its detections
    for window in _windows(frames, min(most_s, KEY_S if follows else math.inf)):
        images = [frame for _, frame in window]
        if hasattr(detector, "detect_at"):
            found = detector.detect_at(clip_key, [timestamp_s for timestamp_s, _ in window])
        elif not follows:
            found = detector.detect(images)
        elif key is not None and key.shape == images[0].shape:
            found = _follow([key, *images], {0: known}, detector)[1:]
        else:
            found = _follow(images, {}, detector)
        key, known = images[-1], found[-1]
        for (timestamp_s, frame), detections in zip(window, found, strict=True):
            yield timestamp_s, frame, detections


def _windows(frames, key_s):
    """Windows of frames of one shape that end within `key_s` of the end of the window before."""
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


def _follow(frames, known, detector):
    """Returns the detections of each frame; `known` holds those of some by their index."""
    known = dict(known)
    keys = {0, len(frames) - 1} | {side for index in _cuts(frames) for side in (index - 1, index)}
    while new := sorted(keys - known.keys()):
        known |= zip(new, detector.detect([frames[index] for index in new]), strict=True)
        for a, b in pairwise(sorted(known)):
            if b - a > 1 and not len(match(known[a], known[b])) == len(known[a]) == len(known[b]):
                keys.add((a + b) // 2)
    places, boxes = [], []
    for a, b in pairwise(sorted(known)):
        for i, j in match(known[a], known[b]):
            for index in range(a + 1, b):
                share = (index - a) / (b - a)
                places.append(index)
                boxes.append((1 - share) * known[a][i].box + share * known[b][j].box)
    found = [known.get(index, []) for index in range(len(frames))]
    lost = set()
    if places:
        followed = detector.follow([frames[index] for index in places], np.array(boxes))
        for index, box, detection in zip(places, boxes, followed, strict=True):
            strayed = detection is None or iou(detection.box, box) < TRACK_IOU
            if strayed or any(iou(detection.box, other.box) > SAME_FACE_IOU for other in found[index]):
                lost.add(index)
            else:
                found[index] = [*found[index], detection]
    if lost := sorted(lost):
        for index, detections in zip(lost, detector.detect([frames[index] for index in lost]), strict=True):
            found[index] = detections
    return found


def _cuts(frames):
    """Returns the indices of frames before which the scene is cut."""
    histograms = []
    for frame in frames:
        few = np.ascontiguousarray(frame[::4, ::4])
        histogram = cv2.calcHist([few], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3)
        histograms.append(histogram.ravel() / (few.shape[0] * few.shape[1]))
    return [i for i, (a, b) in enumerate(pairwise(histograms), 1) if np.abs(a - b).sum() / 2 > CUT_RATIO]

"""Frames → the faces in each: detected in every frame, or detected in key frames and followed in between.

Half a second apart at most, key frames get the detector's full detection. A face of two neighbouring key frames is
looked for on the straight line between its two boxes, in all frames of the window at once. There its descriptor lies
between those of the two key frames, unless it overlaps another face: then it is described. Full detection returns
where that is not enough: on both sides of a scene cut, in frames in which a face is lost or two become one, and, by
halving, between key frames that do not show the same faces. What this can miss is a face that no key frame shows: one
that appears and goes between two of them. The same video always gives the same faces.
"""

import math
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np

from affect.errors import InputError
from affect.pipelines.appearance import Dissolves, describe_face, find_cuts
from affect.pipelines.tracks import TRACK_IOU, iou, match

# Key frames are at most so far apart in time and in frames; so many frames are held.
KEY_S = 0.5
WINDOW_FRAMES = 16
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
        `(timestamp_s, frame, detections)`, `detections` a list of `Detection`, each with its descriptor, the number of
        its shot, and where the scene dissolves the time before. A shot ends where the scene is cut.
    """
    follows = detect == "follow" and hasattr(detector, "follow")
    dissolves = Dissolves()
    key, known, shot = None, [], 0  # the last frame of the window before, its detections, and the number of its shot
    for window in _windows(frames, min(most_s, KEY_S if follows else math.inf)):
        images = [frame for _, frame in window]
        goes_on = key is not None and key.shape == images[0].shape
        # Of this window; a cut before its first frame is its frame 0.
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


def _follow(frames, known, cuts, detector):
    """Returns the detections of each frame; `known` holds those of some by their index, `cuts` the first of shots."""

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
    lost = set()
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
    if lost := sorted(lost):
        for index, detections in detect(lost):
            found[index] = detections
    return found


def _blend(one, other, share):
    """Returns the descriptor between those of two key frames; `None` where one of them is unknown."""
    return None if one is None or other is None else (1 - np.float32(share)) * one + np.float32(share) * other


def _touch(detections):
    """Returns whether two faces of a frame overlap: one may have been taken for the other."""
    return any(iou(one.box, other.box) > 0 for one, other in combinations(detections, 2))

"""Faces through time: detections are linked to tracks, and the tracks are ranked."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

# Two boxes may show one face when they overlap at least so much; a track may be gone for at most so long.
TRACK_IOU = 0.3
TRACK_GAP_S = 2.0
# Tracks at least so long, as a share of the longest, count as equally long: a frame more or less does not choose.
AS_LONG_RATIO = 0.9


@dataclass(frozen=True)
class Detection:
    """A face in a frame.

    Args:
        box: float32 (4,): x0 y0 x1 y1 in pixels.
        landmarks: float32 (5, 2): x y in pixels, in the order of `affect.records.LANDMARKS`.
        score: In [0, 1].
    """

    box: np.ndarray
    landmarks: np.ndarray
    score: float


@dataclass(frozen=True)
class Track:
    """One face through time, as far as it is needed to choose it.

    Args:
        id: Place in the order in which the tracks begin, from 0; of those that begin in one frame, from left to right.
        frames: Frames in which the face is seen.
        mean_area_px: Mean area of its box in square pixels.
        mean_distance_ratio: Mean distance of its box's centre from the frame's, as a share of half the diagonal.
    """

    id: int
    frames: int
    mean_area_px: float
    mean_distance_ratio: float


class Tracks:
    """Links the detections of a video, frame by frame. It holds a few numbers a track, and no pixels.

    Args:
        forgets: Whether tracks that cannot go on are forgotten, so that a stream may be endless.
    """

    def __init__(self, *, forgets=False):
        self.frames = 0
        self._forgets = forgets
        self._begun = 0
        self._live = {}  # id → (timestamp_s, Detection) of those that may go on
        self._sums = {}  # id → frames, area, distance

    def add(self, timestamp_s, shape, detections):
        """Links the detections of the next frame.

        Args:
            timestamp_s: Of the frame.
            shape: Of the frame: height, width and more.
            detections: List of `Detection`.

        Returns:
            List of the detections' track ids.
        """
        self.frames += 1
        self._live = {i: seen for i, seen in self._live.items() if timestamp_s - seen[0] <= TRACK_GAP_S}
        if self._forgets:
            self._sums = {i: self._sums[i] for i in self._live}
        live = list(self._live)
        ids = {j: live[i] for i, j in match([seen for _, seen in self._live.values()], detections)}
        for j in sorted(set(range(len(detections))) - ids.keys(), key=lambda j: tuple(detections[j].box)):
            ids[j] = self._begun
            self._begun += 1
            self._sums[ids[j]] = np.zeros(3)
        for j, detection in enumerate(detections):
            x0, y0, x1, y1 = map(float, detection.box)
            height, width = shape[:2]
            distance = math.hypot(x0 + x1 - width, y0 + y1 - height) / math.hypot(width, height)
            self._sums[ids[j]] += 1, (x1 - x0) * (y1 - y0), distance
            self._live[ids[j]] = timestamp_s, detection
        return [ids[j] for j in range(len(detections))]

    def summaries(self):
        """Returns a `Track` for each id that is not forgotten, in their order."""
        return [Track(i, int(n), float(area / n), float(far / n)) for i, (n, area, far) in self._sums.items()]


def match(before, after):
    """Pairs the faces of two frames: the best assignment by overlap and, where boxes overlap alike, by landmarks.

    Args:
        before, after: Lists of `Detection`.

    Returns:
        List of pairs of indices `(i, j)`; faces that overlap with none by `TRACK_IOU` are left out.
    """
    if not before or not after:
        return []
    overlap = np.array([[iou(one.box, other.box) for other in after] for one in before])
    apart = np.array([[_landmark_distance(one, other) for other in after] for one in before])
    affinity = np.where(overlap >= TRACK_IOU, 1 + overlap - np.minimum(apart, 1), 0)
    return [(int(i), int(j)) for i, j in zip(*linear_sum_assignment(-affinity), strict=True) if affinity[i, j] > 0]


def chosen_tracks(tracks, which):
    """Ranks tracks and returns the ids of those that are wanted.

    Args:
        tracks: List of `Track`.
        which: `affect.config.Faces.tracks`. `"main"` is the track seen longest; of those about as long, the most
            central, then the largest. `"largest"` is the track that covers the most pixels over all frames. `"all"`
            are all, the main track first.

    Returns:
        List of ids, empty where there are no tracks.
    """
    if not tracks:
        return []
    if which == "largest":
        return [max(tracks, key=lambda track: (track.frames * track.mean_area_px, -track.id)).id]
    as_long = AS_LONG_RATIO * max(track.frames for track in tracks)

    def rank(track):
        return -min(track.frames, as_long), track.mean_distance_ratio, -track.mean_area_px, track.id

    ids = [track.id for track in sorted(tracks, key=rank)]
    return ids if which == "all" else ids[:1]


def iou(a, b):
    """Returns intersection over union of two boxes x0 y0 x1 y1."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = width * height
    return float(area / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - area))


def _landmark_distance(a, b):
    """Returns the mean distance of the landmarks of two faces, as a share of the first box's width."""
    return float(np.linalg.norm(a.landmarks - b.landmarks, axis=1).mean() / max(a.box[2] - a.box[0], 1))

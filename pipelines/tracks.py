"""Faces through time: detections are linked to tracks, and the tracks are ranked.

A face is linked to a track by its place and by what it looks like. Its place is where the track was last, or where the
track would be if it kept its velocity. The descriptors (`affect.pipelines.appearance`) must not be too different. At
low frame rates, after a gap and across a scene cut the place says nothing, and the descriptors alone link faces. If two
people fit about equally well, or nobody fits well enough, a new track begins. So a person may have several tracks, but
a track has one person.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from affect.config.experiment import Tracks as Choice
from affect.pipelines.appearance import ALIKE, DIFFERENT, DISSOLVE_S, DISSOLVE_STEP_S
from affect.pipelines.matching import find_matching

# Smallest overlap (IoU) of two boxes that may show one face.
TRACK_IOU = 0.3
# Time in searched frames without the face after which its place says nothing. Only its descriptor can link it then.
TRACK_GAP_S = 2.0
# Longest time for which the velocity of a face is extrapolated.
MOTION_S = 1.0
# Largest difference of the descriptors at which a face is recognised elsewhere in the same shot; in another shot it
# must be `ALIKE`. It is also the limit at the same place after frames without the face, or after a dissolve.
ALIKE_IN_SHOT = 1.2
# Nothing is linked if the second smallest difference is below this number times the smallest difference.
DOUBT_RATIO = 1.15
# A track is kept if one of its scores is at least SURE_SCORE, or if it is in at least the share UNSURE_RATIO of the
# frames. Letters may look like a face for a moment.
SURE_SCORE, UNSURE_RATIO = 0.9, 0.1
# Number of tracks that can be recognised after a gap. The tracks that were seen last are remembered.
KNOWN_TRACKS = 256
# A track of fewer frames may be merged into an older one, for example when a face that was half hidden becomes visible.
YOUNG_FRAMES = 16
# Tracks of at least this share of the longest one count as equally long, so that one frame does not decide.
AS_LONG_RATIO = 0.9
# A face is still, as in a picture on a wall, if it has at least STILL_FRAMES frames and its place varies by less than
# STILL_RATIO of its width, or by less than STILL_PX pixels.
STILL_FRAMES, STILL_RATIO, STILL_PX = 5, 0.015, 0.6
# A still face comes after a moving face that has at least this share of its frames.
MOVING_RATIO = 0.25
# Frames of a still face that count, in seconds: no more than these, because a picture is seen for as long as the video.
STILL_S = 8.0


@dataclass(frozen=True)
class Detection:
    """A face in a frame.

    Args:
        box: float32 (4,): x0 y0 x1 y1 in pixels.
        landmarks: float32 (5, 2): x y in pixels, in the order of `affect.data.clips.LANDMARKS`.
        score: In [0, 1].
        descriptor: float32 (K,), what it looks like (`affect.pipelines.appearance.describe_face`), or `None`.
        shot: Number of the frame's shot, from 0. A scene cut begins the next shot.
        before_s: Time at which another scene began to dissolve into the scene of this frame; `None` without a dissolve.
    """

    box: np.ndarray
    landmarks: np.ndarray
    score: float
    descriptor: np.ndarray | None = None
    shot: int = 0
    before_s: float | None = None


@dataclass(frozen=True)
class Track:
    """The numbers of one face through time by which it is chosen.

    Args:
        id: Place in the order in which the tracks begin, from 0. Tracks that begin in one frame are ordered from left
            to right.
        frames: Frames in which the face is seen.
        mean_area_px: Mean area of its box in square pixels.
        mean_distance_ratio: Mean distance of its box's centre from the frame's centre, as a share of half the diagonal.
        is_still: Whether it stays in one place, as a picture on a wall does.
        duration_s: Time from its first frame to its last.
        score: Highest score of its detections.
    """

    id: int
    frames: int
    mean_area_px: float
    mean_distance_ratio: float
    is_still: bool = False
    duration_s: float = 0.0
    score: float = 1.0


class Tracks:
    """Links the detections of a video, frame by frame. It holds a few numbers for each track, and no pixels.

    Args:
        forgets: Whether only the last `KNOWN_TRACKS` tracks are kept, so that a stream may be endless.

    Attributes:
        frames: Frames that were added.
        size_px: Width and height of the last frame; 0, 0 before the first.
    """

    def __init__(self, *, forgets: bool = False):
        self.frames = 0
        self.size_px = (0, 0)
        self._forgets = forgets
        self._begun = 0
        self._shot = 0
        self._known: dict[int, _Seen] = {}  # by id; the track that was seen last comes last
        self._over: dict[int, Track] = {}  # by id; these are not recognised again

    def add(self, timestamp_s: float, shape: tuple[int, ...], detections: Sequence[Detection]) -> list[int]:
        """Links the detections of the next frame.

        Args:
            timestamp_s: Time of the frame.
            shape: Shape of the frame: height, width and more.
            detections: Faces of the frame.

        Returns:
            The track id of each detection.
        """
        self.frames += 1
        self.size_px = (shape[1], shape[0])
        self._shot = detections[0].shot if detections else self._shot
        ids = self._link_by_place(timestamp_s, detections)
        self._link_by_looks(detections, ids)
        for j in sorted(set(range(len(detections))) - ids.keys(), key=lambda j: tuple(detections[j].box)):
            ids[j] = self._begun
            self._known[ids[j]] = _Seen(self.frames)
            self._begun += 1
        for j in sorted(ids):
            seen = self._known.pop(ids[j])
            seen.add(self.frames, timestamp_s, shape, detections[j])
            self._known[ids[j]] = seen
        before_s = detections[0].before_s if detections else None
        for seen in self._known.values():
            if seen.frame != self.frames:
                seen.miss(timestamp_s, before_s)
        while len(self._known) > max(KNOWN_TRACKS, len(ids)):
            track_id = next(iter(self._known))
            seen = self._known.pop(track_id)
            if not self._forgets:
                self._over[track_id] = seen.summarise(track_id)
        return [ids[j] for j in range(len(detections))]

    def summaries(self) -> list[Track]:
        """Returns the tracks in the order of their ids. With `forgets` only those that may still be in the frame.

        A track whose scores are all below `SURE_SCORE` is left out unless it is in `UNSURE_RATIO` of the frames.
        """
        known = {i: seen for i, seen in self._known.items() if not self._forgets or seen.stays(self._shot)}
        tracks = self._over | {i: seen.summarise(i) for i, seen in known.items()}
        least = UNSURE_RATIO * self.frames
        return [track for _, track in sorted(tracks.items()) if track.score >= SURE_SCORE or track.frames >= least]

    def _link_by_place(self, timestamp_s, detections):
        """Returns detection → track id of the faces that are where their track was, or would be by its velocity."""
        here = [i for i, seen in sorted(self._known.items()) if seen.stays(self._shot)]
        affinity = np.zeros((len(here), len(detections)))
        for row, i in enumerate(here):
            seen = self._known[i]
            places = seen.last, seen.extrapolate(timestamp_s)
            for j, detection in enumerate(detections):
                if seen.last.shot != detection.shot and detection.descriptor is not None:
                    continue
                apart = seen.compare_looks(detection)
                was_there = seen.frame == self.frames - 1 and detection.before_s is None
                most = DIFFERENT if was_there else ALIKE_IN_SHOT
                stayed, moved = (_measure_affinity(place, detection, apart, most) for place in places)
                affinity[row, j] = max(moved, stayed - 0.2)
        return {j: here[row] for row, j in _assign(affinity)}

    def _link_by_looks(self, detections, ids):
        """Adds to `ids` the faces that are recognised by their descriptors, in any place."""
        young = {}  # faces of tracks with a few frames, which may belong to an older track
        for j, i in ids.items():
            if self._known[i].frames < YOUNG_FRAMES:
                young[j] = self._known[i].first
        looking = [j for j in range(len(detections)) if j not in ids or j in young]
        missing = [i for i in sorted(self._known) if i not in ids.values()]
        if not looking or not missing:
            return
        apart = np.full((len(missing), len(looking)), np.inf)
        for row, i in enumerate(missing):
            seen = self._known[i]
            for column, j in enumerate(looking):
                if j in young and seen.frame >= young[j]:
                    continue  # both were seen at once
                difference = seen.compare_looks(detections[j])
                most = ALIKE_IN_SHOT if seen.stays(self._shot) and j not in young else ALIKE
                if difference is not None and difference < most:
                    apart[row, column] = difference
        for row, column in _assign(np.where(np.isinf(apart), 0, 2 - apart)):
            nearest = DOUBT_RATIO * apart[row, column]
            seen, face = self._known[missing[row]], detections[looking[column]]
            others = [missing[other] for other in np.flatnonzero(apart[:, column] < nearest) if other != row]
            faces = [looking[other] for other in np.flatnonzero(apart[row] < nearest) if other != column]
            differences = [seen.compare_looks(self._known[other].last) for other in others]
            differences += [compare_looks(face, detections[other]) for other in faces]
            # A track whose last face has no descriptor may be another person.
            if all(difference is not None and difference < ALIKE for difference in differences):
                ids[looking[column]] = missing[row]


class _Seen:
    """The state of a track.

    Attributes:
        first, frame: Numbers of the first and the last frame in which it was seen, from 1.
        frames: Frames in which it was seen.
        last: The last `Detection`.
    """

    def __init__(self, first):
        self.first = self.frame = first
        self.frames, self._last_s, self._score = 0, 0.0, 0.0
        self.last: Any = None  # set by the first `add`
        self._sums = np.zeros(7)  # area, distance, width; x and y of the landmarks, and their squares
        self._velocity = None  # of the box in pixels a second
        self._origin = self._mean = None
        self._begun_s = 0.0
        self._past = deque(maxlen=math.ceil(DISSOLVE_S / DISSOLVE_STEP_S) + 2)  # (timestamp_s, descriptor)
        self._missed_s: tuple[float, float] | None = None  # of the first and the last frame without it since `frame`

    def add(self, frame, timestamp_s, shape, detection):
        x0, y0, x1, y1 = map(float, detection.box)
        height, width = shape[:2]
        distance = math.hypot(x0 + x1 - width, y0 + y1 - height) / math.hypot(width, height)
        place = detection.landmarks.mean(axis=0, dtype=np.float64)
        if self.last is None:
            self._origin, self._begun_s = place, timestamp_s
        elif self.last.shot != detection.shot or not 0 < timestamp_s - self._last_s <= MOTION_S:
            self._velocity = None
        else:
            velocity = (detection.box - self.last.box).reshape(2, 2).mean(axis=0) / (timestamp_s - self._last_s)
            self._velocity = velocity if self._velocity is None else (self._velocity + velocity) / 2
        place = place - self._origin
        self._sums += (x1 - x0) * (y1 - y0), distance, x1 - x0, *place, *place**2
        self.frames += 1
        self._score = max(self._score, detection.score)
        if detection.descriptor is not None:
            mean = detection.descriptor if self._mean is None else self._mean
            self._mean = mean + (detection.descriptor - mean) / min(self.frames, 20)
            if not self._past or timestamp_s - self._past[-1][0] >= DISSOLVE_STEP_S - 1e-6:
                self._past.append((timestamp_s, detection.descriptor))
        self.frame, self.last, self._last_s, self._missed_s = frame, detection, timestamp_s, None

    def miss(self, timestamp_s, before_s=None):
        self._missed_s = self._missed_s[0] if self._missed_s else timestamp_s, timestamp_s
        if looks := self._list_looks_before(before_s):  # the later descriptors are a mixture of two people
            self.last, self._mean = replace(self.last, descriptor=looks[-1]), looks[-1]
            self._past.clear()

    def stays(self, shot):
        """Returns whether the face may still be where it was."""
        gone_s = self._missed_s[1] - self._missed_s[0] if self._missed_s else 0
        # In a frame of one colour, as in a fade, there is no descriptor, and a cut says nothing about the scene.
        return gone_s <= TRACK_GAP_S and (self.last.shot == shot or self.last.descriptor is None)

    def extrapolate(self, timestamp_s):
        """Returns the `Detection` that is expected at a time."""
        if self._velocity is None:
            return self.last
        shift = np.float32(self._velocity * min(timestamp_s - self._last_s, MOTION_S))
        return replace(self.last, box=self.last.box + np.tile(shift, 2), landmarks=self.last.landmarks + shift)

    def compare_looks(self, detection):
        """Returns the difference of a face from the track: the smaller one of last and mean; `None` if unknown."""
        if detection.descriptor is None:
            return None
        if looks := self._list_looks_before(detection.before_s):
            return min(_measure_distance(one, detection.descriptor) for one in looks)
        known = [one for one in (self.last.descriptor, self._mean) if one is not None]
        return min((_measure_distance(one, detection.descriptor) for one in known), default=None)

    def _list_looks_before(self, before_s):
        """Returns the descriptors up to the time at which a dissolve began; an empty list without a dissolve."""
        return [looks for at_s, looks in self._past if at_s <= before_s + 1e-6] if before_s is not None else []

    def summarise(self, track_id):
        area, distance, width, *place = self._sums / self.frames
        x, y, xx, yy = place
        varies = math.sqrt(max(xx - x * x, 0) + max(yy - y * y, 0))
        is_still = self.frames >= STILL_FRAMES and varies < max(STILL_RATIO * width, STILL_PX)
        duration_s = self._last_s - self._begun_s
        values = float(area), float(distance), bool(is_still), float(duration_s), float(self._score)
        return Track(track_id, self.frames, *values)


def match(before: Sequence[Detection], after: Sequence[Detection]) -> list[tuple[int, int]]:
    """Pairs the faces of two frames: the best assignment by overlap, by landmarks and by what they look like.

    Args:
        before: Faces of the first frame.
        after: Faces of the second frame.

    Returns:
        Pairs of indices `(i, j)`. Faces whose overlap is below `TRACK_IOU`, or whose descriptors are `DIFFERENT`, make
        no pair.
    """
    affinity = [[_measure_affinity(one, other, compare_looks(one, other)) for other in after] for one in before]
    return _assign(np.reshape(affinity, (len(before), len(after))))


def compare_looks(one: Detection, other: Detection) -> float | None:
    """Compares what two faces look like.

    Args:
        one, other: Two faces.

    Returns:
        Distance of their descriptors; `None` if one face has no descriptor.
    """
    if one.descriptor is None or other.descriptor is None:
        return None
    return _measure_distance(one.descriptor, other.descriptor)


def choose_tracks(tracks: Sequence[Track], which: Choice) -> list[int]:
    """Ranks tracks and chooses some of them.

    Args:
        tracks: All tracks.
        which: `"main"` is the track that is seen longest; of tracks of about the same length, the most central one,
            then the largest one. A still face, as in a picture on a wall, comes last if another face moves
            (`find_pictures`). `"largest"` is the track that covers the most pixels over all frames. `"all"` returns all
            tracks, the main one first.

    Returns:
        Ids; empty if there are no tracks.
    """
    if not tracks:
        return []
    if which == "largest":
        return [max(tracks, key=lambda track: (track.frames * track.mean_area_px, -track.id)).id]
    pictures = find_pictures(tracks)
    as_long = AS_LONG_RATIO * max(track.frames for track in tracks if track.id not in pictures)

    def rank(track):
        is_picture, frames = track.id in pictures, min(track.frames, as_long)
        return is_picture, -frames, track.mean_distance_ratio, -track.mean_area_px, track.id

    ids = [track.id for track in sorted(tracks, key=rank)]
    return ids if which == "all" else ids[:1]


def find_pictures(tracks: Iterable[Track]) -> set[int]:
    """Finds still faces, as in pictures on a wall, that come after a face that moves.

    The moving face must have `MOVING_RATIO` of the frames of the still one. If the still face is longer than `STILL_S`,
    it counts as if it were `STILL_S` long.

    Args:
        tracks: All tracks.

    Returns:
        Ids; empty if no face moves.
    """
    tracks = list(tracks)
    moving = max((track.frames for track in tracks if not track.is_still and track.frames >= STILL_FRAMES), default=0)

    def count_needed(track):
        return MOVING_RATIO * track.frames * STILL_S / max(track.duration_s, STILL_S)

    return {track.id for track in tracks if track.is_still and moving >= count_needed(track)}


def iou(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """Computes intersection over union.

    Args:
        a, b: Boxes x0 y0 x1 y1.

    Returns:
        A number in [0, 1].
    """
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = width * height
    return float(area / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - area))


def _measure_affinity(before, after, apart, most=DIFFERENT):
    """Returns how well place and looks of two faces fit, 0 if they do not; `apart` is what `compare_looks` returns."""
    overlap = iou(before.box, after.box)
    if overlap < TRACK_IOU or (apart is not None and apart >= most):
        return 0.0
    alike = 0 if apart is None else 1 - apart / DIFFERENT
    return 1 + overlap - min(_measure_landmark_distance(before, after), 1) + alike


def _assign(affinity):
    """Returns the pairs of indices of the best assignment, without those of affinity 0; none is below 0."""
    return [pair for pair in find_matching(affinity) if affinity[pair] > 0]


def _measure_distance(a, b):
    return float(np.linalg.norm(a - b))


def _measure_landmark_distance(a, b):
    """Returns the mean distance of the landmarks of two faces, as a share of the first box's width."""
    return float(np.linalg.norm(a.landmarks - b.landmarks, axis=1).mean() / max(a.box[2] - a.box[0], 1))

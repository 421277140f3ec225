"""Faces through time: detections are linked to tracks, and the tracks are ranked.

A face is linked to a track by its place and by what it looks like. Its place is where the track was last, or where it
would be if it moved on as it did before. Its descriptor (`affect.pipelines.appearance`) must not contradict, and links
faces by itself where the place says nothing: at low frame rates, after a gap and across a scene cut. Where two people
fit about as well, or none well enough, a new track begins: a person may have several tracks, but a track has one
person.
"""

import math
from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from affect.pipelines.appearance import ALIKE, DIFFERENT, DISSOLVE_S, DISSOLVE_STEP_S

# Two boxes may show one face when they overlap at least so much.
TRACK_IOU = 0.3
# A face that was not there in frames over so long a time has left its place. It is known again by its looks alone.
TRACK_GAP_S = 2.0
# A face moves on as before for so long at most.
MOTION_S = 1.0
# In one shot a face may look this different and be known again wherever it is; elsewhere it must be `ALIKE`. Nor may it
# look more different in its place after frames without it, or where the scene dissolves into another.
ALIKE_IN_SHOT = 1.2
# The second best of different people must look so many times as different, or nothing is linked.
DOUBT_RATIO = 1.15
# A face that never has this score must be in this share of the frames, because letters may look like one in passing.
SURE_SCORE, UNSURE_RATIO = 0.9, 0.1
# Tracks that are known again after a gap: the last ones seen. A younger track than so many frames may turn out to go
# on with an older one, for example when a face that was half hidden comes out.
KNOWN_TRACKS, YOUNG_FRAMES = 256, 16
# Tracks at least so long, as a share of the longest, count as equally long: a frame more or less does not choose.
AS_LONG_RATIO = 0.9
# A face is still, as in a picture on a wall, when in at least so many frames its place varies by less than this share
# of its width, or than so many pixels.
STILL_FRAMES, STILL_RATIO, STILL_PX = 5, 0.015, 0.6
# It gives way to a face that moves in at least so many frames, as a share of its own in so many seconds at most.
MOVING_RATIO, STILL_S = 0.25, 8.0


@dataclass(frozen=True)
class Detection:
    """A face in a frame.

    Args:
        box: float32 (4,): x0 y0 x1 y1 in pixels.
        landmarks: float32 (5, 2): x y in pixels, in the order of `affect.data.records.LANDMARKS`.
        score: In [0, 1].
        descriptor: float32 (E,), what it looks like (`affect.pipelines.appearance.describe_face`), or `None`.
        shot: Number of the frame's shot, from 0: a scene cut begins the next one.
        before_s: Time from which the scene has dissolved into the one of the frame; `None` where it has not.
    """

    box: np.ndarray
    landmarks: np.ndarray
    score: float
    descriptor: np.ndarray | None = None
    shot: int = 0
    before_s: float | None = None


@dataclass(frozen=True)
class Track:
    """One face through time, as far as it is needed to choose it.

    Args:
        id: Place in the order in which the tracks begin, from 0; of those that begin in one frame, from left to right.
        frames: Frames in which the face is seen.
        mean_area_px: Mean area of its box in square pixels.
        mean_distance_ratio: Mean distance of its box's centre from the frame's, as a share of half the diagonal.
        is_still: Whether it stays in one place as a picture on a wall does.
        duration_s: From its first frame to its last.
        score: The detector's highest.
    """

    id: int
    frames: int
    mean_area_px: float
    mean_distance_ratio: float
    is_still: bool = False
    duration_s: float = 0.0
    score: float = 1.0


class Tracks:
    """Links the detections of a video, frame by frame. It holds a few numbers a track, and no pixels.

    Args:
        forgets: Whether all but the last `KNOWN_TRACKS` tracks are forgotten, so that a stream may be endless.
    """

    def __init__(self, *, forgets=False):
        self.frames = 0
        self._forgets = forgets
        self._begun = 0
        self._shot = 0
        self._known = {}  # id → _Seen, those seen last at the end
        self._over = {}  # id → Track of those that are not known again

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
        self._shot = detections[0].shot if detections else self._shot
        ids = self._by_place(timestamp_s, detections)
        self._by_looks(detections, ids)
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
                self._over[track_id] = seen.summary(track_id)
        return [ids[j] for j in range(len(detections))]

    def summaries(self):
        """Returns the `Track`s in the order of their ids; where tracks are forgotten, those that have not left.

        One whose score was always below `SURE_SCORE` is left out unless it is in `UNSURE_RATIO` of the frames.
        """
        known = {i: seen for i, seen in self._known.items() if not self._forgets or seen.stays(self._shot)}
        tracks = self._over | {i: seen.summary(i) for i, seen in known.items()}
        least = UNSURE_RATIO * self.frames
        return [track for _, track in sorted(tracks.items()) if track.score >= SURE_SCORE or track.frames >= least]

    def _by_place(self, timestamp_s, detections):
        """Returns detection → track id of the faces that are where their track was, or moved on."""
        here = [i for i, seen in sorted(self._known.items()) if seen.stays(self._shot)]
        affinity = np.zeros((len(here), len(detections)))
        for row, i in enumerate(here):
            seen = self._known[i]
            places = seen.last, seen.moved_on(timestamp_s)
            for j, detection in enumerate(detections):
                if seen.last.shot != detection.shot and detection.descriptor is not None:
                    continue
                apart = seen.looks_apart(detection)
                was_there = seen.frame == self.frames - 1 and detection.before_s is None
                most = DIFFERENT if was_there else ALIKE_IN_SHOT
                stayed, moved = (_affinity(place, detection, apart, most) for place in places)
                affinity[row, j] = max(moved, stayed - 0.2)
        return {j: here[row] for row, j in _assign(affinity)}

    def _by_looks(self, detections, ids):
        """Adds to `ids` the faces that are known again by what they look like, wherever they are."""
        young = {}  # a face that a track of a few frames was linked to may be an older track's
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
                looks = seen.looks_apart(detections[j])
                most = ALIKE_IN_SHOT if seen.stays(self._shot) and j not in young else ALIKE
                if looks is not None and looks < most:
                    apart[row, column] = looks
        for row, column in _assign(np.where(np.isinf(apart), 0, 2 - apart)):
            nearest = DOUBT_RATIO * apart[row, column]
            seen, face = self._known[missing[row]], detections[looking[column]]
            others = [self._known[missing[other]] for other in np.flatnonzero(apart[:, column] < nearest)]
            faces = [detections[looking[other]] for other in np.flatnonzero(apart[row] < nearest)]
            if all(seen.looks_apart(other.last) < ALIKE for other in others) and all(
                looks_apart(face, other) < ALIKE for other in faces
            ):
                ids[looking[column]] = missing[row]


class _Seen:
    """What is known of a track.

    Attributes:
        first, frame: Numbers of the first and the last frame in which it was seen, from 1.
        frames: Frames in which it was seen.
        last: The last `Detection`.
    """

    def __init__(self, first):
        self.first = self.frame = first
        self.frames, self.last, self._last_s = 0, None, 0.0
        self._score = 0.0
        self._sums = np.zeros(7)  # area, distance, width; x and y of the landmarks, and their squares
        self._velocity = None  # of the box in pixels a second
        self._origin = self._mean = None
        self._begun_s = 0.0
        self._past = deque(maxlen=math.ceil(DISSOLVE_S / DISSOLVE_STEP_S) + 2)  # (timestamp_s, descriptor)
        self._missed_s = None  # times of the first and the last frame without it since it was seen

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
        if looks := self._looked_before(before_s):  # what was seen since is a mixture of two people
            self.last, self._mean = replace(self.last, descriptor=looks[-1]), looks[-1]
            self._past.clear()

    def stays(self, shot):
        """Returns whether the face may still be where it was."""
        gone_s = self._missed_s[1] - self._missed_s[0] if self._missed_s else 0
        # Where a picture is of one colour, as in a fade, a change of colour says nothing about the scene.
        return gone_s <= TRACK_GAP_S and (self.last.shot == shot or self.last.descriptor is None)

    def moved_on(self, timestamp_s):
        """Returns the `Detection` that is expected at a time."""
        if self._velocity is None:
            return self.last
        shift = np.float32(self._velocity * min(timestamp_s - self._last_s, MOTION_S))
        return replace(self.last, box=self.last.box + np.tile(shift, 2), landmarks=self.last.landmarks + shift)

    def looks_apart(self, detection):
        """Returns how far a face is from what the track looked like, last or on average; `None` where unknown."""
        if detection.descriptor is not None and (looks := self._looked_before(detection.before_s)):
            return min(_norm(one, detection.descriptor) for one in looks)
        last = looks_apart(self.last, detection)
        if last is None:
            return (
                None if self._mean is None or detection.descriptor is None else _norm(self._mean, detection.descriptor)
            )
        return min(last, _norm(self._mean, detection.descriptor))

    def _looked_before(self, before_s):
        """Returns the descriptors up to the time from which the scene dissolved; none where it did not."""
        return [looks for at_s, looks in self._past if at_s <= before_s + 1e-6] if before_s is not None else []

    def summary(self, track_id):
        area, distance, width, *place = self._sums / self.frames
        x, y, xx, yy = place
        varies = math.sqrt(max(xx - x * x, 0) + max(yy - y * y, 0))
        is_still = self.frames >= STILL_FRAMES and varies < max(STILL_RATIO * width, STILL_PX)
        duration_s = self._last_s - self._begun_s
        values = float(area), float(distance), bool(is_still), float(duration_s), float(self._score)
        return Track(track_id, self.frames, *values)


def match(before, after):
    """Pairs the faces of two frames: the best assignment by overlap, by landmarks and by what they look like.

    Args:
        before, after: Lists of `Detection`.

    Returns:
        List of pairs of indices `(i, j)`. Faces that overlap with none by `TRACK_IOU`, or look `DIFFERENT`, are left
        out.
    """
    affinity = [[_affinity(one, other, looks_apart(one, other)) for other in after] for one in before]
    return _assign(np.reshape(affinity, (len(before), len(after))))


def looks_apart(one, other):
    """Returns the distance of the descriptors of two `Detection`s; `None` where one has none."""
    if one.descriptor is None or other.descriptor is None:
        return None
    return _norm(one.descriptor, other.descriptor)


def chosen_tracks(tracks, which):
    """Ranks tracks and returns the ids of those that are wanted.

    Args:
        tracks: List of `Track`.
        which: `affect.config.Faces.tracks`. `"main"` is the track seen longest; of those about as long, the most
            central, then the largest. A still face, as in a picture on a wall, comes after all others where another
            face moves (`find_pictures`). `"largest"` is the track that covers the most pixels over all frames. `"all"`
            are all, the main track first.

    Returns:
        List of ids, empty where there are no tracks.
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


def find_pictures(tracks):
    """Finds still faces, as in pictures on a wall, that give way to a face that moves.

    That face must be there in a quarter as many frames, and of a still face that stays long, in as many as it has in
    two seconds.

    Args:
        tracks: List of `Track`.

    Returns:
        Set of ids, empty where no face moves.
    """
    moving = max((track.frames for track in tracks if not track.is_still and track.frames >= STILL_FRAMES), default=0)

    def frames(track):
        return MOVING_RATIO * track.frames * STILL_S / max(track.duration_s, STILL_S)

    return {track.id for track in tracks if track.is_still and moving >= frames(track)}


def iou(a, b):
    """Returns intersection over union of two boxes x0 y0 x1 y1."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = width * height
    return float(area / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - area))


def _affinity(before, after, apart, most=DIFFERENT):
    """Returns how well the place and the looks of two faces fit, 0 where they do not; `apart` as of `looks_apart`."""
    overlap = iou(before.box, after.box)
    if overlap < TRACK_IOU or (apart is not None and apart >= most):
        return 0.0
    alike = 0 if apart is None else 1 - apart / DIFFERENT
    return 1 + overlap - min(_landmark_distance(before, after), 1) + alike


def _assign(affinity):
    """Returns the pairs of indices of the best assignment, without those of affinity 0."""
    rows, columns = linear_sum_assignment(-affinity)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if affinity[i, j] > 0]


def _norm(a, b):
    return float(np.linalg.norm(a - b))


def _landmark_distance(a, b):
    """Returns the mean distance of the landmarks of two faces, as a share of the first box's width."""
    return float(np.linalg.norm(a.landmarks - b.landmarks, axis=1).mean() / max(a.box[2] - a.box[0], 1))

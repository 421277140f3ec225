"""A clip and its faces in memory: what the pipelines cut, what a record stores and what a model reads."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

# Version of the records that store clips. It rises whenever old ones would be read differently.
VERSION = 2

# Points of `Face.landmarks`; right and left are the subject's.
LANDMARKS = ("right_eye", "left_eye", "nose", "mouth_right", "mouth_left")


@dataclass(frozen=True)
class Face:
    """A face that was cut from a frame.

    Args:
        timestamp_s: Presentation time of the frame in seconds.
        jpeg: The aligned face, JPEG, RGB, `face_size` × `face_size`.
        box: `(x0, y0, x1, y1)` in pixels of the displayed frame.
        landmarks: Five `(x, y)` in pixels of the displayed frame, in the order of `LANDMARKS`; NaN where unknown.
        score: Of the detector, in [0, 1].
        transform: `(a, b, tx, c, d, ty)`, the affine map from frame pixels to face pixels, row by row.
    """

    timestamp_s: float
    jpeg: bytes
    box: tuple[float, ...]
    landmarks: tuple[float, ...]
    score: float
    transform: tuple[float, ...]


@dataclass(frozen=True)
class Dimensions:
    """Ratings of the valence and arousal of a whole recording, neither shifted nor smoothed nor scaled.

    Args:
        times_s: T_l times of the ratings in seconds of the recording, ascending.
        valence: T_l ratings.
        arousal: T_l ratings.
    """

    times_s: tuple[float, ...] = field(repr=False)
    valence: tuple[float, ...] = field(repr=False)
    arousal: tuple[float, ...] = field(repr=False)


@dataclass(frozen=True)
class Clip:
    """A clip and the faces that were cut from it.

    Args:
        key: Unique name in the data set, such as `"train/happy/0003"`.
        label: Class name; empty without a label.
        label_index: Index of the label in the manifest's classes, for other readers of MediaSequence; -1 without a
            label.
        subject: Person; empty if unknown.
        source_sha256: Of the video file.
        frame_rate_hz: Of the video; 0 if unknown.
        frames_decoded: Number of frames that were looked at.
        faces: In time order; empty without a face.
        recording: Name of the video that the clip is a part of; `None` is the key of the clip, which is then a video on
            its own.
        part: Place of the clip in its recording, from 0.
        votes: Share of the raters for each of the manifest's classes, in their order; `None` without raters.
        dimensions: Ratings of the whole recording; `None` without ratings.
    """

    key: str
    label: str = ""
    label_index: int = -1
    subject: str = ""
    source_sha256: str = ""
    frame_rate_hz: float = 0.0
    frames_decoded: int = 0
    faces: Sequence[Face] = field(default=(), repr=False)
    recording: str | None = None
    part: int = 0
    votes: tuple[float, ...] | None = None
    dimensions: Dimensions | None = None


def name_rating_fault(
    times_s: Sequence[float] | np.ndarray, frames: int, frame_rate_hz: float, faces_s: Iterable[float] = ()
) -> str:
    """Compares the times of a recording's ratings with both ends of its video.

    The video ends after its number of frames at their rate, or with its last face if that is later. The frames may also
    be slower than their rate says, for example when the video's own rate is lower than the requested rate. Then the
    times of the faces give the distance between frames. Ratings may begin after the start of the video, and end before
    or after its end, by the largest of 1 s, 1 % of its length, and two of its frames.

    Args:
        times_s: Times of the ratings in seconds, ascending.
        frames: Number of frames of the video that were looked at.
        frame_rate_hz: Of these frames; 0 if unknown. Then only the last face gives the end, and ratings may be longer.
        faces_s: Times of the faces in seconds, in any order.

    Returns:
        One sentence on the fault; empty without a fault, and without ratings.
    """
    if not len(times_s) or not frames:
        return ""
    faces_s = sorted({float(time_s) for time_s in faces_s})
    fault = _describe_rating_fault(times_s, frames, frame_rate_hz, faces_s)
    step_s = min((after_s - before_s for before_s, after_s in pairwise(faces_s)), default=0.0)
    if fault and step_s * frame_rate_hz > 1.5 and not _describe_rating_fault(times_s, frames, 1 / step_s, faces_s):
        return ""
    return fault


def _describe_rating_fault(
    times_s: Sequence[float] | np.ndarray, frames: int, frame_rate_hz: float, faces_s: list[float]
) -> str:
    first_s, end_s = float(times_s[0]), float(times_s[-1])
    length_s = max([frames / frame_rate_hz if frame_rate_hz > 0 else 0.0, *faces_s[-1:]])
    tolerance_s = max(1.0, 0.01 * length_s, 2 / frame_rate_hz if frame_rate_hz > 0 else 0.0)
    begins_late, ends_early = first_s > tolerance_s, end_s < length_s - tolerance_s
    ends_late = frame_rate_hz > 0 and end_s > length_s + tolerance_s
    if not begins_late and not ends_early and not ends_late:
        return ""
    hint = ""
    if ends_late and abs(end_s / 1000 - length_s) <= tolerance_s:
        hint = " They look like milliseconds."
    elif ends_late and abs(end_s / frame_rate_hz - length_s) <= tolerance_s:
        hint = " They look like numbers of frames."
    return (
        f"The ratings are of another time than the video: they go from {first_s:g} to {end_s:g} s, and the video is "
        f"{length_s:.4g} s long.{hint} Times must be in seconds of the video."
    )

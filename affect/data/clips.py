"""A clip and its faces in memory: what the pipelines cut, what a record stores and what a model reads."""

from collections.abc import Sequence
from dataclasses import dataclass, field

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

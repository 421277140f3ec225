"""A video → its faces, aligned to frontal and encoded: decode, detect, link, align."""

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from affect.config import Faces
from affect.data.clips import Clip, Face
from affect.errors import InputError, format_count
from affect.pipelines import video
from affect.pipelines.files import name_fault
from affect.pipelines.follow import Detector, find_faces
from affect.pipelines.images import PHOTOGRAPHS, encode_jpeg, read_photograph
from affect.pipelines.spool import Spool
from affect.pipelines.tracks import Detection, Track, Tracks, choose_tracks
from affect.progress import Track as Progress
from affect.progress import hide_progress

# Version of how faces are found and cut. Raise it when the same settings give other faces than before. 1: MTCNN ran in
# TensorFlow. 2: it runs in LiteRT, and boxes differ by thousandths of a pixel, or more where scores are equal.
FACES_VERSION = 2
# Frames that are rotated and searched again if a video shows no face.
TURNED_FRAMES = 4


@dataclass(frozen=True)
class Cut:
    """What is known about a video after its faces were cut out. The faces are returned separately.

    A person may have several tracks: a person who is not recognised begins a new track. A false detection in a single
    frame is a track too.

    Args:
        tracks: The chosen tracks, in the order of `choose_tracks`; empty if there is no face.
        frames: Frames that were looked at.
        frame_rate_hz: Frame rate of the frames that were looked at; 0 if unknown.
        problem: The fault of the video in one line; empty if there is none.
        notes: One-line remarks on the video that cost no frame, as `affect.pipelines.video.read_frames` gives them.
        seen: All tracks, chosen or not, in the order in which they begin.
        times_s: Times in seconds of the frames that were looked at, with a face or without.
        size_px: Width and height of the frames; 0, 0 without a frame.
    """

    tracks: tuple[Track, ...]
    frames: int
    frame_rate_hz: float
    problem: str
    notes: tuple[str, ...] = ()
    seen: tuple[Track, ...] = ()
    times_s: Sequence[float] = ()
    size_px: tuple[int, int] = (0, 0)


def is_photograph(path: Path | str) -> bool:
    """Returns whether a path is a photograph by its suffix. It is read as a video of one frame at 0 s."""
    return Path(path).suffix.lower() in PHOTOGRAPHS


def read_frames(path: Path | str, **section: Any) -> Iterator[tuple[float, np.ndarray]]:
    """Reads the frames of a video, or the one frame of a photograph.

    Args:
        path: File.
        **section: Arguments of `affect.pipelines.video.read_frames`. They have no effect on a photograph.

    Yields:
        `(timestamp_s, frame)`: seconds; uint8 (H, W, 3), RGB.

    Raises:
        InputError: When the file cannot be read, or as `affect.pipelines.video.read_frames`.
    """
    if is_photograph(path):
        yield 0.0, read_photograph(path)
    elif not Path(path).is_dir() and (fault := name_fault(path)):
        raise InputError(fault)
    else:
        yield from video.read_frames(path, **section)


def cut_faces(
    path: Path | str,
    settings: Faces,
    detector: Detector,
    tracks: Tracks,
    *,
    key: str = "",
    start_s: float | None = None,
    end_s: float | None = None,
    times_s: "array[float] | None" = None,
    notes: list[str] | None = None,
    progress: Progress = hide_progress,
) -> Iterator[tuple[int, Face]]:
    """Cuts all faces of a video while it is read. Only one window of frames is in memory, also of a long video.

    Args:
        path: Video file.
        settings: `settings.tracks` has no effect: the caller chooses at the end with `choose_tracks`.
        detector: Built from a row of `DETECTORS`.
        tracks: An empty `Tracks`. Each frame is added to it before the faces of the frame are yielded.
        key: Key of the clip, for a detector that looks up faces.
        start_s, end_s: Section of the video in seconds.
        times_s: Array of doubles to which the time of every frame that is looked at is appended.
        notes: List to which remarks on the video are appended, as by `affect.pipelines.video.read_frames`.
        progress: Shows how many frames were looked at.

    Yields:
        `(track_id, face)` in time order.

    Raises:
        InputError: When the video cannot be opened, or, after the last face, when it is damaged.
    """
    frames: Iterable[tuple[float, np.ndarray]] = read_frames(
        path, start_s=start_s, end_s=end_s, frame_rate_hz=settings.frame_rate_hz, notes=notes
    )
    if progress is not hide_progress:
        frames = progress(frames, count_frames(path, settings.frame_rate_hz, start_s, end_s), "frames")
    for timestamp_s, frame, detections in find_faces(frames, detector, settings.detect, key):
        ids = tracks.add(timestamp_s, frame.shape, detections)
        if times_s is not None:
            times_s.append(float(timestamp_s))
        for track_id, detection in zip(ids, detections, strict=True):
            yield track_id, cut_face(timestamp_s, frame, settings, detection)


def count_frames(
    path: Path | str, frame_rate_hz: float | None, start_s: float | None = None, end_s: float | None = None
) -> int:
    """Estimates from the header of a video how many frames will be looked at, for a progress bar; at least 1.

    Args:
        path, start_s, end_s: As in `cut_faces`.
        frame_rate_hz: Frames a second that are looked at; `None` is every frame.
    """
    if is_photograph(path):
        return 1
    header = video.probe(path)
    length_s = min(header.duration_s, end_s or header.duration_s) - (start_s or 0.0)
    return max(1, round(length_s * min(header.frame_rate_hz, frame_rate_hz or header.frame_rate_hz)))


def cut_video(
    path: Path | str,
    settings: Faces,
    detector: Detector,
    keep: Callable[[int, Face], object],
    *,
    key: str = "",
    start_s: float | None = None,
    end_s: float | None = None,
    progress: Progress = hide_progress,
) -> Cut:
    """Cuts all faces of a video and chooses the tracks that `settings.tracks` asks for.

    Args:
        path, settings, detector, key, start_s, end_s, progress: As in `cut_faces`.
        keep: `keep(track_id, face)` is called with each face of every track, because the choice is made at the end.

    Returns:
        The tracks. A damaged video keeps the faces of all frames that were decoded.
    """
    tracks, problem = Tracks(), ""
    times_s = array("d")  # compact, because a video may have many frames
    notes: list[str] = []
    section: dict[str, Any] = {"start_s": start_s, "end_s": end_s}
    try:
        for track_id, face in cut_faces(
            path, settings, detector, tracks, key=key, times_s=times_s, notes=notes, progress=progress, **section
        ):
            keep(track_id, face)
    except InputError as error:
        problem = str(error)
    summaries = {track.id: track for track in tracks.summaries()}
    chosen = tuple(summaries[track_id] for track_id in choose_tracks([*summaries.values()], settings.tracks))
    if not chosen and not problem:
        problem = f"{path} shows no face in {format_count(tracks.frames, 'frame')}."
        if not tracks.frames:
            end = "its end" if end_s is None else f"{end_s:g} s"
            length_s = video.probe(path).duration_s
            problem = f"{path} has no frames from {start_s or 0:g} s to {end}. Its length is {length_s:.3g} s."
        elif turn := find_turn(path, detector, start_s=start_s, end_s=end_s):
            problem += f" Rotated clockwise by {turn} degrees it does: rotate the video, or correct its display angle."
    return Cut(
        chosen,
        tracks.frames,
        settings.frame_rate_hz or (0.0 if is_photograph(path) else video.probe(path).frame_rate_hz),
        problem,
        notes=tuple(notes),
        seen=tuple(summaries.values()),
        times_s=times_s,
        size_px=tracks.size_px,
    )


def find_turn(
    path: Path | str, detector: Detector, *, start_s: float | None = None, end_s: float | None = None
) -> Literal[0, 90, 180, 270]:
    """Finds the rotation at which a video shows a face. At most `TURNED_FRAMES` frames are examined.

    Args:
        path, detector, start_s, end_s: As in `cut_faces`.

    Returns:
        Degrees clockwise at which most of these frames show a face; 0 if there is no such rotation.
    """
    if not hasattr(detector, "detect"):
        return 0
    try:
        part = read_frames(path, start_s=start_s, end_s=end_s, frame_rate_hz=1.0)
        frames = [frame for _, frame in islice(part, TURNED_FRAMES)]
    except InputError:
        return 0
    turns: tuple[Literal[180, 90, 270], ...] = (180, 90, 270)
    for degrees in turns:
        turned = [np.ascontiguousarray(np.rot90(frame, -degrees // 90)) for frame in frames]
        if sum(bool(detector.detect([frame])[0]) for frame in turned) > len(turned) / 2:
            return degrees
    return 0


def cut_clip(path: Path | str, settings: Faces, detector: Detector, **options: Any) -> tuple[Clip, Cut]:
    """Cuts the first track that `settings.tracks` asks for: the main one or the largest one.

    Args:
        path, settings, detector: As in `cut_faces`.
        **options: As in `cut_people`.

    Returns:
        `(clip, cut)`, as `cut_people` returns them.
    """
    clips, cut = cut_people(path, settings, detector, **options)
    return clips[0], cut


def check_section(start_s: float | None, end_s: float | None) -> None:
    """Checks the section of a video that is to be read.

    Args:
        start_s, end_s: In seconds; `None` is the start or the end of the video.

    Raises:
        InputError: If it does not start at 0 s or later and end after that.
    """
    low, high = start_s or 0.0, math.inf if end_s is None else end_s
    if not 0 <= low < high:
        raise InputError(
            "The section of a video must start at 0 s or later and end after that. "
            f"Received: start_s={start_s}, end_s={end_s}"
        )


def cut_people(
    path: Path | str,
    settings: Faces,
    detector: Detector,
    *,
    key: str,
    start_s: float | None = None,
    end_s: float | None = None,
    folder: Path | None = None,
    owner: object = None,
    progress: Progress = hide_progress,
    **identity: Any,
) -> tuple[list[Clip], Cut]:
    """Cuts all tracks that `settings.tracks` asks for.

    Args:
        path, settings, detector, start_s, end_s, progress: As in `cut_faces`.
        key: Key of the clips.
        folder: Empty folder in which the faces of all tracks are kept, so that memory does not grow with the video. The
            caller removes it. `None` keeps the faces in memory.
        owner: Object that lives as long as the faces, such as one that removes the folder when nothing refers to it.
        **identity: `label`, ... of each `Clip`.

    Returns:
        `(clips, cut)`: a clip for each chosen track, in their order; one clip without faces if there is no track. Their
        `faces` are a tuple, or with `folder` an `affect.pipelines.spool.SpooledFaces`. `cut` says what else was seen,
        and what is wrong with the video.
    """
    kept: dict[int, list[Face]] = {}
    spool = Spool(folder) if folder else None
    cut = cut_video(
        path,
        settings,
        detector,
        spool.add if spool else lambda track_id, face: kept.setdefault(track_id, []).append(face),
        key=key,
        start_s=start_s,
        end_s=end_s,
        progress=progress,
    )
    chosen: list[Sequence[Face]] = [
        spool.track(track.id, owner) if spool else tuple(kept[track.id]) for track in cut.tracks
    ]
    about = {"key": key, "frame_rate_hz": cut.frame_rate_hz, "frames_decoded": cut.frames, **identity}
    return [Clip(faces=faces, **about) for faces in chosen or [()]], cut


def align(
    frame: np.ndarray,
    landmarks: np.ndarray,
    face_size: int,
    margin_ratio: float,
    template: tuple[tuple[float, float], ...] = Faces.template,
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts a face by the similarity transform that brings its landmarks closest to the template.

    Args:
        frame: uint8 (H, W, 3).
        landmarks: (5, 2) in pixels, in the order of `affect.data.clips.LANDMARKS`.
        face_size: Height and width of the result in pixels.
        margin_ratio: Padding around the template on each side, as a share of its size.
        template: As in `affect.config.Faces`.

    Returns:
        `(face, matrix)`: uint8 (face_size, face_size, 3), black outside the frame; float64 (2, 3), which maps frame
        pixels to face pixels.
    """
    target = (np.asarray(template, np.float64) + margin_ratio) / (1 + 2 * margin_ratio) * face_size
    matrix = _fit_similarity(np.asarray(landmarks, np.float64), target)
    # Bilinear sampling skips pixels when it shrinks by more than 2. So the part of the frame that the face needs is
    # first shrunk by area.
    shrink = 2 * np.hypot(*matrix[:, 0])
    if shrink < 1:
        frame, from_frame = _shrink_around(frame, matrix, face_size, shrink)
        from_small = np.linalg.inv(from_frame)
        face = cv2.warpAffine(frame, matrix @ from_small, (face_size, face_size), flags=cv2.INTER_LINEAR)
    else:
        face = cv2.warpAffine(frame, matrix, (face_size, face_size), flags=cv2.INTER_LINEAR)
    return face, matrix


def _fit_similarity(points, target):
    """Returns the matrix, float64 (2, 3), of the rotation, scale and shift that bring points closest to a target."""
    z, w = points @ (1, 1j), target @ (1, 1j)
    centred = z - z.mean()
    spread = np.vdot(centred, centred).real
    factor = np.vdot(centred, w - w.mean()) / spread if spread > 0 else 0
    if not factor:
        raise ValueError(f"No similarity transform fits these landmarks. Received: {points}")
    shift = w.mean() - factor * z.mean()
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def _shrink_around(frame, matrix, face_size, shrink):
    """Shrinks the part of a frame that a face is cut from.

    Returns:
        `(small, from_frame)`: uint8; float64 (3, 3), which maps frame pixels to pixels of `small`.
    """
    turn, shift = matrix[:, :2], matrix[:, 2]
    corners = np.array([[0, 0], [0, face_size], [face_size, 0], [face_size, face_size]])
    corners = np.linalg.solve(turn, (corners - shift).T)
    border = 4 / shrink  # 4 pixels of the small image
    x0, y0 = np.clip(np.floor(corners.min(axis=1) - border), 0, np.subtract(frame.shape[1::-1], 1)).astype(int)
    x1, y1 = np.ceil(corners.max(axis=1) + border).astype(int)
    part = frame[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    height, width = part.shape[:2]
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    # OpenCV's pixel centres: x' + 0.5 = s (x + 0.5).
    sx, sy = size[0] / width, size[1] / height
    from_frame = [[sx, 0, sx * (0.5 - x0) - 0.5], [0, sy, sy * (0.5 - y0) - 0.5], [0, 0, 1]]
    return small, np.array(from_frame)


def cut_face(timestamp_s: float, frame: np.ndarray, settings: Faces, detection: Detection) -> Face:
    """Aligns and encodes a face that was detected in a frame.

    Args:
        timestamp_s: Time of the frame.
        frame: uint8 (H, W, 3), RGB.
        settings: Size, margin, template and JPEG quality are used.
        detection: The face.
    """
    face, matrix = align(frame, detection.landmarks, settings.face_size, settings.margin_ratio, settings.template)
    return Face(
        timestamp_s=float(timestamp_s),
        jpeg=encode_jpeg(face, settings.jpeg_quality),
        box=tuple(map(float, detection.box)),
        landmarks=tuple(map(float, detection.landmarks.ravel())),
        score=detection.score,
        transform=tuple(map(float, matrix.ravel())),
    )

"""A video → its faces, aligned to frontal and encoded: decode, detect, link, align."""

from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np

from affect.config import Faces
from affect.data.records import Clip, Face
from affect.errors import InputError
from affect.pipelines import video
from affect.pipelines.follow import find_faces
from affect.pipelines.spool import Spool
from affect.pipelines.tracks import Track, Tracks, chosen_tracks

# Frames of a video without a face that are turned to see whether one appears.
TURNED_FRAMES = 4


@dataclass(frozen=True)
class Cut:
    """What came of cutting a video, but for its faces.

    A person may have several tracks: one that is not known again begins a new track, and so does what the detector
    takes for a face in a single frame.

    Args:
        tracks: Tuple of the chosen `Track`s, in the order of `chosen_tracks`; empty where there is no face.
        frames: Frames that were looked at.
        frame_rate_hz: Of the video, or of the frames that were looked at; 0 where unknown.
        problem: What is wrong with the video in one line, empty where nothing is.
        notes: One-line remarks on the video that cost no frame, as `affect.pipelines.video.read_frames` gives them.
        seen: All `Track`s, chosen or not, in the order in which they begin.
        times_s: Times in seconds of the frames that were looked at, with a face or without.
    """

    tracks: tuple[Track, ...]
    frames: int
    frame_rate_hz: float
    problem: str
    notes: tuple[str, ...] = ()
    seen: tuple[Track, ...] = ()
    times_s: tuple[float, ...] = ()


def cut_faces(path, settings, detector, tracks, *, key="", start_s=None, end_s=None, times_s=None, notes=None):
    """Cuts all faces of a video as it is read; a window of frames is held, however long the video is.

    Args:
        path: Video file.
        settings: `affect.config.Faces`; `tracks` is left to the caller, who chooses at the end with `chosen_tracks`.
        detector: Built from a row of `DETECTORS`.
        tracks: An empty `Tracks`, which learns of every frame before its faces are given.
        key: The clip's, for a detector that looks faces up.
        start_s, end_s: Part of the video in seconds.
        times_s: A list, to which the time of every frame that is looked at is appended.
        notes: A list, to which remarks on the video are appended, as by `affect.pipelines.video.read_frames`.

    Yields:
        `(track_id, face)`: int, `affect.data.records.Face`; in time order.

    Raises:
        InputError: When the video cannot be opened or, after the last face before it, is damaged.
    """
    part = {"start_s": start_s, "end_s": end_s, "frame_rate_hz": settings.frame_rate_hz}
    frames = video.read_frames(path, **part, notes=notes)
    for timestamp_s, frame, detections in find_faces(frames, detector, settings.detect, key):
        ids = tracks.add(timestamp_s, frame.shape, detections)
        if times_s is not None:
            times_s.append(float(timestamp_s))
        for track_id, detection in zip(ids, detections, strict=True):
            yield track_id, cut_face(timestamp_s, frame, settings, detection)


def cut_video(path, settings, detector, keep, *, key="", start_s=None, end_s=None):
    """Cuts all faces of a video and chooses those that `settings.tracks` asks for.

    Args:
        path, settings, detector, key, start_s, end_s: As in `cut_faces`.
        keep: `keep(track_id, face)` is called with each face, chosen or not: that is known at the end.

    Returns:
        `Cut`. A video that is damaged keeps the faces of all frames that could be decoded.
    """
    tracks, problem, times_s, notes = Tracks(), "", [], []
    part = {"start_s": start_s, "end_s": end_s, "times_s": times_s, "notes": notes}
    try:
        for track_id, face in cut_faces(path, settings, detector, tracks, key=key, **part):
            keep(track_id, face)
    except InputError as error:
        problem = str(error)
    summaries = {track.id: track for track in tracks.summaries()}
    chosen = tuple(summaries[track_id] for track_id in chosen_tracks([*summaries.values()], settings.tracks))
    if not chosen and not problem:
        problem = f"{path} shows no face in {tracks.frames} frames."
        if not tracks.frames:
            problem = f"{path} has no frames between start_s={start_s} and end_s={end_s}."
        elif turn := find_turn(path, detector, start_s=start_s, end_s=end_s):
            problem += f" Turned clockwise by {turn} degrees it does: turn the video, or mend its display angle."
    return Cut(
        chosen,
        tracks.frames,
        settings.frame_rate_hz or video.probe_frame_rate(path),
        problem,
        notes=tuple(notes),
        seen=tuple(summaries.values()),
        times_s=tuple(times_s),
    )


def find_turn(path, detector, *, start_s=None, end_s=None):
    """Finds out whether a video that shows no face shows one when it is turned. It looks at four frames at most.

    Args:
        path, detector, start_s, end_s: As in `cut_faces`.

    Returns:
        Degrees clockwise, 90, 180 or 270, at which most of these frames show a face; 0 where there is no such turn.
    """
    if not hasattr(detector, "detect"):
        return 0
    try:
        part = video.read_frames(path, start_s=start_s, end_s=end_s, frame_rate_hz=1.0)
        frames = [frame for _, frame in islice(part, TURNED_FRAMES)]
    except InputError:
        return 0
    for quarters in (2, 1, 3):
        turned = [np.ascontiguousarray(np.rot90(frame, -quarters)) for frame in frames]
        if sum(bool(detector.detect([frame])[0]) for frame in turned) > len(turned) / 2:
            return 90 * quarters
    return 0


def cut_clip(path, settings, detector, *, key, start_s=None, end_s=None, folder=None, **identity):
    """Cuts one face of a video: the main one, or the largest where `settings.tracks` says so.

    Args:
        path, settings, detector, start_s, end_s: As in `cut_faces`.
        folder: Empty folder in which the faces of all tracks are kept, so that memory does not grow with the video. The
            caller removes it. `None` keeps them in memory.
        key, **identity: `key`, `label`, ... of the `Clip`.

    Returns:
        `(clip, cut)`: `affect.data.records.Clip` with the faces that could be cut, a tuple, or with `folder` a
        `affect.pipelines.spool.SpooledFaces`; and the `Cut` of `cut_video`, which says what else was seen, and what is
        wrong.
    """
    faces = {}
    spool = Spool(folder) if folder else None
    cut = cut_video(
        path,
        settings,
        detector,
        spool.add if spool else lambda track_id, face: faces.setdefault(track_id, []).append(face),
        key=key,
        start_s=start_s,
        end_s=end_s,
    )
    chosen = ()
    if cut.tracks:
        chosen = spool.track(cut.tracks[0].id) if spool else tuple(faces[cut.tracks[0].id])
    clip = Clip(key=key, frame_rate_hz=cut.frame_rate_hz, frames_decoded=cut.frames, faces=chosen, **identity)
    return clip, cut


def align(frame, landmarks, face_size, margin_ratio, template=Faces.template):
    """Cuts a face by the similarity transform that brings its landmarks closest to the template.

    Args:
        frame: uint8 (H, W, 3).
        landmarks: (5, 2) in pixels, in the order of `affect.data.records.LANDMARKS`.
        face_size: Height and width of the result in pixels.
        margin_ratio: Padding around the template on each side, as a share of its size.
        template: As in `affect.config.Faces`.

    Returns:
        `(face, matrix)`: uint8 (face_size, face_size, 3), black where the frame ends; float64 (2, 3), which maps frame
        pixels to face pixels.
    """
    target = (np.asarray(template, np.float64) + margin_ratio) / (1 + 2 * margin_ratio) * face_size
    matrix = _similarity(np.asarray(landmarks, np.float64), target)
    # Bilinear sampling skips pixels when it shrinks more than twice: first shrink by area what the face needs.
    shrink = 2 * np.hypot(*matrix[:, 0])
    if shrink < 1:
        frame, from_frame = _shrunk_around(frame, matrix, face_size, shrink)
        from_small = np.linalg.inv(from_frame)
        face = cv2.warpAffine(frame, matrix @ from_small, (face_size, face_size), flags=cv2.INTER_LINEAR)
    else:
        face = cv2.warpAffine(frame, matrix, (face_size, face_size), flags=cv2.INTER_LINEAR)
    return face, matrix


def _similarity(points, target):
    """Returns the matrix, float64 (2, 3), of the turn, scale and shift that bring points closest to a target."""
    z, w = points @ (1, 1j), target @ (1, 1j)
    centred = z - z.mean()
    spread = np.vdot(centred, centred).real
    factor = np.vdot(centred, w - w.mean()) / spread if spread > 0 else 0
    if not factor:
        raise ValueError(f"No similarity transform fits these landmarks. Received: {points}")
    shift = w.mean() - factor * z.mean()
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def _shrunk_around(frame, matrix, face_size, shrink):
    """Shrinks the part of a frame that a face is cut from.

    Returns:
        `(small, from_frame)`: uint8; float64 (3, 3), which maps frame pixels to its pixels.
    """
    turn, shift = matrix[:, :2], matrix[:, 2]
    corners = np.array([[0, 0], [0, face_size], [face_size, 0], [face_size, face_size]])
    corners = np.linalg.solve(turn, (corners - shift).T)
    border = 4 / shrink  # a few pixels of the small one
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


def cut_face(timestamp_s, frame, settings, detection):
    """Returns the `affect.data.records.Face` of a `Detection` in a frame, uint8 (H, W, 3), by `affect.config.Faces`."""
    face, matrix = align(frame, detection.landmarks, settings.face_size, settings.margin_ratio, settings.template)
    face = cv2.cvtColor(face, cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, settings.jpeg_quality])
    return Face(
        timestamp_s=float(timestamp_s),
        jpeg=jpeg.tobytes(),
        box=tuple(map(float, detection.box)),
        landmarks=tuple(map(float, detection.landmarks.ravel())),
        score=detection.score,
        transform=tuple(map(float, matrix.ravel())),
    )

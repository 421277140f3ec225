"""Frames → the main face of a clip, aligned to frontal and encoded: detect, link, choose, align."""

from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment
from skimage.transform import SimilarityTransform

from affect.errors import InputError
from affect.records import Clip, Face
from pipelines import video

# Right eye, left eye, nose tip and corners of the mouth of dlib's mean face shape (eyes: mean of their six points), in
# a unit box. Paper A stores dlib's aligned faces.
MEAN_SHAPE = np.array(
    [[0.2255, 0.2160], [0.7548, 0.2160], [0.4901, 0.5156], [0.2541, 0.7802], [0.7261, 0.7802]], np.float64
)
# Frames that are detected together.
BATCH_FRAMES = 16
# A face belongs to a track when its box overlaps the track's last box at least so much, at most so long ago.
TRACK_IOU = 0.3
TRACK_GAP_S = 2.0


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


def cut_clip(path, settings, detector, *, start_s=None, end_s=None, **identity):
    """Cuts the main face of a video.

    Args:
        path: Video file.
        settings: `affect.config.Faces`.
        detector: Built from a row of `DETECTORS`.
        start_s, end_s: Part of the video in seconds.
        **identity: `key`, `label`, ... of the `Clip`.

    Returns:
        `(clip, problem)`: `affect.records.Clip` with the faces that could be cut, and what is wrong with the video in
        one line, empty where nothing is. A video that is damaged in the middle keeps the faces before.
    """
    tracks, looked_at, problem = [], 0, ""
    frames = video.read_frames(path, start_s=start_s, end_s=end_s, frame_rate_hz=settings.frame_rate_hz)
    try:
        for batch in _batches_of_one_shape(frames):
            looked_at += len(batch)
            detected = detector.detect([frame for _, frame in batch])
            for (timestamp_s, frame), detections in zip(batch, detected, strict=True):
                cut = partial(_cut, timestamp_s, frame, settings)
                link(tracks, timestamp_s, detections, cut)
    except InputError as error:
        problem = str(error)
    faces = tuple(main_track(tracks).faces) if tracks else ()
    if not faces and not problem:
        problem = f"{path} shows no face in {looked_at} frames."
        if not looked_at:
            problem = f"{path} has no frames between start_s={start_s} and end_s={end_s}."
    clip = Clip(
        frame_rate_hz=settings.frame_rate_hz or video.probe_frame_rate(path),
        frames_decoded=looked_at,
        faces=faces,
        **identity,
    )
    return clip, problem


def _batches_of_one_shape(frames):
    """Batches of frames; a stream that changes its size in the middle starts a new batch."""
    batch, error = [], None
    try:
        for timestamp_s, frame in frames:
            if batch and (len(batch) == BATCH_FRAMES or batch[0][1].shape != frame.shape):
                yield batch
                batch = []
            batch.append((timestamp_s, frame))
    except InputError as damaged:
        error = damaged
    if batch:
        yield batch
    if error:
        raise error


class Track:
    """One face through time."""

    def __init__(self):
        self.faces = []

    @property
    def box(self):
        return np.asarray(self.faces[-1].box)


def link(tracks, timestamp_s, detections, cut):
    """Adds the detections of a frame to tracks in place: the best assignment by overlap with each track's last box.

    Args:
        tracks: List of `Track`; new ones are appended.
        timestamp_s: Of the frame.
        detections: List of `Detection`.
        cut: `Detection` → `affect.records.Face`.
    """
    live = [track for track in tracks if timestamp_s - track.faces[-1].timestamp_s <= TRACK_GAP_S]
    overlap = np.array([[iou(track.box, detection.box) for track in live] for detection in detections])
    matches = {}
    if overlap.size:
        for row, column in zip(*linear_sum_assignment(-overlap), strict=True):
            if overlap[row, column] >= TRACK_IOU:
                matches[row] = live[column]
    for row, detection in enumerate(detections):
        if row not in matches:
            tracks.append(matches.setdefault(row, Track()))
        matches[row].faces.append(cut(detection))


def main_track(tracks):
    """Returns the track seen longest; of several, the one with the largest faces."""

    def rank(track):
        return len(track.faces), np.mean([(f.box[2] - f.box[0]) * (f.box[3] - f.box[1]) for f in track.faces])

    return max(tracks, key=rank)


def iou(a, b):
    """Returns intersection over union of two boxes x0 y0 x1 y1."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = width * height
    return float(area / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - area))


def align(frame, landmarks, face_size, margin_ratio):
    """Cuts a face by the similarity transform that brings its landmarks closest to the mean shape.

    Args:
        frame: uint8 (H, W, 3).
        landmarks: (5, 2) in pixels, in the order of `affect.records.LANDMARKS`.
        face_size: Height and width of the result in pixels.
        margin_ratio: Padding around the mean shape on each side, as a share of its size.

    Returns:
        `(face, matrix)`: uint8 (face_size, face_size, 3), black where the frame ends; float64 (2, 3), which maps frame
        pixels to face pixels.
    """
    target = (MEAN_SHAPE + margin_ratio) / (1 + 2 * margin_ratio) * face_size
    transform = SimilarityTransform.from_estimate(np.asarray(landmarks, np.float64), target)
    if not transform:
        raise ValueError(f"No similarity transform fits these landmarks. Received: {landmarks}")
    matrix = transform.params
    # Bilinear sampling skips pixels when it shrinks more than twice: first shrink the frame by area.
    shrink = min(1.0, 2 * transform.scale)
    if shrink < 1.0:
        height, width = frame.shape[:2]
        size = max(1, round(width * shrink)), max(1, round(height * shrink))
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        # OpenCV's pixel centres: x' + 0.5 = s (x + 0.5).
        sx, sy = size[0] / width, size[1] / height
        from_small = np.array([[1 / sx, 0, 0.5 / sx - 0.5], [0, 1 / sy, 0.5 / sy - 0.5], [0, 0, 1]])
        face = cv2.warpAffine(frame, (matrix @ from_small)[:2], (face_size, face_size), flags=cv2.INTER_LINEAR)
    else:
        face = cv2.warpAffine(frame, matrix[:2], (face_size, face_size), flags=cv2.INTER_LINEAR)
    return face, matrix[:2]


def _cut(timestamp_s, frame, settings, detection):
    face, matrix = align(frame, detection.landmarks, settings.face_size, settings.margin_ratio)
    _, jpeg = cv2.imencode(".jpg", face[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, settings.jpeg_quality])
    return Face(
        timestamp_s=float(timestamp_s),
        jpeg=jpeg.tobytes(),
        box=tuple(map(float, detection.box)),
        landmarks=tuple(map(float, detection.landmarks.ravel())),
        score=detection.score,
        transform=tuple(map(float, matrix.ravel())),
    )

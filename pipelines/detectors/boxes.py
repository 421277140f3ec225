"""Faces that another program has detected, from a CSV file."""

import math
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from affect.config import Faces
from affect.data.clips import LANDMARKS
from affect.errors import InputError
from affect.pipelines.tables import read_rows
from affect.pipelines.tracks import Detection

COLUMNS = ("key", "timestamp_s", "x0", "y0", "x1", "y1")
POINTS = tuple(f"{name}_{axis}" for name in LANDMARKS for axis in "xy")
# A line of the file belongs to the frames whose times differ by at most this.
TOLERANCE_S = 0.005
# Largest time in seconds and largest coordinate in pixels; no video has larger ones.
MOST = 1e6


class Boxes:
    """Returns the faces that a CSV file lists. It gets no frames.

    The file has the columns `COLUMNS`: the key of a clip, the time of a frame in seconds of the video, and a box in
    pixels of the displayed frame. `score` in [0, 1] and the ten `POINTS` (`right_eye_x`, ...) are optional. Each line
    is a face, so a frame may have several lines.

    A face without landmarks is cut as an upright square around the middle of its box. The longer side of the box is the
    side of the square, and the square is the unit box of `faces.template`. The unit box of the mean shape reaches from
    the brows to the lower lip, as the boxes of dlib do.

    Args:
        faces: `boxes`, `score_threshold` and `template` are used.

    Raises:
        InputError: When the file does not exist, or when a line has a fault.
    """

    def __init__(self, faces: Faces):
        assert faces.boxes  # as `Faces` makes sure
        self.rows: dict[str, list[tuple[float, Detection]]] = {}  # by key
        for line, row in read_rows(faces.boxes, COLUMNS, ("score", *POINTS)):
            timestamp_s, detection = _parse_row(faces.boxes, line, row, faces.template)
            if detection.score >= faces.score_threshold:
                self.rows.setdefault(_normalise(row["key"]), []).append((timestamp_s, detection))
        for rows in self.rows.values():
            rows.sort(key=_get_timestamp_s)

    def detect_at(self, key: str, timestamps_s: Sequence[float]) -> list[list[Detection]]:
        """Returns the faces of some frames of a clip.

        Args:
            key: Key of the clip.
            timestamps_s: Times of the frames in seconds of the video.

        Returns:
            The faces of each frame, best first; empty for a frame that is not listed.
        """
        rows, found = self.rows.get(_normalise(key), []), []
        for timestamp_s in timestamps_s:
            first = bisect_left(rows, timestamp_s - TOLERANCE_S, key=_get_timestamp_s)
            last = bisect_left(rows, timestamp_s + TOLERANCE_S, key=_get_timestamp_s)
            detections = [detection for _, detection in rows[first:last]]
            found.append(sorted(detections, key=lambda detection: -detection.score))
        return found


def _normalise(key):
    return unicodedata.normalize("NFC", key.strip())


def _get_timestamp_s(row):
    return row[0]


def _parse_row(path, line, row, template):
    """Returns `(timestamp_s, detection)`."""
    timestamp_s, x0, y0, x1, y1 = (_parse_number(path, line, row, name) for name in COLUMNS[1:])
    if min(x1 - x0, y1 - y0) < 1:
        raise InputError(
            f"{path}, line {line}: x1 and y1 must be greater than x0 and y0. Received: {x0}, {y0}, {x1}, {y1}"
        )
    score = _parse_number(path, line, row, "score") if row.get("score") else 1.0
    if not 0 <= score <= 1:
        raise InputError(f"{path}, line {line}: the score must lie in [0, 1]. Received: {score}")
    if any(row.get(name) for name in POINTS):
        landmarks = np.reshape([_parse_number(path, line, row, name) for name in POINTS], (5, 2))
        if np.ptp(landmarks, axis=0).max() < 1:
            raise InputError(f"{path}, line {line}: all landmarks are the same point.")
    else:
        landmarks = np.array([(x0 + x1) / 2, (y0 + y1) / 2]) + (np.array(template) - 0.5) * max(x1 - x0, y1 - y0)
    return timestamp_s, Detection(np.array([x0, y0, x1, y1], np.float32), landmarks.astype(np.float32), score)


def _parse_number(path, line, row, name):
    try:
        number = float(row.get(name, ""))
    except ValueError:
        number = math.nan
    if not abs(number) <= MOST:
        raise InputError(f"{path}, line {line}: {name} must be a number. Received: {row.get(name, '')[:40]!r}")
    return number

"""Faces that another program has detected, from a CSV file."""

import math
import unicodedata
from bisect import bisect_left

import numpy as np

from affect.data.records import LANDMARKS
from affect.errors import InputError
from affect.pipelines.tables import read_rows
from affect.pipelines.tracks import Detection

COLUMNS = ("key", "timestamp_s", "x0", "y0", "x1", "y1")
POINTS = tuple(f"{name}_{axis}" for name in LANDMARKS for axis in "xy")
# A row belongs to the frames that are at most so far away in time.
TOLERANCE_S = 0.005
# Of a time in seconds and a coordinate in pixels: far beyond any video.
MOST = 1e6


class Boxes:
    """Gives the faces that a CSV file lists; it looks at no frame.

    The file's columns are `COLUMNS`: a clip's key, a frame's time in seconds of the video, a box in pixels of the
    displayed frame. `score` in [0, 1] and the ten `POINTS` (`right_eye_x`, ...) may follow. A row is a face, so a frame
    may have several. Without landmarks a face is cut as an upright square around the middle of its box, as large as
    the longer side, which is taken as the unit box of `faces.template`; that of the mean shape goes from the brows to
    the lower lip, as the boxes of dlib do.

    Args:
        faces: `affect.config.Faces`; `boxes`, `score_threshold` and `template` are used.

    Raises:
        InputError: When the file is not there or, with its line, when a row is none.
    """

    def __init__(self, faces):
        self.rows = {}
        for line, row in read_rows(faces.boxes, COLUMNS, ("score", *POINTS)):
            timestamp_s, detection = _detection(faces.boxes, line, row, faces.template)
            if detection.score >= faces.score_threshold:
                self.rows.setdefault(_spelt(row["key"]), []).append((timestamp_s, detection))
        for rows in self.rows.values():
            rows.sort(key=_timestamp_s)

    def detect_at(self, key, timestamps_s):
        """Gives the faces of frames of a clip.

        Args:
            key: The clip's.
            timestamps_s: Times of the frames in seconds of the video.

        Returns:
            List of lists of `Detection`, best first; a frame without a row has an empty list.
        """
        rows, found = self.rows.get(_spelt(key), []), []
        for timestamp_s in timestamps_s:
            first = bisect_left(rows, timestamp_s - TOLERANCE_S, key=_timestamp_s)
            last = bisect_left(rows, timestamp_s + TOLERANCE_S, key=_timestamp_s)
            detections = [detection for _, detection in rows[first:last]]
            found.append(sorted(detections, key=lambda detection: -detection.score))
        return found


def _spelt(key):
    return unicodedata.normalize("NFC", key.strip())


def _timestamp_s(row):
    return row[0]


def _detection(path, line, row, template):
    """Returns `(timestamp_s, detection)`."""
    timestamp_s, x0, y0, x1, y1 = (_number(path, line, row, name) for name in COLUMNS[1:])
    if min(x1 - x0, y1 - y0) < 1:
        raise InputError(f"{path}, line {line}: x1 and y1 must lie beyond x0 and y0. Received: {x0}, {y0}, {x1}, {y1}")
    score = _number(path, line, row, "score") if row.get("score") else 1.0
    if not 0 <= score <= 1:
        raise InputError(f"{path}, line {line}: the score must lie in [0, 1]. Received: {score}")
    if any(row.get(name) for name in POINTS):
        landmarks = np.reshape([_number(path, line, row, name) for name in POINTS], (5, 2))
        if np.ptp(landmarks, axis=0).max() < 1:
            raise InputError(f"{path}, line {line}: the landmarks lie in one point.")
    else:
        landmarks = np.array([(x0 + x1) / 2, (y0 + y1) / 2]) + (np.array(template) - 0.5) * max(x1 - x0, y1 - y0)
    return timestamp_s, Detection(np.array([x0, y0, x1, y1], np.float32), landmarks.astype(np.float32), score)


def _number(path, line, row, name):
    try:
        number = float(row.get(name, ""))
    except ValueError:
        number = math.nan
    if not abs(number) <= MOST:
        raise InputError(f"{path}, line {line}: {name} must be a number. Received: {row.get(name, '')[:40]!r}")
    return number

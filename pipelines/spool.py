"""Faces on disk until it is known which of them are wanted: one file a track, read back face by face."""

import struct
from dataclasses import astuple

from affect.records import LANDMARKS, Face

# Time, box, landmarks, score and transform, then the length of the JPEG that follows.
_HEADER = struct.Struct(f"<{1 + 4 + 2 * len(LANDMARKS) + 1 + 6}dI")


class Spool:
    """Keeps the faces of a video in an empty folder, in no more memory than one face takes.

    Args:
        folder: Folder, which the caller removes.
    """

    def __init__(self, folder):
        self.folder = folder

    def add(self, track_id, face):
        """Keeps an `affect.records.Face` behind the others of its track."""
        timestamp_s, jpeg, box, landmarks, score, transform = astuple(face)
        numbers = timestamp_s, *box, *landmarks, score, *transform
        # Opened for each face: a video may have more tracks than a process may have files.
        with open(self._path(track_id), "ab") as file:
            file.write(_HEADER.pack(*numbers, len(jpeg)) + jpeg)

    def faces(self, track_id):
        """Yields the faces of a track as they were added."""
        with open(self._path(track_id), "rb") as file:
            while header := file.read(_HEADER.size):
                timestamp_s, *numbers, score, a, b, tx, c, d, ty, size = _HEADER.unpack(header)
                box, landmarks = tuple(numbers[:4]), tuple(numbers[4:])
                yield Face(timestamp_s, file.read(size), box, landmarks, score, (a, b, tx, c, d, ty))

    def _path(self, track_id):
        return self.folder / f"{track_id}.faces"

"""Faces on disk until it is known which of them are wanted: one file a track, read back face by face."""

import struct
from array import array
from collections.abc import Sequence
from dataclasses import astuple
from os import SEEK_CUR

from affect.data.records import LANDMARKS, Face

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
        """Keeps an `affect.data.records.Face` behind the others of its track."""
        timestamp_s, jpeg, box, landmarks, score, transform = astuple(face)
        numbers = timestamp_s, *box, *landmarks, score, *transform
        # Opened for each face: a video may have more tracks than a process may have files.
        with open(self._path(track_id), "ab") as file:
            file.write(_HEADER.pack(*numbers, len(jpeg)) + jpeg)

    def faces(self, track_id):
        """Yields the faces of a track as they were added."""
        with open(self._path(track_id), "rb") as file:
            while header := file.read(_HEADER.size):
                yield _face(header, file)

    def track(self, track_id):
        """Returns the faces of a track as a `SpooledFaces`."""
        return SpooledFaces(self._path(track_id))

    def _path(self, track_id):
        return self.folder / f"{track_id}.faces"


class SpooledFaces(Sequence):
    """The faces of a track in their order. Each is read from disk when it is asked for, and none is held.

    Args:
        path: File that a `Spool` wrote. It must stay where it is.
    """

    def __init__(self, path):
        self._path, self._starts = path, array("q")
        with open(path, "rb") as file:
            while header := file.read(_HEADER.size):
                self._starts.append(file.tell() - _HEADER.size)
                file.seek(_HEADER.unpack(header)[-1], SEEK_CUR)

    def __len__(self):
        return len(self._starts)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        with open(self._path, "rb") as file:
            file.seek(self._starts[index])
            return _face(file.read(_HEADER.size), file)


def _face(header, file):
    """Returns the `Face` of a header, whose JPEG is read next."""
    timestamp_s, *numbers, score, a, b, tx, c, d, ty, size = _HEADER.unpack(header)
    box, landmarks = tuple(numbers[:4]), tuple(numbers[4:])
    return Face(timestamp_s, file.read(size), box, landmarks, score, (a, b, tx, c, d, ty))

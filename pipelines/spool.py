"""Faces on disk until the tracks are chosen: one file for each track, read back face by face."""

import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from os import SEEK_CUR
from pathlib import Path
from typing import overload

from affect.data.clips import LANDMARKS, Face

# Time, box, landmarks, score and transform, then the length of the JPEG that follows.
_HEADER = struct.Struct(f"<{1 + 4 + 2 * len(LANDMARKS) + 1 + 6}dI")


class Spool:
    """Keeps the faces of a video in a folder, in the memory of one face.

    Args:
        folder: Empty folder, which the caller removes.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def add(self, track_id: int, face: Face) -> None:
        """Appends a face to the file of its track.

        Args:
            track_id: Track of the face.
            face: The face.
        """
        timestamp_s, jpeg, box, landmarks, score, transform = astuple(face)
        numbers = timestamp_s, *box, *landmarks, score, *transform
        # The file is opened for each face, because a video may have more tracks than a process may have open files.
        with open(self._path(track_id), "ab") as file:
            file.write(_HEADER.pack(*numbers, len(jpeg)) + jpeg)

    def faces(self, track_id: int) -> Iterator[Face]:
        """Yields the faces of a track in the order in which they were added."""
        return _read_faces(self._path(track_id))

    def track(self, track_id: int, keeps: object = None) -> "SpooledFaces":
        """Returns the faces of a track, which stay on disk.

        Args:
            track_id: The track.
            keeps: Object that lives as long as the faces, such as the owner of the folder.
        """
        return SpooledFaces(self._path(track_id), keeps)

    def _path(self, track_id):
        return self.folder / f"{track_id}.faces"


class SpooledFaces(Sequence[Face]):
    """The faces of a track in their order. Each face is read from disk when it is needed, and is not kept in memory.

    Args:
        path: File that a `Spool` wrote. It must not be moved or removed.
        keeps: Object that lives as long as the faces.
    """

    def __init__(self, path: Path, keeps: object = None):
        self._path, self._starts, self._keeps = path, array("q"), keeps
        with open(path, "rb") as file:
            while header := file.read(_HEADER.size):
                self._starts.append(file.tell() - _HEADER.size)
                file.seek(_HEADER.unpack(header)[-1], SEEK_CUR)

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[Face]:
        return _read_faces(self._path)

    @overload
    def __getitem__(self, index: int) -> Face: ...

    @overload
    def __getitem__(self, index: slice) -> list[Face]: ...

    def __getitem__(self, index: int | slice) -> Face | list[Face]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        with open(self._path, "rb") as file:
            file.seek(self._starts[index])
            return _read_face(file.read(_HEADER.size), file)


def _read_faces(path):
    # The file is open only while a face is read, because on Windows an open file cannot be removed.
    place = 0
    while True:
        with open(path, "rb") as file:
            file.seek(place)
            if not (header := file.read(_HEADER.size)):
                return
            face = _read_face(header, file)
            place = file.tell()
        yield face


def _read_face(header, file):
    """Returns the `Face` of a header; its JPEG is next in the file."""
    timestamp_s, *numbers, score, a, b, tx, c, d, ty, size = _HEADER.unpack(header)
    box, landmarks = tuple(numbers[:4]), tuple(numbers[4:])
    return Face(timestamp_s, file.read(size), box, landmarks, score, (a, b, tx, c, d, ty))

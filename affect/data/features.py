"""A table of features: computed once, in memory or in a temporary file, and read by rows."""

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

# Largest size of a table in memory.
KEPT_BYTES = 2**30
# Disk that a table leaves free, for checkpoints.
RESERVED_BYTES = 2**31


class FeatureTable:
    """Features in rows. What does not fit in memory is in a temporary file.

    The file has no name, or it is removed when it is closed, so nothing is left of it, even if the process is killed.

    Args:
        rows: Number of rows.
        shape: Shape of a row.
        dtype: Of the numbers; also `bfloat16`.
        folder: Folder of the temporary file.
        kept_bytes: Largest size in memory.

    Raises:
        OSError: If neither memory nor the disk has enough room.
    """

    def __init__(self, rows: int, shape: tuple[int, ...], dtype: Any, folder: str | Path, kept_bytes: int = KEPT_BYTES):
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self._row_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self.bytes = rows * self._row_bytes
        self.is_on_disk = self.bytes > kept_bytes
        self._file = None
        if not self.is_on_disk:
            self._rows = np.zeros((rows, *shape), dtype)
            return
        free, needed = shutil.disk_usage(folder).free, self.bytes + RESERVED_BYTES
        if needed > free:
            raise OSError(f"{free / 2**30:.1f} GiB are free, and {needed / 2**30:.1f} GiB are needed")
        self._file = tempfile.TemporaryFile(dir=folder, prefix="tmp-features-")  # noqa: SIM115, because `close` closes it
        self._rows = np.memmap(self._file, dtype, "w+", shape=(rows, *shape))

    def write(self, first: int, features: np.ndarray) -> None:
        """Writes rows that stand side by side.

        Args:
            first: First row.
            features: (N, ...).

        Raises:
            OSError: If the disk is full.
        """
        if self._file is None:
            self._rows[first : first + len(features)] = features
        else:  # not through the mapping, because a full disk would kill the process there
            self._file.seek(first * self._row_bytes)
            self._file.write(np.asarray(features, self.dtype).tobytes())

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Returns rows; -1 is a row of zeros.

        Args:
            rows: int, of any shape.

        Returns:
            The shape of `rows` and of a row.
        """
        found = self._rows[np.maximum(rows, 0)]
        found[rows < 0] = 0
        return found

    def flush(self) -> None:
        """Makes what was written readable."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Removes the features from memory and disk."""
        self._rows = np.zeros((0,), np.uint8)
        if self._file is not None:
            with contextlib.suppress(OSError):  # what the full disk did not take
                self._file.close()

"""Files: their checksum, a checksum inside a zip archive, and writing one so that a reader never sees half of it."""

import hashlib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def sha256_of(path: str | Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`, of the same suffix, to be written.

    When the block ends, it is renamed to `path`; when the block raises, it is removed and `path` stays as it was.
    """
    path = Path(path)
    temporary = path.with_name(f"tmp-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


# The comment that ends a sealed zip archive: this and the SHA-256 of all that comes before the digits.
_SEAL, _DIGITS = b"SHA-256 ", 64


def seal(path: str | Path) -> None:
    """Ends a zip archive, such as a `.keras` file, with its checksum.

    The checksum is part of the file and is renamed with it, so that a run killed at any instant has a whole file. It
    finds damage. It is no signature: whoever changes a file can seal it again.
    """
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = _SEAL + b"0" * _DIGITS
    digest = _digest(path)
    with open(path, "r+b") as file:
        file.seek(-_DIGITS, 2)
        file.write(digest)


def is_intact(path: str | Path) -> bool | None:
    """Returns whether a file is what was sealed; `None` of a file that has no seal."""
    with open(path, "rb") as file:
        length = file.seek(0, 2)
        file.seek(max(0, length - _DIGITS - len(_SEAL)))
        name, digest = file.read(len(_SEAL)), file.read()
    return digest == _digest(path) if name == _SEAL else None


def _digest(path):
    """Returns the SHA-256 in hexadecimal, bytes, of a file without the digits that end it."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        left = file.seek(0, 2) - _DIGITS
        file.seek(0)
        while chunk := file.read(min(left, 2**20)):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest().encode()

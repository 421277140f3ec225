"""Seals of .keras files: the SHA-256 of all that comes before it, in the comment that ends a zip archive.

It is part of the file and is renamed with it, so that a run killed at any instant has a file that is whole. It finds
damage; who forges a file can write another.
"""

import hashlib
import zipfile
from pathlib import Path

_NAME, _DIGITS = b"SHA-256 ", 64


def seal(path):
    """Ends a zip archive with its checksum."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = _NAME + b"0" * _DIGITS
    content = Path(path).read_bytes()[:-_DIGITS]
    Path(path).write_bytes(content + _digest(content))


def is_altered(path):
    """Returns whether a file has a seal, and is not what was sealed; a file of an older version has none."""
    content = Path(path).read_bytes()
    sealed, digest = content[:-_DIGITS], content[-_DIGITS:]
    return sealed.endswith(_NAME) and digest != _digest(sealed)


def _digest(content):
    return hashlib.sha256(content).hexdigest().encode()

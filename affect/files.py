"""Files: their checksum, and writing one so that a reader never sees half of it."""

import hashlib
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

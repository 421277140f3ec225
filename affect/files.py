"""Files: names and archives of others; checksums; writing under a temporary name; locking a folder."""

import errno
import hashlib
import os
import shutil
import tempfile
import time
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from affect.errors import InputError, MachineError, MachineWarning, escape_text, first_line, name_full

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Where a folder itself cannot be locked (Windows), a file in it is locked: all of its bytes, or one byte by each
# process that shares it.
LOCK_FILE, LOCK_BYTES = ".lock", 1024
LONGEST_NAME = 255  # bytes that a file system takes
# Errors of file systems that have no locks, such as some of a network.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class Lock:
    """A lock of a folder. It holds until it is closed or this process ends.

    Args:
        descriptor: Of what is locked: the folder, or a file in it; `None` if the file system has no locks.
        file: That file; `None` if the folder is locked itself.
    """

    descriptor: int | None
    file: Path | None = None

    def close(self) -> None:
        """Ends the lock."""
        if self.descriptor is not None:
            os.close(self.descriptor)
        if self.file:
            with suppress(OSError):  # another process uses it
                self.file.unlink()


def lock_folder(folder: str | Path, *, is_shared: bool = False, waits: bool = False, is_needed: bool = True) -> Lock:
    """Keeps a folder from other processes that lock it too.

    Args:
        folder: Folder; it must exist.
        is_shared: Whether other processes may share the lock.
        waits: Whether this function waits until the folder is free.
        is_needed: Whether a file system without locks is an error. Otherwise the lock there is none.

    Raises:
        BlockingIOError: When another process has locked the folder.
        OSError: When the folder cannot be opened.
    """
    file = None if fcntl else Path(folder) / LOCK_FILE
    held = os.open(file, os.O_RDWR | os.O_CREAT) if file else os.open(folder, os.O_RDONLY)
    try:
        if fcntl:
            how = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
            fcntl.flock(held, how if waits else how | fcntl.LOCK_NB)
        else:
            while not _lock_bytes(held, is_shared):
                if not waits:
                    raise BlockingIOError(f"{folder} is locked.")
                time.sleep(0.1)
    except BaseException as error:
        os.close(held)
        if not is_needed and isinstance(error, OSError) and error.errno in NO_LOCKS:
            return Lock(None)
        raise
    return Lock(held, file)


def warn_without_lock(held: Lock, folder: str | Path, command: str) -> None:
    """Warns if a lock that is not needed is none.

    Args:
        held: The lock.
        folder: Folder that it should keep from others.
        command: Command that writes to the folder.
    """
    if held.descriptor is None:
        text = f"{folder} is on a file system without locks. Run no second {command} on it at the same time."
        warnings.warn(text, MachineWarning, stacklevel=3)


@contextmanager
def hold_folder(folder: str | Path, command: str, option: str) -> Iterator[None]:
    """Creates a folder and keeps it from other commands that write to it.

    Args:
        folder: Folder.
        command: Command that writes to it, in an error.
        option: Option that names the folder, in an error.

    Raises:
        InputError: If another process holds the folder.
        MachineError: If it cannot be written, or the disk is full.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = lock_folder(folder, is_needed=False)
    except BlockingIOError as error:
        raise InputError(f"Another {command} writes to {folder}. Wait for it, or choose another {option}.") from error
    except OSError as error:
        raise MachineError(f"{folder} cannot be written ({error.strerror}). Choose another {option}.") from error
    warn_without_lock(held, folder, command)
    try:
        with name_failure(folder, " It continues."):
            yield
    finally:
        held.close()


@contextmanager
def name_failure(folder: str | Path, resumes: str = "") -> Iterator[None]:
    """Names the folder that results are written to, if its disk is full or it vanishes.

    Args:
        folder: Folder; it must exist.
        resumes: Sentence on what a repeated command does, at the end of the error.

    Raises:
        MachineError: If the disk is full, or the folder was removed.
    """
    try:
        yield
    except Exception as error:  # also of TensorFlow and HDF5
        if not Path(folder).is_dir():
            raise MachineError(
                f"{folder} was removed while results were written there. Run the same command again."
            ) from error
        if not (reason := name_full(error)):
            raise
        raise MachineError(
            f"{folder} has no room for the results ({reason}). Make room and run the same command again.{resumes}"
        ) from error


def _lock_bytes(file, is_shared):
    """Locks bytes of an open file, if they are free; returns whether they were."""
    import msvcrt

    for start, count in [(place, 1) for place in range(LOCK_BYTES)] if is_shared else [(0, LOCK_BYTES)]:
        os.lseek(file, start, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, count)  # type: ignore[attr-defined]
            return True
        except PermissionError:
            continue
    return False


def name_text_fault(path: str | Path) -> str:
    """Returns why a path cannot be written to tables or given to TensorFlow, as one sentence; empty if it can."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return f"The name of {escape_text(path)} is not UTF-8. Rename it."
    return ""


def check_name(name: object, where: str | Path) -> str:
    """Returns a name that was read in a file of others, if it is the name of a file in that file's own folder.

    Args:
        name: What was read.
        where: The file that it was read in, for the error.

    Raises:
        InputError: On anything else, such as `../precious.txt`, an absolute path, `C:x` or a control character.
    """
    if (
        not isinstance(name, str)
        or name in ("", ".", "..")
        or set(name) & set('/\\:*?"<>|')
        or len(name.encode(errors="replace")) > LONGEST_NAME
        or not name.isprintable()
    ):
        raise InputError(f"{where}: a name of a file was expected, without a folder. Received: {name!r:.80}")
    return name


def check_zip(path: str | Path, most_bytes: int) -> None:
    """Checks what the files in a zip archive will take in memory. `zipfile` reads no more of one than it declares.

    Args:
        path: The archive.
        most_bytes: Largest sum of their sizes.

    Raises:
        InputError: If there are more bytes, or it is no archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read ({first_line(error)}). Copy it again.") from error
    if size > most_bytes:
        raise InputError(f"{path} grows to {size} bytes, and at most {most_bytes} are read. Copy it again.")


def sha256_of(path: str | Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def name_temporary(path: str | Path, prefix: str = "tmp-") -> Path:
    """Returns the name under which a file is written: in the same folder, with the same suffix, and not too long.

    Args:
        path: The file.
        prefix: How the name begins.
    """
    path = Path(path)
    name = path.name
    while len(os.fsencode(prefix + name)) > LONGEST_NAME:
        name = name[1:]
    return path.with_name(prefix + name)


@contextmanager
def replace_file(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`, with the same suffix, so that a reader never sees a partly written file.

    When the block ends, the temporary file is renamed to `path`. When the block raises, the temporary file is removed
    and `path` does not change.

    Raises:
        OSError: As the block does; it names `path` and not the temporary file.
    """
    path, temporary = Path(path), name_temporary(path)
    try:
        yield temporary
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):  # of a folder that has vanished, or is full
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and str(error.filename) in ("None", str(temporary)):
            raise OSError(error.errno, error.strerror, str(path)) from error  # PyAV's errors cannot be renamed
        raise


@contextmanager
def make_in_folder(parent: str | Path, prefix: str) -> Iterator[Path]:
    """Gives a temporary folder in a folder and removes it when the block ends.

    A process that is killed leaves its temporary folder. So those of the same prefix that no process holds are removed
    first.

    Args:
        parent: Folder.
        prefix: Of the temporary folder's name.
    """
    for left in Path(parent).glob(f"{prefix}*"):
        with suppress(OSError):  # another process holds it
            held = lock_folder(left)
            shutil.rmtree(left, ignore_errors=True)
            held.close()
    folder, held = _make_and_hold(parent, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if held:
            held.close()


def _make_and_hold(parent, prefix):
    """Returns a new folder and its lock, `None` where folders cannot be locked."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            held = lock_folder(folder)
        except (BlockingIOError, FileNotFoundError):  # another process took it for one that was left
            continue
        except OSError:
            return folder, None
        if folder.exists():
            return folder, held
        held.close()


# The comment at the end of a sealed zip archive: this text, and the SHA-256 of everything before the digits.
_SEAL, _DIGITS = b"SHA-256 ", 64


def seal(path: str | Path) -> None:
    """Writes the checksum of a zip archive, such as a `.keras` file, at its end.

    The checksum is part of the file, so both are renamed together, even when a run is killed. It detects damage. It is
    not a signature: anybody who changes the file can seal it again.
    """
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = _SEAL + b"0" * _DIGITS
    digest = _digest(path)
    with open(path, "r+b") as file:
        file.seek(-_DIGITS, 2)
        file.write(digest)


def is_intact(path: str | Path) -> bool | None:
    """Returns whether a file is unchanged since it was sealed; `None` if it has no seal."""
    with open(path, "rb") as file:
        length = file.seek(0, 2)
        file.seek(max(0, length - _DIGITS - len(_SEAL)))
        name, digest = file.read(len(_SEAL)), file.read()
    return digest == _digest(path) if name == _SEAL else None


def _digest(path: str | Path) -> bytes:
    """Returns the SHA-256 of a file without the digits at its end, in hexadecimal, as bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        left = file.seek(0, 2) - _DIGITS
        file.seek(0)
        while chunk := file.read(min(left, 2**20)):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest().encode()

"""The exceptions that the command line prints as a single line, and texts of others in a line that can be shown."""

import errno
import os
import re
import tempfile
import unicodedata

# Unicode's categories of control characters, line ends, and the surrogates that Python reads from text that is not
# UTF-8; and the characters that turn the direction of what follows.
NO_TEXT = ("Cc", "Cs", "Zl", "Zp")
TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


class MachineWarning(UserWarning):
    """What this machine lacks and a command goes on without, in one line. The command line prints it."""


class InputError(ValueError):
    """The user's mistake: what is wrong, where, and what to do. The command line exits with 2."""

    exit_code = 2


class MachineError(InputError):
    """A failure of the machine, such as a full disk: what, where, and what to do. The command line exits with 1."""

    exit_code = 1


# Number of an error of the system → what to do.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ADVICE = {
    **dict.fromkeys(FULL, "Make room and run the same command again."),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "Change its permissions, or choose another place."),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR, errno.EISDIR), "Choose another place."),
    errno.ENOENT: "Make it, or choose another place.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.EMFILE: "Raise the limit of open files: ulimit -n 4096.",
    errno.EAGAIN: "Close other programs, and run the same command again.",
    errno.EIO: "Copy what is there to another disk.",
}
# What a machine may lack that reads a file.
LACKS = (*FULL, errno.ENOMEM, errno.EMFILE)
MEMORY = (
    "This machine is out of memory{}. Close other programs, or take a smaller batch or fewer workers, and run the same "
    "command again."
)


def describe_failure(error: BaseException) -> str | None:
    """Returns what a failure of the machine was and what to do, in a line; `None` for any other error.

    Args:
        error: From Python, HDF5 or TensorFlow; the last two have no number of the system, and name it in their text.
    """
    number = _number_of(error)
    if number is None or number == errno.EPIPE:  # who reads the output has ended
        return None
    if number == errno.ENOMEM:
        return MEMORY.format(f" ({error})" if isinstance(error, MemoryError) and str(error) else "")
    place = getattr(error, "filename2", None) or getattr(error, "filename", None)
    place = f"{os.fsdecode(place)}: " if isinstance(place, str | bytes | os.PathLike) else ""
    return f"{place}{os.strerror(number)}. {ADVICE.get(number, 'Run the same command again.')}"


def raise_failure(error: BaseException) -> None:
    """Raises a `MachineError` if a file could not be read because the machine lacks room, memory or open files.

    Keras and TensorFlow unpack files into the folder for temporary files, so its full disk is not a fault of the file.

    Args:
        error: As in `describe_failure`.

    Raises:
        MachineError: In that case.
    """
    if _number_of(error) in LACKS:
        place = "" if getattr(error, "filename", None) or not name_full(error) else f"{tempfile.gettempdir()}: "
        raise MachineError(f"{place}{describe_failure(error)}") from error


def name_full(error: BaseException) -> str:
    """Returns the system's words if an error says that a disk is full; empty for any other error."""
    number = _number_of(error)
    return os.strerror(number) if number in FULL else ""


def _number_of(error):
    """Returns the system's number of an error; `None` for an error that is not the system's."""
    if isinstance(error, MemoryError) or (isinstance(error, ImportError) and "failed to map segment" in str(error)):
        return errno.ENOMEM  # the second is the system's loader of libraries
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return errno.EAGAIN
    if not isinstance(error, OSError) and not type(error).__module__.startswith(("tensorflow", "zipfile")):
        return None
    if (number := getattr(error, "errno", None)) is not None:
        return number
    if found := re.search(r"errno = (\d+)", str(error)):  # HDF5
        return int(found[1])
    memory = errno.ENOMEM if type(error).__name__ == "ResourceExhaustedError" else None
    return next((each for each in ADVICE if os.strerror(each) in str(error)), memory)


def first_line(error: BaseException) -> str:
    """Returns the first line of another library's error, or the name of its class if it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def format_count(count: int, noun: str) -> str:
    """Returns a number with its noun: `"1 clip"`, `"2 clips"`.

    Args:
        count: The number.
        noun: In the singular; its plural ends in s.
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def escape_text(text: object) -> str:
    """Returns a text with escape sequences for the characters that a terminal or page would obey and not show.

    Bytes of a name that is not UTF-8 are shown as `\\xe9`.
    """
    return "".join(
        f"\\x{ord(character) - 0xDC00:02x}"
        if "\udc80" <= character <= "\udcff"  # how Python reads such a byte
        else character.encode("unicode_escape").decode()
        if unicodedata.category(character) in NO_TEXT or character in TURNS
        else character
        for character in str(text)
    )

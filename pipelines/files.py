"""Paths of files that others wrote: their faults before they are opened, and the file that a list means."""

import contextlib
import os
import stat
import unicodedata
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from affect.files import name_text_fault

# Start of the small text that a repository holds if a large file was not fetched → its name and the command to fetch.
POINTERS = {
    b"version https://git-lfs.github.com/spec/": ("a Git LFS pointer", "git lfs pull"),
    b"/annex/objects/": ("a git-annex pointer", "git annex get"),
}

# (folder, function that gives the form of a name) → form → names in the folder.
Names: TypeAlias = dict[tuple[Path, Callable[[str], str]], dict[str, list[str]]]


def name_fault(path: Path | str) -> str:
    """Returns why a path is no file that can be read, as one sentence; empty if it can be read, or if nothing is there.

    A link is followed. A pipe or a device is not opened, because reading it could block for ever.
    """
    path = Path(path)
    if fault := name_text_fault(path):
        return fault
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return f"{path} is a link to {os.readlink(path)}, which is not there." if path.is_symlink() else ""
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})."
    if stat.S_ISDIR(mode):
        return f"{path} is a folder {'and not a file' if is_open(path) else 'that may not be read'}."
    if not stat.S_ISREG(mode):
        return f"{path} is a pipe, a socket or a device and not a file."
    return name_pointer(read_start(path), path)


def state_of(path: Path | str) -> tuple[int, int, int] | None:
    """Returns what changes if the content of a file does; `None` if there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def is_open(folder: Path) -> bool:
    """Returns whether this process may list and read the content of a folder."""
    return os.access(folder, os.R_OK | os.X_OK)


def name_pointer(content: bytes, path: Path) -> str:
    """Returns one sentence if a file is a pointer to a large file; otherwise an empty str.

    Args:
        content: First bytes of the file.
        path: The file, for the sentence.
    """
    for start, (name, command) in POINTERS.items():
        if content.startswith(start):
            return f"{path} is {name} and not the file itself. Fetch the file: {command}"
    return ""


def read_start(path: Path | str, count: int = 64) -> bytes:
    """Reads the start of a regular file.

    Args:
        path: File.
        count: Bytes to read.

    Returns:
        At most `count` bytes; empty if there is no regular file or it cannot be read.
    """
    if not os.path.isfile(path):
        return b""
    try:
        with open(path, "rb") as file:
            return file.read(count)
    except OSError:
        return b""


def find_listed(folder: Path, text: str, known: Names) -> tuple[Path, str]:
    r"""Returns the path that a list means by a text.

    The path as it is written comes first. If it does not exist, a path is accepted that differs in its Unicode normal
    form only (macOS writes é as two characters), or that has `/` where the list has the `\` of Windows.

    Args:
        folder: Folder of the list.
        text: A path relative to it, or an absolute one.
        known: Names in folders that were listed before, so that each folder is listed once for a whole list; `{}` at
            first.

    Returns:
        `(path, hint)`: the hint is a sentence that names a path which differs in case only. It is empty if there is
        none, or if `path` exists.
    """
    written = folder / text
    # Path.exists would raise if a name is too long.
    if os.path.lexists(written):
        return written, ""
    for each in dict.fromkeys((text, text.replace("\\", "/"))):
        if os.path.lexists(folder / each):
            return folder / each, ""
        if path := _walk(folder / each, _compose, known):
            return path, ""
    alike = _walk(folder / text.replace("\\", "/"), fold, known)
    return written, f"{written} is not there, and {alike} has a similar name." if alike else ""


def find_spelt(folder: Path, name: str) -> Path | None:
    """Finds a name in a folder; upper and lower case count as equal.

    A broken link is found too, so that the caller can name it.

    Args:
        folder: Folder; it need not exist.
        name: Name of a file or folder in it.

    Returns:
        The path; `None` if there is none.
    """
    if os.path.lexists(folder / name):
        return folder / name
    alike = sorted(path for path in folder.iterdir() if fold(path.name) == fold(name)) if folder.is_dir() else []
    return alike[0] if alike else None


def fold(name: str) -> str:
    """Returns the form in which names are compared: one normal form, no upper case, no outer or double space."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _compose(name):
    """Returns the form of a name in which two ways to write é are one."""
    return unicodedata.normalize("NFC", name)


def _walk(path, form, known):
    """Returns the only path whose parts have the same form; `None` if there is no such path or there are several."""
    found = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        if os.path.lexists(found / part):
            found /= part
            continue
        alike = _list_names(found, form, known).get(form(part), ())
        if len(alike) != 1:
            return None
        found /= alike[0]
    return found


def _list_names(folder, form, known):
    """Returns form → names in a folder that have it; nothing if the folder cannot be read."""
    if (folder, form) not in known:
        names = known[folder, form] = defaultdict(list)
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                names[form(name)].append(name)
    return known[folder, form]

"""Paths of others' files: what is wrong with one before it is opened, and which file a list means."""

import os
import stat
import unicodedata
from pathlib import Path

# How the small text begins that a repository holds where a large file was not fetched.
POINTERS = {
    b"version https://git-lfs.github.com/spec/": ("a Git LFS pointer", "git lfs pull"),
    b"/annex/objects/": ("a git-annex pointer", "git annex get"),
}


def name_fault(path):
    """Returns why a path is no file that can be read, as one sentence; an empty str where it is one.

    A pipe or a device is not opened, because that could wait for ever.

    Args:
        path: Path; a link is followed.
    """
    path = Path(path)
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


def is_open(folder):
    """Returns whether what is in a folder may be listed and read."""
    return os.access(folder, os.R_OK | os.X_OK)


def name_pointer(content, path):
    """Returns that the bytes of a file are a pointer to a large file, as one sentence; an empty str where not."""
    for start, (name, command) in POINTERS.items():
        if content.startswith(start):
            return f"{path} is {name} and not the file itself. Fetch the file: {command}"
    return ""


def read_start(path, count=64):
    """Returns the first bytes of a regular file; empty where there is none or it cannot be read."""
    if not os.path.isfile(path):
        return b""
    try:
        with open(path, "rb") as file:
            return file.read(count)
    except OSError:
        return b""


def find_listed(folder, text):
    r"""Returns the path that a list means by a text.

    The path as it is written comes first. If it is not there, a name that differs in its Unicode normal form only is
    taken (macOS writes é as two characters), and `\` as Windows writes it counts as `/`.

    Args:
        folder: Folder of the list.
        text: A path relative to it, or an absolute one.

    Returns:
        `(path, hint)`: Path; the sentence that names a path which differs in case only, empty where there is none or
        the path is there.
    """
    written = folder / text
    # Not Path.exists, which raises where a name is too long.
    if os.path.lexists(written):
        return written, ""
    for each in dict.fromkeys((text, text.replace("\\", "/"))):
        if os.path.lexists(folder / each):
            return folder / each, ""
        if path := _walk(folder / each, lambda name: unicodedata.normalize("NFC", name)):
            return path, ""
    alike = _walk(folder / text.replace("\\", "/"), fold)
    return written, f"{written} is not there, and {alike} is spelt much like it." if alike else ""


def find_spelt(folder, name):
    """Returns the path of a name in a folder, whatever the case in which it is written; `None` where there is none.

    What is there counts, a link that leads nowhere too, so that it is named by who reads it.
    """
    if os.path.lexists(folder / name):
        return folder / name
    alike = sorted(path for path in folder.iterdir() if fold(path.name) == fold(name)) if folder.is_dir() else []
    return alike[0] if alike else None


def fold(name):
    """Returns a name as it is compared: in one normal form, without case, outer space and doubled space."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _walk(path, form):
    """Returns the one path whose parts have the same form, `None` where there is none or there are several."""
    found = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        if os.path.lexists(found / part):
            found /= part
            continue
        try:
            alike = [name for name in os.listdir(found) if form(name) == form(part)]
        except OSError:
            return None
        if len(alike) != 1:
            return None
        found /= alike[0]
    return found

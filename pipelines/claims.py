"""A claim on a folder that several machines share: at most one process works in it.

It needs no file locks, because many shared file systems have none. It needs two properties of the file system. A folder
is renamed as a whole or not at all, and never onto a folder with content. When a file was written and closed, a process
that opens it afterwards reads the new content, also on another machine.
"""

import contextlib
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from affect.errors import InputError

# Folder of the claim. It holds the file `beat`: a line on the owner, and a number that the owner raises.
CLAIM = "claim"
BEAT_S = 5.0
# A claim without so many beats is lost: its process was killed, or its machine is down.
LOST_BEATS = 6


@contextmanager
def claim(folder: Path, what: str, *, beat_s: float = BEAT_S) -> Iterator[Callable[[], None]]:
    """Claims a folder for the `with` block.

    If there is a claim already, its beats are watched. A claim that beats belongs to a living process. A claim that
    does not beat for `LOST_BEATS * beat_s` seconds is taken over.

    Args:
        folder: The folder. All processes that may claim it must have the same `beat_s`.
        what: What is done in it, for the errors: a clause such as `"shards: part 1/4 is being made"`.
        beat_s: Seconds between two beats.

    Yields:
        A function that raises `InputError` if another process has taken the claim over.

    Raises:
        InputError: When another process has the claim.
    """
    token = uuid4().hex
    owner = f"{socket.gethostname()}, process {os.getpid()} {token}"
    making, place = folder / f"{CLAIM}-{token}", folder / CLAIM
    making.mkdir()
    try:
        (making / "beat").write_text(_format_beat(owner, 0), encoding="utf-8")
        while not _move(making, place, owner):
            before = _read_beat(place)
            if before and place in _watch({place: before}, beat_s):
                raise InputError(f"{what} by {_name_owner(before)}. Wait for it.")
            if before:
                _remove_lost(place, before, folder / f"{CLAIM}-lost-{token}")
            else:
                time.sleep(beat_s / 10)  # it has just been released
    finally:
        shutil.rmtree(making, ignore_errors=True)
    ended, is_lost = threading.Event(), threading.Event()

    def beat():
        number = 0
        while not ended.wait(beat_s):
            number += 1
            if (found := _read_beat(place)) and not found.startswith(owner):
                is_lost.set()
                return
            # In place and with the same length, so that a reader on another machine sees the old beat or the new one.
            with contextlib.suppress(OSError), open(place / "beat", "r+", encoding="utf-8") as file:
                file.write(_format_beat(owner, number))

    def check():
        if is_lost.is_set():
            raise InputError(
                f"{what} by another process now, because this one gave no sign of life for {LOST_BEATS * beat_s:g} s."
            )

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield check
    finally:
        ended.set()
        thread.join()
        if _is_of(place, owner):
            with contextlib.suppress(OSError):
                place.rename(making)
            shutil.rmtree(making, ignore_errors=True)


def find_claimed(folders: Sequence[Path], *, beat_s: float = BEAT_S) -> dict[Path, str]:
    """Finds the folders in which a process works. It takes time only if there are claims.

    Args:
        folders: Folders; they need not exist.
        beat_s: As in `claim`.

    Returns:
        Folder → machine and process of the claim, for each claim that beats.
    """
    before = {folder / CLAIM: text for folder in folders if (text := _read_beat(folder / CLAIM))}
    return {place.parent: _name_owner(before[place]) for place in _watch(before, beat_s)}


def _watch(before, beat_s):
    """Returns the places, of those with such a beat, whose beat changes; it waits as long as one may be alive."""
    alive, end = set(), time.monotonic() + LOST_BEATS * beat_s
    waiting = dict(before)
    while waiting and time.monotonic() < end:
        time.sleep(beat_s / 4)
        for place in list(waiting):
            now = _read_beat(place)
            if now != waiting[place]:
                del waiting[place]
                if now:
                    alive.add(place)
    return alive


def _move(making, place, owner):
    """Renames a claim into place and returns whether it is there."""
    try:
        making.rename(place)
    except OSError:
        return _is_of(place, owner)  # a network file system may repeat a request that was carried out
    return True


def _remove_lost(place, before, aside):
    """Removes a claim that did not beat, unless it has changed in this instant."""
    if _read_beat(place) != before:
        return
    with contextlib.suppress(OSError):
        place.rename(aside)
        if _read_beat(aside) != before:
            aside.rename(place)
            return
    shutil.rmtree(aside, ignore_errors=True)


def _format_beat(owner, number):
    return f"{owner}\n{number:020d}\n"


def _read_beat(place):
    """Returns the content of a claim; empty if there is none, or if it cannot be read now."""
    try:
        return (place / "beat").read_text(encoding="utf-8")
    except OSError:
        return ""


def _is_of(place, owner):
    return _read_beat(place).startswith(owner)


def _name_owner(text):
    return text.partition("\n")[0].rpartition(" ")[0]

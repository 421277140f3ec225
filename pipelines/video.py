"""A video file → its frames, in time order, as they are meant to be seen.

Videos come from anywhere, and a decoder is a large and old program. So this process opens no video. `decoder.py`
decodes in a child process, which cannot write files, has limits of time and memory, and ends with this process. If the
child dies, the rest of the video that it was reading is lost, and the next video gets a new child. Frames arrive
through shared memory. They are decoded ahead, while the caller works on earlier frames.
"""

import atexit
import fcntl
import json
import mmap
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from affect.errors import InputError
from affect.pipelines.files import name_fault

# Suffixes of the common containers.
SUFFIXES = (".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
# Largest number of pixels of a frame, as it is stored and as it is shown: twice the pixels of 8K.
MAX_PIXELS = 64 * 10**6
# Largest address space of a decoder, with the shared memory.
MEMORY_BYTES = 3 * 2**30
# A decoder that sends nothing for this time is stopped.
STALL_S = 60.0
# RGB, and a third more because lines may be padded.
SHARED_BYTES = 4 * MAX_PIXELS


@dataclass(frozen=True)
class Limits:
    """What a video may cost before it is given up.

    Args:
        max_pixels: Largest number of pixels of a frame, as it is stored and as it is shown; at most `MAX_PIXELS`.
        memory_bytes: Largest address space of the decoder in bytes.
        stall_s: Longest time in seconds in which the decoder sends nothing.
    """

    max_pixels: int = MAX_PIXELS
    memory_bytes: int = MEMORY_BYTES
    stall_s: float = STALL_S


LIMITS = Limits()


def read_frames(
    path: Path | str,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    frame_rate_hz: float | None = None,
    notes: list[str] | None = None,
    limits: Limits = LIMITS,
) -> Iterator[tuple[float, np.ndarray]]:
    """Reads the frames of a video one by one. Some are decoded ahead, in bounded memory.

    Frames are rotated (a phone held upright) and mirrored as the video says. The width is scaled by the sample aspect
    ratio, so that pixels are square (AFEW's are not). HDR is converted to BT.709. Of several video streams, the one
    that is marked as default is read, otherwise the first one. An attached picture is no video stream.

    Every frame that decodes is yielded. Its time is the stored time as long as the stored times rise. If a frame has no
    time, or the clock jumps back, the time increases by one step.

    Args:
        path: Video file.
        start_s, end_s: Section of the video that is read, in seconds. `None` reads from the start or to the end.
        frame_rate_hz: Frames a second that are yielded; `None` yields every frame.
        notes: List to which a line is appended for each kind of remark on the video that cost no frame: several
            streams, HDR, an assumed frame rate, a clock that jumps back.
        limits: What the video may cost.

    Yields:
        `(timestamp_s, frame)`: seconds since the video stream began; uint8 (H, W, 3), RGB, which belongs to the caller.

    Raises:
        InputError: When the file cannot be opened, has no video, or has too large frames. After the last good frame:
            when frames did not decode (their number, and the time of the first), packets were lost, the container
            declares more frames than it holds, or the decoder crashes, hangs or needs too much memory.
    """
    part = {"start_s": start_s, "end_s": end_s, "frame_rate_hz": frame_rate_hz}
    with closing(_request(path, part, limits)) as answers:
        for answer in answers:
            if "frame" in answer:
                yield answer["timestamp_s"], answer["frame"]
            elif "note" in answer and notes is not None:
                notes.append(f"{path} {answer['note']}")


@dataclass(frozen=True)
class Header:
    """What the header of a video says. Its frames may say otherwise.

    Args:
        frame_rate_hz: Frames a second; 25 if the header does not say, 0 if the video cannot be opened.
        duration_s: Length in seconds; 0 if the header does not say, or the video cannot be opened.
    """

    frame_rate_hz: float = 0.0
    duration_s: float = 0.0


def probe(path: Path | str) -> Header:
    """Reads the header of a video file. One that cannot be read, and a pipe, which is not opened, has none."""
    if name_fault(path):
        return Header()
    try:
        (answer,) = _request(path, None, LIMITS)
    except InputError:
        return Header()
    return Header(answer["frame_rate_hz"], answer["duration_s"])


def turn_frame(pixels: np.ndarray, mirrored: bool, quarter_turns: int) -> np.ndarray:
    """Returns a copy of a stored frame as it is meant to be seen.

    Args:
        pixels: uint8 (H, W, 3).
        mirrored: Whether it is flipped upside down first.
        quarter_turns: By how many quarter turns it is then rotated anticlockwise.
    """
    return np.array(np.rot90(pixels[::-1] if mirrored else pixels, quarter_turns), order="C")


class Decoder:
    """A process of `decoder.py`, and this process's ends of its connection and its memory.

    Raises:
        RuntimeError: When the process does not start.
    """

    def __init__(self) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        memory = os.memfd_create("frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(memory, SHARED_BYTES)
        # If one process shrank the memory, the other would crash.
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        self.memory = mmap.mmap(memory, 0, prot=mmap.PROT_READ)
        script = Path(__file__).with_name("decoder.py")
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(script), str(theirs.fileno()), str(memory)],
            stdin=subprocess.PIPE,  # nothing is written to it: it is closed when this process ends, and ends the child
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), memory),
            start_new_session=True,  # an interrupt from the keyboard must not look like a fault of the video
        )
        theirs.close()
        os.close(memory)
        try:
            self.answer(STALL_S)
        except (EOFError, OSError) as error:
            raise RuntimeError(f"The video decoder does not start ({self.end()}): {script}") from error

    def ask(self, request: dict[str, Any]) -> None:
        """Sends a request; `decoder.py` says what it holds."""
        self.connection.send_bytes(json.dumps(request).encode())

    def answer(self, stall_s: float) -> dict[str, Any]:
        """Returns the next answer. If it has pixels, they are added to it as `frame`.

        Args:
            stall_s: Longest wait in seconds.

        Raises:
            TimeoutError: When there is no answer for so long.
            EOFError, OSError: When the process has ended.
        """
        if not self.connection.poll(stall_s):
            raise TimeoutError
        answer = json.loads(self.connection.recv_bytes())
        if "offset" in answer:
            shape, strides = (answer["height"], answer["width"], 3), (answer["stride"], 3, 1)
            pixels = np.ndarray(shape, np.uint8, self.memory, answer["offset"], strides)
            answer["frame"] = turn_frame(pixels, answer["mirrored"], answer["quarter_turns"])
            with suppress(OSError):  # it may have ended; its earlier answers must still be read
                self.connection.send_bytes(b"")
        return answer

    def end(self) -> str:
        """Ends the process. Returns how it ended: the name of a signal or the exit code."""
        self.process.kill()
        code = self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()
        self.connection.close()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


# Decoders that wait for a video. There are as many as were in use at the same time.
_idle: list[Decoder] = []


def end_idle_decoders() -> None:
    """Ends the decoders that wait for a video. The next video starts a new one."""
    while _idle:
        _idle.pop().end()


atexit.register(end_idle_decoders)
os.register_at_fork(after_in_child=_idle.clear)


def _request(path, part, limits):
    """Yields the answers of a decoder to a request (see `decoder.py`). Empty answers are left out."""
    decoder, given, is_free = _take_decoder(), 0, False
    try:
        # A decoder keeps the working folder in which it was started, so it needs an absolute path.
        most = {"max_pixels": limits.max_pixels, "memory_bytes": limits.memory_bytes}
        decoder.ask({"path": os.path.abspath(path), "part": part, **most})
        while not is_free:
            answer = decoder.answer(limits.stall_s)
            if "error" in answer:
                raise InputError(f"{path} {answer['error']}")
            given += "frame" in answer
            is_free = "end" in answer
            if answer:
                yield answer
    except TimeoutError as error:
        raise InputError(
            f"{path} gave no frame for {limits.stall_s:g} s after {given} frames; its decoder was stopped."
        ) from error
    except (EOFError, OSError) as error:
        raise InputError(f"{path} crashed the decoder after {given} frames ({decoder.end()}).") from error
    finally:
        # After an error, or in the middle of a video, the state of the decoder is unknown, so it is ended.
        if is_free:
            _idle.append(decoder)
        else:
            decoder.end()


def _take_decoder():
    while _idle:
        decoder = _idle.pop()
        if decoder.process.poll() is None:
            return decoder
        decoder.end()
    return Decoder()

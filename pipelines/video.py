"""A video file → its frames, in time order, as they are meant to be seen.

Videos come from anywhere, and a decoder is a large and old program. So this process opens no video. `decoder.py`
decodes in a child process, which ends with this process and has limits: of time everywhere, of memory and of writing
files where the system has such limits. If the child dies, the rest of the video that it was reading is lost, and the
next video gets a new child. Frames arrive through a pipe. They are decoded ahead, while the caller works on earlier
frames.
"""

import atexit
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import Any, cast

import numpy as np

from affect.errors import InputError
from affect.interrupts import delay_interrupts
from affect.pipelines.files import name_fault

# Suffixes of the common containers.
SUFFIXES = (".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
# Largest number of pixels of a frame, as it is stored and as it is shown: twice the pixels of 8K.
MAX_PIXELS = 64 * 10**6
# Largest address space of a decoder.
MEMORY_BYTES = 3 * 2**30
# A decoder that sends nothing for this time is stopped.
STALL_S = 60.0
# A child with this flag has no window and does not hear Ctrl-C; systems other than Windows have no such flag.
NO_WINDOW = getattr(subprocess, "CREATE_NO_WINDOW", 0)


@dataclass(frozen=True)
class Limits:
    """What a video may cost before it is given up.

    Args:
        max_pixels: Largest number of pixels of a frame, as it is stored and as it is shown; at most `MAX_PIXELS`.
        memory_bytes: Largest address space of the decoder in bytes. Only Linux is known to limit it.
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
    section = {"start_s": start_s, "end_s": end_s, "frame_rate_hz": frame_rate_hz}
    with closing(_request(path, section, limits)) as answers:
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
    """A process of `decoder.py`. It ends with this object.

    Raises:
        RuntimeError: When the process does not start.
    """

    def __init__(self) -> None:
        script = Path(__file__).with_name("decoder.py")
        # An interrupt makes Popen lose file descriptors, or close some a second time, when another file may have them.
        with delay_interrupts():
            self.process = subprocess.Popen(
                [sys.executable, "-P", str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # An interrupt from the keyboard must not look like a fault of the video.
                start_new_session=True,
                creationflags=NO_WINDOW,
            )
            # The process ends when its standard input is closed. Popen alone would keep it open.
            self._requests = cast(BufferedWriter, self.process.stdin)
            self._answers = cast(BufferedReader, self.process.stdout)
            weakref.finalize(self, self._requests.close)
        self._stall_s, self._due_s, self._is_late = STALL_S, math.inf, False
        try:
            with self.limit_waits(STALL_S):
                self.answer()
        except (EOFError, OSError) as error:
            raise RuntimeError(f"The video decoder does not start ({self.end()}): {script}") from error
        except BaseException:
            self.end()
            raise

    def ask(self, request: dict[str, Any]) -> None:
        """Sends a request; `decoder.py` says what it holds."""
        self._requests.write(json.dumps(request).encode() + b"\n")
        self._requests.flush()

    @contextmanager
    def limit_waits(self, stall_s: float) -> Iterator[None]:
        """Ends the process if an answer takes too long in this block.

        A thread looks after it, because not every system can wait for a pipe and for a time.

        Args:
            stall_s: Longest wait for an answer in seconds.
        """
        self._stall_s, is_over = stall_s, threading.Event()
        threading.Thread(target=self._watch, args=(is_over,), daemon=True).start()
        try:
            yield
        finally:
            is_over.set()

    def _watch(self, is_over):
        while not is_over.wait(min(max(self._due_s - time.monotonic(), 0), self._stall_s)):
            if time.monotonic() >= self._due_s:
                self._is_late = True
                self.process.kill()  # so that the pipe ends
                return

    def answer(self) -> dict[str, Any]:
        """Returns the next answer. If pixels follow it, they are added to it as `frame`.

        Raises:
            TimeoutError: When it takes too long; see `limit_waits`.
            EOFError, OSError: When the process has ended.
        """
        self._due_s = time.monotonic() + self._stall_s
        line = self._answers.readline(2**20)
        if line.endswith(b"\n"):
            answer = json.loads(line)
            if "height" not in answer:
                self._due_s = math.inf
                return answer
            shape = answer["height"], answer["width"], 3
            if math.prod(shape) <= 3 * MAX_PIXELS:  # otherwise a video has taken the process over
                frame = np.empty(shape, np.uint8)
                if self._answers.readinto(frame.data.cast("B")) == frame.nbytes:
                    self._due_s, mirrored, turns = math.inf, answer["mirrored"], answer["quarter_turns"]
                    return answer | {"frame": turn_frame(frame, mirrored, turns) if mirrored or turns else frame}
        raise TimeoutError if self._is_late else EOFError

    def end(self) -> str:
        """Ends the process. Returns how it ended: the name of a signal or the exit code."""
        with delay_interrupts():
            self.process.kill()
            code = self.process.wait()
            for pipe in (self._requests, self._answers):
                with suppress(OSError):  # a request that was not sent
                    pipe.close()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


# Decoders that wait for a video. There are as many as were in use at the same time.
_idle: list[Decoder] = []


def end_idle_decoders() -> None:
    """Ends the decoders that wait for a video. The next video starts a new one."""
    while _idle:
        _idle.pop().end()


atexit.register(end_idle_decoders)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)


def _request(path, section, limits):
    """Yields the answers of a decoder to a request (see `decoder.py`). Empty answers are left out."""
    waited = bool(_idle)
    decoder, given, is_free = _take_decoder(), 0, False
    try:
        # A decoder keeps the working folder in which it was started, so it needs an absolute path.
        most = {"max_pixels": limits.max_pixels, "memory_bytes": limits.memory_bytes}
        with decoder.limit_waits(limits.stall_s):
            decoder.ask({"path": os.path.abspath(path), "section": section, **most})
            while not is_free:
                answer = decoder.answer()
                waited = False
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
        if not waited:
            raise InputError(f"{path} crashed the decoder after {given} frames ({decoder.end()}).") from error
    finally:
        # After an error, or in the middle of a video, the state of the decoder is unknown, so it is ended.
        if is_free:
            _idle.append(decoder)
        else:
            decoder.end()
    if not is_free:  # it had ended while it waited for a video, which did not show yet
        yield from _request(path, section, limits)


def _take_decoder():
    while _idle:
        decoder = _idle.pop()
        if decoder.process.poll() is None:
            return decoder
        decoder.end()
    return Decoder()

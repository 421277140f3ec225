"""A video file → its frames, in time order, as they are meant to be seen.

Videos come from anywhere, and a decoder is large and old. So none is opened in this process: `decoder.py` decodes in a
child, which cannot write files, may take so much time and memory, and ends with this process. One that dies costs the
video that it was reading; the next video gets another. Frames come through shared memory, decoded ahead while the
caller works on those before.
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
from contextlib import closing, suppress
from pathlib import Path

import numpy as np

from affect.errors import InputError

# Containers that are looked for in folders.
SUFFIXES = (".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
# Pixels of a frame, as it is stored and as it is shown: twice those of 8K.
MAX_PIXELS = 64 * 10**6
# Address space of a decoder, the shared memory included.
MEMORY_BYTES = 3 * 2**30
# A decoder that decodes nothing for so long is stopped.
STALL_S = 60.0
# RGB, and a third for rows that are padded.
SHARED_BYTES = 4 * MAX_PIXELS


def read_frames(path, *, start_s=None, end_s=None, frame_rate_hz=None, notes=None):
    """Reads the frames of a video one by one; some are decoded ahead, in bounded memory.

    Rotation (a phone held upright), mirroring and the sample aspect ratio (AFEW has non-square pixels) are honoured:
    the width is scaled so that pixels become square. HDR is converted to BT.709. Of several video streams the one that
    is marked default is read, else the first; an attached picture is none.

    Every frame that decodes is given. Its time is the stored one where these rise. Where a frame has none, or the
    clock jumps back, the times go on by one step.

    Args:
        path: Video file.
        start_s, end_s: Part of the video that is read, in seconds; `None` is from the start, to the end.
        frame_rate_hz: Frames a second that are given; `None` gives every frame.
        notes: List to which a line is appended for each kind of remark on the video that cost no frame: several
            streams, HDR, an assumed frame rate, a clock that jumps back.

    Yields:
        `(timestamp_s, frame)`: float, seconds since the video stream began; uint8 array (H, W, 3), RGB, not used again.

    Raises:
        InputError: When the file cannot be opened, has no video or too large frames; or, after the last good frame,
            when frames did not decode (their number, and the time of the first), packets were lost, the container
            declares more than came, or the decoder crashes, hangs or needs too much memory.
    """
    part = {"start_s": start_s, "end_s": end_s, "frame_rate_hz": frame_rate_hz}
    with closing(_answers(path, part)) as answers:
        for answer in answers:
            if "frame" in answer:
                yield answer["timestamp_s"], answer["frame"]
            elif "note" in answer and notes is not None:
                notes.append(f"{path} {answer['note']}")


def probe_frame_rate(path):
    """Returns the frames a second of a video file, 0 where it cannot be opened; 25 where the container does not say."""
    try:
        (answer,) = _answers(path, None)
    except InputError:
        return 0.0
    return answer["frame_rate_hz"]


class Decoder:
    """A process of `decoder.py` with our ends of its connection and its memory."""

    def __init__(self):
        self.connection, theirs = multiprocessing.Pipe()
        memory = os.memfd_create("frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(memory, SHARED_BYTES)
        # Memory that is shrunk by one process ends the other.
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        self.memory = mmap.mmap(memory, 0, prot=mmap.PROT_READ)
        script = Path(__file__).with_name("decoder.py")
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(script), str(theirs.fileno()), str(memory)],
            stdin=subprocess.PIPE,  # nothing is written to it: its end tells the decoder of ours
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), memory),
            start_new_session=True,  # an interrupt from the keyboard must not look like a video's fault
        )
        theirs.close()
        os.close(memory)
        try:
            self.answer()
        except (EOFError, OSError) as error:
            raise RuntimeError(f"The video decoder does not start ({self.end()}): {script}") from error

    def ask(self, request):
        self.connection.send_bytes(json.dumps(request).encode())

    def answer(self):
        """Returns the next answer, and with it the `frame` of one that has pixels.

        Raises:
            TimeoutError: When there is none for `STALL_S`.
            EOFError, OSError: When the process has ended.
        """
        if not self.connection.poll(STALL_S):
            raise TimeoutError
        answer = json.loads(self.connection.recv_bytes())
        if "offset" in answer:
            shape, strides = (answer["height"], answer["width"], 3), (answer["stride"], 3, 1)
            pixels = np.ndarray(shape, np.uint8, self.memory, answer["offset"], strides)
            pixels = np.rot90(pixels[::-1] if answer["mirrored"] else pixels, answer["quarter_turns"])
            answer["frame"] = np.array(pixels, order="C")
            with suppress(OSError):  # it has ended, and answers that it gave before are still to be read
                self.connection.send_bytes(b"")
        return answer

    def end(self):
        """Ends the process. Returns how it ended."""
        self.process.kill()
        code = self.process.wait()
        self.process.stdin.close()
        self.connection.close()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


# Decoders that wait for a video: as many as were in use at the same time.
_idle = []


def _end_idle():
    while _idle:
        _idle.pop().end()


atexit.register(_end_idle)
os.register_at_fork(after_in_child=_idle.clear)


def _answers(path, part):
    """Yields a decoder's answers to a request (see `decoder.py`), but those that say no more than that it goes on."""
    decoder, given, is_free = _take_decoder(), 0, False
    try:
        # A decoder that is used again still has the working folder in which it was started.
        limits = {"max_pixels": MAX_PIXELS, "memory_bytes": MEMORY_BYTES}
        decoder.ask({"path": os.path.abspath(path), "part": part, **limits})
        while not is_free:
            answer = decoder.answer()
            if "error" in answer:
                raise InputError(f"{path} {answer['error']}")
            given += "frame" in answer
            is_free = "end" in answer
            if answer:
                yield answer
    except TimeoutError as error:
        raise InputError(
            f"{path} gave no frame for {STALL_S:g} s after {given} frames; its decoder was stopped."
        ) from error
    except (EOFError, OSError) as error:
        raise InputError(f"{path} crashed the decoder after {given} frames ({decoder.end()}).") from error
    finally:
        # After an error, or in the middle of a video, its memory may be in any state.
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

"""The decoder: a process of its own, because a hostile video may crash or hang it, or make it use too much memory.

`affect.pipelines.video` starts it and ends it. Requests arrive on standard input and answers leave on standard output,
because all systems have these two. Each is a line of JSON. A request holds `path`, `section` (arguments of `decode`;
null asks for the frame rate only), `max_pixels` and `memory_bytes`. The answers are:

- One for each frame. Its pixels follow the line: rgb24, row by row.
- One for each remark on the video, with `note`.
- An empty one about each second while frames are skipped.
- The last one, with `end` or `error`.
"""

import errno
import json
import math
import os
import queue
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import av
import av.logging
from av.sidedata.sidedata import SideDataContainer
from av.stream import Disposition
from av.video.reformatter import ColorPrimaries, ColorTrc, VideoReformatter

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# The only demuxers that are tried. No playlist is among them (concat, dash, hls, imf, sdp, image sequences, ...), so
# that a video can open no other file and no address.
FORMATS = (
    *("asf", "avi", "dv", "flv", "gif", "h264", "hevc", "ivf", "m4v", "matroska", "mjpeg", "mov", "mpeg"),
    *("mpegts", "mpegvideo", "mxf", "nut", "obu", "ogg", "rm", "webm", "yuv4mpegpipe"),
)
# Formats that hold frames without times.
UNTIMED = ("h264", "hevc", "m4v", "mjpeg", "mpegvideo", "obu")
# Formats without an index: a seek may end after the frames that are wanted.
UNINDEXED = ("mpeg", "mpegts")
# A video stream with one of these flags is a picture of a recording, or belongs to another stream.
NO_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.dependent
# Transfer functions of HDR.
HDR = {ColorTrc.SMPTE2084: "PQ", ColorTrc.ARIB_STD_B67: "HLG"}
# After so many failures to read in a row, the rest of a file is not read.
READ_FAILURES = 32
# Number of packets that a demuxer may hold back at the beginning of another stream.
JOINED_PACKETS = 4
# If a clock jumps forward by more than this, its time is not used.
LEAP_S = 24 * 3600.0
# Limits of the frames that are decoded ahead of the reader and not in the pipe yet. At least one frame is.
AHEAD_FRAMES = 32
AHEAD_BYTES = 64 * 2**20
# Size of the pipe to the reader, where it can be set. With the usual 64 KiB the processes wait often for each other.
PIPE_BYTES = 2**20
# While frames are skipped, an empty answer is sent after this time, so that the reader does not stop the decoder.
ALIVE_S = 1.0


class VideoError(Exception):
    """The fault of a video, as the end of a sentence that begins with its path."""


def main() -> None:
    """Answers requests until the reader closes standard input or ends."""
    av.logging.set_level(av.logging.ERROR)
    ahead = Ahead(os.fdopen(os.dup(1), "wb"))
    with suppress(ImportError, AttributeError, OSError):  # Linux can
        import fcntl

        fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    os.dup2(2, 1)  # what a library prints is discarded, as on standard error: it is no answer
    # No file may be written, no core dumped, and few files opened.
    for name, most in (("FSIZE", 0), ("CORE", 0), ("NOFILE", 16)):
        set_limit(name, most)
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(requests,), daemon=True).start()
    ahead.send({})
    while True:
        _answer(json.loads(requests.get()), ahead)


def _receive(requests):
    """Receives requests. Ends this process, also in the middle of a video, when the reader ends: the pipe closes."""
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)


def _answer(request, ahead):
    # The hard limit is not changed, so that the soft limit can be raised for the next video.
    set_limit("AS", request["memory_bytes"], is_final=False)
    answer: dict[str, Any]
    try:
        if request["section"] is None:
            with open_video(request["path"], request["max_pixels"]) as (container, stream):
                answer = {
                    "end": True,
                    "frame_rate_hz": frame_rate(stream),
                    "duration_s": duration(container, stream),
                }
        else:
            for given in decode(request["path"], request["max_pixels"], ahead.note, **request["section"]):
                ahead.keep_alive() if given is None else ahead.put(*given)
            answer = {"end": True}
    except VideoError as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": f"needs more than {request['memory_bytes'] // 2**20} MiB of memory."}
    # All input may be hostile, so the input may cause any exception, such as an overflow or a division by zero.
    except Exception as error:
        answer = {"error": f"cannot be decoded ({type(error).__name__}: {' '.join(str(error).split())})."}
    ahead.send(answer)


def set_limit(name: str, most: int, *, is_final: bool = True) -> None:
    """Limits what this process may use, if the system can. Windows has no such limits, and macOS not all of them.

    Args:
        name: Name of the limit in `resource`, without `RLIMIT_`.
        most: The limit.
        is_final: Whether it may never be raised again.
    """
    limit = getattr(resource, f"RLIMIT_{name}", None)
    if limit is not None:
        with suppress(OSError, ValueError):  # the system refuses it, or a lower limit holds already
            resource.setrlimit(limit, (most, most if is_final else resource.getrlimit(limit)[1]))


class Ahead:
    """Sends answers in their order. A thread sends them, so that frames are decoded ahead of the reader.

    Args:
        answers: Stream to which they are written.
    """

    def __init__(self, answers: BinaryIO):
        self._answers = answers
        # Lines and pixels that are not sent yet, and how many of them are frames, of how many bytes.
        self._waiting: deque[tuple[bytes, Any]] = deque()
        self._frames, self._bytes, self._changed = 0, 0, threading.Condition()
        self.sent_s = time.monotonic()
        threading.Thread(target=self._write, daemon=True).start()

    def put(self, timestamp_s: float, frame: av.VideoFrame, display: dict[str, Any]) -> None:
        """Sends a frame; waits first if too many frames are not sent yet.

        Args:
            timestamp_s: Time of the frame.
            frame: In rgb24.
            display: How it is shown, as `decode` yields it.
        """
        answer = {"timestamp_s": timestamp_s, "height": frame.height, "width": frame.width, **display}
        self.send(answer, _pack(frame))

    def note(self, text: str) -> None:
        """Sends a remark on the video."""
        self.send({"note": text})

    def keep_alive(self) -> None:
        """Sends an empty answer if the last answer was sent more than `ALIVE_S` ago."""
        if time.monotonic() - self.sent_s > ALIVE_S:
            self.send({})

    def send(self, answer: dict[str, Any], pixels: Any = b"") -> None:
        """Sends an answer.

        Args:
            answer: It is sent as JSON.
            pixels: Bytes that follow it; without them it does not wait.
        """
        line, size = json.dumps(answer).encode() + b"\n", len(pixels)
        with self._changed:
            if size:
                self._changed.wait_for(lambda: self._has_room(size))
            self._waiting.append((line, pixels))
            self._frames, self._bytes = self._frames + (size > 0), self._bytes + size
            self._changed.notify_all()
        self.sent_s = time.monotonic()

    def _has_room(self, size):
        return not self._frames or (self._frames < AHEAD_FRAMES and self._bytes + size <= AHEAD_BYTES)

    def _write(self):
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting)
                    line, pixels = self._waiting.popleft()
                self._answers.write(line)
                self._answers.write(pixels)
                self._answers.flush()
                with self._changed:
                    self._frames, self._bytes = self._frames - (len(pixels) > 0), self._bytes - len(pixels)
                    self._changed.notify_all()
                del pixels
        finally:  # the reader has ended
            os._exit(1)


def _pack(frame):
    """Returns the pixels of a frame in rgb24, row by row, without the padding of the rows."""
    (plane,) = frame.planes
    stored, stride, size = memoryview(plane), plane.line_size, 3 * frame.width
    if stride == size:
        return stored
    starts = range(0, abs(stride) * frame.height, abs(stride))
    return b"".join([stored[start : start + size] for start in (starts if stride > 0 else reversed(starts))])


@contextmanager
def open_video(path: str, max_pixels: int) -> Iterator[tuple[Any, Any]]:
    """Opens a video as `(container, stream)` of PyAV.

    Args:
        path: Video file. A path that looks like an address is read as the name of a file.
        max_pixels: Largest number of pixels of a stored frame.

    Raises:
        VideoError: When the file cannot be opened, has no video, or has too large frames.
    """
    limit = {"max_pixels": str(max_pixels)}
    options = {"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS), **limit}
    try:
        container = av.open(f"file:{path}", options=options, metadata_errors="replace")
    except MemoryError:
        raise
    except (av.error.FFmpegError, OSError) as error:
        if picture := _name_webp(path):
            raise VideoError(f"is {picture}, which cannot be decoded. Convert it to MP4.") from error
        reason = _name_reason(error)
        if getattr(error, "errno", None) == errno.EINVAL:
            reason = f"{reason}: damaged, or none of the containers {', '.join(FORMATS)}"
        raise VideoError(f"is not a video that can be opened ({reason}).") from error
    with container:
        stream = video_stream(container)
        codec = stream.codec_context
        _check_size(codec.width, codec.height, max_pixels)
        codec.options = limit
        # With one thread for each frame, the error of a damaged last frame is lost, and the number of good frames that
        # are lost with it depends on the number of cores. Threads within a frame are no faster here, and use memory.
        codec.thread_count = 1
        yield container, stream


def video_stream(container: Any) -> Any:
    """Returns the video stream of an open PyAV container: the one that is marked as default, otherwise the first one.

    Raises:
        VideoError: When no stream can be decoded. Attached pictures, such as covers, are no video streams.
    """
    streams = [stream for stream in container.streams.video if not stream.disposition & NO_VIDEO]
    if not streams:
        pictures = " but an attached picture" if container.streams.video else ""
        raise VideoError(f"has no video stream{pictures}.")
    if not (known := [stream for stream in streams if stream.codec_context]):
        raise VideoError("has a video stream of a codec that is not known.")
    return min(known, key=lambda stream: not stream.disposition & Disposition.default)


def decode(
    path: str,
    max_pixels: int,
    note: Callable[[str], object],
    *,
    start_s: float | None,
    end_s: float | None,
    frame_rate_hz: float | None,
) -> Iterator[tuple[float, Any, dict[str, Any]] | None]:
    """Yields `(timestamp_s, frame, display)` of each frame that is asked for, and `None` for each that is skipped.

    A frame that does not decode is left out and counted. No frame is left out because of its time.

    Args:
        path: Video file.
        max_pixels: Largest number of pixels of a frame, as it is stored and as it is shown.
        note: `note(text)` is called with each remark on the video that cost no frame: the end of a sentence that
            begins with the path.
        start_s, end_s, frame_rate_hz: As in `affect.pipelines.video.read_frames`.

    Yields:
        Seconds since the stream began; PyAV's frame in rgb24, with square pixels; how it is shown: flipped upside
        down if `mirrored`, then rotated by so many `quarter_turns` anticlockwise.

    Raises:
        VideoError: When the video cannot be opened; or after the last frame, when frames were lost.
    """
    with av.logging.Capture() as logs, open_video(path, max_pixels) as (container, stream):
        for text in _list_remarks(container, stream):
            note(text)
        reader, converter = Reader(container, stream, start_s or 0.0, logs), Converter(stream, max_pixels, note)
        grid = FrameGrid(frame_rate_hz, reader.from_s)
        for timestamp_s, frame in reader.frames():
            if end_s is not None and timestamp_s >= end_s - 1e-6:
                break
            if frame is None or not grid.take(timestamp_s):
                yield None
                continue
            try:
                yield timestamp_s, *converter.convert(frame)
            except MemoryError:
                raise
            except (av.error.FFmpegError, OSError) as error:
                reader.undecoded.add(timestamp_s, reason=_name_reason(error))
        for text in reader.clock.remarks():
            note(text)
        if losses := reader.losses():
            raise VideoError(losses)


class FrameGrid:
    """Chooses the frames that are looked at: the first one at or after each point of a regular grid of time.

    The grid is fixed to its start, so that rounding does not let it drift.

    Args:
        frame_rate_hz: Points of the grid in a second. `None` chooses every frame.
        start_s: Time of the first point in seconds. Frames before it are not chosen.
    """

    def __init__(self, frame_rate_hz: float | None, start_s: float = 0.0):
        self.frame_rate_hz, self.start_s, self._due_s = frame_rate_hz, start_s, start_s

    def take(self, timestamp_s: float) -> bool:
        """Returns whether the next frame is chosen, given its time in seconds. Times must rise."""
        if timestamp_s < self._due_s - 1e-6:
            return False
        if self.frame_rate_hz:
            steps = math.floor((timestamp_s - self.start_s) * self.frame_rate_hz + 1e-6) + 1
            self._due_s = self.start_s + steps / self.frame_rate_hz
        return True


class Converter:
    """Converts the frames of a stream to rgb24 with square pixels, and HDR to BT.709.

    Args:
        stream: Video stream of PyAV.
        max_pixels, note: As in `decode`.
    """

    def __init__(self, stream: Any, max_pixels: int, note: Callable[[str], object]):
        self.stream, self.max_pixels, self.note = stream, max_pixels, note
        self.reformatter, self.noted = VideoReformatter(), set()

    def convert(self, frame: Any) -> tuple[Any, dict[str, Any]]:
        """Returns `(frame, display)` as `decode` yields them."""
        width = frame.width
        if (aspect_ratio := self.stream.sample_aspect_ratio) and aspect_ratio > 0:
            width = max(1, round(frame.width * aspect_ratio))
        _check_size(width, frame.height, self.max_pixels)
        colours = {}
        if hdr := HDR.get(frame.color_trc):
            colours = {"dst_color_trc": ColorTrc.BT709, "dst_color_primaries": ColorPrimaries.BT709}
            self._note_once(f"is HDR ({hdr}): it is converted to BT.709, and what is brighter than white is clipped.")
        display, remark = _read_display(frame)
        if remark:
            self._note_once(remark)
        # With more than one thread, the conversion takes twice as long.
        return self.reformatter.reformat(frame, width=width, format="rgb24", threads=1, **colours), display

    def _note_once(self, text):
        if text not in self.noted:
            self.noted.add(text)
            self.note(text)


class Clock:
    """Stored times of frames, in the order in which they are shown → times that rise.

    If the stored clock jumps back, for example because recordings were joined, or jumps forward by more than a day, the
    time increases by one step. A single frame that is out of order, or that has the time of the frame before, is placed
    right after that frame.

    Attributes:
        last_s: Time of the last frame in seconds, `None` before the first frame.
        offset_s: Number that is added to stored times.
    """

    def __init__(self) -> None:
        self.last_s: float | None = None
        self.offset_s = 0.0
        self.jumps, self.leaps, self.unordered = Count(), Count(), Count()
        # Set while it is unknown whether a clock that went back stays there: the offset and the last time before it
        # went back; and the number of frames since then whose time did not rise.
        self._before: tuple[float, float] | None = None
        self._run = 0

    def rise(self, stored_s: float | None, step_s: float) -> float:
        """Returns the time of the next frame.

        Args:
            stored_s: Stored time; `None` if the frame has none.
            step_s: Usual time from one frame to the next.
        """
        last_s = self.last_s
        if last_s is None:
            self.last_s = stored_s or 0.0
        elif stored_s is None:
            self.last_s = last_s + step_s
        else:
            if self._before is not None and stored_s + self._before[0] > self._before[1]:
                self.unordered.add(self._before[1], self._run)
                self.offset_s, self._before, self._run = self._before[0], None, 0
                if stored_s + self.offset_s <= last_s:
                    self.last_s = last_s + step_s / 16
                    return self.last_s
            time_s = stored_s + self.offset_s
            if time_s <= last_s:
                self._before = self._before or (self.offset_s, last_s)
                self._run += 1
                # A small step leaves room for the next frames, because they may continue by the old clock.
                is_near = last_s - time_s < 2 * step_s and self._run < 8
                time_s = last_s + (step_s / 2**self._run if is_near else step_s)
                self.offset_s = time_s - stored_s
            else:
                if self._before is not None:
                    self.jumps.add(self._before[1])
                    self._before, self._run = None, 0
                if time_s - last_s > LEAP_S:
                    self.leaps.add(last_s)
                    time_s = last_s + step_s
                    self.offset_s = time_s - stored_s
            self.last_s = time_s
        return self.last_s

    def remarks(self) -> list[str]:
        """Returns remarks on the times. Each is the end of a sentence that begins with the path of the video."""
        if self._before is not None:
            self.unordered.add(self._before[1], self._run)
            self._before, self._run = None, 0
        remarks = []
        for how, jumps in (("jumps back", self.jumps), ("leaps by more than a day", self.leaps)):
            if jumps.count:
                times, place = "once" if jumps.count == 1 else f"{jumps.count} times", jumps.place("after")
                remarks.append(f"has a clock that {how} {times}, {place}: the times of its frames continue without it.")
        if self.unordered.count:
            frames, place = _count_frames(self.unordered.count), self.unordered.place("after")
            remarks.append(
                f"has {frames} whose time does not rise, {place}: each is placed right after the frame before it."
            )
        return remarks


class Count:
    """Counts a kind of event, and keeps the time and the reason of the first one.

    Attributes:
        count: Number of events.
        first_s: Time of the first event in seconds; `None` if unknown.
        reason: Reason of the first event, in parentheses; may be empty.
    """

    def __init__(self) -> None:
        self.count, self.reason = 0, ""
        self.first_s: float | None = None

    def add(self, time_s: float | None, count: int = 1, reason: str = "") -> None:
        """Adds events.

        Args:
            time_s: Time of the event; `None` if unknown.
            count: Number of events.
            reason: Why it happened; may be empty.
        """
        if not self.count:
            self.first_s, self.reason = time_s, reason and f" ({reason})"
        self.count += count

    def place(self, word: str = "at") -> str:
        """Returns when it first happened, for a sentence: `"the first at 0.40 s"`."""
        which = "the first " * (self.count > 1)
        return f"{which}{word} {'an unknown time' if self.first_s is None else f'{self.first_s:.2f} s'}"


class Reader:
    """Reads the frames of a stream with their times, and counts what is lost.

    Args:
        container, stream: Objects of PyAV.
        from_s: Frames before this time, in seconds since the stream began, are not wanted and may be skipped.
        logs: List to which FFmpeg's errors are appended, as `av.logging.Capture` returns it.

    Attributes:
        clock: Computes the times.
        undecoded: Counts the packets that gave an error.
    """

    def __init__(self, container: Any, stream: Any, from_s: float, logs: list[tuple[int, str, str]]):
        self.container, self.stream, self.from_s, self.logs, self.clock = container, stream, from_s, logs, Clock()
        self.format, self.step_s = container.format.name, 1 / frame_rate(stream)
        # Number of entries in the index of an AVI file. FFmpeg adds entries later, for packets that are not in it.
        self.listed = len(stream.index_entries) if self.format == "avi" else 0
        self.origin_s = None
        if stream.start_time is not None and stream.time_base:
            self.origin_s = float(stream.start_time * stream.time_base)
        self.is_sought = self.is_at_end = False
        self.packets, self.decoded, self.steps, self.regular, self.demuxed_s, self.broken = 0, 0, 0, 0, -math.inf, ""
        self.undecoded, self.faulty, self.corrupt, self.missing = Count(), Count(), Count(), Count()
        self.unreadable = Count()  # places in the container
        # Times that packets store for frames that are not decoded yet, in the order of the packets.
        self.waiting, self.newest, self.shown, self.is_reordered = deque(), None, None, False

    def frames(self) -> Iterator[tuple[float, Any]]:
        """Yields `(timestamp_s, frame)`: a frame of PyAV, or `None` for a packet that gave an error."""
        if self.from_s and self.format not in (*UNINDEXED, *UNTIMED):
            with suppress(av.error.FFmpegError):  # if no seek is possible, all frames are read
                offset_s = self.from_s + (self.origin_s or 0.0)
                self.container.seek(int(offset_s / self.stream.time_base), stream=self.stream)
                self.is_sought = True
        suspects, before = deque(), None
        # All streams are read to their ends, because the duration of a container is the duration of its longest stream.
        for packet in self._demux():
            # Some demuxers skip what they cannot read, and report it in the logs only.
            for _, name, text in self.logs:
                if name == self.format:
                    self.unreadable.add(self.clock.last_s, reason=" ".join(text.split())[:80])
            self.logs.clear()
            if packet.pts is not None:
                self.demuxed_s = max(self.demuxed_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream is not self.stream:
                continue
            self.packets += packet.size > 0
            stored = packet.dts if self.format == "avi" else packet.pts
            if None not in (packet.dts, before) and packet.dts < before:
                suspects.clear()  # two streams were joined: FFmpeg marks the last packets of the first as corrupt
            while suspects and suspects[0][0] < self.packets - JOINED_PACKETS:
                self._count(self.corrupt, suspects.popleft()[1])
            before = packet.dts
            if packet.is_corrupt:
                suspects.append((self.packets, stored))
            if packet.size and not packet.is_discard:
                if None not in (stored, self.newest) and stored < self.newest:
                    self.is_reordered |= self.shown is None or stored > self.shown
                self.newest = stored
                self.waiting.append(stored)
            try:
                frames = packet.decode()
            except MemoryError:
                raise
            except EOFError:
                continue
            except (av.error.FFmpegError, OSError) as error:
                if packet.size and self.waiting:
                    self.waiting.pop()
                self._count(self.undecoded, stored, _name_reason(error))
                yield self.clock.last_s or 0.0, None
                continue
            for frame in frames:
                yield self._compute_time(frame), frame
        for _, stored in suspects:
            self._count(self.corrupt, stored)
        self.is_at_end = True

    def _demux(self):
        """Yields all packets. After a failure it continues, unless there are `READ_FAILURES` failures in a row."""
        failures, is_over = 0, False
        while not is_over:
            try:
                for packet in self.container.demux():
                    failures = 0
                    yield packet
                is_over = True
            except MemoryError:
                raise
            except (av.error.FFmpegError, OSError) as error:
                failures += 1
                after = f"{_count_frames(self.decoded)} ({_name_reason(error)})"
                self.broken = self.broken or f"reading fails after {after}"
                is_over = failures >= READ_FAILURES
        if failures:
            packet = av.Packet()  # an empty packet makes the decoder return the frames that it holds
            packet.stream = self.stream
            yield packet

    def _compute_time(self, frame):
        """Returns the time of the next frame.

        Frames are decoded in the order in which they are shown. If a decoder reorders packets whose times only rise,
        because the container has no other times, a frame gets the time of the first packet that waits.
        """
        depth = self.stream.codec_context.reorder_depth
        while len(self.waiting) > depth + 1:  # packets without a frame
            self.waiting.popleft()
        stored = self.waiting.popleft() if self.waiting else None
        if self.is_reordered or not depth:
            stored = frame.pts
        self.shown = stored
        if self.format in UNTIMED or stored is None or not self.stream.time_base:
            stored_s = None
        else:
            stored_s = float(stored * self.stream.time_base)
            if not self.decoded and not self.is_sought:
                self.origin_s = stored_s if self.origin_s is None else min(self.origin_s, stored_s)
            stored_s -= self.origin_s or 0.0
        before_s, time_s = self.clock.last_s, self.clock.rise(stored_s, self.step_s)
        self.decoded += 1
        if time_s >= self.from_s - 1e-6:
            if frame.is_corrupt:
                self.faulty.add(time_s)
            if before_s is not None:
                steps = (time_s - before_s) / self.step_s
                self.steps += 1
                if steps > 1.5:
                    self.missing.add(before_s, round(steps) - 1)
                self.regular += 0.9 < steps < 1.1
        return time_s

    def _count(self, count, stored, reason=""):
        """Counts an event of a packet, unless the packet is before the wanted ones."""
        time_s = None
        if stored is not None and self.stream.time_base and self.format not in UNTIMED:
            time_s = float(stored * self.stream.time_base) - (self.origin_s or 0.0) + self.clock.offset_s
        if time_s is None or time_s >= self.from_s - 1e-6:
            count.add(time_s, reason=reason)

    def losses(self) -> str:
        """Returns the faults of the video as the end of a sentence that begins with its path; empty if there are none.

        The video is checked for truncation only if it was read to its end.
        """
        undecoded, missing = self.undecoded, self.missing
        faulty = max(self.faulty, self.corrupt, key=lambda count: count.count)
        if not self.decoded and self.is_at_end:
            if undecoded.count:
                return f"is damaged: none of its {_count_frames(undecoded.count)} could be decoded{undecoded.reason}."
            return f"is damaged: {self.broken}." if self.broken else "has no frames."
        found = []
        if undecoded.count:
            frames = _count_frames(undecoded.count)
            found.append(f"{frames} could not be decoded, {undecoded.place()}{undecoded.reason}")
        if faulty.count:
            found.append(f"{_count_frames(faulty.count)} arrived damaged, {faulty.place()}")
        # If a transport stream lost all packets of a frame, the only sign is a gap in time. It is a sign only if the
        # other frames are evenly spaced.
        is_even = self.regular >= 0.8 * self.steps
        if self.format == "mpegts" and missing.count > undecoded.count and is_even:
            are = "is" if missing.count == 1 else "are"
            found.append(f"about {_count_frames(missing.count)} {are} missing, {missing.place('after')}")
        if self.broken:
            found.append(self.broken)
        truncated = self._name_truncation() if self.is_at_end else ""
        if not found and not truncated and self.unreadable.count:
            found.append(f"its container is broken, {self.unreadable.place('after')}{self.unreadable.reason}")
        if found:
            return f"is damaged: {'; '.join([*found, *([f'it {truncated}'] if truncated else [])])}."
        return truncated and f"{truncated}."

    def _name_truncation(self):
        """Returns how the video is truncated; empty if it is not."""
        if self.format == "avi" and self.packets == self.listed and not _is_cut_off(self.container):
            return ""  # the header may count frames that were never stored; the index does not
        # An edit list may hide frames, so packets are counted. Matroska stores no number of frames, only the duration.
        if not self.is_sought and self.packets < self.stream.frames:
            return f"is truncated: {self.packets} of {self.stream.frames} frames"
        duration_s = (self.container.duration or 0) / av.time_base
        demuxed_s = max(0.0, self.demuxed_s - min(0, self.container.start_time or 0) / av.time_base)
        if duration_s and demuxed_s < 0.95 * duration_s - 0.2:
            return f"is truncated: {demuxed_s:.1f} of {duration_s:.1f} seconds"
        return ""


def _count_frames(count):
    return f"{count} frame{'s' * (count != 1)}"


def _list_remarks(container, stream):
    """Returns the remarks on a video that are known before it is read, in the form of `Clock.remarks`."""
    remarks, streams = [], [other for other in container.streams.video if not other.disposition & NO_VIDEO]
    if len(streams) > 1:
        marked = ", which is marked default," if stream.disposition & Disposition.default else ""
        remarks.append(f"has {len(streams)} video streams: number {streams.index(stream) + 1}{marked} is read.")
    if container.format.name in UNTIMED:
        source = " (of its header)" if stream.codec_context.framerate else ""
        remarks.append(f"has frames without times: {frame_rate(stream):g} frames a second{source} are assumed.")
    return remarks


def frame_rate(stream: Any) -> float:
    """Returns the frames a second of a PyAV stream; 25 if the container does not say."""
    if stream.container.format.name in UNTIMED and (coded := stream.codec_context.framerate):
        return float(coded)  # such a container has no frame rate, and FFmpeg guesses one
    return float(stream.average_rate or stream.guessed_rate or 25)


def duration(container: Any, stream: Any) -> float:
    """Returns the length of a video in seconds, as its header says; 0 if the header does not say.

    Args:
        container: Of PyAV.
        stream: Its video stream.
    """
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / av.time_base


def _check_size(width, height, max_pixels):
    if width * height > max_pixels:
        raise VideoError(f"has frames of {width}×{height} pixels; at most {max_pixels / 1e6:g} million can be read.")


def _read_display(frame):
    """Returns how a frame is shown (see `decode`), and a remark on it, which may be empty."""
    # `frame.side_data` refers back to its frame, so both would stay in memory until the garbage is collected.
    side_data = SideDataContainer(frame)  # type: ignore[call-arg]  # PyAV's stub lacks __init__
    if not (matrix := side_data.get("DISPLAYMATRIX")):
        return {"mirrored": False, "quarter_turns": 0}, ""
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    # The x axis goes to (a, b) and the y axis, downwards, to (c, d). If one of them is 0, or they are not at right
    # angles, the matrix is no rotation.
    lengths = math.hypot(a, b) * math.hypot(c, d)
    if not lengths or abs(a * c + b * d) > 0.1 * lengths:
        return {"mirrored": False, "quarter_turns": 0}, "has a display matrix that is no rotation: it is not rotated."
    angle = -math.degrees(math.atan2(b, a))
    turns = round(angle / 90)
    remark = ""
    if abs(angle - 90 * turns) > 1:
        remark = f"should be rotated by {angle:.0f}°: it is rotated by {90 * turns}°."
    return {"mirrored": a * d < b * c, "quarter_turns": turns % 4}, remark  # the determinant is below 0 if it mirrors


def _is_cut_off(container):
    """Returns whether an AVI file is shorter than its header says. Then its index is lost too."""
    with open(container.name.removeprefix("file:"), "rb") as file:
        head = file.read(8)
    return container.size < 8 + int.from_bytes(head[4:], "little")


def _name_webp(path):
    """Returns what a WebP file is; empty for any other file."""
    if not os.path.isfile(path):
        return ""
    with open(path, "rb") as file:
        head = file.read(21)
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return ""
    return "an animated WebP picture" if head[12:16] == b"VP8X" and head[20] & 2 else "a WebP picture"


def _name_reason(error):
    return getattr(error, "strerror", None) or type(error).__name__


if __name__ == "__main__":
    main()

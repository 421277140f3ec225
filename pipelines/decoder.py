"""The decoder: a process of its own, because a hostile video may crash, hang or swell what decodes it.

`pipelines.video` starts it and gives it its end of a socket and a shared memory. A request is a JSON object:
`path`, `part` (arguments of `decode`; null asks for the frame rate alone), `max_pixels` and `memory_bytes`. It is
answered by JSON objects: one for each frame, whose pixels lie in the shared memory until a message without content
gives the place back; an empty one now and then while frames are passed over; and at last one with `end` or `error`.
"""

import errno
import fcntl
import json
import math
import mmap
import os
import resource
import struct
import sys
import time
from contextlib import contextmanager
from multiprocessing.connection import Connection

import av
from av.sidedata.sidedata import SideDataContainer
from av.video.reformatter import VideoReformatter

# The only demuxers that are tried. No playlist is among them (concat, dash, hls, imf, sdp, image sequences, ...), so
# that a video opens no other file and no address.
FORMATS = ("asf", "avi", "dv", "flv", "gif", "h264", "hevc", "ivf", "m4v", "matroska", "mjpeg", "mov", "mpeg")
FORMATS += ("mpegts", "mpegvideo", "mxf", "nut", "obu", "ogg", "rm", "webm", "yuv4mpegpipe")
# Frames that are decoded ahead of the reader: at most so many, and so many bytes, but one in any case.
AHEAD_FRAMES = 32
AHEAD_BYTES = 64 * 2**20
# While frames are passed over, the reader hears so often that the decoder goes on.
ALIVE_S = 1.0


class VideoError(Exception):
    """What is wrong with a video, as the end of a sentence that begins with its path."""


def main(connection, memory):
    """Answers requests until the reader closes the connection.

    Args:
        connection: `multiprocessing.connection.Connection`.
        memory: Writable buffer shared with the reader; a frame must fit in.
    """
    connection.send_bytes(b"{}")
    while True:
        try:
            request = json.loads(connection.recv_bytes())
        except EOFError:
            return
        # The hard limit stays, so that the soft one can be another for the next video.
        resource.setrlimit(resource.RLIMIT_AS, (request["memory_bytes"], resource.getrlimit(resource.RLIMIT_AS)[1]))
        ahead = Ahead(connection, memory)
        try:
            if request["part"] is None:
                with opened(request["path"], request["max_pixels"]) as (_, stream):
                    answer = {"end": True, "frame_rate_hz": frame_rate(stream)}
            else:
                for given in decode(request["path"], request["max_pixels"], **request["part"]):
                    ahead.alive() if given is None else ahead.put(*given)
                answer = {"end": True}
        except VideoError as error:
            answer = {"error": str(error)}
        except MemoryError:
            answer = {"error": f"needs more than {request['memory_bytes'] // 2**20} MiB of memory."}
        # Where all input is hostile any exception is the input's, such as an overflow or a division by zero.
        except Exception as error:
            answer = {"error": f"cannot be decoded ({type(error).__name__}: {' '.join(str(error).split())})."}
        ahead.send(answer)
        ahead.wait_until(0)


class Ahead:
    """The places of frames that are decoded and not yet read.

    Args:
        connection, memory: As in `main`.
    """

    def __init__(self, connection, memory):
        self.connection, self.memory = connection, memory
        self.size, self.places, self.unread, self.next = 0, 1, 0, 0
        self.sent_s = time.monotonic()

    def put(self, timestamp_s, frame, display):
        """Sends a frame in rgb24 as soon as there is a place for it."""
        (plane,) = frame.planes
        stride = plane.line_size
        size = abs(stride) * frame.height
        if size != self.size:
            # Places of another size overlap with these.
            self.wait_until(0)
            self.size, self.next = size, 0
            self.places = max(1, min(AHEAD_FRAMES, AHEAD_BYTES // size))
        self.wait_until(self.places - 1)
        start = self.next * size
        self.next = (self.next + 1) % self.places
        self.memory[start : start + size] = plane
        offset = start if stride > 0 else start + size + stride
        shape = {"height": frame.height, "width": frame.width, "stride": stride, "offset": offset}
        self.unread += 1
        self.send({"timestamp_s": timestamp_s, **shape, **display})

    def wait_until(self, unread):
        """Waits until the reader has left at most so many frames."""
        while self.unread > unread:
            self.connection.recv_bytes()
            self.unread -= 1

    def alive(self):
        if time.monotonic() - self.sent_s > ALIVE_S:
            self.send({})

    def send(self, answer):
        self.connection.send_bytes(json.dumps(answer).encode())
        self.sent_s = time.monotonic()


@contextmanager
def opened(path, max_pixels):
    """Opens a video as `(container, stream)`, PyAV's.

    Args:
        path: Video file; what looks like an address is a file's name too.
        max_pixels: At most so many in a frame as it is stored.
    """
    limit = {"max_pixels": str(max_pixels)}
    options = {"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS), **limit}
    try:
        container = av.open(f"file:{path}", options=options, metadata_errors="replace")
    except MemoryError:
        raise
    except (av.error.FFmpegError, OSError) as error:
        reason = _reason(error)
        if getattr(error, "errno", None) == errno.EINVAL:
            reason = f"{reason}: damaged, or none of the containers {', '.join(FORMATS)}"
        raise VideoError(f"is not a video that can be opened ({reason}).") from error
    with container:
        if not container.streams.video:
            raise VideoError("has no video stream.")
        stream = container.streams.video[0]
        codec = stream.codec_context
        if codec:
            _check_size(codec.width, codec.height, max_pixels)
            codec.options = limit
            # Threads that each decode a frame swallow the error of a damaged last frame, and how many good frames are
            # lost with it depends on the number of cores. Threads within a frame are no faster here, and each takes
            # memory.
            codec.thread_count = 1
        yield container, stream


def decode(path, max_pixels, *, start_s, end_s, frame_rate_hz):
    """Yields `(timestamp_s, frame, display)` of each frame that is asked for, and `None` for each that is passed over.

    Args:
        path, max_pixels: As in `opened`; at most so many pixels in a frame as it is shown, too.
        start_s, end_s, frame_rate_hz: As in `pipelines.video.read_frames`.

    Yields:
        Seconds since the stream began; PyAV's frame in rgb24, with square pixels; and how it is shown: upside
        down where `mirrored`, then by so many `quarter_turns` anticlockwise.
    """
    reformatter = VideoReformatter()
    with opened(path, max_pixels) as (container, stream):
        origin_s = float((stream.start_time or 0) * stream.time_base) if stream.time_base else 0.0
        from_s = start_s or 0.0
        decoded, packets, demuxed_s, due_s = 0, 0, 0.0, from_s
        last_s, unordered = -math.inf, 0
        try:
            # MPEG program and transport streams have no index, and a seek lands behind the frames that are wanted.
            if from_s and not container.format.name.startswith("mpeg"):
                container.seek(int((from_s + origin_s) / stream.time_base), stream=stream)
            # All streams are read through, because a container's duration is that of its longest.
            for packet in container.demux():
                if packet.pts is not None:
                    demuxed_s = max(demuxed_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream is not stream:
                    continue
                packets += packet.size > 0
                for frame in packet.decode():
                    timestamp_s = decoded / frame_rate(stream) if frame.time is None else frame.time - origin_s
                    decoded += 1
                    if end_s is not None and timestamp_s >= end_s - 1e-6:
                        _check_order(unordered)
                        return
                    unordered += timestamp_s <= last_s
                    if timestamp_s < due_s - 1e-6 or timestamp_s <= last_s:
                        yield None
                        continue
                    last_s = timestamp_s
                    if frame_rate_hz:
                        # The grid is fixed to the start, so that rounding does not let it drift.
                        due_s = from_s + (math.floor((timestamp_s - from_s) * frame_rate_hz + 1e-6) + 1) / frame_rate_hz
                    width = frame.width
                    if (aspect_ratio := stream.sample_aspect_ratio) and aspect_ratio > 0:
                        width = max(1, round(frame.width * aspect_ratio))
                    _check_size(width, frame.height, max_pixels)
                    # More threads than one take twice as long to convert a frame.
                    shown = reformatter.reformat(frame, width=width, format="rgb24", threads=1)
                    yield timestamp_s, shown, _display(frame)
        except MemoryError:
            raise
        except (av.error.FFmpegError, OSError) as error:
            raise VideoError(f"is damaged after {decoded} frames ({_reason(error)}).") from error
        if not decoded:
            raise VideoError("has no frames.")
        _check_order(unordered)
        # An edit list may hide frames, so packets are counted; Matroska counts neither and has only its duration.
        if not from_s and packets < stream.frames:
            raise VideoError(f"is truncated: {packets} of {stream.frames} frames.")
        if container.duration and demuxed_s < 0.95 * (duration_s := container.duration / av.time_base) - 0.2:
            raise VideoError(f"is truncated: {demuxed_s:.1f} of {duration_s:.1f} seconds.")


def frame_rate(stream):
    """Returns the frames a second of a PyAV stream; 25 where the container does not say."""
    return float(stream.average_rate or stream.guessed_rate or 25)


def _check_order(unordered):
    if unordered:
        raise VideoError(f"is damaged: frames whose time does not rise are left out ({unordered}).")


def _check_size(width, height, max_pixels):
    if width * height > max_pixels:
        raise VideoError(f"has frames of {width}×{height} pixels; at most {max_pixels / 1e6:g} million can be read.")


def _display(frame):
    mirrored = False
    # Not `frame.side_data`, which refers back to its frame: the two would stay in memory until they are collected.
    if matrix := SideDataContainer(frame).get("DISPLAYMATRIX"):
        a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
        # Where it mirrors, `rotation` is where the x axis goes, and the y axis goes the other way.
        mirrored = a * d < b * c
    return {"mirrored": mirrored, "quarter_turns": frame.rotation // 90 % 4}


def _reason(error):
    return getattr(error, "strerror", None) or type(error).__name__


def _end_with_reader():
    """Has the kernel end this process, whatever it does, when the reader ends: that closes our standard input."""
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)  # SIGIO, whose default is to end


def _give_up_rights():
    """Leaves this process no way to write a file, to dump core or to open many files."""
    for limit, value in ((resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 16)):
        resource.setrlimit(limit, (value, value))
    os.dup2(1, 2)  # what a crash prints: the reader says it in one line


if __name__ == "__main__":
    _end_with_reader()
    connection_fd, memory_fd = map(int, sys.argv[1:])
    shared = mmap.mmap(memory_fd, 0)
    os.close(memory_fd)
    _give_up_rights()
    main(Connection(connection_fd), shared)

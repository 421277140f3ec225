"""A video file → its frames, in time order, as they are meant to be seen."""

import hashlib
from fractions import Fraction

import av
import numpy as np

from affect.errors import InputError

# Containers that are looked for in folders.
SUFFIXES = (".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")


def read_frames(path, *, start_s=None, end_s=None, frame_rate_hz=None):
    """Reads the frames of a video one by one; nothing but the current frame is held.

    Rotation (a phone held upright), mirroring and the sample aspect ratio (AFEW has non-square pixels) are honoured:
    the width is scaled so that pixels become square.

    Args:
        path: Video file.
        start_s, end_s: Part of the video that is read, in seconds; `None` is from the start, to the end.
        frame_rate_hz: Frames a second that are given; `None` gives every frame.

    Yields:
        `(timestamp_s, frame)`: float, seconds since the video stream began; uint8 array (H, W, 3), RGB.

    Raises:
        InputError: When the file cannot be opened or has no video; or, after the last good frame, when a frame does not
            decode or the container declares more than came.
    """
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(f"{path} is not a video that can be opened ({_reason(error)}).") from error
    with container:
        if not container.streams.video:
            raise InputError(f"{path} has no video stream.")
        stream = container.streams.video[0]
        # Not "AUTO": threads that each decode a frame swallow the error of a damaged last frame, and how many good
        # frames are lost with it depends on the number of cores.
        stream.thread_type = "SLICE"
        origin_s = float((stream.start_time or 0) * stream.time_base) if stream.time_base else 0.0
        from_s = start_s or 0.0
        decoded, packets, demuxed_s, due_s = 0, 0, 0.0, from_s
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
                        return
                    if timestamp_s < due_s - 1e-6:
                        continue
                    if frame_rate_hz:
                        # The grid is fixed to the start, so that rounding does not let it drift.
                        due_s = from_s + (np.floor((timestamp_s - from_s) * frame_rate_hz + 1e-6) + 1) / frame_rate_hz
                    yield timestamp_s, _displayed(frame, stream.sample_aspect_ratio)
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(f"{path} is damaged after {decoded} frames ({_reason(error)}).") from error
        if not decoded:
            raise InputError(f"{path} has no frames.")
        # An edit list may hide frames, so packets are counted; Matroska counts neither and has only its duration.
        if not from_s and packets < stream.frames:
            raise InputError(f"{path} is truncated: {packets} of {stream.frames} frames.")
        if container.duration and demuxed_s < 0.95 * (duration_s := container.duration / av.time_base) - 0.2:
            raise InputError(f"{path} is truncated: {demuxed_s:.1f} of {duration_s:.1f} seconds.")


def frame_rate(stream):
    """Returns the frames a second of a PyAV stream; 25 where the container does not say."""
    return float(stream.average_rate or stream.guessed_rate or 25)


def probe_frame_rate(path):
    """Returns the frames a second of a video file, 0 where it cannot be opened."""
    try:
        with av.open(str(path)) as container:
            return frame_rate(container.streams.video[0]) if container.streams.video else 0.0
    except (av.error.FFmpegError, OSError):
        return 0.0


def sha256_of(path):
    """Returns the SHA-256 of a file in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _displayed(frame, aspect_ratio):
    width = frame.width
    if aspect_ratio and aspect_ratio > 0 and aspect_ratio != Fraction(1):
        width = max(1, round(frame.width * aspect_ratio))
    pixels = frame.to_ndarray(format="rgb24", width=width, height=frame.height)
    if matrix := frame.side_data.get("DISPLAYMATRIX"):
        a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
        if a * d < b * c:  # mirrored: `rotation` is where the x axis goes, and the y axis goes the other way
            pixels = pixels[::-1]
    return np.ascontiguousarray(np.rot90(pixels, frame.rotation // 90 % 4))


def _reason(error):
    return getattr(error, "strerror", None) or type(error).__name__

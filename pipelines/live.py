"""A file, a camera or an address → its frames as they arrive, and the one face in them that is followed."""

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import av
import numpy as np

from affect.config import Faces
from affect.data.clips import Face
from affect.errors import InputError
from affect.pipelines import video
from affect.pipelines.decoder import Clock, Converter, FrameGrid, VideoError, frame_rate, video_stream
from affect.pipelines.faces import cut_face
from affect.pipelines.follow import KEY_S, Detector, find_faces
from affect.pipelines.tracks import TRACK_GAP_S, Tracks, choose_tracks, find_pictures

# Frames that wait for the reader: half a second at 30 frames a second. Older frames are left out.
HELD_FRAMES = 16
# An address must answer within the first time, and send the next packet within the second one.
OPEN_S, STALL_S = 15.0, 60.0
# Protocols that an address may lead to. `file` is not among them, so that a playlist cannot open a local file.
PROTOCOLS = "crypto,http,httpproxy,https,rtmp,rtmps,rtp,rtsp,srt,srtp,tcp,tls,udp"


def is_live(source: Path | str) -> bool:
    """Returns whether a source is a camera or an address, and not a file.

    Args:
        source: As in `read_source`.
    """
    text = str(source)
    return text.isdecimal() or text.startswith("/dev/") or "://" in text


def read_source(
    source: Path | str, frame_rate_hz: float | None = None, notes: list[str] | None = None
) -> Iterable[tuple[float, np.ndarray]]:
    """Returns the frames of a file, a camera or an address.

    Args:
        source: A video file; a camera as its number (`"0"` is /dev/video0) or its device; or an address
            (`"rtsp://..."`). `Live` reads cameras and addresses.
        frame_rate_hz: Frames a second that are yielded; `None` yields every frame.
        notes: List to which remarks on the source are appended, as by `affect.pipelines.video.read_frames`.

    Returns:
        `(timestamp_s, frame)` as from `affect.pipelines.video.read_frames`.
    """
    if is_live(source):
        device = f"/dev/video{source}" if str(source).isdecimal() else str(source)
        return Live(device, frame_rate_hz, notes)
    return video.read_frames(source, frame_rate_hz=frame_rate_hz, notes=notes)


def follow_face(
    frames: Iterable[tuple[float, np.ndarray]],
    settings: Faces,
    detector: Detector,
    key: str = "",
    seen: set[int] | None = None,
) -> Iterator[tuple[float, np.ndarray, int | None, Face | None, dict[int, tuple[float, ...]]]]:
    """Cuts the face that is followed out of each frame, in bounded memory, at most half a second and one frame late.

    In a stream nobody knows how long a face will be seen. So if no face is followed, one of the faces that are visible
    then is chosen by the rule `settings.tracks` (`"all"` follows the main one). It is followed until it has been absent
    for `TRACK_GAP_S`, or until the scene is cut to other people. A person who is recognised has the same number again.

    Offline the choice is made at the end, among all faces of the video. If it is the same face, it has the same frames.

    Args:
        frames: `(timestamp_s, frame)`.
        settings: How faces are found, chosen and cut.
        detector: Built from a row of `DETECTORS`.
        key: Key of the clip, for a detector that looks up faces.
        seen: Set to which the number of every visible face is added, followed or not.

    Yields:
        `(timestamp_s, frame, track_id, face, others)` of every frame: the id is `None` before the first face is
        followed, and the face is `None` if it is not visible. `others` are the boxes of the other visible faces by
        their ids, without detections that may be none (`Tracks.summaries`).
    """
    tracks = Tracks(forgets=True)
    followed: int | None = None
    for timestamp_s, frame, detections in find_faces(frames, detector, settings.detect, key, most_s=KEY_S):
        ids = tracks.add(timestamp_s, frame.shape, detections)
        known = tracks.summaries()
        if seen is not None:
            seen.update(track.id for track in known)
        pictures = find_pictures([track for track in known if not track.is_still or track.duration_s >= TRACK_GAP_S])
        if settings.tracks == "largest":
            pictures = set()
        if followed in pictures or followed not in [track.id for track in known]:
            followed = next(iter(choose_tracks(known, settings.tracks)), followed)
        face = None
        if followed in ids:
            face = cut_face(timestamp_s, frame, settings, detections[ids.index(followed)])
        shown = {track.id for track in known} - {followed}
        boxes = {one: tuple(map(float, found.box)) for one, found in zip(ids, detections, strict=True) if one in shown}
        yield timestamp_s, frame, followed, face, boxes


class Live:
    """The frames of a camera or an address. If they arrive faster than they are used, the oldest are left out.

    Frames are rotated, mirrored and scaled to square pixels as the stream says, like those of a file
    (`affect.pipelines.video.read_frames`). Times are seconds since the first frame of the stream. If a frame has no
    time, or the clock jumps back because a camera restarts, the time increases by one step.

    A thread of this process decodes the frames. The process that decodes files cannot open devices and addresses by
    design, and a user who names a device or an address trusts it.

    No camera was tried. The tests read from addresses on this machine, which FFmpeg opens by the same functions.

    Args:
        source: Device or address.
        frame_rate_hz: Frames a second that are yielded; `None` yields every frame.
        notes: List to which remarks on the source are appended.

    Attributes:
        left_out: Number of frames that were left out so far, because they were too late, too large or damaged.
    """

    def __init__(self, source: str, frame_rate_hz: float | None = None, notes: list[str] | None = None):
        self.source, self.frame_rate_hz, self.left_out = source, frame_rate_hz, 0
        self.notes = [] if notes is None else notes
        self._held: queue.Queue = queue.Queue(HELD_FRAMES)
        self._is_over = threading.Event()

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        """Yields `(timestamp_s, frame)`; raises `InputError` when the source cannot be opened or breaks off."""
        threading.Thread(target=self._read, daemon=True).start()
        try:
            while True:
                item = self._held.get()
                if isinstance(item, Exception):
                    raise item
                if item is None:
                    return
                yield item
        finally:
            self._is_over.set()

    def _read(self):
        end: Exception | None = None
        try:
            is_device = self.source.startswith("/dev/")
            options = {} if is_device else {"protocol_whitelist": PROTOCOLS}
            form = "v4l2" if is_device else None
            with av.open(self.source, format=form, options=options, timeout=(OPEN_S, STALL_S)) as container:
                for item in self._decode(container):
                    if self._is_over.is_set():
                        return
                    self._hold(item)
        except VideoError as error:
            end = InputError(f"{self.source} {error}")
        except (av.error.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            end = InputError(f"{self.source} cannot be read ({reason}). Expected a camera or an address that answers.")
        except Exception as error:  # __iter__, which waits for the next frame, raises it
            end = error
        while not self._is_over.is_set():
            with suppress(queue.Full):
                return self._held.put(end, timeout=1)

    def _decode(self, container):
        stream, clock, origin_s = video_stream(container), Clock(), None
        grid = FrameGrid(self.frame_rate_hz)
        converter = Converter(stream, video.MAX_PIXELS, lambda text: self.notes.append(f"{self.source} {text}"))
        step_s = 1 / frame_rate(stream)
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:  # the network lost a part of the packet; the next one may be whole
                self.left_out += 1
                continue
            for frame in frames:
                if frame.width * frame.height > video.MAX_PIXELS:
                    self.left_out += 1
                    continue
                if origin_s is None and frame.time is not None:
                    origin_s = frame.time - (0.0 if clock.last_s is None else clock.last_s + step_s)
                timestamp_s = clock.rise(None if frame.time is None else frame.time - origin_s, step_s)
                if not grid.take(timestamp_s):
                    continue
                try:
                    converted, display = converter.convert(frame)
                except VideoError:  # too large with square pixels
                    self.left_out += 1
                    continue
                yield timestamp_s, video.turn_frame(converted.to_ndarray(), **display)

    def _hold(self, item):
        while True:
            try:
                return self._held.put_nowait(item)
            except queue.Full:
                with suppress(queue.Empty):
                    self._held.get_nowait()
                    self.left_out += 1

"""A file, a camera or an address → its frames as they come, and the one face in them that is followed."""

import queue
import re
import threading
from contextlib import suppress

import av

from affect.errors import InputError
from affect.pipelines import video
from affect.pipelines.decoder import Clock, FrameGrid, VideoError, frame_rate, video_stream
from affect.pipelines.faces import cut_face
from affect.pipelines.follow import KEY_S, find_faces
from affect.pipelines.tracks import TRACK_GAP_S, Tracks, chosen_tracks, find_pictures

# Frames that wait for the reader: half a second at 30 a second. Older ones are left out.
HELD_FRAMES = 16
# Seconds until an address must answer, and within which it must go on.
OPEN_S, STALL_S = 15.0, 60.0
# What an address may lead to: no file of this machine is among it, whatever a playlist says.
PROTOCOLS = "crypto,http,httpproxy,https,rtmp,rtmps,rtp,rtsp,srt,srtp,tcp,tls,udp"


def read_source(source, frame_rate_hz=None, notes=None):
    """Returns the frames of a source as an iterable of `(timestamp_s, frame)`, as `affect.pipelines.video.read_frames`.

    Args:
        source: Video file; or, read by `Live`, a camera by its number (`"0"` is /dev/video0) or device, or an address
            (`"rtsp://..."`).
        frame_rate_hz: Frames a second that are given; `None` gives every frame.
        notes: List to which remarks on a file are appended, as by `affect.pipelines.video.read_frames`.
    """
    device = f"/dev/video{source}" if re.fullmatch(r"\d+", str(source)) else str(source)
    if device.startswith("/dev/") or "://" in device:
        return Live(device, frame_rate_hz)
    return video.read_frames(source, frame_rate_hz=frame_rate_hz, notes=notes)


def follow_face(frames, settings, detector, key="", seen=None):
    """Cuts the face that is followed out of each frame, in bounded memory, at most half a second and a frame later.

    A stream does not know how long a face will be seen. So the face that is followed is chosen when there is none, by
    the rule `settings.tracks` among the faces seen just then (`"all"` follows the main one), and kept until it was gone
    for `TRACK_GAP_S` or the scene is cut to others, no matter who else comes. A person who is known again has the same
    number again. Offline the choice is made at the end, among all faces of the video. Where it falls on the same face,
    that has the same frames.

    Args:
        frames: Iterable of `(timestamp_s, frame)`.
        settings: `affect.config.Faces`.
        detector: Built from a row of `DETECTORS`.
        key: For a detector that looks faces up.
        seen: A set, to which the number of every face that is seen is added, followed or not.

    Yields:
        `(timestamp_s, frame, track_id, face)` of every frame: float; uint8 (H, W, 3); int, the face followed, `None`
        before the first; `affect.data.records.Face`, or `None` where it is not seen.
    """
    tracks, followed = Tracks(forgets=True), None
    for timestamp_s, frame, detections in find_faces(frames, detector, settings.detect, key, most_s=KEY_S):
        ids = tracks.add(timestamp_s, frame.shape, detections)
        known = tracks.summaries()
        if seen is not None:
            seen.update(track.id for track in known)
        pictures = find_pictures([track for track in known if not track.is_still or track.duration_s >= TRACK_GAP_S])
        if settings.tracks == "largest":
            pictures = set()
        if followed in pictures or followed not in [track.id for track in known]:
            followed = next(iter(chosen_tracks(known, settings.tracks)), followed)
        face = None
        if followed in ids:
            face = cut_face(timestamp_s, frame, settings, detections[ids.index(followed)])
        yield timestamp_s, frame, followed, face


class Live:
    """The frames of a camera or an address. Where they come faster than they are used, the oldest are left out.

    Their times are those of the stream, seconds since its first frame. Where it has none, or its clock jumps back, as
    when a camera starts again, they go on by one step.

    They are decoded in this process, by a thread: the process that decodes files can by design open nothing else, and
    a user who names a device or an address trusts it.

    Args:
        source: Device or address.
        frame_rate_hz: Frames a second that are given; `None` gives every frame.

    Attributes:
        left_out: Frames that were left out so far: too late, or damaged.
    """

    def __init__(self, source, frame_rate_hz=None):
        self.source, self.frame_rate_hz, self.left_out = source, frame_rate_hz, 0
        self._held, self._is_over = queue.Queue(HELD_FRAMES), threading.Event()

    def __iter__(self):
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
        end = None
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
        except Exception as error:  # the reader that waits for the next frame must hear of it
            end = error
        while not self._is_over.is_set():
            with suppress(queue.Full):
                return self._held.put(end, timeout=1)

    def _decode(self, container):
        stream, clock, origin_s = video_stream(container), Clock(), None
        grid = FrameGrid(self.frame_rate_hz)
        step_s = 1 / frame_rate(stream)
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:  # a packet that the network lost; the next one may be whole
                self.left_out += 1
                continue
            for frame in frames:
                if frame.width * frame.height > video.MAX_PIXELS:
                    self.left_out += 1
                    continue
                if origin_s is None and frame.time is not None:
                    origin_s = frame.time - (0.0 if clock.last_s is None else clock.last_s + step_s)
                timestamp_s = clock.rise(None if frame.time is None else frame.time - origin_s, step_s)
                if grid.take(timestamp_s):
                    yield timestamp_s, frame.to_ndarray(format="rgb24")

    def _hold(self, item):
        while True:
            try:
                return self._held.put_nowait(item)
            except queue.Full:
                with suppress(queue.Empty):
                    self._held.get_nowait()
                    self.left_out += 1

"""Pictures of a face and of none, and videos that are made of pictures."""

from fractions import Fraction

import av
import cv2
import numpy as np
import skimage.data

from affect.config import Faces

# What the shards are cut with: tiny faces, so that preparing and training take seconds.
SMALL_FACES = Faces(face_size=64, min_face_px=40)
# Centre of the astronaut's face in pixels.
FACE_XY = (224, 120)


def portrait(*, size=160, shift=(0, 0), zoom=1.0, gain=1.0):
    """The astronaut's head, uint8 RGB (size, size, 3); her face is about half as wide as the frame.

    Args:
        size: Of the frame in pixels.
        shift: Of the face to the right and down, in pixels of the frame.
        zoom, gain: Factors of size and brightness.
    """
    scale = zoom * size / 240
    matrix = np.array([[scale, 0, 0], [0, scale, 0]])
    matrix[:, 2] = size / 2 + np.array(shift) - scale * np.array(FACE_XY)
    frame = cv2.warpAffine(skimage.data.astronaut(), matrix, (size, size), flags=cv2.INTER_AREA)
    return np.clip(frame * gain, 0, 255).astype(np.uint8)


def no_face(time, *, size=160):
    """A cup of coffee that drifts, uint8 RGB (size, size, 3)."""
    return np.ascontiguousarray(skimage.data.coffee()[60 : 60 + size, 150 + 2 * time : 150 + 2 * time + size])


def write_video(path, frames, *, frame_rate_hz=10, codec="libx264", aspect_ratio=None, audio_s=0, options=None):
    """Writes RGB frames; the suffix chooses the container.

    Args:
        path: File.
        frames: uint8 arrays (H, W, 3), all of one even size.
        frame_rate_hz: Frames a second.
        codec: Of the video.
        aspect_ratio: Width of a pixel as a share of its height, a Fraction; `None` says nothing.
        audio_s: Seconds of silence in a second stream; 0 is no such stream.
        options: Of the container, such as `{"movflags": "+faststart"}`.
    """
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=Fraction(frame_rate_hz).limit_denominator(1001))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        if codec == "libx264":
            stream.options = {"crf": "18", "preset": "veryfast", "threads": "1"}
        if aspect_ratio:
            stream.codec_context.sample_aspect_ratio = aspect_ratio
        if audio_s:
            sound = container.add_stream("aac", rate=8000)
            silence = av.AudioFrame.from_ndarray(np.zeros((1, int(8000 * audio_s)), np.float32), "fltp", "mono")
            silence.sample_rate, silence.pts = 8000, 0
            container.mux(sound.encode(silence))
            container.mux(sound.encode())
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return path


def with_matrix(path, a, b, c, d, tx, ty):
    """Writes QuickTime's display matrix into the track header: (x', y') = (a·x + c·y + tx, b·x + d·y + ty)."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44  # four characters, version and flags, 36 bytes of other fields
    rows = (*(round(value * 65536) for value in (a, b, 0, c, d, 0, tx, ty)), 1 << 30)
    data[start : start + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in rows)
    path.write_bytes(data)
    return path


def overwrite(path, packet, count=1):
    """Fills packets of a video, from one of a number, with zeros."""
    data = bytearray(path.read_bytes())
    for position, size in packets(path)[packet : packet + count]:
        data[position : position + size] = bytes(size)
    path.write_bytes(data)


def packets(path):
    """Returns the position and the size in bytes of each packet of a video."""
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def grey(count, size=64):
    """Frames of one grey each, of which no two that follow each other are alike."""
    return [np.full((size, size, 3), 40 + 60 * (index % 3), np.uint8) for index in range(count)]


def write_two_sizes(folder, starts_s, count=50):
    """Writes two MPEG files as one: `count` frames of 64 pixels and as many of 128, with clocks that start so.

    Where they join, libav finds one frame of 64 pixels less.
    """
    parts = []
    for size, start_s in zip((64, 128), starts_s, strict=True):
        made = {"codec": "mpeg2video", "frame_rate_hz": 25, "options": {"output_ts_offset": str(start_s)}}
        parts.append(write_video(folder / f"{size}.mpg", grey(count, size), **made))
    path = folder / "a.mpg"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def read_frames(path):
    """Returns all frames of a video, uint8 RGB (F, H, W, 3)."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])

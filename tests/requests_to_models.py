"""What exported models are asked: whole clips, JPEGs, strings that are none, and requests that they refuse."""

import struct

import numpy as np
import tensorflow as tf

from affect.tasks.signatures import MAX_JPEG_BYTES, MAX_JPEG_SIDE_PX
from affect.tasks.task import MAX_FACES

RANDOM = np.random.default_rng(0)
# A whole clip, one with gaps, one without a frame.
FRAME_MASK = np.array([[True] * 4, [False, True, False, True], [False] * 4])
INPUTS = {"faces": RANDOM.integers(0, 256, (3, 4, 32, 32, 3), dtype=np.uint8), "frame_mask": FRAME_MASK}


def jpeg(image, **options):
    return tf.io.encode_jpeg(image, **options).numpy()


def smooth(size, seed=0):
    """A face's stand-in that JPEG keeps: coarse random colours, scaled up."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype("float32")
    return tf.cast(tf.image.resize(coarse, (size, size)), tf.uint8).numpy()


def progressive(scans):
    """A small progressive JPEG, to which empty scans were added."""
    content = jpeg(np.full((64, 64, 3), 128, np.uint8), progressive=True)
    start = content.rindex(b"\xff\xda")
    return content[:-2] + content[start:-2] * scans + content[-2:]


def turned(orientation, order="<", dtype=3):
    """A JPEG whose EXIF data hold an orientation, as a short (3) or a long number (4), in either order of bytes."""
    value = struct.pack(f"{order}{'H' if dtype == 3 else 'I'}", orientation).ljust(4, b"\0")
    maker = struct.pack(f"{order}HHI", 0x010F, 2, 4) + b"cam\0"  # another entry before it
    entry = struct.pack(f"{order}HHI", 0x0112, dtype, 1) + value
    tiff = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 2) + maker + entry + bytes(4)
    exif = b"Exif\0\0" + tiff
    content = jpeg(smooth(48))
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:]


HOSTILE = {
    "empty": b"",
    "text": b"not a JPEG",
    "start alone": b"\xff\xd8",
    "zeros after the start": b"\xff\xd8\xff" + bytes(60),
    "a picture of another format": tf.io.encode_png(smooth(48)).numpy(),
    "truncated in the header": jpeg(smooth(48))[:200],
    "truncated in the picture": jpeg(smooth(48))[:-150],
    "too wide": jpeg(np.zeros((8, MAX_JPEG_SIDE_PX + 1, 3), np.uint8)),
    "claims 65500 pixels a side": jpeg(smooth(48)).replace(b"\x00\x30\x00\x30", b"\xff\xdc\xff\xdc"),
    "too many bytes": jpeg(smooth(48)) + b"x" * MAX_JPEG_BYTES,
    "10,000 scans": progressive(10_000),
    "to be turned": turned(6),
    "to be mirrored": turned(2, ">"),
    "to be turned, in a long number": turned(8, ">", 4),
    "to be turned over, in a long number": turned(3, "<", 4),
}
HARMLESS = {
    "grey": jpeg(smooth(48)[..., :1]),
    "one pixel": jpeg(smooth(48)[:1, :1]),
    "as wide as may be": jpeg(np.zeros((8, MAX_JPEG_SIDE_PX, 3), np.uint8)),
    "progressive": progressive(0),
    "upright": turned(1),
    "upright, in the other order of bytes": turned(1, ">"),
    "of no orientation": turned(0),
}
BAD_REQUESTS = {
    "too many strings": ("jpeg", {"jpegs": np.full((1, MAX_FACES + 1), b"x")}, "More than 512 JPEGs a request"),
    "too many faces": (
        "serving_default",
        {"faces": np.zeros((1, MAX_FACES + 1, 32, 32, 3), np.uint8), "frame_mask": np.ones((1, MAX_FACES + 1), bool)},
        "More than 512 faces a request",
    ),
    "too many single faces": (
        "frame",
        {"faces": np.zeros((MAX_FACES + 1, 32, 32, 3), np.uint8)},
        "More than 512 faces a request",
    ),
    "a mask of one frame": (
        "serving_default",
        {"faces": INPUTS["faces"], "frame_mask": FRAME_MASK[:, :1]},
        "faces and frame_mask differ in clips or frames",
    ),
    "no frames": (
        "serving_default",
        {"faces": INPUTS["faces"][:, :0], "frame_mask": FRAME_MASK[:, :0]},
        "A clip has one frame at least",
    ),
}

"""Image files that others wrote → pixels; faces → JPEG."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from affect.data.images import ImageError, open_image
from affect.errors import InputError
from affect.pipelines.files import name_fault

# No face is nearly so large. A damaged or hostile file may claim more than memory holds.
MOST_BYTES = 32 * 2**20
MOST_PIXELS = 4096 * 4096
# Suffixes of photographs, and the formats that they may have.
PHOTOGRAPHS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
PHOTOGRAPH_FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
# Limits of a photograph: cameras of phones have up to 200 million pixels, and larger files than 256 MiB are rare.
MOST_PHOTOGRAPH_BYTES = 256 * 2**20
MOST_PHOTOGRAPH_PIXELS = 200 * 10**6


def read_image(path: Path | str, most_bytes: int = MOST_BYTES) -> np.ndarray:
    """Reads a JPEG or PNG file.

    Args:
        path: File.
        most_bytes: Size in bytes of the largest file that is read.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        InputError: When the file is damaged, of another format, or larger than `most_bytes` or `MOST_PIXELS`.
    """
    return _read(path, ("JPEG", "PNG"), most_bytes, MOST_PIXELS)


def read_photograph(path: Path | str) -> np.ndarray:
    """Reads a photograph as it is meant to be seen: rotated and mirrored as its EXIF data say.

    Args:
        path: File in one of the `PHOTOGRAPH_FORMATS`. Of several pictures in a file, the first one is read.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        InputError: When the file is damaged, of another format, animated or too large.
    """
    return _read(path, PHOTOGRAPH_FORMATS, MOST_PHOTOGRAPH_BYTES, MOST_PHOTOGRAPH_PIXELS, is_photograph=True)


def _read(path, formats, most_bytes, most_pixels, *, is_photograph=False):
    if fault := name_fault(path):
        raise InputError(fault)
    try:
        with open(path, "rb") as file:
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    if len(content) > most_bytes:
        raise InputError(f"{path} is larger than {most_bytes // 2**20} MiB.")
    try:
        with open_image(content, formats) as image:
            if is_photograph and image.format in ("PNG", "WEBP") and getattr(image, "is_animated", False):
                raise InputError(f"{path} is an animated picture. Convert it to a video, for example an MP4 file.")
            pixels = image.width * image.height
            if pixels <= most_pixels:
                shown = ImageOps.exif_transpose(image) if is_photograph else image
                if shown.mode.startswith("I;16"):  # grey of 16 bits, which Pillow would cut off at 255
                    shown = Image.fromarray((np.asarray(shown) >> 8).astype(np.uint8))
                return np.array(shown.convert("RGB"))
    except ImageError as error:
        raise InputError(f"{path} is not an image that can be read ({error}).") from error
    raise InputError(f"{path} claims {image.width}×{image.height} pixels, more than {most_pixels}.")


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """Encodes an image as JPEG.

    Args:
        image: uint8 (H, W, 3), RGB.
        quality: 1 to 100.
    """
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return jpeg.tobytes()

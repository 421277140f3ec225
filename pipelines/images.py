"""Image files that others wrote → pixels; faces → JPEG."""

from pathlib import Path

import cv2
import numpy as np

from affect.data.images import ImageError, open_image
from affect.errors import InputError
from affect.pipelines.files import name_fault

# No face is nearly so large. A damaged or hostile file may claim more than memory holds.
MOST_BYTES = 32 * 2**20
MOST_PIXELS = 4096 * 4096


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
    if fault := name_fault(path):
        raise InputError(fault)
    with open(path, "rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise InputError(f"{path} is larger than {most_bytes // 2**20} MiB.")
    try:
        with open_image(content, ("JPEG", "PNG")) as image:
            pixels = image.width * image.height
            if pixels <= MOST_PIXELS:
                return np.array(image.convert("RGB"))
    except ImageError as error:
        raise InputError(f"{path} is not an image that can be read ({error}).") from error
    raise InputError(f"{path} claims {image.width}×{image.height} pixels, more than {MOST_PIXELS}.")


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """Encodes an image as JPEG.

    Args:
        image: uint8 (H, W, 3), RGB.
        quality: 1 to 100.
    """
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return jpeg.tobytes()

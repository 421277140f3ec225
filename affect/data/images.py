"""Images that others wrote: opened so that a damaged or hostile one is named and does no harm."""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError


class ImageError(Exception):
    """What is wrong with an image, as a part of a sentence."""


@contextmanager
def open_image(content: bytes, formats: Sequence[str]) -> Iterator[Image.Image]:
    """Opens an image for a `with` block.

    Pillow opens it, because OpenCV fills the missing part of a truncated file with grey and gives no error.

    Args:
        content: Of the file.
        formats: Formats that are read, such as `("JPEG", "PNG")`.

    Yields:
        The image, which is decoded when its pixels are first asked for.

    Raises:
        ImageError: When it has another format or is damaged; the latter also when the block decodes it.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns of sizes, which the caller checks, and of metadata, which is not read.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=list(formats)) as image:
                yield image
    except UnidentifiedImageError as error:
        raise ImageError(f"not a {' or '.join(formats)}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(str(error)) from error

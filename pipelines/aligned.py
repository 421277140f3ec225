"""A folder of faces that others have cut and aligned → a clip: no detection, no alignment."""

import hashlib
import io
import math
import re
import warnings
from collections import Counter, defaultdict

import cv2
import numpy as np
from PIL import Image

from affect.data.records import Clip, Face
from affect.errors import InputError
from affect.pipelines.decoder import FrameGrid
from affect.pipelines.files import name_fault

SUFFIXES = (".jpg", ".jpeg", ".png")
# Of images that are named where they lie among the frames.
IMAGES = (*SUFFIXES, ".bmp", ".gif", ".heic", ".jp2", ".jpe", ".tif", ".tiff", ".webp")
# AFEW's. Images carry no time: the number in a name is the number of the frame.
FRAME_RATE_HZ = 25.0
# Far beyond any face that is cut; a damaged or hostile file may claim more than memory holds.
MOST_BYTES = 32 * 2**20
MOST_PIXELS = 4096 * 4096


def read_clip(folder, settings, **identity):
    """Reads a folder of aligned faces.

    Each image becomes a face of `settings.face_size`, with black beside it if it is not square, and is encoded again.
    Its box is the whole image, its score 1, and its landmarks are unknown, NaN.

    Args:
        folder: Folder of JPEG or PNG images.
        settings: `affect.config.Faces`; its detector and margin are not used.
        **identity: `key`, `label`, ... of the `Clip`.

    Returns:
        `(clip, problem)`: `affect.data.records.Clip`; str. Damaged images are left out; the problem says how
        many they are and names the first.
    """
    faces, damaged, looked_at, grid = [], [], 0, FrameGrid(settings.frame_rate_hz)
    for timestamp_s, path in timed_images(folder):
        if not grid.take(timestamp_s):
            continue
        looked_at += 1
        try:
            faces.append(_face(timestamp_s, read_image(path), settings))
        except InputError as error:
            damaged.append(str(error))
    problem = "" if faces else f"{folder} holds no images."
    if damaged:
        problem = f"{len(damaged)} of {looked_at} images cannot be used. {damaged[0]}"
    clip = Clip(
        frame_rate_hz=settings.frame_rate_hz or FRAME_RATE_HZ, frames_decoded=looked_at, faces=tuple(faces), **identity
    )
    return clip, problem


def timed_images(folder):
    """Returns `(timestamp_s, path)` of a folder's frames in time order; hidden files are left out.

    Frames are the images whose names differ in one number only, such as `7.jpg` or `frame_7_of_9.jpg`, if they are more
    than half of all, or all that have a number: it is the number of the frame. Otherwise they are the
    images with names of one form, such as `a1_x0.5.jpg`, if they are more than half, else all; these follow each other
    in natural order, 2 before 10, at `FRAME_RATE_HZ`. For the images that are left out see `stray_images`.
    """
    return _sort_images(folder)[0]


def stray_images(folder):
    """Returns the paths of the images in a folder that are no frames, such as `cover.jpg` beside `0.jpg`, `1.jpg`.

    Of two images with one number, such as `1.jpg` and `1.png`, one is the frame: that of the more frequent suffix.
    """
    return _sort_images(folder)[1]


def _sort_images(folder):
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES and not path.name.startswith("."))
    usable = [path for path in paths if path.suffix.lower() in SUFFIXES and not path.is_dir()]
    numbered, forms = defaultdict(list), defaultdict(list)
    for path in usable:
        # Of a single image, the last number is that of the frame.
        for match in reversed([*re.finditer("[0-9]+", path.stem)]):
            around = path.stem[: match.start()], path.stem[match.end() :]
            numbered[tuple(map(str.casefold, around))].append((int(match[0]), path))
        forms[re.sub("[0-9]+", "0", path.stem.casefold())].append(path)
    frames = max(numbered.values(), key=len, default=[])
    has_number = sum(bool(re.search("[0-9]", path.stem)) for path in usable)
    has_one_series = len(frames) == has_number and (has_number > 1 or len(usable) <= 2)
    if has_one_series or 2 * len(frames) > len(usable):
        frames = _without_doubles(frames)
    else:
        alike = max(forms.values(), key=len, default=[])
        alike = alike if 2 * len(alike) > len(usable) else usable
        frames = list(enumerate(sorted(alike, key=_naturally)))
    if max((number for number, _ in frames), default=0) >= 10**9:
        frames = list(enumerate(path for _, path in sorted(frames)))
    timed = sorted((number / FRAME_RATE_HZ, path) for number, path in frames)
    return timed, sorted({*paths} - {path for _, path in timed})


def _without_doubles(frames):
    """Returns one image of each number: that whose suffix most images have."""
    suffixes = Counter(path.suffix for _, path in frames)
    return {number: path for number, path in sorted(frames, key=lambda frame: suffixes[frame[1].suffix])}.items()


def _naturally(path):
    parts = re.split(r"([0-9]+)", path.name.casefold())
    return [(part, 0) if index % 2 == 0 else ("", int(part)) for index, part in enumerate(parts)], path.name


def size_of_images(folder):
    """Returns the bytes of the frames in a folder."""
    return sum(path.stat().st_size for _, path in timed_images(folder) if path.is_file())


def sha256_of_images(folder):
    """Returns the SHA-256 of the images' bytes, one after the other in time order, in hexadecimal."""
    digest = hashlib.sha256()
    for _, path in timed_images(folder):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def read_image(path):
    """Reads a JPEG or PNG file.

    Pillow and not OpenCV, which fills what a truncated file lacks with grey and says nothing.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        InputError: When the file is damaged, of another format, or larger than `MOST_BYTES` or `MOST_PIXELS`.
    """
    if fault := name_fault(path):
        raise InputError(fault)
    with open(path, "rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise InputError(f"{path} is larger than {MOST_BYTES // 2**20} MiB.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are checked here, and of metadata, which is not read
            with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise InputError(f"{path} claims {image.width}×{image.height} pixels, more than {MOST_PIXELS}.")
                return np.array(image.convert("RGB"))
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} is not an image that can be read ({error}).") from error


def _face(timestamp_s, image, settings):
    height, width = image.shape[:2]
    scale = settings.face_size / max(height, width)
    inner_width, inner_height = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (settings.face_size - inner_width) // 2, (settings.face_size - inner_height) // 2
    face = np.zeros((settings.face_size, settings.face_size, 3), np.uint8)
    face[top : top + inner_height, left : left + inner_width] = cv2.resize(
        image, (inner_width, inner_height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    _, jpeg = cv2.imencode(".jpg", face[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, settings.jpeg_quality])
    sx, sy = inner_width / width, inner_height / height
    return Face(
        timestamp_s=timestamp_s,
        jpeg=jpeg.tobytes(),
        box=(0.0, 0.0, float(width), float(height)),
        landmarks=(math.nan,) * 10,
        score=1.0,
        transform=(sx, 0.0, left + 0.5 * sx - 0.5, 0.0, sy, top + 0.5 * sy - 0.5),  # x' + 0.5 = left + sx (x + 0.5)
    )

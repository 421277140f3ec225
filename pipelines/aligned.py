"""A folder of faces that others have aligned → a clip. No face is detected or aligned here."""

import hashlib
import math
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from affect.config import Faces
from affect.data.clips import Clip, Face
from affect.errors import InputError
from affect.pipelines.decoder import FrameGrid
from affect.pipelines.images import encode_jpeg, read_image

SUFFIXES = (".jpg", ".jpeg", ".png")
# Suffixes of images that are named when they lie among the frames.
IMAGES = (*SUFFIXES, ".bmp", ".gif", ".heic", ".jp2", ".jpe", ".tif", ".tiff", ".webp")
# The frame rate of AFEW. Images carry no time: the number in a name is the number of the frame.
FRAME_RATE_HZ = 25.0


def read_clip(folder: Path, settings: Faces, **identity: Any) -> tuple[Clip, str]:
    """Reads a folder of aligned faces.

    Each image becomes a face of `settings.face_size`. If it is not square, it is padded with black. It is encoded
    again. Its box is the whole image, its score is 1, and its landmarks are NaN, because they are unknown.

    Args:
        folder: Folder of JPEG or PNG images.
        settings: The detector and the margin are not used.
        **identity: `key`, `label`, ... of the `Clip`.

    Returns:
        `(clip, problem)`. Damaged images are left out; the problem says how many they are and names the first.
    """
    faces, damaged, looked_at, grid = [], [], 0, FrameGrid(settings.frame_rate_hz)
    for timestamp_s, path in list_images(folder):
        if not grid.take(timestamp_s):
            continue
        looked_at += 1
        try:
            faces.append(_fit(timestamp_s, read_image(path), settings))
        except InputError as error:
            damaged.append(str(error))
    problem = "" if faces else f"{folder} holds no images."
    if damaged:
        problem = f"{len(damaged)} of {looked_at} images cannot be used. {damaged[0]}"
    clip = Clip(
        frame_rate_hz=settings.frame_rate_hz or FRAME_RATE_HZ, frames_decoded=looked_at, faces=tuple(faces), **identity
    )
    return clip, problem


def list_images(folder: Path) -> list[tuple[float, Path]]:
    """Returns `(timestamp_s, path)` of a folder's frames in time order. Hidden files are left out.

    1. The frames are the images whose names differ in one number only, such as `7.jpg` or `frame_7_of_9.jpg`. They must
       be more than half of all images, or all images that have a number. The number is the number of the frame.
    2. Otherwise the frames are the images with names of one form, such as `a1_x0.5.jpg`, if they are more than half.
    3. Otherwise the frames are all images.

    In cases 2 and 3 the frames follow each other in natural order, 2 before 10, at `FRAME_RATE_HZ`. `stray_images`
    returns the images that are left out.
    """
    return _sort_images(folder)[0]


def stray_images(folder: Path) -> list[Path]:
    """Returns the paths of the images in a folder that are no frames, such as `cover.jpg` beside `0.jpg`, `1.jpg`.

    If two images have one number, such as `1.jpg` and `1.png`, the one with the more frequent suffix is the frame.
    """
    return _sort_images(folder)[1]


def _sort_images(folder):
    """Returns `(frames, others)`: a list of `(timestamp_s, path)`, and a list of paths."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES and not path.name.startswith("."))
    usable = [path for path in paths if path.suffix.lower() in SUFFIXES and not path.is_dir()]
    numbered, forms = defaultdict(list), defaultdict(list)
    for path in usable:
        # Of a single image, the last number is the number of the frame.
        for match in reversed([*re.finditer("[0-9]+", path.stem)]):
            around = path.stem[: match.start()], path.stem[match.end() :]
            numbered[tuple(map(str.casefold, around))].append((int(match[0]), path))
        forms[re.sub("[0-9]+", "0", path.stem.casefold())].append(path)
    frames = max(numbered.values(), key=len, default=[])
    has_number = sum(bool(re.search("[0-9]", path.stem)) for path in usable)
    has_one_series = len(frames) == has_number and (has_number > 1 or len(usable) <= 2)
    if has_one_series or 2 * len(frames) > len(usable):
        frames = _drop_doubles(frames)
    else:
        alike = max(forms.values(), key=len, default=[])
        alike = alike if 2 * len(alike) > len(usable) else usable
        frames = list(enumerate(sorted(alike, key=_order_naturally)))
    if max((number for number, _ in frames), default=0) >= 10**9:
        frames = list(enumerate(path for _, path in sorted(frames)))
    timed = sorted((number / FRAME_RATE_HZ, path) for number, path in frames)
    return timed, sorted({*paths} - {path for _, path in timed})


def _drop_doubles(frames):
    """Returns one `(number, path)` for each number: the path with the most frequent suffix."""
    suffixes = Counter(path.suffix for _, path in frames)
    return [*{number: path for number, path in sorted(frames, key=lambda frame: suffixes[frame[1].suffix])}.items()]


def _order_naturally(path):
    parts = re.split(r"([0-9]+)", path.name.casefold())
    return [(part, 0) if index % 2 == 0 else ("", int(part)) for index, part in enumerate(parts)], path.name


def size_of_images(folder: Path) -> int:
    """Returns the size of the frames in a folder in bytes."""
    return sum(path.stat().st_size for _, path in list_images(folder) if path.is_file())


def sha256_of_images(folder: Path) -> str:
    """Returns the SHA-256 of the frames' bytes, joined in time order, in hexadecimal."""
    digest = hashlib.sha256()
    for _, path in list_images(folder):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _fit(timestamp_s, image, settings):
    """Returns an image as a `Face`: scaled to `settings.face_size` and padded to a square."""
    height, width = image.shape[:2]
    scale = settings.face_size / max(height, width)
    inner_width, inner_height = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (settings.face_size - inner_width) // 2, (settings.face_size - inner_height) // 2
    face = np.zeros((settings.face_size, settings.face_size, 3), np.uint8)
    face[top : top + inner_height, left : left + inner_width] = cv2.resize(
        image, (inner_width, inner_height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    sx, sy = inner_width / width, inner_height / height
    return Face(
        timestamp_s=timestamp_s,
        jpeg=encode_jpeg(face, settings.jpeg_quality),
        box=(0.0, 0.0, float(width), float(height)),
        landmarks=(math.nan,) * 10,
        score=1.0,
        transform=(sx, 0.0, left + 0.5 * sx - 0.5, 0.0, sy, top + 0.5 * sy - 0.5),  # x' + 0.5 = left + sx (x + 0.5)
    )

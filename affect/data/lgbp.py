"""LGBP-TOP: local Gabor binary patterns from three orthogonal planes (Almaev and Valstar, ACII 2013), frame by frame.

The magnitudes of the responses of one Gabor filter, frame by frame, form a video. In this video, the code of a pixel
says which of its 8 neighbours are at least as large. The neighbours are in the plane of the frame (XY), or in the
planes of the pixel's row (XT) or column (YT) and the frames before and after. The features are histograms of the codes
over blocks of the frame.

Paper B names LGBP-TOP and gives no sizes. The features that were published with RECOLA are about 50,000, reduced by
PCA. Assumed, after public code in MATLAB: 3 wavelengths, from 3 pixels by factors of 2.1, × 6 orientations; 4 × 4
blocks in each plane; uniform codes of the square neighbourhood. Our own choices:

- All codes that are not uniform have one 59th code, as in scikit-image, so that all histograms have the same sum.
- A frame is described from itself, the frame before and the frame after. At 10 frames/s these span as much time as the
  5 frames at 25 frames/s of other implementations.
- Histograms are square roots of shares (Hellinger), which need no constants from data.
- A fixed random sketch replaces PCA: each of the 50,976 shares is added to or subtracted from one of 512 sums. It
  preserves distances within some per cent and fits nothing, so a run stores nothing beside its network.

NumPy computes the codes. scikit-image's `local_binary_pattern` interpolates the neighbours on a circle and takes one
image at a time, so it needs about 20 times as long for the same pixels. In one measurement, one core described 163
faces of 64 × 64 pixels a second, and decoded 1,943 JPEGs of 256 × 256 a second.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np
from scipy import fft, sparse
from skimage.filters import gabor_kernel

WAVELENGTHS_PX = (3.0, 6.3, 13.23)
ORIENTATIONS = 6
BLOCKS = 4  # on each side of a frame
CODES = 59
FEATURES = 512
STEPS = 16  # for each grey level: smaller differences of magnitudes are rounded off, so that flat skin has one code

# Offsets of the neighbours along the two axes of a plane, in the order of their bits.
RING = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
PLANES = ((1, 2), (0, 2), (0, 1))  # XY, XT, YT, as axes of (T, H, W)


def lgbp_top(faces: np.ndarray) -> np.ndarray:
    """Returns the features of consecutive frames. The first and the last frame are repeated beyond the ends.

    Args:
        faces: (T, H, W), aligned grey faces of 0 to 255; H and W are at least `BLOCKS`.

    Returns:
        float32 (T, `FEATURES`).
    """
    histograms = [block_histograms(plane_codes(volume, axes)) for volume in gabor_magnitudes(faces) for axes in PLANES]
    shares = np.concatenate(histograms, axis=1)  # (T, 18 · 3 · 16 · 59)
    return (np.sqrt(shares) @ draw_sketch(shares.shape[1])).astype(np.float32)


def describe_window(faces: np.ndarray, frame_mask: np.ndarray) -> np.ndarray:
    """Returns the features of the faces of a window. Each sequence of consecutive frames with a face is one video.

    Args:
        faces: uint8 (F, H, W, 3), RGB.
        frame_mask: bool (F,): frames with a face.

    Returns:
        float32 (F, `FEATURES`), 0 where masked.
    """
    features = np.zeros((len(faces), FEATURES), np.float32)
    for run in np.split(np.arange(len(faces)), np.flatnonzero(np.diff(frame_mask)) + 1):
        if frame_mask[run[0]]:
            features[run] = lgbp_top(to_grey(faces[run]))
    return features


def to_grey(faces: np.ndarray) -> np.ndarray:
    """Returns RGB faces as grey ones, with the numbers of `tf.image.rgb_to_grayscale`.

    Args:
        faces: uint8 (..., 3).

    Returns:
        uint8 (...).
    """
    red, green, blue = np.moveaxis(faces.astype(np.float32) * np.float32(1 / 255), -1, 0)
    grey = red * np.float32(0.2989) + green * np.float32(0.587) + blue * np.float32(0.114)
    return (grey * np.float32(255.5)).clip(0, 255).astype(np.uint8)


def gabor_magnitudes(faces: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the magnitudes of each filter, uint16 (T, H, W), in units of 1/`STEPS` of a grey level.

    Args:
        faces: (T, H, W), 0 to 255. They are mirrored at their borders.
    """
    height, width = faces.shape[1:]
    kernels = _make_kernels()
    pad = max(max(kernel.shape) for kernel in kernels) // 2
    padded = np.pad(np.asarray(faces, np.float32), ((0, 0), (pad, pad), (pad, pad)), mode="symmetric")
    size = [fft.next_fast_len(length + pad) for length in padded.shape[1:]]  # pixels that wrap around are cut off
    spectra = fft.fft2(padded, size)
    for kernel in kernels:
        response = fft.ifft2(spectra * fft.fft2(kernel, size))
        top, left = pad + kernel.shape[0] // 2, pad + kernel.shape[1] // 2
        magnitudes = np.abs(response[:, top : top + height, left : left + width])
        yield np.rint(STEPS * magnitudes).astype(np.uint16)


def plane_codes(volume: np.ndarray, axes: tuple[int, int]) -> np.ndarray:
    """Returns the uniform codes 0 to 58 in one plane, uint8 (T, H, W).

    Args:
        volume: Integers (T, H, W). The outermost values are repeated beyond the ends.
        axes: The two axes of the plane.
    """
    padded = np.pad(volume, 1, mode="edge")
    codes = np.zeros(volume.shape, np.uint8)
    for bit, offset in enumerate(RING):
        start = np.ones(3, int)
        start[list(axes)] += offset
        neighbours = padded[tuple(slice(at, at + length) for at, length in zip(start, volume.shape, strict=True))]
        codes |= (neighbours >= volume).view(np.uint8) << np.uint8(bit)
    return _number_uniform_codes()[codes]


def block_histograms(codes: np.ndarray) -> np.ndarray:
    """Returns the share of each code in each block, float32 (T, `BLOCKS`² · `CODES`), block after block.

    Args:
        codes: From `plane_codes`.
    """
    frames, height, width = codes.shape
    rows, columns = np.arange(height) * BLOCKS // height, np.arange(width) * BLOCKS // width
    block = np.arange(frames)[:, None, None] * BLOCKS**2 + rows[:, None] * BLOCKS + columns
    counts = np.bincount((block * CODES + codes).ravel(), minlength=frames * BLOCKS**2 * CODES)
    counts = counts.reshape(frames, BLOCKS**2, CODES).astype(np.float32)
    return (counts / counts.sum(axis=-1, keepdims=True)).reshape(frames, -1)


@cache
def _make_kernels() -> list[np.ndarray]:
    angles = np.arange(ORIENTATIONS) * np.pi / ORIENTATIONS
    return [
        gabor_kernel(1 / wavelength, theta, dtype=np.complex64) for wavelength in WAVELENGTHS_PX for theta in angles
    ]


@cache
def _number_uniform_codes() -> np.ndarray:
    """Returns uint8 (256,): 0 to 57, in order, for codes whose bits change at most twice around the ring; else 58."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    uniform = (bits != np.roll(bits, 1, axis=1)).sum(axis=1) <= 2
    return np.where(uniform, np.cumsum(uniform) - 1, CODES - 1).astype(np.uint8)


@cache
def draw_sketch(size: int) -> sparse.csr_array:
    """Returns the sketch, a sparse matrix (size, `FEATURES`) with one entry ±1 in each row.

    It never changes, because a trained network needs the same sketch.

    Args:
        size: Number of shares.
    """
    random = np.random.RandomState(0)  # It gives the same numbers in every version of NumPy.
    sums, signs = random.randint(FEATURES, size=size), random.choice(np.array([-1, 1], np.float32), size)
    return sparse.csr_array((signs, (np.arange(size), sums)), shape=(size, FEATURES))

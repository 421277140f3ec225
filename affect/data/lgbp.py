"""LGBP-TOP: local Gabor binary patterns from three orthogonal planes (Almaev and Valstar, ACII 2013), frame by frame.

The magnitude of each Gabor filter's response, frame by frame, is a video of its own. In it, a pixel is coded by which
of its 8 neighbours are at least as large: in the plane of its frame (XY), and in those of its row (XT) and its column
(YT) over the frames before and after. Histograms of the codes over blocks of the frame are the features.

Paper B names LGBP-TOP and gives no size. Of RECOLA it is known that about 50,000 features were reduced by PCA. Assumed,
after public code in MATLAB: 3 wavelengths, from 3 pixels by factors of 2.1, × 6 orientations; 4 × 4 blocks in each
plane; uniform codes of the square neighbourhood. Ours:

- A 59th code for all that are not uniform, as in scikit-image, so that a block's histogram has the same sum always.
- A frame is described by itself, the one before and the one after: at 10 frames/s these span as much time as the 5
  frames at 25 frames/s of others.
- Histograms are square-rooted shares (Hellinger), which need no constants learnt from data.
- A fixed random sketch replaces PCA: each of the 50,976 shares is added to or taken from one of 512 sums. Distances
  are kept to some per cent, nothing is fitted, and a run holds nothing beside its network.

Codes are taken in NumPy and not by scikit-image's `local_binary_pattern`, which interpolates the neighbours on a circle
and takes one image at a time: the same pixels take it some 20 times as long. In one run, in seconds of one core, 163
faces of 64 × 64 pixels a second are described, and 1,943 JPEGs of 256 × 256 decoded.
"""

from functools import cache

import numpy as np
from scipy import fft, sparse
from skimage.filters import gabor_kernel

WAVELENGTHS_PX = (3.0, 6.3, 13.23)
ORIENTATIONS = 6
BLOCKS = 4  # on each side of a frame
CODES = 59
FEATURES = 512
STEPS = 16  # a grey level; finer differences of magnitudes count as none, and flat skin has one code

# Neighbours in the order of their bits, around the pixel, along the two axes of a plane.
RING = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
PLANES = ((1, 2), (0, 2), (0, 1))  # XY, XT, YT, as axes of (T, H, W)


def lgbp_top(faces):
    """Returns the features of consecutive frames; beyond the first and the last, these are held.

    Args:
        faces: (T, H, W), aligned grey faces of 0 to 255; H and W at least `BLOCKS`.

    Returns:
        float32 (T, `FEATURES`).
    """
    histograms = [block_histograms(plane_codes(volume, axes)) for volume in gabor_magnitudes(faces) for axes in PLANES]
    shares = np.concatenate(histograms, axis=1)  # (T, 18 · 3 · 16 · 59)
    return (np.sqrt(shares) @ _sketch(shares.shape[1])).astype(np.float32)


def gabor_magnitudes(faces):
    """Yields each filter's magnitudes, uint16 (T, H, W) in 1/`STEPS` of a grey level; borders are mirrored."""
    height, width = faces.shape[1:]
    kernels = _kernels()
    pad = max(max(kernel.shape) for kernel in kernels) // 2
    padded = np.pad(np.asarray(faces, np.float32), ((0, 0), (pad, pad), (pad, pad)), mode="symmetric")
    size = [fft.next_fast_len(length + pad) for length in padded.shape[1:]]  # what wraps around is cut off
    spectra = fft.fft2(padded, size)
    for kernel in kernels:
        response = fft.ifft2(spectra * fft.fft2(kernel, size))
        top, left = pad + kernel.shape[0] // 2, pad + kernel.shape[1] // 2
        magnitudes = np.abs(response[:, top : top + height, left : left + width])
        yield np.rint(STEPS * magnitudes).astype(np.uint16)


def plane_codes(volume, axes):
    """Returns uniform codes 0 to 58 in one plane, uint8 (T, H, W).

    Args:
        volume: Integers (T, H, W). Beyond its ends the outermost values are held.
        axes: The plane's two axes.
    """
    padded = np.pad(volume, 1, mode="edge")
    codes = np.zeros(volume.shape, np.uint8)
    for bit, offset in enumerate(RING):
        start = np.ones(3, int)
        start[list(axes)] += offset
        neighbours = padded[tuple(slice(at, at + length) for at, length in zip(start, volume.shape, strict=True))]
        codes |= (neighbours >= volume).view(np.uint8) << np.uint8(bit)
    return _uniform()[codes]


def block_histograms(codes):
    """Returns how each block's pixels are shared among the codes, float32 (T, `BLOCKS`² · `CODES`), block by block."""
    frames, height, width = codes.shape
    rows, columns = np.arange(height) * BLOCKS // height, np.arange(width) * BLOCKS // width
    block = np.arange(frames)[:, None, None] * BLOCKS**2 + rows[:, None] * BLOCKS + columns
    counts = np.bincount((block * CODES + codes).ravel(), minlength=frames * BLOCKS**2 * CODES)
    counts = counts.reshape(frames, BLOCKS**2, CODES).astype(np.float32)
    return (counts / counts.sum(axis=-1, keepdims=True)).reshape(frames, -1)


@cache
def _kernels():
    angles = np.arange(ORIENTATIONS) * np.pi / ORIENTATIONS
    return [
        gabor_kernel(1 / wavelength, theta, dtype=np.complex64) for wavelength in WAVELENGTHS_PX for theta in angles
    ]


@cache
def _uniform():
    """uint8 (256,): the codes whose bits change at most twice around the ring, in order, 0 to 57; 58 for the others."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    uniform = (bits != np.roll(bits, 1, axis=1)).sum(axis=1) <= 2
    return np.where(uniform, np.cumsum(uniform) - 1, CODES - 1).astype(np.uint8)


@cache
def _sketch(size):
    """The sums that the shares are added to, sparse (size, `FEATURES`): an entry ±1 in each row."""
    random = np.random.RandomState(0)  # its numbers are the same in every version of NumPy
    sums, signs = random.randint(FEATURES, size=size), random.choice(np.array([-1, 1], np.float32), size)
    return sparse.csr_array((signs, (np.arange(size), sums)), shape=(size, FEATURES))

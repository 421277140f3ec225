"""LGBP-TOP beside loops over pixels, by hand, and by its laws."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.filters import gabor_kernel

from affect.data import lgbp
from affect.data.lgbp import FEATURES, block_histograms, gabor_magnitudes, lgbp_top, plane_codes

RANDOM = np.random.default_rng(0)
VOLUME = RANDOM.integers(0, 4, (3, 5, 6)).astype(np.uint16)  # few values, so that many neighbours are equal
FACES = ndimage.gaussian_filter(RANDOM.uniform(0, 255, (3, 12, 10)), (0.5, 1, 1))
XY, XT, YT = lgbp.PLANES

# (first axis, second axis) of the neighbours of bits 0 to 7: once around, from the corner before both.
NEIGHBOURS = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
UNIFORM = [code for code in range(256) if sum((code >> i ^ code >> (i + 1) % 8) & 1 for i in range(8)) <= 2]


def coded(volume, plane, at):
    """The code of one pixel, neighbour by neighbour."""
    code = 0
    for bit, steps in enumerate(NEIGHBOURS):
        place = list(at)
        for axis, step in zip(plane, steps, strict=True):
            place[axis] = min(max(place[axis] + step, 0), volume.shape[axis] - 1)
        code += (volume[tuple(place)] >= volume[tuple(at)]) * 2**bit
    return UNIFORM.index(code) if code in UNIFORM else 58


def transcription(magnitudes):
    """Square-rooted shares of one frame after another, (T, 18 · 3 · 16 · 59)."""
    frames, height, width = magnitudes[0].shape
    counts = np.zeros((frames, len(magnitudes), 3, 4, 4, 59))
    for filtered, volume in enumerate(magnitudes):
        for plane in range(3):
            for t, y, x in np.ndindex(volume.shape):
                code = coded(volume, [(1, 2), (0, 2), (0, 1)][plane], (t, y, x))
                counts[t, filtered, plane, y * 4 // height, x * 4 // width, code] += 1
    return np.sqrt(counts / counts.sum(axis=-1, keepdims=True)).reshape(frames, -1)


@pytest.mark.parametrize(
    ("image", "code"),
    [
        ([[1, 1, 1], [1, 5, 1], [1, 1, 1]], 0),
        ([[9, 1, 1], [1, 5, 1], [1, 1, 1]], 1),  # bit 0
        ([[1, 1, 9], [1, 5, 9], [1, 1, 5]], 13),  # bits 2, 3, 4: 28, after 0 1 2 3 4 6 7 8 12 14 15 16 24
        ([[9, 9, 9], [9, 5, 9], [9, 9, 9]], 57),
        ([[9, 1, 1], [1, 5, 1], [1, 1, 9]], 58),  # two corners are not uniform
    ],
)
def test_codes_by_hand(image, code):
    assert plane_codes(np.array([image]), XY)[0, 1, 1] == code


@pytest.mark.parametrize("plane", [XY, XT, YT])
def test_codes_are_those_of_a_loop_over_pixels(plane):
    expected = [coded(VOLUME, plane, at) for at in np.ndindex(VOLUME.shape)]
    np.testing.assert_array_equal(plane_codes(VOLUME, plane).ravel(), expected)
    assert len(set(expected)) > 8 and 58 in expected


def test_planes_are_named_as_they_lie():
    np.testing.assert_array_equal(plane_codes(VOLUME, XT), plane_codes(VOLUME.swapaxes(1, 2), YT).swapaxes(1, 2))
    flashing = np.broadcast_to(np.array([1, 5, 1])[:, None, None], (3, 4, 4))
    assert (plane_codes(flashing, XY) == 57).all()
    beside = 8 + 128  # the neighbours to the left and right, as bright as the pixel itself
    assert beside not in UNIFORM and (plane_codes(flashing, XT)[1] == 58).all()


def test_histograms_by_hand():
    codes = np.zeros((2, 8, 8), np.uint8)
    codes[1, 2:4, 6:] = [[3, 3], [3, 58]]  # the block in row 1, column 3 of the second frame
    shares = block_histograms(codes).reshape(2, 4, 4, 59)
    assert (shares[0, :, :, 0] == 1).all() and shares.sum() == pytest.approx(32)
    assert shares[1, 1, 3, [0, 3, 58]].tolist() == [0, 0.75, 0.25]
    assert (shares[1, :, :, 0] == 1).sum() == 15


def test_magnitudes_are_those_of_a_convolution_in_space():
    found = list(gabor_magnitudes(FACES))
    kernels = [gabor_kernel(1 / w, k * np.pi / 6) for w in (3, 6.3, 13.23) for k in range(6)]
    assert len(found) == len(kernels) == 18
    for magnitudes, kernel in zip(found, kernels, strict=True):
        assert magnitudes.dtype == np.uint16
        for face, magnitude in zip(FACES, magnitudes, strict=True):
            parts = [ndimage.convolve(face, part, mode="reflect") for part in (kernel.real, kernel.imag)]
            np.testing.assert_allclose(magnitude, 16 * np.hypot(*parts), atol=0.51)


def test_a_filter_answers_to_its_own_grating():
    """A wave of amplitude 100 has magnitude 50 in its own filter, 800 steps of 1/16, and less in all others."""
    y, x = np.mgrid[:48, :48]
    for place, (wavelength, angle) in enumerate([(w, k * np.pi / 6) for w in (3, 6.3, 13.23) for k in range(6)]):
        wave = 128 + 100 * np.cos(2 * np.pi / wavelength * (x * np.cos(angle) + y * np.sin(angle)))
        means = [magnitude[0, 16:32, 16:32].mean() for magnitude in gabor_magnitudes(wave[None])]
        assert np.argmax(means) == place
        assert means[place] == pytest.approx(800, rel=0.05)


def test_features_are_a_transcription_of_them():
    shares = transcription(list(gabor_magnitudes(FACES)))
    expected = np.zeros((3, FEATURES))
    random = np.random.RandomState(0)
    sums = random.randint(FEATURES, size=50_976)
    signs = random.choice([-1, 1], 50_976)
    for share, to, sign in zip(shares.T, sums, signs, strict=True):
        expected[:, to] += sign * share
    found = lgbp_top(FACES)
    assert (found.dtype, found.shape) == (np.float32, (3, FEATURES))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_sketch_never_changes():
    """A trained network is of no use behind another sketch."""
    sketch = lgbp.draw_sketch(50_976)
    assert sketch.indices[:8].tolist() == [172, 47, 117, 192, 323, 251, 195, 359]
    assert sketch.data[:8].tolist() == [-1, -1, 1, 1, 1, 1, 1, 1]


def test_the_sketch_keeps_distances():
    x = RANDOM.dirichlet(np.full(59, 0.2), (20, 864)).reshape(20, -1) ** 0.5
    pairs = x[::2] - x[1::2]
    ratio = np.linalg.norm(pairs @ lgbp.draw_sketch(50_976), axis=1) / np.linalg.norm(pairs, axis=1)
    np.testing.assert_allclose(ratio, 1, atol=0.15)


def test_all_that_is_flat_is_the_same():
    flat = np.ones((2, 12, 12)) * np.array([17, 203])[:, None, None]
    for place, volume in enumerate(gabor_magnitudes(flat[:1])):
        assert (plane_codes(volume, XY) == 57).all(), place
    dark, light = lgbp_top(flat[[0, 0]]), lgbp_top(flat[[1, 1, 1]])
    np.testing.assert_array_equal(dark, light[:2])


def test_a_frame_is_described_by_itself_and_its_neighbours():
    faces = RANDOM.uniform(0, 255, (6, 12, 12))
    changed = faces.copy()
    changed[3] = 255 - changed[3] ** 2 / 255
    differs = np.abs(lgbp_top(changed) - lgbp_top(faces)).max(axis=1) > 1e-3
    assert differs.tolist() == [False, False, True, True, True, False]
    held = np.concatenate([faces[:1], faces, faces[-1:]])
    np.testing.assert_allclose(lgbp_top(held)[1:-1], lgbp_top(faces), atol=1e-6)
    assert np.abs(lgbp_top(faces[:1]) - lgbp_top(faces)[:1]).max() > 1e-3  # time counts

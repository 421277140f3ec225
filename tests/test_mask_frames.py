"""MaskFrames: zeros in the frames that do not exist."""

import numpy as np

from affect.layers import MaskFrames
from tests.contracts import check_config, check_masks, check_mixed_precision, check_saving, check_shapes, run

FRAMES = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")
MASK = np.array([[True, False, True], [False, False, False]])


def test_frames_that_do_not_exist_are_zeros_and_the_others_as_they_were():
    (masked,) = run(MaskFrames(), (FRAMES, MASK))
    np.testing.assert_array_equal(masked, np.where(MASK[..., None, None], FRAMES, 0))


def test_contract():
    for check in (check_config, check_shapes, check_mixed_precision, check_masks):
        check(MaskFrames, {}, FRAMES, MASK, call_kwargs={})
    check_saving(MaskFrames, {}, FRAMES, MASK, call_kwargs={})

import numpy as np
import pytest
from keras import ops

from affect.layers import LastFramePooling
from tests.contracts import check_layer, gradient, run

FRAMES = np.random.default_rng(0).normal(size=(4, 4, 3)).astype("float32")
FRAME_MASK = np.array([[1, 1, 1, 1], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]], "bool")
LAST = (3, 2, 1)


@pytest.mark.parametrize("inputs", [(FRAMES,), (FRAMES, FRAME_MASK)])
def test_contract(inputs):
    check_layer(LastFramePooling, {}, *inputs)


@pytest.mark.parametrize("garbage", [0.0, 1e30])
def test_it_is_the_last_valid_frame_whatever_the_others_hold(garbage):
    (found,) = run(LastFramePooling(), (np.where(FRAME_MASK[..., None], FRAMES, np.float32(garbage)), FRAME_MASK))
    for window, last in enumerate(LAST):
        np.testing.assert_array_equal(found[window], FRAMES[window, last])
    np.testing.assert_array_equal(found[3], 0)
    np.testing.assert_array_equal(run(LastFramePooling(), (FRAMES,))[0], FRAMES[:, -1])


def test_gradient_reaches_that_frame_alone():
    slope = gradient(lambda x: ops.sum(LastFramePooling()(x, FRAME_MASK)), FRAMES)
    expected = np.zeros(FRAMES.shape)
    for window, last in enumerate(LAST):
        expected[window, last] = 1
    np.testing.assert_array_equal(slope, expected)

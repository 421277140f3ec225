"""Layers of Keras written out in NumPy, float64; weights stand as `get_weights` gives them."""

import numpy as np
from scipy.special import expit


def convolve(x, kernel, bias=0.0):
    """Convolution of stride 1 that keeps the size: `x` (..., *space, D), `kernel` (*sides, D, K), of odd sides."""
    *sides, _, _ = kernel.shape
    space = tuple(range(x.ndim - 1 - len(sides), x.ndim - 1))
    padding = [(0, 0)] * x.ndim
    for axis, side in zip(space, sides, strict=True):
        padding[axis] = (side // 2, side // 2)
    views = np.lib.stride_tricks.sliding_window_view(np.pad(np.float64(x), padding), sides, space)  # (..., D, *sides)
    views = np.moveaxis(views, x.ndim - 1, -1)  # (..., *sides, D)
    return np.tensordot(views, np.float64(kernel), len(sides) + 1) + bias


def max_pool(x):
    """The greatest of each 2 × 2 pixels: (..., H, W, D) → (..., H/2, W/2, D)."""
    *first, height, width, channels = x.shape
    return x.reshape(*first, height // 2, 2, width // 2, 2, channels).max(axis=(-4, -2))


def dense(x, kernel, bias=0.0):
    return x @ np.float64(kernel) + bias


def relu(x):
    return np.maximum(x, 0)


def lstm(frames, kernel, recurrent, bias, product=dense):
    """Outputs of an LSTM that starts at zeros, for frames (F, ..., D); its gates: input, forget, new, output.

    With `product=convolve` it is a ConvLSTM.
    """
    output = state = np.zeros((*frames.shape[1:-1], recurrent.shape[-2]))
    outputs = []
    for frame in frames:
        gates = product(frame, kernel, bias) + product(output, recurrent)
        enter, forget, new, leave = np.split(gates, 4, axis=-1)
        state = expit(forget) * state + expit(enter) * np.tanh(new)
        output = expit(leave) * np.tanh(state)
        outputs.append(output)
    return np.array(outputs)


def rnn(frames, kernel, recurrent, bias):
    """Outputs of a simple recurrent network that starts at zeros, for frames (F, D)."""
    output, outputs = np.zeros(len(recurrent)), []
    for frame in frames:
        output = np.tanh(frame @ np.float64(kernel) + output @ np.float64(recurrent) + bias)
        outputs.append(output)
    return np.array(outputs)

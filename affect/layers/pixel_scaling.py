"""PixelScaling: maps pixels of 0 to 255 to the input range that a published network was trained on."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="affect")
class PixelScaling(keras.layers.Layer):
    """Maps the colour of each pixel: `outputs[c] = sum_k pixels[k] * matrix[k][c] + offset[c]`.

    This affine map covers all scalings in use: another channel order with a mean subtracted (VGG-Face), colours in
    [0, 1] (paper A's authors' code), and weighted grey in [-1, 1] (mini-Xception).

    The layer computes in float32 under any dtype policy. It adds products instead of using a matrix product, because
    some accelerators round a matrix product to 10 bits of mantissa. Only the result is cast to the compute dtype.

    Args:
        matrix: Weights: K rows, one for each input channel, of C columns, one for each output channel.
        offset: C numbers, one for each output channel, added last.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        pixels: Tensor of any numeric dtype.

    Input shape:
        `(..., K)`.

    Output shape:
        `(..., C)`.

    Example:
        >>> PixelScaling(matrix=[[0, 1], [1, 0]], offset=[-10, -20])(ops.array([[1, 2]]))  # [[-8, -19]]
    """

    def __init__(self, matrix: Sequence[Sequence[float]], offset: Sequence[float], **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.matrix = [[float(weight) for weight in row] for row in matrix]
        self.offset = [float(number) for number in offset]
        if not self.matrix or not self.offset or any(len(row) != len(self.offset) for row in self.matrix):
            raise ValueError(
                "Expected `matrix` to have a row for each input channel and, in each row, a weight for each "
                f"number of `offset`. Received: matrix={matrix!r}, offset={offset!r}"
            )

    def build(self, pixels_shape: tuple[Any, ...]) -> None:
        if pixels_shape[-1] != len(self.matrix):
            raise ValueError(
                f"Expected pixels of {len(self.matrix)} channels, the rows of `matrix`. "
                f"Received: pixels of shape {tuple(pixels_shape)}"
            )

    def call(self, pixels: Any) -> Any:
        pixels = ops.cast(pixels, "float32")
        scaled = ops.convert_to_tensor(self.offset, dtype="float32")
        for channel, weights in enumerate(self.matrix):
            weights = ops.convert_to_tensor(weights, dtype="float32")
            scaled = scaled + pixels[..., channel : channel + 1] * weights  # (..., 1) * (C,) -> (..., C)
        return ops.cast(scaled, self.compute_dtype)

    def compute_output_shape(self, pixels_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*pixels_shape[:-1], len(self.offset))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "matrix": self.matrix, "offset": self.offset}

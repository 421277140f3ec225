"""PixelScaling: pixels of 0 to 255 turned into what a published network was trained on."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="affect")
class PixelScaling(keras.layers.Layer):
    """An affine map of each pixel's colour: `outputs[c] = sum_k pixels[k] * matrix[k][c] + offset[c]`.

    One map covers the scalings in use: another channel order with a mean taken off (VGG-Face), colours in [0, 1]
    (paper A's authors' code), and a weighted grey stretched to [-1, 1] (mini-Xception).

    Arithmetic is float32 under every dtype policy, as a sum of products and not as a matrix product, which some
    accelerators round to 10 bits of mantissa; only the result is cast to the compute dtype.

    Args:
        matrix: Weights, one row for each input channel and one column for each output channel.
        offset: One number for each output channel, added last.

    Call arguments:
        pixels: Tensor `(..., K)` of any numeric dtype, K the number of rows of `matrix`.

    Output shape:
        `(..., C)`, C the length of `offset`.

    Example:
        >>> PixelScaling(matrix=[[0, 1], [1, 0]], offset=[-10, -20])(ops.array([[1, 2]]))  # [[-8, -19]]
    """

    def __init__(self, matrix, offset, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.matrix = [[float(weight) for weight in row] for row in matrix]
        self.offset = [float(number) for number in offset]
        if not self.matrix or not self.offset or any(len(row) != len(self.offset) for row in self.matrix):
            raise ValueError(
                "Expected `matrix` to have a row for each input channel and, in each row, a weight for each "
                f"number of `offset`. Received: matrix={matrix!r}, offset={offset!r}"
            )

    def build(self, pixels_shape):
        if pixels_shape[-1] != len(self.matrix):
            raise ValueError(
                f"Expected pixels of {len(self.matrix)} channels, the rows of `matrix`. "
                f"Received: pixels of shape {tuple(pixels_shape)}"
            )

    def call(self, pixels):
        pixels = ops.cast(pixels, "float32")
        scaled = ops.convert_to_tensor(self.offset, dtype="float32")
        for channel, weights in enumerate(self.matrix):
            weights = ops.convert_to_tensor(weights, dtype="float32")
            scaled = scaled + pixels[..., channel : channel + 1] * weights  # (..., 1) * (C,) -> (..., C)
        return ops.cast(scaled, self.compute_dtype)

    def compute_output_shape(self, pixels_shape):
        return (*pixels_shape[:-1], len(self.offset))

    def get_config(self):
        return {**super().get_config(), "matrix": self.matrix, "offset": self.offset}

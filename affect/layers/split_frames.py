"""Splits the batch axis into clips and frames again, after `MergeFrames`."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="affect")
class SplitFrames(keras.layers.Layer):
    """Reshapes `(B*F, ...)` to `(B, F, ...)`, with B and F from another tensor.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`, such as `name`.

    Call arguments:
        x: Tensor of any dtype, which does not change under any dtype policy.
        like: Tensor of any dtype whose first two sizes are B and F: the input of `MergeFrames`, or the frame mask. Its
            values are not used.

    Input shape:
        `x` `(B*F, ...)`, `like` `(B, F, ...)`; any size may be dynamic.

    Output shape:
        `(B, F, ...)`: the first two sizes of `like`, then the sizes of `x` after its first.

    Example:

    >>> SplitFrames()(np.zeros((128, 49, 512)), np.ones((8, 16), "bool")).shape
    (8, 16, 49, 512)
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.input_spec = keras.layers.InputSpec(min_ndim=1)

    def call(self, x: Any, like: Any) -> Any:
        return ops.reshape(x, (*ops.shape(like)[:2], *ops.shape(x)[1:]))

    def compute_output_shape(self, x_shape: tuple[Any, ...], like_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*like_shape[:2], *x_shape[1:])

    def compute_output_spec(self, x: Any, like: Any) -> Any:
        return keras.KerasTensor(self.compute_output_shape(x.shape, like.shape), dtype=x.dtype)

"""Gives the frames that MergeFrames folded into the batch an axis of their own again."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="affect")
class SplitFrames(keras.layers.Layer):
    """Reshapes `(B*F, ...)` to `(B, F, ...)`, with B and F read off another tensor.

    Call arguments:
        x: Tensor of any dtype, which it keeps under any dtype policy.
        like: Tensor of any dtype that has the wanted first two sizes: what `MergeFrames` was given, or the
            frame mask. Its values are not used.

    Input shape:
        `x` `(B*F, ...)`, `like` `(B, F, ...)`; any of the sizes may be dynamic.

    Output shape:
        `(B, F, ...)`: the sizes of `like`, then those of `x` after its first.

    Example:

    >>> SplitFrames()(np.zeros((128, 49, 512)), np.ones((8, 16), "bool")).shape
    (8, 16, 49, 512)
    """

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.input_spec = keras.layers.InputSpec(min_ndim=1)

    def call(self, x, like):
        return ops.reshape(x, (*ops.shape(like)[:2], *ops.shape(x)[1:]))

    def compute_output_shape(self, x_shape, like_shape):
        return (*like_shape[:2], *x_shape[1:])

    def compute_output_spec(self, x, like):
        return keras.KerasTensor(self.compute_output_shape(x.shape, like.shape), dtype=x.dtype)

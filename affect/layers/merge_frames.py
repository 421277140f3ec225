"""Merges the frame axis into the batch axis, so that a layer of images processes each frame on its own."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="affect")
class MergeFrames(keras.layers.Layer):
    """Reshapes `(B, F, ...)` to `(B*F, ...)`, clip after clip; `SplitFrames` undoes it.

    The two layers replace Keras's TimeDistributed, which does not convert to TFLite with a dynamic number of frames.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`, such as `name`.

    Call arguments:
        inputs: Tensor of any dtype, which does not change under any dtype policy.

    Input shape:
        `(B, F, ...)`; any size may be dynamic.

    Output shape:
        `(B*F, ...)`.

    Example:

    >>> MergeFrames()(np.zeros((8, 16, 224, 224, 3), "uint8")).shape
    (128, 224, 224, 3)
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.input_spec = keras.layers.InputSpec(min_ndim=2)

    def call(self, inputs: Any) -> Any:
        batch, frames, *rest = ops.shape(inputs)
        return ops.reshape(inputs, (batch * frames, *rest))

    def compute_output_shape(self, inputs_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        batch, frames, *rest = inputs_shape
        return (None if None in (batch, frames) else batch * frames, *rest)

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), dtype=inputs.dtype)

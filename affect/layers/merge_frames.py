"""Folds the frames of a clip into the batch, for layers that look at one frame at a time."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="affect")
class MergeFrames(keras.layers.Layer):
    """Reshapes `(B, F, ...)` to `(B*F, ...)`, clip after clip; `SplitFrames` undoes it.

    The two are used where Keras would suggest TimeDistributed, which does not convert to TFLite with a dynamic
    number of frames.

    Call arguments:
        inputs: Tensor of any dtype, which it keeps under any dtype policy.

    Input shape:
        `(B, F, ...)`; any of the sizes may be dynamic.

    Output shape:
        `(B*F, ...)`.

    Example:

    >>> MergeFrames()(np.zeros((8, 16, 224, 224, 3), "uint8")).shape
    (128, 224, 224, 3)
    """

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.input_spec = keras.layers.InputSpec(min_ndim=2)

    def call(self, inputs):
        batch, frames, *rest = ops.shape(inputs)
        return ops.reshape(inputs, (batch * frames, *rest))

    def compute_output_shape(self, inputs_shape):
        batch, frames, *rest = inputs_shape
        return (None if None in (batch, frames) else batch * frames, *rest)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), dtype=inputs.dtype)

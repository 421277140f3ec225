"""Sets frames that do not exist to zero."""

from typing import Any

import keras

from affect.layers.frame_mask import check_frame_mask, keep_valid


@keras.saving.register_keras_serializable(package="affect")
class MaskFrames(keras.layers.Layer):
    """Sets each frame to 0 where it does not exist, whatever it holds there.

    The layer removes a mask that Keras has
    attached to its input, for example in a bidirectional recurrent layer.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`, such as `name`. Inputs keep their dtype under any dtype policy.

    Call arguments:
        frames: Float tensor with a batch axis and a frame axis.
        frame_mask: Bool tensor, `True` for frames that exist.

    Input shape:
        `frames` `(B, F, ...)`, `frame_mask` `(B, F)`.

    Output shape:
        The shape and dtype of `frames`.

    Example:

    >>> MaskFrames()(np.array([[[1.0, 2.0], [3.0, 4.0]]]), np.array([[True, False]]))
    [[[1, 2], [0, 0]]]
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.input_spec = keras.layers.InputSpec(min_ndim=2)
        self.supports_masking = True  # It removes the mask; without this, Keras would warn that the mask is lost.

    def call(self, frames: Any, frame_mask: Any) -> Any:
        return keep_valid(frames, frame_mask)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        return None

    def compute_output_shape(self, frames_shape: tuple[Any, ...], frame_mask_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(frames_shape)

    def compute_output_spec(self, frames: Any, frame_mask: Any) -> Any:
        check_frame_mask(frame_mask, frames)
        return keras.KerasTensor(frames.shape, dtype=frames.dtype)

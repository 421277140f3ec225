"""Sets frames that do not exist to zero."""

import keras
from keras import ops

from affect.layers.frame_mask import check_frame_mask, valid_frames


@keras.saving.register_keras_serializable(package="affect")
class MaskFrames(keras.layers.Layer):
    """Multiplies each frame by 1 where it exists and by 0 where it does not.

    Masking is a product: masked frames may hold anything finite, but no NaN. A mask that Keras attached to the input,
    as a bidirectional recurrent layer does, ends here.

    Args:
        **kwargs: `name`, `dtype` and the like, passed to `keras.layers.Layer`. Inputs keep their dtype under any dtype
            policy.

    Call arguments:
        frames: Float tensor, anything of each frame.
        frame_mask: Bool tensor, `True` for frames that exist.

    Input shape:
        `frames` `(B, F, ...)`, `frame_mask` `(B, F)`.

    Output shape:
        As `frames`.

    Example:

    >>> MaskFrames()(np.array([[[1.0, 2.0], [3.0, 4.0]]]), np.array([[True, False]]))
    [[[1, 2], [0, 0]]]
    """

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.input_spec = keras.layers.InputSpec(min_ndim=2)
        self.supports_masking = True  # which it ends; else Keras would warn that it is lost

    def call(self, frames, frame_mask):
        valid = valid_frames(frame_mask, frames, frames.dtype)  # (B, F)
        return frames * ops.reshape(valid, (*ops.shape(valid), *([1] * (len(frames.shape) - 2))))

    def compute_mask(self, inputs, previous_mask):
        return None

    def compute_output_shape(self, frames_shape, frame_mask_shape):
        return tuple(frames_shape)

    def compute_output_spec(self, frames, frame_mask):
        check_frame_mask(frame_mask, frames)
        return keras.KerasTensor(frames.shape, dtype=frames.dtype)

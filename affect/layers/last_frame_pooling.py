"""Last-frame pooling: a window becomes the vector of its last valid frame."""

from typing import Any

import keras
from keras import ops

from affect.layers.frame_mask import join_masks, keep_valid, valid_frames


@keras.saving.register_keras_serializable(package="affect")
class LastFramePooling(keras.layers.Layer):
    """Picks the last valid frame of each window; has no variables. A window without a valid frame gives zeros.

    Masking is a product: masked frames may hold anything, also NaN.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`, such as `name`. The layer computes in float32 and does not cast its
            inputs to a smaller dtype, under any dtype policy.

    Call arguments:
        frame_features: Float tensor, a vector for each frame, in time order.
        frame_mask: Optional bool tensor, `True` for frames that exist.
        mask: The same under Keras's name; `keras.layers.Masking` below the layer gives it.

    Input shape:
        `frame_features` `(B, F, K)`, `frame_mask` `(B, F)`.

    Output shape:
        `(B, K)`, float32.

    Example:

    >>> LastFramePooling()(np.array([[[1.0], [2.0], [3.0]]]), np.array([[True, True, False]]))
    [[2]]
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def call(self, frame_features: Any, frame_mask: Any = None, mask: Any = None) -> Any:
        frame_mask = join_masks(frame_mask, mask, frame_features)
        features = keep_valid(ops.cast(frame_features, "float32"), frame_mask)
        valid = valid_frames(frame_mask, features)  # (B, F)
        count = ops.cumsum(valid, axis=1)  # (B, F): valid frames so far
        is_last = valid * ops.cast(ops.equal(count, count[:, -1:]), "float32")
        return ops.sum(features * ops.expand_dims(is_last, -1), axis=1)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        return None  # a clip has no frames

    def compute_output_shape(
        self, frame_features_shape: tuple[Any, ...], frame_mask_shape: tuple[Any, ...] | None = None
    ) -> tuple[Any, ...]:
        batch, _, channels = frame_features_shape
        return (batch, channels)

    def compute_output_spec(self, frame_features: Any, frame_mask: Any = None, mask: Any = None) -> Any:
        join_masks(frame_mask, mask, frame_features)
        return keras.KerasTensor(self.compute_output_shape(frame_features.shape), dtype="float32")

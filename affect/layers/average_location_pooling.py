"""Global average pooling: each frame's feature map becomes the mean of its locations."""

from typing import Any

import keras
from keras import ops

from affect.layers.frame_mask import check_frame_mask, check_locations


@keras.saving.register_keras_serializable(package="affect")
class AverageLocationPooling(keras.layers.Layer):
    """Averages the locations of each frame with equal weights; has no variables and no attention.

    It replaces `AttentionPooling` in a model without spatial attention, such as the paper's VGG16+TP. Each frame is
    pooled on its own, so masked frames are pooled like the others, and the temporal pooling leaves them out. Keras's
    mask of the frames goes on to that layer.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        features: Float tensor of local features R.

    Input shape:
        `(B, F, L, D)`.

    Output shape:
        `(B, F, D)` in the compute dtype; the average is computed in float32 under any dtype policy.

    Example:

    >>> AverageLocationPooling()(np.ones((8, 16, 49, 512))).shape
    (8, 16, 512)

    Reference:
        Emotion Recognition with Spatial Attention and Temporal Softmax Pooling, arXiv:1910.01254, Table 1, VGG16+TP.
        The paper does not say how that row reduces the feature map to one vector; a global average is assumed.
    """

    has_attention = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.input_spec = keras.layers.InputSpec(ndim=4)
        self.supports_masking = True

    def call(self, features: Any, mask: Any = None) -> Any:
        check_frame_mask(mask, features)
        pooled = ops.mean(ops.cast(features, "float32"), axis=2)  # (B, F, D)
        return ops.cast(pooled, self.compute_dtype)

    def compute_output_spec(self, features: Any, mask: Any = None) -> Any:
        check_frame_mask(mask, features)
        check_locations(features, mask)
        return keras.KerasTensor(self.compute_output_shape(features.shape), dtype=self.compute_dtype)

    def compute_output_shape(self, features_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        batch, frames, _, channels = features_shape
        return (batch, frames, channels)

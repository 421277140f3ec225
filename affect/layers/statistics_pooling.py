"""Statistics pooling: the frames of a clip become their mean and their standard deviation."""

from typing import Any

import keras
from keras import ops

from affect.layers.frame_mask import join_masks, keep_valid, valid_frames


@keras.saving.register_keras_serializable(package="affect")
class StatisticsPooling(keras.layers.Layer):
    """Pools a clip to the mean and the standard deviation of its valid frames; has no variables.

    The deviation is the population's, sqrt(Σ (x - mean)² / n). The order of the frames does not matter. One frame gives
    its own vector and a deviation of 0. A clip without a valid frame gives zeros. Where all frames are equal, the
    gradient of the deviation is set to 0, because the square root has no gradient at 0.

    Masking is a product, as in `JointSoftmaxPooling`: masked frames may hold anything, also NaN.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`, such as `name`. The layer computes in float32 and does not cast its
            inputs to a smaller dtype, under any dtype policy.

    Call arguments:
        frame_features: Float tensor, a vector for each frame.
        frame_mask: Optional bool tensor, `True` for frames that exist.
        mask: The same under Keras's name; `keras.layers.Masking` below the layer gives it.
        return_frames: Whether to return `(clip, frames)` or `clip`. Defaults to `False`.

    Input shape:
        `frame_features` `(B, F, K)`, `frame_mask` `(B, F)`.

    Output shape:
        All float32. `clip` `(B, 2*K)`, means before deviations; `frames` `(B, F, 2*K)`, the same of each frame alone, 0
        where masked. The classifier of `clip` can also be applied to `frames`: it then gives the class of each frame.

    Example:

    >>> StatisticsPooling()(np.array([[[1.0, 5.0], [3.0, 5.0]]]))
    [[2, 5, 1, 0]]

    Reference:
        Convolutional neural networks pretrained on large face recognition datasets for emotion classification from
        video, arXiv:1711.04598, as cited by arXiv:1910.01254: mean and standard deviation of the frames' features.
    """

    pools = "features"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def call(self, frame_features: Any, frame_mask: Any = None, return_frames: bool = False, mask: Any = None) -> Any:
        frame_mask = join_masks(frame_mask, mask, frame_features)
        features = keep_valid(ops.cast(frame_features, "float32"), frame_mask)
        valid = ops.expand_dims(valid_frames(frame_mask, features), -1)  # (B, F, 1)
        count = ops.maximum(ops.sum(valid, axis=1), 1.0)  # (B, 1)
        mean = ops.sum(features, axis=1) / count  # (B, K)
        difference = (features - ops.expand_dims(mean, 1)) * valid
        variance = ops.sum(ops.square(difference), axis=1) / count
        is_positive = variance > 0  # sqrt has an infinite slope at 0, which would make the gradient NaN
        deviation = ops.where(is_positive, ops.sqrt(ops.where(is_positive, variance, 1.0)), 0.0)
        clip = ops.concatenate([mean, deviation], axis=-1)  # (B, 2K)
        if not return_frames:
            return clip
        return clip, ops.concatenate([features, ops.zeros_like(features)], axis=-1)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        return None  # a clip has no frames

    def compute_output_shape(
        self,
        frame_features_shape: tuple[Any, ...],
        frame_mask_shape: tuple[Any, ...] | None = None,
        return_frames: bool = False,
    ) -> tuple[Any, ...]:
        batch, frames, channels = frame_features_shape
        clip = (batch, 2 * channels)
        return (clip, (batch, frames, 2 * channels)) if return_frames else clip

    def compute_output_spec(
        self, frame_features: Any, frame_mask: Any = None, return_frames: bool = False, mask: Any = None
    ) -> Any:
        join_masks(frame_mask, mask, frame_features)
        shapes = self.compute_output_shape(frame_features.shape, return_frames=True)
        specs = tuple(keras.KerasTensor(shape, dtype="float32") for shape in shapes)
        return specs if return_frames else specs[0]

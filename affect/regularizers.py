"""Penalties added to the loss."""

from typing import Any

import keras
from keras import ops

from affect.layers.frame_mask import valid_frames


@keras.saving.register_keras_serializable(package="affect")
class AttentionDiversity(keras.regularizers.Regularizer):
    """Penalises attention heads of a frame that overlap: λ‖AAᵀ - I‖_F, averaged over the valid frames of a batch.

    Off its diagonal, AAᵀ measures how much two heads overlap. On the diagonal, the penalty favours heads on few
    locations, so it applies to a single head too. It is 0 only if each head attends to one location of its own. Pass it
    to `AttentionPooling(diversity_regularizer=)`. An `activity_regularizer` would be given `pooled`, and Keras would
    divide its value by the batch size.

    Args:
        strength: The paper's λ, at least 0 (0, 0.1 or 1 there). Defaults to 1.0.
        squared: Whether to compute ‖·‖²_F, the penalty of arXiv:1703.03130, which introduced this attention, instead of
            the paper's ‖·‖_F. Defaults to `False`.

    Call arguments:
        attention: Tensor, cast to float32.
        frame_mask: Optional bool tensor, `True` for frames that count.

    Input shape:
        `attention` `(B, F, N, L)`, `frame_mask` `(B, F)`.

    Output shape:
        Float32 scalar, 0 for a batch without a valid frame. Its gradient is set to 0 where AAᵀ = I, because the norm
        has no gradient there.

    Reference:
        Emotion Recognition with Spatial Attention and Temporal Softmax Pooling, arXiv:1910.01254, section 3.2. The
        paper does not say how frames are combined; the mean over frames is from its authors' code.
    """

    def __init__(self, strength: float = 1.0, squared: bool = False) -> None:
        if not 0 <= strength < float("inf"):
            raise ValueError(
                f"Invalid `strength`. Expected a finite number of at least 0. Received: strength={strength!r}"
            )
        self.strength = strength
        self.squared = squared

    def __call__(self, attention: Any, frame_mask: Any = None) -> Any:
        attention = ops.cast(attention, "float32")
        overlap = ops.matmul(attention, ops.swapaxes(attention, -1, -2))  # (B, F, N, N)
        deviation = overlap - ops.eye(attention.shape[-2], dtype="float32")
        penalty = ops.sum(ops.square(deviation), axis=(-2, -1))  # (B, F)
        if not self.squared:
            is_positive = penalty > 0  # sqrt has an infinite slope at 0, which would make the gradient NaN
            penalty = ops.where(is_positive, ops.sqrt(ops.where(is_positive, penalty, 1.0)), 0.0)
        valid = valid_frames(frame_mask, attention)
        return self.strength * ops.sum(penalty * valid) / ops.maximum(ops.sum(valid), 1.0)

    def get_config(self) -> dict[str, float | bool]:
        return {"strength": self.strength, "squared": self.squared}

"""Penalties added to the loss."""

import keras
from keras import ops

from affect.layers.frame_mask import valid_frames


@keras.saving.register_keras_serializable(package="affect")
class AttentionDiversity(keras.regularizers.Regularizer):
    """Pulls the attention heads of a frame apart: λ‖AAᵀ - I‖_F, averaged over the valid frames of a batch.

    Off the diagonal AAᵀ measures how much two heads overlap; on the diagonal it asks each head to settle on
    few locations, so even one head is penalised. It is 0 only if each head looks at one location of its
    own. Give it to `AttentionPooling(diversity_regularizer=)`; as an `activity_regularizer` it would see
    `pooled`, and Keras would divide it by the batch size.

    Args:
        strength: Float ≥ 0, the paper's λ (0, 0.1 or 1 there). Defaults to 1.0.
        squared: Boolean, whether to take ‖·‖²_F, the penalty of arXiv:1703.03130, from which the attention
            stems, instead of the paper's ‖·‖_F. Defaults to `False`.

    Call arguments:
        attention: Tensor `(B, F, N, L)`, computed on in float32.
        frame_mask: Optional bool tensor `(B, F)`; frames that are `False` do not count. A batch without a
            valid frame costs 0.

    Returns (from a call):
        Float32 scalar. Its gradient is 0 where AAᵀ = I, at which the norm itself has none.

    Reference:
        Emotion Recognition with Spatial Attention and Temporal Softmax Pooling, arXiv:1910.01254,
        section 3.2. The mean over frames, which the paper leaves open, is that of its authors' code.
    """

    def __init__(self, strength=1.0, squared=False):
        if not 0 <= strength < float("inf"):
            raise ValueError(
                f"Invalid `strength`. Expected a finite number of at least 0. Received: strength={strength}"
            )
        self.strength = strength
        self.squared = squared

    def __call__(self, attention, frame_mask=None):
        attention = ops.cast(attention, "float32")
        overlap = ops.matmul(attention, ops.swapaxes(attention, -1, -2))  # (B, F, N, N)
        deviation = overlap - ops.eye(attention.shape[-2], dtype="float32")
        penalty = ops.sum(ops.square(deviation), axis=(-2, -1))  # (B, F)
        if not self.squared:
            is_positive = penalty > 0  # sqrt has an infinite slope at 0, which would turn the gradient to NaN
            penalty = ops.where(is_positive, ops.sqrt(ops.where(is_positive, penalty, 1.0)), 0.0)
        valid = valid_frames(frame_mask, attention)
        return self.strength * ops.sum(penalty * valid) / ops.maximum(ops.sum(valid), 1.0)

    def get_config(self):
        return {"strength": self.strength, "squared": self.squared}

"""Average pooling of scores: frame logits become clip logits by their mean."""

from typing import Any

import keras
from keras import ops

from affect.layers.score_pooling import ScorePooling


@keras.saving.register_keras_serializable(package="affect")
class AverageScorePooling(ScorePooling):
    """Averages the class scores of the valid frames, before the softmax; has no variables.

    z_c = Σ_f o_cf / n over the n valid frames. A classifier that was trained on single frames (eq. 7) classifies clips
    so, as in the paper's VGG16+AVG. For one frame the layer is the identity, as `JointSoftmaxPooling` is.

    All frames have the same weight, so the joint probability is p(c, f | S) = p(c | S) / n on valid frames. A clip
    without a valid frame has all logits 0 (equal probabilities), importance 0 and gradient 0.

    Masking is a product, as in `JointSoftmaxPooling`: masked frames may hold anything, also NaN.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`, such as `name`. The layer computes in float32 and does not cast its
            inputs to a smaller dtype, under any dtype policy.

    Call arguments:
        frame_logits: Float tensor of class scores o, E for each frame.
        frame_mask: Optional bool tensor, `True` for frames that exist.
        mask: The same under Keras's name; `keras.layers.Masking` below the layer gives it.
        return_importance: Whether to return `(logits, frame_importance, frame_probabilities)` or `logits`. Defaults to
            `False`.

    Input shape:
        `frame_logits` `(B, F, E)`, `frame_mask` `(B, F)`.

    Output shape:
        All float32. `logits` `(B, E)`; `frame_importance` `(B, F)`, 1/n on valid frames; `frame_probabilities`
        `(B, F, E)`, the joint p(c, f | S), which sums to 1 over frames and classes.

    Example:

    >>> AverageScorePooling()(np.array([[[1.0, 2.0], [3.0, 0.0]]]))
    [[2, 1]]

    Reference:
        Emotion Recognition with Spatial Attention and Temporal Softmax Pooling, arXiv:1910.01254, eq. 7 and
        Table 2. The joint probability is our definition; the paper gives none for this row.
    """

    def pool(self, scores: Any, valid: Any, return_importance: bool) -> Any:
        share = valid / ops.maximum(ops.sum(valid, axis=1, keepdims=True), 1.0)
        logits = ops.sum(scores * share, axis=1)  # (B, E)
        if not return_importance:
            return logits
        frame_probabilities = ops.expand_dims(ops.softmax(logits, axis=-1), 1) * share  # (B, F, E)
        return logits, share[..., 0], frame_probabilities

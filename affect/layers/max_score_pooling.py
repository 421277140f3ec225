"""Maximum pooling of scores: the clip logit of a class is its highest frame logit."""

from typing import Any

import keras
from keras import ops

from affect.layers.score_pooling import ScorePooling


@keras.saving.register_keras_serializable(package="affect")
class MaxScorePooling(ScorePooling):
    """Takes the highest score of each class over the valid frames; has no variables.

    z_c = max_f o_cf, the limit of `JointSoftmaxPooling` for large scores. The frame with the maximum of a class gets
    all of that class's p(c | S). Frames with equal maxima share it, and the gradient, equally. The importance of a
    frame is Σ_c p(c, f | S). A clip without a valid frame has all logits 0 (equal probabilities), importance 0 and
    gradient 0.

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
        All float32. `logits` `(B, E)`; `frame_importance` `(B, F)`, which sums to 1 over the frames;
        `frame_probabilities` `(B, F, E)`, the joint p(c, f | S), which sums to 1 over frames and classes.

    Example:

    >>> MaxScorePooling()(np.array([[[1.0, 2.0], [3.0, 0.0]]]))
    [[3, 2]]

    Reference:
        Emotion Recognition with Spatial Attention and Temporal Softmax Pooling, arXiv:1910.01254, which calls its
        softmax a generalisation of average and max pooling, but does not measure max pooling.
    """

    def pool(self, scores: Any, valid: Any, return_importance: bool) -> Any:
        # Masked frames, which are 0 here, get the lowest score, so they never hold the maximum. The sum is exact.
        floor = ops.min(scores, axis=1, keepdims=True)
        candidates = scores + floor * (1.0 - valid)
        peak = ops.max(candidates, axis=1, keepdims=True)
        is_peak = ops.cast(ops.equal(candidates, peak), "float32") * valid  # (B, F, E)
        share = ops.stop_gradient(is_peak / ops.maximum(ops.sum(is_peak, axis=1, keepdims=True), 1.0))
        logits = ops.sum(scores * share, axis=1)  # (B, E)
        if not return_importance:
            return logits
        frame_probabilities = ops.expand_dims(ops.softmax(logits, axis=-1), 1) * share
        return logits, ops.sum(frame_probabilities, axis=-1), frame_probabilities

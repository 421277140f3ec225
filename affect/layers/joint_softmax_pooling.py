"""Temporal softmax pooling: frame logits become clip logits, and the softmax also gives each frame's importance."""

from typing import Any

import keras
from keras import ops

from affect.layers.score_pooling import ScorePooling


@keras.saving.register_keras_serializable(package="affect")
class JointSoftmaxPooling(ScorePooling):
    """Pools frames by one softmax over classes and frames together; has no variables.

    p(c, f | S) = exp(o_cf) / Σ_jk exp(o_jk) (eq. 5) and p(c | S) = Σ_f p(c, f | S) (eq. 6). Since
    softmax_c(logsumexp_f o_cf) is that same p(c | S), the layer returns the clip logits
    z_c = logsumexp_f o_cf, for any loss with `from_logits=True`.

    - The logits are not divided by the number of frames: repeating a clip adds log 2 to each logit and does not change
      the probabilities.
    - Pooling is associative: pooling `[clip logits so far, next frame]` gives the clip logits with that frame, so a
      stream of any length is pooled in constant memory.
    - A clip without a valid frame has all logits 0 (equal probabilities), importance 0 and gradient 0.

    Masking is a product, exp((o - max)·valid)·valid. A large negative number would become -inf in float16 and would
    spoil the scales of an int8 graph. Masked frames may hold anything, also NaN.

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
        All float32. `logits` `(B, E)`; `frame_importance` `(B, F)`, p(f | S), which sums to 1 over the frames;
        `frame_probabilities` `(B, F, E)`, the joint p(c, f | S), which sums to 1 over frames and classes. The
        probabilities of one frame, p(c | f, S), are `softmax(frame_logits)`.

    Example:

    >>> frame_logits = np.log([[[1.0, 2.0], [4.0, 3.0]]])
    >>> logits, importance, joint = JointSoftmaxPooling()(frame_logits, return_importance=True)
    >>> np.exp(logits), importance, joint[0]
    ([[5, 5]], [[0.3, 0.7]], [[0.1, 0.2], [0.4, 0.3]])

    Reference:
        Emotion Recognition with Spatial Attention and Temporal Softmax Pooling, arXiv:1910.01254, eq. 5-6.
    """

    def pool(self, scores: Any, valid: Any, return_importance: bool) -> Any:
        # The shift is the largest valid score of each class. Scores are first raised to at least 0, so the zeros of
        # masked frames are never larger. Any shift gives the same logits, so it needs no gradient.
        floor = ops.min(scores, axis=1, keepdims=True)
        shift = ops.stop_gradient(ops.max((scores - floor) * valid, axis=1, keepdims=True) + floor)
        total = ops.sum(ops.exp((scores - shift) * valid) * valid, axis=1)  # (B, E)
        is_empty = 1.0 - ops.max(valid, axis=1)  # (B, 1): log(1) instead of log(0)
        logits = ops.log(total + is_empty) + shift[:, 0]
        if not return_importance:
            return logits

        # The division by their own sum makes the weights add up to 1, even where float32 cannot resolve the logits.
        peak = ops.max(shift, axis=-1, keepdims=True)  # (B, 1, 1)
        weights = ops.exp((scores - peak) * valid) * valid  # (B, F, E)
        total = ops.sum(weights, axis=(1, 2), keepdims=True)
        frame_probabilities = weights / (total + is_empty[:, None])
        return logits, ops.sum(frame_probabilities, axis=-1), frame_probabilities

"""Temporal softmax pooling: frame logits become clip logits, and each frame's importance comes free."""

import keras
from keras import ops

from affect.layers.score_pooling import ScorePooling


@keras.saving.register_keras_serializable(package="affect")
class JointSoftmaxPooling(ScorePooling):
    """Pools frames by one softmax over classes and frames together; has no weights.

    p(c, f | S) = exp(o_cf) / Σ_jk exp(o_jk) (eq. 5) and p(c | S) = Σ_f p(c, f | S) (eq. 6). Since
    softmax_c(logsumexp_f o_cf) is that same p(c | S), the layer returns the clip logits
    z_c = logsumexp_f o_cf, for any loss with `from_logits=True`.

    - The logits are not divided by the number of frames: showing a clip twice adds log 2 to each of them
      and leaves the probabilities alone.
    - Pooling is associative: pooling `[clip logits so far, next frame]` gives the clip logits with that
      frame, so a stream of any length is pooled in constant memory.
    - A clip without a valid frame has all logits 0 (equal probabilities), importance 0 and gradient 0.

    Masking is a product, exp((o - max)·valid)·valid, not a large negative number, which becomes -inf in
    float16 and ruins the scales of an int8 graph. So masked frames may hold anything finite, but no NaN.

    Args:
        **kwargs: `name`, `dtype` and the like, passed to `keras.layers.Layer`. All is computed in
            float32, and inputs are not cast down, whatever the dtype policy.

    Call arguments:
        frame_logits: Float tensor of class scores o, a row for each frame.
        frame_mask: Optional bool tensor, `True` for frames that exist.
        return_importance: Boolean, whether to return
            `(logits, frame_importance, frame_probabilities)`. Defaults to `False`.

    Input shape:
        `frame_logits` `(B, F, E)`, `frame_mask` `(B, F)`.

    Output shape:
        All float32. `logits` `(B, E)`; `frame_importance` `(B, F)`, p(f | S), sums to 1 over the frames;
        `frame_probabilities` `(B, F, E)`, the joint p(c, f | S), sums to 1 over frames and classes. What a
        frame says on its own, p(c | f, S), is `softmax(frame_logits)`.

    Example:

    >>> frame_logits = np.log([[[1.0, 2.0], [4.0, 3.0]]])
    >>> logits, importance, joint = JointSoftmaxPooling()(frame_logits, return_importance=True)
    >>> np.exp(logits), importance, joint[0]
    ([[5, 5]], [[0.3, 0.7]], [[0.1, 0.2], [0.4, 0.3]])

    Reference:
        Emotion Recognition with Spatial Attention and Temporal Softmax Pooling, arXiv:1910.01254, eq. 5-6.
    """

    def pool(self, scores, valid, return_importance):
        # The largest valid score of each class. Scores are first raised to be ≥ 0, so that the zeros of the
        # masked frames cannot win. Any shift gives the same logits: no gradient flows through it.
        floor = ops.min(scores, axis=1, keepdims=True)
        shift = ops.stop_gradient(ops.max((scores - floor) * valid, axis=1, keepdims=True) + floor)
        total = ops.sum(ops.exp((scores - shift) * valid) * valid, axis=1)  # (B, E)
        is_empty = 1.0 - ops.max(valid, axis=1)  # (B, 1): log(1) instead of log(0)
        logits = ops.log(total + is_empty) + shift[:, 0]
        if not return_importance:
            return logits

        # Divided by its own sum, for this adds up to 1 also where float32 no longer resolves the logits.
        peak = ops.max(shift, axis=-1, keepdims=True)  # (B, 1, 1)
        weights = ops.exp((scores - peak) * valid) * valid  # (B, F, E)
        total = ops.sum(weights, axis=(1, 2), keepdims=True)
        frame_probabilities = weights / (total + is_empty[:, None])
        return logits, ops.sum(frame_probabilities, axis=-1), frame_probabilities

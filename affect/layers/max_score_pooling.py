"""Maximum pooling of scores: each class is judged by the frame that shows it best."""

import keras
from keras import ops

from affect.layers.score_pooling import ScorePooling


@keras.saving.register_keras_serializable(package="affect")
class MaxScorePooling(ScorePooling):
    """Takes the highest score of each class over the valid frames; has no weights.

    z_c = max_f o_cf, the limit of `JointSoftmaxPooling` for large scores. Only the frame that holds a class's
    maximum matters to that class: its p(c | S) is given to that frame, and tied frames share it, and the gradient,
    equally. The importance of a frame is then Σ_c p(c, f | S). A clip without a valid frame has all logits 0
    (equal probabilities), importance 0 and gradient 0.

    Masking is a product, as in `JointSoftmaxPooling`: masked frames may hold anything finite, but no NaN.

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
        All float32. `logits` `(B, E)`; `frame_importance` `(B, F)`, sums to 1 over the frames;
        `frame_probabilities` `(B, F, E)`, the joint p(c, f | S), sums to 1 over frames and classes.

    Example:

    >>> MaxScorePooling()(np.array([[[1.0, 2.0], [3.0, 0.0]]]))
    [[3, 2]]

    Reference:
        Emotion Recognition with Spatial Attention and Temporal Softmax Pooling, arXiv:1910.01254, which calls
        its softmax a generalisation of average and max pooling, and does not measure the latter.
    """

    def pool(self, scores, valid, return_importance):
        # Masked frames get the lowest score, so they cannot win. Adding it to a 0 loses no digit.
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

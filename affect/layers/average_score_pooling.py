"""Average pooling of scores: frame logits become clip logits by their mean."""

import keras
from keras import ops

from affect.layers.score_pooling import ScorePooling


@keras.saving.register_keras_serializable(package="affect")
class AverageScorePooling(ScorePooling):
    """Averages the class scores of the valid frames, before the softmax; has no weights.

    z_c = Σ_f o_cf / n over the n valid frames: how a classifier trained on single frames (eq. 7) judges a clip, the
    paper's VGG16+AVG. On one frame it is the identity, and so is `JointSoftmaxPooling`.

    Each frame has an equal say, so the joint probability is p(c, f | S) = p(c | S) / n on valid frames. A clip
    without a valid frame has all logits 0 (equal probabilities), importance 0 and gradient 0.

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
        All float32. `logits` `(B, E)`; `frame_importance` `(B, F)`, 1/n on valid frames; `frame_probabilities`
        `(B, F, E)`, the joint p(c, f | S), sums to 1 over frames and classes.

    Example:

    >>> AverageScorePooling()(np.array([[[1.0, 2.0], [3.0, 0.0]]]))
    [[2, 1]]

    Reference:
        Emotion Recognition with Spatial Attention and Temporal Softmax Pooling, arXiv:1910.01254, eq. 7 and
        Table 2. The joint probability is ours: the paper gives none for this row.
    """

    def pool(self, scores, valid, return_importance):
        share = valid / ops.maximum(ops.sum(valid, axis=1, keepdims=True), 1.0)
        logits = ops.sum(scores * share, axis=1)  # (B, E)
        if not return_importance:
            return logits
        frame_probabilities = ops.expand_dims(ops.softmax(logits, axis=-1), 1) * share  # (B, F, E)
        return logits, share[..., 0], frame_probabilities

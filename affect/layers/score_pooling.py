"""What the poolings of frame logits over time share: their calls, masks and shapes."""

import keras
from keras import ops

from affect.layers.frame_mask import check_frame_mask, valid_frames


class ScorePooling(keras.layers.Layer):
    """Base of the poolings from frame logits to clip logits; a subclass defines `pool`.

    Args:
        **kwargs: `name`, `dtype` and the like, passed to `keras.layers.Layer`. All is computed in float32, and inputs
            are not cast down, whatever the dtype policy.

    Call arguments:
        frame_logits: Float tensor (B, F, E) of class scores. Masked frames may hold anything finite, but no NaN.
        frame_mask: Optional bool tensor (B, F), `True` for frames that exist.
        return_importance: Boolean, whether to return `(logits, frame_importance, frame_probabilities)`. Defaults to
            `False`.

    Output shape:
        All float32: `logits` (B, E), `frame_importance` (B, F), `frame_probabilities` (B, F, E).
    """

    pools = "scores"

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def call(self, frame_logits, frame_mask=None, return_importance=False):
        scores = ops.cast(frame_logits, "float32")
        valid = ops.expand_dims(valid_frames(frame_mask, scores), -1)  # (B, F, 1)
        return self.pool(scores * valid, valid, return_importance)

    def compute_output_shape(self, frame_logits_shape, frame_mask_shape=None, return_importance=False):
        batch, frames, classes = frame_logits_shape
        logits = (batch, classes)
        return (logits, (batch, frames), (batch, frames, classes)) if return_importance else logits

    def compute_output_spec(self, frame_logits, frame_mask=None, return_importance=False):
        check_frame_mask(frame_mask, frame_logits)
        shapes = self.compute_output_shape(frame_logits.shape, return_importance=True)
        specs = tuple(keras.KerasTensor(shape, dtype="float32") for shape in shapes)
        return specs if return_importance else specs[0]

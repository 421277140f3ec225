"""The base of the layers that pool frame logits over time: their arguments, masks and shapes."""

from typing import Any

import keras
from keras import ops

from affect.layers.frame_mask import join_masks, keep_valid, valid_frames


class ScorePooling(keras.layers.Layer):
    """Pools frame logits to clip logits; a subclass defines `pool`.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`, such as `name`. The layer computes in float32 and does not cast its
            inputs to a smaller dtype, under any dtype policy.

    Call arguments:
        frame_logits: Float tensor of class scores. Masked frames may hold anything, also NaN.
        frame_mask: Optional bool tensor, `True` for frames that exist.
        mask: The same under Keras's name; `keras.layers.Masking` below the layer gives it.
        return_importance: Whether to return `(logits, frame_importance, frame_probabilities)` or `logits`. Defaults to
            `False`.

    Input shape:
        `frame_logits` `(B, F, E)`, `frame_mask` `(B, F)`.

    Output shape:
        All float32: `logits` `(B, E)`, `frame_importance` `(B, F)`, `frame_probabilities` `(B, F, E)`.
    """

    pools = "scores"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def call(self, frame_logits: Any, frame_mask: Any = None, return_importance: bool = False, mask: Any = None) -> Any:
        frame_mask = join_masks(frame_mask, mask, frame_logits)
        scores = keep_valid(ops.cast(frame_logits, "float32"), frame_mask)
        valid = ops.expand_dims(valid_frames(frame_mask, scores), -1)  # (B, F, 1)
        return self.pool(scores, valid, return_importance)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        return None  # a clip has no frames

    def pool(self, scores: Any, valid: Any, return_importance: bool) -> Any:
        """Returns what a call returns.

        Args:
            scores: Float32 (B, F, E), 0 where masked.
            valid: Float32 (B, F, 1): 1 for frames that exist, 0 for others.
            return_importance: As in a call.
        """
        raise NotImplementedError

    def compute_output_shape(
        self,
        frame_logits_shape: tuple[Any, ...],
        frame_mask_shape: tuple[Any, ...] | None = None,
        return_importance: bool = False,
    ) -> tuple[Any, ...]:
        batch, frames, classes = frame_logits_shape
        logits = (batch, classes)
        return (logits, (batch, frames), (batch, frames, classes)) if return_importance else logits

    def compute_output_spec(
        self, frame_logits: Any, frame_mask: Any = None, return_importance: bool = False, mask: Any = None
    ) -> Any:
        join_masks(frame_mask, mask, frame_logits)
        shapes = self.compute_output_shape(frame_logits.shape, return_importance=True)
        specs = tuple(keras.KerasTensor(shape, dtype="float32") for shape in shapes)
        return specs if return_importance else specs[0]

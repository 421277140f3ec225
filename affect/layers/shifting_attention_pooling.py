"""Spatial attention with the shifting operation: the paper's strongest alternative to its diversity penalty."""

from typing import Any

import keras
from keras import ops

from affect.layers.attention_pooling import AttentionPooling


@keras.saving.register_keras_serializable(package="affect")
class ShiftingAttentionPooling(AttentionPooling):
    """`AttentionPooling` that scales and shifts each head and divides it by its length (SHIFT).

    Head k of v = AR becomes o_k = w_k v_k + b_k and then o_k / (√N ‖o_k‖₂), with two learned scalars for each head. The
    concatenated N heads therefore have length 1. The shift allows heads to differ without a penalty. By default w_k
    starts at 1 and b_k at 0. While b_k is 0, w_k has no gradient, because the division by the length cancels it. In the
    authors' code both start at N(0, 1/√N), with a standard deviation of 0.84 for N = 2:
    `shift_initializer=RandomNormal(stddev=heads**-0.25)`.

    A head shorter than 1e-6 keeps a length below 1/√N. A head of zeros stays zeros, with a finite gradient.

    Args:
        heads: As in `AttentionPooling`.
        hidden_units: As in `AttentionPooling`.
        shift_initializer: Initializer of w and b, which draws separate numbers for each; `None` (default) is ones for w
            and zeros for b.
        **kwargs: The other arguments of `AttentionPooling`. `kernel_regularizer` does not apply to w and b.

    Call arguments:
        features: Float tensor of local features R.
        frame_mask: Optional bool tensor, `True` for frames that exist.
        mask: The same under Keras's name; `keras.layers.Masking` below the layer gives it.
        return_attention: Whether to return `(pooled, attention)` or `pooled`. Defaults to `False`.

    Input shape:
        `features` `(B, F, L, D)`, `frame_mask` `(B, F)`.

    Output shape:
        As in `AttentionPooling`: `pooled` `(B, F, N*D)`, `attention` `(B, F, N, L)`.

    Example:

    >>> pooled = ShiftingAttentionPooling(heads=2)(np.ones((8, 16, 49, 512)))
    >>> np.linalg.norm(pooled[0, 0])
    1.0

    Reference:
        Attention Clusters: Purely Attention Based Local Feature Integration for Video Classification,
        arXiv:1711.09550; the row SHIFT of arXiv:1910.01254, Table 1.
    """

    def __init__(
        self, heads: int = 1, hidden_units: int | None = None, shift_initializer: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(heads, hidden_units, **kwargs)
        self.shift_initializer = keras.initializers.get(shift_initializer)

    def build(self, features_shape: tuple[Any, ...]) -> None:
        super().build(features_shape)
        self.scale = self._add_scalars("scale", "ones")  # w
        self.offset = self._add_scalars("offset", "zeros")  # b

    def _add_scalars(self, name: str, default: str) -> Any:
        initializer = self.shift_initializer or default
        if isinstance(initializer, keras.Initializer):
            initializer = initializer.clone()  # a random initializer repeats its numbers when it is called again
        return self.add_weight(name=name, shape=(self.heads, 1), initializer=initializer)

    def finish_heads(self, pooled: Any) -> Any:
        scale, offset = ops.cast(self.scale, "float32"), ops.cast(self.offset, "float32")
        shifted = pooled * scale + offset  # (B, F, N, D)
        square = ops.sum(ops.square(shifted), axis=-1, keepdims=True) * self.heads
        return shifted * ops.rsqrt(ops.maximum(square, 1e-12))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shift_initializer": keras.initializers.serialize(self.shift_initializer)}

"""Spatial attention with the shifting operation: the paper's strongest rival to its diversity penalty."""

import keras
from keras import ops

from affect.layers.attention_pooling import AttentionPooling


@keras.saving.register_keras_serializable(package="affect")
class ShiftingAttentionPooling(AttentionPooling):
    """`AttentionPooling` whose heads are each scaled, shifted and brought to one length (SHIFT).

    Head k of v = AR becomes o_k = w_k v_k + b_k and then o_k / (√N ‖o_k‖₂), with two learned scalars a head, so the
    N heads side by side have length 1. The shift is to let heads differ without a penalty. By default w_k starts at 1
    and b_k at 0; while b_k is 0, w_k has no gradient, because the length is divided out. In the authors' code both
    start at N(0, 1/√N), of a deviation of 0.84 where N = 2: `shift_initializer=RandomNormal(stddev=heads**-0.25)`.

    A head of length below 1e-6 is not brought to full length, and one of zeros stays zeros with a finite gradient.

    Args:
        heads, hidden_units, diversity_regularizer, kernel_initializer, kernel_regularizer, use_bias, bias_initializer,
            **kwargs: As in `AttentionPooling`. The regularizer does not reach w and b.
        shift_initializer: Initializer of w and b, which draws for each on its own; `None` (default) is ones and zeros.

    Call arguments:
        features, frame_mask, return_attention: As in `AttentionPooling`.

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

    def __init__(self, heads=1, hidden_units=None, shift_initializer=None, **kwargs):
        super().__init__(heads, hidden_units, **kwargs)
        self.shift_initializer = keras.initializers.get(shift_initializer)

    def build(self, features_shape):
        super().build(features_shape)
        self.scale = self._add_scalars("scale", "ones")  # w
        self.offset = self._add_scalars("offset", "zeros")  # b

    def _add_scalars(self, name, default):
        initializer = self.shift_initializer or default
        if isinstance(initializer, keras.Initializer):
            initializer = initializer.clone()  # a random one repeats its numbers when it is called again
        return self.add_weight(name=name, shape=(self.heads, 1), initializer=initializer)

    def finish_heads(self, pooled):
        scale, offset = ops.cast(self.scale, "float32"), ops.cast(self.offset, "float32")
        shifted = pooled * scale + offset  # (B, F, N, D)
        square = ops.sum(ops.square(shifted), axis=-1, keepdims=True) * self.heads
        return shifted * ops.rsqrt(ops.maximum(square, 1e-12))

    def get_config(self):
        return {**super().get_config(), "shift_initializer": keras.initializers.serialize(self.shift_initializer)}

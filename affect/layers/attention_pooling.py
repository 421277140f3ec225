"""Spatial attention: each frame's feature map becomes one vector per head."""

from typing import Any

import keras
from keras import ops

from affect.layers.frame_mask import check_locations, join_masks, keep_valid


@keras.saving.register_keras_serializable(package="affect")
class AttentionPooling(keras.layers.Layer):
    """Averages the locations of each frame, weighted by N learned attentions.

    A = softmax(W_s2 tanh(W_s1 Rᵀ)), with the softmax over the L locations. The pooled frame is the N rows of AR,
    concatenated (eq. 2-4; `heads=1` is eq. 2-3). `hidden_units=None` leaves one layer, A = softmax(tanh(W Rᵀ)), as in
    the authors' later code. Its scores lie in [-1, 1], so a location weighs at most e² ≈ 7.4 times as much as another
    (at most 0.133 of the sum for L=49). The attention therefore stays soft, and the diversity penalty cannot come
    near 0. With `hidden_units` the scores are unbounded.

    Each frame is pooled on its own, so a mask does not change the other frames. A masked frame is pooled as zeros,
    whatever it holds, with equal attention; the temporal pooling and the diversity penalty leave it out.

    Args:
        heads: Number N of attentions, at least 1. Defaults to 1.
        hidden_units: Units U between the two layers of the attention network, at least 1. `None` (default) is one
            layer. The paper does not give U; the first commit of its authors' code has 512.
        diversity_regularizer: `AttentionDiversity`, or any callable of `(attention, frame_mask)` that returns a
            scalar. Its value is passed to `add_loss`. It is therefore part of the loss in `fit` and, like all Keras
            regularizers, in `evaluate`; `predict` ignores it. Defaults to `None`.
        kernel_initializer: Initializer of the kernels. Defaults to `"glorot_uniform"`.
        kernel_regularizer: Regularizer of the kernels. Defaults to `None`.
        use_bias: Whether the first of two layers adds a bias before its tanh, as in the first commit of the authors'
            code. It needs `hidden_units`. A bias of the last layer would be equal for all locations, and the softmax
            would remove it. Defaults to `False`, as in the paper.
        bias_initializer: Initializer of the bias. Defaults to `"zeros"`.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        features: Float tensor of local features R.
        frame_mask: Optional bool tensor, `True` for frames that exist.
        mask: The same under Keras's name; `keras.layers.Masking` below the layer gives it.
        return_attention: Whether to return `(pooled, attention)` or `pooled`. Defaults to `False`.

    Input shape:
        `features` `(B, F, L, D)`, `frame_mask` `(B, F)`.

    Output shape:
        `pooled` `(B, F, N*D)` in the compute dtype, head after head; `attention` `(B, F, N, L)` in float32, which sums
        to 1 over the locations. Softmax and average are computed in float32 under any dtype policy.

    Example:

    >>> layer = AttentionPooling(heads=2, diversity_regularizer=AttentionDiversity(1.0))
    >>> pooled, attention = layer(np.ones((8, 16, 49, 512)), return_attention=True)
    >>> pooled.shape, attention.shape
    ((8, 16, 1024), (8, 16, 2, 49))

    Reference:
        Emotion Recognition with Spatial Attention and Temporal Softmax Pooling, arXiv:1910.01254, eq. 2-4.
        The SHIFT operation of its Table 1 is `ShiftingAttentionPooling`.
    """

    has_attention = True

    def __init__(
        self,
        heads: int = 1,
        hidden_units: int | None = None,
        diversity_regularizer: Any = None,
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        use_bias: bool = False,
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(heads, int) or heads < 1:
            raise ValueError(f"Invalid `heads`. Expected an integer of at least 1. Received: heads={heads!r}")
        if hidden_units is not None and (not isinstance(hidden_units, int) or hidden_units < 1):
            raise ValueError(
                "Invalid `hidden_units`. Expected None or an integer of at least 1. "
                f"Received: hidden_units={hidden_units!r}"
            )
        if use_bias and hidden_units is None:
            raise ValueError(
                "`use_bias` adds a bias to the first of two layers. Expected `hidden_units` as well. "
                "Received: use_bias=True, hidden_units=None"
            )
        self.heads = heads
        self.hidden_units = hidden_units
        self.use_bias = use_bias
        self.diversity_regularizer = keras.regularizers.get(diversity_regularizer)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.input_spec = keras.layers.InputSpec(ndim=4)
        self.supports_masking = True  # A mask of the frames goes on to the layer that pools them.

    def build(self, features_shape: tuple[Any, ...]) -> None:
        units = features_shape[-1]
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: units})
        if self.hidden_units is not None:
            self.hidden_kernel = self._add_kernel("hidden_kernel", (units, self.hidden_units))  # W_s1ᵀ
            if self.use_bias:
                self.hidden_bias = self.add_weight(
                    name="hidden_bias", shape=(self.hidden_units,), initializer=self.bias_initializer
                )
            units = self.hidden_units
        self.kernel = self._add_kernel("kernel", (units, self.heads))  # W_s2ᵀ, or Wᵀ of the one layer

    def _add_kernel(self, name: str, shape: tuple[Any, ...]) -> Any:
        initializer = self.kernel_initializer
        if isinstance(initializer, keras.Initializer):
            initializer = initializer.clone()  # a random initializer repeats its numbers when it is called again
        return self.add_weight(name=name, shape=shape, initializer=initializer, regularizer=self.kernel_regularizer)

    def call(self, features: Any, frame_mask: Any = None, return_attention: bool = False, mask: Any = None) -> Any:
        frame_mask = join_masks(frame_mask, mask, features)
        features = keep_valid(features, frame_mask)
        if self.hidden_units is None:
            scores = ops.tanh(ops.matmul(features, self.kernel))  # (B, F, L, N)
        else:
            hidden = ops.matmul(features, self.hidden_kernel)  # (B, F, L, U)
            hidden = ops.tanh(hidden + self.hidden_bias if self.use_bias else hidden)
            scores = ops.matmul(hidden, self.kernel)  # (B, F, L, N)
        scores = ops.cast(ops.swapaxes(scores, -1, -2), "float32")  # (B, F, N, L)
        attention = ops.softmax(scores, axis=-1)
        if self.diversity_regularizer is not None:
            self.add_loss(self.diversity_regularizer(attention, frame_mask))
        pooled = ops.matmul(attention, ops.cast(features, "float32"))  # (B, F, N, D)
        pooled = self.finish_heads(pooled)
        batch, frames, _, channels = ops.shape(features)
        pooled = ops.reshape(pooled, (batch, frames, self.heads * channels))
        pooled = ops.cast(pooled, self.compute_dtype)
        return (pooled, attention) if return_attention else pooled

    def finish_heads(self, pooled: Any) -> Any:
        """Returns the heads that are concatenated, float32 (B, F, N, D). A subclass may change them.

        Args:
            pooled: Float32 (B, F, N, D), the weighted averages of each frame.
        """
        return pooled

    def compute_output_shape(
        self,
        features_shape: tuple[Any, ...],
        frame_mask_shape: tuple[Any, ...] | None = None,
        return_attention: bool = False,
    ) -> tuple[Any, ...]:
        batch, frames, locations, channels = features_shape
        pooled = (batch, frames, self.heads * channels)
        return (pooled, (batch, frames, self.heads, locations)) if return_attention else pooled

    def compute_output_spec(
        self, features: Any, frame_mask: Any = None, return_attention: bool = False, mask: Any = None
    ) -> Any:
        check_locations(features, join_masks(frame_mask, mask, features))
        pooled, attention = self.compute_output_shape(features.shape, return_attention=True)
        pooled = keras.KerasTensor(pooled, dtype=self.compute_dtype)
        return (pooled, keras.KerasTensor(attention, dtype="float32")) if return_attention else pooled

    def get_config(self) -> dict[str, Any]:
        config = {
            "heads": self.heads,
            "hidden_units": self.hidden_units,
            "diversity_regularizer": keras.regularizers.serialize(self.diversity_regularizer),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "use_bias": self.use_bias,
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
        return {**super().get_config(), **config}

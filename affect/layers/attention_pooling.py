"""Spatial attention: each frame's feature map becomes one vector per head."""

import keras
from keras import ops

from affect.layers.frame_mask import check_frame_mask


@keras.saving.register_keras_serializable(package="affect")
class AttentionPooling(keras.layers.Layer):
    """Averages the locations of each frame, weighted by N learned attentions.

    A = softmax(W_s2 tanh(W_s1 Rᵀ)), softmax over the L locations, and the pooled frame is the N rows of
    AR side by side (eq. 2-4; `heads=1` is eq. 2-3). `hidden_units=None` leaves one layer,
    A = softmax(tanh(W Rᵀ)), the form of the authors' later code. Its scores lie in [-1, 1], so no location can
    weigh more than e² ≈ 7.4 times another (at most 0.133 of the whole for L=49): heads stay soft, and the
    diversity penalty cannot come near 0. With `hidden_units` the scores are unbounded.

    Frames do not see each other here, so `frame_mask` does not alter `pooled` or `attention`: masked
    frames are pooled like the others, for the temporal pooling to leave out. The mask only takes them out
    of the diversity penalty.

    Args:
        heads: Integer ≥ 1, the number N of attentions. Defaults to 1.
        hidden_units: Integer ≥ 1, the units U between the two layers of the attention network (the paper
            does not give U; the first commit of its authors' code has 512), or `None` (default) for one layer.
        use_bias: Boolean, whether the first of two layers adds a bias before its tanh, as in the first commit of
            the authors' code; needs `hidden_units`. A bias of the last layer would be the same for all locations
            and change nothing. Defaults to `False`, as in the paper.
        diversity_regularizer: `AttentionDiversity`, or any callable of `(attention, frame_mask)` that
            returns a scalar. It is passed to `add_loss`, hence part of the loss in `fit` and, like all
            Keras regularizers, in `evaluate`; `predict` ignores it. Defaults to `None`.
        kernel_initializer: Initializer of the kernels. Defaults to `"glorot_uniform"`.
        kernel_regularizer: Regularizer of the kernels. Defaults to `None`.
        bias_initializer: Initializer of the bias. Defaults to `"zeros"`.
        **kwargs: `name`, `dtype` and the like, passed to `keras.layers.Layer`.

    Call arguments:
        features: Float tensor of local features R.
        frame_mask: Optional bool tensor, `True` for frames that exist.
        return_attention: Boolean, whether to return `(pooled, attention)`. Defaults to `False`.

    Input shape:
        `features` `(B, F, L, D)`, `frame_mask` `(B, F)`.

    Output shape:
        `pooled` `(B, F, N*D)` in the compute dtype, head after head; `attention` `(B, F, N, L)` in float32,
        each row summing to 1. Softmax and average are computed in float32 under any dtype policy.

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
        heads=1,
        hidden_units=None,
        diversity_regularizer=None,
        kernel_initializer="glorot_uniform",
        kernel_regularizer=None,
        use_bias=False,
        bias_initializer="zeros",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not isinstance(heads, int) or heads < 1:
            raise ValueError(f"Invalid `heads`. Expected an integer of at least 1. Received: heads={heads}")
        if hidden_units is not None and (not isinstance(hidden_units, int) or hidden_units < 1):
            raise ValueError(
                "Invalid `hidden_units`. Expected None or an integer of at least 1. "
                f"Received: hidden_units={hidden_units}"
            )
        if use_bias and hidden_units is None:
            raise ValueError(
                "`use_bias` is about the first of two layers. Expected `hidden_units` beside it. "
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

    def build(self, features_shape):
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

    def _add_kernel(self, name, shape):
        initializer = self.kernel_initializer
        if isinstance(initializer, keras.Initializer):
            initializer = initializer.clone()  # a random one repeats its numbers when it is called again
        return self.add_weight(name=name, shape=shape, initializer=initializer, regularizer=self.kernel_regularizer)

    def call(self, features, frame_mask=None, return_attention=False):
        check_frame_mask(frame_mask, features)
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

    def finish_heads(self, pooled):
        """Returns the heads (B, F, N, D), float32, as they are concatenated; a subclass may change them."""
        return pooled

    def compute_output_shape(self, features_shape, frame_mask_shape=None, return_attention=False):
        batch, frames, locations, channels = features_shape
        pooled = (batch, frames, self.heads * channels)
        return (pooled, (batch, frames, self.heads, locations)) if return_attention else pooled

    def compute_output_spec(self, features, frame_mask=None, return_attention=False):
        check_frame_mask(frame_mask, features)
        pooled, attention = self.compute_output_shape(features.shape, return_attention=True)
        pooled = keras.KerasTensor(pooled, dtype=self.compute_dtype)
        return (pooled, keras.KerasTensor(attention, dtype="float32")) if return_attention else pooled

    def get_config(self):
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

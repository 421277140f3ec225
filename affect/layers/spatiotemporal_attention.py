"""Spatiotemporal attention: a ConvLSTM reads the frames' feature maps and weights each location."""

from typing import Any

import keras
from keras import ops

from affect.config.experiment import SpatiotemporalActivation
from affect.layers.frame_mask import join_masks, keep_valid, valid_frames


@keras.saving.register_keras_serializable(package="affect")
class SpatiotemporalAttention(keras.layers.Layer):
    """The temporal decoder of paper B: feature maps of the frames → attention A over their locations.

    A `keras.layers.ConvLSTM2D` keeps the spatial structure of the maps. A linear map of its output scores each location
    of each frame. Frames are read in order, so the attention of a frame depends on the frames before it.

    A masked frame enters the ConvLSTM as zeros, is still a time step, and has attention 0 everywhere. Masking is a
    product: masked frames may hold anything, also NaN. TFLite needs a static batch and static frames here.

    Args:
        filters: Channels of the ConvLSTM's state, at least 1. Defaults to 64.
        kernel_size: Side of its convolutions in locations, at least 1. Defaults to 3.
        activation: `"softmax"` (default) over the h·w locations of each frame, times h·w, so that uniform attention is
            1; or `"sigmoid"` of each location on its own, with a bias.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        features: Float tensor, the feature map of each frame, in time order.
        frame_mask: Optional bool tensor, `True` for frames that exist.
        mask: The same under Keras's name; `keras.layers.Masking` below the layer gives it.

    Input shape:
        `features` `(B, F, h, w, D)`, `frame_mask` `(B, F)`.

    Output shape:
        `(B, F, h, w)`, float32 under any dtype policy; the ConvLSTM runs in the compute dtype.

    Example:

    >>> SpatiotemporalAttention(8)(np.ones((2, 16, 12, 12, 256))).shape
    (2, 16, 12, 12)

    Reference:
        Spatiotemporal Attention Based Deep Neural Networks for Emotion Recognition, ICASSP 2018. Its poster names the
        ConvLSTM and X'' = A ⊙ X. The sizes, the scores and their activation are assumed.
    """

    def __init__(
        self, filters: int = 64, kernel_size: int = 3, activation: SpatiotemporalActivation = "softmax", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        for name, value in (("filters", filters), ("kernel_size", kernel_size)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"Invalid `{name}`. Expected an integer of at least 1. Received: {name}={value!r}")
        if activation not in ("softmax", "sigmoid"):
            raise ValueError(
                f"Unknown `activation`. Expected 'softmax' or 'sigmoid'. Received: activation={activation!r}"
            )
        self.filters = filters
        self.kernel_size = kernel_size
        self.activation = activation
        shared = {"dtype": self.dtype_policy}
        self.decoder = keras.layers.ConvLSTM2D(
            filters, kernel_size, padding="same", return_sequences=True, name="decoder", **shared
        )
        # A softmax cancels a bias, which is equal for all locations of a frame.
        self.scores = keras.layers.Dense(1, use_bias=activation == "sigmoid", name="scores", **shared)
        self.input_spec = keras.layers.InputSpec(ndim=5)

    def build(self, features_shape: tuple[Any, ...]) -> None:
        self.input_spec = keras.layers.InputSpec(ndim=5, axes={-1: features_shape[-1]})
        self.decoder.build(features_shape)
        self.scores.build((*features_shape[:-1], self.filters))

    def call(self, features: Any, frame_mask: Any = None, mask: Any = None) -> Any:
        frame_mask = join_masks(frame_mask, mask, features)
        batch, frames, height, width, _ = ops.shape(features)
        valid = ops.expand_dims(valid_frames(frame_mask, features, features.dtype), -1)  # (B, F, 1)
        features = keep_valid(features, frame_mask)
        scores = ops.cast(self.scores(self.decoder(features)), "float32")  # (B, F, h, w, 1)
        scores = ops.reshape(scores, (batch, frames, height * width))
        if self.activation == "softmax":
            attention = ops.softmax(scores, axis=-1) * (height * width)
        else:
            attention = ops.sigmoid(scores)
        return ops.reshape(attention * ops.cast(valid, "float32"), (batch, frames, height, width))

    def compute_output_shape(
        self, features_shape: tuple[Any, ...], frame_mask_shape: tuple[Any, ...] | None = None
    ) -> tuple[Any, ...]:
        return tuple(features_shape[:-1])

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        return previous_mask

    def compute_output_spec(self, features: Any, frame_mask: Any = None, mask: Any = None) -> Any:
        join_masks(frame_mask, mask, features)
        return keras.KerasTensor(self.compute_output_shape(features.shape), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        config = {"filters": self.filters, "kernel_size": self.kernel_size, "activation": self.activation}
        return {**super().get_config(), **config}

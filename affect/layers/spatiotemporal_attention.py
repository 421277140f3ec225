"""Spatiotemporal attention: a ConvLSTM reads the frames' feature maps and says how much each location counts."""

import keras
from keras import ops

from affect.layers.frame_mask import check_frame_mask, valid_frames


@keras.saving.register_keras_serializable(package="affect")
class SpatiotemporalAttention(keras.layers.Layer):
    """The temporal decoder of paper B: feature maps of the frames → attention A over their locations.

    A `keras.layers.ConvLSTM2D` keeps the maps' spatial structure through time; a linear map of its output scores each
    location of each frame. Frames are read in order, so attention to a frame depends on those before it.

    A masked frame enters as zeros, is a step of time all the same, and has attention 0 everywhere. Masking is a
    product: masked frames may hold anything finite, but no NaN. TFLite needs batch and frames to be static here.

    Args:
        filters: Integer ≥ 1, channels of the ConvLSTM's state. Defaults to 64.
        kernel_size: Integer ≥ 1, side of its convolutions in locations. Defaults to 3.
        activation: `"softmax"` (default), over the h·w locations of each frame and times h·w, so that attention to all
            alike is 1; or `"sigmoid"`, each location on its own, with a bias.
        **kwargs: `name`, `dtype` and the like, passed to `keras.layers.Layer`.

    Call arguments:
        features: Float tensor, the feature map of each frame, in time order.
        frame_mask: Optional bool tensor, `True` for frames that exist.

    Input shape:
        `features` `(B, F, h, w, D)`, `frame_mask` `(B, F)`.

    Output shape:
        `(B, F, h, w)`, float32 under any dtype policy; the ConvLSTM runs in the compute dtype.

    Example:

    >>> SpatiotemporalAttention(8)(np.ones((2, 16, 12, 12, 256))).shape
    (2, 16, 12, 12)

    Reference:
        Spatiotemporal Attention Based Deep Neural Networks for Emotion Recognition, ICASSP 2018. Its poster names the
        ConvLSTM and X'' = A ⊙ X. Sizes, the scores and what makes attention of them are assumed.
    """

    def __init__(self, filters=64, kernel_size=3, activation="softmax", **kwargs):
        super().__init__(**kwargs)
        for name, value in (("filters", filters), ("kernel_size", kernel_size)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"Invalid `{name}`. Expected an integer of at least 1. Received: {name}={value}")
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
        # One number for all locations of a frame drops out of a softmax.
        self.scores = keras.layers.Dense(1, use_bias=activation == "sigmoid", name="scores", **shared)
        self.input_spec = keras.layers.InputSpec(ndim=5)

    def build(self, features_shape):
        self.input_spec = keras.layers.InputSpec(ndim=5, axes={-1: features_shape[-1]})
        self.decoder.build(features_shape)
        self.scores.build((*features_shape[:-1], self.filters))

    def call(self, features, frame_mask=None):
        batch, frames, height, width, _ = ops.shape(features)
        valid = ops.expand_dims(valid_frames(frame_mask, features, features.dtype), -1)  # (B, F, 1)
        features = features * valid[..., None, None]
        scores = ops.cast(self.scores(self.decoder(features)), "float32")  # (B, F, h, w, 1)
        scores = ops.reshape(scores, (batch, frames, height * width))
        if self.activation == "softmax":
            attention = ops.softmax(scores, axis=-1) * (height * width)
        else:
            attention = ops.sigmoid(scores)
        return ops.reshape(attention * ops.cast(valid, "float32"), (batch, frames, height, width))

    def compute_output_shape(self, features_shape, frame_mask_shape=None):
        return tuple(features_shape[:-1])

    def compute_output_spec(self, features, frame_mask=None):
        check_frame_mask(frame_mask, features)
        return keras.KerasTensor(self.compute_output_shape(features.shape), dtype="float32")

    def get_config(self):
        config = {"filters": self.filters, "kernel_size": self.kernel_size, "activation": self.activation}
        return {**super().get_config(), **config}

"""LSTM pooling: a recurrent network reads the frames in order, and its last output is the clip."""

from typing import Any

import keras
from keras import ops

from affect.layers.frame_mask import join_masks, keep_valid, valid_frames


@keras.saving.register_keras_serializable(package="affect")
class LSTMPooling(keras.layers.Layer):
    """Reads the valid frames of a clip in time order with one `keras.layers.LSTM`; the clip is its last output.

    Masked frames are not read, wherever they are: a product with a matrix of zeros and ones moves the valid frames to
    the front, and another moves the outputs back to their places. Keras's own RNN mask is not used, because with it
    cuDNN refuses a clip with a gap and a clip without a valid frame. Here the latter gives zeros.

    Masked frames may hold anything, also NaN. TFLite needs a static batch here; the number of frames may be
    dynamic.

    Args:
        units: Size K' of the LSTM's state, at least 1. Defaults to 512.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name`. The layer computes in float32 and does not cast its
            inputs to a smaller dtype, under any dtype policy.

    Call arguments:
        frame_features: Float tensor, a vector for each frame, in time order.
        frame_mask: Optional bool tensor, `True` for frames that exist.
        mask: The same under Keras's name; `keras.layers.Masking` below the layer gives it.
        return_frames: Whether to return `(clip, frames)` or `clip`. Defaults to `False`.

    Input shape:
        `frame_features` `(B, F, K)`, `frame_mask` `(B, F)`.

    Output shape:
        All float32. `clip` `(B, units)`, the output at the last valid frame; `frames` `(B, F, units)`, the output at
        each frame, 0 where masked. The classifier of `clip` can also be applied to `frames`: it then gives the class of
        the clip up to each frame.

    Example:

    >>> clip, frames = LSTMPooling(8)(np.ones((2, 16, 512)), return_frames=True)
    >>> clip.shape, frames.shape
    ((2, 8), (2, 16, 8))

    Reference:
        Emotion Recognition with Spatial Attention and Temporal Softmax Pooling, arXiv:1910.01254, Table 2, VGG16+LSTM,
        which quotes a number from another paper. The size of its LSTM is not given; 512 is assumed.
    """

    pools = "features"

    def __init__(self, units: int = 512, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        if not isinstance(units, int) or units < 1:
            raise ValueError(f"Invalid `units`. Expected an integer of at least 1. Received: units={units!r}")
        self.units = units
        self.lstm = keras.layers.LSTM(units, return_sequences=True, dtype="float32", name="lstm")
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def build(self, frame_features_shape: tuple[Any, ...]) -> None:
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: frame_features_shape[-1]})
        self.lstm.build(frame_features_shape)

    def call(self, frame_features: Any, frame_mask: Any = None, return_frames: bool = False, mask: Any = None) -> Any:
        frame_mask = join_masks(frame_mask, mask, frame_features)
        features = keep_valid(ops.cast(frame_features, "float32"), frame_mask)
        valid = valid_frames(frame_mask, features)  # (B, F)
        count = ops.cumsum(valid, axis=1)  # (B, F): valid frames so far
        place = ops.expand_dims(count, 1)  # (B, 1, F): the new place of each valid frame, counted from 1
        row = ops.expand_dims(ops.cumsum(ops.ones_like(valid), axis=1), -1)  # (B, F, 1): 1, 2, ..., F
        move = ops.cast(ops.equal(row, place), "float32") * ops.expand_dims(valid, 1)  # (B, F, F)
        outputs = self.lstm(ops.matmul(move, features))  # (B, F, units)
        is_last = ops.cast(ops.equal(row, count[:, -1:, None]), "float32")  # (B, F, 1): 0 without a valid frame
        clip = ops.sum(outputs * is_last, axis=1)  # (B, units)
        if not return_frames:
            return clip
        return clip, ops.matmul(ops.swapaxes(move, 1, 2), outputs)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        return None  # a clip has no frames

    def compute_output_shape(
        self,
        frame_features_shape: tuple[Any, ...],
        frame_mask_shape: tuple[Any, ...] | None = None,
        return_frames: bool = False,
    ) -> tuple[Any, ...]:
        batch, frames, _ = frame_features_shape
        clip = (batch, self.units)
        return (clip, (batch, frames, self.units)) if return_frames else clip

    def compute_output_spec(
        self, frame_features: Any, frame_mask: Any = None, return_frames: bool = False, mask: Any = None
    ) -> Any:
        join_masks(frame_mask, mask, frame_features)
        shapes = self.compute_output_shape(frame_features.shape, return_frames=True)
        specs = tuple(keras.KerasTensor(shape, dtype="float32") for shape in shapes)
        return specs if return_frames else specs[0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}

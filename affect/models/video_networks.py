"""The network of paper B: faces or features → valence and arousal of frames, or the class of a clip."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from affect.config import VideoClassifier, VideoNetwork, VideoRegressor
from affect.data.labels import DIMENSIONS
from affect.data.lgbp import FEATURES
from affect.layers import (
    SPATIAL_POOLINGS,
    TEMPORAL_POOLINGS,
    LastFramePooling,
    MaskFrames,
    MergeFrames,
    PixelScaling,
    SpatiotemporalAttention,
    SplitFrames,
)
from affect.models.network import FaceNetwork
from affect.models.precision import use_precision
from affect.regularizers import AttentionDiversity

# Colours with a mean near 0 and a deviation near 1. With colours in [0, 1] the network does not learn for some epochs.
SCALING: dict[str, Any] = {"matrix": [[1 / 64, 0, 0], [0, 1 / 64, 0], [0, 0, 1 / 64]], "offset": [-2, -2, -2]}


def build_video_regressor(config: VideoRegressor) -> keras.Model:
    """Builds the functional model of a row of paper B's tables.

    2D-CNN: faces → feature maps, frame by frame. With `"rnn"`, `"lstm"` and `"bilstm"`, a recurrent network reads the
    averages of the maps. With features instead of faces, it reads the features, standardised with the mean and the
    deviation of the training windows.
    3D-CNN: convolutions over space and time give X. With attention, a second 2D-CNN and a ConvLSTM give A, and
    X'' = A ⊙ X. More convolutions follow, then averages over the locations.
    Both end with a dense layer and a linear layer for each frame. The spatial poolings of paper A, with their penalty
    on attention, may replace the averages.

    A masked frame is a time step with zero features, which are set to zero again after each convolution, like the
    padding at the ends of a window. Masked frames at the end of a window therefore do not change earlier frames.
    `"bilstm"` skips masked frames, because its backward direction would read them first. The output of a masked frame
    is 0.

    Reshapes replace TimeDistributed and MaxPooling3D, so that the SavedModel with static batch and frames converts to
    TFLite with builtin operators alone.

    Args:
        config: Of the network.

    Returns:
        Model of `{"faces": uint8 (B, F, H, W, 3) RGB, "frame_mask": bool (B, F)}` → float32 (B, F, 2), or (B, 2) with
        `predicts="end"`, in the order of `affect.data.labels.DIMENSIONS`. B and F are dynamic. With
        `features="lgbp_top"`, `features` float32 (B, F, `affect.data.lgbp.FEATURES`) replaces `faces`.
    """
    frame_mask = keras.Input((None,), dtype="bool", name="frame_mask")
    if config.features == "lgbp_top":
        given = keras.Input((None, FEATURES), dtype="float32", name="features")
        # The mean of the features is large beside their differences.
        x = layers.BatchNormalization(center=False, scale=False, name="standardization")(given, mask=frame_mask)
        x = _mask(x, frame_mask)
    else:
        given, x = _pool_faces(frame_mask, config)
    x = _run_through_time(x, frame_mask, config)
    x = layers.Dense(len(DIMENSIONS), dtype="float32", name="dimensions")(x)
    if config.predicts == "end":
        outputs = LastFramePooling(name="end")(x, frame_mask=frame_mask)
    else:
        outputs = _mask(x, frame_mask)
    return FaceNetwork({given.name: given, "frame_mask": frame_mask}, outputs, name="affect_regression")


def build_video_classifier(config: VideoClassifier, classes: Sequence[str]) -> keras.Model:
    """Builds paper B's network for classes: it pools the scores of the frames over time.

    Masks are as in `build_video_regressor`. The pooling leaves out masked frames.

    Args:
        config: Of the network.
        classes: E class names.

    Returns:
        Model with the inputs and outputs of `affect.models.frame_classifier.build_frame_classifier`: clip logits
        float32 (B, E), all 0 for a clip without a valid frame. `affect.models.frame_classifier.detail_classifier` gives
        its intermediate outputs.
    """
    frame_mask = keras.Input((None,), dtype="bool", name="frame_mask")
    faces, x = _pool_faces(frame_mask, config)
    x = _run_through_time(x, frame_mask, config)
    frame_logits = layers.Dense(len(classes), dtype="float32", name="frame_logits")(x)  # (B, F, E)
    # `_mask` also removes the mask that Keras attaches after a bilstm. The pooling would warn about it.
    logits, _, _ = TEMPORAL_POOLINGS[config.temporal_pooling](name="temporal_pooling")(
        _mask(frame_logits, frame_mask), frame_mask=frame_mask, return_importance=True
    )  # (B, E), (B, F), (B, F, E)
    return FaceNetwork({"faces": faces, "frame_mask": frame_mask}, logits, name="affect_video_model")


def _pool_faces(frame_mask: Any, config: VideoNetwork) -> tuple[Any, Any]:
    """Returns the input `faces` and a vector for each frame: (B, F, D), or with N heads (B, F, N*D), 0 where masked."""
    faces = keras.Input((None, config.face_size, config.face_size, 3), dtype="uint8", name="faces")
    pixels = PixelScaling(**SCALING, name="pixel_scaling")(faces)  # (B, F, H, W, 3)
    return faces, _pool_locations(_compute_maps(pixels, frame_mask, config), frame_mask, config)


def _run_through_time(x: Any, frame_mask: Any, config: VideoNetwork) -> Any:
    """Applies the recurrent network, if there is one, and the dense layer: (B, F, D) → (B, F, U)."""
    if config.temporal == "rnn":
        x = layers.SimpleRNN(config.recurrent_units, return_sequences=True, name="rnn")(x)
    elif config.temporal == "lstm":
        x = layers.LSTM(config.recurrent_units, return_sequences=True, name="lstm")(x)
    elif config.temporal == "bilstm":
        x = layers.Bidirectional(layers.LSTM(config.recurrent_units, return_sequences=True), name="bilstm")(
            x, mask=frame_mask
        )
    x = layers.Dense(config.hidden_units, activation="relu", name="hidden")(x)
    return layers.Dropout(config.dropout, name="dropout")(x)


@use_precision("float32")
def detail_regressor(model: keras.Model) -> keras.Model:
    """Returns the same network with its attention as an output.

    Args:
        model: From `build_video_regressor`, or read from its file.

    Returns:
        Model with a dict of outputs: `dimensions`, the output of the model; and `attention`, if the model has
        spatiotemporal attention, (B, F, h, w), or else the attention of a spatial pooling, (B, F, N, L).
    """
    outputs, layer_of = {"dimensions": model.output}, {layer.name: layer for layer in model.layers}
    if "attention" in layer_of:
        outputs["attention"] = layer_of["attention"].output
    elif "spatial_pooling" in layer_of:
        outputs["attention"] = layer_of["spatial_pooling"].output[1]
    return FaceNetwork(model.input, outputs)


def _compute_maps(pixels: Any, frame_mask: Any, config: VideoNetwork) -> Any:
    """Applies the 2D-CNN or the 3D-CNN: (B, F, H, W, 3) → feature maps (B, F, h, w, D), 0 where masked."""
    if config.temporal != "conv3d":
        return _encode(pixels, frame_mask, config)
    x = _mask(pixels, frame_mask)
    for block in range(1, config.blocks + 1):
        filters = config.filters * 2 ** (block - 1)
        x = _convolve(x, frame_mask, filters, config.kernel_size_3d, f"cnn3d_conv{block}")
        x = MergeFrames(name=f"cnn3d_merge{block}")(x)
        x = layers.MaxPooling2D(2, name=f"cnn3d_pool{block}")(x)
        x = SplitFrames(name=f"cnn3d_split{block}")(x, frame_mask)
    if config.attention:
        attention = SpatiotemporalAttention(
            config.attention_filters,
            config.attention_kernel_size,
            config.attention,
            name="attention",
        )(_encode(pixels, frame_mask, config), frame_mask=frame_mask)  # (B, F, h, w)
        x = x * ops.cast(ops.expand_dims(attention, -1), x.dtype)  # X'' = A ⊙ X
    for block in range(1, config.attended_blocks + 1):
        x = _convolve(x, frame_mask, x.shape[-1], config.kernel_size_3d, f"attended_conv{block}")
    return x


def _pool_locations(maps: Any, frame_mask: Any, config: VideoNetwork) -> Any:
    """Pools the map of each frame: (B, F, h, w, D) → (B, F, D), or with N heads (B, F, N*D), 0 where masked."""
    if config.spatial_pooling == "average":
        return ops.mean(maps, axis=(2, 3))
    _, _, height, width, channels = maps.shape
    locations = layers.Reshape((-1, height * width, channels), name="locations")(maps)  # (B, F, L, D)
    x, _ = SPATIAL_POOLINGS[config.spatial_pooling](
        heads=config.heads,
        hidden_units=config.pooling_units,
        diversity_regularizer=AttentionDiversity(config.diversity),
        name="spatial_pooling",
    )(locations, frame_mask=frame_mask, return_attention=True)
    return _mask(x, frame_mask)  # SHIFT adds an offset, so masked frames are no longer 0.


def _encode(pixels: Any, frame_mask: Any, config: VideoNetwork) -> Any:
    """Applies the 2D-CNN to each frame: (B, F, H, W, 3) → (B, F, h, w, D), 0 where masked."""
    x = MergeFrames(name="encoder_merge")(pixels)
    for block in range(1, config.blocks + 1):
        filters, name = config.filters * 2 ** (block - 1), f"encoder_conv{block}"
        x = layers.Conv2D(filters, config.kernel_size, padding="same", activation="relu", name=name)(x)
        x = layers.MaxPooling2D(2, name=f"encoder_pool{block}")(x)
    return _mask(SplitFrames(name="encoder_split")(x, frame_mask), frame_mask)


def _convolve(x: Any, frame_mask: Any, filters: int, kernel_size: int, name: str) -> Any:
    return _mask(layers.Conv3D(filters, kernel_size, padding="same", activation="relu", name=name)(x), frame_mask)


def _mask(x: Any, frame_mask: Any) -> Any:
    """Sets masked frames of `(B, F, ...)` to 0."""
    return MaskFrames()(x, frame_mask)

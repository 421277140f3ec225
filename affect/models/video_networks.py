"""The network of paper B, whole: faces, or features → valence and arousal of frames, or the class of a clip."""

import keras
from keras import layers, ops

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
from affect.models.precision import computing_in
from affect.regularizers import AttentionDiversity

# About 0, with a deviation of about 1. From colours of 0 to 1 the network stays where it starts for epochs.
SCALING = {"matrix": [[1 / 64, 0, 0], [0, 1 / 64, 0], [0, 0, 1 / 64]], "offset": [-2, -2, -2]}


def build_video_regressor(config):
    """Builds the functional model of a row of paper B's tables.

    2D-CNN: faces → feature maps, frame by frame; with `"rnn"`, `"lstm"` and `"bilstm"`, a recurrent network reads their
    averages. With features instead of faces it reads those, centred and scaled as they are in the training windows.
    3D-CNN: convolutions over space and time give X; with attention, a second 2D-CNN and a ConvLSTM give A, and
    X'' = A ⊙ X; more convolutions; averages over the locations. Then, for each frame, a dense layer and a linear one.
    The spatial poolings of paper A, with their penalty on attention, may replace the averages.

    A masked frame is a step of time whose features are zeros, behind each convolution again, like what lies beyond a
    window's ends: masked frames at the end of a window change nothing in those before. `"bilstm"`, which would meet
    these first, skips masked frames. Their own output is 0.

    Reshapes replace TimeDistributed and MaxPooling3D: with batch and frames static, the SavedModel converts
    to TFLite with builtin operators alone.

    Args:
        config: `affect.config.VideoRegressor`.

    Returns:
        `keras.Model` of `{"faces": uint8 (B, F, H, W, 3) RGB, "frame_mask": bool (B, F)}` → float32 (B, F, 2), or with
        `predicts="end"` (B, 2), in the order of `affect.data.labels.DIMENSIONS`; B and F are free. In place of `faces`,
        `features="lgbp_top"` has `features`, float32 (B, F, `affect.data.lgbp.FEATURES`).
    """
    frame_mask = keras.Input((None,), dtype="bool", name="frame_mask")
    if config.features == "lgbp_top":
        given = keras.Input((None, FEATURES), dtype="float32", name="features")
        # What all faces share outweighs what tells them apart.
        x = layers.BatchNormalization(center=False, scale=False, name="standardization")(given, mask=frame_mask)
        x = _masked(x, frame_mask)
    else:
        given, x = _faces(frame_mask, config)
    x = _through_time(x, frame_mask, config)
    x = layers.Dense(len(DIMENSIONS), dtype="float32", name="dimensions")(x)
    if config.predicts == "end":
        outputs = LastFramePooling(name="end")(x, frame_mask=frame_mask)
    else:
        outputs = _masked(x, frame_mask)
    return FaceNetwork({given.name: given, "frame_mask": frame_mask}, outputs, name="affect_regression")


def build_video_classifier(config, classes):
    """Builds paper B's network on classes: each frame's scores, instead of valence and arousal, pooled over time.

    Masks are as in `build_video_regressor`, and masked frames are left out of the pooling.

    Args:
        config: `affect.config.VideoClassifier`.
        classes: Class names, E of them.

    Returns:
        `keras.Model` as of `affect.models.frame_classifier.build_frame_classifier`: clip logits float32 (B, E), all 0
        for a clip without a valid frame. `affect.models.frame_classifier.detail_classifier` gives what lies between.
    """
    frame_mask = keras.Input((None,), dtype="bool", name="frame_mask")
    faces, x = _faces(frame_mask, config)
    x = _through_time(x, frame_mask, config)
    frame_logits = layers.Dense(len(classes), dtype="float32", name="frame_logits")(x)  # (B, F, E)
    # The product ends the mask of its own that Keras attaches to what follows a bilstm, and would warn of.
    logits, _, _ = TEMPORAL_POOLINGS[config.temporal_pooling](name="temporal_pooling")(
        _masked(frame_logits, frame_mask), frame_mask=frame_mask, return_importance=True
    )  # (B, E), (B, F), (B, F, E)
    return FaceNetwork({"faces": faces, "frame_mask": frame_mask}, logits, name="affect_video_model")


def _faces(frame_mask, config):
    """Returns the input `faces` and what becomes of it: (B, F, D), or of N heads (B, F, N*D), 0 where masked."""
    faces = keras.Input((None, config.face_size, config.face_size, 3), dtype="uint8", name="faces")
    pixels = PixelScaling(**SCALING, name="pixel_scaling")(faces)  # (B, F, H, W, 3)
    return faces, _pooled(_maps(pixels, frame_mask, config), frame_mask, config)


def _through_time(x, frame_mask, config):
    """The recurrent network, if there is one, and the dense layer: (B, F, D) → (B, F, U)."""
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


@computing_in("float32")
def detail_regressor(model):
    """Returns the same network with its attention as an output.

    Args:
        model: From `build_video_regressor`, or read from its file.

    Returns:
        `keras.Model` with a dict of outputs: `dimensions`, those of the model, and, where it has attention,
        `attention`: (B, F, h, w), the spatiotemporal one; or else (B, F, N, L), of a spatial pooling, as of paper A.
    """
    outputs, layer_of = {"dimensions": model.output}, {layer.name: layer for layer in model.layers}
    if "attention" in layer_of:
        outputs["attention"] = layer_of["attention"].output
    elif "spatial_pooling" in layer_of:
        outputs["attention"] = layer_of["spatial_pooling"].output[1]
    return FaceNetwork(model.input, outputs)


def _maps(pixels, frame_mask, config):
    """The feature maps of the 2D-CNN or the 3D-CNN: (B, F, H, W, 3) → (B, F, h, w, D), 0 where masked."""
    if config.temporal != "conv3d":
        return _encoded(pixels, frame_mask, config)
    x = _masked(pixels, frame_mask)
    for block in range(1, config.blocks + 1):
        filters = config.filters * 2 ** (block - 1)
        x = _conv3d(x, frame_mask, filters, config.kernel_size_3d, f"cnn3d_conv{block}")
        x = MergeFrames(name=f"cnn3d_merge{block}")(x)
        x = layers.MaxPooling2D(2, name=f"cnn3d_pool{block}")(x)
        x = SplitFrames(name=f"cnn3d_split{block}")(x, frame_mask)
    if config.attention:
        attention = SpatiotemporalAttention(
            config.attention_filters, config.attention_kernel_size, config.attention, name="attention"
        )(_encoded(pixels, frame_mask, config), frame_mask=frame_mask)  # (B, F, h, w)
        x = x * ops.cast(ops.expand_dims(attention, -1), x.dtype)  # X'' = A ⊙ X
    for block in range(1, config.attended_blocks + 1):
        x = _conv3d(x, frame_mask, x.shape[-1], config.kernel_size_3d, f"attended_conv{block}")
    return x


def _pooled(maps, frame_mask, config):
    """A vector of each frame's map: (B, F, h, w, D) → (B, F, D), or of N heads (B, F, N*D), 0 where masked."""
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
    return _masked(x, frame_mask)  # SHIFT adds an offset, so masked frames are no longer 0.


def _encoded(pixels, frame_mask, config):
    """The 2D-CNN on each frame: (B, F, H, W, 3) → (B, F, h, w, D), 0 where masked."""
    x = MergeFrames(name="encoder_merge")(pixels)
    for block in range(1, config.blocks + 1):
        filters, name = config.filters * 2 ** (block - 1), f"encoder_conv{block}"
        x = layers.Conv2D(filters, config.kernel_size, padding="same", activation="relu", name=name)(x)
        x = layers.MaxPooling2D(2, name=f"encoder_pool{block}")(x)
    return _masked(SplitFrames(name="encoder_split")(x, frame_mask), frame_mask)


def _conv3d(x, frame_mask, filters, kernel_size, name):
    return _masked(layers.Conv3D(filters, kernel_size, padding="same", activation="relu", name=name)(x), frame_mask)


def _masked(x, frame_mask):
    """Returns `(B, F, ...)` with zeros in the masked frames."""
    return MaskFrames()(x, frame_mask)

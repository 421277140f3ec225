"""The network of paper A."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from affect.config import FrameClassifier, Train
from affect.errors import InputError
from affect.layers import (
    SPATIAL_POOLINGS,
    TEMPORAL_POOLINGS,
    AverageScorePooling,
    LSTMPooling,
    MergeFrames,
    SpatiotemporalAttention,
    SplitFrames,
)
from affect.models.backbones import BACKBONES, build_backbone, build_head
from affect.models.blocks import set_trainable
from affect.models.network import FaceNetwork
from affect.models.other_backbones import adopt
from affect.models.precision import use_precision
from affect.regularizers import AttentionDiversity


def build_frame_classifier(
    config: FrameClassifier,
    classes: Sequence[str],
    train: Train | None = None,
    *,
    backbone: keras.Model | None = None,
) -> keras.Model:
    """Builds the functional model: faces → local features → one vector for each frame → clip logits.

    A temporal pooling of scores follows the classifier; a temporal pooling of features precedes it (`affect.layers`).

    Args:
        config: Of the network.
        classes: E class names.
        train: Given if the model is to be trained: `trainable` says which part of it. What is frozen computes as in
            evaluation, including batch normalisation.
        backbone: A functional or Sequential model from images (B, H, W, 3), RGB pixels of 0 to 255, to maps
            (B, h, w, D), which replaces `config.backbone`, its weights and its scaling. It is copied with its weights
            (`affect.models.other_backbones.adopt`). To train it with `affect train`, save it as a file `.keras`, and
            give the path as `model.backbone`.

    Returns:
        Model of `{"faces": uint8 (B, F, H, W, 3) RGB, "frame_mask": bool (B, F)}` → clip logits float32 (B, E), all 0
        for a clip without a valid frame. B and F are dynamic. `detail_classifier` gives its intermediate outputs.

    Raises:
        InputError: When a backbone or pooling is unknown, weights are missing, or the backbone's own head has other
            classes or is combined with a pooling of features.
    """
    _check_name("spatial_pooling", config.spatial_pooling, SPATIAL_POOLINGS, None)
    _check_name("temporal_pooling", config.temporal_pooling, TEMPORAL_POOLINGS)
    spatial_pooling = None if config.spatial_pooling is None else SPATIAL_POOLINGS[config.spatial_pooling]
    temporal_pooling = TEMPORAL_POOLINGS[config.temporal_pooling]
    if backbone is not None:
        backbone = adopt(backbone, config.face_size, config.output_stride)
    else:
        backbone = build_backbone(
            config.backbone,
            weights=config.weights,
            face_size=config.face_size,
            output_stride=config.output_stride,
            input_scaling=config.input_scaling,
        )
    if train is not None:
        set_trainable(backbone, train.trainable)
    size = backbone.input_shape[1]
    _, height, width, channels = backbone.output_shape

    faces = keras.Input((None, size, size, 3), dtype="uint8", name="faces")
    frame_mask = keras.Input((None,), dtype="bool", name="frame_mask")

    x = MergeFrames(name="merge_frames")(faces)  # (B*F, H, W, 3)
    x = backbone(x)  # (B*F, h, w, D)
    if spatial_pooling is None:
        _check_head(config, classes)
        x = build_head(config.backbone, weights=config.weights)(x)  # (B*F, E)
        x = SplitFrames(name="frame_logits")(x, faces)  # (B, F, E)
    else:
        x = keras.layers.Reshape((height * width, channels), name="locations")(x)  # (B*F, L, D)
        x = SplitFrames(name="local_features")(x, faces)  # (B, F, L, D)
        if spatial_pooling.has_attention:
            pooling = spatial_pooling(
                heads=config.heads,
                hidden_units=config.hidden_units,
                diversity_regularizer=AttentionDiversity(config.diversity),
                use_bias=config.hidden_units is not None and config.attention_bias,
                name="spatial_pooling",
                **(_make_attention_initializers(config, channels) if config.initial_weights == "pytorch" else {}),
            )
        else:
            pooling = spatial_pooling(name="spatial_pooling")
        x = _pool_space(x, frame_mask, pooling)  # (B, F, K)
        dropout = keras.layers.Dropout(config.dropout, name="dropout")
        classifier = keras.layers.Dense(
            len(classes),
            dtype="float32",
            name="frame_logits",
            **(_make_layer_initializers(x.shape[-1]) if config.initial_weights == "pytorch" else {}),
        )

    units = {"units": config.lstm_units} if config.temporal_pooling == "lstm" else {}
    pooling = temporal_pooling(**units, name="temporal_pooling")
    if spatial_pooling is None:
        logits, _, _ = pooling(x, frame_mask=frame_mask, return_importance=True)  # (B, E), (B, F), (B, F, E)
    else:
        logits = _pool_time(x, frame_mask, pooling, dropout, classifier)  # (B, E)
    return FaceNetwork({"faces": faces, "frame_mask": frame_mask}, logits, name="affect")


def _pool_space(x: Any, frame_mask: Any, pooling: keras.Layer) -> Any:
    if pooling.has_attention:
        x, _ = pooling(x, frame_mask=frame_mask, return_attention=True)  # (B, F, K), (B, F, N, L)
        return x
    return pooling(x)


def _pool_time(x: Any, frame_mask: Any, pooling: keras.Layer, dropout: keras.Layer, classifier: keras.Layer) -> Any:
    if pooling.pools == "scores":
        frame_logits = classifier(dropout(x))  # (B, F, E)
        logits, _, _ = pooling(frame_logits, frame_mask=frame_mask, return_importance=True)  # (B, E), (B, F), (B, F, E)
        return logits
    x, _ = pooling(x, frame_mask=frame_mask, return_frames=True)  # (B, K'), (B, F, K')
    is_seen = ops.cast(ops.any(frame_mask, axis=1, keepdims=True), "float32")
    return classifier(dropout(x)) * is_seen  # (B, E), without the bias of the classifier if no frame is valid


def separate_head(model: keras.Model) -> keras.Model:
    """Returns the part of the network above its backbone, with the same layers and variables.

    Args:
        model: From `build_frame_classifier`, with a spatial pooling.

    Returns:
        Model of `{"features": (B, F, L, D), "frame_mask": bool (B, F)}` → clip logits float32 (B, E). The features are
        the output of the layer `local_features`, in its dtype.
    """
    local = model.get_layer("local_features")
    features = keras.Input(local.output.shape[1:], dtype=local.compute_dtype, name="features")
    frame_mask = keras.Input((None,), dtype="bool", name="frame_mask")
    x = _pool_space(features, frame_mask, model.get_layer("spatial_pooling"))
    names = ("temporal_pooling", "dropout", "frame_logits")
    logits = _pool_time(x, frame_mask, *(model.get_layer(name) for name in names))
    return keras.Model({"features": features, "frame_mask": frame_mask}, logits)


def _make_layer_initializers(inputs: int) -> dict[str, keras.Initializer]:
    """Returns the initializers of PyTorch's linear layers and convolutions: U(±1/√inputs) for kernel and bias."""
    limit = inputs**-0.5
    return {
        "kernel_initializer": keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),  # has the same limit
        "bias_initializer": keras.initializers.RandomUniform(-limit, limit),
    }


def _make_attention_initializers(config: FrameClassifier, channels: int) -> dict[str, keras.Initializer]:
    """Returns the initializers of the attention layer in the code of paper A's authors."""
    shift = {"shift_initializer": keras.initializers.RandomNormal(stddev=config.heads**-0.25)}
    return _make_layer_initializers(channels) | (shift if config.spatial_pooling == "shift" else {})


@use_precision("float32")
def detail_classifier(model: keras.Model) -> keras.Model:
    """Returns the same network with its intermediate outputs.

    If features are pooled over time, `frame_logits` is the output of the classifier for the pooled features of each
    frame. Such a pooling produces no per-frame weight, so each of n valid frames has the importance 1/n.

    Args:
        model: From `build_frame_classifier` or `affect.models.video_networks.build_video_classifier`, or read from its
            file.

    Returns:
        Model with a dict of outputs: `logits` (B, E), `frame_logits` (B, F, E), `frame_importance` (B, F) and, if the
        model has attention, `attention` (B, F, N, L). If it has both spatial and spatiotemporal attention, this is the
        spatiotemporal attention, which is one head; with a softmax, it sums to L.
    """
    pooling, classifier = model.get_layer("temporal_pooling"), model.get_layer("frame_logits")
    if pooling.pools == "scores":
        frame_logits = classifier.output
        _, frame_importance, _ = pooling.output
    else:
        frame_logits = classifier(pooling.output[1])
        _, frame_importance, _ = AverageScorePooling(name="frame_importance")(
            frame_logits, frame_mask=model.input["frame_mask"], return_importance=True
        )
    outputs = {"logits": model.output, "frame_logits": frame_logits, "frame_importance": frame_importance}
    for layer in model.layers:
        if layer.name == "spatial_pooling" and layer.has_attention:
            outputs["attention"] = layer.output[1]
    for layer in model.layers:
        if isinstance(layer, SpatiotemporalAttention):
            _, _, height, width = layer.output.shape
            outputs["attention"] = keras.layers.Reshape((-1, 1, height * width), name="one_head")(layer.output)
    return FaceNetwork(model.input, outputs)


@use_precision("float32")
def frame_networks(model: keras.Model) -> dict[str, keras.Model]:
    """Returns networks that process one frame at a time and share the weights of the model.

    Args:
        model: From `build_frame_classifier`, or read from its file.

    Returns:
        Dict of models from and to dicts, with a dynamic B:
        `frame`: `faces` uint8 (B, H, W, 3) → `frame_logits` (B, E) if scores are pooled over time, else
        `frame_features` (B, K); and `attention` (B, N, L) if the model has spatial attention.
        `classify`, if features are pooled: `pooled_features` (B, K') → `logits` (B, E).
        `step`, if an LSTM of U units pools: `frame_features`, `hidden` and `cell`, both (B, U) and initially zeros →
        `hidden`, `cell` and `logits` (B, E) after this frame.
    """
    pooling, classifier = model.get_layer("temporal_pooling"), model.get_layer("frame_logits")
    pools_scores = pooling.pools == "scores"
    outputs = {"frame_logits" if pools_scores else "frame_features": pooling.input[0]}
    for layer in model.layers:
        if layer.name == "spatial_pooling" and layer.has_attention:
            outputs["attention"] = layer.output[1]
    faces = keras.Input(model.get_layer("faces").output.shape[2:], dtype="uint8", name="faces")
    is_frame = ops.ones_like(faces[:, :1, 0, 0], dtype="bool")  # (B, 1)
    one_frame = {"faces": ops.expand_dims(faces, 1), "frame_mask": is_frame}
    clips = keras.Model(model.input, outputs)(one_frame)
    networks = {"frame": FaceNetwork({"faces": faces}, {name: value[:, 0] for name, value in clips.items()})}
    if not pools_scores:
        pooled = keras.Input(pooling.output[0].shape[1:], name="pooled_features")
        networks["classify"] = keras.Model({"pooled_features": pooled}, {"logits": classifier(pooled)})
    if isinstance(pooling, LSTMPooling):
        features = keras.Input(pooling.input[0].shape[2:], name="frame_features")
        hidden, cell = (keras.Input((pooling.units,), name=name) for name in ("hidden", "cell"))
        output, (_, cell_after) = pooling.lstm.cell(features, [hidden, cell])
        networks["step"] = keras.Model(
            {"frame_features": features, "hidden": hidden, "cell": cell},
            {"hidden": output, "cell": cell_after, "logits": classifier(output)},
        )
    return networks


def face_size_of(model: keras.Model) -> int:
    """Returns the height and width, in pixels, of the faces that a model of `build_frame_classifier` takes."""
    return model.get_layer("faces").output.shape[2]


def _check_name(field: str, name: str | None, table: Mapping[str, Any], *others: str | None) -> None:
    if name not in table and name not in others:
        raise InputError(f"Unknown `{field}`. Expected one of {[*sorted(table), *others]}. Received: {field}={name!r}")


def _check_head(config: FrameClassifier, classes: Sequence[str]) -> None:
    own = BACKBONES[config.backbone].classes if config.backbone in BACKBONES else ()
    if tuple(classes) != own:
        raise InputError(
            f"The classes of {config.backbone}'s own classifier are {own or 'none'}. Received: {tuple(classes)}"
        )
    if TEMPORAL_POOLINGS[config.temporal_pooling].pools != "scores":
        scores = sorted(name for name, pooling in TEMPORAL_POOLINGS.items() if pooling.pools == "scores")
        raise InputError(
            f"{config.backbone}'s own classifier gives scores, not features. Expected `temporal_pooling` to be one of "
            f"{scores}. Received: temporal_pooling={config.temporal_pooling!r}"
        )

"""The network of paper A, whole, and runs read back from disk."""

from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import keras
from keras import ops
from scipy.special import softmax

from affect.backbones import BACKBONES, build_backbone, build_head
from affect.config import Experiment, Faces, Regression, VideoModel, from_json, load_config, read_json
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
from affect.network import FaceNetwork
from affect.postprocessing import Postprocessing
from affect.precision import computing_in
from affect.regression import build_regression, build_video_model, detailed_regression
from affect.regularizers import AttentionDiversity
from affect.seal import is_altered


def build_model(config, classes):
    """Builds the functional model: faces → local features → a vector a frame → clip logits.

    A temporal pooling of scores stands after the classifier, one of features before it (`affect.layers`).

    Args:
        config: `affect.config.Model`.
        classes: Class names, E of them.

    Returns:
        `keras.Model` of `{"faces": uint8 (B, F, H, W, 3) RGB, "frame_mask": bool (B, F)}` → clip logits float32
        (B, E), all 0 for a clip without a valid frame; B and F are free. `detailed` gives what lies between.

    Raises:
        InputError: On an unknown backbone or pooling, missing weights, or a head that does not have these classes or
            leaves no features to pool.
    """
    _check_name("spatial_pooling", config.spatial_pooling, SPATIAL_POOLINGS, None)
    _check_name("temporal_pooling", config.temporal_pooling, TEMPORAL_POOLINGS)
    spatial_pooling = SPATIAL_POOLINGS.get(config.spatial_pooling)
    temporal_pooling = TEMPORAL_POOLINGS[config.temporal_pooling]
    backbone = build_backbone(
        config.backbone,
        weights=config.weights,
        face_size=config.face_size,
        output_stride=config.output_stride,
        input_scaling=config.input_scaling,
    )
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
            x, _ = spatial_pooling(
                heads=config.heads,
                hidden_units=config.hidden_units,
                diversity_regularizer=AttentionDiversity(config.diversity),
                use_bias=config.hidden_units is not None and config.attention_bias,
                name="spatial_pooling",
                **(_pytorch_start(config, channels) if config.initial_weights == "pytorch" else {}),
            )(x, frame_mask=frame_mask, return_attention=True)  # (B, F, K), (B, F, N, L)
        else:
            x = spatial_pooling(name="spatial_pooling")(x)  # (B, F, K)
        dropout = keras.layers.Dropout(config.dropout, name="dropout")
        classifier = keras.layers.Dense(
            len(classes),
            dtype="float32",
            name="frame_logits",
            **(_pytorch_layer(x.shape[-1]) if config.initial_weights == "pytorch" else {}),
        )

    if temporal_pooling.pools == "scores":
        frame_logits = x if spatial_pooling is None else classifier(dropout(x))  # (B, F, E)
        logits, _, _ = temporal_pooling(name="temporal_pooling")(
            frame_logits, frame_mask=frame_mask, return_importance=True
        )  # (B, E), (B, F), (B, F, E)
    else:
        units = {"units": config.lstm_units} if config.temporal_pooling == "lstm" else {}
        x, _ = temporal_pooling(**units, name="temporal_pooling")(
            x, frame_mask=frame_mask, return_frames=True
        )  # (B, K'), (B, F, K')
        is_seen = ops.cast(ops.any(frame_mask, axis=1, keepdims=True), "float32")
        logits = classifier(dropout(x)) * is_seen  # (B, E): without a frame not even the classifier's bias counts
    return FaceNetwork({"faces": faces, "frame_mask": frame_mask}, logits, name="affect")


def _pytorch_layer(inputs):
    """Returns the initializers of PyTorch's linear layers and convolutions: U(±1/√inputs), for the bias too."""
    limit = inputs**-0.5
    return {
        "kernel_initializer": keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),  # the same limit
        "bias_initializer": keras.initializers.RandomUniform(-limit, limit),
    }


def _pytorch_start(config, channels):
    """Returns the initializers of an attention layer of paper A's authors' code."""
    shift = {"shift_initializer": keras.initializers.RandomNormal(stddev=config.heads**-0.25)}
    return _pytorch_layer(channels) | (shift if config.spatial_pooling == "shift" else {})


@computing_in("float32")
def detailed(model):
    """Returns the same network with what lies between its inputs and its clip logits as outputs.

    Where features are pooled over time, `frame_logits` is the classifier's answer to what the pooling makes of each
    frame, and all valid frames are of equal importance, for no number says otherwise.

    Args:
        model: From `build_model` or `affect.regression.build_video_model`, or read from its file.

    Returns:
        `keras.Model` with a dict of outputs: `logits` (B, E), `frame_logits` (B, F, E), `frame_importance` (B, F) and,
        where the model has spatial attention, `attention` (B, F, N, L). Spatiotemporal attention is one head, and is
        what is given of a model that has both; by softmax, it sums to L.
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


@computing_in("float32")
def frame_networks(model):
    """Returns the model's parts for one frame at a time, which share its weights.

    Args:
        model: From `build_model`, or read from its file.

    Returns:
        Dict: name → `keras.Model` from and to dicts, B being free:
        `frame`: `faces` uint8 (B, H, W, 3) → `frame_logits` (B, E) where scores are pooled over time, else
        `frame_features` (B, K); and `attention` (B, N, L) where the model has spatial attention.
        `classify`, where features are pooled: `pooled_features` (B, K') → `logits` (B, E).
        `step`, with an LSTM of U units: `frame_features`, `hidden` and `cell`, both (B, U) and zeros at first →
        `hidden`, `cell` and `logits` (B, E), after this frame.
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


@dataclass(frozen=True)
class Trained:
    """A model with all that is needed to use it.

    Args:
        model: `keras.Model`.
        experiment: `affect.config.Experiment`.
        classes: Class names in the order of the logits; of a regression, `affect.labels.DIMENSIONS`.
        faces: `affect.config.Faces`: how the faces it was trained on were cut.
        postprocessing: Dict: dimension → `affect.postprocessing.Postprocessing` of its series; empty of a model that
            classifies, and where none was fitted.
    """

    model: keras.Model
    experiment: Experiment
    classes: tuple[str, ...]
    faces: Faces
    postprocessing: dict[str, Postprocessing] = field(default_factory=dict)

    @property
    def face_size(self):
        """Height and width in pixels of the faces that the model, or what its features are taken of, is given."""
        return self.experiment.model.face_size if self.is_regression else face_size_of(self.model)

    @property
    def is_regression(self):
        """Whether the model gives valence and arousal over time, and no classes."""
        return isinstance(self.experiment.model, Regression)

    @property
    def most_frames(self):
        """Most faces of a clip that are read, evenly spaced; `None` where each is read on its own, and all are."""
        return self.experiment.data.eval_frames if isinstance(self.experiment.model, VideoModel) else None

    @cached_property
    def network(self):
        """`detailed(model)`, or `detailed_regression(model)`; made once, for Keras traces each model anew."""
        return detailed_regression(self.model) if self.is_regression else detailed(self.model)

    def respond(self, inputs):
        """Returns what the model says of a batch of clips, as `affect.artefact.Artefact.respond`.

        Args:
            inputs: Dict of arrays by the names of the model's inputs.

        Returns:
            Dict of arrays: the outputs of `network`, and of a model that classifies also `probabilities` (B, E) and
            `frame_probabilities` (B, F, E), 0 where masked.
        """
        outputs = self.network.predict_on_batch(inputs)
        if self.is_regression:
            return outputs
        valid = inputs["frame_mask"][..., None]
        return outputs | {
            "probabilities": softmax(outputs["logits"], axis=-1),
            "frame_probabilities": softmax(outputs["frame_logits"], axis=-1) * valid,
        }

    @cached_property
    def frame_functions(self):
        """`frame_networks(model)` as functions of named arrays, as `affect.artefact.Artefact.frame_functions`.

        Raises:
            InputError: Of a `VideoModel`.
        """
        if isinstance(self.experiment.model, VideoModel):
            raise InputError(
                f"{self.experiment.name} reads whole clips, and does not judge their frames one by one. "
                "Use affect predict."
            )
        return {name: partial(_run, network) for name, network in frame_networks(self.model).items()}


def _run(network, **inputs):
    return network.predict_on_batch(inputs)


def face_size_of(model):
    """Returns the height and width in pixels of the faces that a model takes, from `build_model`."""
    return model.get_layer("faces").output.shape[2]


@computing_in("float32")
def load_trained(path):
    """Loads a run, or builds a model that needs no training; either computes in float32, whatever a run was trained in.

    Args:
        path: Folder that `affect train` wrote, of which the best epoch is read; or a config whose model is a
            backbone with its own classifier, such as `configs/fer2013.py`.

    Returns:
        `Trained`.

    Raises:
        InputError: When there is no run, no checkpoint, the model of a config needs training, or it is a file of
            another kind: only a `.py` config is ever run.
    """
    path = Path(path)
    if path.is_file() and path.suffix not in (".py", ".json"):
        raise InputError(
            f"{path} is neither a run nor a config. Expected the folder that affect train wrote, which holds "
            "best.keras, or a .py config that needs no training."
        )
    if path.is_file():
        experiment = load_config(path)
        model = experiment.model
        if isinstance(model, Regression) or model.spatial_pooling is not None or model.weights is None:
            raise InputError(
                f"The model of {path} must be trained first: affect train {path} --data SHARDS --workdir RUN"
            )
        classes = BACKBONES[model.backbone].classes
        return Trained(build_model(model, classes), experiment, classes, Faces())
    if not (path / "config.json").is_file():
        raise InputError(
            f"{path} is not a run: it has no config.json. Make one: affect train CONFIG --data SHARDS --workdir {path}"
        )
    run = read_json(path / "config.json")
    experiment = from_json(Experiment, run.get("experiment"), f"{path / 'config.json'}: experiment")
    faces = from_json(Faces, run.get("faces"), f"{path / 'config.json'}: faces")
    checkpoint = path / "best.keras"
    if not checkpoint.is_file():
        raise InputError(
            f"The run {path} has no checkpoint best.keras yet. "
            f"Train it: affect train CONFIG --data SHARDS --workdir {path}"
        )
    if is_altered(checkpoint):
        raise InputError(
            f"The checkpoint {checkpoint} is not what was written: its checksum is another. Copy it again, or train "
            "the run again."
        )
    try:
        if experiment.train.precision == "float32":
            model = keras.saving.load_model(checkpoint, compile=False)
        else:
            model = _rebuilt(experiment.model, run["classes"])
            model.load_weights(checkpoint)
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"The checkpoint {checkpoint} cannot be read ({reason}). Train the run again.") from error
    return Trained(model, experiment, tuple(run["classes"]), faces, _read_postprocessing(path / "postprocessing.json"))


def _rebuilt(config, classes):
    """Returns a network whose weights are still to be loaded.

    A graph that was traced in half precision holds casts to it, and so does its file. Artefacts are float32, and so is
    what they are compared with.
    """
    if isinstance(config, Regression):
        return build_regression(config)
    if isinstance(config, VideoModel):
        return build_video_model(config, classes)
    return build_model(replace(config, weights=None), classes)


def _read_postprocessing(path):
    """Returns dimension → `Postprocessing`; of a run that has none, or has not ended, nothing."""
    fitted = read_json(path).get("dimensions", {}) if path.is_file() else {}
    return {name: from_json(Postprocessing, found.get("steps"), f"{path}: {name}") for name, found in fitted.items()}


def _check_name(field, name, table, *others):
    if name not in table and name not in others:
        raise InputError(f"Unknown `{field}`. Expected one of {[*sorted(table), *others]}. Received: {field}={name!r}")


def _check_head(config, classes):
    own = BACKBONES[config.backbone].classes
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

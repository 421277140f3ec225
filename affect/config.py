"""Experiments as frozen dataclasses: load, override, write as JSON.

A config file is Python and exposes `CONFIG`, an `Experiment`; a misspelt field is an error when it is loaded. Runs and
artefacts carry the resolved config as JSON, and reading JSON never executes code. A `.py` config is a program, which
may do all that its user may do; no file of another suffix is ever run.
"""

import contextlib
import dataclasses
import json
import math
import os
import re
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from affect.errors import InputError
from affect.files import replacing


def _check_ranges(config, **ranges):
    """Refuses numbers outside their range; NaN is outside of every range. What is no number is left to `_checked`."""
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if isinstance(value, int | float) and not low <= value <= high:
            field_name = f"{_part(config)}.{name}"
            raise InputError(f"{field_name} must lie in [{low}, {high}]. Received: {value!r}")


def _part(config):
    """Returns the field of `Experiment` that holds a config, as the user types it."""
    return "model" if hasattr(config, "task") else type(config).__name__.lower()


def _check_choices(config, **choices):
    """Refuses strings that are not among those that are meant. What is no string is left to `_checked`."""
    for name, known in choices.items():
        value = getattr(config, name)
        if isinstance(value, str) and value not in known:
            field_name = f"{_part(config)}.{name}"
            raise InputError(f"{field_name} must be one of {sorted(known)}. Received: {value!r}")


@dataclass(frozen=True)
class Effect:
    """Where a setting has an effect: a row of `EFFECTS`, or of the `effects` of a kind of network.

    Args:
        fields: Names, such as `"model.heads"`, or `"windows.*"`; those that a kind of experiment lacks do not count.
        where: Function of an `Experiment`: whether they have an effect in it.
        reason: Why they have none elsewhere, and what has one.
        also: Values that are accepted beside the default where they have no effect, because they say so.
    """

    fields: tuple[str, ...]
    where: Callable[["Experiment"], bool]
    reason: str
    also: tuple = ()


def _never(experiment):
    return False


def _selects(experiment):
    return bool(experiment.data.selection_ratio or experiment.data.selection_split)


def _attends(experiment):
    return experiment.model.spatial_pooling in ("attention", "shift")


# Settings that have no effect where clips are classified, in a regression, and without a backbone.
_OF_CLIPS = (
    Effect(
        ("windows.*",),
        _never,
        "windows are cut of recordings for a regression; of a clip, data.frames and data.eval_frames are read",
    ),
    Effect(
        ("train.concordance",),
        _never,
        "it is about valence and arousal; the loss of classes is set by train.label_smoothing, train.class_weights and "
        "data.soft_labels",
    ),
    Effect(
        ("train.selection_metric",),
        _selects,
        "no clips select the epoch: it needs data.selection_ratio above 0 or data.selection_split",
    ),
)
_OF_RECORDINGS = (
    Effect(
        ("data.frames", "data.eval_frames", "data.frame_spacing", "data.repeat_frames"),
        _never,
        "it samples clips; a regression reads windows.length_s · windows.frame_rate_hz frames a window",
    ),
    Effect(
        ("data.shuffle_clips",),
        _never,
        "it shuffles clips; the windows of a regression are all shuffled, by train.seed",
    ),
    Effect(
        ("data.soft_labels", "train.class_weights", "train.label_smoothing"),
        _never,
        "it is about classes; the loss of a regression is set by train.concordance",
    ),
    Effect(
        ("train.selection_metric",),
        _selects,
        "no recordings select the epoch: it needs data.selection_ratio above 0 or data.selection_split",
        also=("loss",),  # the default is of clips
    ),
)
_WITHOUT_BACKBONE = (
    Effect(
        ("train.backbone_learning_rate",),
        _never,
        "this network has no backbone and learns as a whole at train.head_learning_rate",
        also=(0.0,),
    ),
    Effect(("train.frozen_blocks",), _never, "it needs a backbone that learns, and this network has none"),
)
_WITH_BACKBONE = (
    Effect(
        ("train.frozen_blocks",),
        lambda experiment: experiment.train.backbone_learning_rate > 0,
        "it needs a backbone that learns, at train.backbone_learning_rate above 0",
    ),
    Effect(
        ("model.hidden_units",),
        _attends,
        "it needs attention, model.spatial_pooling='attention' or 'shift'",
    ),
)


# dlib's mean face shape (eyes: mean of their six points) in a unit box, in the order of
# `affect.data.records.LANDMARKS`. Paper A stores dlib's aligned faces.
MEAN_SHAPE = ((0.2255, 0.2160), (0.7548, 0.2160), (0.4901, 0.5156), (0.2541, 0.7802), (0.7261, 0.7802))


@dataclass(frozen=True)
class Faces:
    """What changes bytes on disk: how faces are found, cut and stored. Recorded in the manifest of the shards.

    Args:
        detector: Name in `affect.pipelines.detectors.DETECTORS`.
        min_face_px: Smallest face looked for, in pixels of the displayed frame.
        score_threshold: Detections below this score in [0, 1] are left out; 0.8 is what mtcnn 1.0 itself has.
        face_size: Height and width in pixels of the stored face (paper A: 256).
        margin_ratio: Padding around the template on each side, as a share of its size; 0.25 is what dlib's face chips
            have, which paper A's faces are.
        frame_rate_hz: Frames a second that are looked at; `None` looks at every frame.
        jpeg_quality: 1 to 100.
        detect: `"follow"` detects in key frames at most half a second apart and follows the faces in between;
            `"every"` detects in every frame, which is slower and finds faces that are there for less than that.
        tracks: Faces that are kept: the `"main"` one (seen longest, then the most central; a still one, as in a
            picture on a wall, comes after one that moves), the `"largest"`, or `"all"`.
        boxes: CSV file of faces that another program has detected, for the detector `"boxes"` alone.
        template: Five points x y in a unit box, to which the landmarks of a face are brought as near as turning,
            scaling and shifting does; in the order of `affect.data.records.LANDMARKS`. The stored face is that box with
            its padding.
    """

    detector: str = "mtcnn"
    min_face_px: int = 40
    score_threshold: float = 0.8
    face_size: int = 256
    margin_ratio: float = 0.25
    frame_rate_hz: float | None = None
    jpeg_quality: int = 95
    detect: str = "follow"
    tracks: str = "main"
    boxes: str | None = None
    template: tuple[tuple[float, float], ...] = MEAN_SHAPE

    def __post_init__(self):
        if len(self.template) != len(MEAN_SHAPE) or len(set(self.template)) < 2:
            raise InputError(f"faces.template must be five points that are not all one. Received: {self.template}")
        _check_choices(self, detect=("every", "follow"), tracks=("all", "largest", "main"))
        _check_ranges(self, min_face_px=(1, math.inf))
        if (self.detector == "boxes") != (self.boxes is not None):
            raise InputError(
                "The detector boxes and a CSV file of boxes belong together. "
                f"Received: detector={self.detector!r}, boxes={self.boxes!r}"
            )


@dataclass(frozen=True)
class Data:
    """How clips are read from shards.

    Where paper A says nothing, or its authors' code does otherwise, a field here, in `FrameClassifier` and in `Train`
    names the choice of the paper, of the code and of ours (configs/paper_a.py); "–" is silence. Defaults are ours, but
    for `FrameClassifier.hidden_units`.

    Args:
        train_split: Split that is trained on.
        batch_clips: Clips a batch. Paper: –; code: 3; ours: 3.
        frames: Frames sampled of a training clip. All three: 16, at random without replacement, in time order.
        repeat_frames: How a clip of fewer frames fills its row: drawn with replacement, or padded with a mask that says
            so. Paper: –; code: with replacement; ours: padded, because a repeated frame counts twice in joint softmax.
        eval_frames: Most frames of an evaluated clip, evenly spaced. Paper: –; code: 120; ours: 120.
        frame_spacing: Which frame an evenly spaced place is, where a clip has more than `eval_frames`: the `"nearest"`
            or the one before it, `"floor"`. Paper: –; code: floor; ours: nearest.
        crop_ratio: Side of the crop as a share of the stored face, central in evaluation. Paper: –; code: 224/256,
            after a reflecting pad to a square; ours: 224/256. Stored faces are square, so the pad would do nothing.
        random_crop: Whether the crop of a training clip lies at random. Paper: yes; code: no, central; ours: yes.
        flip: Whether training clips are mirrored at random, left and right. Paper: yes ("flip, mirror", taken for one);
            code: yes; ours: yes.
        rotation_deg: Training clips are turned by up to this angle. Paper: not named, 0; code: 10; ours: 10, for
            alignment is never exact.
        rotation_border: What a turn brings in: `"reflect"`, the border reflected, of four pixels blended; or
            `"black"`, of the nearest pixel. Paper: –; code: black; ours: reflect: an evaluated face has no black
            corners.
        view_per_frame: Whether crop, mirror and angle are drawn for each frame and not for the clip. Paper: –; code:
            each frame; ours: the clip, because a face does not change sides between frames.
        selection_ratio: Share of the training clips, or recordings, set aside to select the epoch. Paper: trains on
            all, so 0, and the last epoch is kept; code: 0; ours: 0.15, so that the reported clips select nothing.
        selection_split: Split on whose clips the epoch is selected, instead of a share. Paper: –; code: the reported
            one, `"val"`; ours: `None`. The accuracy of a split that selected its epoch is optimistic.
        keep_last_batch: Whether the clips that do not fill an epoch's last batch are a smaller one, or wait for another
            epoch's order. Paper: –; code: kept; ours: they wait, so that every clip weighs alike.
        shuffle_clips: Size of the shuffle buffer in clips.
        soft_labels: Whether training clips are learnt by the shares of their raters' votes (CREMA-D has them); a clip
            without votes keeps its label. Selection and evaluation go by the label always.
    """

    train_split: str = "train"
    batch_clips: int = 3
    frames: int = 16
    repeat_frames: bool = False
    eval_frames: int = 120
    frame_spacing: str = "nearest"
    crop_ratio: float = 0.875
    random_crop: bool = True
    flip: bool = True
    rotation_deg: float = 10.0
    rotation_border: str = "reflect"
    view_per_frame: bool = False
    selection_ratio: float = 0.15
    selection_split: str | None = None
    keep_last_batch: bool = False
    shuffle_clips: int = 256
    soft_labels: bool = False

    def __post_init__(self):
        counts = dict.fromkeys(("batch_clips", "frames", "eval_frames", "shuffle_clips"), (1, math.inf))
        _check_ranges(self, **counts, crop_ratio=(0, 1), rotation_deg=(0, 180))
        _check_choices(self, frame_spacing=("nearest", "floor"), rotation_border=("reflect", "black"))


@dataclass(frozen=True)
class FrameClassifier:
    """The network of paper A. What "paper", "code" and "ours" are says `Data`.

    Args:
        backbone: Name in `affect.models.backbones.BACKBONES`. All three: `"vgg16"`.
        weights: Weights of the backbone in the user's cache, or `None` for random ones. There is no default: nothing
            runs on random weights unasked. All three: `"vggface"`.
        face_size: Height and width in pixels of the network's input; `None` is the backbone's own (all three: 224).
        input_scaling: `"published"`, the scaling that the backbone's weights were trained on (VGG-Face: BGR of 0 to 255
            minus its mean colour), or `"unit"`, colours in [0, 1]. Paper: VGG-Face's; code: unit; ours: published,
            because the same weights see 1/255 of their contrast in the other.
        output_stride: Stride of the backbone's local features in pixels. Paper: 16; code: 32, after the last pooling;
            ours: 16, four times the locations to attend to.
        spatial_pooling: Name in `affect.layers.SPATIAL_POOLINGS` (a row of the paper's tables: `"attention"`, SA;
            `"shift"`, SHIFT, of which all three have the same; `"average"` without attention), or `None` for the
            backbone's own classifier, which needs no training and has its own classes.
        heads: Attention heads, N (rows: 1, 2 or 4). It, `hidden_units`, `attention_bias` and `diversity` are for
            `"attention"` and `"shift"` alone.
        hidden_units: Hidden units U of the attention network; `None` is one layer. Paper: two layers, U not given;
            code: 512 in its first commit, later one layer, with 256 and 600 in comments; ours: 256, because the
            scores of one layer are bounded (`affect.layers.AttentionPooling`).
        attention_bias: Whether the first of two layers of the attention network has a bias. Paper: no; code: yes in its
            first commit, later no; ours: no.
        diversity: Strength λ of the penalty on attention (rows: 0, 0.1 or 1; 0, 0.1 or 10 in the later log of the code,
            whose best run with N = 2, the one of the first commit, has 0). All three: the norm, not its square; the
            code and ours: averaged over the frames of a batch.
        temporal_pooling: Name in `affect.layers.TEMPORAL_POOLINGS`: of scores (rows: `"joint_softmax"`, TP;
            `"average"`, AVG; also `"max"`), or of features before the classifier (rows: `"lstm"`; also
            `"statistics"`).
        lstm_units: Units of the LSTM, for `"lstm"` alone. Paper: quoted from another paper and not given; code: none;
            ours: 512 is assumed.
        dropout: Rate before the classifier, which is linear with a bias. Paper: –; code: 0; ours: 0.
        initial_weights: What attention and classifier start from: `"keras"`, Glorot's uniform kernels, biases of 0,
            and SHIFT's w and b of 1 and 0; or `"pytorch"`, U(±1/√inputs) for kernels and biases, and w and b from
            N(0, 1/√N), as in the code. An LSTM starts as Keras's. Paper: –; code: PyTorch's; ours: Keras's.
        task: `"classification"`, which tells this network from `VideoRegressor` and `VideoClassifier` in JSON.
    """

    backbone: str
    weights: str | None
    face_size: int | None = None
    input_scaling: str = "published"
    output_stride: int = 16
    spatial_pooling: str | None = "attention"
    heads: int = 2
    hidden_units: int | None = None
    attention_bias: bool = False
    diversity: float = 1.0
    temporal_pooling: str = "joint_softmax"
    lstm_units: int = 512
    dropout: float = 0.0
    initial_weights: str = "keras"
    task: str = "classification"

    # Facts about every such network, not settings.
    features = "faces"
    effects = _OF_CLIPS + _WITH_BACKBONE

    @property
    def is_trained(self):
        """Whether training can change it. A backbone's own classifier is used as it is."""
        return self.spatial_pooling is not None

    def __post_init__(self):
        counts = dict.fromkeys(("heads", "hidden_units", "lstm_units"), (1, math.inf))
        _check_ranges(self, **counts, diversity=(0, math.inf), dropout=(0, 1))
        _check_choices(self, initial_weights=("keras", "pytorch"), task=("classification",))


@dataclass(frozen=True)
class VideoNetwork:
    """The network of paper B (Lee et al., ICASSP 2018) and of the rows that it is compared with, up to its last layer.

    `VideoRegressor` and `VideoClassifier` put a layer on it.

    What could be read of the paper is its poster, which names the parts and gives no size. Two choices are its own: the
    order of the parts, and X'' = A ⊙ X. All else is assumed, here and in `Windows`, and is no reproduction. The rows
    CNN and CNN + RNN are of another paper there, taken to be Khorrami et al., arXiv 1602.07377. Sizes follow a public
    implementation of that CNN (DenisRang/Combined-CNN-RNN-for-emotion-recognition): faces of 96 pixels, convolutions of
    64, 128 and 256 filters of 5 × 5, a dense layer of 300. All rows have them, to differ only in what they are about.

    Args:
        temporal: What sees more than one frame. A row each: `None`, the 2D-CNN on each frame alone; `"rnn"`, `"lstm"`
            and `"bilstm"`, in both directions of time, a recurrent network on the vectors of the 2D-CNN or on
            LGBP-TOP; `"conv3d"`, the 3D-CNN.
        attention: `None`, or the spatiotemporal attention A of a 2D-CNN and a ConvLSTM, by which the features of the
            3D-CNN are multiplied (STA; for `"conv3d"` alone). `"softmax"` over the h · w locations of each frame, times
            their number, so that attention to all alike leaves X as it is; `"sigmoid"`, each location of each frame on
            its own. Assumed: softmax, which has to choose and so can be looked at.
        face_size: Height and width in pixels of the network's input, or of what LGBP-TOP is taken of. Assumed: 96; 64
            for LGBP-TOP. The network takes colours as x / 64 - 2, assumed too.
        blocks: Convolutions, each with max-pooling to half the size, of the 2D-CNN and likewise of the 3D-CNN before
            the attention; both give maps of `face_size` / 2^`blocks`. Assumed: 3, hence 12 × 12.
        filters: Of the first block; each block has twice as many. Assumed: 64.
        kernel_size: Of the 2D-CNN's convolutions, in pixels. Assumed: 5.
        kernel_size_3d: Of the 3D-CNN's convolutions, in pixels and in frames. Assumed: 3, as is usual of 3D-CNNs.
        attended_blocks: Convolutions of the 3D-CNN behind the attention, without pooling, of as many filters as its
            last block. Assumed: 1.
        attention_filters: Of the ConvLSTM. Assumed: 64, because its memory is small beside 256 channels of features.
        attention_kernel_size: Of the ConvLSTM's convolutions, in locations. Assumed: 3.
        spatial_pooling: Name in `affect.layers.SPATIAL_POOLINGS`: how the locations of a map become one vector.
            Paper B: none; assumed: `"average"`. `"attention"` and `"shift"` are paper A's.
        heads: Attention heads, N. It, `pooling_units` and `diversity` are as paper A's, for `"attention"` and `"shift"`
            alone. Assumed: 2.
        pooling_units: Hidden units U of what scores the locations; `None`, which is assumed, is one layer.
        diversity: Strength λ of the penalty on the pooling's attention, not on `attention`. Assumed: 1.
        recurrent_units: Units of `"rnn"`, of `"lstm"` and of each direction of `"bilstm"`. Assumed: 100.
        hidden_units: Units of the dense layer, with ReLU, before the linear one. Assumed: 300.
        dropout: Rate before the linear layer. Assumed: 0.5, for 9 recordings are few.
    """

    temporal: str | None
    attention: str | None = None
    face_size: int = 96
    blocks: int = 3
    filters: int = 64
    kernel_size: int = 5
    kernel_size_3d: int = 3
    attended_blocks: int = 1
    attention_filters: int = 64
    attention_kernel_size: int = 3
    spatial_pooling: str = "average"
    heads: int = 2
    pooling_units: int | None = None
    diversity: float = 1.0
    recurrent_units: int = 100
    hidden_units: int = 300
    dropout: float = 0.5

    # Facts about every such network, not settings: it has no backbone and learns as a whole.
    backbone = weights = None
    is_trained = True

    def __post_init__(self):
        counts = ("blocks", "filters", "kernel_size", "kernel_size_3d", "attention_filters", "attention_kernel_size")
        counts = (*counts, "heads", "pooling_units", "recurrent_units", "hidden_units")
        counts, at_least_0 = dict.fromkeys(counts, (1, math.inf)), (0, math.inf)
        _check_ranges(self, **counts, attended_blocks=at_least_0, diversity=at_least_0, dropout=(0, 1))
        _check_choices(
            self,
            temporal=("rnn", "lstm", "bilstm", "conv3d"),
            attention=("softmax", "sigmoid"),
            spatial_pooling=("attention", "average", "shift"),
        )
        if self.attention is not None and self.temporal != "conv3d":
            raise InputError(
                f"Attention is multiplied to the features of the 3D-CNN: expected model.temporal='conv3d'. "
                f"Received: temporal={self.temporal!r}, attention={self.attention!r}"
            )
        if self.face_size % 2**self.blocks or self.face_size < 2**self.blocks:
            raise InputError(
                f"model.face_size must be a multiple of 2^blocks = {2**self.blocks}. Received: {self.face_size}"
            )


@dataclass(frozen=True)
class VideoRegressor(VideoNetwork):
    """Paper B's network on valence and arousal over time, or a row that it is compared with: see `VideoNetwork`.

    Args:
        predicts: `"frames"`, valence and arousal of each frame of the window, or `"end"`, of its last frame that shows
            a face. Assumed: frames; each label of the window is learnt from.
        features: What the network is given of a frame: `"faces"`, or in their place and the 2D-CNN's `"lgbp_top"`,
            vectors whose assumed sizes are in `affect.data.lgbp`.
        task: `"regression"`, which tells this network from the others in JSON.
    """

    predicts: str = "frames"
    features: str = "faces"
    task: str = "regression"

    effects = _OF_RECORDINGS + _WITHOUT_BACKBONE

    def __post_init__(self):
        super().__post_init__()
        _check_choices(self, predicts=("frames", "end"), features=("faces", "lgbp_top"), task=("regression",))
        if self.features != "lgbp_top":
            return
        _check_ranges(self, face_size=(4, math.inf))
        if self.temporal == "conv3d":
            raise InputError(
                "The 3D-CNN sees faces: expected model.temporal='rnn', 'lstm', 'bilstm' or None beside "
                "features='lgbp_top'. Received: temporal='conv3d'"
            )
        if self.spatial_pooling != "average":
            raise InputError(
                "LGBP-TOP has no locations to attend to: expected model.spatial_pooling='average' beside "
                f"features='lgbp_top'. Received: {self.spatial_pooling!r}"
            )


@dataclass(frozen=True)
class VideoClassifier(VideoNetwork):
    """Paper B's network on the classes of clips, which is of neither paper: see `VideoNetwork`.

    What it says of each frame is pooled over time as in paper A. It reads the frames that `Data` samples: set
    `data.eval_frames` to `data.frames`, so that time runs about alike in training and in evaluation, which would else
    see up to 120 frames of a clip.

    Args:
        temporal_pooling: Name in `affect.layers.TEMPORAL_POOLINGS`, of those that pool scores: `"joint_softmax"`,
            `"average"` or `"max"`.
        task: `"video_classification"`, which tells this network from the others in JSON.
    """

    temporal_pooling: str = "joint_softmax"
    task: str = "video_classification"

    features = "faces"
    effects = _OF_CLIPS + _WITHOUT_BACKBONE

    def __post_init__(self):
        super().__post_init__()
        poolings = ("joint_softmax", "average", "max")
        _check_choices(self, temporal_pooling=poolings, task=("video_classification",))


@dataclass(frozen=True)
class Windows:
    """How recordings are cut in windows and read over time, for regression. Of paper B only the length is known, 4 s.

    Args:
        length_s: Length of a window. Rows: 1 or 4.
        stride_s: From the start of a window to the next one's. Assumed: half of 4 s.
        frame_rate_hz: Frames a second of the regular grid that a window is; a grid point at which no face is stored is
            masked. Assumed: 10, the rate at which SEWA is rated.
        delay_s: How long raters lag: a frame is labelled by the rating this much later. Published choices on RECOLA lie
            between 2.3 and 4 s, chosen on the training recordings. Assumed: 2.8. `None` searches it on those that are
            trained on (`affect.tasks.delay.search_delay`), and the run's config holds what was found.
        postprocess: Whether estimated series are filtered, scaled and shifted by what raised the CCC of the selection
            recordings, as AVEC's baselines do (`affect.tasks.postprocessing`). Not of the network, which is the same
            with and without, and evaluation reports both. Assumed: yes.
        protocol: What an evaluation counts: `"avec"`, as in AVEC's challenges, each rating, whatever its rate, with
            gaps in the estimates interpolated and their ends held; or `"faces"`, the points of the grid that have both
            a face and a rating. Training does not depend on it.
    """

    length_s: float = 4.0
    stride_s: float = 2.0
    frame_rate_hz: float = 10.0
    delay_s: float | None = 2.8
    postprocess: bool = True
    protocol: str = "avec"

    def __post_init__(self):
        _check_choices(self, protocol=("avec", "faces"))
        above_0 = dict.fromkeys(("length_s", "stride_s", "frame_rate_hz"), (1e-3, math.inf))
        _check_ranges(self, **above_0, delay_s=(0, math.inf))

    @property
    def frames(self):
        """Frames of a window."""
        return max(1, round(self.length_s * self.frame_rate_hz))


@dataclass(frozen=True)
class Train:
    """Optimisation by SGD or Adam with warm restarts, one learning rate for the backbone and one for the rest.

    What "paper", "code" and "ours" are says `Data`.

    Args:
        epochs: Passes over the training clips. Paper: 30; code: 30, later 16 with attention; ours: 30, two whole
            periods.
        backbone_learning_rate: Paper: 1e-5; code: 1e-5, with attention 1e-3, and 0 in its last commit; ours: 1e-5. 0
            freezes the backbone.
        frozen_blocks: Blocks of the backbone, from its first, that are frozen whatever its rate. All three: 0.
        head_learning_rate: Paper: 0.1; code: 0.1, with attention 1e-2; ours: 0.1.
        optimizer: `"sgd"` or `"adam"`, whose decay is decoupled (AdamW). All three: SGD. Paper B's is not given; on
            planted recordings, with the concordance as the loss, SGD ended at constants where Adam learnt.
        momentum: Of SGD alone. Paper: not given; code: 0.9; ours: 0.9.
        nesterov: Of SGD alone. Paper: –; code: yes; ours: yes.
        pytorch_sgd: Whether a step is PyTorch's (`PyTorchSGD`) or Keras's. Paper: –; code: PyTorch's; ours: Keras's,
            whose decay is decoupled: what it takes off does not depend on momentum.
        weight_decay: Paper: 5e-5; code: 5e-4 · √(batch / (clips · period)), with AFEW's 773 clips 9.85e-6 in a period
            of 10 epochs and 1.39e-5 in one of 5; ours: 5e-5. Keras's decay is w ← w(1 − rate · decay); PyTorch's is
            added to the gradient, and 1/(1 − momentum) times as strong.
        weight_decay_schedule: `"constant"`; or `"cosine"`, for `pytorch_sgd` alone: `weight_decay` is what the first
            period begins with, each batch has it times the cosine of the rate, and a period √`restart_factor` times as
            little as the one before it. Paper: –; code: cosine; ours: constant.
        restart_epochs: Length of the first cosine period. Paper: –; code: 10, in its first commit 5; ours: 10.
        restart_factor: Factor from one period to the next. Paper: –; code: 2; ours: 2, so 10 + 20 = 30 epochs.
        accumulation_steps: Batches whose gradients are averaged before a step, where memory is short. All three: 1.
        label_smoothing: Share of the label that is spread over all classes. All three: 0.
        concordance: Share w of 1 - CCC in the loss (1 - w) · MSE + w · (1 - CCC), for regression alone; paper B's rows
            "c-loss" have 1, and the loss of its others is not given.
        class_weights: Whether clips weigh inversely to how frequent their class is. All three: no.
        selection_metric: `"accuracy"` or `"loss"` of the selection clips, by which the best epoch is kept. Paper: –;
            code: accuracy; ours: accuracy. For regression `"loss"` or `"ccc"`, the mean over valence and arousal.
        seed: Of initial weights, selection split, order, sampling and augmentation.
        precision: `"float32"`, `"bfloat16"` or `"float16"`, in which training computes; weights, attention and pooling
            stay in float32. Half precision is for accelerators; float16 scales the loss, and skips steps whose
            gradients overflow. What was trained is read back, evaluated and exported in float32. `mixed_precision` of
            older files is read as float16.
        deterministic: Whether a run comes to the same bits when it is repeated on the same device, for which Keras
            does without XLA. `None` is yes on a CPU and no on an accelerator.
    """

    epochs: int = 30
    backbone_learning_rate: float = 1e-5
    frozen_blocks: int = 0
    head_learning_rate: float = 0.1
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = True
    pytorch_sgd: bool = False
    weight_decay: float = 5e-5
    weight_decay_schedule: str = "constant"
    restart_epochs: int = 10
    restart_factor: float = 2.0
    accumulation_steps: int = 1
    label_smoothing: float = 0.0
    concordance: float = 0.0
    class_weights: bool = False
    selection_metric: str = "accuracy"
    seed: int = 0
    precision: str = "float32"
    deterministic: bool | None = None

    def __post_init__(self):
        at_least_0 = dict.fromkeys(("backbone_learning_rate", "head_learning_rate", "weight_decay"), (0, math.inf))
        at_least_1 = dict.fromkeys(("epochs", "restart_epochs", "restart_factor", "accumulation_steps"), (1, math.inf))
        shares = dict.fromkeys(("momentum", "label_smoothing", "concordance"), (0, 1))
        _check_ranges(self, **at_least_0, **at_least_1, **shares, frozen_blocks=(0, math.inf), seed=(0, 2**32 - 1))
        _check_choices(self, optimizer=("sgd", "adam"), precision=("float32", "bfloat16", "float16"))
        if self.pytorch_sgd and self.optimizer != "sgd":
            raise InputError(
                "train.pytorch_sgd is about SGD alone: expected false beside another optimizer. "
                f"Received: train.optimizer={self.optimizer!r}"
            )
        _check_choices(self, weight_decay_schedule=("constant", "cosine"))


@dataclass(frozen=True)
class Experiment:
    """One row of a table.

    Args:
        name: Short name.
        model: `FrameClassifier` or `VideoClassifier`, which classify clips, or `VideoRegressor`.
        data, train: Its other parts.
        reported: Numbers a paper gives for this row, by metric: `{"accuracy": 0.49}`.
        recipe: Name of the recipe that the parts were made by. A name and no switch: the parts say it all.
        windows: How recordings are cut, for `VideoRegressor` alone.
    """

    name: str
    model: FrameClassifier | VideoRegressor | VideoClassifier
    data: Data = field(default_factory=Data)
    train: Train = field(default_factory=Train)
    reported: dict[str, float] = field(default_factory=dict)
    recipe: str = "ours"
    windows: Windows = field(default_factory=Windows)


def _is_trained(experiment):
    return experiment.model.is_trained


def _sees_faces(experiment):
    return experiment.model.features == "faces"


def _draws_views(experiment):
    data = experiment.data
    return _sees_faces(experiment) and (
        (data.random_crop and data.crop_ratio < 1) or data.flip or data.rotation_deg > 0
    )


# Which fields have an effect where; one that no row names has an effect everywhere. Fields are refused where they have
# none, so a field that a branch reads belongs here with the condition of that branch.
EFFECTS = (
    Effect(
        (
            *("train.*", "data.train_split", "data.frames", "data.repeat_frames", "data.random_crop", "data.flip"),
            *("data.rotation_deg", "data.view_per_frame", "data.selection_ratio", "data.selection_split"),
            *(
                "data.shuffle_clips",
                "data.soft_labels",
                "model.dropout",
                "data.rotation_border",
                "data.keep_last_batch",
            ),
            "model.initial_weights",
        ),
        _is_trained,
        "it is about training, and a network with its backbone's own classifier (model.spatial_pooling=None) has none",
    ),
    Effect(
        ("train.momentum", "train.nesterov"),
        lambda experiment: experiment.train.optimizer == "sgd",
        "it is of train.optimizer='sgd' alone",
    ),
    Effect(
        ("train.weight_decay_schedule",),
        lambda experiment: experiment.train.pytorch_sgd,
        "it is of train.pytorch_sgd=true alone",
    ),
    Effect(
        ("train.nesterov",),
        lambda experiment: experiment.train.momentum > 0,
        "there is no momentum: it needs train.momentum above 0",
        also=(False,),
    ),
    Effect(
        ("train.restart_factor",),
        lambda experiment: experiment.train.restart_epochs < experiment.train.epochs,
        "training ends before the first restart: it needs train.restart_epochs below train.epochs",
    ),
    Effect(
        ("data.random_crop",),
        lambda experiment: experiment.data.crop_ratio < 1,
        "nothing is cropped: it needs data.crop_ratio below 1",
        also=(False,),
    ),
    Effect(
        ("data.rotation_border",),
        lambda experiment: _sees_faces(experiment) and experiment.data.rotation_deg > 0,
        "no face is turned: it needs data.rotation_deg above 0, of faces",
    ),
    Effect(
        ("data.view_per_frame",),
        _draws_views,
        "no view is drawn at random: it needs data.flip, data.rotation_deg above 0, or data.random_crop with "
        "data.crop_ratio below 1, of faces",
    ),
    Effect(
        ("model.heads", "model.pooling_units", "model.diversity"),
        _attends,
        "it needs attention, model.spatial_pooling='attention' or 'shift'",
    ),
    Effect(
        ("model.attention_bias",),
        lambda experiment: _attends(experiment) and experiment.model.hidden_units is not None,
        "it is of the first of two layers of attention: it needs model.hidden_units",
    ),
    Effect(
        ("model.lstm_units",),
        lambda experiment: experiment.model.temporal_pooling == "lstm",
        "it needs model.temporal_pooling='lstm'",
    ),
    Effect(
        ("model.blocks", "model.filters"),
        _sees_faces,
        "it is of convolutions; the sizes of LGBP-TOP are in affect/data/lgbp.py",
    ),
    Effect(
        ("model.kernel_size",),
        lambda experiment: (
            _sees_faces(experiment)
            and (experiment.model.temporal != "conv3d" or experiment.model.attention is not None)
        ),
        "it is of the 2D-CNN, which this network lacks; model.kernel_size_3d is of the 3D-CNN",
    ),
    Effect(
        ("model.kernel_size_3d", "model.attended_blocks"),
        lambda experiment: experiment.model.temporal == "conv3d",
        "it is of the 3D-CNN, model.temporal='conv3d'; model.kernel_size is of the 2D-CNN",
    ),
    Effect(
        ("model.attention_filters", "model.attention_kernel_size"),
        lambda experiment: experiment.model.attention is not None,
        "it is of spatiotemporal attention, model.attention='softmax' or 'sigmoid'",
    ),
    Effect(
        ("model.recurrent_units",),
        lambda experiment: experiment.model.temporal in ("rnn", "lstm", "bilstm"),
        "it is of a recurrent network, model.temporal='rnn', 'lstm' or 'bilstm'",
    ),
)


def without_effect(experiment):
    """Returns the fields that can have no effect in an experiment, `"model.heads"`, each with its row of `EFFECTS`."""
    found = {}
    for row in (*EFFECTS, *experiment.model.effects):
        for pattern in row.fields:
            part, _, name = pattern.partition(".")
            own = [own.name for own in dataclasses.fields(getattr(experiment, part))]
            names = own if name == "*" else [name] if name in own else []
            if names and not row.where(experiment):
                found = {f"{part}.{name}": row for name in names} | found
    return found


def check_effects(experiment):
    """Refuses a field that is set to another value than its default where it can have no effect.

    Raises:
        InputError: It names the first such field, and what has an effect.
    """
    for name, row in without_effect(experiment).items():
        value, default = _value_and_default(experiment, name)
        if value != default and value not in row.also:
            raise InputError(_refusal(name, value, default, row))


def _value_and_default(experiment, name):
    part, _, name = name.partition(".")
    part = getattr(experiment, part)
    (default,) = (own.default for own in dataclasses.fields(part) if own.name == name)
    return getattr(part, name), default


def _refusal(name, value, default, row):
    return f"{name}={value!r} has no effect: {row.reason}. Leave it at its default, {default!r}."


# How a config is named: `paper_a`, or a row of a table, `paper_a_table1/tp`.
NAME = re.compile(r"\w+(/\w+)?", re.ASCII)


def find_config(path):
    """Returns the path of a config that is given by its path or its name.

    Args:
        path: Path of a file or folder; or the name of a config that comes with affect, `"paper_a"`, of a table,
            `"paper_a_table1"`, or of a row of one, `"paper_a_table1/tp"`. A path that exists is never taken for a name.

    Returns:
        Path: of a bundled config, the path of its `.py` file; of a bundled table, the path of its folder. What neither
        exists nor looks like a name is returned as it is.

    Raises:
        InputError: When no bundled config has the name; it lists the names.
    """
    name = Path(path).as_posix()
    if os.path.exists(path) or not NAME.fullmatch(name):
        return Path(path)
    bundled = bundled_configs()
    if name in bundled:
        return bundled[name]
    table, is_row, _ = name.partition("/")
    if is_row and table not in bundled:
        return Path(path)  # `runs/a`
    rows = [known for known in bundled if known.startswith(f"{table}/")]
    raise InputError(
        f"There is no file or folder {name}, and no bundled config of that name. Expected a path or one of "
        f"{', '.join(rows) or _bundled_names()}."
    )


def bundled_configs():
    """Returns the configs that come with affect: name → path of the file, or of the folder of a table."""
    folder = Path(str(files("affect.configs")))
    tables = [init.parent for init in folder.glob("*/__init__.py")]
    paths = sorted([*folder.glob("[!_]*.py"), *tables, *folder.glob("*/[!_]*.py")])
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}


def _bundled_names():
    return ", ".join(name for name in bundled_configs() if "/" not in name)


def load_config(path, overrides=(), recipe=None):
    """Loads an experiment.

    Args:
        path: A `.py` file that exposes `CONFIG`, a `.json` file written from an experiment, or the name of a bundled
            config, as of `find_config`.
        overrides: Strings `"model.heads=4"`; they have the last word.
        recipe: Key in `RECIPES`, a dict of experiments that a `.py` file may expose beside `CONFIG`; `None` is
            `CONFIG`.

    Returns:
        An `Experiment`.

    Raises:
        InputError: On a missing file or recipe, a file of another kind, a misspelt field, a value of the wrong type or
            out of its range, or one that can have no effect (`EFFECTS`).
    """
    config, idle = _overridden(_load(path, recipe), overrides)
    for refusal in idle.values():
        raise InputError(refusal)
    return _checked_effects(config, path)


def load_rows(paths, overrides=(), recipe=None):
    """Loads the experiments of a table, as `load_config` does.

    An override holds for the rows in which it has an effect: `"model.heads=4"` for those with attention.

    Args:
        paths: List of config files.
        overrides, recipe: As in `load_config`, for all rows.

    Returns:
        Dict: stem of the file's name → `Experiment`.

    Raises:
        InputError: As `load_config`, and on an override that has an effect in no row.
    """
    rows, idle_in = {}, []
    for path in paths:
        base = _load(path, recipe)
        _, idle = _overridden(base, overrides)
        config, _ = _overridden(base, [text for text in overrides if text not in idle])
        rows[Path(path).stem] = _checked_effects(config, path)
        idle_in.append(idle)
    for text in overrides:
        if idle_in and all(text in idle for idle in idle_in):
            raise InputError(f"{idle_in[0][text]} It has none in any row.")
    return rows


def _overridden(base, overrides):
    """Returns the experiment with the overrides, and those that have no effect in it, each with its refusal.

    An override that sets a field back to its default, which takes away a setting without effect, is not among them.
    """
    config = base
    for text in overrides:
        config = override(config, text)
    rows, idle = without_effect(config), {}
    for text in overrides:
        name = text.partition("=")[0].strip()
        if name in rows:
            value, default = _value_and_default(config, name)
            before, _ = _value_and_default(base, name)
            if value not in rows[name].also and (value != default or before == default):
                idle[text] = _refusal(name, value, default, rows[name])
    return config, idle


def _checked_effects(config, path):
    try:
        check_effects(config)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return config


def _load(path, recipe):
    """Returns the experiment of a file, without overrides."""
    file = find_config(path)
    if (file / "__init__.py").is_file():
        raise InputError(
            f"{path} is a folder of configs. Name one of them; or train all rows of a table: affect table {path}"
        )
    expected = f"Expected a .py file, a config.json of a run, or a bundled config: {_bundled_names()}."
    if not file.is_file():
        raise InputError(f"There is no config file {path}{' (it is a folder)' if file.is_dir() else ''}. {expected}")
    if file.suffix not in (".py", ".json"):
        raise InputError(f"{path} is no config. {expected}")
    if file.suffix == ".json":
        if recipe is not None:
            raise InputError(f"{path} was resolved by its recipe already. Choose a recipe of a .py config.")
        config = from_json(Experiment, read_json(file).get("experiment"), f"{path}: experiment")
    else:
        try:
            exposed = run_python(file)
        except Exception as error:  # The user's Python may raise anything.
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            if "'mixed_precision'" in reason:
                reason += " It is train.precision now: write precision='float16', 'bfloat16' or 'float32'."
            if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in ("configs", "pipelines"):
                reason += f". It is part of affect: import affect.{error.name}."
            raise InputError(f"The config {path} does not load: {reason}") from error
        name, config = "CONFIG", exposed.get("CONFIG")
        if recipe is not None:
            recipes = exposed.get("RECIPES")
            recipes = recipes if isinstance(recipes, dict) else {}
            if recipe not in recipes:
                known = f"one of {list(recipes)}" if recipes else "none"
                raise InputError(f"The config {path} has no recipe {recipe!r}. Expected {known}.")
            name, config = f"RECIPES[{recipe!r}]", recipes[recipe]
        if not isinstance(config, Experiment):
            raise InputError(f"The config {path} must expose {name}, an affect.config.Experiment.")
        config = from_json(Experiment, to_json(config), f"{path}: {name}")  # Python has not checked the types.
    return config


def run_python(path):
    """Runs a Python file and returns the names that it defines, a dict.

    Its source text alone is run. `runpy.run_path` would also run bytecode, a folder and a ZIP archive, whatever their
    names are.

    Raises:
        Exception: Of any kind, from what is run; ValueError or SyntaxError where the file is no source text.
    """
    code = compile(Path(path).read_bytes(), str(path), "exec", dont_inherit=True)
    module = types.ModuleType("<config>")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their own module up
    try:
        exec(code, vars(module))
    finally:
        del sys.modules[module.__name__]
    return vars(module)


def override(config, text):
    """Returns `config` with one field replaced, as `"model.heads=4"` says; the value is checked against its type."""
    path, separator, value = text.partition("=")
    if not separator:
        raise InputError(f"An override reads FIELD=VALUE, such as model.heads=4. Received: {text!r}")
    return _replace(config, path.strip().split("."), value.strip(), text)


def _replace(config, names, value, text):
    fields = typing.get_type_hints(type(config))
    if isinstance(config, Train) and names[0] == "mixed_precision":
        raise InputError(f"{text!r}: it is train.precision now: write train.precision=float16, bfloat16 or float32.")
    if names[0] not in fields:
        raise InputError(f"Unknown field {names[0]!r} in {text!r}. Expected one of {sorted(fields)}.")
    current = getattr(config, names[0])
    if dataclasses.is_dataclass(current):
        if len(names) == 1:
            own = sorted(typing.get_type_hints(current))
            raise InputError(f"{names[0]!r} in {text!r} has fields of its own: {own}.")
        value = _replace(current, names[1:], value, text)
    else:
        if len(names) > 1:
            raise InputError(f"{names[0]!r} in {text!r} has no fields.")
        with contextlib.suppress(json.JSONDecodeError):  # an unquoted string, such as vgg16
            value = json.loads({"True": "true", "False": "false", "None": "null"}.get(value, value))
        value = _checked(fields[names[0]], value, text)
    return dataclasses.replace(config, **{names[0]: value})


def to_json(config):
    """Returns a dataclass as the dict that reading its JSON gives: tuples are lists."""
    return _as_lists(dataclasses.asdict(config))


def _as_lists(value):
    if isinstance(value, dict):
        return {name: _as_lists(item) for name, item in value.items()}
    return [_as_lists(item) for item in value] if isinstance(value, list | tuple) else value


def from_json(cls, values, where):
    """Builds a dataclass from the dict that `to_json` made; every field is checked.

    Args:
        cls: Dataclass.
        values: Dict of its fields; fields with a default may be absent.
        where: What the dict is, for the error.
    """
    if not isinstance(values, dict):
        raise InputError(f"{where} must be an object with the fields of {cls.__name__}. Received: {values!r}")
    types_of = typing.get_type_hints(cls)
    if cls is Train and type(values.get("mixed_precision")) is bool and "precision" not in values:
        values = {"precision": "float16" if values["mixed_precision"] else "float32"} | values
        del values["mixed_precision"]
    if unknown := sorted(set(values) - set(types_of)):
        raise InputError(f"{where} has unknown fields {unknown}. Expected some of {sorted(types_of)}.")
    arguments = {name: _checked(types_of[name], value, f"{where}.{name}") for name, value in values.items()}
    try:
        return cls(**arguments)
    except (TypeError, InputError) as error:
        raise InputError(f"{where}: {error}") from error


def _checked(expected, value, where):
    if dataclasses.is_dataclass(expected):
        return from_json(expected, value, where)
    if typing.get_origin(expected) is dict and type(value) is dict:
        _, item_type = typing.get_args(expected)
        return {name: _checked(item_type, item, f"{where}.{name}") for name, item in value.items()}
    if typing.get_origin(expected) is tuple and type(value) in (list, tuple):
        item_types = typing.get_args(expected)
        if item_types[-1] is ...:
            item_types = item_types[:1] * len(value)
        if len(item_types) == len(value):
            return tuple(
                _checked(*pair, f"{where}[{index}]") for index, pair in enumerate(zip(item_types, value, strict=True))
            )
    options = typing.get_args(expected) if isinstance(expected, types.UnionType) else (expected,)
    if all(dataclasses.is_dataclass(option) for option in options):
        return from_json(_of_task(options, value, where), value, where)
    options = tuple(typing.get_origin(option) or option for option in options)
    if float in options and type(value) is int:
        value = float(value)
    if type(value) not in options:
        names = " or ".join("None" if option is type(None) else option.__name__ for option in options)
        raise InputError(f"{where}: expected {names}. Received: {value!r}")
    return value


def _of_task(options, value, where):
    """Returns the dataclass whose task the values name; without one, the first, for older files name none."""
    task = value.get("task", options[0].task) if isinstance(value, dict) else options[0].task
    for option in options:
        if option.task == task:
            return option
    known = sorted(option.task for option in options)
    raise InputError(f"{where}.task must be one of {known}. Received: {task!r}")


def read_json(path):
    """Returns the object in a JSON file."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} must hold a JSON object. Received: {type(value).__name__}")
    return value


def write_json(path, value):
    """Writes a JSON file under a temporary name and renames it, so that a reader never sees half of it."""
    content = (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()  # It fails before anything is written.
    with replacing(path) as temporary:
        temporary.write_bytes(content)

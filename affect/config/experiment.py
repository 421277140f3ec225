"""Experiments as frozen dataclasses: each field with its meaning, and in its metadata with who chose its value.

Paper A is Aminbeidokhti et al., ICIAR 2019. Paper B is Lee et al., ICASSP 2018.

The metadata of a field has what paper A, its authors' code and affect choose, or what affect assumes where paper B is
silent. The tables in configs/README.md are made from it.
"""

import dataclasses
import math
import re
from dataclasses import MISSING, dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from affect.config.effects import OF_CLIPS, OF_RECORDINGS, WITH_BACKBONE, WITHOUT_BACKBONE
from affect.config.values import check_choices, check_ranges
from affect.errors import InputError

Detect = Literal["follow", "every"]
Tracks = Literal["main", "largest", "all"]
FrameSpacing = Literal["nearest", "floor"]
Border = Literal["reflect", "black"]
InitialWeights = Literal["keras", "pytorch"]
Temporal = Literal["rnn", "lstm", "bilstm", "conv3d"]
SpatiotemporalActivation = Literal["softmax", "sigmoid"]
VideoSpatialPooling = Literal["average", "attention", "shift"]
ScorePooling = Literal["joint_softmax", "average", "max"]
Features = Literal["faces", "lgbp_top"]
Predicts = Literal["frames", "end"]
EvaluationProtocol = Literal["avec", "faces"]
Optimizer = Literal["sgd", "adam"]
WeightDecaySchedule = Literal["constant", "cosine"]
SelectionMetric = Literal["accuracy", "loss", "ccc"]
Precision = Literal["float32", "bfloat16", "float16"]
TRAINABLE = re.compile(r"head|all|last ([1-9]\d*) blocks?")

# dlib's mean face shape (eyes: mean of their six points) in a unit box, in the order of
# `affect.data.clips.LANDMARKS`. Paper A stores dlib's aligned faces.
MEAN_SHAPE = ((0.2255, 0.2160), (0.7548, 0.2160), (0.4901, 0.5156), (0.2541, 0.7802), (0.7261, 0.7802))


def choose(default: Any, *, paper: str = "–", code: str = "–", ours: str | None = None, why: str = "") -> Any:
    """Returns a dataclass field of paper A, with who chose its value.

    Args:
        default: Of the field; `MISSING` where it has none.
        paper: What the paper writes; a dash where it is silent.
        code: What the authors' code does.
        ours: What affect does; `None` writes the default.
        why: Why affect differs from the paper or the code, or fills their silence so.
    """
    ours = _format(default) if ours is None else ours
    return field(default=default, metadata={"paper": paper, "code": code, "ours": ours, "why": why})


def assume(default: Any, why: str = "") -> Any:
    """Returns a dataclass field of paper B whose value affect assumes.

    Args:
        default: Of the field.
        why: Why this value.
    """
    return field(default=default, metadata={"assumed": _format(default), "why": why})


def _format(value):
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}".replace("e-0", "e-") if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Faces:
    """How faces are found, cut and stored. These settings change bytes on disk; the manifest of the shards has them.

    Args:
        detector: Name in `affect.pipelines.detectors.DETECTORS`.
        min_face_px: Smallest face that is searched, in pixels of the displayed frame.
        score_threshold: Detections with a lower score in [0, 1] are left out. 0.8 is the threshold of mtcnn 1.0.
        face_size: Height and width in pixels of the stored face (paper A: 256).
        margin_ratio: Padding around the template on each side, as a share of its size. dlib's face chips, which paper A
            uses, have 0.25.
        frame_rate_hz: Frames a second that are searched; `None` searches every frame.
        jpeg_quality: 1 to 100.
        detect: `"follow"` detects in key frames at most half a second apart and follows the faces in between.
            `"every"` detects in every frame: it is slower, and finds faces that are visible for less than that.
        tracks: Faces that are kept: the `"main"` one (seen longest, then the most central; a still face, such as a
            picture on a wall, comes after one that moves), the `"largest"`, or `"all"`.
        boxes: CSV file of faces that another program has detected, for the detector `"boxes"` only.
        template: Five points x y in a unit box, in the order of `affect.data.clips.LANDMARKS`. A face is turned,
            scaled and shifted until its landmarks are as near to them as possible. The stored face is that box with its
            padding.
    """

    detector: str = "mtcnn"
    min_face_px: int = 40
    score_threshold: float = 0.8
    face_size: int = 256
    margin_ratio: float = 0.25
    frame_rate_hz: float | None = None
    jpeg_quality: int = 95
    detect: Detect = "follow"
    tracks: Tracks = "main"
    boxes: str | None = None
    template: tuple[tuple[float, float], ...] = MEAN_SHAPE

    def __post_init__(self):
        if len(self.template) != len(MEAN_SHAPE) or len(set(self.template)) < 2:
            raise InputError(f"faces.template must be five points that are not all one. Received: {self.template}")
        check_choices(self)
        check_ranges(
            self,
            min_face_px=(1, math.inf),
            face_size=(1, 4096),
            margin_ratio=(0, 4),
            frame_rate_hz=(0.01, 10_000),
            jpeg_quality=(1, 100),
        )
        if (self.detector == "boxes") != (self.boxes is not None):
            raise InputError(
                "The detector boxes and a CSV file of boxes belong together. "
                f"Received: detector={self.detector!r}, boxes={self.boxes!r}"
            )


@dataclass(frozen=True)
class Data:
    """How clips are read from shards.

    Args:
        train_split: Split that is trained on.
        batch_clips: Clips in a batch.
        frames: Frames sampled from a training clip.
        repeat_frames: Whether a clip with fewer frames is filled with repeated ones. If not, it is padded, and the mask
            says so.
        eval_frames: Largest number of frames of an evaluated clip that are read, evenly spaced.
        frame_spacing: Which frame is read at an evenly spaced position, where a clip has more than `eval_frames`: the
            `"nearest"` one or the one before it, `"floor"`.
        crop_ratio: Side of the crop as a share of the stored face. The crop is central in evaluation.
        random_crop: Whether the crop of a training clip has a random position.
        flip: Whether training clips are mirrored at random, left and right.
        rotation_deg: Largest angle by which training clips are turned.
        rotation_border: What fills the corners after a turn: `"reflect"`, the reflected border, each pixel interpolated
            from four; or `"black"`, with nearest pixels.
        view_per_frame: Whether crop, mirror and angle are drawn for each frame, and not once for the clip.
        selection_ratio: Share of the training clips, or recordings, that is set aside to select the epoch.
        selection_split: Split whose clips select the epoch, instead of a share.
        keep_last_batch: Whether the clips that do not fill the last batch of an epoch are a smaller batch. If not, they
            wait for the order of another epoch.
        shuffle_clips: Size of the shuffle buffer in clips.
        soft_labels: Whether training clips are learnt by the shares of their raters' votes (CREMA-D has them). A clip
            without votes keeps its label. Selection and evaluation always use the label.
    """

    train_split: str = "train"
    batch_clips: int = choose(3, code="3")
    frames: int = choose(16, paper="16", code="16", why="drawn at random without replacement, in time order")
    repeat_frames: bool = choose(
        False,
        code="drawn with replacement",
        ours="padded with a mask",
        why="a repeated frame would count twice in joint softmax",
    )
    eval_frames: int = choose(120, code="120")
    frame_spacing: FrameSpacing = choose("nearest", code="floor")
    crop_ratio: float = choose(
        0.875,
        code="224/256, after a reflecting pad to a square",
        ours="224/256",
        why="stored faces are square, so the pad would change nothing",
    )
    random_crop: bool = choose(True, paper="yes", code="no, central")
    flip: bool = choose(True, paper="yes (“flip, mirror”, read as one)", code="yes")
    rotation_deg: float = choose(10.0, paper="not named, 0", code="10", why="alignment is never exact")
    rotation_border: Border = choose("reflect", code="black", why="an evaluated face has no black corners")
    view_per_frame: bool = choose(
        False, code="each frame", ours="the clip", why="a face does not change sides between frames"
    )
    selection_ratio: float = choose(
        0.15,
        paper="0: it trains on all clips and keeps the last epoch",
        code="0",
        why="so that the reported clips select nothing",
    )
    selection_split: str | None = choose(
        None,
        code="`val`, the reported split",
        why="the accuracy of a split that selected its epoch is optimistic",
    )
    keep_last_batch: bool = choose(
        False, code="yes", ours="no: they wait for another epoch", why="so that every clip has the same weight"
    )
    shuffle_clips: int = 256
    soft_labels: bool = False

    def __post_init__(self):
        counts = dict.fromkeys(("batch_clips", "frames", "eval_frames", "shuffle_clips"), (1, math.inf))
        check_ranges(self, **counts, crop_ratio=(0, 1), rotation_deg=(0, 180))
        check_choices(self)


@dataclass(frozen=True)
class FrameClassifier:
    """The network of paper A: a CNN on each frame, attention over its locations, and classes pooled over time.

    Args:
        backbone: Name in `affect.models.backbones.BACKBONES`; `"applications/NAME"`, a model of Keras Applications;
            `"hub/PRESET"`, a backbone of KerasHub; or the path of a file `.keras`, a model from images to maps. In a
            `config.json`, the path is read from the folder of that file.
        weights: Weights of the backbone: in the user's cache, or for other backbones as in
            `affect.models.backbones.build_backbone`; `None` for random ones. There is no default, because nothing runs
            on random weights unless the user asks.
        face_size: Height and width in pixels of the network's input; `None` is the backbone's own.
        input_scaling: `"published"`, the scaling that the backbone's weights were trained on (VGG-Face: BGR of 0 to 255
            minus its mean colour), or `"unit"`, colours in [0, 1].
        output_stride: Stride of the backbone's local features in pixels; `None` is the backbone's own.
        spatial_pooling: Name in `affect.layers.SPATIAL_POOLINGS`: `"attention"` (SA in the paper's tables), `"shift"`
            (SHIFT) or `"average"`; or `None` for the backbone's own classifier, which needs no training and has its own
            classes.
        heads: Attention heads, N. The tables have 1, 2 and 4. `heads`, `hidden_units`, `attention_bias` and `diversity`
            have an effect with `"attention"` and `"shift"` only.
        hidden_units: Hidden units U of the attention network; `None` makes it one layer.
        attention_bias: Whether the first of two layers of the attention network has a bias.
        diversity: Strength λ of the penalty on attention. As in the authors' code, the norm is averaged over the frames
            of a batch, and not its square.
        temporal_pooling: Name in `affect.layers.TEMPORAL_POOLINGS`. Scores are pooled by `"joint_softmax"` (TP),
            `"average"` (AVG) or `"max"`; features before the classifier by `"lstm"` or `"statistics"`.
        lstm_units: Units of the LSTM, for `"lstm"` only.
        dropout: Rate before the classifier, which is linear with a bias.
        initial_weights: What attention and classifier start from. `"keras"`: Glorot's uniform kernels, biases of 0,
            and SHIFT's w and b of 1 and 0. `"pytorch"`: U(±1/√inputs) for kernels and biases, and w and b from
            N(0, 1/√N). An LSTM always starts as Keras's.
        task: `"classification"`. It tells this network from the others in JSON.
    """

    backbone: str = choose(MISSING, paper="VGG16", code="VGG16", ours="vgg16")
    weights: str | None = choose(MISSING, paper="VGG-Face", code="VGG-Face", ours="vggface")
    face_size: int | None = choose(None, paper="224", code="224", ours="224")
    input_scaling: str = choose(
        "published",
        paper="VGG-Face's",
        code="unit",
        why="with the other one, the same weights see 1/255 of their contrast",
    )
    output_stride: int | None = choose(
        None,
        paper="16",
        code="32, after the last pooling",
        ours="16",
        why="four times as many locations to attend to",
    )
    spatial_pooling: str | None = "attention"
    heads: int = 2
    hidden_units: int | None = choose(
        None,
        paper="two layers, U not given",
        code="512 in its first commit; later one layer, with 256 and 600 in comments",
        ours="256",
        why="the scores of one layer are bounded (`affect.layers.AttentionPooling`)",
    )
    attention_bias: bool = choose(False, paper="no", code="yes in its first commit, later no")
    diversity: float = choose(
        1.0,
        paper="0, 0.1 or 1, by row",
        code="0, 0.1 or 10; 0 in its best run with N = 2, from the first commit",
        ours="as the paper, by row",
    )
    temporal_pooling: str = "joint_softmax"
    lstm_units: int = choose(512, paper="quoted from another paper, not given", code="no LSTM", why="assumed")
    dropout: float = choose(0.0, code="0")
    initial_weights: InitialWeights = choose("keras", code="PyTorch's", ours="Keras's")
    task: Literal["classification"] = "classification"

    # Facts about every such network, not fields.
    features = "faces"
    effects = OF_CLIPS + WITH_BACKBONE

    @property
    def is_trained(self) -> bool:
        """Whether training can change it. A backbone's own classifier is used as it is."""
        return self.spatial_pooling is not None

    def __post_init__(self):
        counts = dict.fromkeys(("heads", "hidden_units", "lstm_units"), (1, math.inf))
        check_ranges(self, **counts, diversity=(0, math.inf), dropout=(0, 1))
        check_choices(self)


@dataclass(frozen=True)
class VideoNetwork:
    """The network of paper B (Lee et al., ICASSP 2018) and of the rows it is compared with, without the last layer.

    `VideoRegressor` and `VideoClassifier` add the last layer.

    Only the abstract and a poster of the paper could be read. They name the layers and give no sizes. Two choices are
    the paper's: the order of the layers, and X'' = A ⊙ X. Everything else is assumed, here and in `Windows`, so this is
    no reproduction. The rows CNN and CNN + RNN come from another paper, taken to be Khorrami et al., arXiv 1602.07377.
    Sizes follow a public implementation of that CNN (DenisRang/Combined-CNN-RNN-for-emotion-recognition): faces of 96
    pixels, convolutions of 64, 128 and 256 filters of 5 × 5, a dense layer of 300. All rows have them, so that rows
    differ only in what they compare.

    Args:
        temporal: What sees more than one frame. `None`: nothing, the 2D-CNN sees each frame alone. `"rnn"`, `"lstm"`,
            `"bilstm"` (both directions of time): a recurrent network on the vectors of the 2D-CNN or on LGBP-TOP.
            `"conv3d"`: the 3D-CNN.
        attention: `None`, or the spatiotemporal attention A of a 2D-CNN and a ConvLSTM (STA), which multiplies the
            features of the 3D-CNN, for `"conv3d"` only. `"softmax"` over the h · w locations of each frame, times their
            number, so that equal attention leaves X unchanged; `"sigmoid"` for each location of each frame alone.
        face_size: Height and width in pixels of the network's input, or of the faces from which LGBP-TOP is computed.
            The network scales colours to x / 64 - 2.
        blocks: Convolutions of the 2D-CNN, and likewise of the 3D-CNN before the attention, each with max-pooling to
            half the size. Both give maps of `face_size` / 2^`blocks`.
        filters: Filters of the first block; each block has twice as many as the one before.
        kernel_size: Of the 2D-CNN's convolutions, in pixels.
        kernel_size_3d: Of the 3D-CNN's convolutions, in pixels and in frames.
        attended_blocks: Convolutions of the 3D-CNN after the attention, without pooling, with as many filters as its
            last block.
        attention_filters: Filters of the ConvLSTM.
        attention_kernel_size: Of the ConvLSTM's convolutions, in locations.
        spatial_pooling: Name in `affect.layers.SPATIAL_POOLINGS`: how the locations of a map become one vector.
            `"attention"` and `"shift"` are paper A's.
        heads: Attention heads, N, as in paper A. `heads`, `pooling_units` and `diversity` have an effect with
            `"attention"` and `"shift"` only.
        pooling_units: Hidden units U of the network that scores the locations; `None` makes it one layer.
        diversity: Strength λ of the penalty on the attention of the pooling. It does not change `attention`.
        recurrent_units: Units of `"rnn"`, of `"lstm"` and of each direction of `"bilstm"`.
        hidden_units: Units of the dense layer, with ReLU, before the linear one.
        dropout: Rate before the linear layer.
    """

    temporal: Temporal | None
    attention: SpatiotemporalActivation | None = assume(
        None, "`softmax` where there is attention, because it selects few places, so that a picture of it is readable"
    )
    face_size: int = assume(96, "64 for LGBP-TOP")
    blocks: int = assume(3, "12 × 12 locations")
    filters: int = assume(64)
    kernel_size: int = assume(5)
    kernel_size_3d: int = assume(3, "usual for 3D-CNNs")
    attended_blocks: int = assume(1)
    attention_filters: int = assume(64, "its memory is small beside 256 channels of features")
    attention_kernel_size: int = assume(3)
    spatial_pooling: VideoSpatialPooling = assume("average", "paper B has no such pooling")
    heads: int = assume(2)
    pooling_units: int | None = assume(None)
    diversity: float = assume(1.0)
    recurrent_units: int = assume(100)
    hidden_units: int = assume(300)
    dropout: float = assume(0.5, "9 recordings are few")

    # Facts about every such network, not fields: it has no backbone and learns as a whole.
    backbone = weights = None
    is_trained = True

    def __post_init__(self):
        kernels = ("kernel_size", "kernel_size_3d", "attention_filters", "attention_kernel_size")
        counts = ("blocks", "filters", *kernels, "heads", "pooling_units", "recurrent_units", "hidden_units")
        at_least_1, at_least_0 = dict.fromkeys(counts, (1, math.inf)), (0, math.inf)
        check_ranges(self, **at_least_1, attended_blocks=at_least_0, diversity=at_least_0, dropout=(0, 1))
        check_choices(self)
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
    """Paper B's network on valence and arousal over time, or a row it is compared with: see `VideoNetwork`.

    Args:
        predicts: `"frames"`: valence and arousal of each frame of the window. `"end"`: of the last frame with a face.
        features: What the network is given for a frame: `"faces"`; or `"lgbp_top"`, vectors that replace faces and
            2D-CNN. Their assumed sizes are in `affect.data.lgbp`.
        task: `"regression"`. It tells this network from the others in JSON.
    """

    predicts: Predicts = assume("frames", "each label of the window is learnt from")
    features: Features = "faces"
    task: Literal["regression"] = "regression"

    effects = OF_RECORDINGS + WITHOUT_BACKBONE

    def __post_init__(self):
        super().__post_init__()
        if self.features != "lgbp_top":
            return
        check_ranges(self, face_size=(4, math.inf))
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
    """Paper B's network on classes of clips, which neither paper has: see `VideoNetwork`.

    The scores of the frames are pooled over time as in paper A. The network reads the frames that `Data` samples. Set
    `data.eval_frames` to `data.frames`, so that time passes at about the same rate in training and in evaluation.
    Otherwise evaluation reads up to 120 frames of a clip.

    Args:
        temporal_pooling: Name in `affect.layers.TEMPORAL_POOLINGS`, of those that pool scores.
        task: `"video_classification"`. It tells this network from the others in JSON.
    """

    temporal_pooling: ScorePooling = "joint_softmax"
    task: Literal["video_classification"] = "video_classification"

    features = "faces"
    effects = OF_CLIPS + WITHOUT_BACKBONE


@dataclass(frozen=True)
class Windows:
    """How recordings are cut into windows and read over time, for regression. Paper B gives only the length, 4 s.

    Args:
        length_s: Length of a window. The rows have 1 or 4.
        stride_s: From the start of a window to the start of the next one.
        frame_rate_hz: Frames a second of the regular grid that a window is. A point of the grid at which no face is
            stored is masked.
        delay_s: How late raters react: a frame is labelled with the rating this much later. `None` searches it on the
            training recordings (`affect.tasks.delay`), and the run's config has what was found.
        postprocess: Whether estimated series are filtered, scaled and shifted by what raised the CCC of the selection
            recordings, as AVEC's baselines do (`affect.tasks.postprocessing`). It does not change the network, and
            evaluation reports both.
        protocol: What an evaluation counts. `"avec"`, as in AVEC's challenges: each rating, whatever its rate; gaps in
            the estimates are interpolated and their ends are held. `"faces"`: the points of the grid with both a face
            and a rating. Training does not depend on it.
    """

    length_s: float = 4.0
    stride_s: float = assume(2.0, "half of 4 s")
    frame_rate_hz: float = assume(10.0, "SEWA is rated at this rate")
    delay_s: float | None = assume(
        2.8, "published choices on RECOLA are between 2.3 and 4 s, chosen on the training recordings"
    )
    postprocess: bool = assume(True)
    protocol: EvaluationProtocol = "avec"

    def __post_init__(self):
        check_choices(self)
        above_0 = dict.fromkeys(("length_s", "stride_s", "frame_rate_hz"), (1e-3, math.inf))
        check_ranges(self, **above_0, delay_s=(0, math.inf))

    @property
    def frames(self) -> int:
        """Frames of a window."""
        return max(1, round(self.length_s * self.frame_rate_hz))


@dataclass(frozen=True)
class Train:
    """Optimisation by SGD or Adam with warm restarts, one learning rate for the backbone and one for the rest.

    Args:
        epochs: Passes over the training clips.
        trainable: What is trained: `"all"`; `"head"`, what follows the backbone; or `"last 2 blocks"` of the backbone,
            with any number, and what follows. A block is what lies between two halvings of the map
            (`affect.models.blocks`). What is not trained computes as in evaluation.
        backbone_learning_rate: Of the part of the backbone that is trained, above 0.
        feature_views: Number V of views of a face, for a frozen backbone only. Crop, mirror and angle are drawn in the
            first V epochs, and the later epochs repeat these views in turn. So the backbone sees each view once, before
            the first epoch, and an epoch trains the rest of the network on stored features. It saves time and costs
            variety: the network sees V views of a face, and not one an epoch. The frames of a clip are still drawn in
            every epoch. With `data.view_per_frame` a frame has V views; otherwise a clip has. `None` draws new views in
            every epoch, and the backbone computes them. Without random views, features are stored anyway.
        head_learning_rate: Of all that is not the backbone.
        optimizer: `"sgd"` or `"adam"`, whose weight decay is decoupled (AdamW).
        momentum: Of SGD only.
        nesterov: Of SGD only.
        pytorch_sgd: Whether a step is PyTorch's (`PyTorchSGD`) or Keras's.
        weight_decay: Keras's decay is w ← w(1 − rate · decay). PyTorch's is added to the gradient, and is
            1/(1 − momentum) times as strong.
        weight_decay_schedule: `"constant"`; or `"cosine"`, for `pytorch_sgd` only: the first period begins with
            `weight_decay`, each batch has it times the cosine of the rate, and each period begins with
            1/√`restart_factor` of the one before.
        restart_epochs: Length of the first cosine period.
        restart_factor: Factor from one period to the next.
        accumulation_steps: Batches whose gradients are averaged before a step, where memory is short.
        label_smoothing: Share of the label that is spread over all classes.
        concordance: Share w of 1 - CCC in the loss (1 - w) · MSE + w · (1 - CCC), for regression only. Paper B's rows
            "c-loss" have 1; the loss of its other rows is not given.
        class_weights: Whether the weight of a clip is the inverse of how frequent its class is.
        selection_metric: `"accuracy"` or `"loss"` of the selection clips, which selects the best epoch. For regression
            `"loss"` or `"ccc"`, the mean over valence and arousal.
        seed: Of initial weights, selection clips, order, sampling and augmentation.
        precision: In which training computes. Weights, attention and pooling stay in float32. Half precision is for
            accelerators; float16 scales the loss, and skips steps whose gradients overflow. A run is read, evaluated
            and exported in float32.
        deterministic: Whether a run that is repeated on the same device has the same bits. To get this, Keras does not
            use XLA. `None` is yes on a CPU and no on an accelerator.
    """

    epochs: int = choose(30, paper="30", code="30, later 16 with attention", why="two whole periods")
    trainable: str = choose("all", paper="all", code="all; the classifier in its last commit")
    backbone_learning_rate: float = choose(1e-5, paper="1e-5", code="1e-5; 1e-3 with attention")
    feature_views: int | None = None
    head_learning_rate: float = choose(0.1, paper="0.1", code="0.1; 1e-2 with attention")
    optimizer: Optimizer = choose(
        "sgd",
        paper="SGD",
        code="SGD",
        why="paper B's is not given; `adam` is assumed, because on planted recordings SGD at 0.1 ended at constants",
    )
    momentum: float = choose(0.9, paper="not given", code="0.9")
    nesterov: bool = choose(True, code="yes")
    pytorch_sgd: bool = choose(
        False, code="PyTorch's step", ours="Keras's step", why="its decay does not depend on momentum"
    )
    weight_decay: float = choose(
        5e-5,
        paper="5e-5",
        code="5e-4 · √(batch / (clips · period)): with 773 clips 9.85e-6 for a period of 10 epochs, 1.39e-5 for 5",
    )
    weight_decay_schedule: WeightDecaySchedule = choose("constant", code="cosine")
    restart_epochs: int = choose(10, code="10; 5 in its first commit")
    restart_factor: float = choose(2.0, code="2", why="10 + 20 = 30 epochs")
    accumulation_steps: int = choose(1, paper="1", code="1")
    label_smoothing: float = choose(0.0, paper="0", code="0")
    concordance: float = 0.0
    class_weights: bool = choose(False, paper="no", code="no")
    selection_metric: SelectionMetric = choose("accuracy", code="accuracy")
    seed: int = 0
    precision: Precision = "float32"
    deterministic: bool | None = None

    # Former fields → what replaces them.
    renamed = MappingProxyType(
        {
            "mixed_precision": "it is train.precision now: write train.precision=float16, bfloat16 or float32.",
            "frozen_blocks": "it is train.trainable now: write train.trainable='last 2 blocks' to freeze the others.",
        }
    )

    def __post_init__(self):
        at_least_0 = dict.fromkeys(("backbone_learning_rate", "head_learning_rate", "weight_decay"), (0, math.inf))
        counts = ("epochs", "restart_epochs", "restart_factor", "accumulation_steps", "feature_views")
        at_least_1 = dict.fromkeys(counts, (1, math.inf))
        shares = dict.fromkeys(("momentum", "label_smoothing", "concordance"), (0, 1))
        check_ranges(self, **at_least_0, **at_least_1, **shares, seed=(0, 2**32 - 1))
        check_choices(self)
        if isinstance(self.trainable, str) and not TRAINABLE.fullmatch(self.trainable):
            raise InputError(
                "train.trainable must be 'head', 'all', or 'last N blocks' such as 'last 2 blocks'. "
                f"Received: {self.trainable!r}"
            )
        if self.backbone_learning_rate == 0:
            raise InputError(
                "train.backbone_learning_rate must be above 0. To freeze the backbone, write train.trainable='head'. "
                f"Received: {self.backbone_learning_rate!r}"
            )
        if self.pytorch_sgd and self.optimizer != "sgd":
            raise InputError(
                "train.pytorch_sgd is about SGD: expected false beside another optimizer. "
                f"Received: train.optimizer={self.optimizer!r}"
            )

    @staticmethod
    def upgrade(values: dict[str, Any]) -> dict[str, Any]:
        """Returns the fields of an older file under their names of now: `mixed_precision` is read as float16."""
        if type(values.get("mixed_precision")) is not bool or "precision" in values:
            return values
        precision = "float16" if values["mixed_precision"] else "float32"
        return {"precision": precision} | {name: value for name, value in values.items() if name != "mixed_precision"}


@dataclass(frozen=True)
class Experiment:
    """What is trained, on what, and how; a row of a paper's table.

    Args:
        name: Short name.
        model: `FrameClassifier` or `VideoClassifier`, which classify clips, or `VideoRegressor`.
        data: How clips are read.
        train: How the network is trained.
        reported: Numbers that a paper gives, by metric: `{"accuracy": 0.49}`.
        recipe: Name of the recipe that made the other fields. It is a label and changes nothing.
        windows: How recordings are cut, for `VideoRegressor` only.
    """

    name: str
    model: FrameClassifier | VideoRegressor | VideoClassifier
    data: Data = field(default_factory=Data)
    train: Train = field(default_factory=Train)
    reported: dict[str, float] = field(default_factory=dict)
    recipe: str = "ours"
    windows: Windows = field(default_factory=Windows)

    @staticmethod
    def upgrade(values: dict[str, Any]) -> dict[str, Any]:
        """Returns the fields of an older file under their names of now: what was frozen is `train.trainable`."""
        model, train = values.get("model"), values.get("train")
        if not isinstance(model, dict) or not isinstance(train, dict) or "trainable" in train:
            return values
        frozen = train.get("frozen_blocks", 0)
        train = {name: value for name, value in train.items() if name != "frozen_blocks"}
        if train.get("backbone_learning_rate") == 0:
            del train["backbone_learning_rate"]
            if model.get("backbone"):
                train["trainable"] = "head"
        elif isinstance(frozen, int) and frozen > 0:
            # The backbones of that time had five blocks, and fewer where mini-Xception ended earlier.
            blocks = {8: 4, 4: 3}.get(model.get("output_stride", 16), 5)
            train["trainable"] = f"last {blocks - frozen} blocks" if frozen < blocks else "head"
        return values | {"train": train}


def list_choices_of_fields(kind: Literal["ours", "assumed"]) -> list[tuple[str, dict[str, str]]]:
    """Returns the fields that have such metadata, as `model.heads` with the metadata, in order.

    Args:
        kind: `"ours"` for fields of paper A, `"assumed"` for fields of paper B.
    """
    groups = {"data": (Data,), "train": (Train,), "windows": (Windows,)}
    groups["model"] = (FrameClassifier,) if kind == "ours" else (VideoRegressor,)
    return [
        (f"{group}.{own.name}", dict(own.metadata))
        for group in ("data", "model", "windows", "train")
        for own in dataclasses.fields(groups[group][0])
        if kind in own.metadata
    ]

"""What a task must provide. The commands ask the task for everything in which kinds of experiments differ."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np

from affect.config import Data, Experiment, FrameClassifier, Train, VideoClassifier, VideoRegressor
from affect.config.experiment import EvaluationProtocol
from affect.data.clips import Clip, Face
from affect.errors import InputError
from affect.progress import Track, hide_progress

if TYPE_CHECKING:
    from affect.data.shards import Shards
    from affect.tasks.postprocessing import Postprocessing
    from affect.tasks.signatures import Signature

# The config of a network: the field `model` of an experiment.
ModelConfig = FrameClassifier | VideoRegressor | VideoClassifier
# Largest number of faces in a request to an exported model: clips × frames.
MAX_FACES = 512
# How the figure of a clip is drawn (`affect.reading.explain.explain`).
Style = Literal["ours", "paper"]
STYLES = get_args(Style)
# Narrowest and widest figure in centimetres.
WIDTHS_CM = 5.0, 60.0


@dataclass(frozen=True)
class Drawing:
    """How the figure of a clip is drawn.

    Args:
        frames: Largest number of frames that are shown.
        by_importance: Whether the most important frames are shown, instead of evenly spaced ones.
        apart_s: Least time between two of them in seconds; `None` is the length of the clip divided by twice `frames`,
            for which there is always room where a face is seen throughout.
        style: `"ours"`, or `"paper"` as figure 2 of paper A.
        width_cm: Width of the figure in centimetres; `None` gives each frame 4.3 cm.
        each_head: Whether the attention of each head has a row.

    Raises:
        InputError: On a value that is unknown, or that has no effect.
    """

    frames: int = 8
    by_importance: bool = False
    apart_s: float | None = None
    style: Style = "ours"
    width_cm: float | None = None
    each_head: bool = False

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise InputError(f"The style of a figure must be one of {list(STYLES)}. Received: {self.style!r}")
        if self.frames < 1:
            raise InputError(f"A figure shows at least one frame. Received: frames={self.frames}")
        if self.apart_s is not None and not 0 <= self.apart_s < float("inf"):
            raise InputError(f"--apart must be seconds, 0 or more. Received: {self.apart_s}")
        if self.apart_s is not None and not self.by_importance:
            raise InputError("--apart has an effect only on the most important frames. Add --by-importance.")
        if self.width_cm is not None and not WIDTHS_CM[0] <= self.width_cm <= WIDTHS_CM[1]:
            least, most = WIDTHS_CM
            raise InputError(f"--width-cm must be from {least:g} to {most:g} cm. Received: {self.width_cm}")
        if self.each_head and self.style == "paper":
            raise InputError("--style paper draws the mean of the heads. Leave out --each-head.")


@dataclass(frozen=True)
class Curves:
    """A prediction over time as arrays, a row for each decoded frame. Its memory is small also for a long video.

    Args:
        label: The likeliest class; `None` without a face, and for a regression.
        overall: float64 (E,): p(c|S); for a regression, the means over the frames with a face; NaN without a face.
        frames_read: Number of faces that the model read.
        times_s: float64 (F,), times of the frames in seconds.
        places: int64 (F,), index of the frame's face in the clip; -1 without a face.
        boxes: float32 (F, 4), x0 y0 x1 y1 in pixels of the frame; NaN without a face.
        scores: float32 (F,), score of the detector; NaN without a face.
        importance: float64 (F,), p(f|S); NaN where no face was read, and for a regression.
        values: float64 (F, E), p(c|f,S), or valence and arousal; NaN where no face was read.
    """

    label: str | None
    overall: np.ndarray
    frames_read: int
    times_s: np.ndarray
    places: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    importance: np.ndarray
    values: np.ndarray

    @property
    def peak_s(self) -> float | None:
        """Time of the most important frame; without importance, of the value that is farthest from 0, 0."""
        weights = np.hypot(*self.values.T) if np.isnan(self.importance).all() else self.importance
        return None if np.isnan(weights).all() else float(self.times_s[np.nanargmax(weights)])


class Prediction(Protocol):
    """What is known of a face of a video."""

    @property
    def answer(self) -> Any:
        """From `Task.answer`."""

    @property
    def curves(self) -> Curves:
        """The answer as arrays."""

    @property
    def label(self) -> str | None:
        """The likeliest class; `None` for a regression."""

    @property
    def predictor(self) -> "LoadedModel":
        """The model."""


class Cut(Protocol):
    """What a task reads of an `affect.pipelines.faces.Cut`, whose module is not imported here."""

    @property
    def times_s(self) -> Sequence[float]:
        """Times of all decoded frames in seconds, ascending."""

    @property
    def seen(self) -> Sized:
        """All tracks of the video."""


class LoadedModel(Protocol):
    """What a task uses of a model that `affect.load` returns.

    It is the part of `affect.reading.predictor.Predictor` that tasks need, because that module is not imported here. A
    `keras.Model` is only a network: it knows neither its classes nor the experiment that it was trained with.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the probabilities; in a regression, the names of the dimensions."""

    @property
    def experiment(self) -> Experiment:
        """The config that the model was trained with."""

    @property
    def face_size(self) -> int:
        """Height and width in pixels of the model's input faces."""

    @property
    def most_frames(self) -> int | None:
        """The most faces of a clip that the model reads; `None` where it reads all."""

    @property
    def frame_functions(self) -> Mapping[str, Callable[..., Mapping[str, Any]]]:
        """Functions that read single faces, by name, for `affect.models.stream.StreamingClassifier`."""

    @property
    def postprocessing(self) -> "Mapping[str, Postprocessing]":
        """Dimension → the steps that were fitted for it; empty without any."""

    def respond(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns the outputs for a batch of clips, arrays by name, from arrays by the names of the inputs."""

    def respond_with_attention(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns what `respond` does and, if the model gives it, `attention`."""


class TrainedModel(LoadedModel, Protocol):
    """What a task uses of a run: an `affect.reading.run.Trained`, whose module is not imported here."""

    @property
    def model(self) -> Any:
        """The `keras.Model`."""

    @property
    def network(self) -> Any:
        """The `keras.Model` with a dict of outputs, from `Task.detail`."""


class ServedModel(LoadedModel, Protocol):
    """What a task uses of an `affect.reading.server.Served`, whose module is not imported here."""

    @property
    def path(self) -> Path:
        """The local copy of the exported model."""

    @property
    def client(self) -> Any:
        """The `affect.reading.server.Client`."""

    @property
    def batch_faces(self) -> int:
        """Faces in one request."""


@dataclass(frozen=True)
class FrozenFaces:
    """The faces of training clips, whose features can be computed once because the backbone is frozen.

    Args:
        rows: Number of views of all faces.
        seen: Faces that all epochs together see.
        faces: `faces(model, batch_faces)` → dataset of `(rows, faces)`: each view of each face once.
        batches: `batches(model, first_epoch)` → endless training batches, with `rows` instead of `faces`.
    """

    rows: int
    seen: int
    faces: Callable[..., Any]
    batches: Callable[..., Any]


@dataclass(frozen=True)
class Training:
    """What `model.fit` needs from a task, and what `train` writes about it.

    Args:
        experiment: The config, with the delay of the ratings if it was searched.
        classes: Names of the outputs.
        selection: Keys of the clips, or names of the recordings, that select the epoch; empty for none.
        loss: Keras loss.
        sizes: Sizes of the batches of an epoch.
        batches: `batches(model, first_epoch=0, rank=ALONE)` → `(training, selection)`: endless batches with the rows of
            this process; and its share of the selection batches, or `None`.
        counts: How many clips, recordings or windows are used and how many are left out.
        metrics: Keras metrics that count every example alike. Their variables, and those of `weighted_metrics`, are
            sums over the examples, so that those of several devices can be added.
        weighted_metrics: Keras metrics that use the weights of the examples.
        class_weights: Class index → weight, for `model.fit`; `None` weights all classes alike.
        weights_sha256: SHA-256 of the published weights that training starts from; `None` without them.
        delay: Content of `delay.json`; `None` where nothing was searched.
        fitted_on: Recordings on which post-processing is fitted; empty for none.
        is_frozen: Whether the model has a backbone, and all of it is frozen.
        freeze_faces: Returns the training faces, if a frozen backbone sees the same views of them in several epochs.
            `None` if it does not.
    """

    experiment: Experiment
    classes: tuple[str, ...]
    selection: list[str]
    loss: Any
    sizes: list[int]
    batches: Callable[..., tuple[Any, Any]]
    counts: dict[str, int]
    metrics: list[Any] = field(default_factory=list)
    weighted_metrics: list[Any] = field(default_factory=list)
    class_weights: dict[int, float] | None = None
    weights_sha256: str | None = None
    delay: dict[str, Any] | None = None
    fitted_on: tuple[Any, ...] = ()
    is_frozen: bool = False
    freeze_faces: Callable[[], FrozenFaces] | None = None

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return len(self.sizes)


@dataclass(frozen=True)
class PrintedTable:
    """A table that a command prints.

    Args:
        header: Headings of the columns.
        rows: Rows of text.
        title: Title above the table; empty for none.
        compact: Whether the columns are close to each other.
        first_apart: Whether a line separates the first row from the others.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    compact: bool = False
    first_apart: bool = False


@dataclass(frozen=True)
class Printout:
    """What a command prints of a result: tables, then lines, and warnings on stderr."""

    tables: Sequence[PrintedTable] = ()
    lines: Sequence[str] = ()
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class TableLayout:
    """The columns of a paper's table for a task, and how its numbers are computed and written.

    Args:
        numbers: `numbers(reported, reports, base_reports)` → the part of a row that is computed from evaluations.
        columns: Key → heading, in order.
        terminal: Keys of the columns that fit a terminal; the files hold all columns.
        measured: Keys of the columns that hold metrics.
        write: Metric → text.
        caption: What the metrics are.
        units: What the bootstrap and the permutation test resample.
        optimistic: The metrics as the subject of a sentence, with its verb.
    """

    numbers: Callable[[Mapping[str, float], Sequence[dict[str, Any]], Sequence[dict[str, Any]] | None], dict[str, Any]]
    columns: dict[str, str]
    terminal: tuple[str, ...]
    measured: tuple[str, ...]
    write: Callable[[float], str]
    caption: str
    units: str
    optimistic: str


@dataclass(frozen=True)
class Graph:
    """What an exported model computes for a batch of clips.

    Args:
        network: `keras.Model` with a dict of outputs.
        function: `function(faces, frame_mask)` → dict of tensors.
        names: Outputs of the signature `serving_default`.
        extra: Further signatures by name.
    """

    network: Any
    function: Callable[[Any, Any], dict[str, Any]]
    names: tuple[str, ...]
    extra: "dict[str, Signature]" = field(default_factory=dict)


class Task(Protocol):
    """A kind of experiment.

    Where a method takes a `TrainedModel`, it needs the network of a run. Where it takes a `LoadedModel`, an exported
    model or a server will do.
    """

    name: str
    """The task's name in `affect.json` of an exported model."""
    has_classes: bool
    """Whether the model gives probabilities of classes; otherwise values of dimensions."""
    layout: TableLayout
    """Layout of a paper's table."""

    def build(self, config: Any, classes: Sequence[str], train: Train | None = None) -> Any:
        """Builds the network.

        Args:
            config: The `ModelConfig` of this task.
            classes: Names of the outputs.
            train: Freezes the layers that it does not train; `None` freezes nothing.

        Returns:
            `keras.Model`, not compiled.
        """

    def detail(self, model: Any) -> Any:
        """Returns the network, a `keras.Model`, with a dict of all outputs that are shown or exported."""

    def face_size(self, model: Any, config: Any) -> int:
        """Returns the height and width of the input faces in pixels.

        Args:
            model: `keras.Model`.
            config: The `ModelConfig` that it was built from.
        """

    def respond(self, network: Any, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Runs the network on a batch of clips.

        Args:
            network: From `detail`.
            inputs: Arrays by the names of the inputs.

        Returns:
            Arrays by the names of the outputs.
        """

    def most_frames(self, experiment: Experiment) -> int | None:
        """Returns the most faces of a clip that are read; `None` where each face is read alone, and all are read."""

    def check_reads_frames(self, name: str | Path) -> None:
        """Refuses a network that does not judge frames one by one.

        Args:
            name: Name of the model in the error.

        Raises:
            InputError: If the network reads windows or whole clips.
        """

    def frame_functions(self, model: Any) -> dict[str, Callable[..., Any]]:
        """Returns the functions that read single faces, as `affect.models.stream.StreamingClassifier` takes them."""

    def begin_stream(self, trained: LoadedModel, half_life_s: float | None = None) -> Any:
        """Returns a reader of one person's faces, frame by frame: a `StreamingClassifier`.

        Args:
            trained: The model.
            half_life_s: Seconds after which a frame has half its weight; `None` forgets nothing.

        Raises:
            InputError: If the model cannot read single faces or its pooling cannot forget.
        """

    def prepare_training(self, experiment: Experiment, shards: "Shards", workdir: Path | None) -> Training:
        """Returns the training batches, the loss and the metrics.

        Args:
            experiment: The config.
            shards: The data.
            workdir: Folder of the run, which may hold the results of an earlier call for the same run; `None` for none.

        Raises:
            InputError: If there is nothing to learn, or a field has no effect.
        """

    def finish_training(self, training: Training, workdir: Path, load: Callable[[], TrainedModel]) -> dict[str, Any]:
        """Fits and writes what depends on the best epoch.

        Args:
            training: From `prepare_training`.
            workdir: Folder of the run.
            load: Loads the best epoch.

        Returns:
            What `train` adds to its result.
        """

    def evaluate(
        self,
        trained: TrainedModel,
        shards: "Shards",
        *,
        split: str,
        protocol: EvaluationProtocol | None = None,
        track: Track = hide_progress,
    ) -> dict[str, Any]:
        """Evaluates a model on a split.

        Args:
            trained: The model.
            shards: The data.
            split: Name of the split.
            protocol: What counts; `None` is the experiment's own.
            track: Shows progress.

        Returns:
            The task's part of the report of `affect.training.evaluate.evaluate`.

        Raises:
            InputError: If the shards do not fit the model, or the task has no protocols.
        """

    def protocol_of(self, experiment: Experiment, protocol: EvaluationProtocol | None = None) -> str | None:
        """Returns the protocol that an evaluation follows; `None` where the task has only one.

        Args:
            experiment: The config.
            protocol: The wanted one; `None` is the experiment's own.

        Raises:
            InputError: If the task has no protocols, or does not know this one.
        """

    def answer(self, trained: LoadedModel, clip: Clip, *, batch_faces: int = ..., track: Track = hide_progress) -> Any:
        """Reads the faces of a clip.

        Args:
            trained: The model.
            clip: The clip with its faces.
            batch_faces: Faces that are read at once.
            track: Shows progress.

        Returns:
            What `summarise` and `tabulate` take; `None` for a clip without a face.
        """

    def served_frames(self, experiment: Experiment) -> list[int]:
        """Returns the numbers of frames of the clips that `answer_served` sends, ascending.

        Args:
            experiment: The config of the model.
        """

    def answer_served(self, served: ServedModel, clip: Clip, *, track: Track = hide_progress) -> Any:
        """Reads the faces of a clip by a server.

        Args:
            served: The model.
            clip: The clip with its faces.
            track: Shows progress.

        Returns:
            As `answer`.

        Raises:
            InputError: If the server does not decode a face or has other classes.
        """

    def summarise(self, trained: LoadedModel, clip: Clip, answer: Any, cut: Cut | None = None) -> dict[str, Any]:
        """Returns the prediction for a clip as the dict that `affect.reading.predict.predict` describes.

        Args:
            trained: The model.
            clip: The clip with its faces.
            answer: From `answer`.
            cut: All frames and all tracks of the video; `None` if only the clip's own faces are known.
        """

    def tabulate(self, trained: LoadedModel, clip: Clip, answer: Any, cut: Cut | None = None) -> Curves:
        """Returns the prediction for a clip as arrays.

        Args:
            trained: The model.
            clip: The clip with its faces.
            answer: From `answer`.
            cut: All frames and all tracks of the video; `None` if only the clip's own faces are known.
        """

    def attend(self, trained: LoadedModel, faces: Sequence[Face]) -> np.ndarray | None:
        """Returns the spatial attention to single faces.

        Args:
            trained: The model.
            faces: P faces, one or more.

        Returns:
            (P, N, h, w): the map of each head sums to 1 and covers the central crop of the face that the model sees.
            `None` if the model has no spatial attention, or does not read single faces.
        """

    def draw(
        self, trained: LoadedModel, clip: Clip, result: dict[str, Any], out: str | Path, drawing: Drawing
    ) -> list[str]:
        """Draws the figure of a clip, as `affect.reading.explain.explain` describes it.

        Args:
            trained: The model.
            clip: The clip, with at least one face.
            result: From `predict`.
            out: Image file.
            drawing: How it is drawn.

        Returns:
            Sentences on what the figure lacks; empty if it shows all that was asked for.

        Raises:
            InputError: If the task has no such figure.
        """

    def draw_means(
        self, trained: LoadedModel, shards: "Shards", out: str | Path, *, split: str, track: Track = hide_progress
    ) -> dict[str, np.ndarray]:
        """Draws the mean attention of each class of a split, as `affect.reading.explain.explain_classes` describes it.

        Args:
            trained: The model.
            shards: The data.
            out: Image file.
            split: Name of the split.
            track: Shows progress.

        Returns:
            Class → mean attention (N, h, w).

        Raises:
            InputError: If the model has no classes or no spatial attention.
        """

    def check_plots(self, name: str) -> None:
        """Refuses a model whose evaluation has no plots.

        Args:
            name: Name of the model in the error.

        Raises:
            InputError: If there are none.
        """

    def plot_evaluation(self, report: dict[str, Any], folder: str | Path) -> list[Path]:
        """Draws the plots of an evaluation.

        Args:
            report: From `affect.training.evaluate.evaluate`.
            folder: Folder of the plots; created.

        Returns:
            The files.
        """

    def plot_predictions(self, predictions: Sequence[dict[str, Any]], out: str | Path) -> None:
        """Draws the predictions of several videos in one figure.

        Args:
            predictions: From `predict`.
            out: Image file.
        """

    def read_evaluation_inputs(
        self, artefact: LoadedModel, shards: "Shards", data: Data, *, split: str, most: int, frames: int | None
    ) -> Any:
        """Returns the inputs of some clips of a split, as in evaluation.

        Args:
            artefact: The model.
            shards: The data.
            data: How clips are sampled.
            split: Name of the split.
            most: Largest number of clips.
            frames: Leaves out clips without a face in their first `frames` frames; `None` looks at all frames.

        Returns:
            Iterable of batches, dicts of tensors.
        """

    def graph(self, trained: TrainedModel) -> Graph:
        """Returns what is exported."""

    def format_training(self, result: dict[str, Any]) -> Printout:
        """Formats the result of `affect.training.train.train`."""

    def format_evaluation(self, report: dict[str, Any]) -> Printout:
        """Formats the result of `affect.training.evaluate.evaluate`."""

    def format_prediction(self, reading: "Prediction") -> Printout:
        """Formats the prediction for a face.

        Args:
            reading: The prediction.
        """

    def sentence(self, reading: "Prediction") -> str:
        """Returns the end of a sentence that begins with the name of a drawn video."""


def check_selection_metric(train: Train, own: str) -> None:
    """Refuses a `selection_metric` that is neither the task's own metric nor the loss.

    Args:
        train: Holds the metric.
        own: The task's own metric.

    Raises:
        InputError: On another metric.
    """
    known = (own, "loss")
    if train.selection_metric not in known:
        raise InputError(
            f"Unknown `selection_metric`. Expected {known[0]!r} or {known[1]!r}. Received: {train.selection_metric!r}"
        )


def check_selection_split(data: Data) -> None:
    """Refuses a `selection_split` that is the training split, or that is given together with a `selection_ratio`.

    Raises:
        InputError: On either.
    """
    split = data.selection_split
    if split == data.train_split:
        raise InputError(
            f"data.selection_split is the training split, {split!r}. To select on a share of its clips, set "
            "data.selection_split=None and data.selection_ratio."
        )
    if data.selection_ratio:
        raise InputError(
            f"The epoch is selected on a share of the training clips or on split {split!r}, not on both. Expected "
            f"data.selection_ratio=0 or data.selection_split=None. Received: {data.selection_ratio} and {split!r}"
        )


def pair_frames(clip: Clip, cut: Cut | None) -> Iterator[tuple[float, int | None]]:
    """Pairs the decoded frames with the faces of a clip.

    Args:
        clip: The clip.
        cut: All frames of the video; `None` pairs only the frames with a face.

    Yields:
        `(timestamp_s, place)` for each frame: the index of its face in the clip, or `None` without a face.
    """
    faces_s = [face.timestamp_s for face in clip.faces]
    place = 0
    for time_s in cut.times_s if cut else faces_s:
        has_face = place < len(faces_s) and faces_s[place] == time_s
        yield time_s, place if has_face else None
        place += has_face


def list_frames(clip: Clip, cut: Cut | None) -> dict[str, np.ndarray]:
    """Returns the decoded frames with their faces, as the arrays of that name in `Curves`.

    Args:
        clip: The clip. Its faces are read once.
        cut: All frames of the video; `None` lists only the frames with a face.
    """
    numbers = np.fromiter(
        (number for face in clip.faces for number in (face.timestamp_s, *face.box, face.score)), np.float64
    ).reshape(-1, 6)
    times_s = np.asarray(cut.times_s if cut else numbers[:, 0], np.float64)
    frames = np.searchsorted(times_s, numbers[:, 0])
    places = np.full(len(times_s), -1)
    places[frames] = np.arange(len(frames))
    found = np.full((len(times_s), 5), np.nan, np.float32)
    found[frames] = numbers[:, 1:]
    return {"times_s": times_s, "places": places, "boxes": found[:, :4], "scores": found[:, 4]}


def count_faces(clip: Clip, cut: Cut | None) -> dict[str, int | float]:
    """Counts the decoded frames, the frames with the face, and the tracks of the video.

    Args:
        clip: The clip.
        cut: All tracks of the video; `None` counts the clip's own.

    Returns:
        Dict: `frames_decoded`, `frames_with_a_face`, their ratio `coverage`, and `faces_seen`.
    """
    return {
        "frames_decoded": clip.frames_decoded,
        "frames_with_a_face": len(clip.faces),
        "coverage": len(clip.faces) / clip.frames_decoded if clip.frames_decoded else 0.0,
        "faces_seen": len(cut.seen) if cut else min(1, len(clip.faces)),
    }


def format_number(value: float | None) -> str:
    """Returns a metric with three decimals; a dash for `None`."""
    return "–" if value is None else f"{value:.3f}"


def name_values(names: Sequence[str], values: Iterable[float]) -> dict[str, float]:
    """Returns name → value.

    Args:
        names: Names of classes or dimensions.
        values: A value for each name.
    """
    return {name: float(value) for name, value in zip(names, values, strict=True)}

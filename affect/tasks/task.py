"""What a task has to give: the commands ask it for all in which one kind of experiment differs from another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from affect.config import Experiment
from affect.errors import InputError
from affect.progress import Track, hide_progress


@dataclass(frozen=True)
class Training:
    """What `model.fit` needs of a task, and what is to be written of it.

    Args:
        experiment: `affect.config.Experiment`, with what was found before training, such as the delay of raters.
        classes: Names of the outputs.
        selection: Keys of the clips, or names of the recordings, that select the epoch; empty for none.
        loss: Of Keras.
        metrics: Metrics that count every example alike.
        weighted_metrics: Metrics that count by the examples' weights.
        steps: Batches an epoch.
        batches: `batches(model, first_epoch=0)` → endless training batches, and those of the selection or `None`.
        counts: Dict of what was used and what was not.
        class_weights: For `model.fit`.
        weights_sha256: Of the published weights that training starts from; `None` without.
        delay: What `delay.json` holds; `None` where nothing was searched.
        fitted_on: Recordings that post-processing is fitted on; empty for none.
    """

    experiment: Experiment
    classes: tuple[str, ...]
    selection: list[str]
    loss: Any
    steps: int
    batches: Callable
    counts: dict[str, int]
    metrics: list = field(default_factory=list)
    weighted_metrics: list = field(default_factory=list)
    class_weights: dict[int, float] | None = None
    weights_sha256: str | None = None
    delay: dict | None = None
    fitted_on: tuple = ()


@dataclass(frozen=True)
class Sheet:
    """A table for people.

    Args:
        header: Headings of the columns.
        rows: Rows of text.
        title: Above it; empty for none.
        compact: Whether the columns are close to each other.
        first_apart: Whether a line separates the first row from the others.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    compact: bool = False
    first_apart: bool = False


@dataclass(frozen=True)
class View:
    """What a command shows of a result: tables, then lines, and warnings on stderr."""

    sheets: Sequence[Sheet] = ()
    lines: Sequence[str] = ()
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class TableLayout:
    """What a paper's table holds for a task, and how it is written.

    Args:
        numbers: `numbers(reported, reports, base_reports)` → the part of a row that is computed from evaluations.
        columns: Key → heading, in order.
        terminal: Keys of what fits a terminal; the files hold all columns.
        measured: Keys of metrics.
        write: A metric → text.
        caption: What the metrics are.
        units: What is resampled.
        optimistic: The metrics, as the subject of a sentence, with its verb.
    """

    numbers: Callable
    columns: dict[str, str]
    terminal: tuple[str, ...]
    measured: tuple[str, ...]
    write: Callable
    caption: str
    units: str
    optimistic: str


@dataclass(frozen=True)
class Graph:
    """What an exported model computes of a batch of clips.

    Args:
        network: `keras.Model` with a dict of outputs.
        function: `function(faces, frame_mask)` → dict of tensors.
        names: The outputs of the signature `serving_default`.
        extra: Further signatures, name → `affect.tasks.signatures.Signature`.
    """

    network: Any
    function: Callable
    names: tuple[str, ...]
    extra: dict = field(default_factory=dict)


class Task(Protocol):
    """A kind of experiment. `trained` is an `affect.reading.run.Trained` or, where it says so, any predictor."""

    name: str
    """What `affect.json` of an exported model calls it."""
    layout: TableLayout
    """Of a paper's table."""

    def build(self, config, classes, train=None):
        """Returns the `keras.Model` of a config of a network, with frozen what `train`, if given, does not train."""

    def detail(self, model):
        """Returns the network with what is shown of it as a dict of outputs."""

    def face_size(self, model, config):
        """Returns height and width in pixels of the faces that the model is given."""

    def respond(self, network, inputs):
        """Returns what `network`, from `detail`, gives of a batch of clips: a dict of arrays."""

    def most_frames(self, experiment) -> int | None:
        """Returns the most faces of a clip that are read; `None` where each is read on its own, and all are."""

    def check_reads_frames(self, name) -> None:
        """Raises an `InputError` that calls the model `name`, where it does not judge frames one by one."""

    def frame_functions(self, model) -> dict:
        """Returns the functions that read single faces, as `affect.models.stream.StreamingClassifier` takes them."""

    def begin_stream(self, trained, half_life_s=None):
        """Returns what reads the faces of one person as they come. `trained` is any model."""

    def prepare_training(self, experiment, shards, workdir: Path | None) -> Training:
        """Returns what is learnt and from what. A `workdir` may hold what an earlier call of the same run found."""

    def finish_training(self, training: Training, workdir: Path, load: Callable) -> dict:
        """Writes what is fitted to the best epoch, of `load()`, and returns what `train` adds to its result."""

    def evaluate(self, trained, shards, *, split, protocol=None, track: Track = hide_progress) -> dict:
        """Returns what `evaluate` reports for this task. `protocol=None` is the experiment's own."""

    def protocol_of(self, experiment, protocol=None) -> str | None:
        """Returns the protocol that an evaluation follows, `None` of a task that has only one."""

    def predict(self, trained, clip, cut=None, *, batch_faces=...) -> dict:
        """Returns what is said of the faces of a clip. `trained` is any model."""

    def predict_served(self, served, clip, cut=None) -> dict:
        """Returns the same by a server, an `affect.reading.server.Served`."""

    def draw(self, trained, clip, result, out, *, frames, by_importance, style) -> None:
        """Draws the figure of a clip; `result` is what `predict` says of it."""

    def draw_means(self, trained, shards, out, *, split, track: Track = hide_progress) -> dict:
        """Draws the attention averaged over each class of a split."""

    def check_plots(self, name) -> None:
        """Raises an `InputError` that calls the model `name`, where there are no curves over time to plot."""

    def plot_evaluation(self, report, folder) -> list[Path]:
        """Draws an evaluation into a folder and returns the files."""

    def plot_predictions(self, predictions, out) -> None:
        """Draws what `predict` says of several videos."""

    def read_evaluation_inputs(self, artefact, shards, data, *, split, most, frames):
        """Returns the inputs of at most so many clips of a split, as dicts of batches."""

    def graph(self, trained) -> Graph:
        """Returns what is exported."""

    def view_training(self, result) -> View:
        """Shows what `train` returns."""

    def view_evaluation(self, report) -> View:
        """Shows what `evaluate` returns."""

    def view_prediction(self, trained, result) -> View:
        """Shows what `predict` returns. `trained` is any model."""

    def headline(self, result) -> str:
        """Returns the one thing to say of a prediction, empty where there is none."""

    def sentence(self, result) -> str:
        """Returns how a line about a drawn video goes on after its name."""

    def frame_columns(self, classes) -> list[str]:
        """Returns the columns of a frame in CSV."""

    def frame_rows(self, result) -> list[dict]:
        """Returns a dict a decoded frame, by the columns of CSV."""


def check_selection_metric(settings, own):
    """Refuses a `selection_metric` that is neither the task's own nor the loss."""
    known = (own, "loss")
    if settings.selection_metric not in known:
        raise InputError(
            f"Unknown `selection_metric`. Expected {known[0]!r} or {known[1]!r}. "
            f"Received: {settings.selection_metric!r}"
        )


def check_selection_split(data):
    """Refuses a split that selects the epoch beside a share of the training clips, or is the one trained on."""
    split = data.selection_split
    if split == data.train_split:
        raise InputError(
            f"data.selection_split is the split trained on, {split!r}. For a share of its clips set "
            "data.selection_split=None and data.selection_ratio."
        )
    if data.selection_ratio:
        raise InputError(
            f"The epoch is selected on a share of the training clips or on split {split!r}. Expected "
            f"data.selection_ratio=0 or data.selection_split=None. Received: {data.selection_ratio} and {split!r}"
        )


def pair_frames(clip, cut):
    """Yields `(timestamp_s, place)` of each frame: of its face among the clip's, `None` where it has none."""
    faces_s = [face.timestamp_s for face in clip.faces]
    place = 0
    for time_s in cut.times_s if cut else faces_s:
        has_face = place < len(faces_s) and faces_s[place] == time_s
        yield time_s, place if has_face else None
        place += has_face


def count_faces(clip, cut):
    """Returns how many frames were decoded, how many show the face, and how many faces were seen."""
    return {
        "frames_decoded": clip.frames_decoded,
        "frames_with_a_face": len(clip.faces),
        "coverage": len(clip.faces) / clip.frames_decoded if clip.frames_decoded else 0.0,
        "faces_seen": len(cut.seen) if cut else min(1, len(clip.faces)),
    }


def format_number(value):
    """Returns a metric with three decimals; a dash where there is none."""
    return "–" if value is None else f"{value:.3f}"

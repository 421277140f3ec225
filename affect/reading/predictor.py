"""A video → a prediction: what runs, exported models and servers have in common."""

import errno
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from affect.config import Experiment, Faces
from affect.errors import InputError
from affect.extras import require

if TYPE_CHECKING:  # because most of these import TensorFlow
    from affect.data.records import Clip, Face
    from affect.pipelines.faces import Cut
    from affect.tasks.postprocessing import Postprocessing
    from affect.tasks.task import Style, Task, TrainedModel


class Predictor(Protocol):
    """A model that reads faces: a run, a SavedModel, a TFLite file or a server. `affect.load` returns one."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the probabilities; in a regression, the names of the dimensions."""

    @property
    def faces(self) -> Faces:
        """How faces must be cut for the model, the settings of `affect prepare`. `Reading.faces` are the cut faces."""

    @property
    def experiment(self) -> Experiment:
        """The config that the model was trained with."""

    @property
    def task(self) -> "Task":
        """The task of the experiment."""

    @property
    def face_size(self) -> int:
        """Height and width in pixels of the model's input faces."""

    @property
    def most_frames(self) -> int | None:
        """Largest number of faces of a clip that are read, evenly spaced; `None` where all are read, each alone."""

    @property
    def postprocessing(self) -> "Mapping[str, Postprocessing]":
        """Dimension → the steps that were fitted for it; empty for classes, and without any."""

    @property
    def frame_functions(self) -> Mapping[str, Callable[..., Mapping[str, Any]]]:
        """Name → function of named arrays that returns a dict, for `affect.models.stream.StreamingClassifier`.

        Raises:
            InputError: If the model does not judge frames one by one.
        """

    def respond(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Runs the model on a batch of clips.

        Args:
            inputs: Arrays by the names of the inputs: `faces` uint8 (B, F, S, S, 3) and `frame_mask` bool (B, F).

        Returns:
            Arrays by name. A classifier gives `probabilities` (B, E), `frame_importance` (B, F) and
            `frame_probabilities` (B, F, E), 0 where masked. A regression gives `dimensions`.

        Raises:
            InputError: If the model reads single faces only.
        """

    def predict(self, clip: "Clip", cut: "Cut | None" = None) -> dict[str, Any]:
        """Predicts one clip, as `affect.reading.predict.predict` does.

        Args:
            clip: The clip with its faces.
            cut: All frames and all tracks of the video; `None` if only the clip's own faces are known.
        """

    def read(self, video: str | Path, *, start_s: float | None = None, end_s: float | None = None) -> "Reading":
        """Reads the main face of a video, or the largest if the model's shards were cut so.

        Args:
            video: Video file.
            start_s: Start of the part that is read, in seconds; `None` is the start of the video.
            end_s: End of that part, in seconds; `None` is the end of the video.

        Returns:
            The prediction. A damaged video is read up to the damage, and `problem` says so. `label` is `None` if no
            face is found.

        Raises:
            InputError: If the folder for temporary files is full.
        """


@dataclass(frozen=True)
class Reading:
    """The prediction for one video.

    Args:
        result: Dict of `affect.reading.predict.predict`.
        clip: The clip with the faces that were read.
        cut: All frames and all tracks of the video, and what is wrong with it.
        predictor: The model.
    """

    result: dict[str, Any]
    clip: "Clip"
    cut: "Cut"
    predictor: Predictor

    @property
    def label(self) -> str | None:
        """The likeliest class; `None` without a face, and for a regression."""
        return self.result.get("label")

    @property
    def probabilities(self) -> dict[str, float] | None:
        """Class → p(c|S); `None` without a face, and for a regression."""
        return self.result.get("probabilities")

    @property
    def frames(self) -> list[dict[str, Any]]:
        """A dict for each decoded frame: `timestamp_s`, `has_face` and, if its face was read, the prediction.

        The prediction is `importance` p(f|S) and p(c|f,S) by class; for a regression, a value by dimension.
        """
        return self.predictor.task.frame_rows(self.result)

    @property
    def faces(self) -> "Sequence[Face]":
        """The faces that were read, with time, box, landmarks, score and JPEG. `Predictor.faces` says how to cut."""
        return self.clip.faces

    @property
    def problem(self) -> str:
        """What is wrong with the video in one line; empty where nothing is."""
        return self.cut.problem

    def to_dataframe(self) -> Any:
        """Returns a pandas data frame with a row for each decoded frame, the columns of `affect predict --csv`.

        Raises:
            InputError: If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise InputError("A data frame needs pandas. Install it: pip install pandas") from error
        columns = self.predictor.task.frame_columns(self.predictor.classes)
        return pd.DataFrame([{name: row.get(name) for name in columns} for row in self.frames], columns=columns)

    def save_figure(
        self,
        path: str | Path,
        *,
        frames: int = 8,
        by_importance: bool = False,
        style: "Style" = "ours",
    ) -> None:
        """Draws the figure of `affect.reading.explain.explain`.

        Args:
            path: Image file.
            frames: Largest number of frames that are shown.
            by_importance: Whether the most important frames are shown, instead of evenly spaced ones.
            style: How it is drawn.

        Raises:
            InputError: If the video shows no face, or the model has no such figure.
        """
        require("plots", "A figure")
        if not len(self.clip.faces):
            raise InputError(self.problem)
        run = cast("TrainedModel", self.predictor)  # only a run has the network that the figure needs
        options: dict[str, Any] = {"frames": frames, "by_importance": by_importance, "style": style}
        self.predictor.task.draw(run, self.clip, self.result, path, **options)


class _DetectingPredictor(Predictor, Protocol):
    @property
    def _detector(self) -> Any: ...


class VideoReader:
    """Mixin that reads videos. A class that inherits it provides the other attributes of `Predictor`."""

    def predict(self: Predictor, clip: "Clip", cut: "Cut | None" = None) -> dict[str, Any]:
        return self.task.predict(self, clip, cut)

    @cached_property
    def _detector(self: Predictor) -> Any:
        from affect.pipelines.detectors import DETECTORS

        return DETECTORS[self.faces.detector](self.faces)

    def read(
        self: _DetectingPredictor, video: str | Path, *, start_s: float | None = None, end_s: float | None = None
    ) -> Reading:
        from affect.pipelines.faces import cut_clip

        folder = tempfile.mkdtemp(prefix="affect-")
        part = {"start_s": start_s, "end_s": end_s}
        try:
            clip, cut = cut_clip(video, self.faces, self._detector, key=str(video), folder=Path(folder), **part)
            reading = Reading(self.predict(clip, cut), clip, cut, self)
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise InputError(
                    f"{folder} has no room for the faces of {video} ({error.strerror}). Set TMPDIR to a folder with "
                    "more space."
                ) from error
            raise
        if len(clip.faces):  # which are read from the folder
            weakref.finalize(clip.faces, shutil.rmtree, folder, ignore_errors=True)
        else:
            shutil.rmtree(folder)
        return reading

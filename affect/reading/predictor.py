"""A video → what a model says of it: what all that reads faces has in common."""

import errno
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from affect.config import Experiment, Faces
from affect.errors import InputError
from affect.extras import require

if TYPE_CHECKING:  # it imports TensorFlow
    from affect.data.records import Clip


class Predictor(Protocol):
    """What can read faces: a run, a SavedModel, a TFLite file or a server; from `affect.load`.

    Attributes:
        classes: Class names in the order of the probabilities; of a regression, the names of the dimensions.
        faces: How faces are cut for it.
        experiment: What was trained, and how.
        task: Of the experiment.
        face_size: Height and width in pixels of the faces that it is given.
        most_frames: Most faces of a clip that are read; `None` where all are.
        frame_functions: Functions that read single faces, by name.
    """

    classes: tuple[str, ...]
    faces: Faces
    experiment: Experiment
    task: Any
    face_size: int
    most_frames: int | None
    frame_functions: Mapping[str, Any]

    def respond(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what the model says of a batch of clips: arrays by name."""

    def predict(self, clip: "Clip", cut: Any = None) -> dict[str, Any]:
        """Returns what `affect.reading.predict.predict` does."""

    def read(self, video: str | Path, *, start_s: float | None = None, end_s: float | None = None) -> "Reading":
        """Reads the main face of a video."""


@dataclass(frozen=True)
class Reading:
    """What a model says of one video.

    Args:
        result: Dict of `affect.reading.predict.predict`.
        clip: `affect.data.records.Clip` whose faces were read.
        cut: `affect.pipelines.faces.Cut`: all frames and all faces of the video, and what is wrong with it.
        predictor: The model.
    """

    result: dict[str, Any]
    clip: "Clip"
    cut: Any
    predictor: Predictor

    @property
    def label(self) -> str | None:
        """The likeliest class; `None` without a face, and of a regression."""
        return self.result.get("label")

    @property
    def probabilities(self) -> dict[str, float] | None:
        """Class → p(c|S); `None` without a face, and of a regression."""
        return self.result.get("probabilities")

    @property
    def frames(self) -> list[dict[str, Any]]:
        """A dict for each decoded frame: `timestamp_s`, `has_face`, `importance` p(f|S), and a value by class p(c|f,S)
        or by dimension, where there is a face that was read."""
        return self.predictor.task.frame_rows(self.result)

    @property
    def faces(self):
        """The faces that were read, `affect.data.records.Face`, with time, box, landmarks, score and JPEG."""
        return self.clip.faces

    @property
    def problem(self) -> str:
        """What is wrong with the video in one line; empty where nothing is."""
        return self.cut.problem

    def to_dataframe(self):
        """Returns a pandas data frame with a row for each decoded frame, the columns of `affect predict --csv`.

        Raises:
            InputError: Where pandas is not installed.
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
        style: Literal["ours", "paper"] = "ours",
    ) -> None:
        """Draws the figure of `affect.reading.explain.explain`.

        Raises:
            InputError: Where the video shows no face, or the model has no such figure.
        """
        require("plots", "A figure")
        if not len(self.clip.faces):
            raise InputError(self.problem)
        settings = {"frames": frames, "by_importance": by_importance, "style": style}
        self.predictor.task.draw(self.predictor, self.clip, self.result, path, **settings)


class VideoReader:
    """What makes a `Predictor` read videos. It is inherited by what has `faces`, `task` and the other attributes."""

    def predict(self, clip: "Clip", cut: Any = None) -> dict[str, Any]:
        """Returns what `affect.reading.predict.predict` does."""
        return self.task.predict(self, clip, cut)

    @cached_property
    def _detector(self):
        from affect.pipelines.detectors import DETECTORS

        return DETECTORS[self.faces.detector](self.faces)

    def read(self, video: str | Path, *, start_s: float | None = None, end_s: float | None = None) -> Reading:
        """Reads the main face of a video, or the largest where the model's shards were cut so.

        Args:
            video: Video file.
            start_s, end_s: Part of it in seconds.

        Returns:
            `Reading`. A damaged video is read as far as it goes, and `problem` says so; `label` is `None` where no
            face is seen.

        Raises:
            InputError: Where the folder for temporary files is full.
        """
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
                    "more."
                ) from error
            raise
        if len(clip.faces):  # they are read from there
            weakref.finalize(clip.faces, shutil.rmtree, folder, ignore_errors=True)
        else:
            shutil.rmtree(folder)
        return reading

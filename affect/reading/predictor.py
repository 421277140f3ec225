"""A video → a prediction: what runs, exported models and servers have in common."""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from affect.config import Experiment, Faces
from affect.config.experiment import Tracks
from affect.errors import FULL, InputError, MachineError
from affect.extras import require
from affect.progress import Track, hide_progress
from affect.reading import rows
from affect.reading.rows import Adjustment

if TYPE_CHECKING:  # because most of these import TensorFlow
    from affect.data.clips import Clip, Face
    from affect.pipelines.faces import Cut
    from affect.reading.study import Study
    from affect.tasks.postprocessing import Postprocessing
    from affect.tasks.task import Curves, Style, Task

Who = Literal["main", "largest"]


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

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the model: it is another one if the weights, the config or the settings of faces are others."""

    @property
    def card(self) -> str:
        """The model card in Markdown; empty without one."""

    @property
    def licence(self) -> str:
        """Licence of the published weights that the model was trained from; empty without such weights."""

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

    def respond_with_attention(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Runs the model on a batch of clips and also gives `attention`, if the model has and gives it.

        Args:
            inputs: As of `respond`.

        Raises:
            InputError: If the model reads single faces only.
        """

    def predict(self, clip: "Clip", cut: "Cut | None" = None) -> dict[str, Any]:
        """Predicts one clip, as `affect.reading.predict.predict` does.

        Args:
            clip: The clip with its faces.
            cut: All frames and all tracks of the video; `None` if only the clip's own faces are known.
        """

    def answer(self, clip: "Clip", track: Track = hide_progress) -> Any:
        """Reads the faces of a clip.

        Args:
            clip: The clip with its faces.
            track: Shows progress.

        Returns:
            As `affect.tasks.Task.answer`.
        """

    def read(
        self,
        video: str | Path,
        *,
        faces: Who | None = None,
        frame_rate_hz: float | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        track: Track = hide_progress,
    ) -> "Reading":
        """Reads one face of a video or photograph.

        Args:
            video: Video file or photograph.
            faces: Which face is read: the `"main"` one or the `"largest"`; `None` reads as the model's shards were cut.
            frame_rate_hz: Frames a second that are looked at; `None` is the frame rate of the model's shards, which is
                every frame if nothing was set.
            start_s: Start of the section that is read, in seconds; `None` is the start of the video.
            end_s: End of that section, in seconds; `None` is the end of the video.
            track: Shows progress.

        Returns:
            The prediction. A damaged video is read up to the damage, and `problem` says so. `label` is `None` if no
            face is found.

        Raises:
            InputError: If the folder for temporary files is full.
        """

    def read_people(
        self,
        video: str | Path,
        *,
        faces: Tracks = "all",
        frame_rate_hz: float | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        track: Track = hide_progress,
    ) -> "list[Reading]":
        """Reads the faces of a video or photograph.

        Args:
            video, frame_rate_hz, start_s, end_s, track: As in `read`.
            faces: `"all"` faces, the `"main"` one or the `"largest"`.

        Returns:
            A prediction for each face, the main one first; one prediction without a label if there is no face. A person
            who is not recognised after a gap counts as another face.

        Raises:
            InputError: As `read`.
        """

    def read_many(self, paths: "Iterable[str | Path] | str | Path", out: str | Path, **settings: Any) -> "Study":
        """Reads all videos and photographs in files and folders and writes tables, as `affect predict --out` does.

        Args:
            paths: A file, a folder or a pattern such as `"films/*.mp4"`, or several of these.
            out: Folder of the study. If the same call was stopped, it goes on where it was stopped.
            **settings: As in `affect.reading.study.read_many`.

        Returns:
            The study.

        Raises:
            InputError: As `affect.reading.study.read_many`.
        """


@dataclass(frozen=True)
class Reading:
    """The prediction for one face of a video.

    Args:
        answer: From `Predictor.answer`; `None` without a face.
        clip: The clip with the faces that were read.
        cut: All frames and all tracks of the video, and what is wrong with it.
        predictor: The model.
        face: Number of the person, from 1.
    """

    answer: Any
    clip: "Clip"
    cut: "Cut"
    predictor: Predictor
    face: int = 1

    @cached_property
    def result(self) -> dict[str, Any]:
        """The dict of `affect.reading.predict.predict`."""
        return self.predictor.task.summarise(self.predictor, self.clip, self.answer, self.cut)

    @cached_property
    def curves(self) -> "Curves":
        """The prediction as arrays, which need little memory also for a long video."""
        return self.predictor.task.tabulate(self.predictor, self.clip, self.answer, self.cut)

    @property
    def label(self) -> str | None:
        """The likeliest class; `None` without a face, and for a regression."""
        return self.curves.label

    @property
    def probabilities(self) -> dict[str, float] | None:
        """Class → p(c|S); `None` without a face, and for a regression."""
        if self.label is None:
            return None
        return dict(zip(self.predictor.classes, map(float, self.curves.overall), strict=True))

    @property
    def frames(self) -> list[dict[str, Any]]:
        """A dict for each decoded frame, with the columns of `affect predict --csv`; `None` where nothing is known.

        `affect.reading.rows.frame_columns` describes them.
        """
        return self.list_frames()

    def list_frames(self, adjustment: Adjustment = rows.UNCHANGED) -> list[dict[str, Any]]:
        """Returns the frames as `frames` does, with further columns.

        Args:
            adjustment: Smoothing and baseline.
        """
        names = rows.frame_columns(self.predictor.classes, adjustment)
        has_classes = self.predictor.task.has_classes
        return [
            dict(zip(names, (self.clip.key, *row), strict=True))
            for row in rows.list_rows(self.curves, self.face, adjustment, has_classes=has_classes)
        ]

    @property
    def faces(self) -> "Sequence[Face]":
        """The faces that were read, with time, box, landmarks, score and JPEG. `Predictor.faces` says how to cut."""
        return self.clip.faces

    @property
    def problem(self) -> str:
        """What is wrong with the video in one line; empty where nothing is."""
        return self.cut.problem

    def to_dataframe(self, adjustment: Adjustment = rows.UNCHANGED) -> Any:
        """Returns a pandas data frame with a row for each decoded frame, the columns of `affect predict --csv`.

        Args:
            adjustment: Smoothing and baseline, whose columns are added.

        Raises:
            InputError: If pandas is not installed.
        """
        return rows.make_dataframe(self.list_frames(adjustment), rows.frame_columns(self.predictor.classes, adjustment))

    def save_figure(
        self,
        path: str | Path,
        *,
        frames: int = 8,
        by_importance: bool = False,
        apart_s: float | None = None,
        style: "Style" = "ours",
        width_cm: float | None = None,
        each_head: bool = False,
    ) -> list[str]:
        """Draws the figure of `affect.reading.explain.explain`.

        Args:
            path: Image file.
            frames: Largest number of frames that are shown.
            by_importance: Whether the most important frames are shown, instead of evenly spaced ones.
            apart_s, style, width_cm, each_head: As of `affect.tasks.task.Drawing`.

        Returns:
            Sentences on what the figure lacks; empty if it shows all that was asked for.

        Raises:
            InputError: If the video shows no face, or the model has no such figure.
        """
        require("plots", "A figure")
        if not len(self.clip.faces):
            raise InputError(self.problem)
        from affect.tasks.task import Drawing

        drawing = Drawing(frames, by_importance, apart_s, style, width_cm, each_head)
        return self.predictor.task.draw(self.predictor, self.clip, self.result, path, drawing)


class _DetectingPredictor(Predictor, Protocol):
    @property
    def _detector(self) -> Any: ...


class VideoReader:
    """Mixin that reads videos. A class that inherits it provides the other attributes of `Predictor`."""

    def predict(self: Predictor, clip: "Clip", cut: "Cut | None" = None) -> dict[str, Any]:
        return self.task.summarise(self, clip, self.answer(clip), cut)

    def answer(self: Predictor, clip: "Clip", track: Track = hide_progress) -> Any:
        return self.task.answer(self, clip, track=track)

    @cached_property
    def _detector(self: Predictor) -> Any:
        from affect.pipelines.detectors import DETECTORS

        return DETECTORS[self.faces.detector](self.faces)

    def read(
        self: Predictor,
        video: str | Path,
        *,
        faces: Who | None = None,
        frame_rate_hz: float | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        track: Track = hide_progress,
    ) -> Reading:
        default: Who = "largest" if self.faces.tracks == "largest" else "main"
        section: dict[str, Any] = {"frame_rate_hz": frame_rate_hz, "start_s": start_s, "end_s": end_s}
        return self.read_people(video, faces=faces or default, track=track, **section)[0]

    def read_people(
        self: _DetectingPredictor,
        video: str | Path,
        *,
        faces: Tracks = "all",
        frame_rate_hz: float | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        track: Track = hide_progress,
    ) -> list[Reading]:
        from affect.pipelines.faces import check_section, cut_people

        check_section(start_s, end_s)
        rate_hz = self.faces.frame_rate_hz if frame_rate_hz is None else frame_rate_hz
        wanted = replace(self.faces, tracks=faces, frame_rate_hz=rate_hz)
        owner = _Owner(Path(tempfile.mkdtemp(prefix="affect-")))
        section: dict[str, Any] = {"start_s": start_s, "end_s": end_s, "folder": owner.folder, "owner": owner}
        try:
            clips, cut = cut_people(video, wanted, self._detector, key=str(video), progress=track, **section)
            return [Reading(self.answer(clip, track), clip, cut, self, face) for face, clip in enumerate(clips, 1)]
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise MachineError(
                f"{owner.folder} has no room for the faces of {video} ({error.strerror}). Set TMPDIR to a folder with "
                "more space."
            ) from error

    def read_many(
        self: Predictor, paths: Iterable[str | Path] | str | Path, out: str | Path, **settings: Any
    ) -> "Study":
        from affect.reading.study import read_many

        return read_many(self, [paths] if isinstance(paths, str | Path) else [*paths], out, **settings)


class _Owner:
    """A folder that is removed when nothing refers to this object any more, and when the process ends."""

    def __init__(self, folder):
        self.folder = folder
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

"""Recordings in memory: times, ratings and faces, and the windows that are cut from them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from affect.config import Data, Windows
from affect.config.experiment import Features
from affect.data.clips import Clip, Face
from affect.data.labels import DIMENSIONS
from affect.data.views import view_centre


@dataclass(frozen=True)
class Recording:
    """A recording, joined from its parts. Its faces stay on disk.

    Args:
        name: Of the recording, or the key of a clip that is not a part of a recording.
        subject: Person; empty if unknown.
        parts: `(path, offset, bytes)` of the record of each part in its shard.
        times_s: float64 (T,), times of the faces, ascending.
        places: int (T, 2): the index of the part that holds each face, and the index of the face in that part.
        rating_times_s: float64 (T_l,), ascending; T_l = 0 without ratings.
        ratings: float64 (T_l, 2), in the order of `affect.data.labels.DIMENSIONS`.
        other_faces: Number of faces of other people, which shards of `--faces all` also hold. They are left out.
        faces: The T faces, if no shard holds them; `parts` and `places` are then not used. A face is read when it is
            decoded, so the faces may be on disk.
    """

    name: str
    subject: str
    parts: tuple[tuple[str, int, int], ...]
    times_s: np.ndarray
    places: np.ndarray
    rating_times_s: np.ndarray
    ratings: np.ndarray
    other_faces: int = 0
    faces: Sequence[Face] | None = None

    @property
    def end_s(self) -> float:
        """Time of the last face or of the last rating, whichever is later, in seconds; 0 without both."""
        return max([0.0, *self.times_s[-1:], *self.rating_times_s[-1:]])


@dataclass(frozen=True)
class Window:
    """A window of a recording, F frames on the grid.

    Args:
        recording: It is cut from this recording.
        times_s: float64 (F,), times of the grid.
        faces: int (F,): the index of the face that is nearest to each point of the grid, at most half a step away; -1
            without such a face.
        labels: float32 (F, 2), the ratings `delay_s` after the face; 0 without a rating.
        is_rated: bool (F,), whether there is a rating.
    """

    recording: Recording
    times_s: np.ndarray
    faces: np.ndarray
    labels: np.ndarray
    is_rated: np.ndarray

    @property
    def frame_mask(self) -> np.ndarray:
        """bool (F,): frames with a face."""
        return self.faces >= 0

    @property
    def weights(self) -> np.ndarray:
        """float32 (F,): 1 for frames with a face and a label, for the loss and the metrics."""
        return (self.frame_mask & self.is_rated).astype(np.float32)


def recording_of(clip: Clip) -> Recording:
    """Returns a clip, such as a video that is to be predicted, as a recording without ratings."""
    return Recording(
        name=clip.key,
        subject=clip.subject,
        parts=(),
        times_s=np.array([face.timestamp_s for face in clip.faces], np.float64),
        places=np.empty((0, 2), int),
        rating_times_s=np.empty(0),
        ratings=np.empty((0, len(DIMENSIONS))),
        faces=clip.faces,
    )


def cut_window(recording: Recording, config: Windows, start_s: float) -> Window:
    """Cuts the window that starts at `start_s`.

    Each point of the grid takes the nearest face, at most half a step away. Frames without a face are not stored, so a
    point without a face is masked. The label of a face is the rating `delay_s` after the time of the face, interpolated
    linearly between two ratings.

    Args:
        recording: To cut from.
        config: Length, frame rate and delay are used. The delay must be known.
        start_s: In seconds of the recording.
    """
    grid_s = start_s + np.arange(config.frames) / config.frame_rate_hz
    times_s, faces = grid_s, np.full(config.frames, -1)
    delay_s = cast(float, config.delay_s)  # If the config has none, `search_delay` has set it by now.
    if len(recording.times_s):
        after = np.searchsorted(recording.times_s, grid_s).clip(1, max(1, len(recording.times_s) - 1))
        around = np.stack([after - 1, after.clip(max=len(recording.times_s) - 1)])
        distance_s = np.abs(recording.times_s[around] - grid_s)
        nearest = around[distance_s.argmin(axis=0), np.arange(config.frames)]
        is_near = distance_s.min(axis=0) <= 0.5 / config.frame_rate_hz + 1e-6  # times are stored in µs
        faces, times_s = np.where(is_near, nearest, -1), np.where(is_near, recording.times_s[nearest], grid_s)
    is_rated = is_rated_at(recording, times_s, delay_s)
    labels = np.zeros((config.frames, len(DIMENSIONS)), np.float32)
    for dimension, ratings in enumerate(recording.ratings.T if is_rated.any() else ()):
        values = np.interp(times_s + delay_s, recording.rating_times_s, ratings)
        labels[:, dimension] = np.where(is_rated, values, 0)
    return Window(recording, grid_s, faces, labels, is_rated)


def is_rated_at(recording: Recording, times_s: float | np.ndarray, delay_s: float) -> np.ndarray:
    """Returns whether a recording is rated `delay_s` after each time, bool of the shape of the times.

    Args:
        recording: With or without ratings.
        times_s: In seconds of the recording.
        delay_s: How long raters lag.
    """
    if not len(recording.rating_times_s):
        return np.zeros(np.shape(times_s), bool)
    first_s, last_s = recording.rating_times_s[[0, -1]]
    rated_s = np.asarray(times_s) + delay_s
    return (rated_s >= first_s - 1e-6) & (rated_s <= last_s + 1e-6)


def count_windows(end_s: float, stride_s: float) -> int:
    """Returns the number of windows that start at or before `end_s`, from 0, every `stride_s`.

    Args:
        end_s: End of the recording in seconds.
        stride_s: Time from the start of a window to the start of the next one in seconds.
    """
    return math.floor(end_s / stride_s + 1e-9) + 1


@dataclass(frozen=True)
class EvaluationGrid:
    """The windows in which each point of the grid of a recording is predicted once, in order.

    The grid ends at most half a step after the end of the recording, because the last face may be nearest to a point
    there. The last window is masked after that.

    Args:
        config: How windows are cut; `stride_s` is not used.
        each_end: Whether each point of the grid is the last frame of its own window, for a network that predicts the
            last frame alone. The first windows are then masked before the start of the recording.
    """

    config: Windows
    each_end: bool = False

    @property
    def _step_s(self) -> float:
        return 1 / self.config.frame_rate_hz

    @property
    def _stride_s(self) -> float:
        return self._step_s if self.each_end else self.config.frames * self._step_s

    def count(self, recordings: Sequence[Recording]) -> int:
        """Returns the number of windows.

        Args:
            recordings: To cut from.
        """
        return sum(count_windows(recording.end_s + self._step_s / 2, self._stride_s) for recording in recordings)

    def cut(self, recordings: Sequence[Recording]) -> Iterator[Window]:
        """Yields the windows of each recording.

        Args:
            recordings: To cut from.
        """
        first_s = self._step_s * (1 - self.config.frames) if self.each_end else 0.0
        for recording in recordings:
            for index in range(self.count([recording])):
                yield cut_window(recording, self.config, first_s + index * self._stride_s)


def read_windows(
    recordings: Sequence[Recording], grid: EvaluationGrid, data: Data, *, face_size: int, features: Features = "faces"
) -> Iterator[dict[str, np.ndarray]]:
    """Yields the batches of `affect.data.windows.eval_windows` in NumPy, for recordings whose faces no shard holds.

    Args:
        recordings: To cut from, with `faces`.
        grid: How windows are cut.
        data: `crop_ratio` and `batch_clips` are used.
        face_size: Height and width of the model's faces in pixels.
        features: What the model reads.
    """
    windows: list[Window] = []
    for window in grid.cut(recordings):
        windows.append(window)
        if len(windows) == data.batch_clips:
            yield _stack(windows, data, face_size, features)
            windows = []
    if windows:
        yield _stack(windows, data, face_size, features)


def _stack(windows, data, face_size, features):
    """Returns a batch of windows as a dict of arrays."""
    faces = np.zeros((len(windows), len(windows[0].faces), face_size, face_size, 3), np.uint8)
    for row, window in enumerate(windows):
        for place in np.flatnonzero(window.frame_mask):
            jpeg = window.recording.faces[window.faces[place]].jpeg
            faces[row, place] = view_centre(jpeg, data.crop_ratio, face_size)
    batch = {
        name: np.stack([getattr(window, name) for window in windows])
        for name in ("frame_mask", "labels", "weights", "is_rated", "times_s")
    }
    batch["recording"] = np.array([window.recording.name.encode() for window in windows], object)
    if features == "faces":
        return batch | {"faces": faces}
    from affect.data.lgbp import describe_window  # it needs SciPy

    return batch | {"features": np.stack([*map(describe_window, faces, batch["frame_mask"])])}

"""Recordings and a network → series of valence and arousal on the regular grid, rated and estimated."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from affect.config import VideoRegressor
from affect.data.recordings import EvaluationGrid, Recording, read_windows
from affect.progress import Track, hide_progress
from affect.statistics import Moments
from affect.tasks.task import MAX_FACES, LoadedModel


@dataclass(frozen=True)
class Series:
    """The ratings and the estimates of a recording, at the N points of its grid.

    The grid begins at 0 and ends at most half a step after the recording, because its last face may be nearest to a
    point there. `at_ratings` gives the same at the times of the ratings.

    Args:
        recording: The recording.
        times_s: float64 (N,), in seconds.
        labels: float32 (N, 2), in the order of `affect.data.labels.DIMENSIONS`; 0 without a rating.
        raw: float32 (N, 2), the network's estimates; 0 without a face.
        predictions: float32 (N, 2), `raw` after the model's post-processing.
        frame_mask: bool (N,): points with a face.
        is_estimated: bool (N,): points with an estimate.
        is_rated: bool (N,): points with a label.
    """

    recording: Recording
    times_s: np.ndarray
    labels: np.ndarray
    raw: np.ndarray
    predictions: np.ndarray
    frame_mask: np.ndarray
    is_estimated: np.ndarray
    is_rated: np.ndarray

    @property
    def is_counted(self) -> np.ndarray:
        """bool (N,): points with an estimate and a label."""
        return self.is_estimated & self.is_rated

    def moments(self, values: np.ndarray, dimension: int) -> Moments:
        """Returns the moments of one dimension over the points that count.

        Args:
            values: `raw` or `predictions`.
            dimension: Index of the dimension.
        """
        return Moments.of_series(self.labels[:, dimension], values[:, dimension], self.is_counted)


def estimate(trained: LoadedModel, recordings: Sequence[Recording], *, track: Track = hide_progress) -> list[Series]:
    """Estimates valence and arousal over whole recordings.

    A network that predicts all frames of a window reads windows side by side, each point of the grid once. A network
    that predicts only the last frame reads one window for each point, which ends there. Then `trained.postprocessing`
    is applied to each recording as a whole.

    Args:
        trained: A regression.
        recordings: Recordings with unique names.
        track: Shows progress.

    Returns:
        One for each recording, in their order.
    """
    config = cast(VideoRegressor, trained.experiment.model)
    each_end = config.predicts == "end"
    data, grid = trained.experiment.data, EvaluationGrid(trained.experiment.windows, each_end)
    # An exported model takes so many faces at once. How windows are shared among batches changes no estimate.
    data = replace(data, batch_clips=max(1, min(data.batch_clips, MAX_FACES // trained.experiment.windows.frames)))
    seen: dict[str, Any] = {"face_size": trained.face_size, "features": config.features}
    if all(recording.faces is not None for recording in recordings):
        batches = read_windows(recordings, grid, data, **seen)
    else:
        from affect.data.windows import eval_windows  # it imports TensorFlow

        # Each window is read once, so no features are cached.
        dataset = eval_windows(recordings, grid.config, data, each_end=each_end, kept_bytes=0, **seen)
        batches = dataset.as_numpy_iterator()
    predicted = slice(-1, None) if each_end else slice(None)
    windows = {recording.name: [] for recording in recordings}
    for batch in track(batches, -(-grid.count(recordings) // data.batch_clips), "estimate"):
        inputs: dict[str, Any] = {name: batch[name] for name in ("faces", "features", "frame_mask") if name in batch}
        outputs = trained.respond(inputs)["dimensions"]
        predictions = outputs[:, None] if each_end else outputs
        rest = [batch[name][:, predicted] for name in ("times_s", "labels", "frame_mask", "is_rated")]
        for name, *window in zip(batch["recording"], predictions, *rest, strict=True):
            windows[name.decode()].append(window)
    return [_join(trained, recording, windows[recording.name]) for recording in recordings]


def at_ratings(series: Series, delay_s: float, frame_rate_hz: float) -> Series:
    """Reads a series at each rating of its recording, as AVEC's challenges count. No rating is left out.

    A rating is compared with the estimate `delay_s` earlier. The estimate is interpolated linearly between points with
    a face, and held before the first and after the last of them. In a recording without any face it is 0, the middle of
    the scale.

    Args:
        series: Series on the regular grid.
        delay_s: How long ratings lag behind faces, in seconds.
        frame_rate_hz: Rate of the grid.

    Returns:
        Series whose N points are the ratings, with their `times_s`. `frame_mask` marks the ratings that have a face at
        most half a step of the grid from the time of the estimate.
    """
    recording, seen = series.recording, series.frame_mask
    at_s, points_s = recording.rating_times_s - delay_s, series.times_s[seen]

    def read(values):
        if not len(points_s):
            return np.zeros((len(at_s), values.shape[1]), np.float32)
        return np.stack([np.interp(at_s, points_s, column) for column in values[seen].T], -1).astype(np.float32)

    after = np.searchsorted(points_s, at_s)
    bounds_s = np.concatenate([[-np.inf], points_s, [np.inf]])
    apart_s = np.minimum(at_s - bounds_s[after], bounds_s[after + 1] - at_s)
    everywhere = np.ones(len(at_s), bool)
    return Series(
        recording,
        recording.rating_times_s,
        recording.ratings.astype(np.float32),
        read(series.raw),
        read(series.predictions),
        frame_mask=apart_s <= 0.5 / frame_rate_hz + 1e-6,
        is_estimated=everywhere,
        is_rated=everywhere,
    )


def _join(trained, recording, windows):
    """Joins the windows of a recording, `(raw, times_s, labels, frame_mask, is_rated)` each, to a `Series`."""
    raw, times_s, labels, frame_mask, is_rated = map(np.concatenate, zip(*windows, strict=True))
    half_step_s = 0.5 / trained.experiment.windows.frame_rate_hz
    inside = times_s <= recording.end_s + half_step_s + 1e-6  # without the padding of the last window
    raw, times_s, labels = np.where(frame_mask[:, None], raw, 0)[inside], times_s[inside], labels[inside]
    frame_mask, is_rated, predictions = frame_mask[inside], is_rated[inside], raw.copy()
    for name, steps in trained.postprocessing.items():
        dimension = trained.classes.index(name)
        predictions[:, dimension] = steps.apply(times_s, raw[:, dimension], frame_mask)
    return Series(recording, times_s, labels, raw, predictions, frame_mask, frame_mask, is_rated)

"""Recordings and a network → their series of valence and arousal on the regular grid, rated and estimated."""

from dataclasses import dataclass

import numpy as np

from affect.data.windows import eval_windows
from affect.metrics import Moments
from affect.progress import Track, hide_progress


@dataclass(frozen=True)
class Series:
    """What was rated and what was estimated of a recording, at the N points of its grid.

    The grid begins at 0 and ends at most half a step behind the recording, where its last face may be the nearest.
    `at_ratings` gives the same at the times of the ratings.

    Args:
        recording: `affect.data.windows.Recording`.
        times_s: float64 (N,).
        labels: float32 (N, 2), in the order of `affect.data.labels.DIMENSIONS`; 0 where there is none.
        raw: float32 (N, 2), of the network; 0 where there is no face.
        predictions: float32 (N, 2), `raw` after the model's post-processing.
        frame_mask: bool (N,): points with a face.
        is_estimated: bool (N,): points with an estimate.
        is_rated: bool (N,): points with a label.
    """

    recording: object
    times_s: np.ndarray
    labels: np.ndarray
    raw: np.ndarray
    predictions: np.ndarray
    frame_mask: np.ndarray
    is_estimated: np.ndarray
    is_rated: np.ndarray

    @property
    def is_counted(self):
        """bool (N,): points with an estimate and a label."""
        return self.is_estimated & self.is_rated

    def moments(self, values, dimension):
        """Returns the `Moments` of a dimension, by index, over the points that count, of `raw` or `predictions`."""
        return Moments.of_series(self.labels[:, dimension], values[:, dimension], self.is_counted)


def estimate(trained, recordings, *, track: Track = hide_progress):
    """Estimates valence and arousal over whole recordings.

    A network that predicts all frames of a window sees each point of the grid in one window, the windows side by side;
    one that predicts the last frame alone sees it at the end of a window of its own. Then `trained.postprocessing`
    applies to each recording as a whole.

    Args:
        trained: `affect.reading.run.Trained` or `affect.reading.artefact.Artefact`, of a regression.
        recordings: List of `affect.data.windows.Recording`, each with a name of its own.
        track: Shows progress.

    Returns:
        List of `Series`, in the order of the recordings.
    """
    settings, each_end = trained.experiment.windows, trained.experiment.model.predicts == "end"
    batches = eval_windows(
        recordings,
        settings,
        trained.experiment.data,
        face_size=trained.face_size,
        features=trained.experiment.model.features,
        each_end=each_end,
        kept_bytes=0,  # each window is read once
    )
    shown = slice(-1, None) if each_end else slice(None)
    windows = {recording.name: [] for recording in recordings}
    for batch in track(batches, len(batches), "estimate"):
        inputs = {name: batch[name].numpy() for name in ("faces", "features", "frame_mask") if name in batch}
        outputs = trained.respond(inputs)["dimensions"]
        predictions = outputs[:, None] if each_end else outputs
        rest = [batch[name].numpy()[:, shown] for name in ("times_s", "labels", "frame_mask", "is_rated")]
        for name, *window in zip(batch["recording"].numpy(), predictions, *rest, strict=True):
            windows[name.decode()].append(window)
    return [_joined(trained, recording, windows[recording.name]) for recording in recordings]


def at_ratings(series, delay_s, frame_rate_hz):
    """Reads a series at each rating of its recording, as AVEC's challenges count: no rating is left out.

    A rating is compared with the estimate of `delay_s` before. Between points with a face the estimate lies on a line;
    before the first and after the last, that one's holds. A recording without any face is estimated as 0, the middle
    of the scale.

    Args:
        series: `Series`, on the regular grid.
        delay_s: How long raters lag, in seconds.
        frame_rate_hz: Of the grid.

    Returns:
        `Series` whose N points are the ratings. `times_s` are theirs, and `frame_mask` tells the ratings for which
        there is a face, at most half a step of the grid from the time of the estimate.
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


def _joined(trained, recording, windows):
    raw, times_s, labels, frame_mask, is_rated = map(np.concatenate, zip(*windows, strict=True))
    half_step_s = 0.5 / trained.experiment.windows.frame_rate_hz
    inside = times_s <= recording.end_s + half_step_s + 1e-6  # not what fills the last window
    raw, times_s, labels = np.where(frame_mask[:, None], raw, 0)[inside], times_s[inside], labels[inside]
    frame_mask, is_rated, predictions = frame_mask[inside], is_rated[inside], raw.copy()
    for name, steps in trained.postprocessing.items():
        dimension = trained.classes.index(name)
        predictions[:, dimension] = steps.apply(times_s, raw[:, dimension], frame_mask)
    return Series(recording, times_s, labels, raw, predictions, frame_mask, frame_mask, is_rated)

"""Recordings and a network → their series of valence and arousal on the regular grid, rated and estimated."""

from dataclasses import dataclass

import numpy as np

from affect.metrics import Moments
from affect.windows import eval_windows


@dataclass(frozen=True)
class Series:
    """What was rated and what was estimated of a recording, at the N points of its grid.

    The grid begins at 0 and ends at most half a step behind the recording, where its last face may be the nearest.

    Args:
        recording: `affect.windows.Recording`.
        times_s: float64 (N,).
        labels: float32 (N, 2), in the order of `affect.labels.DIMENSIONS`; 0 where there is none.
        predictions: float32 (N, 2); 0 where there is no face.
        frame_mask: bool (N,): points with a face.
        is_rated: bool (N,): points with a label.
    """

    recording: object
    times_s: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    frame_mask: np.ndarray
    is_rated: np.ndarray

    def moments(self, dimension):
        """Returns the `Moments` of a dimension, by index, over the points with a face and a label."""
        valid = self.frame_mask & self.is_rated
        return Moments.of_series(self.labels[:, dimension], self.predictions[:, dimension], valid)


def estimate(trained, recordings, *, track=None):
    """Estimates valence and arousal over whole recordings.

    A network that predicts all frames of a window sees each point of the grid in one window, the windows side by side;
    one that predicts the last frame alone sees it at the end of a window of its own.

    Args:
        trained: `affect.model.Trained`, of a regression.
        recordings: List of `affect.windows.Recording`, each with a name of its own.
        track: `track(iterable, total, description)` → iterable, to show progress.

    Returns:
        List of `Series`, in the order of the recordings.
    """
    settings, each_end = trained.experiment.windows, trained.experiment.model.predicts == "end"
    batches = eval_windows(
        recordings, settings, trained.experiment.data, face_size=trained.face_size, each_end=each_end
    )
    shown = slice(-1, None) if each_end else slice(None)
    windows = {recording.name: [] for recording in recordings}
    for batch in track(batches, len(batches), "estimate") if track else batches:
        outputs = trained.network.predict_on_batch({name: batch[name] for name in trained.model.input})["dimensions"]
        predictions = outputs[:, None] if each_end else outputs
        rest = [batch[name].numpy()[:, shown] for name in ("times_s", "labels", "frame_mask", "is_rated")]
        for name, *window in zip(batch["recording"].numpy(), predictions, *rest, strict=True):
            windows[name.decode()].append(window)
    return [_joined(recording, windows[recording.name], settings) for recording in recordings]


def _joined(recording, windows, settings):
    predictions, times_s, labels, frame_mask, is_rated = map(np.concatenate, zip(*windows, strict=True))
    inside = times_s <= recording.end_s + 0.5 / settings.frame_rate_hz + 1e-6  # not what fills the last window
    predictions = np.where(frame_mask[:, None], predictions, 0)
    return Series(recording, times_s[inside], labels[inside], predictions[inside], frame_mask[inside], is_rated[inside])

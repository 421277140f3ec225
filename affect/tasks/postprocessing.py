"""What is done to a predicted series before it is compared: AVEC's chain of four steps, fitted on training alone."""

from dataclasses import dataclass, replace

import numpy as np

from affect.errors import InputError
from affect.metrics import Moments, ccc

MEDIANS_S = (0.4, 0.8, 1.2, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 20.0)
LONGEST_SHIFT_S = 5.0


# File of a run that holds what was fitted to its best epoch.
POSTPROCESSING = "postprocessing.json"


@dataclass(frozen=True)
class Postprocessing:
    """The steps for one dimension, in this order; the defaults change nothing.

    Args:
        median_s: Width of a centred median filter; 0 is none.
        scale, offset: What is filtered becomes `scale · x + offset`.
        shift_s: How much later the series comes; below 0 it comes earlier.
    """

    median_s: float = 0.0
    scale: float = 1.0
    offset: float = 0.0
    shift_s: float = 0.0

    def __post_init__(self):
        values = (self.median_s, self.scale, self.offset, self.shift_s)
        if not np.isfinite(values).all() or self.median_s < 0:
            raise InputError(f"Post-processing needs finite numbers and median_s ≥ 0. Received: {self}")

    def apply(self, times_s, predictions, weights):
        """Applies the steps to one dimension of one recording.

        Frames of weight 0 are not read and keep their value. The median is that of the other frames at most half of
        `median_s` away; a shift reads between frames on a line and holds the first and the last value.

        Args:
            times_s: (T,), ascending.
            predictions: (T,).
            weights: (T,), above 0 for frames that have a prediction.

        Returns:
            float64 (T,).
        """
        times_s, predictions = np.asarray(times_s, np.float64), np.array(predictions, np.float64)
        valid = np.asarray(weights) > 0
        if valid.any():
            at_s, values = times_s[valid], predictions[valid]
            if self.median_s:
                values = _median(at_s, values, self.median_s)
            values = self.scale * values + self.offset
            if self.shift_s:
                values = np.interp(at_s - self.shift_s, at_s, values)
            predictions[valid] = values
        return predictions


def fit(series):
    """Finds the steps for one dimension on the recordings given: those of training and no others.

    The four steps are tried one after the other: a median filter of 0.4 to 20 s; centring, to the labels' mean;
    scaling, to their standard deviation; a shift of up to 5 s either way. One that does not raise the CCC over the
    recordings concatenated is left out. A network has seen these recordings too and predicts them better than others,
    so the gains are optimistic.

    Args:
        series: Dict: name of a recording → dict of `times_s`, `labels`, `predictions` and `weights`, each (T,); weights
            are above 0 for frames with a prediction and a label.

    Returns:
        `(postprocessing, gains)`: `Postprocessing`; dict of `median`, `centring`, `scaling` and `shift` → by how much
        the step raised the CCC, 0 where it was left out.

    Raises:
        InputError: Where no frame counts, and on a value that is not finite.
    """
    valid = {name: np.asarray(one["weights"]) > 0 for name, one in series.items()}
    if not any(mask.any() for mask in valid.values()):
        raise InputError("Post-processing is fitted on labels: expected frames with a prediction and a label.")
    labels = np.concatenate([np.asarray(one["labels"], np.float64)[valid[name]] for name, one in series.items()])

    def applied(steps):
        return np.concatenate(
            [
                steps.apply(one["times_s"], one["predictions"], one["weights"])[valid[name]]
                for name, one in series.items()
            ]
        )

    def score(steps):
        return float(ccc(Moments.of_series(labels, applied(steps))))

    step_s = min(np.diff(np.asarray(one["times_s"], np.float64)).min(initial=np.inf) for one in series.values())
    shifts_s = step_s * np.arange(1, int(LONGEST_SHIFT_S / step_s + 1e-9) + 1)

    def medians(steps):
        return [replace(steps, median_s=median_s) for median_s in MEDIANS_S]

    def centring(steps):
        return [replace(steps, offset=steps.offset + float(labels.mean() - applied(steps).mean()))]

    def scaling(steps):
        values = applied(steps)
        ratio = float(labels.std() / values.std()) if values.std() else 1.0
        # About the mean, which stays.
        return [replace(steps, scale=ratio, offset=steps.offset * ratio + float(values.mean()) * (1 - ratio))]

    def shifts(steps):
        return [replace(steps, shift_s=round(float(sign * shift_s), 6)) for shift_s in shifts_s for sign in (1, -1)]

    best, gains = (score(Postprocessing()), Postprocessing()), {}
    for name, candidates in (("median", medians), ("centring", centring), ("scaling", scaling), ("shift", shifts)):
        before = best[0]
        for steps in candidates(best[1]):
            best = max(best, (score(steps), steps), key=lambda pair: pair[0])
        gains[name] = best[0] - before
    return best[1], gains


def _median(times_s, values, width_s):
    """Returns the medians (n,) of the values at most half of `width_s` away from each."""
    starts = np.searchsorted(times_s, times_s - width_s / 2 - 1e-6)
    ends = np.searchsorted(times_s, times_s + width_s / 2 + 1e-6, side="right")
    counts = ends - starts
    places = starts[:, None] + np.arange(counts.max())
    around = np.sort(np.where(places < ends[:, None], values[np.minimum(places, len(values) - 1)], np.inf), axis=1)
    rows = np.arange(len(values))
    return (around[rows, (counts - 1) // 2] + around[rows, counts // 2]) / 2

"""Post-processing of a predicted series: AVEC's chain of four steps, fitted on training recordings alone."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from affect.errors import InputError
from affect.statistics import Moments, ccc

if TYPE_CHECKING:
    import keras

MEDIANS_S = (0.4, 0.8, 1.2, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 20.0)
LONGEST_SHIFT_S = 5.0

# File of a run with the steps that were fitted to its best epoch.
POSTPROCESSING = "postprocessing.json"


@dataclass(frozen=True)
class Postprocessing:
    """The steps for one dimension, in this order. The defaults change nothing.

    Args:
        median_s: Width of a centred median filter in seconds; 0 is none.
        scale, offset: A filtered value x becomes `scale · x + offset`.
        shift_s: Delay of the series in seconds; a negative one moves it earlier.

    Raises:
        InputError: On a number that is not finite, or a negative `median_s`.
    """

    median_s: float = 0.0
    scale: float = 1.0
    offset: float = 0.0
    shift_s: float = 0.0

    def __post_init__(self):
        values = (self.median_s, self.scale, self.offset, self.shift_s)
        if not np.isfinite(values).all() or self.median_s < 0:
            raise InputError(f"Post-processing needs finite numbers and median_s ≥ 0. Received: {self}")

    def apply(self, times_s: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Applies the steps to one dimension of one recording.

        Frames of weight 0 are not read and keep their value. The median is over the other frames at most half of
        `median_s` away. The shift interpolates linearly between frames and holds the first and the last value.

        Args:
            times_s: (T,), in seconds, ascending.
            predictions: (T,).
            weights: (T,), above 0 for frames with a prediction.

        Returns:
            float64 (T,).
        """
        times_s, predictions = np.asarray(times_s, np.float64), np.array(predictions, np.float64)
        valid = np.asarray(weights) > 0
        if valid.any():
            at_s, values = times_s[valid], predictions[valid]
            if self.median_s:
                values = _filter_median(at_s, values, self.median_s)
            values = self.scale * values + self.offset
            if self.shift_s:
                values = np.interp(at_s - self.shift_s, at_s, values)
            predictions[valid] = values
        return predictions


def fit(series: Mapping[str, Mapping[str, Any]]) -> tuple[Postprocessing, dict[str, float]]:
    """Fits the steps for one dimension. Give it training recordings and no others.

    The four steps are tried one after the other: a median filter of 0.4 to 20 s; centring, to the labels' mean;
    scaling, to their standard deviation; a shift of up to 5 s either way. A step that does not raise the CCC over the
    recordings concatenated is left out. The network may have learnt from these recordings and predicts them better
    than others, so the gains are optimistic.

    Args:
        series: Name of a recording → dict of `times_s`, `labels`, `predictions` and `weights`, each (T,). Weights are
            above 0 for frames with a prediction and a label.

    Returns:
        `(postprocessing, gains)`: the steps; dict of `median`, `centring`, `scaling` and `shift` → the increase of the
        CCC by this step, 0 where it was left out.

    Raises:
        InputError: If no frame counts, or a value is not finite.
    """
    valid = {name: np.asarray(one["weights"]) > 0 for name, one in series.items()}
    if not any(mask.any() for mask in valid.values()):
        raise InputError(
            "Post-processing is fitted on labels. Expected frames with a prediction and a label. Received none."
        )
    labels = np.concatenate([np.asarray(one["labels"], np.float64)[valid[name]] for name, one in series.items()])

    def apply(steps):
        return np.concatenate(
            [
                steps.apply(one["times_s"], one["predictions"], one["weights"])[valid[name]]
                for name, one in series.items()
            ]
        )

    def score(steps):
        return float(ccc(Moments.of_series(labels, apply(steps))))

    step_s = min(np.diff(np.asarray(one["times_s"], np.float64)).min(initial=np.inf) for one in series.values())
    shifts_s = step_s * np.arange(1, int(LONGEST_SHIFT_S / step_s + 1e-9) + 1)

    def filter_medians(steps):
        return [replace(steps, median_s=median_s) for median_s in MEDIANS_S]

    def centre(steps):
        return [replace(steps, offset=steps.offset + float(labels.mean() - apply(steps).mean()))]

    def scale(steps):
        values = apply(steps)
        ratio = float(labels.std() / values.std()) if values.std() else 1.0
        # The mean stays.
        return [replace(steps, scale=ratio, offset=steps.offset * ratio + float(values.mean()) * (1 - ratio))]

    def shift(steps):
        return [replace(steps, shift_s=round(float(sign * shift_s), 6)) for shift_s in shifts_s for sign in (1, -1)]

    best, gains = (score(Postprocessing()), Postprocessing()), {}
    for name, vary in (("median", filter_medians), ("centring", centre), ("scaling", scale), ("shift", shift)):
        before = best[0]
        for steps in vary(best[1]):
            best = max(best, (score(steps), steps), key=lambda pair: pair[0])
        gains[name] = best[0] - before
    return best[1], gains


def hash_weights(model: "keras.Model", begun: Any = None) -> str:
    """Returns a SHA-256 of all weights of a model, to which steps belong that were fitted to its predictions.

    Args:
        model: The model.
        begun: Hash of what comes before the weights; `None` for nothing.
    """
    digest = begun or hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).data)
    return digest.hexdigest()


def _filter_median(times_s, values, width_s):
    """Returns the medians (n,) of the values at most half of `width_s` away from each."""
    starts = np.searchsorted(times_s, times_s - width_s / 2 - 1e-6)
    ends = np.searchsorted(times_s, times_s + width_s / 2 + 1e-6, side="right")
    counts = ends - starts
    places = starts[:, None] + np.arange(counts.max())
    around = np.sort(np.where(places < ends[:, None], values[np.minimum(places, len(values) - 1)], np.inf), axis=1)
    rows = np.arange(len(values))
    return (around[rows, (counts - 1) // 2] + around[rows, counts // 2]) / 2

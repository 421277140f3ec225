"""Metrics by the field's names: accuracy (WAR), UAR, macro F1 and confusion of clips; RMSE, CC and CCC of series."""

from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

import keras
import numpy as np
from keras import ops
from sklearn import metrics

from affect.errors import InputError


def classification_metrics(labels, predictions, classes):
    """Computes the metrics of a set of clips.

    Args:
        labels: int (M,), indices into `classes`.
        predictions: int (M,), indices into `classes`; -1 is a clip for which nothing could be predicted. It counts as
            wrong, whatever its label.
        classes: Class names, E of them.

    Returns:
        Dict: `clips` M; `accuracy` (weighted average recall), `uar` (mean recall over the classes that occur among the
        labels) and `macro_f1` (mean over the same), in [0, 1], `None` where M is 0; `confusion`, E lists of E + 1
        counts: rows are labels, columns predictions, the last one counts clips without a prediction.
    """
    labels, predictions = np.asarray(labels, int), np.asarray(predictions, int)
    present = np.unique(labels)
    if not len(labels):
        nothing = [[0] * (len(classes) + 1) for _ in classes]
        return {"clips": 0, "accuracy": None, "uar": None, "macro_f1": None, "confusion": nothing}
    average = {"labels": present, "average": "macro", "zero_division": 0}
    columns = [*range(len(classes)), -1]
    return {
        "clips": len(labels),
        "accuracy": float(metrics.accuracy_score(labels, predictions)),
        "uar": float(metrics.recall_score(labels, predictions, **average)),
        "macro_f1": float(metrics.f1_score(labels, predictions, **average)),
        "confusion": metrics.confusion_matrix(labels, predictions, labels=columns)[:-1].tolist(),
    }


@dataclass(frozen=True)
class Moments:
    """What RMSE, CC and CCC need to know of rated and predicted values; moments of parts add up to those of the whole.

    Squares of deviations are kept, and not plain sums of squares, whose difference loses all digits where the values
    are large beside their deviation. For the same reason a mean is two numbers whose sum it is: the second holds what
    the first rounds off. A series of equal values has deviations of exactly 0, however it is cut in parts.

    Numbers are NumPy's, float64, or tensors of one dtype.

    Args:
        count: Values, n; or the sum of their weights.
        label_mean, prediction_mean: Means μ_y and μ_x, each a pair.
        label_square, prediction_square: Σ(y - μ_y)² and Σ(x - μ_x)².
        product: Σ(x - μ_x)(y - μ_y).
        error: Σ(x - y)².
        left_out: Frames that were not valid.
    """

    count: Any = 0.0
    label_mean: tuple = (0.0, 0.0)
    prediction_mean: tuple = (0.0, 0.0)
    label_square: Any = 0.0
    prediction_square: Any = 0.0
    product: Any = 0.0
    error: Any = 0.0
    left_out: int = 0

    @classmethod
    def of(cls, labels, predictions, weights, xp):
        """Computes the moments of one batch in two passes.

        Args:
            labels, predictions: Float arrays (n,).
            weights: Float array (n,), 0 for values that do not count; those must be finite all the same.
            xp: `numpy` or `keras.ops`, whichever the arrays are of: the names used here are the same in both.
        """
        count = xp.sum(weights)
        present = xp.maximum(count, 1e-30)

        def centred(values):
            start = values[0]
            centre = start + xp.sum((values - start) * weights) / present  # exact where all are equal
            values = values - centre
            return (centre, xp.sum(values * weights) / present), values

        label_mean, y = centred(labels)
        prediction_mean, x = centred(predictions)
        return cls(
            count=count,
            label_mean=label_mean,
            prediction_mean=prediction_mean,
            label_square=xp.sum(y * y * weights) - count * label_mean[1] ** 2,
            prediction_square=xp.sum(x * x * weights) - count * prediction_mean[1] ** 2,
            product=xp.sum(x * y * weights) - count * label_mean[1] * prediction_mean[1],
            error=xp.sum((predictions - labels) ** 2 * weights),
        )

    @classmethod
    def of_series(cls, labels, predictions, valid=None):
        """Computes the moments of a series, or of any part of one, in float64.

        Args:
            labels, predictions: Numbers, two arrays of the same shape.
            valid: bool, of the same shape; `None` is all. Frames that are not valid, such as those without a face,
                are left out whatever they hold, and counted.

        Raises:
            InputError: On shapes that differ, and on a valid value that is not finite.
        """
        labels, predictions = np.asarray(labels, np.float64), np.asarray(predictions, np.float64)
        valid = np.ones(labels.shape, bool) if valid is None else np.asarray(valid, bool)
        if not labels.shape == predictions.shape == valid.shape:
            raise InputError(
                "Labels, predictions and what is valid of them must have one shape. "
                f"Received: {labels.shape}, {predictions.shape} and {valid.shape}"
            )
        left_out = int(valid.size - valid.sum())
        if left_out == valid.size:
            return cls(left_out=left_out)
        labels, predictions = labels[valid], predictions[valid]
        for name, values in (("label", labels), ("prediction", predictions)):
            if not np.isfinite(values).all():
                place = int(np.argmin(np.isfinite(values)))
                raise InputError(
                    f"A {name} is not a finite number: {values[place]} in valid frame {place} of {len(values)}. "
                    "Mark frames without one as not valid."
                )
        return replace(cls.of(labels, predictions, np.ones(len(labels)), np), left_out=left_out)

    @classmethod
    def of_sums(cls, sums: Any, xp: Any = np) -> "Moments":
        """Computes moments from plain sums.

        Plain sums add up with `+` alone: Keras adds the states of replicas so, and a bootstrap adds whole arrays of
        them. They lose digits where values are large beside their deviation. Ratings lie in [-1, 1], where float64
        sums are exact enough.

        Args:
            sums: Float array (..., 7): n, Σy, Σx, Σy², Σx², Σxy and Σ(x - y)², as `plain_sums` returns them.
            xp: `numpy` or `keras.ops`, whichever the array is of.

        Returns:
            `Moments` of arrays (...).
        """
        count, y, x, yy, xx, xy, error = xp.unstack(sums, axis=-1)
        n, digits = xp.maximum(count, 1e-30), float(np.finfo(keras.backend.standardize_dtype(sums.dtype)).eps)

        def square(squares, total):
            # The difference of two equal sums is a rounding error and no deviation.
            deviations = squares - total * total / n
            return xp.where(deviations > 16 * digits * squares, deviations, 0.0)

        return cls(
            count=count,
            label_mean=(y / n, 0.0),
            prediction_mean=(x / n, 0.0),
            label_square=square(yy, y),
            prediction_square=square(xx, x),
            product=xy - x * y / n,
            error=error,
        )

    def plain_sums(self) -> np.ndarray:
        """Returns the plain sums float64 (7,) that `of_sums` takes, of NumPy's numbers."""
        n, y, x = self.count, sum(self.label_mean), sum(self.prediction_mean)
        squares = self.label_square + n * y * y, self.prediction_square + n * x * x
        return np.array([n, n * y, n * x, *squares, self.product + n * x * y, self.error])

    def __add__(self, other):
        """Returns the moments of both parts together, of NumPy's numbers, by the update of Chan, Golub and LeVeque."""
        left_out = self.left_out + other.left_out
        if not self.count or not other.count:
            return replace(other if other.count else self, left_out=left_out)
        count = self.count + other.count
        share = other.count / count

        def merged(mean, others):
            difference = (others[0] - mean[0]) + (others[1] - mean[1])
            rounded, rest = _two_sum(mean[0], difference * share)
            return difference, (rounded, rest + mean[1])

        dy, label_mean = merged(self.label_mean, other.label_mean)
        dx, prediction_mean = merged(self.prediction_mean, other.prediction_mean)
        between = self.count * share
        return Moments(
            count=count,
            label_mean=label_mean,
            prediction_mean=prediction_mean,
            label_square=self.label_square + other.label_square + between * dy * dy,
            prediction_square=self.prediction_square + other.prediction_square + between * dx * dx,
            product=self.product + other.product + between * dx * dy,
            error=self.error + other.error,
            left_out=left_out,
        )


def _two_sum(a, b):
    """Returns a + b and what it rounds off (Knuth), exactly."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def rmse(moments, xp=np):
    """Root mean square error; 0 without a valid frame."""
    return xp.sqrt(_ratio(moments.error, moments.count, 0.0, xp))


def cc(moments, xp=np):
    """Pearson's correlation coefficient; 0 where it is not defined: labels or predictions are constant."""
    spread = xp.sqrt(xp.maximum(moments.label_square, 0.0)) * xp.sqrt(xp.maximum(moments.prediction_square, 0.0))
    return _ratio(moments.product, spread, 0.0, xp)


def ccc(moments, xp=np):
    """Lin's concordance correlation coefficient, 2 cov / (var_x + var_y + (μ_x - μ_y)²), of population moments.

    It is 0 where one series is constant, and also where both are, at different values. 0/0, two constants that are
    equal, is 1: a series concords with itself, however little it varies. So too without a valid frame, which leaves a
    loss of nothing.
    """
    label, prediction = moments.label_mean, moments.prediction_mean
    apart = (prediction[0] - label[0]) + (prediction[1] - label[1])
    whole = moments.label_square + moments.prediction_square + moments.count * apart**2
    return _ratio(2 * moments.product, whole, 1.0, xp)


def _ratio(part, whole, otherwise, xp):
    """Returns part / whole, and `otherwise` where whole is 0; without NaN in the gradient there."""
    is_positive = whole > 0
    return xp.where(is_positive, part / xp.where(is_positive, whole, 1.0), otherwise)


FORMULAS = {"rmse": rmse, "cc": cc, "ccc": ccc}


def regression_metrics(recordings):
    """Computes RMSE, CC and CCC of one dimension, over all recordings concatenated and as the mean over recordings.

    The two are different numbers, and papers seldom say which they report.

    Args:
        recordings: Dict: name of a recording → its `Moments`, from `Moments.of_series`.

    Returns:
        Dict: `recordings` and `frames` that were counted; `frames_left_out`, and the names `recordings_left_out`, that
        have no valid frame; the names `constant`, whose labels or predictions do not vary, so that their CC counts as
        0; `concatenated` and `mean`, dicts of `rmse`, `cc` and `ccc`, which are `None` where there is no frame.
    """
    whole = reduce(add, recordings.values(), Moments())
    seen = {name: moments for name, moments in recordings.items() if moments.count}
    numbers = {name: [float(formula(moments)) for moments in seen.values()] for name, formula in FORMULAS.items()}
    return {
        "recordings": len(seen),
        "frames": int(whole.count),
        "frames_left_out": whole.left_out,
        "recordings_left_out": [name for name in recordings if name not in seen],
        "constant": [name for name, found in seen.items() if not found.label_square or not found.prediction_square],
        "concatenated": {name: float(formula(whole)) if seen else None for name, formula in FORMULAS.items()},
        "mean": {name: float(np.mean(values)) if seen else None for name, values in numbers.items()},
    }


@keras.saving.register_keras_serializable(package="affect")
class SeriesMetric(keras.metrics.Metric):
    """RMSE, CC or CCC of one dimension over all frames since the last reset, for the logs of training.

    The state is the seven plain sums of `Moments.of_sums`: batches may be of any size, and replicas and workers merge
    by adding it, as Keras does. It is float64, and float32 on JAX, which has no float64 by default. Evaluation adds
    `Moments`, which are exact for values of any size. The formulas are the same.

    Args:
        formula: `"rmse"`, `"cc"` or `"ccc"`.
        output: Index of the dimension on the last axis: 0 valence, 1 arousal (`affect.data.labels.DIMENSIONS`).
        name: Name in the logs; by default the formula.

    Call arguments:
        y_true, y_pred: `(..., O)`.
        sample_weight: Optional, `(...)`: 1 for valid frames and 0 for others, which may hold anything.
    """

    def __init__(self, formula, output=0, name=None):
        if formula not in FORMULAS:
            raise ValueError(f"Unknown `formula`. Expected one of {sorted(FORMULAS)}. Received: formula={formula!r}")
        dtype = "float32" if keras.backend.backend() == "jax" else "float64"
        super().__init__(name=name or formula, dtype=dtype)
        self.formula = formula
        self.output = output
        self.sums = self.add_variable((7,), "zeros", dtype=dtype, name="sums")

    def update_state(self, y_true, y_pred, sample_weight=None):
        y, x, weight = valid_values(y_true, y_pred, sample_weight, self.output, self.dtype)
        terms = (ops.ones_like(y), y, x, y * y, x * x, x * y, (x - y) ** 2)
        self.sums.assign_add(ops.stack([ops.sum(weight * term) for term in terms]))

    def result(self):
        moments = Moments.of_sums(ops.convert_to_tensor(self.sums), ops)
        return FORMULAS[self.formula](moments, ops)

    def get_config(self):
        return {"formula": self.formula, "output": self.output, "name": self.name}


def valid_values(y_true, y_pred, sample_weight, output, dtype):
    """Returns one dimension's labels, predictions and weights as tensors (n,), with 0 where the weight is 0.

    Args:
        y_true, y_pred: `(..., O)`.
        sample_weight: `(...)`, or `None` for 1 everywhere.
        output: Index on the last axis.
        dtype: Of the result.
    """
    y, x = (ops.reshape(ops.cast(values, dtype)[..., output], (-1,)) for values in (y_true, y_pred))
    if sample_weight is None:
        return y, x, ops.ones_like(y)
    weight = ops.reshape(ops.cast(sample_weight, dtype), (-1,))
    return ops.where(weight > 0, y, 0.0), ops.where(weight > 0, x, 0.0), weight

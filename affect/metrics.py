"""Metrics by the field's names: accuracy (WAR), UAR, macro F1 and confusion of clips; RMSE, CC and CCC of series."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any, Literal

import keras
import numpy as np
from keras import ops
from sklearn import metrics

from affect.errors import InputError


def classification_metrics(
    labels: Sequence[int] | np.ndarray, predictions: Sequence[int] | np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """Computes the metrics of a set of clips.

    Args:
        labels: int (M,), indices into `classes`.
        predictions: int (M,), indices into `classes`; -1 is a clip without a prediction, which counts as wrong.
        classes: E class names.

    Returns:
        Dict of `clips`, M; `accuracy` (weighted average recall), `uar` (mean recall) and `macro_f1` (mean F1) in
        [0, 1], `None` if M is 0, where both means are over the classes that occur among the labels; and `confusion`, E
        lists of E + 1 counts: a list for each label, a column for each prediction, and a last column for clips without
        a prediction.
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
    """The sufficient statistics of labels and predictions for RMSE, CC and CCC.

    The moments of parts add up to the moments of the whole. They hold sums of squared deviations, because the
    difference of plain sums of squares loses all digits where the values are large beside their deviation. For the same
    reason a mean is a pair of numbers, the mean and its rounding error. A series of equal values has deviations of
    exactly 0, in whatever parts it is added.

    Numbers are NumPy's, float64, or tensors of one dtype.

    Args:
        count: Number of values, n; or the sum of their weights.
        label_mean: Mean μ_y of the labels, as a pair whose sum it is.
        prediction_mean: Mean μ_x of the predictions, as such a pair.
        label_square: Σ(y - μ_y)².
        prediction_square: Σ(x - μ_x)².
        product: Σ(x - μ_x)(y - μ_y).
        error: Σ(x - y)².
        left_out: Number of frames that were not valid.
    """

    count: Any = 0.0
    label_mean: tuple[Any, Any] = (0.0, 0.0)
    prediction_mean: tuple[Any, Any] = (0.0, 0.0)
    label_square: Any = 0.0
    prediction_square: Any = 0.0
    product: Any = 0.0
    error: Any = 0.0
    left_out: int = 0

    @classmethod
    def of(cls, labels: Any, predictions: Any, weights: Any, xp: Any) -> "Moments":
        """Computes the moments of one batch in two passes.

        Args:
            labels: Float array (n,).
            predictions: Float array (n,).
            weights: Float array (n,), 0 for values that do not count. These must be finite too.
            xp: `numpy` or `keras.ops`, whichever the arrays belong to. Both have the functions that are used here.

        Returns:
            `Moments` of scalars.
        """
        count = xp.sum(weights)
        present = xp.maximum(count, 1e-30)

        def centre(values):
            start = values[0]
            mean = start + xp.sum((values - start) * weights) / present  # exact where all values are equal
            values = values - mean
            return (mean, xp.sum(values * weights) / present), values

        label_mean, y = centre(labels)
        prediction_mean, x = centre(predictions)
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
    def of_series(
        cls,
        labels: Sequence[float] | np.ndarray,
        predictions: Sequence[float] | np.ndarray,
        valid: Sequence[bool] | np.ndarray | None = None,
    ) -> "Moments":
        """Computes the moments of a series, or of a part of one, in float64.

        Args:
            labels: Numbers, of any shape.
            predictions: Numbers, of the same shape.
            valid: bool, of the same shape; `None` is all. Frames that are not valid, such as those without a face, may
                hold anything. They are left out, and counted.

        Returns:
            `Moments` of scalars.

        Raises:
            InputError: When the shapes differ, or a valid value is not finite.
        """
        labels, predictions = np.asarray(labels, np.float64), np.asarray(predictions, np.float64)
        valid = np.ones(labels.shape, bool) if valid is None else np.asarray(valid, bool)
        if not labels.shape == predictions.shape == valid.shape:
            raise InputError(
                "Labels, predictions and their mask `valid` must have one shape. "
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

        The plain sums of parts add up to the plain sums of the whole, as Keras adds the states of replicas. They
        lose digits where values are large beside their deviation. Ratings lie in [-1, 1], where float64 sums are exact
        enough.

        Args:
            sums: Float array (..., 7): n, Σy, Σx, Σy², Σx², Σxy and Σ(x - y)², as `plain_sums` returns them.
            xp: `numpy` or `keras.ops`, whichever the array belongs to.

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

    def __add__(self, other: "Moments") -> "Moments":
        """Returns the moments of two parts together, by the update of Chan, Golub and LeVeque; for NumPy's numbers."""
        left_out = self.left_out + other.left_out
        if not self.count or not other.count:
            return replace(other if other.count else self, left_out=left_out)
        count = self.count + other.count
        share = other.count / count

        def merge(mean, others):
            difference = (others[0] - mean[0]) + (others[1] - mean[1])
            rounded, rest = _two_sum(mean[0], difference * share)
            return difference, (rounded, rest + mean[1])

        dy, label_mean = merge(self.label_mean, other.label_mean)
        dx, prediction_mean = merge(self.prediction_mean, other.prediction_mean)
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


def _two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """Returns the rounded sum of a and b, and its rounding error, which is exact (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def rmse(moments: Moments, xp: Any = np) -> Any:
    """Returns the root mean square error; 0 without a valid frame.

    Args:
        moments: Of the labels and predictions.
        xp: `numpy` or `keras.ops`, whichever the moments belong to.
    """
    return xp.sqrt(_ratio(moments.error, moments.count, 0.0, xp))


def cc(moments: Moments, xp: Any = np) -> Any:
    """Returns Pearson's correlation coefficient; 0 where labels or predictions are constant and it is not defined.

    Args:
        moments: Of the labels and predictions.
        xp: `numpy` or `keras.ops`, whichever the moments belong to.
    """
    spread = xp.sqrt(xp.maximum(moments.label_square, 0.0)) * xp.sqrt(xp.maximum(moments.prediction_square, 0.0))
    return _ratio(moments.product, spread, 0.0, xp)


def ccc(moments: Moments, xp: Any = np) -> Any:
    """Returns Lin's concordance correlation coefficient, 2 cov / (var_x + var_y + (μ_x - μ_y)²), of population moments.

    It is 0 where one series is constant, or both are at different values. Two equal constants, 0/0, give 1, because a
    series concords with itself. No valid frame gives 1 too, so that the loss 1 - CCC is 0.

    Args:
        moments: Of the labels and predictions.
        xp: `numpy` or `keras.ops`, whichever the moments belong to.
    """
    label, prediction = moments.label_mean, moments.prediction_mean
    apart = (prediction[0] - label[0]) + (prediction[1] - label[1])
    whole = moments.label_square + moments.prediction_square + moments.count * apart**2
    return _ratio(2 * moments.product, whole, 1.0, xp)


def _ratio(part: Any, whole: Any, otherwise: float, xp: Any) -> Any:
    """Returns part / whole, and `otherwise` where whole is 0. The gradient has no NaN there."""
    is_positive = whole > 0
    return xp.where(is_positive, part / xp.where(is_positive, whole, 1.0), otherwise)


Formula = Literal["rmse", "cc", "ccc"]
FORMULAS: dict[Formula, Callable[..., Any]] = {"rmse": rmse, "cc": cc, "ccc": ccc}


def regression_metrics(recordings: Mapping[str, Moments]) -> dict[str, Any]:
    """Computes RMSE, CC and CCC of one dimension, over all recordings concatenated and as the mean over recordings.

    The two are different numbers, and papers seldom say which of them they report.

    Args:
        recordings: Name of a recording → its moments, from `Moments.of_series`.

    Returns:
        Dict of `recordings` and `frames`, the numbers that were counted; `frames_left_out`, the number of frames that
        were not valid; `recordings_left_out`, the names without a valid frame; `constant`, the names whose labels or
        predictions do not vary, so that their CC counts as 0; and `concatenated` and `mean`, dicts of `rmse`, `cc` and
        `ccc`, which are `None` without a frame.
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
    """RMSE, CC or CCC of one dimension over all frames since the last reset. Training logs it.

    The state is the seven plain sums of `Moments.of_sums`: batches may be of any size, and replicas and workers merge
    by adding it. It is float64, and float32 on JAX, which has no float64 by default. Evaluation adds `Moments`, which
    keep their digits for values of any size. The formulas are the same.

    Args:
        formula: Key of `FORMULAS`.
        output: Index of the dimension on the last axis: 0 is valence, 1 arousal (`affect.data.labels.DIMENSIONS`).
            Defaults to 0.
        name: Name in the logs. Defaults to the formula.

    Call arguments:
        y_true: Labels `(..., O)`.
        y_pred: Predictions `(..., O)`.
        sample_weight: Optional, `(...)`: 1 for valid frames, and 0 for others, which may hold anything.
    """

    def __init__(self, formula: Formula, output: int = 0, name: str | None = None) -> None:
        if formula not in FORMULAS:
            raise ValueError(f"Unknown `formula`. Expected one of {sorted(FORMULAS)}. Received: formula={formula!r}")
        dtype = "float32" if keras.backend.backend() == "jax" else "float64"
        super().__init__(name=name or formula, dtype=dtype)
        self.formula = formula
        self.output = output
        self.sums = self.add_variable((7,), "zeros", dtype=dtype, name="sums")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y, x, weight = valid_values(y_true, y_pred, sample_weight, self.output, self.dtype)
        terms = (ops.ones_like(y), y, x, y * y, x * x, x * y, (x - y) ** 2)
        self.sums.assign_add(ops.stack([ops.sum(weight * term) for term in terms]))

    def result(self) -> Any:
        moments = Moments.of_sums(ops.convert_to_tensor(self.sums), ops)
        return FORMULAS[self.formula](moments, ops)

    def get_config(self) -> dict[str, Any]:
        return {"formula": self.formula, "output": self.output, "name": self.name}


def valid_values(y_true: Any, y_pred: Any, sample_weight: Any, output: int, dtype: str) -> tuple[Any, Any, Any]:
    """Returns the labels, predictions and weights of one dimension as tensors (n,), with 0 where the weight is 0.

    Args:
        y_true: Labels `(..., O)`.
        y_pred: Predictions `(..., O)`.
        sample_weight: `(...)`, or `None` for 1 everywhere.
        output: Index of the dimension on the last axis.
        dtype: Of the result.
    """
    y, x = (ops.reshape(ops.cast(values, dtype)[..., output], (-1,)) for values in (y_true, y_pred))
    if sample_weight is None:
        return y, x, ops.ones_like(y)
    weight = ops.reshape(ops.cast(sample_weight, dtype), (-1,))
    return ops.where(weight > 0, y, 0.0), ops.where(weight > 0, x, 0.0), weight

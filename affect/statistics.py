"""Statistics in NumPy: RMSE, CC and CCC of series, and intervals and tests of a paper's table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from affect.errors import InputError


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the softmax over the last axis.

    Args:
        logits: Float array (..., E), finite.
    """
    shares = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    return shares / np.sum(shares, axis=-1, keepdims=True)


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
        n, digits = xp.maximum(count, 1e-30), float(np.finfo(_name_dtype(sums.dtype)).eps)

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


def _name_dtype(dtype: Any) -> str:
    """Returns the name of a dtype of NumPy or of a backend of Keras."""
    return getattr(dtype, "name", str(dtype).rpartition(".")[2])


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


def compare(
    values: np.ndarray,
    base: np.ndarray | None = None,
    *,
    statistic: Callable[..., Any] = np.mean,
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> dict[str, Any]:
    """Computes an interval and tests the difference from another row.

    Args:
        values: float (M, ...): for each clip the share of seeds that recognise it, or for each recording the sums of
            `affect.tasks.table_rows.sum_series`.
        base: The values of the row to compare with, in the same order; `None` tests nothing.
        statistic: `statistic(values, axis)` → the reported number over the clips or recordings on `axis`.
        confidence: Confidence level of the interval, in [0, 1].
        resamples: Resamples of the bootstrap and of the permutation test.
        seed: Seed of both.

    Returns:
        Dict: `interval`, percentile bootstrap of the statistic over clips or recordings, `None` for fewer than two;
        `p_value`, two-sided, of a paired permutation test of the difference, `None` without a base.
    """
    from scipy import stats  # it takes half a second, and other functions do not need it

    values = np.asarray(values, float)
    places = np.arange(len(values))
    interval, p_value = None, None
    if len(values) > 1:
        bounds = 2 * [statistic(values, axis=0)]
        if np.ptp(values, axis=0).any():
            bounds = stats.bootstrap(
                (places,),
                lambda chosen, axis: statistic(values[chosen], axis=axis),
                confidence_level=confidence,
                n_resamples=resamples,
                method="percentile",
                rng=seed,
            ).confidence_interval
        interval = [float(bound) for bound in bounds]
    if base is not None:
        both = np.concatenate([values, np.asarray(base, float)])
        test = stats.permutation_test(
            (places, places + len(values)),
            lambda a, b, axis: statistic(both[a], axis=axis) - statistic(both[b], axis=axis),
            permutation_type="samples",
            n_resamples=resamples,
            vectorized=True,
            rng=seed,
        )
        p_value = float(test.pvalue)
    return {"interval": interval, "p_value": p_value}


def standard_deviation(values: Sequence[float | None]) -> float | None:
    """Returns the standard deviation over seeds; `None` for one seed, or if a value is `None`."""
    found = [value for value in values if value is not None]
    return float(np.std(found, ddof=1)) if len(values) > 1 and len(found) == len(values) else None


def mean(values: Sequence[float | None]) -> float | None:
    """Returns the mean over seeds; `None` if a value is `None`."""
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if len(found) == len(values) else None

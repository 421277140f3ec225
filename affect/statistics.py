"""The statistics of a paper's table: mean and spread over seeds, an interval, and a test of a difference."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats


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

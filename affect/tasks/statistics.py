"""What a paper's table says beside a mean: the spread over seeds, an interval, and whether a difference is chance."""

import numpy as np
from scipy import stats


def compare(values, base=None, *, statistic=np.mean, confidence=0.95, resamples=9999, seed=0):
    """Computes what a table says beside a mean.

    Args:
        values: float (M, ...), for each clip the share of seeds with which it was recognised, or for each recording
            what `series_sums` gives.
        base: The same of the row that this one is compared with, in the same order, or `None`.
        statistic: `statistic(values, axis)` → what is reported of the clips or recordings on an axis. By default the
            mean.
        confidence: Of the interval.
        resamples: Of bootstrap and permutation.
        seed: Of both.

    Returns:
        Dict: `interval`, percentile bootstrap of the statistic over clips or recordings, `None` of less than two;
        `p_value`, two-sided, of a paired permutation test of its difference, `None` without a base.
    """
    values = np.asarray(values, float)
    places = np.arange(len(values))
    interval, p_value = None, None
    if len(values) > 1:
        interval = 2 * [statistic(values, axis=0)]
        if np.ptp(values, axis=0).any():
            interval = stats.bootstrap(
                (places,),
                lambda chosen, axis: statistic(values[chosen], axis=axis),
                confidence_level=confidence,
                n_resamples=resamples,
                method="percentile",
                rng=seed,
            ).confidence_interval
        interval = [float(bound) for bound in interval]
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


def standard_deviation(values):
    """Returns the standard deviation over seeds, `None` of one seed or where a value is lacking."""
    return float(np.std(values, ddof=1)) if len(values) > 1 and None not in values else None


def mean(values):
    """Returns the mean over seeds, `None` where a value is lacking."""
    return None if None in values else float(np.mean(values))

"""The numbers in a row of a paper's table, from the evaluations of its seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from affect.data.labels import DIMENSIONS
from affect.statistics import FORMULAS, Moments, ccc, compare, mean, standard_deviation

# Columns of a paper's table. A column without the name of a dimension is about valence, which paper B reports.
COLUMNS = {
    "row": "row",
    "reported_rmse": "RMSE",
    "rmse": "ours",
    "reported_cc": "CC",
    "cc": "ours",
    "reported_ccc": "CCC",
    "ccc": "ours",
    "ccc_sd": "sd",
    "interval": "95 % interval",
    "p_value": "p",
    "ccc_of_recordings": "CCC, mean over recordings",
    "rmse_sd": "sd of RMSE",
    "cc_sd": "sd of CC",
    "arousal_rmse": "arousal: RMSE",
    "arousal_cc": "CC",
    "arousal_ccc": "CCC",
    "arousal_ccc_of_recordings": "CCC, mean over recordings",
    "protocol": "protocol",
    "recordings": "recordings",
    "frames": "ratings or frames",
    "frames_without_a_face": "without a face",
    "parameters": "parameters",
    "relative_cost": "relative cost",
}

# With 5 recordings or fewer no difference can be significant: the least two-sided p is 2 / 2^5.
LEAST_RECORDINGS = 6


def count_correct(
    reported: Mapping[str, float], reports: Sequence[dict[str, Any]], base: Sequence[dict[str, Any]] | None
) -> dict[str, Any]:
    """Returns the numbers of a row of a paper's table.

    Args:
        reported: The paper's numbers.
        reports: Evaluations of the row, one a seed.
        base: Evaluations of the first row; `None` for the first row itself.
    """
    accuracies = [report["all"]["accuracy"] for report in reports]
    return {
        "reported": reported.get("accuracy"),
        "accuracy_mean": float(np.mean(accuracies)),
        "accuracy_sd": standard_deviation(accuracies),
        **compare(correctness(reports), None if base is None else correctness(base)),
        "uar": float(np.mean([report["all"]["uar"] for report in reports])),
        "accuracy_with_a_face": mean([report["with_a_face"]["accuracy"] for report in reports]),
        "clips": reports[0]["all"]["clips"],
    }


def correctness(reports: Sequence[dict[str, Any]]) -> np.ndarray:
    """Returns for each clip the share of seeds that recognise it, float (M,), in the order of the keys."""
    seeds = [{clip["key"]: clip["predicted"] == clip["label"] for clip in report["clips"]} for report in reports]
    return np.array([np.mean([seed[key] for seed in seeds]) for key in sorted(seeds[0])])


def average_series(
    reported: Mapping[str, float], reports: Sequence[dict[str, Any]], base: Sequence[dict[str, Any]] | None
) -> dict[str, Any]:
    """Returns the numbers of a row of a paper's table.

    Args:
        reported: The paper's numbers.
        reports: Evaluations of the row, one a seed.
        base: Evaluations of the first row; `None` for the first row itself.
    """
    numbers: dict[str, Any] = {}
    for dimension, prefix in zip(DIMENSIONS, ("", "arousal_"), strict=True):
        found = [report["metrics"][dimension] for report in reports]
        for name in FORMULAS:
            values = [metrics["concatenated"][name] for metrics in found]
            numbers |= {f"{prefix}{name}": mean(values), f"{prefix}{name}_sd": standard_deviation(values)}
        numbers[f"{prefix}ccc_of_recordings"] = mean([metrics["mean"]["ccc"] for metrics in found])
    sums = sum_series(reports)
    base_sums = sum_series(base) if base is not None and len(sums) >= LEAST_RECORDINGS else None
    numbers |= compare(sums, base_sums, statistic=compute_concatenated_ccc)
    numbers |= {f"reported_{name}": reported.get(name) for name in FORMULAS}
    numbers |= {
        "protocol": reports[0]["protocol"],
        "recordings": reports[0]["metrics"][DIMENSIONS[0]]["recordings"],
        "frames": reports[0]["frames"]["counted"],
        "frames_without_a_face": reports[0]["frames"]["without_a_face"],
    }
    return {name: numbers[name] for name in COLUMNS if name in numbers}


def _read_moments(recording: dict[str, Any], dimension: str) -> Moments:
    """Returns the moments of one dimension of a recording.

    Args:
        recording: Entry of `recordings` in a report.
        dimension: Name of the dimension.
    """
    series = recording["series"]
    labels, predictions = (np.array(series[name][dimension], float) for name in ("labels", "predictions"))
    return Moments.of_series(labels, predictions, ~np.isnan(labels) & ~np.isnan(predictions))


def sum_series(reports: Sequence[dict[str, Any]]) -> np.ndarray:
    """Returns the sums that give the CCC of valence over any choice of recordings.

    Args:
        reports: Evaluations of the same recordings, one a seed.

    Returns:
        float (M, seeds, 7), for the recordings with a frame that counts, in the order of their names: the sums that
        `Moments.of_sums` takes.
    """
    seeds = [{recording["name"]: recording for recording in report["recordings"]} for report in reports]
    names = sorted(name for name, recording in seeds[0].items() if recording["frames"]["counted"])
    rows = [[_read_moments(seed[name], DIMENSIONS[0]).plain_sums() for seed in seeds] for name in names]
    return np.reshape(rows, (len(names), len(seeds), 7))


def compute_concatenated_ccc(sums: np.ndarray, axis: int) -> np.ndarray:
    """Returns the CCC of recordings concatenated, averaged over the seeds.

    Args:
        sums: float (..., seeds, 7) with the recordings on `axis`, from `sum_series`.
        axis: The axis; a negative one counts back from the last axis but two.
    """
    whole = np.sum(sums, axis=axis - 2 if axis < 0 else axis)  # (..., seeds, 7)
    return ccc(Moments.of_sums(whole)).mean(axis=-1)

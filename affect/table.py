"""table(): a folder of configs × seeds → a paper's table beside our numbers, with the spread that papers leave out."""

import csv
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import stats

from affect.config import Regression, load_rows, read_json, run_python, write_json
from affect.errors import InputError
from affect.evaluate import evaluate, moments_of
from affect.labels import DIMENSIONS
from affect.metrics import FORMULAS, Moments, ccc
from affect.model import load_trained
from affect.train import train

COLUMNS = {
    "row": "row",
    "reported": "reported",
    "accuracy_mean": "ours",
    "accuracy_sd": "sd",
    "interval": "95 % interval",
    "p_value": "p",
    "uar": "UAR",
    "accuracy_with_a_face": "accuracy with a face",
    "clips": "clips",
    "parameters": "parameters",
    "relative_cost": "relative cost",
}


# Of regressions; without a dimension's name, valence, which is what paper B reports.
DIMENSIONAL_COLUMNS = {
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

# With fewer recordings no difference can be told from chance: two-sided, p is 2 / 2^5 at best.
LEAST_RECORDINGS = 6


def table(folder, *, data, workdir, seeds, split, overrides=(), recipe=None, protocol=None, track=None):
    """Trains and evaluates every row of a table with several seeds; what is there already is not done again.

    A run stands in `workdir/<row>/seed-<k>`, its evaluation on `split` beside its checkpoints; the table is written to
    `workdir` as `table.md`, `table.csv` and `table.json`.

    Args:
        folder: Folder of configs, a row each, in the order of `ROWS` in its `__init__.py`; the first is what the others
            are compared with.
        data: Folder of shards.
        workdir: Folder of the runs and the table.
        seeds: How many: 0, 1, ...
        split: Split that is evaluated.
        overrides: Strings `"train.epochs=3"`, for all rows in which they have an effect.
        recipe: Of all rows, as in `affect.config.load_config`.
        protocol: Of all rows, as in `affect.evaluate.evaluate`.
        track: `track(iterable, total, description)` → iterable, to show progress over rows and seeds.

    Returns:
        Dict: `kind`, name in `KINDS`; `split`, `is_selection_split` (whether epochs were selected on it), `seeds`,
        `overrides`, `recipe` and `rows`, dicts with the keys of the kind's columns. Accuracies count a clip without a
        face as wrong, but for `accuracy_with_a_face`. RMSE, CC and CCC are of all recordings concatenated, but for
        `ccc_of_recordings`, by the row's `protocol`. `interval` and `p_value` are of clips or recordings
        (see `compare`); `relative_cost` is the time to evaluate the same batch as a share of the first row's, measured
        in this call.

    Raises:
        InputError: As `affect.train.train`; or for a folder without rows, or of which some classify and some do not.
    """
    if seeds < 1:
        raise InputError(f"A table needs a seed at least. Received: {seeds}")
    workdir = Path(workdir)
    experiments = load_rows(_row_paths(folder), overrides, recipe)
    kinds = {"dimensions" if isinstance(row.model, Regression) else "classes" for row in experiments.values()}
    if len(kinds) > 1:
        raise InputError(f"{folder} has rows that classify and rows that do not. Expected all of one kind.")
    (kind,) = kinds
    work = [(name, seed) for name in experiments for seed in range(seeds)]
    reports = {name: [] for name in experiments}
    for name, seed in track(work, len(work), "rows × seeds") if track else work:
        experiment = experiments[name]
        experiment = replace(experiment, train=replace(experiment.train, seed=seed))
        reports[name].append(_report(experiment, data, workdir / name / f"seed-{seed}", split, protocol))
    first = next(iter(experiments))
    rows, first_seconds = [], None
    for name, experiment in experiments.items():
        trained = load_trained(workdir / name / "seed-0")
        seconds = _seconds(trained)
        first_seconds = first_seconds or seconds
        rows.append(
            {
                "row": name,
                **KINDS[kind].numbers(experiment.reported, reports[name], None if name == first else reports[first]),
                "parameters": trained.model.count_params(),
                "relative_cost": seconds / first_seconds,
            }
        )
    result = {
        "kind": kind,
        "split": split,
        "is_selection_split": any(row.data.selection_split == split for row in experiments.values()),
        "seeds": seeds,
        "overrides": list(overrides),
        "recipe": recipe,
        "rows": rows,
    }
    write_json(workdir / "table.json", result)
    _write_text(workdir / "table.md", markdown(result))
    with open(workdir / "table.csv.tmp", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, KINDS[kind].columns)
        writer.writeheader()
        writer.writerows(
            row | {"interval": "–".join(f"{bound:.4f}" for bound in row["interval"] or ())} for row in rows
        )
    (workdir / "table.csv.tmp").replace(workdir / "table.csv")
    return result


def _of_classes(reported, reports, base):
    accuracies = [report["all"]["accuracy"] for report in reports]
    return {
        "reported": reported.get("accuracy"),
        "accuracy_mean": float(np.mean(accuracies)),
        "accuracy_sd": _sd(accuracies),
        **compare(correctness(reports), None if base is None else correctness(base)),
        "uar": float(np.mean([report["all"]["uar"] for report in reports])),
        "accuracy_with_a_face": _mean([report["with_a_face"]["accuracy"] for report in reports]),
        "clips": reports[0]["all"]["clips"],
    }


def _of_dimensions(reported, reports, base):
    numbers = {}
    for dimension, prefix in zip(DIMENSIONS, ("", "arousal_"), strict=True):
        found = [report["metrics"][dimension] for report in reports]
        for name in FORMULAS:
            values = [metrics["concatenated"][name] for metrics in found]
            numbers |= {f"{prefix}{name}": _mean(values), f"{prefix}{name}_sd": _sd(values)}
        numbers[f"{prefix}ccc_of_recordings"] = _mean([metrics["mean"]["ccc"] for metrics in found])
    sums = series_sums(reports)
    has_enough = base is not None and len(sums) >= LEAST_RECORDINGS
    numbers |= compare(sums, series_sums(base) if has_enough else None, statistic=concatenated_ccc)
    numbers |= {f"reported_{name}": reported.get(name) for name in FORMULAS}
    numbers |= {
        "protocol": reports[0]["protocol"],
        "recordings": reports[0]["metrics"][DIMENSIONS[0]]["recordings"],
        "frames": reports[0]["frames"]["counted"],
        "frames_without_a_face": reports[0]["frames"]["without_a_face"],
    }
    return {name: numbers[name] for name in DIMENSIONAL_COLUMNS if name in numbers}


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


def correctness(reports):
    """Returns for each clip, in the order of their keys, the share of seeds with which it was recognised."""
    seeds = [{clip["key"]: clip["predicted"] == clip["label"] for clip in report["clips"]} for report in reports]
    return np.array([np.mean([seed[key] for seed in seeds]) for key in sorted(seeds[0])])


def series_sums(reports):
    """Returns what the CCC of valence of any choice of recordings is computed from.

    Args:
        reports: Evaluations of the same recordings, one a seed.

    Returns:
        float (M, seeds, 6): of each recording that has a frame that counts, in the order of their names, the count and
        the sums of label, prediction, their squares and their product.
    """
    seeds = [{recording["name"]: recording for recording in report["recordings"]} for report in reports]
    names = sorted(name for name, recording in seeds[0].items() if recording["frames"]["counted"])

    def sums(moments):
        n, y, x = moments.count, sum(moments.label_mean), sum(moments.prediction_mean)
        squares = moments.label_square + n * y * y, moments.prediction_square + n * x * x
        return n, n * y, n * x, *squares, moments.product + n * x * y

    rows = [[sums(moments_of(seed[name], DIMENSIONS[0])) for seed in seeds] for name in names]
    return np.reshape(rows, (len(names), len(seeds), 6))


def concatenated_ccc(sums, axis):
    """Returns the CCC of recordings concatenated, averaged over the seeds.

    Args:
        sums: float (..., seeds, 6), with recordings on `axis`, from `series_sums`.
        axis: int; counted over the axes before the last two where it is negative.
    """
    n, y, x, yy, xx, xy = np.moveaxis(np.sum(sums, axis=axis - 2 if axis < 0 else axis), -1, 0)
    zero = np.zeros_like(n)
    return ccc(
        Moments(
            count=n,
            label_mean=(y / n, zero),
            prediction_mean=(x / n, zero),
            label_square=yy - y * y / n,
            prediction_square=xx - x * x / n,
            product=xy - x * y / n,
        )
    ).mean(axis=-1)


def cells(kind, row):
    """Returns a row of a table of a `Kind` as text, by the keys of its columns."""
    text = {key: str(row[key]) for key in kind.columns}
    text |= {key: "–" if row[key] is None else kind.write(row[key]) for key in kind.measured}
    return text | {
        "interval": "–" if row["interval"] is None else " to ".join(map(kind.write, row["interval"])),
        "p_value": "–" if row["p_value"] is None else f"{row['p_value']:.3f}",
        "parameters": f"{row['parameters']:,}",
        "relative_cost": f"{row['relative_cost']:.2f}",
    }


def markdown(result):
    """Returns a table's result as Markdown."""
    kind = KINDS[result["kind"]]
    rows = [list(cells(kind, row).values()) for row in result["rows"]]
    lines = [[*kind.columns.values()], ["---"] * len(kind.columns), *rows]
    title = (
        f"Split {result['split']}, {result['seeds']} seeds (sd over these), {kind.caption}. "
        f"Interval: bootstrap over {kind.units}. p: paired permutation test against {result['rows'][0]['row']}."
    )
    if result["recipe"]:
        title += f" Recipe {result['recipe']}."
    if result["is_selection_split"]:
        title += f" The epochs were selected on this split: {kind.optimistic} optimistic."
    if result["overrides"]:
        title += f" With {', '.join(result['overrides'])}: not the paper's setting."
    return "\n".join([title, "", *("| " + " | ".join(line) + " |" for line in lines)]) + "\n"


@dataclass(frozen=True)
class Kind:
    """What the tables of a kind of model hold, and how it is written.

    Args:
        numbers: `numbers(reported, reports, base_reports)` → the part of a row that comes of evaluations.
        columns: Key → heading, in order.
        terminal: Keys of what fits a terminal; the files hold all columns.
        measured: Keys of metrics.
        write: A metric → text.
        caption: What the metrics are.
        units: What is resampled.
        optimistic: The metrics, as the subject of a sentence, with its verb.
    """

    numbers: Callable
    columns: dict[str, str]
    terminal: tuple[str, ...]
    measured: tuple[str, ...]
    write: Callable
    caption: str
    units: str
    optimistic: str


KINDS = {
    "classes": Kind(
        numbers=_of_classes,
        columns=COLUMNS,
        terminal=("row", "reported", "accuracy_mean", "accuracy_sd", "interval", "p_value", "uar"),
        measured=("reported", "accuracy_mean", "accuracy_sd", "uar", "accuracy_with_a_face"),
        write=lambda share: f"{100 * share:.1f}",
        caption="accuracies in %",
        units="clips",
        optimistic="the accuracies are",
    ),
    "dimensions": Kind(
        numbers=_of_dimensions,
        columns=DIMENSIONAL_COLUMNS,
        terminal=("row", *(f"{of}{name}" for name in FORMULAS for of in ("reported_", "")), "interval", "p_value"),
        measured=tuple(name for name in DIMENSIONAL_COLUMNS if re.search("rmse|cc", name)),
        write=lambda value: re.sub(r"^(-?)0\.", r"\1.", f"{value:.3f}"),  # as the paper does
        caption=(
            "valence of recordings concatenated, reported and ours; the protocol avec counts each rating and "
            "interpolates where no face is seen, the protocol faces leaves frames without a face out"
        ),
        units="recordings, of CCC",
        optimistic="the numbers are",
    ),
}


def _row_paths(folder):
    folder = Path(folder)
    init = folder / "__init__.py"
    names = run_python(init).get("ROWS") if init.is_file() else None
    if not names:
        raise InputError(f"{folder} is no table. Expected an __init__.py with ROWS, the names of its configs in order.")
    return [folder / f"{name}.py" for name in names]


def _report(experiment, data, run, split, protocol):
    """Returns the evaluation of a run; trains it and evaluates it where that is not done yet."""
    train(experiment, data=data, workdir=run, progress=False)
    path = run / f"evaluation-{split}.json"
    if isinstance(experiment.model, Regression):
        protocol = protocol or experiment.windows.protocol
    report = read_json(path) if path.is_file() else None
    if report is None or report.get("protocol") != protocol:
        report = evaluate(load_trained(run), data, split=split, protocol=protocol)
        write_json(path, report)
    return report


def _seconds(trained, repeats=3, frames=16):
    """Returns the shortest of a few evaluations of the same clip or window."""
    inputs = {
        name: np.ones((1, frames, *tensor.shape[2:]), tensor.dtype) for name, tensor in trained.model.input.items()
    }
    trained.model.predict_on_batch(inputs)  # traces
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        trained.model.predict_on_batch(inputs)
        times.append(time.perf_counter() - start)
    return min(times)


def _sd(values):
    """Returns the standard deviation over seeds, `None` of one seed or where a value is lacking."""
    return float(np.std(values, ddof=1)) if len(values) > 1 and None not in values else None


def _mean(values):
    return None if None in values else float(np.mean(values))


def _write_text(path, text):
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)

"""table(): a folder of configs × seeds → a paper's table beside our numbers, with the spread that papers leave out."""

import csv
import runpy
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats

from affect.config import load_config, read_json, write_json
from affect.errors import InputError
from affect.evaluate import evaluate
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


def table(folder, *, data, workdir, seeds, split, overrides=(), recipe=None, track=None):
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
        overrides: Strings `"train.epochs=3"`, for all rows.
        recipe: Of all rows, as in `affect.config.load_config`.
        track: `track(iterable, total, description)` → iterable, to show progress over rows and seeds.

    Returns:
        Dict: `split`, `is_selection_split` (whether epochs were selected on it), `seeds`, `overrides`, `recipe` and
        `rows`, dicts with the keys of `COLUMNS`. Accuracies count a clip without a face as wrong, but for
        `accuracy_with_a_face`. `interval` and `p_value` are of clips (see `compare`); `relative_cost` is the time to
        evaluate the same batch as a share of the first row's, measured in this call.

    Raises:
        InputError: As `affect.train.train`; or for a folder without rows.
    """
    if seeds < 1:
        raise InputError(f"A table needs a seed at least. Received: {seeds}")
    workdir = Path(workdir)
    experiments = {path.stem: load_config(path, overrides, recipe) for path in _row_paths(folder)}
    work = [(name, seed) for name in experiments for seed in range(seeds)]
    reports = {name: [] for name in experiments}
    for name, seed in track(work, len(work), "rows × seeds") if track else work:
        experiment = experiments[name]
        experiment = replace(experiment, train=replace(experiment.train, seed=seed))
        reports[name].append(_report(experiment, data, workdir / name / f"seed-{seed}", split))
    parameters, seconds = {}, {}
    for name in experiments:
        trained = load_trained(workdir / name / "seed-0")
        parameters[name] = trained.model.count_params()
        seconds[name] = _seconds(trained)
    first = next(iter(experiments))
    base = correctness(reports[first])
    rows = []
    for name, experiment in experiments.items():
        accuracies = [report["all"]["accuracy"] for report in reports[name]]
        rows.append(
            {
                "row": name,
                "reported": experiment.reported.get("accuracy"),
                "accuracy_mean": float(np.mean(accuracies)),
                "accuracy_sd": float(np.std(accuracies, ddof=1)) if seeds > 1 else None,
                **compare(correctness(reports[name]), None if name == first else base),
                "uar": float(np.mean([report["all"]["uar"] for report in reports[name]])),
                "accuracy_with_a_face": _mean([report["with_a_face"]["accuracy"] for report in reports[name]]),
                "clips": reports[name][0]["all"]["clips"],
                "parameters": parameters[name],
                "relative_cost": seconds[name] / seconds[first],
            }
        )
    result = {
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
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(row | {"interval": "–".join(f"{bound:.4f}" for bound in row["interval"])} for row in rows)
    (workdir / "table.csv.tmp").replace(workdir / "table.csv")
    return result


def compare(correct, base=None, *, confidence=0.95, resamples=9999, seed=0):
    """Computes what a table says beside a mean.

    Args:
        correct: float (M,), for each clip the share of seeds with which it was recognised.
        base: The same of the row that this one is compared with, in the same order of clips, or `None`.
        confidence: Of the interval.
        resamples: Of bootstrap and permutation.
        seed: Of both.

    Returns:
        Dict: `interval`, percentile bootstrap of the accuracy over clips; `p_value`, two-sided, of a paired permutation
        test of the mean difference over clips, `None` without a base.
    """
    correct = np.asarray(correct, float)
    interval = (correct[0], correct[0])
    if np.ptp(correct) > 0:
        bootstrap = stats.bootstrap(
            (correct,), np.mean, confidence_level=confidence, n_resamples=resamples, method="percentile", rng=seed
        )
        interval = bootstrap.confidence_interval
    p_value = None
    if base is not None:
        test = stats.permutation_test(
            (correct, np.asarray(base, float)),
            lambda a, b, axis: np.mean(a - b, axis=axis),
            permutation_type="samples",
            n_resamples=resamples,
            vectorized=True,
            rng=seed,
        )
        p_value = float(test.pvalue)
    return {"interval": [float(bound) for bound in interval], "p_value": p_value}


def cells(row):
    """Returns a row of the table as text, by the keys of `COLUMNS`; accuracies in per cent."""
    low, high = row["interval"]
    text = {key: "–" if row[key] is None else f"{100 * row[key]:.1f}" for key in _PERCENT}
    return (
        {key: str(row[key]) for key in COLUMNS}
        | text
        | {
            "interval": f"{100 * low:.1f} to {100 * high:.1f}",
            "p_value": "–" if row["p_value"] is None else f"{row['p_value']:.3f}",
            "parameters": f"{row['parameters']:,}",
            "relative_cost": f"{row['relative_cost']:.2f}",
        }
    )


def markdown(result):
    """Returns a table's result as Markdown."""
    rows = [list(cells(row).values()) for row in result["rows"]]
    lines = [[*COLUMNS.values()], ["---"] * len(COLUMNS), *rows]
    title = (
        f"Split {result['split']}, {result['seeds']} seeds (sd over these), accuracies in %. "
        f"Interval: bootstrap over clips. p: paired permutation test against {result['rows'][0]['row']}."
    )
    if result["recipe"]:
        title += f" Recipe {result['recipe']}."
    if result["is_selection_split"]:
        title += " The epochs were selected on this split: the accuracies are optimistic."
    if result["overrides"]:
        title += f" With {', '.join(result['overrides'])}: not the paper's setting."
    return "\n".join([title, "", *("| " + " | ".join(line) + " |" for line in lines)]) + "\n"


# What fits a terminal; the files hold all columns.
TERMINAL_COLUMNS = ("row", "reported", "accuracy_mean", "accuracy_sd", "interval", "p_value", "uar")
_PERCENT = ("reported", "accuracy_mean", "accuracy_sd", "uar", "accuracy_with_a_face")


def _row_paths(folder):
    folder = Path(folder)
    init = folder / "__init__.py"
    names = runpy.run_path(str(init)).get("ROWS") if init.is_file() else None
    if not names:
        raise InputError(f"{folder} is no table. Expected an __init__.py with ROWS, the names of its configs in order.")
    return [folder / f"{name}.py" for name in names]


def _report(experiment, data, run, split):
    """Returns the evaluation of a run; trains it and evaluates it where that is not done yet."""
    train(experiment, data=data, workdir=run, progress=False)
    path = run / f"evaluation-{split}.json"
    if not path.is_file():
        write_json(path, evaluate(load_trained(run), data, split=split))
    return read_json(path)


def correctness(reports):
    """Returns for each clip, in the order of their keys, the share of seeds with which it was recognised."""
    seeds = [{clip["key"]: clip["predicted"] == clip["label"] for clip in report["clips"]} for report in reports]
    return np.array([np.mean([seed[key] for seed in seeds]) for key in sorted(seeds[0])])


def _seconds(trained, repeats=3):
    """Returns the shortest of a few evaluations of the same clip."""
    size, frames = trained.face_size, 16
    inputs = {"faces": np.zeros((1, frames, size, size, 3), np.uint8), "frame_mask": np.ones((1, frames), bool)}
    trained.model.predict_on_batch(inputs)  # traces
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        trained.model.predict_on_batch(inputs)
        times.append(time.perf_counter() - start)
    return min(times)


def _mean(values):
    return None if None in values else float(np.mean(values))


def _write_text(path, text):
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)

"""table(): configs × seeds → a paper's table beside our numbers, with the spread over seeds that papers leave out."""

import csv
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from affect.config import load_rows, read_json, write_json
from affect.config.experiment import EvaluationProtocol
from affect.errors import InputError, format_count
from affect.files import replace_file
from affect.progress import Track, hide_progress
from affect.reading.run import load_trained
from affect.tasks import TASKS, TableLayout, find_task
from affect.training.evaluate import evaluate
from affect.training.train import train


def table(
    path: str | Path,
    *,
    data: str | Path,
    workdir: str | Path,
    seeds: int,
    split: str,
    overrides: Sequence[str] = (),
    recipe: str | None = None,
    protocol: EvaluationProtocol | None = None,
    track: Track = hide_progress,
) -> dict[str, Any]:
    """Trains and evaluates every row of a table with several seeds. Runs and evaluations that exist are not repeated.

    A run is written to `workdir/<row>/seed-<k>`, and its evaluation on `split` beside its checkpoints. The table is
    written to `workdir` as `table.md`, `table.csv` and `table.json`.

    Args:
        path: A `.py` file that defines `ROWS`, a dict of experiments, or the name of a bundled table. The other rows
            are compared with the first.
        data: Folder of shards.
        workdir: Folder of the runs and the table.
        seeds: Number of seeds. They are 0, 1, ...
        split: Split that is evaluated.
        overrides: Strings `"train.epochs=3"`, for all rows in which they have an effect.
        recipe: Recipe of all rows, as in `affect.config.load_config`.
        protocol: Protocol of all rows, as in `affect.training.evaluate.evaluate`.
        track: Shows progress over rows and seeds.

    Returns:
        Dict: `task`, its name; `split`; `is_selection_split`, whether epochs were selected on it; `seeds`; `overrides`;
        `recipe`; and `rows`, dicts with the keys of the columns of the task's `layout`. Accuracies except
        `accuracy_with_a_face` count a clip without a face as wrong. RMSE, CC and CCC except `ccc_of_recordings` are
        computed over all recordings concatenated, by the row's `protocol`. `interval` and `p_value` resample clips or
        recordings (`affect.statistics.compare`). `relative_cost` is the time to evaluate the same batch, divided
        by the time of the first row; this call measures it.

    Raises:
        InputError: As `affect.training.train.train`; if the file has no rows; or if some rows classify and others do
            not.
    """
    if seeds < 1:
        raise InputError(f"A table needs at least one seed. Received: {seeds}")
    workdir = Path(workdir)
    experiments = load_rows(path, overrides, recipe)
    layouts = {find_task(row).name: find_task(row).layout for row in experiments.values()}
    if len(layouts) > 1:
        raise InputError(f"{path} has rows that classify and rows that do not. Expected all of one kind.")
    ((task, layout),) = layouts.items()
    work = [(name, seed) for name in experiments for seed in range(seeds)]
    reports = {name: [] for name in experiments}
    for name, seed in track(work, len(work), "rows × seeds"):
        experiment = experiments[name]
        experiment = replace(experiment, train=replace(experiment.train, seed=seed))
        reports[name].append(_train_and_evaluate(experiment, data, workdir / name / f"seed-{seed}", split, protocol))
    first = next(iter(experiments))
    rows, first_seconds = [], None
    for name, experiment in experiments.items():
        trained = load_trained(workdir / name / "seed-0")
        seconds = _measure_seconds(trained)
        first_seconds = first_seconds or seconds
        rows.append(
            {
                "row": name,
                **layout.numbers(experiment.reported, reports[name], None if name == first else reports[first]),
                "parameters": trained.model.count_params(),
                "relative_cost": seconds / first_seconds,
            }
        )
    result = {
        "task": task,
        "split": split,
        "is_selection_split": any(row.data.selection_split == split for row in experiments.values()),
        "seeds": seeds,
        "overrides": list(overrides),
        "recipe": recipe,
        "rows": rows,
    }
    write_json(workdir / "table.json", result)
    with replace_file(workdir / "table.md") as temporary:
        temporary.write_text(markdown(result), encoding="utf-8")
    with (
        replace_file(workdir / "table.csv") as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, layout.columns)
        writer.writeheader()
        writer.writerows(
            row | {"interval": "–".join(f"{bound:.4f}" for bound in row["interval"] or ())} for row in rows
        )
    return result


def format_cells(layout: TableLayout, row: Mapping[str, Any]) -> dict[str, str]:
    """Formats a row of a table.

    Args:
        layout: Layout of the table.
        row: Entry of `rows` in the table's result.

    Returns:
        Key of a column → text.
    """
    text = {key: str(row[key]) for key in layout.columns}
    text |= {key: "–" if row[key] is None else layout.write(row[key]) for key in layout.measured}
    return text | {
        "interval": "–" if row["interval"] is None else " to ".join(map(layout.write, row["interval"])),
        "p_value": "–" if row["p_value"] is None else f"{row['p_value']:.3f}",
        "parameters": f"{row['parameters']:,}",
        "relative_cost": f"{row['relative_cost']:.2f}",
    }


def layout_of(result: Mapping[str, Any]) -> TableLayout:
    """Returns the layout of a table's result."""
    return next(task.layout for task in TASKS.values() if task.name == result["task"])


def markdown(result: Mapping[str, Any]) -> str:
    """Returns a table's result as Markdown."""
    layout = layout_of(result)
    rows = [list(format_cells(layout, row).values()) for row in result["rows"]]
    lines = [[*layout.columns.values()], ["---"] * len(layout.columns), *rows]
    title = (
        f"Split {result['split']}, {format_count(result['seeds'], 'seed')} (sd over these), {layout.caption}. "
        f"Interval: bootstrap over {layout.units}. p: paired permutation test against {result['rows'][0]['row']}."
    )
    if result["recipe"]:
        title += f" Recipe {result['recipe']}."
    if result["is_selection_split"]:
        title += f" The epochs were selected on this split: {layout.optimistic} optimistic."
    if result["overrides"]:
        title += f" With {', '.join(result['overrides'])}: not as in the paper."
    return "\n".join([title, "", *("| " + " | ".join(line) + " |" for line in lines)]) + "\n"


def _train_and_evaluate(experiment, data, run, split, protocol):
    """Returns the evaluation of a run. The run is trained and evaluated first if that is not done yet."""
    train(experiment, data=data, workdir=run, progress=False)
    path = run / f"evaluation-{split}.json"
    protocol = find_task(experiment).protocol_of(experiment, protocol)
    report = read_json(path) if path.is_file() else None
    if report is None or report.get("protocol") != protocol:
        report = evaluate(load_trained(run), data, split=split, protocol=protocol)
        write_json(path, report)
    return report


def _measure_seconds(trained, repeats=3, frames=16):
    """Returns the shortest time of a few evaluations of one clip or window."""
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

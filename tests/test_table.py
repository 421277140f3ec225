import csv
from math import comb

import numpy as np
import pytest
from scipy import stats

from affect.config import load_rows, read_json
from affect.errors import InputError
from affect.statistics import compare
from affect.tasks import TASKS
from affect.training.table import markdown, table
from tests.commands import affect

ROWS = """
from affect.config import *
def row(name, heads, reported):
    return Experiment(
        name=name,
        model=FrameClassifier(backbone="mini_xception", weights=None, face_size=32, heads=heads, hidden_units=4),
        data=Data(batch_clips=4, frames=2, eval_frames=2, selection_ratio=0.0),
        train=Train(epochs=1, trainable="head", head_learning_rate=0.01, restart_epochs=1),
        reported=reported,
    )
ROWS = {"one": row("one", 1, {"accuracy": 0.476}), "base": row("base", 2, {})}
"""


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.py"
    path.write_text(ROWS)
    return path


def test_a_table_stopped_in_the_middle_goes_on(rows, shards, tmp_path):
    def stop(iterable, total, description):
        for done, item in enumerate(iterable):
            if done == 2:
                raise KeyboardInterrupt
            yield item

    arguments = {"data": shards, "workdir": tmp_path / "t", "seeds": 2, "split": "test"}
    with pytest.raises(KeyboardInterrupt):
        table(rows, **arguments, track=stop)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "t").rglob("*.keras")}
    assert len(before) == 4  # best and last of two runs
    result = table(rows, **arguments)
    assert {path: path.stat().st_mtime_ns for path in before} == before

    assert [row["row"] for row in result["rows"]] == ["one", "base"]
    one, base = result["rows"]
    assert set(one) == set(TASKS["classification"].layout.columns)
    assert (one["reported"], base["reported"]) == (0.476, None)
    assert (one["clips"], one["p_value"], one["relative_cost"]) == (4, None, 1.0)
    for row in result["rows"]:
        reports = [read_json(tmp_path / f"t/{row['row']}/seed-{seed}/evaluation-test.json") for seed in (0, 1)]
        a, b = (report["all"]["accuracy"] for report in reports)
        assert row["accuracy_mean"] == pytest.approx((a + b) / 2)
        assert row["accuracy_sd"] == pytest.approx(abs(a - b) / 2**0.5)
        assert 0 <= row["interval"][0] <= row["accuracy_mean"] <= row["interval"][1] <= 1
    # Two hidden kernels of 128 × 4 and 4 × N, a classifier of 128 N × 2 + 2; the backbone is the same.
    assert base["parameters"] - one["parameters"] == 4 + 256

    assert read_json(tmp_path / "t/table.json") == result
    with open(tmp_path / "t/table.csv", newline="", encoding="utf-8") as file:
        assert [row["row"] for row in csv.DictReader(file)] == ["one", "base"]
    assert (tmp_path / "t/table.md").read_text(encoding="utf-8") == markdown(result)
    assert "| one | 47.6 | " in markdown(result)

    assert "Recipe" not in markdown(result) and "optimistic" not in markdown(result)
    assert " Recipe soft. " in markdown(result | {"recipe": "soft", "is_selection_split": True})
    assert "optimistic" in markdown(result | {"is_selection_split": True})

    options = ["--data", shards, "--workdir", tmp_path / "t", "--seeds", 2, "--split", "test"]
    code, _, lines = affect("table", rows, *options, "--recipe", "paper")
    assert code == 2 and "has no recipe 'paper'. Expected none." in lines[-1]
    code, out, _ = affect("table", rows, *options)
    assert code == 0
    assert "47.6" in out and "table.md, table.csv, table.json" in out


def test_interval_is_that_of_a_binomial_where_clips_are_many():
    correct = np.repeat([1.0, 0.0], [300, 100])
    low, high = compare(correct)["interval"]
    half = 1.96 * (0.75 * 0.25 / 400) ** 0.5
    assert low == pytest.approx(0.75 - half, abs=0.006)
    assert high == pytest.approx(0.75 + half, abs=0.006)
    assert compare(np.ones(5))["interval"] == [1.0, 1.0]


def test_p_value_is_mcnemars_where_clips_are_right_or_wrong():
    """Swapping the rows of a clip changes the difference only where they disagree: 9 times one way, 1 the other."""
    correct = np.repeat([1.0, 0.0, 1.0], [9, 1, 30])
    base = np.repeat([0.0, 1.0, 1.0], [9, 1, 30])
    exact = 2 * sum(comb(10, k) for k in (9, 10)) / 2**10
    assert exact == pytest.approx(stats.binomtest(9, 10).pvalue)
    assert compare(correct, base)["p_value"] == pytest.approx(exact, abs=0.006)
    assert compare(base, base)["p_value"] == 1.0


def test_what_is_no_table(tmp_path, shards):
    with pytest.raises(InputError, match="is no table. Expected a .py file that defines ROWS"):
        table(tmp_path, data=shards, workdir=tmp_path / "t", seeds=1, split="test")


@pytest.mark.large
@pytest.mark.parametrize("recipe", ["ours", "authors_code"])
@pytest.mark.parametrize("name", ["paper_a_table1", "paper_a_table2"])
def test_every_row_of_the_papers_tables_runs(name, recipe, shards, tmp_path):
    overrides = (
        *("model.backbone=mini_xception", "model.weights=None", "model.face_size=32", "model.hidden_units=4"),
        *("model.output_stride=16", "model.input_scaling=published"),  # what the small backbone has
        *("data.batch_clips=4", "data.frames=3", "data.selection_ratio=0", "train.epochs=1"),
        *(["data.selection_split=test"] if recipe == "authors_code" else []),
    )
    result = table(name, data=shards, workdir=tmp_path, seeds=1, split="test", overrides=overrides, recipe=recipe)
    assert [row["row"] for row in result["rows"]] == list(load_rows(name))
    assert all(row["reported"] and 0 <= row["accuracy_mean"] <= 1 for row in result["rows"])
    assert f"Recipe {recipe}. " in markdown(result) and "not as in the paper" in markdown(result)
    assert ("optimistic" in markdown(result)) == (recipe == "authors_code")
    assert {read_json(path)["experiment"]["recipe"] for path in tmp_path.glob("*/*/config.json")} == {recipe}

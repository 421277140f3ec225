"""What paper A's poolings are for, where the truth is known: `benchmarks/planted.py` with one seed a row."""

import numpy as np
import pytest

from benchmarks.planted import make, prove, text


@pytest.fixture(scope="module")
def proof(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    return prove(folder, make(folder), seeds=1)


def accuracies(proof, name):
    return {row["row"]: row["accuracy_mean"] for row in proof["tables"][name]["rows"]}


@pytest.mark.large
def test_all_eleven_rows_are_printed(proof):
    lines = text(proof).splitlines()
    for name, count in (("paper_a_table1_short", 7), ("paper_a_table2_short", 4), ("paper_a_table2_always", 4)):
        rows = [row["row"] for row in proof["tables"][name]["rows"]]
        assert len(rows) == count
        assert all(any(line.startswith(f"| {row} | ") for line in lines) for row in rows)


def medians(proof, name, number):
    return [np.median([one[number] for one in found]) for found in proof["attention"][name].values()]


@pytest.mark.large
def test_the_penalty_parts_the_heads(proof):
    """Where the mouth alone tells the class, heads look at the same place the less, the larger λ is: 0, 0.1, 1."""
    none, weak, strong = medians(proof, "mouth", "overlap")
    assert none > 2 * weak > 4 * strong
    assert none > 0.01 and strong < 0.001
    none, _, strong = medians(proof, "short", "overlap")
    assert strong < 0.1 * none


@pytest.mark.large
def test_heads_look_where_the_expression_is(proof):
    *_, hits = medians(proof, "short", "hits")
    *_, chance = medians(proof, "short", "chance")
    assert hits >= 0.9
    assert chance < 0.5


@pytest.mark.large
def test_joint_softmax_finds_what_is_short_and_loses_nothing_where_it_is_long(proof):
    found = proof["joint_softmax_against_average"]
    assert found["short"]["difference"] > 0 and found["short"]["p_value"] < 0.05
    assert abs(found["always"]["difference"]) < 0.05 and found["always"]["p_value"] > 0.05


@pytest.mark.large
def test_shift_and_lstm_train_without_collapse(proof):
    """Four classes: 0.25 is chance, and what the authors' log has of a SHIFT run in one of seven classes is 0.16."""
    assert accuracies(proof, "paper_a_table1_short")["tp_shift_n2"] > 0.6
    assert accuracies(proof, "paper_a_table2_short")["lstm"] > 0.6

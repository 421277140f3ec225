"""The list of faults: the line of each is in the tree once, and its tests exist."""

import ast

import pytest

from tests.mutants import MUTANTS, ROOT, mutated


def test_there_are_many_and_each_has_a_name_of_its_own():
    assert len(MUTANTS) >= 60
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    files = {mutant.file for mutant in MUTANTS}
    assert {f"affect/{name}.py" for name in ("losses", "metrics", "train", "data", "delay", "postprocessing")} <= files


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_its_line_is_in_the_tree_once_and_its_tests_exist(mutant):
    compile(mutated(mutant), mutant.file, "exec")
    for test in mutant.tests:
        file, _, name = test.partition("::")
        functions = {
            node.name
            for node in ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8")).body
            if isinstance(node, ast.FunctionDef)
        }
        assert not name or name in functions

"""The list of faults: the line of each is in the tree once, and its tests exist."""

import ast
import os
import subprocess
import sys

import pytest

from tests.mutants import MUTANTS, ROOT, copy_tree, mutated


def test_there_are_many_and_each_has_a_name_of_its_own():
    assert len(MUTANTS) >= 60
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    files = {mutant.file for mutant in MUTANTS}
    modules = ("losses", "metrics", "training/train", "data/batches", "tasks/delay", "tasks/postprocessing")
    assert {f"affect/{name}.py" for name in modules} <= files


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
        assert not name or name.partition("[")[0] in functions


def test_all_of_affect_is_imported_from_the_copy(tmp_path):
    """A fault in pipelines/ or configs/ would not be found, if the copy imported them from the checkout."""
    copy_tree(tmp_path / "tree")
    code = "import affect.config, affect.pipelines.files as files, affect.configs.paper_a as paper_a\n"
    code += "print(affect.config.__file__, files.__file__, paper_a.__file__, sep='\\n')"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "tree"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    names = ("config/__init__.py", "pipelines/files.py", "configs/paper_a.py")
    assert done.stdout.splitlines() == [str(tmp_path / "tree" / "affect" / name) for name in names]

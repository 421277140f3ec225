"""Public functions are typed, and their docstrings say what they take and what they raise. Read from the sources."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for top in ("affect", "pipelines") for path in (ROOT / top).rglob("*.py"))
# What Keras calls: the docstring of the class says what they take.
OF_KERAS = {
    "build",
    "call",
    "compute_mask",
    "compute_output_shape",
    "compute_output_spec",
    "from_config",
    "get_config",
    "on_epoch_begin",
    "on_epoch_end",
    "on_train_batch_end",
    "on_train_begin",
    "on_train_end",
    "reset_state",
    "result",
    "update_state",
    "update_step",
}


def public_functions(path):
    """Yields `(name, node, parameters, is_described)` of the public functions and methods of a file.

    `self` and `cls` are no parameters here. Whether it is described is whether what it overrides has a docstring.
    """
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for node in body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node, parameters_of(node), False
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            protocol = PROTOCOLS.get(path.parent.relative_to(ROOT).as_posix(), "") if ROOT in path.parents else ""
            bases = [ast.unparse(base) for base in node.bases] + [protocol] * (protocol != node.name)
            known = set().union(OF_KERAS, *(DOCUMENTED.get(base, ()) for base in bases))
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    is_static = any(ast.unparse(each) == "staticmethod" for each in method.decorator_list)
                    found = parameters_of(method)
                    yield f"{node.name}.{method.name}", method, found if is_static else found[1:], method.name in known


def documented():
    """Returns the methods that have a docstring, by the name of their class: what overrides them needs none."""
    classes = [node for path in FILES for node in ast.parse(path.read_text(encoding="utf-8")).body]
    classes = [node for node in classes if isinstance(node, ast.ClassDef)]
    return {
        node.name: {each.name for each in node.body if isinstance(each, ast.FunctionDef) and ast.get_docstring(each)}
        for node in classes
    }


DOCUMENTED = documented()
# What implements a Protocol does not inherit from it.
PROTOCOLS = {"affect/tasks": "Task", "affect/reading": "Predictor"}


def parameters_of(node):
    arguments = node.args
    found = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return found + [each for each in (arguments.vararg, arguments.kwarg) if each]


# What is no fault of the caller.
NOT_DESCRIBED = ("typer.Exit", "NotImplementedError", "AssertionError", "StopIteration")


def raises(node):
    """Returns whether a function itself, and no function within it, raises what its caller may meet."""
    if isinstance(node, ast.Raise) and node.exc is not None and not ast.unparse(node.exc).startswith(NOT_DESCRIBED):
        return True
    children = ast.iter_child_nodes(node)
    return any(raises(child) for child in children if not isinstance(child, ast.FunctionDef | ast.Lambda))


def faults(path):
    found = []
    for name, node, parameters, is_described in public_functions(path):
        text = ast.get_docstring(node) or ""
        if untyped := [each.arg for each in parameters if each.annotation is None]:
            found.append(f"{name}: no type of {', '.join(untyped)}")
        if node.returns is None:
            found.append(f"{name}: no type of what it returns")
        if is_described:
            continue
        is_command = path.name == "cli.py"  # its options have their help
        if not text:
            found.append(f"{name}: no docstring")
        if len(parameters) > 1 and "Args:" not in text and not is_command:
            found.append(f"{name}: no Args section")
        if raises(node) and "Raises:" not in text and not is_command:
            found.append(f"{name}: no Raises section")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_public_functions_are_typed_and_described(path):
    assert not faults(path)


def test_what_is_missing_is_found(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "def f(a, b: int):\n    raise ValueError\n\n\nclass A:\n    def call(self, x: int) -> int:\n        return x\n"
    )
    assert faults(path) == [
        "f: no type of a",
        "f: no type of what it returns",
        "f: no docstring",
        "f: no Args section",
        "f: no Raises section",
    ]

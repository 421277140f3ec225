"""The configs that come with affect, each row of a table too."""

import ast

from affect.config import list_bundled_configs, load_rows


def defines(path, name):
    """Returns whether a config file defines a name."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


TABLES = [name for name, path in list_bundled_configs().items() if defines(path, "ROWS")]
ROWS = [
    *(name for name in list_bundled_configs() if name not in TABLES),
    *(f"{table}/{row}" for table in TABLES for row in load_rows(table)),
]

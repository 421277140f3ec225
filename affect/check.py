"""check(): an exported model on the golden pairs it carries → how far its answers are from those."""

import numpy as np

from affect.artefact import read_artefact

TOLERANCE = 1e-5


def check(path):
    """Verifies an exported model's checksums and replays its golden pairs.

    Args:
        path: Folder `NAME/VERSION` that `affect export` wrote.

    Returns:
        Dict: `path`; `differences`, signature → the largest difference of an output, as a share of its largest value
        where that is above 1, and infinite where names, shapes, strings or masks differ; `largest` of them; `passed`,
        whether that is at most `TOLERANCE`.

    Raises:
        InputError: As `affect.artefact.read_artefact`.
    """
    artefact = read_artefact(path)
    differences = {}
    for name, (inputs, expected) in artefact.golden().items():
        outputs = artefact.signature(name)(inputs)
        found = [difference(outputs[key], value) for key, value in expected.items() if key in outputs]
        differences[name] = max(found, default=np.inf) if outputs.keys() == expected.keys() else np.inf
    largest = max(differences.values())
    return {"path": str(path), "differences": differences, "largest": largest, "passed": largest <= TOLERANCE}


def difference(value, expected):
    """Returns how far an array is from what was expected; see `check`."""
    if value.shape != expected.shape or (expected.dtype.kind == "f") != (value.dtype.kind == "f"):
        return np.inf
    if expected.dtype.kind != "f":
        return 0.0 if value.tolist() == expected.tolist() else np.inf
    if not np.isfinite(value).all():
        return np.inf
    largest = float(np.abs(expected).max(initial=1.0))
    return float(np.abs(value - expected).max(initial=0.0)) / largest

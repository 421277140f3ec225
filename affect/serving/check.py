"""check(): an exported model → how far its outputs are from the golden pairs that it carries."""

from pathlib import Path
from typing import Any

import numpy as np

from affect.reading.artefact import measure_difference
from affect.reading.loading import read_exported_folder

TOLERANCE = 1e-5


def check(path: str | Path) -> dict[str, Any]:
    """Verifies the checksums of an exported model and replays its golden pairs.

    Args:
        path: Folder `NAME/VERSION` that `affect export` wrote.

    Returns:
        Dict: `path`; `differences`, signature → the largest difference of an output
        (`affect.reading.artefact.measure_difference`), infinite if the names of the outputs differ; `largest`, the
        maximum over the signatures; and `passed`, whether this is at most `TOLERANCE`.

    Raises:
        InputError: As `affect.reading.loading.read_exported_folder`.
    """
    artefact = read_exported_folder(path)
    differences = {}
    for name, (inputs, expected) in artefact.golden().items():
        outputs = artefact.signature(name)(inputs)
        found = [measure_difference(outputs[key], value) for key, value in expected.items() if key in outputs]
        differences[name] = max(found, default=np.inf) if outputs.keys() == expected.keys() else np.inf
    largest = max(differences.values())
    return {"path": str(path), "differences": differences, "largest": largest, "passed": largest <= TOLERANCE}

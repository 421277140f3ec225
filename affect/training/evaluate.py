"""evaluate(): a model on a split of shards → metrics of its clips, or of its recordings over time."""

from pathlib import Path
from typing import Any

from affect.config.experiment import EvaluationProtocol
from affect.data.batches import names_damage
from affect.data.shards import Shards
from affect.models.device import leave_accelerator_to_backend
from affect.progress import Track, hide_progress
from affect.reading.run import Trained


@names_damage
def evaluate(
    trained: Trained,
    data: str | Path,
    *,
    split: str,
    protocol: EvaluationProtocol | None = None,
    track: Track = hide_progress,
) -> dict[str, Any]:
    """Evaluates a model on a split.

    Args:
        trained: The model.
        data: Folder of shards.
        split: Name of the split.
        protocol: What counts in a regression (`affect.config.Windows`); `None` is the experiment's own.
        track: Shows progress.

    Returns:
        Dict: `split`; `is_selection_split`, whether the epoch was selected on this split, so that the metrics are
        optimistic; `reported`, the paper's numbers; and the report of the task's `evaluate` (`affect.tasks`).

    Raises:
        InputError: As the task's `evaluate`.
    """
    leave_accelerator_to_backend()
    report = trained.task.evaluate(trained, Shards(data), split=split, protocol=protocol, track=track)
    return {
        "split": split,
        "is_selection_split": split == trained.experiment.data.selection_split,
        "reported": trained.experiment.reported,
        **report,
    }

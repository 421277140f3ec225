"""evaluate(): a model on a split of shards → metrics of its clips, or of its recordings over time."""

from affect.data.shards import Shards, names_damage
from affect.models.device import leave_accelerator_to_backend
from affect.progress import Track, hide_progress


@names_damage
def evaluate(trained, data, *, split, protocol=None, track: Track = hide_progress):
    """Evaluates a model on a split.

    Args:
        trained: `affect.reading.run.Trained`.
        data: Folder of shards.
        split: Name of the split.
        protocol: Of a regression, `"avec"` or `"faces"` (see `affect.config.Windows`); `None` is the experiment's own.
        track: Shows progress.

    Returns:
        Dict: `split`; `is_selection_split`, whether the epoch was selected on it, so that its numbers are optimistic;
        `reported` by the paper; and what the task's `evaluate` adds (`affect.tasks`).

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

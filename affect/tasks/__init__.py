"""Kinds of experiments: clips with classes, and recordings with valence and arousal."""

from affect.tasks.clips import ClipClassification, WholeClipClassification
from affect.tasks.recordings import RecordingRegression
from affect.tasks.task import Graph, Sheet, TableLayout, Task, Training, View

# By `task` of the network's config.
TASKS: dict[str, Task] = {
    "classification": ClipClassification(),
    "video_classification": WholeClipClassification(),
    "regression": RecordingRegression(),
}


def find_task(experiment) -> Task:
    """Returns the task of an `affect.config.Experiment`."""
    return TASKS[experiment.model.task]


__all__ = ["TASKS", "Graph", "Sheet", "TableLayout", "Task", "Training", "View", "find_task"]

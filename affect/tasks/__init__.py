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


def build_model(experiment, classes):
    """Builds the network of an experiment, ready to be trained: what is not to learn is frozen.

    Args:
        experiment: `affect.config.Experiment`.
        classes: Names of the outputs.

    Returns:
        `keras.Model`, not compiled.

    Raises:
        InputError: On settings that contradict each other, or missing weights.
    """
    return find_task(experiment).build(experiment.model, classes, experiment.train)


__all__ = ["TASKS", "Graph", "Sheet", "TableLayout", "Task", "Training", "View", "build_model", "find_task"]

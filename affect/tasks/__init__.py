"""Kinds of experiments: clips with classes, and recordings with valence and arousal."""

from collections.abc import Sequence
from typing import Any

from affect.config import Experiment
from affect.tasks.clips import ClipClassification, WholeClipClassification
from affect.tasks.recordings import RecordingRegression
from affect.tasks.task import Graph, PrintedTable, Printout, TableLayout, Task, Training

# The keys are the values of the field `task` of a network's config.
TASKS: dict[str, Task] = {
    "classification": ClipClassification(),
    "video_classification": WholeClipClassification(),
    "regression": RecordingRegression(),
}


def find_task(experiment: Experiment) -> Task:
    """Returns the task of an experiment."""
    return TASKS[experiment.model.task]


def build_model(experiment: Experiment, classes: Sequence[str]) -> Any:
    """Builds the network of an experiment for training. Layers that are not trained are frozen.

    Args:
        experiment: The config.
        classes: Names of the outputs.

    Returns:
        `keras.Model`, not compiled.

    Raises:
        InputError: On fields that contradict each other, or missing weights.
    """
    return find_task(experiment).build(experiment.model, classes, experiment.train)


__all__ = ["TASKS", "Graph", "PrintedTable", "Printout", "TableLayout", "Task", "Training", "build_model", "find_task"]

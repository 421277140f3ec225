"""Experiments: what they are, how they are loaded and overridden, and their JSON."""

from affect.config.effects import EFFECTS, Effect, check_effects, find_without_effect
from affect.config.experiment import (
    MEAN_SHAPE,
    Data,
    Experiment,
    Faces,
    FrameClassifier,
    Train,
    VideoClassifier,
    VideoNetwork,
    VideoRegressor,
    Windows,
)
from affect.config.loading import (
    find_backbone,
    find_bundled_artefact,
    find_config,
    list_bundled_configs,
    load_config,
    load_rows,
    override,
)
from affect.config.values import from_json, list_changes, list_choices, read_json, to_json, write_json

__all__ = [
    "EFFECTS",
    "MEAN_SHAPE",
    "Data",
    "Effect",
    "Experiment",
    "Faces",
    "FrameClassifier",
    "Train",
    "VideoClassifier",
    "VideoNetwork",
    "VideoRegressor",
    "Windows",
    "check_effects",
    "find_backbone",
    "find_bundled_artefact",
    "find_config",
    "find_without_effect",
    "from_json",
    "list_bundled_configs",
    "list_changes",
    "list_choices",
    "load_config",
    "load_rows",
    "override",
    "read_json",
    "to_json",
    "write_json",
]

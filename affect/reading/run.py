"""A run, read from disk with everything that is needed to use it."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from affect.config import (
    Experiment,
    Faces,
    FrameClassifier,
    find_backbone,
    find_config,
    find_without_effect,
    from_json,
    list_changes,
    load_config,
    read_json,
    to_json,
)
from affect.config.values import check_value
from affect.errors import InputError, first_line, raise_failure
from affect.extras import require
from affect.files import check_zip, is_intact
from affect.models.published import check_weights, describe_licence
from affect.reading.predictor import VideoReader
from affect.tasks import Task, find_task
from affect.tasks.postprocessing import POSTPROCESSING, Postprocessing, hash_weights

if TYPE_CHECKING:
    import keras

# File in a checkpoint with the number of epochs, and with classes, face settings and experiment of its run.
DESCRIPTION = "affect.json"
# All files in a checkpoint.
MEMBERS = {"metadata.json", "config.json", "model.weights.h5", DESCRIPTION}


@dataclass(frozen=True)
class Trained(VideoReader):
    """A model with everything that is needed to use it.

    Args:
        model: `keras.Model`.
        experiment: The config.
        classes: Class names in the order of the logits; for a regression, `affect.data.labels.DIMENSIONS`.
        faces: How the faces of the training data were cut, and how those of a video are.
        postprocessing: Dimension → post-processing of its series; empty for a classifier, and if none was fitted.
    """

    model: "keras.Model"
    experiment: Experiment
    classes: tuple[str, ...]
    faces: Faces
    postprocessing: dict[str, Postprocessing] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for about in (self.experiment, self.faces, *self.postprocessing.values()):
            digest.update(json.dumps(to_json(about), sort_keys=True).encode())
        digest.update(json.dumps(self.classes).encode())
        return hash_weights(self.model, digest)

    @property
    def card(self) -> str:
        return ""

    @property
    def licence(self) -> str:
        config = cast(FrameClassifier, self.experiment.model)
        return describe_licence(config.backbone, config.weights)

    @property
    def task(self) -> Task:
        return find_task(self.experiment)

    @property
    def face_size(self) -> int:
        return self.task.face_size(self.model, self.experiment.model)

    @property
    def most_frames(self) -> int | None:
        return self.task.most_frames(self.experiment)

    @cached_property
    def network(self) -> "keras.Model":
        """The model with a dict of all outputs that are shown. It is made once, because Keras traces each new model."""
        return self.task.detail(self.model)

    def respond(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Returns the outputs of `network`. A classifier adds `probabilities` and `frame_probabilities`.

        Args:
            inputs: Arrays by the names of the model's inputs.
        """
        return self.task.respond(self.network, inputs)

    def respond_with_attention(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return self.respond(inputs)  # the network gives all that it has

    @cached_property
    def frame_functions(self) -> dict[str, Callable[..., Any]]:
        self.task.check_reads_frames(self.experiment.name)
        return self.task.frame_functions(self.model)


@dataclass(frozen=True)
class Found:
    """What `find_trained` found: a run, or a config that needs no training.

    Args:
        path: Folder of the run, or file of the config.
        experiment: The config.
        run: Content of the run's `config.json`; `None` for a config.
    """

    path: Path
    experiment: Experiment
    run: dict[str, Any] | None


def find_trained(path: str | Path) -> Found:
    """Checks that there is all that `load_trained` needs. Keras, which takes seconds, is not imported.

    Args:
        path: As in `load_trained`.

    Raises:
        InputError: As `load_trained`, except where Keras cannot read a file.
    """
    source, _ = find_config(path)
    if source.is_file() and source.suffix not in (".py", ".json"):
        raise InputError(
            f"{source} is neither a run nor a config. Expected the folder that affect train wrote, which holds "
            "best.keras, or a .py config that needs no training."
        )
    if source.is_file():
        experiment = load_config(path)
        config = cast(FrameClassifier, experiment.model)
        if config.is_trained or config.weights is None:
            raise InputError(
                f"The model of {path} must be trained first: affect train {path} --data SHARDS --workdir RUN"
            )
        check_weights(config.backbone, config.weights)
        return Found(source, experiment, None)
    if not (source / "config.json").is_file():
        raise InputError(
            f"{source} is not a run: it has no config.json. "
            f"Make one: affect train CONFIG --data SHARDS --workdir {source}"
        )
    run = read_json(source / "config.json")
    experiment = from_json(Experiment, run.get("experiment"), f"{source / 'config.json'}: experiment")
    checkpoint = source / "best.keras"
    if not checkpoint.is_file():
        raise InputError(
            f"The run {source} has no checkpoint best.keras yet. "
            f"Train it: affect train CONFIG --data SHARDS --workdir {source}"
        )
    if is_intact(checkpoint) is False:
        raise InputError(
            f"The checkpoint {checkpoint} is damaged: its checksum differs. Copy it again, or train the run again."
        )
    return Found(source, experiment, run)


def load_trained(path: str | Path) -> Trained:
    """Loads a run, or builds a model that needs no training. It computes in float32, in whatever precision it learnt.

    Args:
        path: Folder that `affect train` wrote, whose best epoch is loaded; or the path or name, as in
            `affect.config.find_config`, of a config whose model is a backbone with its own classifier, such as the
            bundled `"fer2013"`.

    Raises:
        InputError: If there is no run or no checkpoint, if the model of a config needs training, or if the file is of
            another kind. Only a `.py` config is executed.
    """
    found = find_trained(path)
    experiment, run = found.experiment, found.run
    require("train", f"{path}, which Keras runs,")
    import keras

    from affect.models.backbones import BACKBONES
    from affect.models.precision import use_precision
    from affect.models.weights import refuse_missing_weights

    task, config = find_task(experiment), cast(FrameClassifier, experiment.model)
    with use_precision("float32"):
        if run is None:
            classes = BACKBONES[config.backbone].classes
            return Trained(task.build(config, classes), experiment, classes, Faces())
        checkpoint, file = found.path / "best.keras", found.path / "config.json"
        faces = from_json(Faces, run.get("faces"), f"{file}: faces")
        classes = check_value(tuple[str, ...], run.get("classes"), f"{file}: classes")
        _check_checkpoint(checkpoint, file, experiment, classes, faces)
        try:
            with refuse_missing_weights():
                if experiment.train.precision == "float32":
                    model = keras.saving.load_model(checkpoint, compile=False)
                else:
                    # Build a float32 graph, because the saved graph holds casts to half precision.
                    config = cast(FrameClassifier, find_backbone(experiment, found.path).model)
                    model = task.build(replace(config, weights=None) if config.weights else config, classes)
                    model.load_weights(checkpoint)
        except Exception as error:  # the file of a stranger can make Keras fail in any way
            raise_failure(error)
            reason = first_line(error)
            raise InputError(f"The checkpoint {checkpoint} cannot be read ({reason}). Train the run again.") from error
    if not isinstance(model, keras.Model):
        raise InputError(f"The checkpoint {checkpoint} holds no model. Train the run again.")
    for weight in model.weights:
        if weight.dtype.startswith(("float", "bfloat")) and not np.isfinite(np.asarray(weight)).all():
            raise InputError(f"The checkpoint {checkpoint} has numbers in {weight.path} that are not finite.")
    postprocessing = _read_postprocessing(found.path / POSTPROCESSING, model)
    return Trained(model, experiment, classes, faces, postprocessing)


def _check_checkpoint(checkpoint, file, experiment, classes, faces):
    """Raises an error if a checkpoint holds more than Keras writes, or is of another run than its `config.json`."""
    import h5py

    from affect.models.weights import GROWTH, SLACK, check_hdf5

    check_zip(checkpoint, GROWTH * checkpoint.stat().st_size + SLACK)
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            if foreign := sorted(set(archive.namelist()) - MEMBERS):
                raise ValueError(f"it holds {foreign[0]!r}, which Keras does not write")
            weights = archive.read("model.weights.h5")
            with h5py.File(io.BytesIO(weights), "r") as content:
                check_hdf5(content, len(weights))
            about = json.loads(archive.read(DESCRIPTION)) if DESCRIPTION in archive.namelist() else {}
        check_value(dict, about, DESCRIPTION)
        ours = {"classes": list(classes), "faces": to_json(faces), "experiment": to_json(experiment)}
        found = ours | {name: about[name] for name in ours if name in about}  # older runs lack some or all
        found["faces"] = to_json(from_json(Faces, found["faces"], "faces"))
        found["experiment"] = to_json(from_json(Experiment, found["experiment"], "experiment"))
        changes = list_changes(ours, found)
    except Exception as error:  # the file of a stranger can fail in any way
        raise_failure(error)
        reason = first_line(error)
        raise InputError(f"The checkpoint {checkpoint} cannot be read ({reason}). Train the run again.") from error
    idle = find_without_effect(experiment)
    if changes := [name for name in changes if name.removeprefix("experiment.") not in idle]:
        raise InputError(
            f"{file} and {checkpoint.name} do not belong together: they differ in {', '.join(changes[:3])}. Copy the "
            "whole run again, or train it again."
        )


def _read_postprocessing(path, model):
    """Returns dimension → `Postprocessing`; empty for a run without any, or one that has not ended."""
    if not path.is_file():
        return {}
    fitted = read_json(path)
    if fitted.get("weights", found := hash_weights(model)) != found:
        raise InputError(
            f"{path} was not fitted to the weights in {path.with_name('best.keras')}. Copy the whole run again, or "
            f"remove {path.name} and run the same affect train again."
        )
    steps = check_value(dict[str, dict], fitted.get("dimensions", {}), f"{path}: dimensions")
    return {name: from_json(Postprocessing, found.get("steps"), f"{path}: {name}") for name, found in steps.items()}

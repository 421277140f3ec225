"""A run, read back from disk with all that is needed to use it."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import keras

from affect.config import Experiment, Faces, find_config, from_json, load_config, read_json
from affect.errors import InputError
from affect.files import is_intact
from affect.models.backbones import BACKBONES
from affect.models.precision import use_precision
from affect.reading.predictor import VideoReader
from affect.tasks import find_task
from affect.tasks.postprocessing import POSTPROCESSING, Postprocessing


@dataclass(frozen=True)
class Trained(VideoReader):
    """A model with all that is needed to use it.

    Args:
        model: `keras.Model`.
        experiment: `affect.config.Experiment`.
        classes: Class names in the order of the logits; of a regression, `affect.data.labels.DIMENSIONS`.
        faces: `affect.config.Faces`: how the faces it was trained on were cut.
        postprocessing: Dict: dimension → `affect.tasks.postprocessing.Postprocessing` of its series; empty of a model
            that classifies, and where none was fitted.
    """

    model: keras.Model
    experiment: Experiment
    classes: tuple[str, ...]
    faces: Faces
    postprocessing: dict[str, Postprocessing] = field(default_factory=dict)

    @property
    def task(self):
        """The `affect.tasks.Task`."""
        return find_task(self.experiment)

    @property
    def face_size(self):
        """Height and width in pixels of the faces that the model, or what its features are taken of, is given."""
        return self.task.face_size(self.model, self.experiment.model)

    @property
    def most_frames(self):
        """Most faces of a clip that are read, evenly spaced; `None` where each is read on its own, and all are."""
        return self.task.most_frames(self.experiment)

    @cached_property
    def network(self):
        """The model with what is shown of it as outputs; made once, because Keras traces each new model."""
        return self.task.detail(self.model)

    def respond(self, inputs):
        """Returns what the model says of a batch of clips, as `affect.reading.artefact.Artefact.respond`.

        Args:
            inputs: Dict of arrays by the names of the model's inputs.

        Returns:
            Dict of arrays: the outputs of `network`, and of a model that classifies also `probabilities` (B, E) and
            `frame_probabilities` (B, F, E), 0 where masked.
        """
        return self.task.respond(self.network, inputs)

    @cached_property
    def frame_functions(self):
        """Functions of named arrays that read single faces, as `affect.reading.artefact.Artefact.frame_functions`.

        Raises:
            InputError: Of a model that does not judge frames one by one.
        """
        self.task.check_reads_frames(self.experiment.name)
        return self.task.frame_functions(self.model)


@use_precision("float32")
def load_trained(path):
    """Loads a run, or builds a model that needs no training; either computes in float32, whatever a run was trained in.

    Args:
        path: Folder that `affect train` wrote, of which the best epoch is read; or a config whose model is a
            backbone with its own classifier, such as the bundled `"fer2013"`: its path or name, as of
            `affect.config.find_config`.

    Returns:
        `Trained`.

    Raises:
        InputError: When there is no run, no checkpoint, the model of a config needs training, or it is a file of
            another kind: only a `.py` config is ever run.
    """
    given, (path, _) = path, find_config(path)
    if path.is_file() and path.suffix not in (".py", ".json"):
        raise InputError(
            f"{path} is neither a run nor a config. Expected the folder that affect train wrote, which holds "
            "best.keras, or a .py config that needs no training."
        )
    if path.is_file():
        experiment = load_config(given)
        model = experiment.model
        if model.is_trained or model.weights is None:
            raise InputError(
                f"The model of {given} must be trained first: affect train {given} --data SHARDS --workdir RUN"
            )
        classes = BACKBONES[model.backbone].classes
        return Trained(find_task(experiment).build(model, classes), experiment, classes, Faces())
    if not (path / "config.json").is_file():
        raise InputError(
            f"{path} is not a run: it has no config.json. Make one: affect train CONFIG --data SHARDS --workdir {path}"
        )
    run = read_json(path / "config.json")
    experiment = from_json(Experiment, run.get("experiment"), f"{path / 'config.json'}: experiment")
    faces = from_json(Faces, run.get("faces"), f"{path / 'config.json'}: faces")
    checkpoint = path / "best.keras"
    if not checkpoint.is_file():
        raise InputError(
            f"The run {path} has no checkpoint best.keras yet. "
            f"Train it: affect train CONFIG --data SHARDS --workdir {path}"
        )
    if is_intact(checkpoint) is False:
        raise InputError(
            f"The checkpoint {checkpoint} is not what was written: its checksum is another. Copy it again, or train "
            "the run again."
        )
    try:
        if experiment.train.precision == "float32":
            model = keras.saving.load_model(checkpoint, compile=False)
        else:
            # A graph that was traced in half precision holds casts to it. Artefacts are float32.
            bare = replace(experiment.model, weights=None) if experiment.model.weights else experiment.model
            model = find_task(experiment).build(bare, run["classes"])
            model.load_weights(checkpoint)
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"The checkpoint {checkpoint} cannot be read ({reason}). Train the run again.") from error
    return Trained(model, experiment, tuple(run["classes"]), faces, _read_postprocessing(path / POSTPROCESSING))


def _read_postprocessing(path):
    """Returns dimension → `Postprocessing`; of a run that has none, or has not ended, nothing."""
    fitted = read_json(path).get("dimensions", {}) if path.is_file() else {}
    return {name: from_json(Postprocessing, found.get("steps"), f"{path}: {name}") for name, found in fitted.items()}

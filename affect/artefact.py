"""An exported model, read back from its folder or TFLite file alone: no model code, and nothing of Keras."""

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from affect.config import Experiment, Faces, from_json, read_json
from affect.errors import InputError
from affect.files import sha256_of
from affect.reading import VideoReader

KIND, FORMAT = "savedmodel", 1
ASSETS = "assets.extra"
TFLITE, TFLITE_KIND = ".tflite", "tflite"
SUMS = f"{ASSETS}/SHA256SUMS"


@dataclass(frozen=True)
class Artefact(VideoReader):
    """An exported model.

    Args:
        path: Folder of the version, or `.tflite` file.
        classes: Class names in the order of the probabilities, or for regression the names of the dimensions.
        faces: `affect.config.Faces`: how faces are to be cut.
        experiment: `affect.config.Experiment`: what was trained, and how.
        face_size: Height and width in pixels of the faces it takes.
        description: Dict of all that `affect.json` holds: signatures, versions, metrics, licence, ...
    """

    path: Path
    classes: tuple[str, ...]
    faces: Faces
    experiment: Experiment
    face_size: int
    description: dict

    def signature(self, name):
        """Returns a function of the model, which is loaded when the first is asked for.

        That of a TFLite file gives what the SavedModel's gives, and imports no TensorFlow.

        Args:
            name: One of `description["signatures"]`.

        Returns:
            Callable: dict of arrays, by the names of its inputs → dict of arrays. Strings are bytes.

        Raises:
            InputError: When there is no such signature; from the callable, when the inputs are not those it takes.
        """
        signatures = self.description["signatures"]
        if name not in signatures:
            raise InputError(f"{self.path} has no signature {name!r}. Expected one of {sorted(signatures)}.")
        specs, is_tflite = signatures[name]["inputs"], self.path.suffix == TFLITE
        function = None if is_tflite else self.loaded.signatures[name]

        def call(inputs):
            if set(inputs) != set(specs):
                raise InputError(f"Signature {name} takes the inputs {sorted(specs)}. Received: {sorted(inputs)}")
            if "faces" in specs and "int" not in (dtype := np.asarray(inputs["faces"]).dtype.name):
                raise InputError(
                    f"{self.path} takes faces as pixels of 0 to 255, uint8; multiply those that are scaled to [0, 1] "
                    f"by 255 and round them. Received: faces of {dtype}"
                )
            if is_tflite:
                return self.loaded.run(name, inputs)
            import tensorflow as tf

            tensors = {key: tf.constant(value, specs[key]["dtype"]) for key, value in inputs.items()}
            return {key: value.numpy() for key, value in function(**tensors).items()}

        return call

    @property
    def task(self):
        """The `affect.tasks.Task`."""
        from affect.tasks import find_task

        return find_task(self.experiment)

    @property
    def most_frames(self):
        """Most faces of a clip that are read, evenly spaced; `None` where each is read on its own, and all are."""
        if "frame" in self.description["signatures"]:
            return None
        fixed, most = self.description.get("conversion", {}).get("frames"), self.experiment.data.eval_frames
        return min(fixed, most) if fixed else most

    @property
    def postprocessing(self):
        """Dict: dimension → `affect.postprocessing.Postprocessing`; empty of a model that classifies."""
        steps = self.description.get("postprocessing", {})
        if not steps:
            return {}
        from affect.postprocessing import Postprocessing

        return {name: from_json(Postprocessing, found, f"{self.path}: {name}") for name, found in steps.items()}

    def respond(self, inputs):
        """Returns what the model says of a batch of clips.

        Args:
            inputs: Dict: `faces` uint8 (B, F, S, S, 3), `frame_mask` bool (B, F).

        Returns:
            Dict of arrays, those of the signature `serving_default`: `probabilities` (B, E), `frame_importance` (B, F)
            and `frame_probabilities` (B, F, E), 0 where masked; or `dimensions`.

        Raises:
            InputError: When it is a TFLite file of single faces.
        """
        if "serving_default" not in self.description["signatures"]:
            raise InputError(
                f"{self.path} takes one face at a time. Watch the video: affect watch {self.path} VIDEO; or convert "
                f"the whole: affect convert NAME/VERSION --to {self.description['conversion']['to']}"
            )
        return self.signature("serving_default")(inputs)

    @cached_property
    def frame_functions(self):
        """Dict: name → function of named arrays that returns a dict, of those in `affect.stream.StreamingClassifier`.

        Raises:
            InputError: When it is a TFLite file of whole clips, or its task does not judge frames one by one.
        """
        names = [name for name in ("frame", "classify", "step") if name in self.description["signatures"]]
        if not names:
            self.task.check_reads_frames(self.path)
            raise InputError(
                f"{self.path} takes whole clips. Convert the part for single faces: "
                f"affect convert NAME/VERSION --part frame --to {self.description['conversion']['to']}"
            )
        return {name: partial(_named, self.signature(name)) for name in names}

    def golden(self):
        """Returns the pairs that every copy must reproduce: signature → `(inputs, outputs)`, dicts of arrays."""
        if self.path.suffix == TFLITE:
            raise InputError(
                f"{self.path} carries no golden pairs. Those of the model it was converted from do: NAME/1."
            )
        pairs = {name: ({}, {}) for name in self.description["signatures"]}
        with np.load(self.path / ASSETS / "golden.npz", allow_pickle=False) as arrays:
            for key, value in arrays.items():
                name, side, tensor = key.split("/")
                pairs[name][("inputs", "outputs").index(side)][tensor] = value
        return pairs

    @cached_property
    def loaded(self):
        """What TensorFlow made of the SavedModel; of a TFLite file, an `affect.tflite.Runner`."""
        if self.path.suffix == TFLITE:
            from affect.tflite import Runner, read_sealed

            return Runner(*read_sealed(self.path))
        import tensorflow as tf

        return tf.saved_model.load(str(self.path))


def _named(function, **inputs):
    return function(inputs)


def latest_version(path):
    """Returns the folder of the highest version below a folder NAME; any other path as it is."""
    versions = [found for found in Path(path).glob("*/saved_model.pb") if found.parent.name.isdecimal()]
    return max((found.parent for found in versions), key=lambda found: int(found.name), default=Path(path))


def read_artefact(path):
    """Reads an exported model; its checksums are verified before anything else is read.

    Args:
        path: Folder `NAME/VERSION` that `affect export` wrote, or a `.tflite` file that `affect convert` did.

    Returns:
        `Artefact`.

    Raises:
        InputError: When it is no such folder, or a file is missing, altered or not one of those that were written.
    """
    path = Path(path)
    if path.suffix == TFLITE:
        from affect.tflite import read_sealed

        return _of_description(path, read_sealed(path)[1], f"{path}: ")
    if not (path / SUMS).is_file():
        versions = sorted(str(sums.parents[1]) for sums in path.glob(f"*/{SUMS}"))
        hint = f"Name a version: {', '.join(versions)}." if versions else f"Make one: affect export RUN {path}"
        raise InputError(f"{path} is not an exported model: it has no {SUMS}. {hint}")
    _verify(path)
    where = f"{path / ASSETS / 'affect.json'}: "
    return _of_description(path, read_json(path / ASSETS / "affect.json"), where)


def _of_description(path, description, where):
    expected = (TFLITE_KIND if path.suffix == TFLITE else KIND, FORMAT)
    if (found := (description.get("kind"), description.get("format"))) != expected:
        raise InputError(
            f"{path} is of kind and format {found}; this version of affect reads {expected}. Export it again."
        )
    if missing := {"task", "classes", "faces", "experiment", "face_size", "signatures"} - set(description):
        raise InputError(f"{where}it lacks {', '.join(sorted(missing))}. Export it again.")
    return Artefact(
        path=path,
        classes=tuple(description["classes"]),
        faces=from_json(Faces, description["faces"], f"{where}faces"),
        experiment=from_json(Experiment, description["experiment"], f"{where}experiment"),
        face_size=description["face_size"],
        description=description,
    )


def write_sums(path):
    """Writes the checksums of all files of an exported model, as `sha256sum -c` reads them."""
    lines = [f"{sha256_of(path / name)}  {name}\n" for name in _files(path)]
    (path / SUMS).write_text("".join(lines), encoding="utf-8")


def _verify(path):
    try:
        lines = (path / SUMS).read_text(encoding="utf-8").removesuffix("\n").split("\n")
        sums = {name: sha256 for sha256, name in (line.split("  ", 1) for line in lines)}
    except ValueError as error:
        raise InputError(f"{path / SUMS} is damaged. Copy {path} again, or export it again.") from error
    found = _files(path)
    faults = [f"{name} is missing" for name in sums if name not in found]
    faults += [f"{name} was added" for name in found if name not in sums]
    faults += [f"{name} was altered" for name in found if name in sums and sha256_of(path / name) != sums[name]]
    if faults:
        more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise InputError(f"{path} is not what was exported: {faults[0]}{more}. Copy it again, or export it again.")


def _files(path):
    """Returns the names of all files below a folder but the checksums', with slashes, sorted."""
    names = (file.relative_to(path).as_posix() for file in path.rglob("*") if not file.is_dir())
    return sorted(name for name in names if name != SUMS)

"""predict(): faces of a clip → probabilities of the clip and of each frame, or valence and arousal over time."""

from pathlib import Path

from affect.artefact import ASSETS, TFLITE, read_artefact
from affect.errors import InputError
from affect.tasks.clips import BATCH_FACES


def read_model(path):
    """Reads what predicts; an exported model without any of the code that models are made of.

    Args:
        path: As of `affect.run.load_trained`, a run or a config; or of `affect.artefact.read_artefact`, a SavedModel
            or a TFLite file.

    Returns:
        `affect.run.Trained` or `affect.artefact.Artefact`. Both have `classes`, `faces`, `experiment`, `task`,
        `face_size`, `most_frames`, `respond` and `frame_functions`.

    Raises:
        InputError: As those two; on a file of another kind, of which none is ever run but a `.py` config.
    """
    path = Path(path)
    if path.suffix == TFLITE or (path / ASSETS).is_dir() or (path / "saved_model.pb").is_file():
        return read_artefact(path)
    if path.is_file() and path.suffix not in (".py", ".json"):
        raise InputError(
            f"{path} is no model. Expected a run (the folder that holds best.keras and config.json), an exported model "
            "(a folder NAME/VERSION), a .tflite file or a .py config that needs no training."
        )
    from affect.run import load_trained

    return load_trained(path)


def predict(trained, clip, cut=None, *, batch_faces=BATCH_FACES):
    """Predicts one clip by all of its faces, in memory that does not grow with them.

    `data.eval_frames` is of evaluation, and of models that take whole clips alone (`trained.most_frames`): a
    `affect.config.VideoModel`, and a TFLite file of whole clips.

    Args:
        trained: Of `read_model`.
        clip: `affect.records.Clip`, cut by `trained.faces`. Its faces may lie on disk: each is read when it is needed.
        cut: The `affect.pipelines.faces.Cut` that came with the clip: all frames and all faces of the video;
            `None` where no more is known than the clip's own faces.
        batch_faces: Faces that are read at once.

    Returns:
        Dict: `key`; `frames_decoded`, `frames_with_a_face` and `coverage`, their ratio; `faces_seen`, the tracks of the
        whole video, this one included; and `frames`. Of a model that classifies also `frames_read`, the faces that were
        read; `label`, the likeliest class, and `probabilities`, class → p(c|S), both `None` without a face. `frames`
        are then all decoded frames, each with `timestamp_s`, `has_face`, `importance` p(f|S) and `probabilities`
        p(c|f,S), both `None` where there is no face or it was not read. Of a regression `frames` are the points of its
        regular grid, each with `timestamp_s`, `has_face`, `valence` and `arousal`, `None` where there is no face; how
        far raters lag is taken off already, and they are post-processed as the run has fitted it. Its `decoded_frames`
        are all decoded frames in the same form, each with what the nearest point of the grid says.
    """
    return trained.task.predict(trained, clip, cut, batch_faces=batch_faces)

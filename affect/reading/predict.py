"""predict(): faces of a clip → probabilities of the clip and of each frame, or valence and arousal over time."""

from typing import Any

from affect.data.clips import Clip
from affect.reading.predictor import Predictor
from affect.tasks.answers import BATCH_FACES
from affect.tasks.task import Cut


def predict(
    trained: Predictor, clip: Clip, cut: Cut | None = None, *, batch_faces: int = BATCH_FACES
) -> dict[str, Any]:
    """Predicts one clip from all of its faces. The memory does not grow with the number of faces.

    A model that takes only whole clips reads at most `trained.most_frames` faces: an `affect.config.VideoClassifier`,
    or a TFLite file of whole clips. Otherwise `data.eval_frames` limits evaluation only.

    Args:
        trained: The model.
        clip: Clip whose faces are cut by `trained.faces`. They may lie on disk: each is read when it is needed.
        cut: The `affect.pipelines.faces.Cut` that came with the clip: all frames and all tracks of the video; `None` if
            only the clip's own faces are known.
        batch_faces: Faces that are decoded and read at once.

    Returns:
        Dict: `key`; `frames_decoded`; `frames_with_a_face`; `coverage`, their ratio; `faces_seen`, the number of tracks
        in the whole video, with this one; and `frames`.

        A classifier adds `frames_read`, the number of faces that were read; `label`, the likeliest class; and
        `probabilities`, class → p(c|S). The last two are `None` without a face. Its `frames` are all decoded frames,
        each with `timestamp_s`, `has_face`, `importance` p(f|S) and `probabilities` p(c|f,S). The last two are `None`
        if the frame has no face or its face was not read.

        The `frames` of a regression are the points of its regular grid, each with `timestamp_s`, `has_face`, `valence`
        and `arousal`, which are `None` without a face. The lag of the ratings is already taken off, and the values are
        post-processed as the run has fitted it. `decoded_frames` are all decoded frames in the same form, each with the
        values of the nearest point of the grid.
    """
    answer = trained.task.answer(trained, clip, batch_faces=batch_faces)
    return trained.task.summarise(trained, clip, answer, cut)

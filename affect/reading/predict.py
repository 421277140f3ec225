"""predict(): faces of a clip → probabilities of the clip and of each frame, or valence and arousal over time."""

from affect.tasks.clips import BATCH_FACES


def predict(trained, clip, cut=None, *, batch_faces=BATCH_FACES):
    """Predicts one clip by all of its faces, in memory that does not grow with them.

    `data.eval_frames` is of evaluation, and of models that take whole clips alone (`trained.most_frames`): a
    `affect.config.VideoClassifier`, and a TFLite file of whole clips.

    Args:
        trained: `affect.reading.predictor.Predictor`.
        clip: `affect.data.records.Clip`, cut by `trained.faces`. Its faces may lie on disk: each is read when it is
            needed.
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

"""predict(): faces of a clip → probabilities of the clip and of each frame."""

import numpy as np
from scipy.special import softmax

from affect.data import clip_inputs


def predict(trained, clip):
    """Predicts one clip.

    Args:
        trained: `affect.model.Trained`.
        clip: `affect.records.Clip`, cut by `trained.faces`, with at least one face.

    Returns:
        Dict: `key`; `label`, the likeliest class; `probabilities`, class → p(c|S); `frames_decoded`,
        `frames_with_a_face` and `coverage`, their ratio; `frames`, for each frame that was looked at (up to
        `data.eval_frames`, evenly spaced) its `timestamp_s`, `importance` p(f|S) and `probabilities` p(c|f,S).
    """
    inputs, faces = clip_inputs(clip, trained.experiment.data, trained.face_size)
    outputs = trained.network.predict_on_batch(inputs)
    return summarise(trained.classes, clip, faces, outputs)


def summarise(classes, clip, faces, outputs):
    """Returns the outputs of a network for one clip (batch of 1) as `predict` describes."""
    probabilities = softmax(outputs["logits"][0])
    frame_probabilities = softmax(outputs["frame_logits"][0], axis=-1)
    return {
        "key": clip.key,
        "label": classes[int(np.argmax(probabilities))],
        "probabilities": _named(classes, probabilities),
        "frames_decoded": clip.frames_decoded,
        "frames_with_a_face": len(clip.faces),
        "coverage": len(clip.faces) / clip.frames_decoded,
        "frames": [
            {
                "timestamp_s": face.timestamp_s,
                "importance": float(importance),
                "probabilities": _named(classes, row),
            }
            for face, importance, row in zip(faces, outputs["frame_importance"][0], frame_probabilities, strict=True)
        ],
    }


def _named(classes, probabilities):
    return {name: float(p) for name, p in zip(classes, probabilities, strict=True)}

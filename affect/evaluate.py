"""evaluate(): a model on a split of shards → metrics over all clips and over those with a face."""

import numpy as np
from scipy.special import softmax

from affect.data import Shards, eval_batches, names_damage
from affect.errors import InputError
from affect.metrics import classification_metrics


@names_damage
def evaluate(trained, data, *, split, track=None):
    """Evaluates a model.

    Args:
        trained: `affect.model.Trained`.
        data: Folder of shards.
        split: Name of the split.
        track: `track(iterable, total, description)` → iterable, to show progress.

    Returns:
        Dict: `split`; `is_selection_split`, whether the epoch was selected on it, so that its numbers are optimistic;
        `classes`; `all` and `with_a_face` (see `affect.metrics.classification_metrics`); `reported` by the paper; and
        `clips`: for each its `key`, `label`, `predicted` (`None` without a face), `probabilities` and `peak_s`, the
        time of the frame of highest importance. In `all` a clip without a face counts as wrong; paper A's authors'
        code counts as `with_a_face` does, and the paper does not say.

    Raises:
        InputError: When the clips have labels that the model does not know.
    """
    shards = Shards(data)
    entries = shards.of_split(split)
    unknown = sorted({entry["label"] for entry in entries} - set(trained.classes))
    if unknown:
        unknown = [name or "(no label)" for name in unknown]
        raise InputError(
            f"{data} has clips labelled {unknown} in split {split!r}; the model's classes are {list(trained.classes)}."
        )
    batches = eval_batches(
        shards, trained.experiment.data, split=split, classes=trained.classes, face_size=trained.face_size
    )
    clips, labels, predictions = [], [], []
    steps = -(-len(entries) // trained.experiment.data.batch_clips)
    for batch in track(batches, steps, "evaluate") if track else batches:
        inputs = {"faces": batch["faces"], "frame_mask": batch["frame_mask"]}
        outputs = trained.network.predict_on_batch(inputs)
        probabilities = softmax(outputs["logits"], axis=-1)
        for row, key in enumerate(batch["key"].numpy()):
            has_face = bool(batch["frame_mask"][row].numpy().any())
            label = int(batch["label"][row])
            predicted = int(np.argmax(probabilities[row])) if has_face else -1
            peak = int(np.argmax(outputs["frame_importance"][row]))
            clips.append(
                {
                    "key": key.decode(),
                    "label": trained.classes[label],
                    "predicted": trained.classes[predicted] if has_face else None,
                    "probabilities": [float(p) for p in probabilities[row]] if has_face else None,
                    "peak_s": float(batch["timestamp_s"][row, peak]) if has_face else None,
                }
            )
            labels.append(label)
            predictions.append(predicted)
    labels, predictions = np.array(labels), np.array(predictions)
    seen = predictions >= 0
    return {
        "split": split,
        "is_selection_split": split == trained.experiment.data.selection_split,
        "classes": list(trained.classes),
        "all": classification_metrics(labels, predictions, trained.classes),
        "with_a_face": classification_metrics(labels[seen], predictions[seen], trained.classes),
        "reported": trained.experiment.reported,
        "clips": clips,
    }

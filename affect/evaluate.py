"""evaluate(): a model on a split of shards → metrics of its clips, or of its recordings over time."""

from dataclasses import replace
from functools import partial

import numpy as np
from scipy.special import softmax

from affect.config import to_json
from affect.data import Shards, eval_batches, names_damage
from affect.device import leave_accelerator_to_backend
from affect.errors import InputError
from affect.metrics import FORMULAS, Moments, classification_metrics, regression_metrics
from affect.series import at_ratings, estimate
from affect.windows import read_recordings


@names_damage
def evaluate(trained, data, *, split, protocol=None, track=None):
    """Evaluates a model: one that classifies by `evaluate_clips`, a regression by `evaluate_recordings`.

    Args:
        trained: `affect.model.Trained`.
        data: Folder of shards.
        split: Name of the split.
        protocol: Of a regression, `"avec"` or `"faces"` (see `affect.config.Windows`); `None` is the experiment's own.
        track: `track(iterable, total, description)` → iterable, to show progress.

    Returns:
        Dict: `split`; `is_selection_split`, whether the epoch was selected on it, so that its numbers are optimistic;
        `reported` by the paper; and what the two functions add.

    Raises:
        InputError: As the two functions; on a protocol of a model that classifies, and on one that is not known.
    """
    leave_accelerator_to_backend()
    if trained.is_regression:
        windows = trained.experiment.windows
        windows = replace(windows, protocol=protocol or windows.protocol)  # which checks it
        of_its_kind = partial(evaluate_recordings, protocol=windows.protocol)
    elif protocol:
        raise InputError(f"A protocol is for valence and arousal, and {trained.experiment.name} gives classes.")
    else:
        of_its_kind = evaluate_clips
    return {
        "split": split,
        "is_selection_split": split == trained.experiment.data.selection_split,
        "reported": trained.experiment.reported,
        **of_its_kind(trained, Shards(data), split, track),
    }


def evaluate_clips(trained, shards, split, track=None):
    """Evaluates a model that classifies.

    Args:
        trained, split, track: As in `evaluate`.
        shards: `affect.data.Shards`.

    Returns:
        Dict: `classes`; `all` and `with_a_face` (see `affect.metrics.classification_metrics`); and `clips`: for each
        its `key`, `label`, `predicted` (`None` without a face), `probabilities` and `peak_s`, the time of the frame of
        highest importance. In `all` a clip without a face counts as wrong; paper A's authors' code counts as
        `with_a_face` does, and the paper does not say.

    Raises:
        InputError: When the clips have labels that the model does not know.
    """
    entries = shards.of_split(split)
    unknown = sorted({entry["label"] for entry in entries} - set(trained.classes))
    if unknown:
        unknown = [name or "(no label)" for name in unknown]
        raise InputError(
            f"{shards.folder} has clips labelled {unknown} in split {split!r}; the model's classes are "
            f"{list(trained.classes)}."
        )
    batches = eval_batches(
        shards, trained.experiment.data, split=split, classes=trained.classes, face_size=trained.face_size
    )
    clips, labels, predictions = [], [], []
    steps = -(-len(entries) // trained.experiment.data.batch_clips)
    for batch in track(batches, steps, "evaluate") if track else batches:
        inputs = {name: batch[name].numpy() for name in ("faces", "frame_mask")}  # for any backend
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
        "classes": list(trained.classes),
        "all": classification_metrics(labels, predictions, trained.classes),
        "with_a_face": classification_metrics(labels[seen], predictions[seen], trained.classes),
        "clips": clips,
    }


def evaluate_recordings(trained, shards, split, track=None, *, protocol="avec"):
    """Evaluates a regression over time.

    An estimate, post-processed as the run has fitted it, is compared with the rating `windows.delay_s` later. By the
    protocol of AVEC's challenges that is done at each rating: where there is no face, the estimates before and after
    are interpolated, or the only one is held (`affect.series.at_ratings`). By the protocol `"faces"` it is done at each
    point of a regular grid: points without a face have no estimate and are left out of the metrics, and so are points
    without a rating, at the end of a recording.

    Args:
        trained, split, track: As in `evaluate`.
        shards: `affect.data.Shards`.
        protocol: `"avec"` or `"faces"`.

    Returns:
        Dict: `protocol`; `dimensions`, their names; `metrics`, of each dimension as `affect.metrics.regression_metrics`
        describes them, over all recordings concatenated and as the mean over recordings; `raw_metrics`, the same of the
        network's own estimates, and `postprocessing`, the steps that lie between them, of each dimension (both `None`
        without post-processing); `frames`, ratings or points of the grid: `all`, `labelled`, `without_a_face` of those,
        and `counted`; `delay_s`; `unrated`, names of recordings that have no ratings; and `recordings`, for each its
        `name`, `frames` likewise, `other_faces` (of others than the main one, left out), `metrics` of each dimension
        (`None` without a frame), and its `series`: `times_s`, and `labels`, `predictions` and, with post-processing,
        `raw_predictions` of each dimension, `None` where there is no rating or no estimate.

    Raises:
        InputError: When no recording of the split is rated.
    """
    recordings, unrated = read_recordings(shards, split)
    all_series = estimate(trained, recordings, track=track)
    if protocol == "avec":
        windows = trained.experiment.windows
        all_series = [at_ratings(series, windows.delay_s, windows.frame_rate_hz) for series in all_series]
    moments = _moments(trained.classes, all_series, "predictions")
    raw = _moments(trained.classes, all_series, "raw") if trained.postprocessing else None
    reports = [
        {
            "name": series.recording.name,
            "frames": _frames(series),
            "other_faces": series.recording.other_faces,
            "metrics": {name: _formulas(found[series.recording.name]) for name, found in moments.items()},
            "series": {
                "times_s": series.times_s.tolist(),
                "labels": _columns(trained.classes, series.labels, series.is_rated),
                "predictions": _columns(trained.classes, series.predictions, series.is_estimated),
                **({"raw_predictions": _columns(trained.classes, series.raw, series.is_estimated)} if raw else {}),
            },
        }
        for series in all_series
    ]
    return {
        "protocol": protocol,
        "dimensions": list(trained.classes),
        "metrics": _metrics(moments),
        "raw_metrics": _metrics(raw) if raw else None,
        "postprocessing": {name: to_json(steps) for name, steps in trained.postprocessing.items()} or None,
        "frames": {key: sum(report["frames"][key] for report in reports) for key in reports[0]["frames"]},
        "delay_s": trained.experiment.windows.delay_s,
        "unrated": unrated,
        "recordings": reports,
    }


def moments_of(recording, dimension):
    """Returns the `Moments` of a dimension, by name, of a recording in a report."""
    series = recording["series"]
    labels, predictions = (np.array(series[name][dimension], float) for name in ("labels", "predictions"))
    return Moments.of_series(labels, predictions, ~np.isnan(labels) & ~np.isnan(predictions))


def _moments(names, all_series, what):
    """Returns dimension → name of a recording → `Moments`, of `raw` or `predictions`."""
    return {
        name: {series.recording.name: series.moments(getattr(series, what), index) for series in all_series}
        for index, name in enumerate(names)
    }


def _metrics(moments):
    return {name: regression_metrics(found) for name, found in moments.items()}


def _frames(series):
    return {
        "all": len(series.times_s),
        "labelled": int(series.is_rated.sum()),
        "without_a_face": int((series.is_rated & ~series.frame_mask).sum()),
        "counted": int(series.is_counted.sum()),
    }


def _formulas(moments):
    return {name: float(formula(moments)) if moments.count else None for name, formula in FORMULAS.items()}


def _columns(names, values, is_there):
    """Returns name → list of a column (N, 2), with `None` where nothing is there."""
    return {name: np.where(is_there, values[:, index], None).tolist() for index, name in enumerate(names)}

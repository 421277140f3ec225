"""Clip classification by the field's names: accuracy (WAR), unweighted average recall, macro F1, confusion matrix."""

import numpy as np
from sklearn import metrics


def classification_metrics(labels, predictions, classes):
    """Computes the metrics of a set of clips.

    Args:
        labels: int (M,), indices into `classes`.
        predictions: int (M,), indices into `classes`; -1 is a clip for which nothing could be predicted. It counts as
            wrong, whatever its label.
        classes: Class names, E of them.

    Returns:
        Dict: `clips` M; `accuracy` (weighted average recall), `uar` (mean recall over the classes that occur among the
        labels) and `macro_f1` (mean over the same), in [0, 1], `None` where M is 0; `confusion`, E lists of E + 1
        counts: rows are labels, columns predictions, the last one counts clips without a prediction.
    """
    labels, predictions = np.asarray(labels, int), np.asarray(predictions, int)
    present = np.unique(labels)
    if not len(labels):
        nothing = [[0] * (len(classes) + 1) for _ in classes]
        return {"clips": 0, "accuracy": None, "uar": None, "macro_f1": None, "confusion": nothing}
    average = {"labels": present, "average": "macro", "zero_division": 0}
    columns = [*range(len(classes)), -1]
    return {
        "clips": len(labels),
        "accuracy": float(metrics.accuracy_score(labels, predictions)),
        "uar": float(metrics.recall_score(labels, predictions, **average)),
        "macro_f1": float(metrics.f1_score(labels, predictions, **average)),
        "confusion": metrics.confusion_matrix(labels, predictions, labels=columns)[:-1].tolist(),
    }

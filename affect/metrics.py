"""Metrics by the field's names: accuracy (WAR), UAR, macro F1 and confusion of clips; RMSE, CC and CCC of series."""

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

import keras
import numpy as np
from keras import ops
from sklearn import metrics

from affect.statistics import FORMULAS, Formula, Moments


def classification_metrics(
    labels: Sequence[int] | np.ndarray, predictions: Sequence[int] | np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """Computes the metrics of a set of clips.

    Args:
        labels: int (M,), indices into `classes`.
        predictions: int (M,), indices into `classes`; -1 is a clip without a prediction, which counts as wrong.
        classes: E class names.

    Returns:
        Dict of `clips`, M; `accuracy` (weighted average recall), `uar` (mean recall) and `macro_f1` (mean F1) in
        [0, 1], `None` if M is 0, where both means are over the classes that occur among the labels; and `confusion`, E
        lists of E + 1 counts: a list for each label, a column for each prediction, and a last column for clips without
        a prediction.
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


def regression_metrics(recordings: Mapping[str, Moments]) -> dict[str, Any]:
    """Computes RMSE, CC and CCC of one dimension, over all recordings concatenated and as the mean over recordings.

    The two are different numbers, and papers seldom say which of them they report.

    Args:
        recordings: Name of a recording → its moments, from `Moments.of_series`.

    Returns:
        Dict of `recordings` and `frames`, the numbers that were counted; `frames_left_out`, the number of frames that
        were not valid; `recordings_left_out`, the names without a valid frame; `constant`, the names whose labels or
        predictions do not vary, so that their CC counts as 0; and `concatenated` and `mean`, dicts of `rmse`, `cc` and
        `ccc`, which are `None` without a frame.
    """
    whole = reduce(add, recordings.values(), Moments())
    seen = {name: moments for name, moments in recordings.items() if moments.count}
    numbers = {name: [float(formula(moments)) for moments in seen.values()] for name, formula in FORMULAS.items()}
    return {
        "recordings": len(seen),
        "frames": int(whole.count),
        "frames_left_out": whole.left_out,
        "recordings_left_out": [name for name in recordings if name not in seen],
        "constant": [name for name, found in seen.items() if not found.label_square or not found.prediction_square],
        "concatenated": {name: float(formula(whole)) if seen else None for name, formula in FORMULAS.items()},
        "mean": {name: float(np.mean(values)) if seen else None for name, values in numbers.items()},
    }


@keras.saving.register_keras_serializable(package="affect")
class SeriesMetric(keras.metrics.Metric):
    """RMSE, CC or CCC of one dimension over all frames since the last reset. Training logs it.

    The state is the seven plain sums of `affect.statistics.Moments.of_sums`: batches may be of any size, and replicas
    and workers merge by adding it. It is float64, and float32 on JAX, which has no float64 by default. Evaluation adds
    `Moments`, which keep their digits for values of any size. The formulas are the same.

    Args:
        formula: Key of `affect.statistics.FORMULAS`.
        output: Index of the dimension on the last axis: 0 is valence, 1 arousal (`affect.data.labels.DIMENSIONS`).
            Defaults to 0.
        name: Name in the logs. Defaults to the formula.

    Call arguments:
        y_true: Labels `(..., O)`.
        y_pred: Predictions `(..., O)`.
        sample_weight: Optional, `(...)`: 1 for valid frames, and 0 for others, which may hold anything.
    """

    def __init__(self, formula: Formula, output: int = 0, name: str | None = None) -> None:
        if formula not in FORMULAS:
            raise ValueError(f"Unknown `formula`. Expected one of {sorted(FORMULAS)}. Received: formula={formula!r}")
        dtype = "float32" if keras.backend.backend() == "jax" else "float64"
        super().__init__(name=name or formula, dtype=dtype)
        self.formula = formula
        self.output = output
        self.sums = self.add_variable((7,), "zeros", dtype=dtype, name="sums")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y, x, weight = valid_values(y_true, y_pred, sample_weight, self.output, self.dtype)
        terms = (ops.ones_like(y), y, x, y * y, x * x, x * y, (x - y) ** 2)
        self.sums.assign_add(ops.stack([ops.sum(weight * term) for term in terms]))

    def result(self) -> Any:
        moments = Moments.of_sums(ops.convert_to_tensor(self.sums), ops)
        return FORMULAS[self.formula](moments, ops)

    def get_config(self) -> dict[str, Any]:
        return {"formula": self.formula, "output": self.output, "name": self.name}


def valid_values(y_true: Any, y_pred: Any, sample_weight: Any, output: int, dtype: str) -> tuple[Any, Any, Any]:
    """Returns the labels, predictions and weights of one dimension as tensors (n,), with 0 where the weight is 0.

    Args:
        y_true: Labels `(..., O)`.
        y_pred: Predictions `(..., O)`.
        sample_weight: `(...)`, or `None` for 1 everywhere.
        output: Index of the dimension on the last axis.
        dtype: Of the result.
    """
    y, x = (ops.reshape(ops.cast(values, dtype)[..., output], (-1,)) for values in (y_true, y_pred))
    if sample_weight is None:
        return y, x, ops.ones_like(y)
    weight = ops.reshape(ops.cast(sample_weight, dtype), (-1,))
    return ops.where(weight > 0, y, 0.0), ops.where(weight > 0, x, 0.0), weight

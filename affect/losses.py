"""The loss of regression: mean square error, 1 - CCC, or a mix of both."""

from typing import Any

import keras
from keras import ops

from affect import metrics  # the module, because it may be only partly imported at this point
from affect.statistics import Moments, ccc


@keras.saving.register_keras_serializable(package="affect")
class ConcordanceLoss(keras.losses.Loss):
    """(1 - w) · MSE + w · (1 - CCC) over the valid frames of a batch, averaged over the dimensions.

    CCC is computed over all valid frames of the batch together and not for each window, because a window of a few
    seconds hardly varies. It is not a sum over frames, so there is no `reduction`. Each replica computes the CCC of its
    own part of a batch. A batch without a valid frame has a loss of 0.

    Args:
        weight: w in [0, 1]: 0 is the mean square error alone, 1 the concordance alone. Defaults to 1.
        name: Defaults to `"concordance_loss"`.

    Call arguments:
        y_true: Labels `(..., O)`, cast to float32.
        y_pred: Predictions `(..., O)`, cast to float32.
        sample_weight: Optional, `(...)`: 1 for valid frames, and 0 for others, which may hold anything.

    Output shape:
        Float32 scalar.
    """

    def __init__(self, weight: float = 1.0, name: str = "concordance_loss") -> None:
        super().__init__(name=name)
        if not 0 <= weight <= 1:
            raise ValueError(f"Invalid `weight`. Expected a number in [0, 1]. Received: weight={weight!r}")
        self.weight = weight

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        losses = []
        for output in range(y_pred.shape[-1]):
            y, x, weights = metrics.valid_values(y_true, y_pred, sample_weight, output, "float32")
            moments = Moments.of(y, x, weights, ops)
            square = moments.error / ops.maximum(moments.count, 1e-30)
            losses.append((1 - self.weight) * square + self.weight * (1 - ccc(moments, ops)))
        return ops.mean(ops.stack(losses))

    def get_config(self) -> dict[str, Any]:
        return {"weight": self.weight, "name": self.name}

"""The loss of regression: mean square error, 1 - CCC, or a mix of both."""

import keras
from keras import ops

from affect import metrics  # whose names are looked up when they are used, because it may be half imported by now


@keras.saving.register_keras_serializable(package="affect")
class ConcordanceLoss(keras.losses.Loss):
    """(1 - w) · MSE + w · (1 - CCC) over the valid frames of a batch, averaged over the dimensions.

    CCC is that of all valid frames of the batch taken together, not of each window: a window of a few seconds hardly
    varies. It is not a sum over frames, so there is no `reduction`; replicas of a batch have a CCC each. A batch
    without a valid frame costs 0.

    Args:
        weight: w in [0, 1]: 0 is the mean square error, 1 the concordance alone. Defaults to 1.
        name: Defaults to `"concordance_loss"`.

    Call arguments:
        y_true, y_pred: `(..., O)`, computed on in float32.
        sample_weight: Optional, `(...)`: 1 for valid frames and 0 for others, which may hold anything.

    Returns (from a call):
        Float32 scalar.
    """

    def __init__(self, weight=1.0, name="concordance_loss"):
        super().__init__(name=name)
        if not 0 <= weight <= 1:
            raise ValueError(f"Invalid `weight`. Expected a number in [0, 1]. Received: weight={weight}")
        self.weight = weight

    def __call__(self, y_true, y_pred, sample_weight=None):
        losses = []
        for output in range(y_pred.shape[-1]):
            moments = metrics.Moments.of(*metrics.valid_values(y_true, y_pred, sample_weight, output, "float32"), ops)
            square = moments.error / ops.maximum(moments.count, 1e-30)
            losses.append((1 - self.weight) * square + self.weight * (1 - metrics.ccc(moments, ops)))
        return ops.mean(ops.stack(losses))

    def get_config(self):
        return {"weight": self.weight, "name": self.name}

"""Optimizers that Keras does not have."""

from typing import Any

import keras
from keras import ops
from keras.optimizers import schedules


@keras.saving.register_keras_serializable(package="affect")
class PyTorchSGD(keras.optimizers.SGD):
    """SGD by the formula of `torch.optim.SGD`, which paper A's authors used.

    g ← gradient + decay · w, v ← momentum · v + g, and w ← w − rate · (g + momentum · v with Nesterov's momentum, else
    v). Keras differs in two points. Its decay does not pass through v, so it is (1 − momentum) times as strong in the
    long run. And its v accumulates steps, so after a restart old gradients still count at their old rates; here the new
    rate multiplies all of v.

    Args:
        learning_rate: As in `keras.optimizers.SGD`.
        weight_decay: Number ≥ 0, or a `keras.optimizers.schedules.LearningRateSchedule`.
        **kwargs: As in `keras.optimizers.SGD`.
    """

    def __init__(self, learning_rate: Any, *, weight_decay: Any = 0.0, **kwargs: Any):
        super().__init__(learning_rate, **kwargs)  # without the decay, because Keras would decouple it
        if isinstance(weight_decay, dict):  # from `get_config`
            weight_decay = schedules.deserialize(weight_decay)
        self.coupled_weight_decay = weight_decay

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        decay = self.coupled_weight_decay
        if isinstance(decay, schedules.LearningRateSchedule):
            decay = ops.cast(decay(self._iterations), variable.dtype)  # at this batch, like Keras's learning rate
        gradient = ops.cast(gradient, variable.dtype) + decay * variable
        update = gradient
        if self.momentum:
            velocity = self.momentums[self._get_variable_index(variable)]
            self.assign(velocity, self.momentum * velocity + gradient)
            update = gradient + self.momentum * velocity if self.nesterov else ops.convert_to_tensor(velocity)
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * update)

    def get_config(self) -> dict[str, Any]:
        decay = self.coupled_weight_decay
        if isinstance(decay, schedules.LearningRateSchedule):
            decay = schedules.serialize(decay)
        return {**super().get_config(), "weight_decay": decay}

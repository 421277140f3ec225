"""Optimizers that Keras does not have."""

import keras
from keras import ops
from keras.optimizers import schedules


@keras.saving.register_keras_serializable(package="affect")
class PyTorchSGD(keras.optimizers.SGD):
    """SGD by the formula of `torch.optim.SGD`, which paper A's authors used.

    g ← gradient + decay · w, v ← momentum · v + g, and w ← w − rate · (g + momentum · v with Nesterov's momentum, else
    v). In Keras decay does not pass through v, which makes it (1 − momentum) times as strong in the long run, and v is
    made of steps: after a restart it still moves at the rates of old gradients, where here the new rate multiplies all.

    Args:
        learning_rate, **kwargs: As in `keras.optimizers.SGD`.
        weight_decay: Float ≥ 0, or a `keras.optimizers.schedules.LearningRateSchedule` of it.
    """

    def __init__(self, learning_rate, *, weight_decay=0.0, **kwargs):
        super().__init__(learning_rate, **kwargs)  # It is not told of the decay, because it would decouple it.
        if isinstance(weight_decay, dict):  # of `get_config`
            weight_decay = schedules.deserialize(weight_decay)
        self.coupled_weight_decay = weight_decay

    def update_step(self, gradient, variable, learning_rate):
        decay = self.coupled_weight_decay
        if isinstance(decay, schedules.LearningRateSchedule):
            decay = ops.cast(decay(self._iterations), variable.dtype)  # of the batch, as Keras's learning rate
        gradient = ops.cast(gradient, variable.dtype) + decay * variable
        update = gradient
        if self.momentum:
            velocity = self.momentums[self._get_variable_index(variable)]
            self.assign(velocity, self.momentum * velocity + gradient)
            update = gradient + self.momentum * velocity if self.nesterov else ops.convert_to_tensor(velocity)
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * update)

    def get_config(self):
        decay = self.coupled_weight_decay
        if isinstance(decay, schedules.LearningRateSchedule):
            decay = schedules.serialize(decay)
        return {**super().get_config(), "weight_decay": decay}

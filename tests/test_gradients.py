"""The gradient of every pooling and attention, for its inputs and each of its weights, equals finite differences."""

import numpy as np
import pytest
from keras import ops

from affect.layers import SPATIAL_POOLINGS, TEMPORAL_POOLINGS, SpatiotemporalAttention
from affect.regularizers import AttentionDiversity
from tests.contracts import gradient

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(2, 3, 4, 5)).astype("float32")
FRAMES = RANDOM.normal(size=(2, 3, 5)).astype("float32")
MAPS = RANDOM.normal(size=(2, 3, 2, 2, 3)).astype("float32")
FRAME_MASK = np.array([[True, True, True], [True, False, False]])
HEADS = {"heads": 2, "hidden_units": 3, "diversity_regularizer": AttentionDiversity(0.5)}
ARGUMENTS = {"attention": HEADS, "shift": HEADS, "lstm": {"units": 3}}
CASES = [(pooling, ARGUMENTS.get(name, {}), FEATURES) for name, pooling in SPATIAL_POOLINGS.items()]
CASES += [(pooling, ARGUMENTS.get(name, {}), FRAMES) for name, pooling in TEMPORAL_POOLINGS.items()]
CASES += [(SPATIAL_POOLINGS["attention"], HEADS | {"hidden_units": None}, FEATURES)]
CASES += [(SpatiotemporalAttention, {"filters": 2, "activation": name}, MAPS) for name in ("softmax", "sigmoid")]
STEP = 0.02


def slope(function, value, direction):
    """Returns the derivative of `function` along `direction`: central differences of fourth order, good to 1e-5."""
    steps = {1: 8, -1: -8, 2: -1, -2: 1}
    found = [weight * float(function(value + np.float32(step * STEP) * direction)) for step, weight in steps.items()]
    return sum(found) / (12 * STEP)


@pytest.mark.parametrize("pooling, arguments, inputs", CASES)
def test_equals_finite_differences(pooling, arguments, inputs):
    random = np.random.default_rng(1)
    layer = pooling(**arguments)
    layer.build(inputs.shape)
    values = [inputs, *(random.normal(size=weight.shape).astype("float32") for weight in layer.trainable_variables)]
    weighting = random.normal(size=100).astype("float32")
    call_kwargs = {"frame_mask": FRAME_MASK} if getattr(pooling, "has_attention", True) else {}

    for index, value in enumerate(values):

        def loss(moved, index=index):
            inputs, *weights = [*values[:index], moved, *values[index + 1 :]]
            outputs, _, penalties = layer.stateless_call(
                weights, layer.non_trainable_variables, inputs, return_losses=True, **call_kwargs
            )
            outputs = ops.reshape(outputs, (-1,))
            return ops.sum(outputs * weighting[: outputs.shape[0]]) + sum(penalties)

        found = gradient(loss, value)
        for _ in range(3):
            direction = random.normal(size=value.shape).astype("float32")
            direction /= np.linalg.norm(direction)
            assert np.sum(found * direction) == pytest.approx(slope(loss, value, direction), rel=1e-4, abs=1e-4)
        assert np.abs(found).max() > 0.01

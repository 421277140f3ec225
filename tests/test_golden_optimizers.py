"""The two-rate optimizer against golden values of tensorflow-addons 0.23: where it takes the same steps, and where not.

`golden/tfa_optimizers.py` made the values and says with what command. The formulas below are float64 transcriptions
of one step; weights, gradients and rates are flat: backbone kernel and bias (six), head kernel and bias (three).
"""

from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest

from affect.config import Train, read_json
from affect.models.blocks import set_trainable
from affect.training.train import PyTorchSGD, build_optimizer

GOLDEN = read_json(Path(__file__).parent / "golden" / "tfa_optimizers.json")
PROBLEM, RUNS = GOLDEN["problem"], GOLDEN["runs"]
STEPS, BACKBONE, HEAD = 7, slice(0, 6), slice(6, 9)
TOLERANCE = {"rtol": 0, "atol": 1e-6}
CONSTANT = 10**9  # A first period so long that the rate stays what it is.
# Periods of 2 and 4 steps, and the start of the third: the share of its period that lies behind each step.
FRACTIONS = np.array([0, 1 / 2, 0, 1 / 4, 1 / 2, 3 / 4, 0])

# What tensorflow-addons' SGDW was given as `weight_decay`, where ours has `decay`; `rate` is the rate of each step.
SGDW = {
    "multi_sgdw_momentum_rate_times_decay": lambda rate, decay: rate * decay,
    "multi_sgdw_nesterov_rate_times_decay": lambda rate, decay: rate * decay,
    "multi_sgdw_nesterov_scheduled_rate_times_decay": lambda rate, decay: rate * decay,
    "multi_sgdw_nesterov_scheduled_rate_constant_decay": lambda rate, decay: rate[0] * decay,
    "multi_sgdw_nesterov_same_decay": lambda rate, decay: decay,
}
# The greatest difference from ours in any weight after seven steps. Weights are about 1, decay is 0.05.
DIFFERENT = {
    "multi_sgdw_nesterov_same_decay": 0.2217,
    "multi_sgdw_nesterov_scheduled_rate_constant_decay": 0.003626,
}
NO_GROUP = "multi_head_in_no_group"
SAME = sorted(set(RUNS) - set(DIFFERENT) - {NO_GROUP})


def keras_step(weights, gradient, velocity, rate, momentum, nesterov, decay):
    """Keras 3 (and 2.15): decay times rate; the rate is inside of the velocity."""
    velocity = momentum * velocity - rate * gradient
    update = momentum * velocity - rate * gradient if nesterov else velocity
    return weights - rate * decay * weights + update, velocity


def sgdw_step(weights, gradient, velocity, rate, momentum, nesterov, decay):
    """tensorflow-addons' SGDW: decay as it is given, whatever the rate."""
    velocity = momentum * velocity - rate * gradient
    update = momentum * velocity - rate * gradient if nesterov else velocity
    return weights - decay * weights + update, velocity


def torch_step(weights, gradient, velocity, rate, momentum, nesterov, decay):
    """PyTorch's SGD: decay is added to the gradient, so momentum multiplies it; the rate is outside of the velocity."""
    gradient = gradient + decay * weights
    velocity = momentum * velocity + gradient
    update = gradient + momentum * velocity if nesterov else velocity
    return weights - rate * update, velocity


def follow(step, settings, decay=None):
    """Returns the weights after each step of a formula, (7, 9). `decay` is the settings' own or broadcasts to that."""
    momentum, nesterov = settings["momentum"], settings["nesterov"]
    rates = rates_of(settings)
    decays = np.broadcast_to(settings["weight_decay"] if decay is None else decay, rates.shape)
    weights, velocity, rows = start(), np.zeros(9), []
    for rate, decay in zip(rates, decays, strict=True):
        weights, velocity = step(weights, gradient_at(weights), velocity, rate, momentum, nesterov, decay)
        rows.append(weights)
    return np.array(rows)


def rates_of(settings):
    """Returns the rate of each step and weight, (7, 9)."""
    rates = np.repeat([settings["backbone_learning_rate"], settings["head_learning_rate"]], (6, 3))
    factors = (1 + np.cos(np.pi * FRACTIONS)) / 2 if "restart_epochs" in settings else np.ones(STEPS)
    return factors[:, None] * rates


def start():
    return np.concatenate([np.ravel(value) for part in ("backbone", "head") for value in PROBLEM["start"][part]])


def gradient_at(weights):
    """Returns the gradient of the mean squared error of `tanh(x W + b) V + c`."""
    inputs, targets = np.array(PROBLEM["inputs"]), np.array(PROBLEM["targets"])
    kernel, bias, head = weights[:4].reshape(2, 2), weights[4:6], weights[6:8].reshape(2, 1)
    hidden = np.tanh(inputs @ kernel + bias)
    error = 2 * (hidden @ head + weights[8] - targets) / len(targets)
    before_tanh = error @ head.T * (1 - hidden**2)
    parts = (inputs.T @ before_tanh, before_tanh.sum(0), hidden.T @ error, error.sum(0))
    return np.concatenate([part.ravel() for part in parts])


def build_problem():
    """Returns the golden problem as a model whose backbone is one by name and by its variables' paths."""
    with keras.name_scope("backbone"):
        inputs = keras.Input((2,))
        backbone = keras.Model(inputs, keras.layers.Dense(2, activation="tanh", name="block")(inputs), name="backbone")
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1, name="dense")(backbone(inputs)))
    model.set_weights([np.array(value) for part in ("backbone", "head") for value in PROBLEM["start"][part]])
    assert [weight.path.startswith("backbone/") for weight in model.weights] == [True, True, False, False]
    return model


@cache
def train(name, **changes):
    """Returns the weights after each step of `build_optimizer`'s optimizer at a run's settings, (7, 9)."""
    settings, model = {"restart_epochs": CONSTANT} | RUNS[name]["settings"] | changes, build_problem()
    if not settings["backbone_learning_rate"]:
        settings = settings | {"backbone_learning_rate": 1e-5, "trainable": "head"}
        set_trainable(model.get_layer("backbone"), "head")
    optimizer = build_optimizer(model, Train(**settings), 1)
    model.compile(optimizer, "mse", jit_compile=False)
    rows = []
    for _ in range(STEPS):
        model.train_on_batch(np.array(PROBLEM["inputs"]), np.array(PROBLEM["targets"]))
        backbone, dense = model.get_layer("backbone").get_weights(), model.get_layer("dense").get_weights()
        rows.append(np.concatenate([value.ravel() for value in (*backbone, *dense)]))
    return np.array(rows)


def golden(name):
    return np.array(RUNS[name]["weights"])


@pytest.mark.parametrize("name", SAME)
def test_same_steps_as_tensorflow_addons(name):
    np.testing.assert_allclose(train(name), golden(name), **TOLERANCE)


@pytest.mark.parametrize("name", sorted(set(RUNS) - {NO_GROUP}))
def test_formulas_explain_the_steps(name):
    settings = RUNS[name]["settings"]
    np.testing.assert_allclose(train(name), follow(keras_step, settings), **TOLERANCE)
    if name in SGDW:
        theirs = follow(sgdw_step, settings, SGDW[name](rates_of(settings), settings["weight_decay"]))
    else:
        theirs = follow(keras_step, settings)
    np.testing.assert_allclose(theirs, golden(name), **TOLERANCE)


@pytest.mark.parametrize("name", DIFFERENT)
def test_other_decays_differ_by_what_the_formulas_say(name):
    settings = RUNS[name]["settings"]
    decay = SGDW[name](rates_of(settings), settings["weight_decay"])
    predicted = follow(sgdw_step, settings, decay) - follow(keras_step, settings)
    np.testing.assert_allclose(golden(name) - train(name), predicted, rtol=0, atol=2e-6)
    assert np.abs(predicted[-1]).max() == pytest.approx(DIFFERENT[name], rel=0.01)


def test_same_number_as_decay_takes_more_off_at_the_first_step():
    name = "multi_sgdw_nesterov_same_decay"
    difference = golden(name)[0] - train(name)[0]
    # (1 - rate) · decay of each weight: 0.98 · 0.05 in the backbone, 0.8 · 0.05 in the head.
    np.testing.assert_allclose(difference[BACKBONE], -0.049 * start()[BACKBONE], **TOLERANCE)
    np.testing.assert_allclose(difference[HEAD], -0.04 * start()[HEAD], **TOLERANCE)


def test_coupled_decay_differs():
    name = "multi_sgdw_nesterov_rate_times_decay"
    settings = RUNS[name]["settings"]
    difference = follow(torch_step, settings) - train(name)
    # At the first step Nesterov's coupled decay takes 1 + momentum times as much off.
    np.testing.assert_allclose(difference[0], -0.9 * rates_of(settings)[0] * 0.05 * start(), **TOLERANCE)
    assert np.abs(difference[-1]).max() == pytest.approx(0.0139, rel=0.01)


@pytest.mark.parametrize("momentum", [0.9, 0.0])
@pytest.mark.parametrize("name", sorted(set(RUNS) - {NO_GROUP}))
def test_pytorchs_steps_on_request(name, momentum):
    settings = RUNS[name]["settings"] | {"momentum": momentum, "weight_decay": 0.05}
    steps = train(name, pytorch_sgd=True, momentum=momentum, weight_decay=0.05)
    np.testing.assert_allclose(steps, follow(torch_step, settings), rtol=0, atol=2e-6)


def test_pytorchs_decay_is_added_once_to_accumulated_gradients():
    name = "multi_sgdw_nesterov_rate_times_decay"
    steps = train(name, pytorch_sgd=True, accumulation_steps=2)
    # Two batches of the same gradient are one step, which the second of them takes.
    expected = np.concatenate([[start()], follow(torch_step, RUNS[name]["settings"]).repeat(2, axis=0)])[:STEPS]
    np.testing.assert_allclose(steps, expected, **TOLERANCE)


def test_pytorchs_optimizer_survives_its_config():
    settings = Train(pytorch_sgd=True, weight_decay=0.25, momentum=0.5, nesterov=False)
    optimizer = build_optimizer(build_problem(), settings, 1)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    for group in again.optimizers:
        assert type(group) is PyTorchSGD
        assert (group.coupled_weight_decay, group.weight_decay, group.momentum, group.nesterov) == (
            0.25,
            None,
            0.5,
            False,
        )


def test_without_decay_and_schedule_coupled_is_the_same():
    name = "multi_nesterov"
    np.testing.assert_allclose(train(name), follow(torch_step, RUNS[name]["settings"]), **TOLERANCE)


def test_coupled_decay_is_ten_times_as_strong_in_the_long_run():
    settings = {"backbone_learning_rate": 0.02, "head_learning_rate": 0.02, "momentum": 0.9, "nesterov": True}
    settings |= {"weight_decay": 0.005, "restart_epochs": CONSTANT}
    model, steps = build_problem(), 200
    # The gradient is 0: only decay moves a weight.
    model.compile(build_optimizer(model, Train(**settings), 1), lambda _, outputs: 0 * outputs, jit_compile=False)
    model.fit(np.zeros((steps, 2)), np.zeros((steps, 1)), batch_size=1, verbose=0)
    weight, velocity = 1.0, 0.0
    for _ in range(steps):
        weight, velocity = torch_step(weight, 0.0, velocity, 0.02, 0.9, True, 0.005)
    left = np.concatenate([np.ravel(value) for value in model.get_weights()]) / start()
    np.testing.assert_allclose(left, (1 - 0.02 * 0.005) ** steps, rtol=2e-5)
    assert np.log(weight) / np.log(left[0]) == pytest.approx(10, rel=0.05)  # 1 / (1 - momentum)


def test_velocity_keeps_the_rates_of_its_gradients():
    name = "multi_nesterov_scheduled"
    difference = follow(torch_step, RUNS[name]["settings"]) - train(name)
    assert np.abs(difference[0]).max() < 1e-6  # The rate has not changed yet.
    assert np.abs(difference[-1]).max() == pytest.approx(0.1366, rel=0.01)


def test_no_variable_is_left_out():
    # tensorflow-addons leaves a layer that is in no group as it was, without a word; ours gives it the head's rate.
    assert (golden(NO_GROUP)[:, HEAD] == start()[HEAD]).all()
    assert (train(NO_GROUP)[0, HEAD] != start()[HEAD]).all()


@pytest.mark.parametrize("schedule", GOLDEN["schedules"], ids=lambda schedule: f"factor {schedule['factor']}")
def test_same_rates_as_tensorflow_2_15(schedule):
    settings = Train(
        backbone_learning_rate=1e-5,
        head_learning_rate=schedule["rate"],
        restart_epochs=schedule["period"],
        restart_factor=schedule["factor"],
    )
    group = build_optimizer(build_problem(), settings, 1).optimizers[-1]  # the head's
    for step, rate in zip(schedule["steps"], schedule["rates"], strict=True):
        group.iterations.assign(step)
        assert float(group.learning_rate) == pytest.approx(rate, rel=0, abs=1e-7)

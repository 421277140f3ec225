"""Writes tfa_optimizers.json: what tensorflow-addons' optimizers and TensorFlow 2.15's schedule do on a tiny problem.

tensorflow-addons does not import beside this project's TensorFlow: run it once, in a virtual environment of its own
(CPU, 1.3 GB):

    python3.11 -m venv tfa_venv
    tfa_venv/bin/pip install tensorflow-cpu==2.15.1 keras==2.15.0 "numpy<2" tensorflow-addons==0.23.0 "typeguard<3"
    CUDA_VISIBLE_DEVICES= tfa_venv/bin/python tests/golden/tfa_optimizers.py

The problem: `tanh(x W + b)`, the backbone, then `V h + c`, the head, under the mean squared error; every value is
written by hand, no bias is 0, and nothing is random.
"""

import json
import platform
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")  # tensorflow-addons' end of life

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tensorflow_addons as tfa  # noqa: E402

STEPS = 7  # With a first period of 2 steps, the schedule restarts before the third and the seventh.
INPUTS = [[0.5, -1.0], [1.5, 0.25], [-0.75, 2.0]]
TARGETS = [[1.0], [-0.5], [0.25]]
START = {
    "backbone": [[[0.3, -0.6], [0.8, 0.45]], [0.1, -0.2]],
    "head": [[[0.7], [-0.9]], [0.15]],
}
BACKBONE_RATE, HEAD_RATE, MOMENTUM, DECAY, PERIOD, FACTOR = 0.02, 0.2, 0.9, 0.05, 2, 2.0
# The last steps before and the first after each restart, and some between.
SCHEDULES = [
    {"rate": 0.1, "period": 10, "factor": 2.0, "steps": [0, 1, 5, 9, 10, 11, 20, 29, 30, 31, 69, 70, 71, 149, 150]},
    {"rate": 0.02, "period": 7, "factor": 1.0, "steps": [0, 3, 6, 7, 8, 13, 14, 69, 70]},
    {"rate": 0.5, "period": 4, "factor": 1.5, "steps": [0, 2, 3, 4, 5, 9, 10, 18, 19, 20]},
]


def build():
    layers = {
        "backbone": [tf.keras.layers.Dense(2, activation="tanh", name="block")],
        "head": [tf.keras.layers.Dense(1, name="dense")],
    }
    model = tf.keras.Sequential([tf.keras.Input((2,)), *layers["backbone"], *layers["head"]])
    for part, weights in START.items():
        layers[part][0].set_weights([np.array(value, "float32") for value in weights])
    return model, layers


def schedule(rate):
    return tf.keras.optimizers.schedules.CosineDecayRestarts(rate, PERIOD, t_mul=FACTOR)


def two_rates(optimizer_of_rate):
    """Returns what makes a MultiOptimizer of the model's layers, with `optimizer_of_rate` at either rate."""
    return lambda layers: tfa.optimizers.MultiOptimizer(
        [
            (optimizer_of_rate(BACKBONE_RATE), layers["backbone"]),
            (optimizer_of_rate(HEAD_RATE), layers["head"]),
        ]
    )


def sgd(rate, *, momentum=MOMENTUM, nesterov=False, **arguments):
    return tf.keras.optimizers.SGD(rate, momentum=momentum, nesterov=nesterov, **arguments)


def sgdw(rate, weight_decay, nesterov=False):
    return tfa.optimizers.SGDW(weight_decay, learning_rate=rate, momentum=MOMENTUM, nesterov=nesterov)


# Name -> (what our settings say, what makes the optimizer).
RUNS = {
    "sgd_frozen_backbone": (
        {"backbone_learning_rate": 0.0, "momentum": 0.0, "nesterov": False},
        lambda layers: sgd(HEAD_RATE, momentum=0.0),
    ),
    "momentum_frozen_backbone": (
        {"backbone_learning_rate": 0.0, "nesterov": False},
        lambda layers: sgd(HEAD_RATE),
    ),
    "nesterov_frozen_backbone": (
        {"backbone_learning_rate": 0.0, "nesterov": True},
        lambda layers: sgd(HEAD_RATE, nesterov=True),
    ),
    "multi_momentum": ({"nesterov": False}, two_rates(sgd)),
    "multi_nesterov": ({"nesterov": True}, two_rates(lambda rate: sgd(rate, nesterov=True))),
    "multi_nesterov_scheduled": (
        {"nesterov": True, "restart_epochs": PERIOD},
        two_rates(lambda rate: sgd(schedule(rate), nesterov=True)),
    ),
    "multi_head_in_no_group": (
        {"nesterov": True},
        lambda layers: tfa.optimizers.MultiOptimizer([(sgd(BACKBONE_RATE, nesterov=True), layers["backbone"])]),
    ),
    "multi_keras_decay_nesterov": (  # Keras 2.15's own decoupled decay
        {"nesterov": True, "weight_decay": DECAY},
        two_rates(lambda rate: sgd(rate, nesterov=True, weight_decay=DECAY)),
    ),
    "multi_sgdw_momentum_rate_times_decay": (
        {"nesterov": False, "weight_decay": DECAY},
        two_rates(lambda rate: sgdw(rate, rate * DECAY)),
    ),
    "multi_sgdw_nesterov_rate_times_decay": (
        {"nesterov": True, "weight_decay": DECAY},
        two_rates(lambda rate: sgdw(rate, rate * DECAY, nesterov=True)),
    ),
    "multi_sgdw_nesterov_same_decay": (
        {"nesterov": True, "weight_decay": DECAY},
        two_rates(lambda rate: sgdw(rate, DECAY, nesterov=True)),
    ),
    "multi_sgdw_nesterov_scheduled_rate_times_decay": (  # the decay follows the schedule too
        {"nesterov": True, "weight_decay": DECAY, "restart_epochs": PERIOD},
        two_rates(lambda rate: sgdw(schedule(rate), schedule(rate * DECAY), nesterov=True)),
    ),
    "multi_sgdw_nesterov_scheduled_rate_constant_decay": (
        {"nesterov": True, "weight_decay": DECAY, "restart_epochs": PERIOD},
        two_rates(lambda rate: sgdw(schedule(rate), rate * DECAY, nesterov=True)),
    ),
}


def run(optimizer_of_layers, frozen_backbone):
    """Returns the weights after each step, flat: backbone kernel and bias, head kernel and bias."""
    model, layers = build()
    layers["backbone"][0].trainable = not frozen_backbone
    model.compile(optimizer_of_layers(layers), "mse")
    rows = []
    for _ in range(STEPS):
        model.train_on_batch(np.array(INPUTS, "float32"), np.array(TARGETS, "float32"))
        weights = layers["backbone"][0].get_weights() + layers["head"][0].get_weights()
        rows.append(shortest(np.concatenate([value.ravel() for value in weights])))
    return rows


def shortest(values):
    """Returns float32 values as the floats of fewest digits that read back as the same float32."""
    return [float(str(np.float32(value))) for value in values]


def main():
    base = {"head_learning_rate": HEAD_RATE, "momentum": MOMENTUM, "weight_decay": 0.0, "restart_factor": FACTOR}
    runs = {}
    for name, (settings, optimizer_of_layers) in RUNS.items():
        settings = base | {"backbone_learning_rate": BACKBONE_RATE} | settings
        runs[name] = {
            "settings": settings,
            "weights": run(optimizer_of_layers, settings["backbone_learning_rate"] == 0),
        }
    rates = []
    for entry in SCHEDULES:
        cosine = tf.keras.optimizers.schedules.CosineDecayRestarts(
            entry["rate"], entry["period"], t_mul=entry["factor"]
        )
        rates.append(entry | {"rates": shortest([cosine(step).numpy() for step in entry["steps"]])})
    golden = {
        "versions": {
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "tensorflow-addons": tfa.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "problem": {"inputs": INPUTS, "targets": TARGETS, "start": START},
        "runs": runs,
        "schedules": rates,
    }
    Path(__file__).with_suffix(".json").write_text(dump(golden) + "\n", encoding="utf-8")


def dump(value, indent=""):
    """Returns JSON with a line for each list of numbers."""
    if isinstance(value, dict):
        items = [f"{indent}  {json.dumps(name)}: {dump(item, indent + '  ')}" for name, item in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list) and value and not isinstance(value[0], int | float):
        return "[\n" + ",\n".join(f"{indent}  {dump(item, indent + '  ')}" for item in value) + f"\n{indent}]"
    return json.dumps(value)


if __name__ == "__main__":
    main()

"""The device that a run computes on, and whether it comes to the same bits each time."""

import contextlib
import os
import random

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.framework import config as framework

from affect.errors import InputError


def describe_device(settings):
    """Describes what a run computes on and how, as its `config.json` holds it.

    Args:
        settings: `affect.config.Train`.

    Returns:
        Dict: `name` of the device, `"CPU"` where there is no accelerator; `precision`; and `deterministic`, whether
        a run comes to the same bits when it is repeated on this device.

    Raises:
        InputError: When the backend cannot be deterministic as it was started.
    """
    name, backend = _accelerator(), keras.backend.backend()
    deterministic = name is None if settings.deterministic is None else settings.deterministic
    if deterministic and name and backend == "jax" and "--xla_gpu_deterministic_ops" not in os.getenv("XLA_FLAGS", ""):
        raise InputError(
            "JAX is deterministic on an accelerator only when it is started so. Set the environment variable "
            "XLA_FLAGS=--xla_gpu_deterministic_ops=true for this command, or leave train.deterministic=null."
        )
    return {"name": name or "CPU", "precision": settings.precision, "deterministic": deterministic}


def _accelerator():
    """Returns the name of the accelerator that Keras's backend computes on, or `None`."""
    if keras.backend.backend() == "jax":
        import jax

        device = jax.devices()[0]
        return None if device.platform == "cpu" else device.device_kind
    if keras.backend.backend() == "torch":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else None
    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else None


def leave_accelerator_to_backend():
    """Keeps TensorFlow, which reads shards on every backend, from taking the memory of a GPU that another one needs."""
    if keras.backend.backend() != "tensorflow":
        with contextlib.suppress(RuntimeError):  # TensorFlow has begun already, and the devices are as they are.
            tf.config.set_visible_devices([], "GPU")


@contextlib.contextmanager
def repeatable(seed, deterministic):
    """Context in which random numbers follow from a seed, and TensorFlow's operations are deterministic or need not be.

    Both are settings of the process. After it they are what they were: the generators of Python and NumPy go on from
    where they stood, and TensorFlow's begins at the seed it had.

    Args:
        seed: Of Python, NumPy and the backend.
        deterministic: Whether an operation gives the same bits each time. Keras does not use XLA where it does.
    """
    states, tf_seed = (random.getstate(), np.random.get_state()), context.global_seed()
    was_deterministic = framework.is_op_determinism_enabled()
    keras.utils.set_random_seed(seed)
    _set_determinism(deterministic)
    try:
        yield
    finally:
        _set_determinism(was_deterministic)
        tf.random.set_seed(tf_seed)
        random.setstate(states[0])
        np.random.set_state(states[1])


def _set_determinism(deterministic):
    # TensorFlow exports how it is switched on, and not how it is switched off.
    (framework.enable_op_determinism if deterministic else framework.disable_op_determinism)()

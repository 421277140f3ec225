"""The device that a run computes on, versions of what computes, and whether a repeated run gives the same bits."""

import contextlib
import os
import platform
import random
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.framework import config as framework

import affect
from affect.config import Train
from affect.errors import InputError


def list_versions() -> dict[str, str]:
    """Returns the versions of affect, Keras, TensorFlow, NumPy and Python by name, and of JAX where it computes."""
    return {
        "affect": affect.__version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        **({"jax": version("jax")} if keras.backend.backend() == "jax" else {}),
    }


def describe_device(config: Train, *, devices: int = 1, processes: int = 1) -> dict[str, Any]:
    """Describes the device of a run and how it computes, as in the run's `config.json`.

    Args:
        config: `precision` and `deterministic` are used.
        devices: How many devices compute.
        processes: How many processes these belong to.

    Returns:
        Dict of `name`, `"CPU"` without an accelerator; `precision`; `deterministic`, whether a run gives the same bits
        when it is repeated on this device; `devices`, the number that compute; `visible`, the number that could;
        `processes`; and the `backend` of Keras.

    Raises:
        InputError: When the backend was started so that it cannot be deterministic.
    """
    (name, visible), backend = _find_accelerators(), keras.backend.backend()
    deterministic = name is None if config.deterministic is None else config.deterministic
    if deterministic and name and backend == "jax" and "--xla_gpu_deterministic_ops" not in os.getenv("XLA_FLAGS", ""):
        raise InputError(
            "JAX is deterministic on an accelerator only when it is started so. Set the environment variable "
            "XLA_FLAGS=--xla_gpu_deterministic_ops=true for this command, or leave train.deterministic=null."
        )
    return {
        "name": name or "CPU",
        "precision": config.precision,
        "deterministic": deterministic,
        "devices": devices,
        "visible": visible,
        "processes": processes,
        "backend": backend,
    }


def _find_accelerators() -> tuple[str | None, int]:
    """Returns the name of the accelerators on which Keras's backend can compute, or `None`, and their number."""
    if keras.backend.backend() == "jax":
        import jax

        device = jax.devices()[0]
        return None if device.platform == "cpu" else device.device_kind, jax.device_count()
    if keras.backend.backend() == "torch":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else None, 1
    gpus = tf.config.list_physical_devices("GPU")
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else None
    return name, max(1, len(gpus))


def leave_accelerator_to_backend() -> None:
    """Hides the GPU from TensorFlow, which reads shards on every backend, if another backend needs the GPU's memory."""
    if keras.backend.backend() != "tensorflow":
        with contextlib.suppress(RuntimeError):  # TensorFlow has started already, and its devices are fixed.
            tf.config.set_visible_devices([], "GPU")


@contextlib.contextmanager
def make_repeatable(seed: int, deterministic: bool) -> Iterator[None]:
    """Sets the seed of all random numbers and the determinism of TensorFlow's operations, for a `with` block.

    Both belong to the process. The end of the block restores them: the generators of Python and NumPy continue
    where they were, and TensorFlow's generator starts again at its former seed.

    Args:
        seed: Of Python, NumPy and the backend.
        deterministic: Whether an operation gives the same bits each time. If so, Keras does not use XLA.
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


def _set_determinism(deterministic: bool) -> None:
    # TensorFlow exports the function that enables it, but not the function that disables it.
    (framework.enable_op_determinism if deterministic else framework.disable_op_determinism)()

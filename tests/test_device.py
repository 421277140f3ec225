"""Settings of the process that a run needs: they end with it."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from affect.config import Train
from affect.models.device import describe_device, make_repeatable
from affect.models.precision import use_precision


def is_deterministic():
    """Whether random operations without a seed are refused, as TensorFlow does where operations are deterministic."""
    tf.random.set_seed(None)
    try:
        tf.random.uniform(())
    except RuntimeError:
        return True
    return False


@pytest.mark.parametrize("deterministic", [True, False])
def test_seeds_and_determinism_end_with_the_run(deterministic):
    random.seed(5), np.random.seed(5)
    expected = random.random(), np.random.rand()
    random.seed(5), np.random.seed(5)
    with pytest.raises(KeyboardInterrupt), make_repeatable(0, deterministic):
        random.random(), np.random.rand(), tf.random.uniform(())
        assert is_deterministic() == deterministic
        raise KeyboardInterrupt
    assert (random.random(), np.random.rand()) == expected
    assert not is_deterministic()


def test_the_same_seed_gives_the_same_numbers():
    drawn = []
    for _ in range(2):
        with make_repeatable(3, deterministic=True):
            drawn.append((random.random(), np.random.rand(), float(tf.random.uniform(()))))
    assert drawn[0] == drawn[1]


def test_precision_is_of_what_is_built_within():
    with use_precision("bfloat16"):
        half = keras.layers.Dense(1)
        with use_precision("float32"):
            assert keras.layers.Dense(1).compute_dtype == "float32"
    assert (half.compute_dtype, half.variable_dtype) == ("bfloat16", "float32")
    assert keras.config.dtype_policy().name == "float32"


def test_a_cpu_alone_is_deterministic_unless_told_otherwise():
    on_cpu = not tf.config.list_physical_devices("GPU")
    described = describe_device(Train())
    assert (described["name"] == "CPU", described["deterministic"]) == (on_cpu, on_cpu)
    assert described["precision"] == "float32"
    for deterministic in (True, False):
        described = describe_device(Train(precision="float16", deterministic=deterministic))
        assert (described["precision"], described["deterministic"]) == ("float16", deterministic)

"""The precision in which a network computes."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from affect.config.experiment import Precision

# Precision → dtype policy of Keras. In each of them weights are float32, and attention and pooling compute in float32.
POLICIES: dict[Precision, str] = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


@contextmanager
def use_precision(precision: Precision) -> Iterator[None]:
    """Sets the precision of the layers that are built in a `with` block, or in a decorated function."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(POLICIES[precision])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)

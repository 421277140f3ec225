"""What a network computes in."""

from contextlib import contextmanager

import keras

# Precision → dtype policy of Keras. Weights are float32 in each of them, and so are attention and pooling.
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


@contextmanager
def computing_in(precision):
    """Context, or decorator, in which layers are built that compute in a precision, whatever the process has set.

    Args:
        precision: `"float32"`, `"bfloat16"` or `"float16"`.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(POLICIES[precision])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)

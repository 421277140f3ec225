"""Tensors in a server's messages. Names, dtypes, shapes and sizes are checked before an array is made."""

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from affect.errors import InputError

# Kind of a dtype → kinds of arrays that JSON may give for it.
JSON_KINDS = {"f": "fiu", "b": "b", "i": "iu", "u": "iu"}
# dtype → field of a `TensorProto` that holds its values, if they are not its `tensor_content`. Others are in `int_val`.
FIELDS = {
    "float16": "half_val",
    "bfloat16": "half_val",
    "float32": "float_val",
    "float64": "double_val",
    "int64": "int64_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "bool": "bool_val",
    "string": "string_val",
}


@dataclass(frozen=True)
class ServedSignature:
    """What a server says that a signature takes and gives.

    Args:
        inputs: Name → `tf.TensorSpec`.
        outputs: Name → `tf.TensorSpec`.
    """

    inputs: dict[str, Any]
    outputs: dict[str, Any]


def read_signatures(found: Any) -> dict[str, ServedSignature]:
    """Reads the signatures that take inputs.

    Args:
        found: A `SignatureDefMap`.

    Raises:
        TypeError: On a dtype that there is not.
        ValueError: On a shape that there is not, or a dtype that no array has.
    """
    return {
        name: ServedSignature(_specify(signature.inputs), _specify(signature.outputs))
        for name, signature in found.signature_def.items()
        if signature.inputs
    }


def _specify(infos):
    specs = {}
    for name, info in infos.items():
        dtype = tf.dtypes.as_dtype(info.dtype)
        if not (dtype.is_floating or dtype.is_integer or dtype in (tf.bool, tf.string)):
            raise ValueError(f"the tensor {name} is {dtype.name}")
        specs[name] = tf.TensorSpec(tf.TensorShape(info.tensor_shape), dtype)
    return specs


def check_input(name: str, value: Any, spec: Any) -> np.ndarray:
    """Returns an input as an array of the dtype that it must have; strings as Python's bytes.

    Args:
        name: Name of the input.
        value: Array or nested lists.
        spec: Its `tf.TensorSpec`.

    Raises:
        InputError: On another dtype, because it would be rounded; on NaN and infinity.
    """
    array = np.asarray(value)
    is_string = array.dtype.kind in "SO"
    if is_string != (spec.dtype == tf.string) or not (is_string or array.dtype == spec.dtype.as_numpy_dtype):
        raise InputError(f"The input {name} must be {spec.dtype.name}. Received: {array.dtype}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"The input {name} must be finite. Received: NaN or infinity")
    return array.astype(object) if is_string else array


def free_sizes(arrays: Mapping[str, np.ndarray], signature: ServedSignature) -> dict[int, int]:
    """Returns axis → size of the axes that a signature leaves free, such as clips and frames, as the inputs have them.

    Args:
        arrays: Inputs by name.
        signature: Their signature.
    """
    sizes: dict[int, int] = {}
    for name, spec in signature.inputs.items():
        if spec.shape.rank == arrays[name].ndim:
            for axis, (size, found) in enumerate(zip(spec.shape.as_list(), arrays[name].shape, strict=True)):
                if size is None:
                    sizes.setdefault(axis, found)
    return sizes


def read_messages(
    messages: Mapping[str, Any], signature: ServedSignature, sizes: Mapping[int, int], most_bytes: int
) -> dict[str, np.ndarray]:
    """Reads the outputs of a gRPC answer.

    Args:
        messages: Name → `TensorProto`.
        signature: What the outputs must be.
        sizes: From `free_sizes`.
        most_bytes: Size in bytes of all arrays together. A message of one number may claim an array of any size.

    Raises:
        ValueError: If an output is missing, has another dtype or shape, is too large or not finite.
        TypeError: If numbers and dtype do not belong together.
    """
    _check_names(messages, signature)
    total = 0
    for name, spec in signature.outputs.items():
        message = messages[name]
        if message.dtype != spec.dtype.as_datatype_enum:
            raise ValueError(f"{name} is no {spec.dtype.name}")
        shape = [dim.size for dim in message.tensor_shape.dim]
        _check_shape(name, shape, spec, sizes)
        count = math.prod(shape)
        if count and not message.tensor_content and not getattr(message, FIELDS.get(spec.dtype.name, "int_val")):
            raise ValueError(f"{name} holds no values")  # TensorFlow would read zeros
        total += count * spec.dtype.size
    if total > most_bytes:
        raise ValueError(f"its arrays would have {total / 2**20:.0f} MiB, more than {most_bytes / 2**20:g} MiB")
    return {name: _check_finite(name, tf.make_ndarray(messages[name])) for name in signature.outputs}


def read_lists(lists: Mapping[str, Any], signature: ServedSignature, sizes: Mapping[int, int]) -> dict[str, np.ndarray]:
    """Reads the outputs of a JSON answer.

    Args:
        lists: Name → nested lists.
        signature: What the outputs must be.
        sizes: From `free_sizes`.

    Raises:
        ValueError: If an output is missing, or has another dtype or shape, or is not finite.
    """
    _check_names(lists, signature)
    return {name: _read_list(name, lists[name], spec, sizes) for name, spec in signature.outputs.items()}


def _read_list(name, values, spec, sizes):
    is_string = spec.dtype == tf.string
    array = np.array(_map_nested(values, _decode_string), object) if is_string else np.array(values)
    _check_shape(name, array.shape, spec, sizes)
    if is_string:
        if not all(isinstance(value, bytes) for value in array.flat):
            raise ValueError(f"{name} is no string")
        return array
    dtype = np.dtype(spec.dtype.as_numpy_dtype)
    if array.dtype.kind not in JSON_KINDS.get(dtype.kind, "f"):
        raise ValueError(f"{name} is no {spec.dtype.name}")
    with np.errstate(over="ignore"):  # is infinite then
        found = array.astype(dtype)
    if dtype.kind in "iu" and not np.array_equal(found, array):
        raise ValueError(f"{name} is no {spec.dtype.name}")
    return _check_finite(name, found)


def _decode_string(value):
    if isinstance(value, dict) and set(value) == {"b64"}:
        value = value["b64"]
        return base64.b64decode(value, validate=True) if isinstance(value, str) else value
    return value.encode() if isinstance(value, str) else value


def to_lists(array: np.ndarray) -> Any:
    """Returns an array as lists for JSON; strings in base64."""
    if array.dtype != object:
        return array.tolist()
    return _map_nested(array.tolist(), lambda value: {"b64": base64.b64encode(value).decode()})


def _map_nested(values, function):
    return [_map_nested(value, function) for value in values] if isinstance(values, list) else function(values)


def _check_names(found, signature):
    if set(found) != set(signature.outputs):
        names = sorted(map(str, found))
        raise ValueError(f"expected the outputs {sorted(signature.outputs)}, received {names[:9]}")


def _check_shape(name, shape, spec, sizes):
    if spec.shape.rank is None:
        if any(size < 0 for size in shape):
            raise ValueError(f"{name} has the shape {list(shape)[:9]}")
        return
    expected = [sizes.get(axis) if size is None else size for axis, size in enumerate(spec.shape.as_list())]
    if len(shape) != len(expected) or any(
        found < 0 or size not in (None, found) for found, size in zip(shape, expected, strict=True)
    ):
        raise ValueError(f"{name} has the shape {list(shape)[:9]}, expected {expected}")


def _check_finite(name, array):
    if array.dtype.kind not in "OSbiu" and not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return array

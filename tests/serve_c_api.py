"""Answers requests to SavedModels through TensorFlow's C API, as TF Serving's loader does, and not in Python.

python serve_c_api.py MODEL REQUESTS ANSWERS [MODEL REQUESTS ANSWERS]...

REQUESTS is an .npz of arrays `request/signature/tensor`; ANSWERS has the outputs by the same kind of names, or the
error of a request as `request/signature/error`.
"""

import ctypes
import importlib.util
import sys
from ctypes import POINTER, c_char, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path

import numpy as np

WHEEL = Path(importlib.util.find_spec("tensorflow").submodule_search_locations[0])
BASE = ctypes.CDLL(str(WHEEL / "libtensorflow_framework.so.2"), ctypes.RTLD_GLOBAL)
API = ctypes.CDLL(str(WHEEL / "libtensorflow_cc.so.2"), ctypes.RTLD_GLOBAL)
STRING, STRING_BYTES = 7, 24
DTYPES = {1: np.float32, 3: np.int32, 4: np.uint8, 9: np.int64, 10: np.bool_}


class Buffer(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("length", c_size_t), ("deallocator", c_void_p)]


class Output(ctypes.Structure):
    _fields_ = [("operation", c_void_p), ("index", c_int)]


def function(name, result, *arguments):
    found = getattr(API, name, None) or getattr(BASE, name)
    found.restype, found.argtypes = result, arguments
    return found


new_status = function("TF_NewStatus", c_void_p)
code = function("TF_GetCode", c_int, c_void_p)
message = function("TF_Message", c_char_p, c_void_p)
new_graph = function("TF_NewGraph", c_void_p)
new_options = function("TF_NewSessionOptions", c_void_p)
new_buffer = function("TF_NewBuffer", POINTER(Buffer))
load = function(
    "TF_LoadSessionFromSavedModel",
    c_void_p,
    *(c_void_p, c_void_p, c_char_p, POINTER(c_char_p), c_int, c_void_p, POINTER(Buffer), c_void_p),
)
operation = function("TF_GraphOperationByName", c_void_p, c_void_p, c_char_p)
allocate = function("TF_AllocateTensor", c_void_p, c_int, POINTER(c_int64), c_int, c_size_t)
tensor_data = function("TF_TensorData", c_void_p, c_void_p)
tensor_type = function("TF_TensorType", c_int, c_void_p)
tensor_rank = function("TF_NumDims", c_int, c_void_p)
tensor_size = function("TF_Dim", c_int64, c_void_p, c_int)
string_init = function("TF_StringInit", None, c_void_p)
string_copy = function("TF_StringCopy", None, c_void_p, c_char_p, c_size_t)
string_bytes = function("TF_StringGetDataPointer", POINTER(c_char), c_void_p)
string_size = function("TF_StringGetSize", c_size_t, c_void_p)
run = function(
    "TF_SessionRun",
    None,
    *(c_void_p, c_void_p, POINTER(Output), POINTER(c_void_p), c_int, POINTER(Output), POINTER(c_void_p), c_int),
    *(c_void_p, c_int, c_void_p, c_void_p),
)


def fields(content):
    """Yields (number, value) of the fields of a serialised protobuf message; a value is an int or bytes."""
    place = 0

    def varint():
        nonlocal place
        value = shift = 0
        while True:
            byte = content[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(content):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
        else:
            length = {1: 8, 5: 4}[kind] if kind != 2 else varint()
            yield key >> 3, content[place : place + length]
            place += length


def entries(content, number):
    """Returns a map field: key → serialised value."""
    found = (dict(fields(value)) for field, value in fields(content) if field == number)
    return {entry[1].decode(): entry[2] for entry in found}


def place_of(graph, tensor_info):
    name, index = dict(fields(tensor_info))[1].decode().split(":")
    found = operation(graph, name.encode())
    assert found, name
    return Output(found, int(index))


def to_tensor(array):
    sizes = (c_int64 * array.ndim)(*array.shape)
    if array.dtype.kind in "SO":
        tensor = allocate(STRING, sizes, array.ndim, STRING_BYTES * array.size)
        for index, value in enumerate(array.ravel().tolist()):
            slot = tensor_data(tensor) + STRING_BYTES * index
            string_init(slot)
            string_copy(slot, value, len(value))
        return tensor
    (kind,) = (number for number, dtype in DTYPES.items() if dtype == array.dtype)
    tensor = allocate(kind, sizes, array.ndim, array.nbytes)
    ctypes.memmove(tensor_data(tensor), np.ascontiguousarray(array).ctypes.data, array.nbytes)
    return tensor


def to_array(tensor):
    shape = tuple(tensor_size(tensor, axis) for axis in range(tensor_rank(tensor)))
    count = int(np.prod(shape))
    if tensor_type(tensor) == STRING:
        slots = [tensor_data(tensor) + STRING_BYTES * index for index in range(count)]
        return np.array([string_bytes(slot)[: string_size(slot)] for slot in slots], "S").reshape(shape)
    dtype = np.dtype(DTYPES[tensor_type(tensor)])
    content = ctypes.string_at(tensor_data(tensor), count * dtype.itemsize)
    return np.frombuffer(content, dtype).reshape(shape)


def answer(model, requests):
    """Returns the answers of a model to requests, both as arrays by name."""
    status, graph, meta_graph = new_status(), new_graph(), new_buffer()
    tags = (c_char_p * 1)(b"serve")
    session = load(new_options(), None, str(model).encode(), tags, 1, graph, meta_graph, status)
    assert code(status) == 0, message(status)
    definition = ctypes.string_at(meta_graph.contents.data, meta_graph.contents.length)
    signatures = entries(definition, 5)
    answers = {}
    for request in sorted({name.rpartition("/")[0] for name in requests}):
        signature = signatures[request.partition("/")[2]]
        inputs = {name: place_of(graph, info) for name, info in entries(signature, 1).items()}
        outputs = {name: place_of(graph, info) for name, info in entries(signature, 2).items()}
        tensors = [to_tensor(requests[f"{request}/{name}"]) for name in inputs]
        results = (c_void_p * len(outputs))()
        fed, fetched = (Output * len(inputs))(*inputs.values()), (Output * len(outputs))(*outputs.values())
        values = (c_void_p * len(tensors))(*tensors)
        run(session, None, fed, values, len(fed), fetched, results, len(fetched), None, 0, None, status)
        if code(status):
            answers[f"{request}/error"] = np.array(f"{code(status)}: {message(status).decode()}")
        else:
            answers |= {f"{request}/{name}": to_array(tensor) for name, tensor in zip(outputs, results, strict=True)}
    return answers


if __name__ == "__main__":
    for model, requests, answers in zip(*[iter(sys.argv[1:])] * 3, strict=True):
        with np.load(requests) as arrays:
            np.savez(answers, **answer(model, dict(arrays)))
    assert not {"tensorflow", "keras", "affect"} & set(sys.modules)

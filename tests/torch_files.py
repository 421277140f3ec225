"""PyTorch's two serialisations of a state dict, written without PyTorch."""

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from unittest import mock

from affect.models.weights import TORCH_MAGIC


class FloatStorage:
    __module__ = "torch"

    def __init__(self, key, array):
        self.key, self.array = key, array


def _rebuild_tensor_v2(*arguments):
    raise AssertionError("to be pickled by its name, never called")


_rebuild_tensor_v2.__module__ = "torch._utils"


class Tensor:
    def __init__(self, storage):
        self.storage = storage

    def __reduce__(self):
        array = self.storage.array
        strides = tuple(stride // array.itemsize for stride in array.strides)
        return _rebuild_tensor_v2, (self.storage, 0, array.shape, strides, False, OrderedDict())


def torch_pickle(value):
    torch = types.SimpleNamespace(FloatStorage=FloatStorage)
    utils = types.SimpleNamespace(_rebuild_tensor_v2=_rebuild_tensor_v2)
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol=2)
    pickler.persistent_id = lambda value: (
        ("storage", FloatStorage, value.key, "cpu", value.array.size) if isinstance(value, FloatStorage) else None
    )
    with mock.patch.dict(sys.modules, {"torch": torch, "torch._utils": utils}):
        pickler.dump(value)
    return file.getvalue()


def write_pth(path, tensors, form):
    """Writes a state dict; `tensors` may also be the bytes of its pickle, which has no storages then."""
    storages = []
    if isinstance(tensors, bytes):
        program = tensors
    else:
        storages = [FloatStorage(str(key), array) for key, array in enumerate(tensors.values())]
        program = torch_pickle(OrderedDict(zip(tensors, map(Tensor, storages), strict=True)))
    if form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", program)
            archive.writestr("archive/byteorder", "little")
            for storage in storages:
                archive.writestr(f"archive/data/{storage.key}", storage.array.tobytes())
    else:
        machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
        head = b"".join(pickle.dumps(value, protocol=2) for value in (TORCH_MAGIC, 1001, machine))
        with open(path, "wb") as file:
            file.write(head + program + pickle.dumps([storage.key for storage in storages], protocol=2))
            for storage in storages:
                file.write(storage.array.size.to_bytes(8, "little") + storage.array.tobytes())
    return path

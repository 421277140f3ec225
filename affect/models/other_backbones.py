"""Backbones that others have published as Keras models: of Keras Applications, of KerasHub, in a file, or given."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from affect.errors import InputError, first_line
from affect.extras import require
from affect.layers.pixel_scaling import PixelScaling
from affect.models.blocks import measure_strides
from affect.models.network import FeatureNetwork
from affect.models.precision import POLICIES
from affect.models.published import check_weights, name_own_weights

# Sides, in pixels, of the images that a model of Keras Applications was trained on, where they are not 224.
APPLICATION_SIZES = {
    **{"EfficientNetB1": 240, "EfficientNetB2": 260, "EfficientNetB3": 300, "EfficientNetB4": 380},
    **{"EfficientNetB5": 456, "EfficientNetB6": 528, "EfficientNetB7": 600},
    **{"EfficientNetV2B1": 240, "EfficientNetV2B2": 260, "EfficientNetV2B3": 300},
    **{"EfficientNetV2S": 384, "EfficientNetV2M": 480, "EfficientNetV2L": 480},
    **{"InceptionResNetV2": 299, "InceptionV3": 299, "Xception": 299, "NASNetLarge": 331},
}
# What a source returns: the model; arguments of `PixelScaling` from RGB pixels of 0 to 255, `None` if it takes such
# pixels; and the side of its images, `None` if the model itself says it.
Found = tuple[keras.Model, dict[str, Any] | None, int | None]


def build_other(name: str, *, weights: str | None, face_size: int | None, output_stride: int | None) -> keras.Model:
    """Builds a backbone that is not in `affect.models.backbones.BACKBONES`.

    Args:
        name: `"applications/NAME"`, a model of `keras.applications`; `"hub/PRESET"`, a preset of KerasHub; or the path
            of a file `.keras`, which holds a model from images to maps.
        weights: As in `affect.models.backbones.build_backbone`.
        face_size: As there.
        output_stride: As there.

    Raises:
        InputError: When a name, size or stride is unknown, or weights cannot be had.
    """
    check_weights(name, weights)
    own = weights == name_own_weights(name)
    source, _, rest = name.partition("/")
    model, scaling, size = (
        SOURCES[source](rest, own, face_size) if source in SOURCES else _read_file(name, own, face_size)
    )
    if weights is not None and not own:
        kinds = (OSError, ValueError, KeyError, TypeError, UserWarning)
        with _one_line(f"The weights {weights} do not fit {name}", *kinds), warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras only warns of layers that a file does not have
            model.load_weights(weights)
    return adopt(model, face_size or size, output_stride, scaling, name)


def adopt(
    model: keras.Model,
    face_size: int | None = None,
    output_stride: int | None = None,
    scaling: dict[str, Any] | None = None,
    name: str = "the backbone that was given",
) -> keras.Model:
    """Makes a backbone of a Keras model from images to maps. The model is copied, and does not change.

    The copy has the precision that is set now (`affect.models.precision`). A 1×1 convolution with a stride, whose
    gradient corrupts memory in TensorFlow 2.21 with oneDNN, is replaced by taking every second pixel and then a 1×1
    convolution, which gives the same numbers.

    Args:
        model: Functional or Sequential model from images (B, H, W, 3) to maps (B, h, w, D).
        face_size: Side of the square faces in pixels; `None` is the size of the model's own input.
        output_stride: Pixels between two locations of the feature map; `None` is the model's own. With another one, the
            copy ends at the last map of this stride.
        scaling: Arguments of `PixelScaling`, from RGB pixels of 0 to 255 to what the model expects; `None` passes the
            pixels on.
        name: What the model is, for the error.

    Returns:
        As `affect.models.backbones.build_backbone`.

    Raises:
        InputError: When the model has other inputs or outputs, is not functional, or lacks the size or the stride.
    """
    if not hasattr(model, "operations") and not isinstance(model, keras.Sequential):
        raise InputError(
            f"Expected {name} to be a functional or Sequential keras.Model. Received: {type(model).__name__}"
        )
    shapes = [[tuple(tensor.shape) for tensor in tensors] for tensors in (model.inputs or (), model.outputs or ())]
    if any(len(own) != 1 or len(own[0]) != 4 for own in shapes) or shapes[0][0][-1] != 3:
        raise InputError(
            f"Expected {name} to map images (B, H, W, 3) to maps (B, h, w, D). Received: a model from {shapes[0]} to "
            f"{shapes[1]}"
        )
    sides, size = {*shapes[0][0][1:3]}, face_size or shapes[0][0][1]
    if size is None or not sides <= {size, None}:
        wanted = "faces of any size. Give model.face_size" if size is None else f"faces of {shapes[0][0][1:3]} pixels"
        raise InputError(f"{name} takes {wanted}. Received: face_size={face_size!r}")
    model = keras.Model(model.inputs[0], model.outputs[0])  # a Sequential model becomes a functional one
    faces = keras.Input((size, size, 3), name="faces")
    pixels = faces if scaling is None else PixelScaling(**scaling, name="pixel_scaling")(faces)
    copy = _Copy(faces, pixels)
    with keras.name_scope("backbone"), _one_line(f"{name} does not take faces of {size} pixels", ValueError, TypeError):
        copied = keras.models.clone_model(
            model, input_tensors=faces, clone_function=copy.make, call_function=copy.call, recursive=True
        )
    copied.set_weights(model.get_weights())
    _finish_state(copied)
    last = copied.output if output_stride is None else _find_map(copied, output_stride, name)
    return FeatureNetwork(faces, last, name="backbone")


class _Copy:
    """How the layers of a model are made again, and called."""

    def __init__(self, faces: Any, pixels: Any):
        self.faces, self.pixels = faces, pixels
        self.strides: dict[str, Any] = {}  # name of a 1×1 convolution → its stride, which it no longer has

    def make(self, layer: Any) -> Any:
        config = layer.get_config()
        if isinstance(layer, keras.Layer) and layer.dtype_policy.name in POLICIES.values():
            # Pixels are scaled in float32, as in `PixelScaling`.
            scales = isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization)
            config["dtype"] = "float32" if scales else keras.config.dtype_policy().name
        if type(layer) is keras.layers.Conv2D and layer.kernel_size == (1, 1) and max(layer.strides) > 1:
            self.strides[layer.name] = layer.strides
            config["strides"] = 1
        return type(layer).from_config(config)

    def call(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = keras.tree.map_structure(lambda x: self.pixels if x is self.faces else x, (args, kwargs))
        if strides := self.strides.get(layer.name):
            args = (keras.layers.MaxPooling2D(1, strides, name=f"{layer.name}_subsample")(args[0]), *args[1:])
        return layer(*args, **kwargs)


def _finish_state(model: keras.Model) -> None:
    """Makes the layers that normalise pixels read their weights, which were set from outside."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            _finish_state(layer)
        elif isinstance(layer, keras.layers.Normalization) and layer.weights:
            layer.finalize_state()


def _find_map(model: keras.Model, output_stride: int, name: str) -> Any:
    """Returns the last map of a stride."""
    strides, found = measure_strides(model), {}
    side = model.input.shape[1]
    for operation in model.operations:
        outputs, stride = keras.tree.flatten(operation.output), strides[operation.name]
        shape = outputs[0].shape
        # A padded map is larger, and one that is averaged over all locations is smaller.
        if stride > 1 and len(shape) == 4 and abs(shape[1] - side / stride) < 1:
            found[stride] = outputs[0]
    if output_stride not in found:
        raise InputError(
            f"Unknown `output_stride` of backbone {name!r}. Expected one of {sorted(found)}. "
            f"Received: output_stride={output_stride!r}"
        )
    return found[output_stride]


@contextmanager
def _one_line(what: str, *kinds: type[Exception], advice: str = "") -> Iterator[None]:
    """Makes one line of an error of Keras or KerasHub."""
    try:
        yield
    except kinds as error:
        raise InputError(f"{what} ({first_line(error).rstrip('.')}).{advice}") from error


def _find_application(name: str, own_weights: bool, face_size: int | None) -> Found:
    """Builds a model of `keras.applications` without its classifier, with the scaling that belongs to it."""
    known = [each for each in dir(keras.applications) if each[0].isupper()]
    if name not in known:
        raise InputError(f"Unknown `backbone`. Expected applications/ and one of {known}. Received: {name!r}")
    constructor = getattr(keras.applications, name)
    size = face_size or APPLICATION_SIZES.get(name, 224)
    settings = {"include_top": False, "input_shape": (size, size, 3)}
    with _one_line(f"applications/{name} does not take faces of {size} pixels", ValueError):
        model = constructor(weights=None, **settings)
    if own_weights:
        advice = (
            " Keras downloads them: check the network; or get their file elsewhere (https://keras.io/api/applications) "
            "and set model.weights=FILE.h5; or start from random weights, model.weights=null."
        )
        # Keras raises a bare Exception when a download fails.
        with _one_line(f"The 'imagenet' weights of applications/{name} could not be had", Exception, advice=advice):
            model = constructor(weights="imagenet", **settings)
    return model, _measure_scaling(sys.modules[constructor.__module__].preprocess_input), size


def _measure_scaling(function: Callable[[Any], Any]) -> dict[str, Any]:
    """Returns the arguments of the `PixelScaling` that equals a function of pixels. All of Keras's are affine."""
    offset = np.asarray(function(np.zeros((1, 1, 1, 3), "float32")), "float64").ravel()
    pure = 255 * np.eye(3, dtype="float32")
    full = [np.asarray(function(colour[None, None, None].copy()), "float64").ravel() for colour in pure]
    return {"matrix": [list((values - offset) / 255) for values in full], "offset": list(offset)}


def _find_preset(name: str, own_weights: bool, face_size: int | None) -> Found:
    """Builds the backbone of a preset of KerasHub, with the scaling and size of its converter of images."""
    require("hub", f"The backbone hub/{name}")
    import keras_hub

    advice = (
        " KerasHub downloads presets: check the network and the name (https://keras.io/keras_hub/presets), or give a "
        "folder that holds one: hub/FOLDER."
    )
    # What is raised depends on whom the preset is downloaded from.
    with _one_line(f"The preset hub/{name} could not be had", Exception, advice=advice):
        model = keras_hub.models.Backbone.from_preset(name, load_weights=own_weights)
        try:
            converter = keras_hub.layers.ImageConverter.from_preset(name)
        except (ValueError, FileNotFoundError):  # it has none: its pixels are not scaled
            return model, None, face_size
    scale, offset = (
        np.broadcast_to(default if given is None else np.ravel(given), 3).astype(float)
        for given, default in ((converter.scale, 1.0), (converter.offset, 0.0))
    )
    size = converter.image_size[0] if converter.image_size else face_size
    return model, {"matrix": np.diag(scale).tolist(), "offset": offset.tolist()}, size


def _read_file(name: str, own_weights: bool, face_size: int | None) -> Found:
    """Reads a model from a file of Keras. Nothing in it is executed."""
    if not Path(name).is_file():
        raise InputError(f"There is no file {name}. model.backbone is the path of a keras.Model that was saved there.")
    with _one_line(f"The backbone {name} cannot be read", ValueError, OSError, KeyError, TypeError):
        model = keras.saving.load_model(name, compile=False)
    return model if own_weights else keras.models.clone_model(model), None, face_size


# What stands before the "/" in `model.backbone` → a function of what follows it, of whether the backbone has its own
# weights or random ones, and of the side of the faces. The keys are those of `affect.models.published.OTHERS`.
SOURCES: dict[str, Callable[[str, bool, int | None], Found]] = {
    "applications": _find_application,
    "hub": _find_preset,
}

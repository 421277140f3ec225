"""Tests of affect.models.other_backbones, on random weights; they hold on the TensorFlow and the JAX backend."""

import sys

import keras
import numpy as np
import pytest
from keras import layers, ops

from affect.config import FrameClassifier
from affect.errors import InputError
from affect.extras import find_missing
from affect.models.backbones import build_backbone
from affect.models.blocks import list_blocks
from affect.models.frame_classifier import build_frame_classifier
from affect.models.other_backbones import APPLICATION_SIZES, SOURCES, adopt
from affect.models.precision import use_precision
from affect.models.published import OTHERS, weights_sha256

FACES = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)


def numpy_of(tensor):
    return ops.convert_to_numpy(tensor)


def own_model(size=32, **options):
    """A user's backbone: names, a nested model, a 1×1 convolution with a stride, and squeeze and excitation."""
    images = keras.Input((size, size, 3), name="images")
    x = layers.Rescaling(1 / 255, name="scale")(images)
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="stem", **options)(x)
    x = keras.Sequential([layers.Conv2D(6, 2, strides=2), layers.ReLU()], name="halve")(x)
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="mean")(x)
    x = layers.Multiply(name="excite")([x, layers.Conv2D(6, 1, activation="sigmoid", name="weigh")(mean)])
    x = layers.Conv2D(8, 1, strides=2, name="end")(x)
    return keras.Model(images, layers.BatchNormalization(name="normalise")(x))


@pytest.fixture(scope="module")
def own():
    keras.utils.set_random_seed(5)
    model = own_model()
    for weight in model.weights:
        if "bias" in weight.path or "mean" in weight.path:
            weight.assign(np.random.default_rng(1).uniform(-0.5, 0.5, weight.shape))
    return model


def test_a_copy_computes_the_same_and_leaves_the_model_alone(own):
    faces = FACES[:, :32, :32]
    config, backbone = own.get_config(), adopt(own)
    assert (backbone.name, backbone.output_shape) == ("backbone", (None, 4, 4, 8))
    assert all(weight.path.startswith("backbone/") for weight in backbone.weights)
    np.testing.assert_allclose(numpy_of(backbone(faces)), numpy_of(own(faces.astype("float32"))), rtol=1e-5, atol=1e-6)
    backbone.trainable = False
    backbone.set_weights([np.zeros(weight.shape) for weight in backbone.weights])
    assert own.get_config() == config and np.any(numpy_of(own.get_layer("stem").kernel))


def test_the_stride_chooses_the_map(own):
    assert adopt(own, output_stride=4).output_shape == (None, 8, 8, 6)
    assert adopt(own, output_stride=2).output_shape == (None, 16, 16, 4)
    with pytest.raises(InputError, match=r"Unknown `output_stride` .* Expected one of \[2, 4, 8\]\. Received: .*=16$"):
        adopt(own, output_stride=16)


def test_a_copy_has_the_precision_that_is_set(own):
    with use_precision("bfloat16"):
        backbone = adopt(own)
    assert {layer.compute_dtype for layer in backbone.layers if layer.weights} == {"bfloat16"}
    assert backbone.get_layer("scale").compute_dtype == "float32"  # pixels
    expected = numpy_of(own(FACES[:, :32, :32].astype("float32")))
    found = numpy_of(ops.cast(backbone(FACES[:, :32, :32]), "float32"))
    np.testing.assert_allclose(found, expected, atol=0.03 * np.abs(expected).max())


def test_a_convolution_that_corrupts_memory_is_replaced_by_one_that_is_the_same(own):
    backbone = adopt(own)
    assert backbone.get_layer("end").strides == (1, 1)
    assert [len(block) for block in list_blocks(backbone)] == [1, 2, 2]


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (Subclassed, {}, "functional or Sequential keras.Model. Received: Subclassed"),
        (
            lambda: keras.Sequential([keras.Input((32, 32, 3)), layers.Flatten()]),
            {},
            r"Received: a model from \[\(None, 32, 32, 3\)\] to \[\(None, 3072\)\]",
        ),
        (lambda: keras.Sequential([keras.Input((32, 32, 1)), layers.Conv2D(2, 3)]), {}, r"images \(B, H, W, 3\)"),
        (lambda: keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(2, 3)]), {}, "Give model.face_size"),
        (own_model, {"face_size": 64}, r"takes faces of \(32, 32\) pixels. Received: face_size=64"),
    ],
)
def test_a_model_of_another_form_is_one_line(make, settings, message):
    with pytest.raises(InputError, match=message) as caught:
        adopt(make(), **settings)
    assert "\n" not in str(caught.value)


def test_the_builder_takes_a_model(own):
    config = FrameClassifier("applications/unused", None, heads=2)
    model = build_frame_classifier(config, ("happy", "sad"), backbone=own)
    clip = {"faces": FACES[None, :, :32, :32], "frame_mask": np.ones((1, 2), bool)}
    assert model.get_layer("locations").output.shape == (None, 16, 8)
    assert np.isfinite(numpy_of(model(clip))).all()
    features = keras.Model(model.input, model.get_layer("local_features").output)(clip)
    expected = numpy_of(own(clip["faces"][0].astype("float32"))).reshape(1, 2, 16, 8)
    np.testing.assert_allclose(numpy_of(features), expected, rtol=1e-5, atol=1e-6)


# In a file


def test_a_file_is_a_backbone(own, tmp_path):
    path = str(tmp_path / "mine.keras")
    own.save(path)
    faces = FACES[:, :32, :32]
    backbone = build_backbone(path, weights="file")
    np.testing.assert_allclose(numpy_of(backbone(faces)), numpy_of(adopt(own)(faces)), rtol=1e-5, atol=1e-6)
    random = build_backbone(path, weights=None)
    assert not np.allclose(numpy_of(random(faces)), numpy_of(backbone(faces)))
    assert len(weights_sha256(path, "file")) == 64 and weights_sha256(path, None) is None
    own.save_weights(tmp_path / "other.weights.h5")
    loaded = build_backbone(path, weights=str(tmp_path / "other.weights.h5"))
    np.testing.assert_array_equal(numpy_of(loaded(faces)), numpy_of(backbone(faces)))


def test_errors_of_files(own, tmp_path):
    path = tmp_path / "mine.keras"
    with pytest.raises(InputError, match=r"There is no file .*mine\.keras\. model\.backbone is the path"):
        build_backbone(str(path), weights="file")
    path.write_text("<html>")
    with pytest.raises(InputError, match=r"The backbone .*mine\.keras cannot be read \(") as caught:
        build_backbone(str(path), weights="file")
    assert "\n" not in str(caught.value)
    own.save(path)
    with pytest.raises(InputError, match=r"Expected 'file', None .*weights='imagenet', which is no file"):
        build_backbone(str(path), weights="imagenet")
    wrong = tmp_path / "wrong.weights.h5"
    keras.Sequential([keras.Input((2,)), layers.Dense(1)]).save_weights(wrong)
    with pytest.raises(InputError, match=r"The weights .*wrong\.weights\.h5 do not fit .*mine\.keras \("):
        build_backbone(str(path), weights=str(wrong))


# Keras Applications


def test_the_tables_of_sources_agree():
    assert SOURCES.keys() == OTHERS.keys()
    assert set(APPLICATION_SIZES) <= set(dir(keras.applications))


@pytest.mark.parametrize("name", ["MobileNetV2", "DenseNet121"])
def test_an_application_has_the_scaling_of_keras(name):
    constructor = getattr(keras.applications, name)
    theirs = constructor(include_top=False, weights=None, input_shape=(64, 64, 3))
    ours = build_backbone(f"applications/{name}", weights=None, face_size=64)
    ours.set_weights(theirs.get_weights())
    expected = theirs(sys.modules[constructor.__module__].preprocess_input(FACES.astype("float32")))
    np.testing.assert_allclose(numpy_of(ours(FACES)), numpy_of(expected), rtol=1e-3, atol=1e-4)


def test_an_application_loads_a_file_of_weights(tmp_path):
    keras.utils.set_random_seed(7)
    theirs = keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=(64, 64, 3))
    theirs.save_weights(tmp_path / "a.weights.h5")
    ours = build_backbone(
        "applications/MobileNetV3Small", weights=str(tmp_path / "a.weights.h5"), face_size=64, output_stride=16
    )
    assert ours.output_shape == (None, 4, 4, 288)
    last = [layer for layer in theirs.layers if layer.output.shape[1:] == (4, 4, 288)][-1]
    expected = keras.Model(theirs.input, last.output)
    np.testing.assert_allclose(numpy_of(ours(FACES)), numpy_of(expected(FACES.astype("float32"))), rtol=1e-3, atol=1e-5)


def test_a_download_that_fails_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(
        InputError, match=r"^The 'imagenet' weights of applications/MobileNetV3Small could not"
    ) as caught:
        build_backbone("applications/MobileNetV3Small", weights="imagenet", face_size=32)
    assert "\n" not in str(caught.value) and "model.weights=FILE.h5" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"name": "applications/ResNet5"},
            r"Expected applications/ and one of \['ConvNeXtBase', .*Received: 'ResNet5'",
        ),
        ({"name": "InceptionV3", "face_size": 32}, r"does not take faces of 32 pixels \(Input size must be at least"),
        ({"name": "MobileNetV3Small", "weights": "vggface"}, "Expected 'imagenet', None .* or a file"),
        ({"name": "MobileNetV3Small", "input_scaling": "unit"}, "Expected 'published'"),
        ({"name": "MobileNetV3Small", "face_size": 8}, "32 or more"),
    ],
)
def test_errors_of_applications(settings, message):
    settings = {"weights": None, **settings}
    name = settings.pop("name")
    with pytest.raises(InputError, match=message) as caught:
        build_backbone(name if "/" in name else f"applications/{name}", **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.large
@pytest.mark.parametrize("name", [name for name in dir(keras.applications) if name[0].isupper()])
def test_every_application_is_a_backbone(name):
    backbone = build_backbone(f"applications/{name}", weights=None, face_size=96)
    assert backbone.output_shape[1] in (1, 2, 3) and len(list_blocks(backbone)) in (4, 5)


# KerasHub


def test_a_preset_of_keras_hub_is_a_backbone(tmp_path):
    if find_missing("hub"):
        pytest.skip("keras-hub is not installed: pip install 'affect[hub]'")
    import keras_hub

    theirs = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(None, None, 3),
    )
    theirs.save_to_preset(str(tmp_path / "preset"))
    converter = keras_hub.layers.ResNetImageConverter(
        image_size=(64, 64), scale=[1 / 60, 1 / 61, 1 / 62], offset=[-2.1, -2.0, -1.8]
    )
    converter.save_to_preset(str(tmp_path / "preset"))
    ours = build_backbone(f"hub/{tmp_path / 'preset'}", weights="hub")
    assert ours.input_shape == (None, 64, 64, 3)
    expected = numpy_of(theirs(converter(FACES.astype("float32"))))
    np.testing.assert_allclose(numpy_of(ours(FACES)), expected, rtol=1e-3, atol=1e-4)
    assert build_backbone(f"hub/{tmp_path / 'preset'}", weights=None, face_size=32).output_shape[1] == 4
    with pytest.raises(InputError, match="The preset hub/no_such_preset could not be had") as caught:
        build_backbone("hub/no_such_preset", weights="hub")
    assert "\n" not in str(caught.value)

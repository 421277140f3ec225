"""ResNet50 and SENet50 of VGGFace2, beside the unmodified package keras-vggface."""

import h5py
import keras
import numpy as np
import pytest
import skimage.data

from affect.errors import InputError
from affect.models.backbones import build_backbone, import_weights
from affect.models.blocks import list_blocks
from affect.models.published import PUBLISHED
from affect.models.vggface2 import VGGFACE2_SCALING

MODELS = ["resnet50", "senet50"]
FACE = skimage.data.astronaut()[0:224, 130:354]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


def write_legacy(path, model, leave_out=None, shapes=None):
    """Writes the weights as Keras 2 wrote them: a group for each layer, whose names have the "/" of Caffe."""
    with h5py.File(path, "w") as file:
        layers = [layer for layer in model.layers if layer.weights and layer.name.replace(">", "/") != leave_out]
        file.attrs["layer_names"] = [layer.name.replace(">", "/").encode() for layer in layers]
        for layer in layers:
            name = layer.name.replace(">", "/")
            group = file.require_group(name)
            group.attrs["weight_names"] = [f"{name}/{weight.name}:0".encode() for weight in layer.weights]
            for weight in layer.weights:
                values = keras.ops.convert_to_numpy(weight)
                group[f"{name}/{weight.name}:0"] = np.zeros((shapes or {}).get(name, values.shape)) + (
                    0 if name in (shapes or {}) else values
                )
    return path


@pytest.fixture
def oracle(keras_vggface, monkeypatch):
    """Function: name → their network without its classifier. Keras 3 refuses the "/" in names of layers: it is ">"."""
    from keras_vggface import models

    def rename(layer_class):
        def make(*arguments, name=None, **options):
            return layer_class(*arguments, name=name and name.replace("/", ">"), **options)

        return make

    for kind in ("Conv2D", "BatchNormalization"):
        monkeypatch.setattr(models, kind, rename(getattr(keras.layers, kind)))

    def build(name):
        model = keras_vggface.vggface.VGGFace(model=name, include_top=False, weights=None, input_shape=(224, 224, 3))
        random = np.random.default_rng(3)
        for weight in model.weights:
            if "moving_variance" in weight.path or "gamma" in weight.path:
                weight.assign(random.uniform(0.5, 1.5, weight.shape))
            elif len(weight.shape) == 1:
                weight.assign(random.normal(0, 0.1, weight.shape))
        return model

    return build


@pytest.mark.parametrize("name", MODELS)
def test_computes_what_keras_vggface_computes(name, oracle, keras_vggface, cache, tmp_path):
    theirs = oracle(name)
    report = import_weights(name, write_legacy(tmp_path / f"rcmalli_vggface_tf_notop_{name}.h5", theirs))
    assert set(report.loaded) == set(PUBLISHED[name].layers) and report.unused == ()
    assert "channels BGR" in str(report) and "VGGFace2" in str(report)
    ours = build_backbone(name, weights="vggface2")
    maps = keras.Model(theirs.input, theirs.get_layer("avg_pool").input)
    pixels = keras_vggface.utils.preprocess_input(FACE[None].astype("float32"), version=2)
    expected, found = maps.predict_on_batch(pixels), ours.predict_on_batch(FACE[None])
    assert found.shape == (1, 7, 7, 2048) and expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", MODELS)
def test_the_strides_and_blocks(name):
    for stride, channels in ((32, 2048), (16, 1024), (8, 512)):
        backbone = build_backbone(name, weights=None, face_size=64, output_stride=stride)
        assert backbone.output_shape[-1] == channels
        assert len(list_blocks(backbone)) == {32: 5, 16: 4, 8: 3}[stride]


def test_the_scaling_is_bgr_minus_the_mean_of_vggface2():
    backbone = build_backbone("senet50", weights=None, face_size=32)
    assert backbone.get_layer("pixel_scaling").offset == VGGFACE2_SCALING["offset"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"leave_out": "conv3_1_1x1_proj"}, r"layer 'conv3_1_1x1_proj' \(our block3_1_proj\): expected kernel .* none"),
        ({"shapes": {"conv2_1_3x3": (3, 3, 64, 63)}}, r"kernel of shape \(3, 3, 64, 64\), received \(3, 3, 64, 63\)"),
    ],
)
def test_every_shape_is_checked(change, message, oracle, cache, tmp_path):
    path = write_legacy(tmp_path / "a.h5", oracle("resnet50"), **change)
    with pytest.raises(InputError, match=message) as caught:
        import_weights("resnet50", path)
    assert "\n" not in str(caught.value) and not cache.exists()


def test_the_other_network_is_refused(oracle, tmp_path):
    with pytest.raises(InputError, match=r"layer 'conv2_1_1x1_down' .* received none"):
        import_weights("senet50", write_legacy(tmp_path / "a.h5", oracle("resnet50")))

"""ResNet50 and SENet50 as the authors of VGGFace2 trained them, and as keras-vggface 0.6 builds them."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import layers

from affect.layers.pixel_scaling import PixelScaling
from affect.models.published import VGGFACE2_BLOCKS

# RGB pixels to BGR, minus VGGFace2's mean colour.
VGGFACE2_SCALING = {
    "matrix": [[0, 0, 1], [0, 1, 0], [1, 0, 0]],
    "offset": [-91.4953, -103.8827, -131.0912],
}


def build_resnet50(face_size: int, output_stride: int, scaling: Mapping[str, Any]) -> keras.Model:
    """Builds ResNet50, whose stride is in the first convolution of a block, as in Caffe.

    Args:
        face_size: As in `affect.models.backbones.build_backbone`.
        output_stride: 32, all blocks; 16 or 8 leave out the last one or two.
        scaling: Arguments of `PixelScaling`.
    """
    return _build(face_size, output_stride, scaling, lambda x, name: x, 1e-3)


def build_senet50(face_size: int, output_stride: int, scaling: Mapping[str, Any]) -> keras.Model:
    """Builds SENet50: ResNet50 with squeeze and excitation (arXiv 1709.01507) in each residual.

    Args:
        face_size: As in `build_resnet50`.
        output_stride: As there.
        scaling: As there.
    """
    return _build(face_size, output_stride, scaling, _excite, 1e-4)


def _build(
    face_size: int, output_stride: int, scaling: Mapping[str, Any], finish: Callable[[Any, str], Any], epsilon: float
) -> keras.Model:
    def convolve(x, filters, size, name, stride=1):
        if stride > 1 and size == 1:
            # The gradient of a 1x1 convolution with a stride corrupts memory in TensorFlow 2.21 with oneDNN. Taking
            # every second pixel first gives the same numbers.
            x, stride = layers.MaxPooling2D(1, strides=stride, name=f"{name}_subsample")(x), 1
        x = layers.Conv2D(filters, size, strides=stride, padding="same", use_bias=False, name=name)(x)
        return layers.BatchNormalization(epsilon=epsilon, name=f"{name}_bn")(x)

    faces = keras.Input((face_size, face_size, 3), name="faces")
    x = PixelScaling(**scaling, name="pixel_scaling")(faces)
    x = layers.ReLU(name="block1_relu")(convolve(x, 64, 7, "block1_conv", 2))
    x = layers.MaxPooling2D(3, strides=2, name="block1_pool")(x)  # (B, 55, 55, 64) of 224 pixels
    for block, units in VGGFACE2_BLOCKS.items():
        if 2**block > output_stride:
            break
        filters = 2 ** (block + 4)
        for unit in range(1, units + 1):
            name, stride = f"block{block}_{unit}", 2 if unit == 1 and block > 2 else 1
            shortcut = convolve(x, 4 * filters, 1, f"{name}_proj", stride) if unit == 1 else x
            x = layers.ReLU(name=f"{name}_relu1")(convolve(x, filters, 1, f"{name}_reduce", stride))
            x = layers.ReLU(name=f"{name}_relu2")(convolve(x, filters, 3, f"{name}_3x3"))
            x = finish(convolve(x, 4 * filters, 1, f"{name}_increase"), name)
            x = layers.ReLU(name=f"{name}_relu3")(layers.Add(name=f"{name}_add")([x, shortcut]))
    return keras.Model(faces, x, name="backbone")


def _excite(x: Any, name: str) -> Any:
    channels = x.shape[-1]
    weights = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
    weights = layers.Conv2D(channels // 16, 1, activation="relu", name=f"{name}_down")(weights)
    weights = layers.Conv2D(channels, 1, activation="sigmoid", name=f"{name}_up")(weights)
    return layers.Multiply(name=f"{name}_excite")([x, weights])

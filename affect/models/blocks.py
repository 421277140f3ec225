"""The blocks of a network of images: the parts between two halvings of the map. What is trained is named by them."""

import itertools
import re
from typing import Any

import keras

from affect.config.experiment import TRAINABLE
from affect.errors import InputError


def measure_strides(model: keras.Model) -> dict[str, int]:
    """Returns the stride of what each operation computes on: input pixels between two of its locations.

    It is the product of the strides on the way from the input, and so does not depend on the size of the images. A
    mean over all locations, as in squeeze and excitation, keeps the stride of the map that it is taken of.

    Args:
        model: Functional model with one input. A nested model counts as one operation.

    Returns:
        Name of an operation → stride of its output, in the order of computation.
    """
    found: dict[str, int] = {}
    of_tensor: dict[int, int] = {}
    for operation in model.operations:
        inputs, outputs = keras.tree.flatten(operation.input), keras.tree.flatten(operation.output)
        before = max((of_tensor.get(id(tensor), 1) for tensor in inputs), default=1)
        found[operation.name] = before * _measure_factor(operation) if inputs else 1
        of_tensor |= {id(tensor): found[operation.name] for tensor in outputs}
    return found


def _measure_factor(operation: Any) -> int:
    """Returns how many times larger the stride is after an operation than before it."""
    if isinstance(operation, keras.Model):
        return max(measure_strides(_flatten(operation)).values())
    strides = getattr(operation, "strides", None) or 1
    return max(strides) if isinstance(strides, tuple | list) else strides


def _flatten(model: keras.Model) -> keras.Model:
    return keras.Model(model.inputs, model.outputs)  # a Sequential model has no operations


def list_blocks(backbone: keras.Model) -> list[list[keras.Layer]]:
    """Returns the layers of a backbone, block by block.

    A block is what lies between two halvings of the map, as in VGG16: `block1` computes at the size of the face,
    `block2` at half of it. A layer that halves the map begins a block. If the name of each layer with weights begins
    with `block1_`, `block2_` and so on, these are the blocks.

    Args:
        backbone: From `affect.models.backbones.build_backbone`.

    Returns:
        Lists of layers with weights that can be trained, none of them empty.
    """
    # EfficientNet's first layer holds the mean and variance of pixels, which are never trained.
    learning = (layer for layer in backbone.layers if not isinstance(layer, keras.layers.Normalization))
    layers = [layer for layer in learning if layer.weights]
    names = [re.match(r"block(\d+)_", layer.name) for layer in layers]
    if all(names):
        numbers = [int(name[1]) for name in names if name]
    else:
        strides = measure_strides(backbone)
        numbers = [strides[layer.name] for layer in layers]
    return [
        [layer for layer, own in zip(layers, numbers, strict=True) if own == number] for number in sorted({*numbers})
    ]


def set_trainable(backbone: keras.Model, trainable: str) -> None:
    """Sets which layers of a backbone are trained. The others compute as in evaluation.

    Args:
        backbone: From `affect.models.backbones.build_backbone`.
        trainable: `"head"`: none, only what follows the backbone is trained; `"last 2 blocks"`: the last two of
            `list_blocks`, with any number; or `"all"`.

    Raises:
        InputError: If the backbone has fewer blocks than that.
    """
    blocks = list_blocks(backbone)
    last = TRAINABLE.fullmatch(trainable)
    number = int(last[1]) if last and last[1] else len(blocks) if trainable == "all" else 0
    if number > len(blocks):
        raise InputError(
            f"The backbone has {len(blocks)} blocks. Expected train.trainable to be 'head', 'all', or 'last N blocks' "
            f"with N of 1 to {len(blocks)}. Received: {trainable!r}"
        )
    backbone.trainable = number > 0
    for layer in itertools.chain(*blocks[: len(blocks) - number]):
        layer.trainable = False

"""Makes the networks of the detector mtcnn: the package mtcnn 1.0.0 → three `.tflite` files and its licence.

    python -m affect.pipelines.detectors.convert_mtcnn [--out FOLDER]

It needs the packages of the extra `test`. The files are in the repository, so this command is only needed to make them
again. Each network scales pixels from [0, 255] itself, as the package does before it calls the network.
"""

import importlib.metadata
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from affect.files import sha256_of
from affect.pipelines.detectors.mtcnn import NETWORKS, NETWORKS_FOLDER

VERSION = "1.0.0"
# Sides of the networks' inputs in pixels. P-Net accepts any size.
SIZES_PX = {"p_net": None, "r_net": 24, "o_net": 48}
HEADER = f"""\
p_net.tflite, r_net.tflite and o_net.tflite are the networks of the Python package mtcnn {VERSION}, converted to TFLite
by affect. The package is by Iván de Paz Centeno (https://github.com/ipazc/mtcnn), after FaceNet's implementation
(https://github.com/davidsandberg/facenet). The method is by Zhang, Zhang, Li and Qiao, "Joint Face Detection and
Alignment Using Multitask Cascaded Convolutional Networks", IEEE Signal Processing Letters 23(10), 2016. The licence of
the package follows.

"""


def convert(size_px: int | None, network: Callable[[Any], list[Any]]) -> bytes:
    """Converts a network of the package, whose batch becomes one image.

    Args:
        size_px: Height and width of its input; `None` for any.
        network: Function from a tensor of scaled pixels to a list of outputs.

    Returns:
        The content of a `.tflite` file, from float32 (1, H, W, 3) in [0, 255] to the same outputs.
    """
    import tensorflow as tf
    from mtcnn.utils.images import normalize_images
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    signature = [tf.TensorSpec((1, size_px, size_px, 3), tf.float32)]
    graph = tf.function(lambda pixels: network(normalize_images(pixels)), input_signature=signature)
    # The networks are subclasses of Keras's model. The converter makes a file without weights from a SavedModel of one,
    # so the weights become constants first.
    frozen = convert_variables_to_constants_v2(graph.get_concrete_function())
    return tf.lite.TFLiteConverter.from_concrete_functions([frozen]).convert()


def main(out: Path = NETWORKS_FOLDER) -> None:
    """Write the networks of mtcnn 1.0.0 and the licence of the package to a folder."""
    from mtcnn import MTCNN

    package = importlib.metadata.distribution("mtcnn")
    if package.version != VERSION:
        print(f"mtcnn {package.version} is installed. Install {VERSION}: pip install 'affect[test]'", file=sys.stderr)
        raise typer.Exit(2)
    out.mkdir(parents=True, exist_ok=True)
    for stage, (name, size_px) in zip(MTCNN().stages, SIZES_PX.items(), strict=True):
        path = out / f"{name}.tflite"
        path.write_bytes(convert(size_px, stage.model))
        same = "as in affect" if sha256_of(path) == NETWORKS[name] else "differs from affect's"
        print(f"{path}: {path.stat().st_size} bytes, SHA-256 {sha256_of(path)}, {same}")
    licence = package.read_text("LICENSE")
    assert licence  # version 1.0.0 has it
    (out / "LICENSE").write_text(HEADER + licence, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)

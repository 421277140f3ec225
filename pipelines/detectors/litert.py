"""A network in a `.tflite` file, run by LiteRT on one image at a time. It needs neither TensorFlow nor Keras."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

# Interpreters that a network keeps, one for each shape of image. A frame of 2160 lines has 13 levels.
MOST_SHAPES = 32


class Network:
    """A network from an image to one vector, or to one vector for each place of the image.

    It computes one image at a time with one thread. Therefore the output for an image depends neither on other images
    nor on the number of cores, and processes beside each other need one core each. Batches were 5 % faster. Two threads
    were slower, because the images are small. An instance may be called by one thread at a time.

    Args:
        path: `.tflite` file with one input, float32 (1, H, W, C). Its outputs have different numbers of channels. H and
            W may be free.
        most_shapes: Number of interpreters that are kept. Where H and W are free, each shape of image needs its own.
    """

    def __init__(self, path: Path, most_shapes: int = MOST_SHAPES):
        self._content = path.read_bytes()
        self._most_shapes = most_shapes
        # Shape → interpreter, index of its input, and `(channels, index)` of its outputs; the last used one comes last.
        self._ready: OrderedDict[tuple[int, ...], tuple[Interpreter, int, list[tuple[int, int]]]] = OrderedDict()

    def __call__(self, image: np.ndarray) -> dict[int, np.ndarray]:
        """Computes an image.

        Args:
            image: float32 (H, W, C).

        Returns:
            Number of channels → output, float32 (..., channels), without the axis of the batch.
        """
        interpreter, place, outputs = self._prepare(image.shape)
        interpreter.set_tensor(place, image[None])
        interpreter.invoke()
        return {channels: interpreter.get_tensor(index)[0] for channels, index in outputs}

    def _prepare(self, shape):
        """Returns what `_ready` has for a shape."""
        if shape in self._ready:
            self._ready.move_to_end(shape)
            return self._ready[shape]
        interpreter = Interpreter(model_content=self._content, num_threads=1)
        place = interpreter.get_input_details()[0]["index"]
        interpreter.resize_tensor_input(place, (1, *shape))
        interpreter.allocate_tensors()
        outputs = [(int(one["shape"][-1]), one["index"]) for one in interpreter.get_output_details()]
        self._ready[shape] = interpreter, place, outputs
        if len(self._ready) > self._most_shapes:
            self._ready.popitem(last=False)
        return self._ready[shape]

"""TFLite's own metadata: names, scaling and labels of a file in the form that Android's tools read.

The format is `metadata_schema.fbs` of TensorFlow Lite, a FlatBuffer in the model's metadata `TFLITE_METADATA`. The
package that writes it, tflite-support, ended in 2023 and does not install on Python 3.11. So the few tables that are
needed are written here with `flatbuffers`. A number beside a field is its place in the schema.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers

METADATA = "TFLITE_METADATA"
IDENTIFIER = b"M001"
PARSER_VERSION = "1.0.0"
# Values of enumerations and unions in the schema.
AXIS_LABELS, RGB, FEATURE, IMAGE, NORMALIZATION = 2, 1, 1, 2, 1
# Outputs whose last axis is the classes, or the dimensions of a regression.
OF_CLASSES = ("probabilities", "frame_probabilities", "frame_logits", "logits", "dimensions")


def describe_tensors(
    description: Mapping[str, Any],
    signature: Mapping[str, Any],
    inputs: Sequence[str],
    outputs: Sequence[str],
    labels: str,
) -> bytes:
    """Returns the metadata of a model with one subgraph that is described.

    Args:
        description: Content of `affect.json`.
        signature: The description of its signature: `sentence`, `inputs` and `outputs`.
        inputs, outputs: Names of the tensors in the order of the subgraph.
        labels: Name of the associated file with the classes, a line each.
    """
    writer = _Writer()
    classes = description["classes"]
    read = [_describe_input(writer, key, signature["inputs"][key]) for key in inputs]
    given = [_describe_output(writer, key, signature["outputs"][key], labels) for key in outputs]
    graph = writer.table(
        {
            0: writer.text(description["experiment"]["name"]),
            1: writer.text(signature["sentence"]),
            2: writer.vector(read),
            3: writer.vector(given),
        }
    )
    model = {
        0: writer.text(description["experiment"]["name"]),
        1: writer.text(f"{description['task'].capitalize()} of face video into {', '.join(classes)}."),
        3: writer.vector([graph]),
        5: writer.text(description.get("licence") or "that of the data it was trained on"),
        7: writer.text(PARSER_VERSION),
    }
    return writer.finish(writer.table(model))


def _describe_input(writer, key, spec):
    """A face is an image. Its pixels are taken as they are, mean 0 and deviation 1, because the model scales them."""
    shape, is_pixels = spec["shape"], key == "faces"
    if is_pixels and len(shape) == 4:
        size = writer.table({0: ("uint32", shape[2]), 1: ("uint32", shape[1])})
        kind, properties = IMAGE, writer.table({0: ("int8", RGB), 1: size})
    else:
        kind, properties = FEATURE, writer.table({})
    fields = {
        0: writer.text(key),
        1: writer.text(spec["sentence"]),
        3: writer.table({0: ("uint8", kind), 1: properties}),
    }
    if is_pixels:
        options = writer.table({0: writer.floats([0.0]), 1: writer.floats([1.0])})
        fields[4] = writer.vector([writer.table({0: ("uint8", NORMALIZATION), 1: options})])
        fields[5] = writer.table({0: writer.floats([255.0]), 1: writer.floats([0.0])})
    return writer.table(fields)


def _describe_output(writer, key, spec, labels):
    fields = {
        0: writer.text(key),
        1: writer.text(spec["sentence"]),
        3: writer.table({0: ("uint8", FEATURE), 1: writer.table({})}),
    }
    if key in OF_CLASSES:
        sentence = "The last axis of the tensor, in this order."
        file = writer.table({0: writer.text(labels), 1: writer.text(sentence), 2: ("int8", AXIS_LABELS)})
        fields[6] = writer.vector([file])
    return writer.table(fields)


class _Writer:
    """Writes tables whose fields are given by their places in the schema: an offset, or `(type, number)`."""

    def __init__(self):
        self._builder = flatbuffers.Builder(1024)

    def text(self, value):
        return self._builder.CreateString(value)

    def floats(self, values):
        self._builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self._builder.PrependFloat32(value)
        return self._builder.EndVector()

    def vector(self, offsets):
        self._builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return self._builder.EndVector()

    def table(self, fields):
        numbers = {
            "int8": self._builder.PrependInt8Slot,
            "uint8": self._builder.PrependUint8Slot,
            "uint32": self._builder.PrependUint32Slot,
        }
        self._builder.StartObject(max(fields, default=-1) + 1)
        for place, value in fields.items():
            if isinstance(value, tuple):
                numbers[value[0]](place, value[1], 0)
            else:
                self._builder.PrependUOffsetTRelativeSlot(place, value, 0)
        return self._builder.EndObject()

    def finish(self, root):
        self._builder.Finish(root, file_identifier=IDENTIFIER)
        return bytes(self._builder.Output())

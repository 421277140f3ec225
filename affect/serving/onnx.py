"""write_onnx(): a SavedModel → an ONNX file for each signature, through tf2onnx."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from affect.errors import InputError, first_line
from affect.reading.onnx import name_file, name_output

# Of ONNX's operators; Triton, ONNX Runtime 1.14 and later versions read it.
OPSET = 18


def write_onnx(saved_model: Path, out: Path, signatures: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes signatures of a SavedModel as ONNX files with the same names of inputs and outputs.

    Args:
        saved_model: Folder of the SavedModel.
        out: Folder that is created.
        signatures: Name → its entry in `affect.json`. Outputs that are strings are left out.

    Raises:
        InputError: If tf2onnx has no rule for an operator.
    """
    loaded = tf.saved_model.load(str(saved_model))
    out.mkdir()
    for name, signature in signatures.items():
        model = _convert(loaded.signatures[name], name, signature)
        _name_axes(model.graph.input, signature["inputs"])
        shapes = {name_output(key, signature["inputs"]): spec for key, spec in signature["outputs"].items()}
        _name_axes(model.graph.output, shapes)
        (out / name_file(name)).write_bytes(model.SerializeToString())


def _convert(function, name, signature):
    import tf2onnx
    from tf2onnx.tf_loader import tf_optimize, tf_session

    def call(**inputs):
        return {key: value for key, value in function(**inputs).items() if value.dtype != tf.string}

    specs = {key: tf.TensorSpec(spec["shape"], spec["dtype"], key) for key, spec in signature["inputs"].items()}
    traced = tf.function(call).get_concrete_function(**specs)
    frozen = convert_variables_to_constants_v2(traced, lower_control_flow=False)
    inputs, outputs = ([tensor.name for tensor in tensors] for tensors in (frozen.inputs, frozen.outputs))
    names = {f"{key}:0": key for key in specs}
    names |= {
        tensor: name_output(key, specs) for tensor, key in zip(outputs, sorted(traced.structured_outputs), strict=True)
    }
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    with tf.Graph().as_default():
        graph_def = tf_optimize(inputs, outputs, frozen.graph.as_graph_def())
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        with tf_session(graph=graph):
            try:
                converted = tf2onnx.tfonnx.process_tf_graph(
                    graph, opset=OPSET, input_names=inputs, output_names=outputs, tensors_to_rename=names
                )
            except ValueError as error:
                raise InputError(f"Signature {name} does not convert to ONNX: {first_line(error)}") from error
    return tf2onnx.optimizer.optimize_graph(converted).make_model(f"affect {name}")


def _name_axes(values, specs):
    """Names the free axes of tensors, so that servers know which are equal: the clips and their frames."""
    for value in values:
        axes = value.type.tensor_type.shape.dim
        for place, (axis, size) in enumerate(zip(axes, specs[value.name]["shape"], strict=True)):
            if size is None:
                axis.dim_param = ("clips", "frames")[place] if place < 2 else f"{value.name}_{place}"
            else:
                axis.dim_value = size

"""What the graphs of strangers may hold: an allow-list for a SavedModel, and the standard operators for ONNX.

A graph is a program, and some operations read and write files or run Python. So a file is read here as data, before
TensorFlow or ONNX Runtime loads it, and is refused if it holds anything that affect does not export. TensorFlow and
the package onnx are not imported: the few fields that are looked at are declared below.
"""

import math
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from affect.errors import InputError

# TensorFlow's operations in what affect exports: the networks, the decoding of JPEGs, and the variables.
OPERATIONS = frozenset(
    [
        "AddV2",
        "All",
        "Any",
        "ArgMax",
        "Assert",
        "AssignVariableOp",
        "BatchDatasetV2",
        "BatchMatMulV2",
        "BiasAdd",
        "Cast",
        "ConcatV2",
        "ConcatenateDataset",
        "Const",
        "Conv2D",
        "Conv3D",
        "Cumsum",
        "DatasetToSingleElement",
        "DecodeJpeg",
        "DecodeRaw",
        "DepthwiseConv2dNative",
        "EnsureShape",
        "Equal",
        "Exp",
        "ExpandDims",
        "ExtractJpegShape",
        "Fill",
        "GatherV2",
        "Greater",
        "Identity",
        "If",
        "IgnoreErrorsDataset",
        "Less",
        "LessEqual",
        "Log",
        "LogicalAnd",
        "MatMul",
        "MatrixDiagV3",
        "Max",
        "MaxPool",
        "Maximum",
        "Mean",
        "Min",
        "Minimum",
        "Mul",
        "NoOp",
        "OnesLike",
        "Pack",
        "ParallelMapDatasetV2",
        "Placeholder",
        "Prod",
        "Range",
        "RangeDataset",
        "ReadVariableOp",
        "RealDiv",
        "Relu",
        "Reshape",
        "RewriteDataset",
        "Round",
        "Rsqrt",
        "ScaleAndTranslate",
        "ScatterNd",
        "SelectV2",
        "Shape",
        "Sigmoid",
        "Size",
        "Slice",
        "Softmax",
        "Split",
        "Sqrt",
        "Square",
        "Squeeze",
        "StatefulPartitionedCall",
        "StatelessIf",
        "StaticRegexFullMatch",
        "StopGradient",
        "StridedSlice",
        "StringLength",
        "Sub",
        "Sum",
        "Tanh",
        "TensorDataset",
        "TensorListFromTensor",
        "TensorListGetItem",
        "TensorListReserve",
        "TensorListSetItem",
        "TensorListStack",
        "TensorSliceDataset",
        "Transpose",
        "VarHandleOp",
        "VarIsInitializedOp",
        "While",
        "ZerosLike",
        "ZipDataset",
    ]
)
# Those of the layers of Keras Applications, KerasHub and other convolutional networks. All only compute.
OPERATIONS_OF_BACKBONES = frozenset(
    [
        "Abs",
        "AvgPool",
        "AvgPool3D",
        "BatchToSpaceND",
        "Conv2DBackpropInput",
        "Cos",
        "Einsum",
        "Elu",
        "Erf",
        "Erfc",
        "Expm1",
        "Floor",
        "FloorDiv",
        "FloorMod",
        "FusedBatchNormV3",
        "GreaterEqual",
        "IdentityN",
        "LeakyRelu",
        "Log1p",
        "LogSoftmax",
        "LogicalNot",
        "LogicalOr",
        "MaxPool3D",
        "MirrorPad",
        "Neg",
        "NotEqual",
        "OneHot",
        "Pad",
        "PadV2",
        "PartitionedCall",
        "Pow",
        "Rank",
        "Reciprocal",
        "Relu6",
        "ResizeBilinear",
        "ResizeNearestNeighbor",
        "Selu",
        "Sin",
        "Softplus",
        "Softsign",
        "SpaceToBatchND",
        "SplitV",
        "SquaredDifference",
        "StatelessWhile",
        "Tile",
        "Unpack",
    ]
)
ALLOWED = OPERATIONS | OPERATIONS_OF_BACKBONES
# Those of the two functions that save and restore the variables. They read and write the file that they are given,
# so only the loader may call them.
SAVER_OPERATIONS = frozenset(
    [
        "DisableCopyOnRead",
        "MergeV2Checkpoints",
        "RestoreV2",
        "SaveV2",
        "Select",
        "ShardedFilename",
        "StringJoin",
    ]
)
SAVER_ATTRIBUTES = {"_construction_context", "_input_shapes"}
# The placeholder through which the loader gives the name of the file.
SAVER_FILE = "saver_filename"
# Operators of other domains are those of one runtime, or of a library that a stranger provides.
ONNX_DOMAINS = {"", "ai.onnx", "ai.onnx.ml"}

# Largest files, in bytes. A graph of affect is below 1 MB; an ONNX file holds the weights too.
LARGEST_GRAPH = 64 * 2**20
LARGEST_ONNX = 2**30

# Message → its fields: name → (number, type, whether it is repeated). `Rest` has no fields; its bytes are kept. A field
# that occurs several times is merged, as TensorFlow merges it.
_MESSAGES: dict[str, dict[str, tuple[int, str, bool]]] = {
    "Rest": {},
    "SavedModel": {"meta_graphs": (2, "MetaGraph", True)},
    "MetaGraph": {"graph_def": (2, "Graph", False), "object_graph_def": (7, "Rest", False)},
    "Graph": {"node": (1, "Node", True), "library": (2, "Library", False)},
    "Library": {"function": (1, "Function", True)},
    "Function": {
        "signature": (1, "Signature", False),
        "node_def": (3, "Node", True),
        "attr": (5, "Attribute", True),
    },
    "Signature": {"name": (1, "string", False)},
    "Node": {"name": (1, "string", False), "op": (2, "string", False), "input": (3, "string", True)},
    "Attribute": {"key": (1, "string", False)},
    "ONNXModel": {
        "graph": (7, "ONNXGraph", False),
        "opset_import": (8, "ONNXOperators", True),
        "training_info": (20, "Rest", True),
        "functions": (25, "Rest", True),
    },
    "ONNXOperators": {"domain": (1, "string", False)},
    "ONNXGraph": {
        "node": (1, "ONNXNode", True),
        "initializer": (5, "ONNXTensor", True),
        "sparse_initializer": (15, "ONNXSparse", True),
    },
    "ONNXNode": {
        "op_type": (4, "string", False),
        "attribute": (5, "ONNXAttribute", True),
        "domain": (7, "string", False),
    },
    "ONNXAttribute": {
        "t": (5, "ONNXTensor", False),
        "g": (6, "ONNXGraph", False),
        "tensors": (10, "ONNXTensor", True),
        "graphs": (11, "ONNXGraph", True),
        "sparse_tensor": (22, "ONNXSparse", False),
        "sparse_tensors": (23, "ONNXSparse", True),
    },
    "ONNXSparse": {"values": (1, "ONNXTensor", False), "indices": (2, "ONNXTensor", False)},
    "ONNXTensor": {
        "dims": (1, "int64", True),
        "external_data": (13, "Rest", True),
        "data_location": (14, "int32", False),
    },
}


@cache
def _message(name: str) -> Any:
    """Returns the class of a message. Its pool is its own, because TensorFlow has messages of the same fields."""
    file = FileDescriptorProto(name="graphs.proto", package="affect", syntax="proto3")
    for message, fields in _MESSAGES.items():
        made = file.message_type.add(name=message)
        for field, (number, kind, is_repeated) in fields.items():
            label = FieldDescriptorProto.LABEL_REPEATED if is_repeated else FieldDescriptorProto.LABEL_OPTIONAL
            entry = made.field.add(name=field, number=number, label=label)
            if kind in _MESSAGES:
                entry.type, entry.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".affect.{kind}"
            else:
                entry.type = getattr(FieldDescriptorProto, f"TYPE_{kind.upper()}")
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(f"affect.{name}"))


def _parse(path: Path, kind: str, largest: int) -> Any:
    if (size := path.stat().st_size) > largest:
        raise InputError(f"{path} has {size} bytes, and a model of affect at most {largest}. It was not loaded.")
    try:
        return _message(kind).FromString(path.read_bytes())
    except DecodeError as error:
        raise InputError(f"{path} is damaged, or is no file of its kind. Copy it again, or export it again.") from error


def list_operations(path: str | Path) -> dict[str, set[str]]:
    """Returns the operations of a SavedModel: `graph`, `saver`, the functions that touch files, → their names.

    Args:
        path: File `saved_model.pb`.

    Raises:
        InputError: If the file cannot be read.
    """
    found: dict[str, set[str]] = {"graph": set(), "saver": set()}
    for graph in _parse(Path(path), "SavedModel", LARGEST_GRAPH).meta_graphs:
        found["graph"].update(node.op for node in graph.graph_def.node)
        for function in graph.graph_def.library.function:
            names = {node.op for node in function.node_def}
            found["saver" if names & SAVER_OPERATIONS else "graph"] |= names
    return found


def check_saved_model(path: str | Path) -> None:
    """Checks that a SavedModel does nothing but what affect exports, before TensorFlow loads it.

    Each operation, in every function too, must be in `ALLOWED`. The functions with `SAVER_OPERATIONS` may be called
    by the loader alone: in the outer graph, with the placeholder of the file's name.

    Args:
        path: File `saved_model.pb`.

    Raises:
        InputError: If the file cannot be read, or does something else.
    """
    path = Path(path)
    model = _parse(path, "SavedModel", LARGEST_GRAPH)
    if len(model.meta_graphs) != 1 or not model.meta_graphs[0].HasField("object_graph_def"):
        _refuse(path, "is no SavedModel of TensorFlow 2 with one graph")
    graph, objects = model.meta_graphs[0].graph_def, model.meta_graphs[0].object_graph_def
    savers = []
    for function in graph.library.function:
        names = {node.op for node in function.node_def}
        is_saver = bool(names & SAVER_OPERATIONS)
        _check_names(path, names, ALLOWED | SAVER_OPERATIONS if is_saver else ALLOWED)
        if is_saver:
            savers.append(function)
    _check_names(path, (node.op for node in graph.node), ALLOWED)

    is_named_by_loader = any(node.name == SAVER_FILE and node.op == "Placeholder" for node in graph.node)
    calls = [node for node in graph.node if not is_named_by_loader or node.input[:1] != [SAVER_FILE]]
    others = [function for function in graph.library.function if function not in savers]
    rest = type(graph).FromString(graph.SerializeToString())
    del rest.node[:], rest.library.function[:]
    for saver in savers:
        # Any mention of the name, in whatever field, may become a call.
        name = saver.signature.name.encode()
        mentions = (message.SerializeToString() for message in (*calls, *others, objects, rest))
        if not name or any(name in content for content in mentions):
            _refuse(path, "calls the function that reads and writes the files of its variables")
        if {attribute.key for attribute in saver.attr} - SAVER_ATTRIBUTES:
            _refuse(path, "gives an attribute to the function that reads and writes the files of its variables")


def _check_names(path: Path, names: Iterable[str], known: frozenset[str]) -> None:
    if foreign := sorted({name for name in names if name not in known}):
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        _refuse(path, f"has the operation {foreign[0]!r}{more}, which no model of affect has")


def _refuse(path: Path, fault: str) -> None:
    raise InputError(f"{path} {fault}. It was not loaded, because a model can run as a program. Export it again.")


def check_onnx(path: str | Path) -> bytes:
    """Checks an ONNX file before a runtime loads it: standard operators, all data inside, sizes that the file can hold.

    Args:
        path: `.onnx` file.

    Returns:
        The content of the file.

    Raises:
        InputError: If the file cannot be read, or holds something else.
    """
    path = Path(path)
    model = _parse(path, "ONNXModel", LARGEST_ONNX)
    if model.functions or model.training_info:
        _refuse(path, "has functions of its own, which no model of affect has")
    graphs = [*_list_graphs(model.graph)]
    nodes = [node for graph in graphs for node in graph.node]
    domains = {node.domain for node in nodes} | {operators.domain for operators in model.opset_import}
    if foreign := sorted(domains - ONNX_DOMAINS):
        _refuse(path, f"needs operators of the domain {foreign[0]!r}, which are none of ONNX's own")
    size = path.stat().st_size
    for tensor in (tensor for graph in graphs for tensor in _list_tensors(graph)):
        if tensor.external_data or tensor.data_location:
            _refuse(path, "has numbers in another file")
        if any(length < 0 for length in tensor.dims) or math.prod(tensor.dims) > 8 * size:
            _refuse(path, f"declares an array of shape {tuple(tensor.dims)}, which the file does not hold")
    return path.read_bytes()


def _list_graphs(graph: Any) -> Iterator[Any]:
    """Yields a graph and all graphs in its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _list_graphs(inner)


def _list_tensors(graph: Any) -> Iterator[Any]:
    """Yields the tensors of a graph, without those of inner graphs."""
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    sparse = [*graph.sparse_initializer]
    sparse += [each for found in attributes for each in (found.sparse_tensor, *found.sparse_tensors)]
    yield from graph.initializer
    yield from (tensor for found in attributes for tensor in (found.t, *found.tensors))
    yield from (tensor for each in sparse for tensor in (each.values, each.indices))

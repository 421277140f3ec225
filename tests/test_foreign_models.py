"""Exported models of strangers: what they hold is checked before a library that would run it opens them."""

import itertools
import re
import shutil
import zipfile

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from tensorflow.core.protobuf import saved_model_pb2

import affect
from affect.config import write_json
from affect.errors import InputError
from affect.files import seal
from affect.reading.loading import read_artefact
from affect.reading.onnx import open_session
from affect.reading.operations import (
    ALLOWED,
    OPERATIONS,
    SAVER_OPERATIONS,
    check_onnx,
    check_saved_model,
    list_operations,
)
from affect.reading.saved_model import write_sums
from affect.reading.tflite import write_tflite
from affect.serving.check import check
from tests.commands import refused
from tests.exported import MODELS
from tests.mutations import survive

FEW, MANY = 25, 500
# What touches files, runs programs, or speaks with other machines.
DANGEROUS = [
    "ReadFile",
    "WriteFile",
    "MatchingFiles",
    "PrintV2",
    "PyFunc",
    "PyFuncStateless",
    "EagerPyFunc",
    "LoadLibrary",
    "LoadAndRemapMatrix",
    "TFRecordDataset",
    "TextLineDataset",
    "FixedLengthRecordDataset",
    "TensorDatasetSave",
    "SaveDatasetV2",
    "Save",
    "SaveSlices",
    "SaveV2",
    "Restore",
    "RestoreSlice",
    "RestoreV2",
    "MergeV2Checkpoints",
    "WholeFileReaderV2",
    "InitializeTableFromTextFileV2",
    "ImmutableConst",
    "DebugIdentityV2",
    "DebugIdentityV3",
    "RpcCall",
    "DataServiceDatasetV4",
    "XlaHostCompute",
    "RemoteCall",
    "SymbolicGradient",
    "GeneratorDataset",
    "DatasetFromGraph",
]


@pytest.fixture
def saved(exported, tmp_path):
    """A copy of an exported model, its graph, and a function that writes another graph with matching checksums."""
    path = shutil.copytree(exported("average")[1].path, tmp_path / "name" / "1")
    model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())

    def write():
        (path / "saved_model.pb").write_bytes(model.SerializeToString())
        write_sums(path)

    return path, model, write


def functions(model):
    """Returns the functions of a graph: those of the network, and those that save and restore its variables."""
    every = model.meta_graphs[0].graph_def.library.function
    saving = [function for function in every if "traced_" in function.signature.name]
    return [function for function in every if "traced_" not in function.signature.name], saving


def test_the_table_is_what_exports_use(exported):
    used = [list_operations(exported(name)[1].path / "saved_model.pb") for name in (*MODELS, "mini_xception")]
    graph, saver = (set().union(*(each[kind] for each in used)) for kind in ("graph", "saver"))
    assert graph == OPERATIONS
    assert saver - OPERATIONS == SAVER_OPERATIONS
    assert not ALLOWED & {*DANGEROUS}


@pytest.mark.parametrize("operation", ["ReadFile", "WriteFile", "EagerPyFunc", "SaveV2"])
@pytest.mark.parametrize("place", ["graph", "function"])
def test_an_operation_that_is_not_ours_is_refused_everywhere(saved, operation, place):
    path, model, write = saved
    nodes = model.meta_graphs[0].graph_def.node if place == "graph" else functions(model)[0][0].node_def
    nodes.add(name="hidden", op=operation)
    write()
    with pytest.raises(InputError, match="It was not loaded") as caught:
        affect.load(path)
    assert "\n" not in str(caught.value)
    if operation != "SaveV2":
        assert f"has the operation {operation!r}, which no model of affect has" in str(caught.value)


def test_every_command_refuses(saved, tmp_path):
    path, model, write = saved
    functions(model)[0][0].node_def.add(name="hidden", op="WriteFile")
    write()
    (tmp_path / "video.mp4").write_bytes(b"")
    for command in (
        ("check", path),
        ("predict", path, tmp_path / "video.mp4"),
        ("watch", path, tmp_path / "video.mp4"),
        ("convert", path, "--to", "float32"),
        ("explain", path, tmp_path / "video.mp4", "--out", tmp_path / "a.png"),
    ):
        assert "has the operation 'WriteFile', which no model of affect has. It was not loaded" in refused(*command)


def call_in(nodes, name):
    nodes.add(name="hidden", op="StatefulPartitionedCall").attr["f"].func.name = name


HARMS = {
    "a call in a function": lambda graph, ours, name, saver: call_in(ours.node_def, name),
    "a call in the graph": lambda graph, ours, name, saver: call_in(graph.graph_def.node, name),
    "an object": lambda graph, ours, name, saver: setattr(
        graph.object_graph_def.nodes.add().bare_concrete_function, "concrete_function_name", name
    ),
    "a gradient": lambda graph, ours, name, saver: graph.graph_def.library.gradient.add(
        function_name=ours.signature.name, gradient_func=name
    ),
    "another name of it": lambda graph, ours, name, saver: setattr(saver.attr["api_implements"], "s", b"another"),
    "a fixed file": lambda graph, ours, name, saver: setattr(
        next(node for node in graph.graph_def.node if node.name == "saver_filename"), "op", "Const"
    ),
}


@pytest.mark.parametrize("harm", HARMS)
def test_only_the_loader_calls_what_saves_variables(saved, harm):
    path, model, write = saved
    ours, saving = functions(model)
    HARMS[harm](model.meta_graphs[0], ours[0], saving[0].signature.name, saving[0])
    write()
    with pytest.raises(InputError, match="the function that reads and writes the files of its variables"):
        read_artefact(path)


def test_graphs_of_another_kind_are_refused(saved):
    path, model, write = saved
    model.meta_graphs[0].ClearField("object_graph_def")
    write()
    with pytest.raises(InputError, match="is no SavedModel of TensorFlow 2 with one graph"):
        read_artefact(path)


@pytest.mark.parametrize("name", ["saved_model.pbtxt", "saved_model.cpb", "assets/words.txt", "debug/x.pb", "a.py"])
def test_files_that_tensorflow_would_read_too_are_refused(saved, name):
    path, _, write = saved
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).write_bytes(b"meta_graphs {}")
    write()
    with pytest.raises(InputError, match=re.escape(f"has the file {name!r}, which no savedmodel of affect has")):
        read_artefact(path)


def test_variables_that_cannot_be_read_are_one_line(saved):
    path, _, write = saved
    (path / "variables" / "variables.index").write_bytes(b"none")
    write()
    with pytest.raises(InputError, match="TensorFlow cannot load") as caught:
        check(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.large)])
def test_mutated_graphs_are_read_or_refused(saved, count, tmp_path):
    content = (saved[0] / "saved_model.pb").read_bytes()
    survive(check_saved_model, content, tmp_path / "saved_model.pb", count, seed=count)


# --- TFLite ---


def flatbuffer(converted, name="average"):
    """Returns a TFLite file as the object of its schema."""
    return schema.ModelT.InitFromPackedBuf(converted(name)[1].path.read_bytes())


def write_flatbuffer(model, path):
    import flatbuffers

    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    write_tflite(path, bytes(builder.Output()), ("a",))


def test_custom_operators_and_huge_arrays_are_refused(converted, tmp_path):
    path = tmp_path / "a.tflite"
    model = flatbuffer(converted)
    write_flatbuffer(model, path)
    assert read_artefact(path).classes
    code = model.operatorCodes[0]
    builtin = code.builtinCode, code.deprecatedBuiltinCode
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = "FlexReadFile"
    write_flatbuffer(model, path)
    assert f"{path} needs the operator 'FlexReadFile', which is not builtin. It was not loaded." in refused(
        "predict", path, __file__
    )
    code.builtinCode, code.deprecatedBuiltinCode = builtin
    model.subgraphs[0].tensors[0].shape = np.array([2**20, 2**20], np.int32)
    write_flatbuffer(model, path)
    with pytest.raises(InputError, match="has arrays of 1099511"):
        read_artefact(path)


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.large)])
def test_mutated_tflite_files_are_read_or_refused(converted, count, tmp_path):
    content = converted("average")[1].path.read_bytes()
    content = content[: content.index(b"PK\x03\x04")]  # the flatbuffer, without the archive that seals it

    def read(path):
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("labels.txt", "")
        seal(path)
        model = read_artefact(path)
        specs = model.description["signatures"]["serving_default"]["inputs"]
        faces = np.zeros((1, 2, *specs["faces"]["shape"][2:]), np.uint8)
        model.signature("serving_default")({"faces": faces, "frame_mask": np.ones((1, 2), bool)})

    assert all(survive(read, content, tmp_path / "a.tflite", count, seed=count))


# --- ONNX ---


def write_onnx(path, *, domain="", external=False, shape=(2,)):
    import onnx

    weights = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, (2,), [1.0, 2.0])
    if external:
        weights.ClearField("float_data")
        weights.data_location = onnx.TensorProto.EXTERNAL
        weights.external_data.add(key="location", value="/etc/passwd")
    weights.dims[:] = shape
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["w"], ["z"], domain=domain)],
        "inner",
        [],
        [onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, (2,))],
        [weights],
    )
    nodes = [onnx.helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)]
    graph = onnx.helper.make_graph(
        nodes,
        "outer",
        [onnx.helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, ())],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (2,))],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def test_onnx_files_are_checked_before_they_are_loaded(tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed: pip install 'affect[onnx]'")
    path = tmp_path / "a.onnx"
    assert open_session(write_onnx(path)).run(None, {"c": np.array(True)})[0].tolist() == [1, 2]
    for wrong, text in (
        ({"domain": "com.microsoft"}, "needs operators of the domain 'com.microsoft'"),
        ({"external": True}, "has numbers in another file"),
        ({"shape": (2**40, 2**20)}, "declares an array of shape"),
        ({"shape": (-1,)}, "declares an array of shape"),
    ):
        with pytest.raises(InputError, match=text):
            open_session(write_onnx(path, **wrong))
    survive(check_onnx, write_onnx(path).read_bytes(), path, 200, seed=0)


def test_a_description_of_a_stranger_is_read_or_refused(saved):
    """Each field of affect.json with values of other types: the model is read, or refused with one line."""
    outcomes = {True: 0, False: 0}
    path, _, write = saved
    description = dict(read_artefact(path).description)
    for name in description:
        for value in (None, 3, "x", [], {}, [[]], {"a": None}):
            write_json(path / "assets.extra" / "affect.json", description | {name: value})
            write()
            try:
                read_artefact(path).golden()
                outcomes[True] += 1
            except InputError as error:
                assert "\n" not in str(error)
                outcomes[False] += 1
    assert all(outcomes.values())


@pytest.mark.parametrize("file", ["golden.npz", "affect.json"])
@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.large)])
def test_mutated_files_beside_a_model_are_read_or_refused(saved, file, count):
    path, _, write = saved
    numbers = itertools.count()

    def read(_):
        write()
        artefact = read_artefact(path)
        artefact.golden()
        if file == "affect.json" or next(numbers) % 10 == 0:
            check(path)

    mutated = path / "assets.extra" / file
    _, refused = survive(read, mutated.read_bytes(), mutated, count, seed=count)
    assert refused


def test_a_golden_file_that_grows_is_refused(saved):
    path, _, write = saved
    np.savez_compressed(path / "assets.extra" / "golden.npz", **{"jpeg/inputs/x": np.zeros(2**29, np.uint8)})
    write()
    with pytest.raises(InputError, match=r"golden.npz grows to 53\d+ bytes, and at most 268435456 are read"):
        check(path)

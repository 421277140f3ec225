"""convert(): an exported model → a TFLite file of builtin operators, and a report of what it keeps and costs."""

import hashlib
import json
import os
import re
import statistics
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.lite.python.convert import ConverterError, mlir_quantize
from tensorflow.lite.python.schema_py_generated import (
    BufferT,
    BuiltinOperator,
    MetadataT,
    QuantizationParametersT,
    TensorType,
)
from tensorflow.lite.tools import flatbuffer_utils

from affect.data.batches import names_damage
from affect.data.shards import Shards
from affect.data.views import place_template
from affect.errors import InputError, first_line, format_count, raise_failure
from affect.files import make_in_folder, name_failure
from affect.reading.saved_model import SUMS, SavedModel, read_saved_model
from affect.reading.tflite import KIND, LABELS, METADATA, SUFFIX, count_operators, read_tflite, write_tflite
from affect.serving import tflite_metadata
from affect.serving.agreement import (
    Reference,
    Request,
    Sample,
    compare,
    find_fault,
    list_losses,
    make_reference,
    make_requests,
)

Number = Literal["float32", "float16", "dynamic", "int8"]
Part = Literal["clip", "frame"]
NUMBERS = get_args(Number)
# Signatures of each part. A model has only those that its pooling needs.
PARTS: dict[Part, tuple[str, ...]] = {"clip": ("serving_default",), "frame": ("frame", "step", "classify")}
# Layers that int8 computes in integers, a regular expression that is searched in their names: they are nearly all of
# the work. The layers after them, which pool over places and frames, stay in float32. In integers they lose the
# importance of frames (savedmodels/README.md has what was measured).
INTEGER_LAYERS = r"(^|[/;])(backbone|encoder|cnn3d)"
# Fewer people than this in calibration are reported.
FEW_PEOPLE = 20
TIMED_RUNS, TIMED_THREADS = 9, (1, 2)


@dataclass(frozen=True)
class Form:
    """What is converted, and to what: arguments of `convert`."""

    to: Number
    part: Part
    frames: int | None = None
    integer_io: bool = False
    integer_layers: str = INTEGER_LAYERS

    @property
    def name(self) -> str:
        """The end of the file's name."""
        return f"{self.part}-{self.to}{'-io' if self.integer_io else ''}"


@dataclass(frozen=True)
class Calibration:
    """Clips that int8 is calibrated on.

    Args:
        samples: The clips.
        sentence: What they are.
        people: Number of people; if the data name none, of videos.
        is_named: Whether the data name the people.
    """

    samples: tuple[Sample, ...]
    sentence: str
    people: int
    is_named: bool


def convert(
    version: str | Path,
    out: str | Path | None = None,
    *,
    to: Number,
    part: Part = "clip",
    data: str | Path | None = None,
    split: str = "test",
    calibration_data: str | Path | None = None,
    calibration_split: str | None = None,
    calibration_clips: int = 100,
    frames: int | None = None,
    clips: int = 100,
    integer_io: bool = False,
    integer_layers: str = INTEGER_LAYERS,
) -> dict[str, Any]:
    """Converts an exported model to TFLite, compares the two, and writes a single file.

    The part `clip` is `serving_default` for one clip. Its number of frames is dynamic (`resize_tensor_input`), unless
    `frames` fixes it. The part `frame` is `frame` for one face and, where features are pooled over time, `step` and
    `classify`; then the app pools. A file takes one clip or one face in a call: the batch is 1, because the GPU and
    NNAPI take static shapes only. Faces are uint8 and outputs float32 in every format, except with `integer_io`. With
    int8, the layers after the last feature map stay in float32, and so does an operator without an int8 kernel.

    Args:
        version: Folder `NAME/VERSION` that `affect export` wrote.
        out: `.tflite` file; `None` is `NAME-VERSION-PART-TO.tflite` beside the folder NAME.
        to: `"float32"`; `"float16"`, weights of half the size; `"dynamic"`, weights of a quarter of the size, without
            calibration; `"int8"`, weights and arithmetic, calibrated on faces of `calibration_data`.
        part: What is converted.
        data: Folder of shards with faces to compare on; `None` is the golden faces of the model.
        split: Split that is compared on.
        calibration_data: Folder of shards to calibrate on; `None` is `data`.
        calibration_split: Split that is calibrated on; `None` is the training split. It must not be the one that is
            compared on.
        calibration_clips: Most clips, evenly spaced over the split, to calibrate on.
        frames: Fixed number of frames in a clip, for runtimes that take only static shapes; `None` is dynamic.
        clips: Most clips, evenly spaced over the split, to compare on.
        integer_io: Whether int8 computes everything in integers and gives int8 outputs, for chips without floating
            point. Part `frame` of a model that pools scores only.
        integer_layers: Regular expression of the names of the layers that int8 computes in integers.

    Returns:
        Dict: `path`, `to`, `part`, `frames`, `integer_io`; `bytes`; `operators`, name → count; `compared_on` and
        `calibrated_on`, sentences; `differences` and `agreement`, as `affect.serving.agreement.compare` returns them;
        `losses`, sentences on what the form loses beyond `LIMITS`; `warnings`, sentences on the calibration; and
        `latency_ms`: the medians of `tflite`, by the number of threads, and of `saved_model`, which run in turn, and
        the `shape` of their input.

    Raises:
        InputError: As `read_saved_model`; on an unknown choice; if the graph needs an operator that is not builtin; if
            int8 has no faces, or those that it is compared on; or if a float32 model does not reproduce the SavedModel
            (`affect.serving.agreement.find_fault`).
    """
    _check_choice("to", to, NUMBERS)
    _check_choice("part", part, PARTS)
    artefact = read_saved_model(version)
    form = Form(to, part, frames, integer_io, integer_layers)
    out = Path(out or _place(artefact, form))
    if out.suffix != SUFFIX or out.is_dir():
        raise InputError(f"The output must be a file {SUFFIX}. Received: {out}")
    names = _name_signatures(artefact, form)
    calibration = None
    if to == "int8":
        calibration = _read_calibration(
            artefact, form, data, split, calibration_data, calibration_split, calibration_clips
        )
    samples = _read_samples(artefact, data, split, clips, frames)
    report = _write(artefact, out, form, names, partial(make_reference, artefact, names, samples), calibration)
    return report | {"compared_on": _say_compared(samples, data, split)}


def convert_all(
    version: str | Path,
    out: str | Path | None = None,
    *,
    part: Part | None = None,
    data: str | Path | None = None,
    split: str = "test",
    calibration_data: str | Path | None = None,
    calibration_split: str | None = None,
    calibration_clips: int = 100,
    clips: int = 100,
) -> list[dict[str, Any]]:
    """Converts an exported model to every form: each part to each format, and the part `frame` with integer outputs.

    Args:
        version: As in `convert`.
        out: Folder for the files; `None` is the folder of NAME.
        part: The only part; `None` is all that the model has.
        data, split, calibration_data, calibration_split, calibration_clips, clips: As in `convert`.

    Returns:
        A report of `convert` for each form. A form that cannot be made has `to`, `part`, `integer_io` and `problem`,
        one line, alone.

    Raises:
        InputError: As `read_saved_model`; if the model lacks the part; or if `data` has no clip with a face.
    """
    artefact = read_saved_model(version)
    parts: list[Part] = (
        [part] if part else [name for name in PARTS if set(PARTS[name]) & set(artefact.description["signatures"])]
    )
    samples = _read_samples(artefact, data, split, clips, None)
    reports: list[dict[str, Any]] = []
    for each in parts:
        forms = [Form(to, each) for to in NUMBERS]
        names = _name_signatures(artefact, forms[0])
        forms += [Form("int8", each, integer_io=True)] if names == ["frame"] else []
        reference, calibration = cache(partial(make_reference, artefact, names, samples)), None
        for form in forms:
            path = Path(out) / _place(artefact, form).name if out else _place(artefact, form)
            try:
                if form.to == "int8" and calibration is None:
                    calibration = _read_calibration(
                        artefact, form, data, split, calibration_data, calibration_split, calibration_clips
                    )
                report = _write(artefact, path, form, names, reference, calibration)
            except InputError as error:
                said = {"to": form.to, "part": form.part, "integer_io": form.integer_io, "problem": str(error)}
                reports.append(said)
            else:
                reports.append(report | {"compared_on": _say_compared(samples, data, split)})
    return reports


def _check_choice(name, value, known):
    if value not in known:
        raise InputError(f"Unknown `{name}`. Expected one of {list(known)}. Received: {value!r}")


def _place(artefact, form):
    path = artefact.path.resolve()
    return path.parent.with_name(f"{path.parent.name}-{path.name}-{form.name}{SUFFIX}")


def _say_compared(samples, data, split):
    return f"{format_count(len(samples), 'clip')} of {f'split {split} of {data}' if data else 'the golden faces'}"


def _name_signatures(artefact, form):
    """Returns the signatures that are converted."""
    names = [name for name in PARTS[form.part] if name in artefact.description["signatures"]]
    if not names:
        raise InputError(
            f"{artefact.path} has no signature frame, because it does not read frames one by one. Use part clip."
        )
    if form.frames and form.part == "frame":
        raise InputError(
            f"Only part clip has a number of frames; part frame takes one face. Received: frames={form.frames}"
        )
    if form.integer_io and (form.to != "int8" or names != ["frame"]):
        raise InputError(
            "Integer outputs need --to int8 and --part frame, of a model that pools scores over time: pooling is in "
            f"floating point. Received: to {form.to}, part {form.part}, with {' and '.join(names)}."
        )
    return names


def _read_calibration(artefact, form, data, split, calibration_data, calibration_split, most):
    """Reads the clips that int8 is calibrated on, none of which is compared on."""
    folder = calibration_data or data
    if folder is None:
        raise InputError("int8 is calibrated on real faces. Give shards: --calibration-data SHARDS, or --data SHARDS")
    chosen = calibration_split or artefact.experiment.data.train_split
    if data and Path(folder).resolve() == Path(data).resolve() and chosen == split:
        raise InputError(
            f"int8 would be compared on the clips that it is calibrated on: split {split} of {data}. Choose another "
            "--calibration-split, --calibration-data or --split."
        )
    width = form.frames or artefact.experiment.data.frames
    found = _read_samples(artefact, folder, chosen, most, width)
    longest = form.frames or max(sample.inputs["frame_mask"].shape[1] for sample in found)
    samples = tuple(_pad(sample, longest) for sample in found)
    used = {sample.name for sample in samples}
    clips = [clip for clip in Shards(folder).of_split(chosen) if used & {clip["key"], clip["recording"]}]
    sentence = f"{format_count(len(samples), 'clip')} of split {chosen} of {folder}"
    people = {clip["subject"] or clip["recording"] for clip in clips}
    return Calibration(samples, sentence, len(people), all(clip["subject"] for clip in clips))


@names_damage
def _read_samples(artefact, data, split, most, frames):
    """Returns clips with a face."""
    if data is None:
        inputs, _ = artefact.golden()["serving_default"]
        clips = [{key: value[index : index + 1, :frames] for key, value in inputs.items()} for index in range(2)]
        return [Sample(f"golden clip {place}", clip) for place, clip in enumerate(clips)]
    shards = Shards(data)
    sampling = replace(artefact.experiment.data, batch_clips=1)
    if frames:
        sampling = replace(sampling, eval_frames=min(frames, sampling.eval_frames))
    batches = artefact.task.read_evaluation_inputs(artefact, shards, sampling, split=split, most=most, frames=frames)
    samples = []
    for batch in batches:
        name = batch["key" if "key" in batch else "recording"][0].numpy().decode()
        samples.append(Sample(name, {key: batch[key][:, :frames].numpy() for key in ("faces", "frame_mask")}))
    if not samples:
        raise InputError(f"{data} has no clip with a face in split {split!r}. Choose another split.")
    return samples


def _pad(sample, width):
    """Pads a clip to `width` frames. The calibrator fails if it must resize, because it resizes inputs one by one.

    The last face is repeated, masked, because a black face would widen the ranges that int8 covers.
    """
    missing = width - sample.inputs["frame_mask"].shape[1]
    faces = np.pad(sample.inputs["faces"], [(0, 0), (0, missing), (0, 0), (0, 0), (0, 0)], mode="edge")
    frame_mask = np.pad(sample.inputs["frame_mask"], [(0, 0), (0, missing)])
    return Sample(sample.name, {"faces": faces, "frame_mask": frame_mask})


def _write(artefact, out, form, names, reference, calibration):
    """Converts to one form, compares it, writes it, and returns the report without `compared_on`.

    The reference is a function, because a model that does not convert may have other outputs.
    """
    requests = None
    if form.to == "int8":
        requests = [request for sample in calibration.samples for request in make_requests(artefact, names, sample)]
    else:
        calibration = None
    model = to_flatbuffer(artefact, names, form, requests)
    counts = count_operators(model)
    if foreign := sorted(name for name in counts if name.startswith("custom:")):
        raise InputError(f"{artefact.path} does not convert to builtin operators: it needs {', '.join(foreign)}.")
    calibrated_on = calibration.sentence if calibration else None
    conversion = {
        "to": form.to,
        "part": form.part,
        "frames": form.frames,
        "integer_io": form.integer_io,
        "batch": 1,
        "calibrated_on": calibrated_on,
        "tensorflow": tf.__version__,
        "saved_model_sha256sums": hashlib.sha256((artefact.path / SUMS).read_bytes()).hexdigest(),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with name_failure(out.parent), make_in_folder(out.parent, ".convert-") as folder:
        temporary = folder / f"model{SUFFIX}"
        write_tflite(temporary, _add_description(model, artefact, names, conversion), artefact.classes)
        converted, size = read_tflite(temporary), temporary.stat().st_size
        compared = compare(converted, names, reference())
        if form.to == "float32" and (fault := find_fault(compared)):
            raise InputError(f"The float32 model differs from {artefact.path}: {fault}. Nothing was written.")
        latency = _measure_latency(artefact, converted, reference())
        os.replace(temporary, out)
    return {
        "path": str(out),
        "to": form.to,
        "part": form.part,
        "frames": form.frames,
        "integer_io": form.integer_io,
        "bytes": size,
        "operators": counts,
        "calibrated_on": calibrated_on,
        **compared,
        "losses": list_losses(compared, form.to),
        "warnings": _warn(calibration) if calibration else [],
        "latency_ms": latency,
    }


def _warn(calibration):
    if calibration.people >= FEW_PEOPLE:
        return []
    who = "people" if calibration.is_named else "videos, whose people are not named"
    return [
        f"int8 was calibrated on {calibration.people} {who}. It may lose more on other faces. Calibrate on "
        f"{FEW_PEOPLE} people or more: --calibration-data SHARDS"
    ]


def to_flatbuffer(
    artefact: SavedModel, names: Sequence[str], form: Form, calibration: Sequence[Request] | None
) -> bytes:
    """Converts signatures for one clip or face.

    Args:
        artefact: The model.
        names: Names of the signatures.
        form: What they are converted to.
        calibration: Requests for `"int8"`.

    Returns:
        The flatbuffer, without a description.

    Raises:
        InputError: If it needs an operator that is not builtin, or its int8 cannot be calibrated.
    """
    with tempfile.TemporaryDirectory(prefix="affect-") as folder, name_failure(tempfile.gettempdir()):
        written = _write_for_one(artefact.loaded, names, form.frames, folder)
        if form.to == "int8" and form.frames and written & {"While", "StatelessWhile"}:
            raise InputError(
                f"{artefact.path} has a recurrent layer, over whose fixed frames TFLite's calibrator crashes. "
                f"Leave its frames free. Received: frames={form.frames}"
            )
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=names)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if form.to != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if form.to == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if form.to == "int8":
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
            requests = [(request.signature, request.inputs) for request in calibration or ()]
            converter.representative_dataset = lambda: iter(requests)
            converter._experimental_calibrate_only = True  # as TensorFlow's QuantizationDebugger does
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # about the calibrator's own interpreter, an old one
                model = converter.convert()
        except ConverterError as error:
            found = re.findall(r"^(?:TF Select|Custom) ops: (.+)$", str(error), re.MULTILINE)
            reason = f"it needs {', '.join(found)}" if found else first_line(error)
            raise InputError(f"{artefact.path} does not convert to builtin operators: {reason}.") from error
    return _quantize(artefact, model, form) if form.to == "int8" else model


def _quantize(artefact, calibrated, form):
    """Returns a calibrated model in int8: the feature maps, channel by channel; or with `integer_io` everything."""
    if form.integer_io:
        quantized = mlir_quantize(calibrated, fully_quantize=True, output_data_type=tf.int8)
        return _take_bytes(artefact, quantized)
    tree = flatbuffer_utils.read_model_from_bytearray(bytearray(calibrated))
    made = {
        graph.tensors[place].name.decode()
        for graph in tree.subgraphs
        for operator in graph.operators
        for place in operator.outputs
    }
    return mlir_quantize(
        calibrated, denylisted_nodes=sorted(name for name in made if not re.search(form.integer_layers, name))
    )


def _take_bytes(artefact, model):
    """Returns a model whose faces, uint8, enter the integers directly, without the cast to float32 before them."""
    tree = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
    (graph,) = tree.subgraphs
    (faces,) = graph.inputs
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in tree.operatorCodes]
    (cast,) = (operator for operator in graph.operators if faces in operator.inputs)
    readers = [operator for operator in graph.operators if cast.outputs[0] in operator.inputs]
    if any(codes[operator.opcodeIndex] != BuiltinOperator.QUANTIZE for operator in readers):
        raise InputError(f"{artefact.path} reads faces in floating point. Leave out --integer-io.")
    for reader in readers:
        reader.inputs = [faces]
    graph.operators.remove(cast)
    scaling = QuantizationParametersT()
    scaling.scale, scaling.zeroPoint = np.array([1.0], np.float32), np.array([0], np.int64)
    graph.tensors[faces].quantization = scaling
    floats = {
        graph.tensors[place].name.decode()
        for operator in graph.operators
        for place in operator.outputs
        if graph.tensors[place].type == TensorType.FLOAT32
    }
    if floats:
        raise InputError(f"{artefact.path} has layers without an integer form: {min(floats)}. Leave out --integer-io.")
    return bytes(flatbuffer_utils.convert_object_to_bytearray(tree))


def fix_batch(source: str | Path, folder: str | Path, *, frames: int | None = None) -> set[str]:
    """Writes a SavedModel for batches of one clip, which the converter to TFLite takes also with recurrent layers.

    A recurrent layer, such as that in `affect.layers.LSTMPooling`, keeps its steps in a list of tensors of shape
    (B, ...). A graph for any B does not convert to builtin operators. Use it for a model of your own; `convert` uses it
    for exported models.

    Args:
        source: SavedModel with signatures, for example of `keras.Model.export`.
        folder: SavedModel that is written. It has the same signatures, without outputs that are strings, which TFLite
            does not support.
        frames: Size of the other dynamic axes; `None` leaves them dynamic.

    Returns:
        Names of the operators in its functions.

    Raises:
        InputError: When `source` is no SavedModel.

    Example:

    >>> model.export("mine")
    >>> fix_batch("mine", "mine_for_one")
    >>> content = tf.lite.TFLiteConverter.from_saved_model("mine_for_one").convert()
    """
    try:
        loaded = tf.saved_model.load(str(source))
    except OSError as error:
        raise_failure(error)
        raise InputError(f"{source} is no SavedModel ({first_line(error)}).") from error
    return _write_for_one(loaded, list(loaded.signatures), frames, folder)


def _write_for_one(loaded, names, frames, folder):
    """Writes signatures of a loaded SavedModel as in `fix_batch`, and returns what it returns."""
    module = tf.Module()
    module.loaded = loaded
    functions = {name: _fix_shapes(loaded.signatures[name], frames) for name in names}
    module.functions = list(functions.values())
    tf.saved_model.save(module, str(folder), signatures=functions)
    # The graph stores B of a list of tensors as unknown, even if the inputs fix it, and the converter needs it.
    path = Path(folder) / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    graphs = saved.meta_graphs[0].graph_def.library.function
    for graph in graphs:
        nodes = {node.name: node for node in graph.node_def}
        for node in graph.node_def:
            shapes = (nodes.get(name.partition(":")[0]) for name in node.input)
            for constant in shapes if node.op.startswith("TensorList") else ():
                if constant is not None and constant.op == "Const":
                    shape = tf.make_ndarray(constant.attr["value"].tensor)
                    if shape.ndim == 1 and shape[0] == -1:
                        fixed = tf.make_tensor_proto(np.array([1, *shape[1:]], shape.dtype))
                        constant.attr["value"].tensor.CopyFrom(fixed)
    path.write_bytes(saved.SerializeToString())
    return {node.op for graph in graphs for node in graph.node_def}


def _fix_shapes(function, frames):
    """Returns a signature as a concrete function for a batch of 1."""
    _, given = function.structured_input_signature
    specs = {
        key: tf.TensorSpec([1, *(frames if size is None else size for size in spec.shape[1:])], spec.dtype, key)
        for key, spec in given.items()
    }

    def call(**inputs):
        return {key: value for key, value in function(**inputs).items() if value.dtype != tf.string}

    return tf.function(call).get_concrete_function(**specs)


def _add_description(model, artefact, names, conversion):
    """Returns a flatbuffer with two descriptions in its metadata: the artefact's, limited to its own signatures, and
    TFLite's, of its first subgraph.
    """
    tree = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
    defined = {definition.signatureKey.decode(): definition for definition in tree.signatureDefs}
    signatures = {}
    for name in names:
        signature = artefact.description["signatures"][name]
        signatures[name] = signature | {
            side: {
                key: spec | {"shape": [1, *spec["shape"][1:]]}
                for key, spec in signature[side].items()
                if spec["dtype"] != "string"
            }
            for side in ("inputs", "outputs")
        }
        tensors = tree.subgraphs[defined[name].subgraphIndex].tensors
        for output in defined[name].outputs:
            scaling = tensors[output.tensorIndex].quantization
            if conversion["integer_io"]:
                scale, zero_point = float(scaling.scale[0]), int(scaling.zeroPoint[0])
                spec = {"dtype": "int8", "scale": scale, "zero_point": zero_point}
                signatures[name]["outputs"][output.name.decode()] |= spec
    points = place_template(artefact.faces, artefact.experiment.data.crop_ratio, artefact.face_size)
    description = artefact.description | {"kind": KIND, "signatures": signatures, "conversion": conversion}
    description["face_points"] = points.tolist()  # for an app that cuts faces itself
    (first,) = (definition for definition in defined.values() if definition.subgraphIndex == 0)
    inputs, outputs = (
        [{tensor.tensorIndex: tensor.name.decode() for tensor in named}[place] for place in places]
        for named, places in ((first.inputs, tree.subgraphs[0].inputs), (first.outputs, tree.subgraphs[0].outputs))
    )
    signature = signatures[first.signatureKey.decode()]
    tree.metadata = [*(tree.metadata or ())]
    for name, content in (
        (tflite_metadata.METADATA, tflite_metadata.describe_tensors(description, signature, inputs, outputs, LABELS)),
        (METADATA, json.dumps(description, ensure_ascii=False).encode()),
    ):
        buffer, entry = BufferT(), MetadataT()
        buffer.data = np.frombuffer(content, np.uint8)
        entry.name, entry.buffer = name, len(tree.buffers)
        tree.buffers.append(buffer)
        tree.metadata.append(entry)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(tree))


def _measure_latency(artefact, converted, reference: Reference):
    """Returns the median times of both models in ms, from arrays to arrays. The models run in turn."""
    (request, _), *_ = reference.requests
    calls = {str(threads): converted.run_with(threads).run for threads in TIMED_THREADS}
    calls["saved_model"] = lambda name, inputs: artefact.signature(name)(inputs)
    times: Mapping[str, list[float]] = {key: [] for key in calls}
    for _ in range(TIMED_RUNS):
        for key, call in calls.items():
            start = time.perf_counter()
            call(request.signature, request.inputs)
            times[key].append(1000 * (time.perf_counter() - start))
    medians = {key: statistics.median(values) for key, values in times.items()}
    saved_model = medians.pop("saved_model")
    return {"tflite": medians, "saved_model": saved_model, "shape": list(request.inputs["faces"].shape)}

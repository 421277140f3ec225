"""convert(): an exported model → a TFLite file of builtin operators, and a report of its differences and latency."""

import hashlib
import itertools
import json
import os
import re
import statistics
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.lite.python.convert import ConverterError
from tensorflow.lite.python.schema_py_generated import BufferT, MetadataT
from tensorflow.lite.tools import flatbuffer_utils

from affect.data.batches import names_damage
from affect.data.shards import Shards
from affect.errors import InputError
from affect.reading.artefact import measure_difference
from affect.reading.saved_model import SUMS, SavedModel, read_saved_model
from affect.reading.tflite import KIND, METADATA, SUFFIX, count_operators, read_tflite, write_tflite
from affect.serving.check import TOLERANCE
from affect.statistics import softmax

Number = Literal["float32", "float16", "dynamic", "int8"]
Part = Literal["clip", "frame"]
NUMBERS = get_args(Number)
# Signatures of each part. A model has only those that its pooling needs.
PARTS = {"clip": ("serving_default",), "frame": ("frame", "step", "classify")}
TIMED_RUNS = 9


@names_damage
def convert(
    version: str | Path,
    out: str | Path | None = None,
    *,
    to: Number,
    part: Part = "clip",
    data: str | Path | None = None,
    split: str = "test",
    calibration_split: str | None = None,
    frames: int | None = None,
    clips: int = 100,
) -> dict[str, Any]:
    """Converts an exported model to TFLite, compares the two, and writes a single file.

    The part `clip` is `serving_default` for one clip. Its number of frames is dynamic (`resize_tensor_input`), unless
    `frames` fixes it. The part `frame` is `frame` for one face and, where features are pooled over time, `step` and
    `classify`; then the app pools. Faces are uint8 and outputs float32 in every format. An operator without an int8
    kernel stays in float32.

    Args:
        version: Folder `NAME/VERSION` that `affect export` wrote.
        out: `.tflite` file; `None` is `NAME-VERSION-PART-TO.tflite` beside the folder NAME.
        to: `"float32"`; `"float16"`, weights of half the size; `"dynamic"`, weights of a quarter of the size, without
            calibration; `"int8"`, weights and arithmetic, calibrated on faces of `data`.
        part: What is converted.
        data: Folder of shards with faces to compare on; `None` is the golden faces of the model.
        split: Split that is compared on.
        calibration_split: Split that is calibrated on; `None` is the training split.
        frames: Fixed number of frames in a clip, for runtimes that take only static shapes; `None` is dynamic.
        clips: Most clips, evenly spaced over a split, to calibrate on and to compare on.

    Returns:
        Dict: `path`, `to`, `part`, `frames`; `bytes`; `operators`, name → count; `compared_on` and `calibrated_on`,
        sentences; `differences`, signature → output → `largest` and `mean` difference from the SavedModel, for logits
        after a softmax; `label_agreement`, the share of `labels_compared` labels that are the same (`None` for a
        regression); and `latency_ms`: the medians of `tflite` and `saved_model`, which run in turn, the `shape` of
        their input, and `threads`.

    Raises:
        InputError: As `read_saved_model`; on an unknown choice; if the graph needs an operator that is not builtin; if
            int8 has no faces; or if a float32 model does not reproduce the SavedModel's outputs.
    """
    _check_choice("to", to, NUMBERS)
    _check_choice("part", part, PARTS)
    artefact = read_saved_model(version)
    path = artefact.path.resolve()
    out = Path(out or path.parent.with_name(f"{path.parent.name}-{path.name}-{part}-{to}{SUFFIX}"))
    if out.suffix != SUFFIX or out.is_dir():
        raise InputError(f"The output must be a file {SUFFIX}. Received: {out}")
    names = [name for name in PARTS[part] if name in artefact.description["signatures"]]
    if not names:
        raise InputError(
            f"{version} has no signature frame, because it does not read frames one by one. Use part clip."
        )
    if frames and part == "frame":
        raise InputError(f"Only part clip has a number of frames; part frame takes one face. Received: frames={frames}")
    if to == "int8" and data is None:
        raise InputError("int8 is calibrated on real faces. Give the shards: --data SHARDS")

    compared_clips = _read_clips(artefact, data, split, clips, frames)
    requests = _list_requests(artefact, names, compared_clips)
    calibrated_on, calibration = None, None
    if to == "int8":
        calibration_split = calibration_split or artefact.experiment.data.train_split
        width = frames or artefact.experiment.data.frames
        calibration_clips = _read_clips(artefact, data, calibration_split, clips, width)
        padded = [_pad_for_calibration(clip, index, width) for index, clip in enumerate(calibration_clips)]
        # Add a clip whose frames are all masked. Without it the scale of the tensor that detects such a clip would be
        # 0, and this scale is a divisor.
        padded.append(padded[0] | {"frame_mask": np.zeros_like(padded[0]["frame_mask"])})
        calibration = _list_requests(artefact, names, padded)
        calibrated_on = f"{len(calibration_clips)} clips of split {calibration_split} of {data}"

    model = to_flatbuffer(artefact, names, frames, to, calibration)
    counts = count_operators(model)
    if foreign := sorted(name for name in counts if name.startswith("custom:")):
        raise InputError(f"{version} does not convert to builtin operators: it needs {', '.join(foreign)}.")
    conversion = {
        "to": to,
        "part": part,
        "frames": frames,
        "calibrated_on": calibrated_on,
        "tensorflow": tf.__version__,
        "saved_model_sha256sums": hashlib.sha256((artefact.path / SUMS).read_bytes()).hexdigest(),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".convert-", dir=out.parent) as folder:
        temporary = Path(folder) / f"model{SUFFIX}"
        write_tflite(temporary, _add_description(model, artefact, names, conversion), artefact.classes)
        converted, size = read_tflite(temporary), temporary.stat().st_size
        compared = _compare(artefact, converted, requests)
        worst = compared.pop("worst")
        if to == "float32" and worst > TOLERANCE:
            raise InputError(
                f"The float32 model differs from {version} by {worst:.1e}, above {TOLERANCE}. Nothing was written."
            )
        latency = _measure_latency(artefact, converted, *requests[0])
        os.replace(temporary, out)
    source = f"split {split} of {data}" if data else "the golden faces"
    return {
        "path": str(out),
        "to": to,
        "part": part,
        "frames": frames,
        "bytes": size,
        "operators": counts,
        "compared_on": f"{len(compared_clips)} clips of {source}",
        "calibrated_on": calibrated_on,
        **compared,
        "latency_ms": latency,
    }


def _check_choice(name, value, known):
    if value not in known:
        raise InputError(f"Unknown `{name}`. Expected one of {list(known)}. Received: {value!r}")


def _read_clips(artefact, data, split, most, frames):
    """Returns clips with a face, dicts of inputs: faces uint8 (1, F, S, S, 3), frame_mask bool (1, F)."""
    if data is None:
        inputs, _ = artefact.golden()["serving_default"]
        clips = [{key: value[index : index + 1] for key, value in inputs.items()} for index in range(2)]
        return [{key: value[:, :frames] for key, value in clip.items()} for clip in clips]
    shards = Shards(data)
    sampling = replace(artefact.experiment.data, batch_clips=1)
    if frames:
        sampling = replace(sampling, eval_frames=min(frames, sampling.eval_frames))
    batches = artefact.task.read_evaluation_inputs(artefact, shards, sampling, split=split, most=most, frames=frames)
    clips = [{key: batch[key][:, :frames].numpy() for key in ("faces", "frame_mask")} for batch in batches]
    if not clips:
        raise InputError(f"{data} has no clip with a face in split {split!r}. Choose another split.")
    return clips


def _pad_for_calibration(clip, index, width):
    """Pads a clip to `width` frames. The calibrator fails if it must resize, because it resizes inputs one by one.

    The second half of every fourth clip is masked too, so that calibration sees masked frames that hold faces.
    """
    missing = width - clip["frame_mask"].shape[1]
    padded = {key: np.pad(value, [(0, 0), (0, missing)] + [(0, 0)] * (value.ndim - 2)) for key, value in clip.items()}
    if index % 4 == 3:
        padded["frame_mask"][:, width // 2 :] = False
    return padded


def _list_requests(artefact, names, clips):
    """Returns the requests `(signature, inputs)` of some clips, one after the other."""
    return list(itertools.chain.from_iterable(_make_requests(artefact, names, clip) for clip in clips))


def _make_requests(artefact, names, clip):
    """Yields `(signature, inputs)` for a clip: the whole clip, or its frames and the features that the app pools."""
    if names == ["serving_default"]:
        yield "serving_default", clip
        return
    faces = clip["faces"][clip["frame_mask"]][:, None]
    answers = []
    for face in faces:
        yield "frame", {"faces": face}
        if "classify" in names:
            answers.append(artefact.signature("frame")({"faces": face})["frame_features"])
    if "step" in names and answers:
        step = artefact.signature("step")
        shapes = artefact.description["signatures"]["step"]["inputs"]
        state = {key: np.zeros((1, shapes[key]["shape"][1]), np.float32) for key in ("hidden", "cell")}
        for features in answers:
            yield "step", {"frame_features": features, **state}
            after = step({"frame_features": features, **state})
            state = {key: after[key] for key in state}
        yield "classify", {"pooled_features": state["hidden"]}
    elif answers:
        features = np.concatenate(answers)
        pooled = np.concatenate([features.mean(axis=0), features.std(axis=0)])[None]
        yield "classify", {"pooled_features": pooled}


def to_flatbuffer(
    artefact: SavedModel,
    names: Sequence[str],
    frames: int | None,
    to: Number,
    calibration: Sequence[tuple[str, Mapping[str, np.ndarray]]] | None,
) -> bytes:
    """Converts signatures for one clip or face.

    Args:
        artefact: The model.
        names: Names of the signatures.
        frames: Fixed number of frames in a clip; `None` is dynamic.
        to: Format of weights and arithmetic.
        calibration: `(signature, inputs)` for `"int8"`.

    Returns:
        The flatbuffer, without a description.

    Raises:
        InputError: If it needs an operator that is not builtin, or its int8 cannot be calibrated.
    """
    with tempfile.TemporaryDirectory(prefix="affect-") as folder:
        written = _write_for_one(artefact.loaded, names, frames, folder)
        if to == "int8" and frames and written & {"While", "StatelessWhile"}:
            raise InputError(
                f"{artefact.path} has a recurrent layer, over whose fixed frames TFLite's calibrator crashes. "
                f"Leave its frames free. Received: frames={frames}"
            )
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=names)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if to != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if to == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if to == "int8":
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
            converter.representative_dataset = lambda: iter(calibration or ())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # about the calibrator's own interpreter, an old one
                return converter.convert()
        except ConverterError as error:
            found = re.findall(r"^(?:TF Select|Custom) ops: (.+)$", str(error), re.MULTILINE)
            reason = f"it needs {', '.join(found)}" if found else str(error).splitlines()[0]
            raise InputError(f"{artefact.path} does not convert to builtin operators: {reason}.") from error


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
        raise InputError(f"{source} is no SavedModel ({str(error).splitlines()[0]}).") from error
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
    """Returns a flatbuffer with the artefact's description, limited to its own signatures, in its metadata."""
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
    description = artefact.description | {"kind": KIND, "signatures": signatures, "conversion": conversion}
    tree = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
    buffer, entry = BufferT(), MetadataT()
    buffer.data = np.frombuffer(json.dumps(description, ensure_ascii=False).encode(), np.uint8)
    entry.name, entry.buffer = METADATA, len(tree.buffers)
    tree.buffers.append(buffer)
    tree.metadata = [*(tree.metadata or ()), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(tree))


def _compare(artefact, converted, requests):
    """Returns `differences`, `label_agreement`, `labels_compared`, and `worst`, the largest difference as in `check`.

    The importance of frames is left out of `worst`: if frames tie for the maximum, rounding decides between them.
    """
    found, matches, worst = {}, [], 0.0
    for name, inputs in requests:
        expected, outputs = artefact.signature(name)(inputs), converted.signature(name)(inputs)
        for key, value in expected.items():
            if value.dtype.kind != "f":
                continue
            if key != "frame_importance":
                worst = max(worst, measure_difference(outputs[key], value))
            of_classes = key == "probabilities" or key.endswith("logits")
            if of_classes:
                matches.append(np.argmax(outputs[key], axis=-1) == np.argmax(value, axis=-1))
            pair = [softmax(array) if key.endswith("logits") else array for array in (outputs[key], value)]
            found.setdefault(name, {}).setdefault(key, []).append(np.abs(pair[0] - pair[1]).ravel())
    differences = {
        name: {
            key: {"largest": float(np.concatenate(values).max()), "mean": float(np.concatenate(values).mean())}
            for key, values in outputs.items()
        }
        for name, outputs in found.items()
    }
    same = np.concatenate(matches) if matches else np.array([])
    return {
        "differences": differences,
        "label_agreement": float(same.mean()) if same.size else None,
        "labels_compared": int(same.size),
        "worst": worst,
    }


def _measure_latency(artefact, converted, name, inputs):
    """Returns the median times of both models in ms, from arrays to arrays. The models run in turn."""
    times = {"tflite": [], "saved_model": []}
    calls = {"tflite": converted.signature(name), "saved_model": artefact.signature(name)}
    for _ in range(TIMED_RUNS):
        for key, call in calls.items():
            start = time.perf_counter()
            call(inputs)
            times[key].append(1000 * (time.perf_counter() - start))
    shape = list(next(iter(inputs.values())).shape)
    return {key: statistics.median(values) for key, values in times.items()} | {
        "shape": shape,
        "threads": os.cpu_count(),
    }

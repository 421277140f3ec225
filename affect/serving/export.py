"""export(): a run → a SavedModel or an ONNX model with named signatures, and all that is needed to use and serve it."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import keras
import numpy as np
import skimage.data
import tensorflow as tf

from affect.config import FrameClassifier, find_config, read_json, to_json, write_json
from affect.data.clips import LANDMARKS
from affect.errors import InputError
from affect.extras import find_missing, require
from affect.files import make_in_folder, name_failure, sha256_of
from affect.models.device import list_versions
from affect.models.published import weights_sha256
from affect.reading.artefact import FORMAT
from affect.reading.run import Trained, load_trained
from affect.reading.saved_model import ASSETS, write_sums
from affect.serving.check import check
from affect.tasks.signatures import TENSORS, Signature, build_signatures, decode_faces
from affect.tasks.task import MAX_FACES

WARMUP = "tf_serving_warmup_requests"
# What is written: the `kind` in affect.json.
Form = Literal["savedmodel", "onnx"]
NAMES = {"savedmodel": "SavedModel", "onnx": "ONNX model"}
# Fields of a network that its model card names.
DESCRIBED = ("backbone", "temporal", "spatial_pooling", "temporal_pooling")


def export(run: str | Path, out: str | Path, *, form: Form = "savedmodel") -> Path:
    """Exports a trained model as the next version of a name: `OUT/1`, `OUT/2`, ...

    The folder is written under a temporary name. It is read back, must reproduce its golden pairs, and is renamed. Its
    folder `assets.extra/` holds `labels.txt`, `affect.json`, `model_card.md`, `golden.npz` (inputs and outputs of every
    signature; the outputs are computed by the trained network itself, operation by operation), the warm-up requests of
    TF Serving (with the extra `serving`), and `SHA256SUMS` of all files of the version.

    An ONNX model is a file for each signature: `model.onnx` for `serving_default`, `frame.onnx` and so on. It has no
    signature `jpeg`, because ONNX decodes no JPEG, and no warm-up requests.

    Args:
        run: Folder that `affect train` wrote, or a config that needs no training, as in
            `affect.reading.run.load_trained`.
        out: Folder of the name.
        form: What is written.

    Returns:
        Folder of the version.

    Raises:
        InputError: As `load_trained` and `export_trained`.
    """
    trained = load_trained(run)
    return export_trained(trained, out, sources_of(run, trained), form=form)


def export_trained(trained: Trained, out: str | Path, sources: dict[str, Any], *, form: Form = "savedmodel") -> Path:
    """Exports a model that is in memory, as `export` describes.

    Args:
        trained: The model.
        out: Folder of the name.
        sources: Entries for `affect.json`, from `sources_of`.
        form: What is written.

    Returns:
        Folder of the version.

    Raises:
        InputError: If Keras's backend is not TensorFlow, `out` is no folder, the model reads features and not faces, or
            what was written does not reproduce the network's outputs; for ONNX, if the extra `onnx` is not installed,
            or tf2onnx has no rule for an operator.
    """
    out = Path(out)
    if form == "onnx":
        require("onnx", "affect export --format onnx")
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            "A SavedModel is written on Keras's TensorFlow backend only; runs are the same on every backend. Set "
            f"KERAS_BACKEND=tensorflow for this command. Received: KERAS_BACKEND={keras.backend.backend()}"
        )
    if trained.experiment.model.features != "faces":
        raise InputError(
            f"{trained.experiment.name} reads LGBP-TOP features, which are computed in NumPy and by no graph; an "
            "exported model takes faces. Expected a model with model.features='faces'."
        )
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file. Expected a folder for the versions of the model, such as savedmodels/NAME.")
    out.mkdir(parents=True, exist_ok=True)
    with name_failure(out), make_in_folder(out, ".export-") as folder:
        version, saved_model = folder / "version", folder / "saved_model"
        outputs = write_saved_model(trained, saved_model)
        signatures = build_signatures(trained)
        if form == "onnx":
            signatures = {name: signature for name, signature in signatures.items() if "jpegs" not in signature.inputs}
        description = {"kind": form} | _describe(trained, signatures, outputs, sources)
        if form == "onnx":
            from affect.serving.onnx import write_onnx

            write_onnx(saved_model, version, description["signatures"])
        else:
            saved_model.rename(version)
        golden = golden_pairs(trained, signatures)
        assets = version / ASSETS
        assets.mkdir()
        write_json(assets / "affect.json", description)
        (assets / "labels.txt").write_text("".join(f"{name}\n" for name in description["classes"]), encoding="utf-8")
        (assets / "model_card.md").write_text(model_card(out.name, description), encoding="utf-8")
        np.savez_compressed(assets / "golden.npz", **_flatten(golden))
        if form == "savedmodel" and not find_missing("serving"):
            write_warmup(assets / WARMUP, out.name, golden, trained.task.served_frames(trained.experiment))
        write_sums(version)
        report = check(version)
        if not report["passed"]:
            worst = max(report["differences"], key=report["differences"].get)
            raise InputError(
                f"The {NAMES[form]} of {out.name} is not the network that was trained: {worst} differs by "
                f"{report['differences'][worst]:.1e}. Nothing was exported."
            )
        return _publish(version, out)


def _publish(version, out):
    """Renames a folder to the next number. If another export takes this number first, it takes the one after it."""
    number = max((int(path.name) for path in out.iterdir() if path.name.isdecimal()), default=0)
    while True:
        number += 1
        target = out / str(number)
        if not target.exists():
            try:
                os.rename(version, target)
            except OSError:
                if not target.exists():
                    raise
            else:
                return target


def write_saved_model(trained: Trained, path: str | Path) -> dict[str, dict[str, Any]]:
    """Writes the SavedModel without `assets.extra/`.

    Args:
        trained: The model.
        path: Folder that is created.

    Returns:
        Signature → output → its `tf.TensorSpec`.
    """
    archive = keras.export.ExportArchive()
    archive.track(trained.model)
    outputs = {}
    for name, signature in build_signatures(trained, as_graph=True).items():
        function = archive.add_endpoint(name, signature.function, list(signature.inputs.values()))
        outputs[name] = function.get_concrete_function().structured_outputs
    archive.write_out(str(path), verbose=False)
    return outputs


def golden_pairs(
    trained: Trained, signatures: Mapping[str, Signature]
) -> dict[str, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Runs the network on two short clips of a portrait in the public domain, operation by operation without a graph.

    The second clip has a missing frame and a frame that is no JPEG.

    Args:
        trained: The model.
        signatures: Its signatures, without a graph.

    Returns:
        Signature → `(inputs, outputs)`, arrays by name.
    """
    random = np.random.default_rng(0)
    size = trained.faces.face_size
    portrait = skimage.data.astronaut()
    whole = []
    for shift in range(4):  # the face moves to the left
        face = tf.image.resize(portrait[20:220, 124 + 8 * shift : 324 + 8 * shift], (size, size), antialias=True)
        whole.append(tf.io.encode_jpeg(tf.cast(face, tf.uint8), quality=trained.faces.jpeg_quality).numpy())
    jpegs = np.array([whole[:3], [whole[3], b"", b"not a JPEG"]])
    faces, frame_mask = decode_faces(tf.constant(jpegs), trained.experiment.data.crop_ratio, trained.face_size)
    known = {"jpegs": jpegs, "faces": faces.numpy(), "frame_mask": frame_mask.numpy()}
    pairs = {}
    for name, signature in signatures.items():
        inputs = {}
        for key, spec in signature.inputs.items():
            if spec.dtype == tf.float32:
                inputs[key] = random.normal(size=(2, spec.shape[1])).astype(np.float32)
            else:
                inputs[key] = known[key][:, 0] if name == "frame" else known[key]
        outputs = signature.function(**{key: tf.constant(value) for key, value in inputs.items()})
        pairs[name] = inputs, {key: _unbox(value.numpy()) for key, value in outputs.items()}
    return pairs


def _unbox(array):
    """Returns an array that is saved without pickle. TensorFlow's strings are Python objects and become bytes."""
    return array.astype(bytes) if array.dtype == object else array


def _flatten(pairs):
    """Returns the pairs in the form that `SavedModel.golden` reads."""
    return {
        f"{name}/{side}/{key}": value
        for name, pair in pairs.items()
        for side, arrays in zip(("inputs", "outputs"), pair, strict=True)
        for key, value in arrays.items()
    }


def write_warmup(
    path: Path, name: str, pairs: Mapping[str, tuple[dict[str, np.ndarray], Any]], frames: Sequence[int]
) -> None:
    """Writes the warm-up requests, which TF Serving runs before it serves a version. If one fails, it does not serve.

    They are the golden inputs, and a clip of one face for each number of frames that clients pad to. A CPU computes for
    padded frames what it computes for faces.

    Args:
        path: File.
        name: Name of the model.
        pairs: From `golden_pairs`, or `affect.reading.saved_model.SavedModel.golden`.
        frames: Numbers of frames, from `affect.tasks.task.Task.served_frames`.
    """
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    requests = [(signature, inputs) for signature, (inputs, _) in pairs.items()]
    jpeg = pairs["jpeg"][0]["jpegs"][0, 0]
    clips = [[jpeg] + [b""] * (size - 1) for size in frames if size <= MAX_FACES]
    requests += [("jpeg", {"jpegs": np.array([clip], object)}) for clip in clips]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = name
            request.model_spec.signature_name = signature
            for key, value in inputs.items():
                request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString(deterministic=True))


def sources_of(run: str | Path, trained: Trained) -> dict[str, Any]:
    """Returns the sources of a model for `affect.json`: hashes, versions, metrics and licence.

    Args:
        run: A run or a config that needs no training, as in `affect.reading.run.load_trained`.
        trained: The model that was loaded from it.

    Returns:
        Dict: `checkpoint_sha256`, the hash of the run's `best.keras`, and `trained_with`, versions (both `None` without
        a run); `weights_sha256`, the hash of the published weights of the backbone, or `None`; `licence`; and
        `metrics`, split → the run's `evaluation-SPLIT.json` without its clips or recordings.
    """
    folder, _ = find_config(run)
    model = cast(FrameClassifier, trained.experiment.model)
    metrics: dict[str, Any] = {}
    sources: dict[str, Any] = {
        "licence": trained.licence or None,
        "metrics": metrics,
    }
    if folder.is_file():
        sha256 = weights_sha256(model.backbone, model.weights)
        return sources | {"checkpoint_sha256": None, "trained_with": None, "weights_sha256": sha256}
    config = read_json(folder / "config.json")
    sources["checkpoint_sha256"] = sha256_of(folder / "best.keras")
    for path in sorted(folder.glob("evaluation-*.json")):
        report = {name: value for name, value in read_json(path).items() if name not in ("clips", "recordings")}
        metrics[path.stem.removeprefix("evaluation-")] = report
    return sources | {"trained_with": config.get("versions"), "weights_sha256": config.get("weights_sha256")}


def _describe(trained, signatures, outputs, sources):
    """Returns the content of `affect.json`, which is enough to use the model without this package."""
    return {
        "format": FORMAT,
        "task": trained.task.name,
        "classes": list(trained.classes),
        "face_size": trained.face_size,
        "faces": to_json(trained.faces),
        "experiment": to_json(trained.experiment),
        "postprocessing": {name: to_json(steps) for name, steps in trained.postprocessing.items()},
        "signatures": {
            name: {
                "sentence": signature.sentence,
                "inputs": {key: _describe_tensor(key, spec) for key, spec in signature.inputs.items()},
                "outputs": {key: _describe_tensor(key, spec) for key, spec in outputs[name].items()},
            }
            for name, signature in signatures.items()
        },
        **sources,
        "exported_with": list_versions(),
    }


def _describe_tensor(name, spec):
    return {"dtype": spec.dtype.name, "shape": spec.shape.as_list(), "sentence": TENSORS[name]}


def model_card(name: str, description: Mapping[str, Any]) -> str:
    """Returns the model card in Markdown: inputs, outputs, sources, metrics and limits of the model.

    Args:
        name: Name of the model.
        description: Content of `affect.json`.
    """
    experiment, faces = description["experiment"], description["faces"]
    model = experiment["model"]
    lines = [
        f"# {name}",
        "",
        f"{description['task'].capitalize()} of face video into {', '.join(description['classes'])}. Experiment "
        f"`{experiment['name']}`, recipe `{experiment['recipe']}`: "
        + ", ".join(f"{key} {value}" for key, value in model.items() if key in DESCRIBED)
        + ". The whole configuration is in `affect.json`.",
        "",
        "## Licence and sources",
        "",
        description["licence"] or "No published weights: the licence is that of the data it was trained on.",
        "",
        *(f"- {key}: `{description[key]}`" for key in ("weights_sha256", "checkpoint_sha256") if description[key]),
        "",
        "## Faces",
        "",
        f"Faces are found by {faces['detector']}. A face is turned, scaled and shifted until its landmarks are as near "
        f"as possible to this template: {_format_template(faces['template'])}, in a unit box. The box, with a margin "
        f"of {faces['margin_ratio']:g} of its size on each side, is stored as a JPEG of {faces['face_size']} pixels on "
        f"each side, which the signature `jpeg` takes. The other signatures take uint8 RGB faces of "
        f"{description['face_size']} pixels: the central {experiment['data']['crop_ratio']:g} of the stored face, "
        "scaled.",
        "",
        "## Signatures",
        "",
        *(line for item in description["signatures"].items() for line in _format_signature(*item)),
        *_format_postprocessing(description["postprocessing"]),
        "",
        "## Metrics",
        "",
        *_format_metrics(description["metrics"]),
        "",
        "## Limits",
        "",
        "The model says what the raters of its training data would say of a face. That is not what a person feels. It "
        "was not measured on faces that differ from that data in age, skin, light or pose, unless the metrics say so.",
    ]
    return "\n".join(lines) + "\n"


def _format_template(template):
    points = zip(LANDMARKS, template, strict=True)
    return ", ".join(f"{name.replace('_', ' ')} ({x:g}, {y:g})" for name, (x, y) in points)


def _format_signature(name, signature):
    """Yields the lines of a signature."""
    yield f"**{name}**: {signature['sentence']}"
    yield ""
    for side in ("inputs", "outputs"):
        for key, tensor in signature[side].items():
            shape = ", ".join("?" if size is None else str(size) for size in tensor["shape"])
            yield f"- {side[:-1]} `{key}` {tensor['dtype']} ({shape}): {tensor['sentence']}"
    yield ""


def _format_postprocessing(postprocessing):
    """Yields the paragraph on post-processing, if there is any."""
    if postprocessing:
        yield (
            "`dimensions` are not post-processed. The metrics are of whole recordings after the steps `postprocessing` "
            "in `affect.json`, in this order: a centred median over `median_s`, `scale` · x + `offset`, a shift to "
            "`shift_s` later. Only frames with a face are read."
        )


def _format_metrics(metrics):
    """Returns the lines of the metrics, one a split."""
    if not metrics:
        return ["Not evaluated."]
    lines = []
    for split, report in metrics.items():
        optimistic = ", on which the epoch was selected: optimistic" if report.get("is_selection_split") else ""
        if "dimensions" in report:
            numbers = {
                f"{dimension} {key}": value
                for dimension, found in report["metrics"].items()
                for key, value in found["concatenated"].items()
                if value is not None
            }
        else:
            numbers = {key: value for key, value in report.get("all", report).items() if isinstance(value, int | float)}
        lines.append(
            f"- split {split}{optimistic}: " + ", ".join(f"{key} {value:.4g}" for key, value in numbers.items())
        )
    return lines

"""What the layers after the backbone cost in every form of a model, and what a frame of a stream costs.

    python -m benchmarks.inference [--backbone vgg16|mini_xception] [--seconds 20] [--out inference.json]

The model is paper A's best row. Its weights are random, because times do not depend on them. `backbone` is the same
layers up to the local features. It is exported, converted and called by the same code as the whole model, on the same
clips. The head is the layers after the backbone. Its overhead is (whole - backbone) / backbone.

All ways of a row take turns, forwards and backwards, so that other load on the machine disturbs them alike. Times are
from arrays to arrays: by the clock, and in seconds of all cores for this process alone.

Ways to run a SavedModel:

- `serving_default`, the whole model; `jpeg`, which also decodes the stored faces;
- `head` alone, on given features. Other load disturbs it less than a difference of two long times;
- `keras`, the network as `affect predict` runs it;
- `matmul`, a product of square matrices with as many operations as the backbone has.

A TFLite file takes one clip. In `free_frames` the number of frames can be resized; in the other files it is fixed.

Streams are read frame by frame, with the networks, and for longer with the pooling alone. `late` is the last tenth of a
stream, and `early` is a stream that begins with the same frames. They take turns, and cost the same if the cost does
not grow with the stream.
"""

import itertools
import os
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import cv2
import keras
import numpy as np
import skimage.data
import tensorflow as tf
import typer

from affect.config import Faces, to_json, write_json
from affect.configs.paper_a import CONFIG
from affect.data.labels import EMOTIONS
from affect.models.frame_classifier import build_frame_classifier
from affect.models.stream import StreamingClassifier
from affect.pipelines.prepare import prepare
from affect.reading.loading import read_artefact
from affect.reading.run import Trained
from affect.reading.tflite import Runner
from affect.serving.agreement import Request
from affect.serving.convert import NUMBERS, Form, convert, to_flatbuffer
from affect.serving.export import export_trained
from benchmarks.planted import track

# Backbone → (clips, frames) of the SavedModels' rows, frames of TFLite's one clip. 512 faces of VGG16 take more than a
# minute on two cores.
SIZES = {
    "mini_xception": (((1, 16), (8, 16), (32, 16)), 16),
    "vgg16": (((1, 1), (8, 1), (32, 1), (1, 16)), 1),
}
STREAM_FRAMES = 200
POOLED_FRAMES = 100_000
LEAST_ROUNDS, MOST_ROUNDS = 5, 200
MATMUL_SIDE = 1024


def measure(trained, whole, folder, *, clips, tflite_frames, stream_frames, pooled_frames, seconds, numbers=NUMBERS):
    """Measures a model in all its forms.

    Args:
        trained: `affect.reading.run.Trained` of joint softmax pooling.
        whole: `affect.reading.artefact.Artefact`, the same exported.
        folder: Empty folder for the two halves and what is converted.
        clips: Pairs of clips and frames a clip, a row each.
        tflite_frames: Frames of the clip that TFLite files are given.
        stream_frames: Frames that are read one by one.
        pooled_frames: Frames of the stream without a network.
        seconds: Time for the rounds of one row. There are at least 5 rounds.
        numbers: Of `affect.serving.convert.NUMBERS`.

    Returns:
        Dict, JSON: `machine`, `saved_model` and `tflite`, lists of rows, and `stream`, rows by name. A row's `ways`
        have median and least milliseconds, and the median in CPU time. Its `head_overhead` is the ratio less 1 of the
        medians, of their CPU times and of the least times, and the quartiles of the rounds' own ratios; `alone` is the
        head's own time over the backbone's.
    """
    folder = Path(folder)
    halves = export_halves(trained, whole, folder / "halves")
    backbone = trained.model.get_layer("backbone")
    # Every 4-D weight is a kernel of a convolution, used once at each location of the layer's output.
    flops = sum(
        2 * int(np.prod(weight.shape)) * int(np.prod(layer.output.shape[1:3]))
        for layer in backbone.layers
        for weight in layer.weights
        if len(weight.shape) == 4
    )
    result = {
        "model": to_json(trained.experiment.model),
        "face_size": trained.face_size,
        "backbone_mflop_a_face": flops / 1e6,
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "load_average_before": os.getloadavg()[0],
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        },
    }
    result["saved_model"] = [
        time_saved_model(trained, whole, halves, shape, seconds=seconds, flops=flops)
        for shape in track(clips, len(clips), "SavedModel")
    ]
    result["tflite"] = tflite_rows(trained, whole, halves, folder, tflite_frames, seconds=seconds, numbers=numbers)
    result["stream"] = stream_rows(trained, whole, halves, stream_frames, pooled_frames)
    result["machine"]["load_average_after"] = os.getloadavg()[0]
    return result


def export_halves(trained, whole, path):
    """Exports the layers up to the local features and those after them.

    Args:
        trained: `affect.reading.run.Trained`.
        whole: `affect.reading.artefact.Artefact`, the same exported.
        path: Folder for the SavedModel.

    Returns:
        `Artefact` of the signatures `backbone`, of `faces`, and `head`, of `faces` (for their number), `frame_mask`
        and `features`, to be called as the whole is.
    """
    inputs = trained.model.input
    features = {"features": trained.model.get_layer("locations").input}
    halves = {"backbone": ({"faces": inputs["faces"]}, features), "head": (inputs | features, trained.network.output)}
    archive = keras.export.ExportArchive()
    signatures = {}
    for name, (begin, end) in halves.items():
        network = keras.Model(list(begin.values()), end)
        archive.track(network)
        specs = [tf.TensorSpec(value.shape, value.dtype, key) for key, value in begin.items()]
        archive.add_endpoint(name, partial(_call, network), specs)
        signatures[name] = {
            side: {key: {"dtype": value.dtype, "shape": list(value.shape)} for key, value in tensors.items()}
            for side, tensors in (("inputs", begin), ("outputs", end))
        }
    archive.write_out(str(path), verbose=False)
    return replace(whole, path=path, description={"classes": list(whole.classes), "signatures": signatures})


def _call(network, *tensors):
    return network(list(tensors), training=False)


def time_saved_model(trained, whole, halves, shape, *, seconds, flops):
    """Returns a row: the SavedModels, the Keras network and a matmul on clips of a shape `(B, F)`."""
    inputs, jpegs = clips_of(trained, *shape)
    one = tf.random.normal((MATMUL_SIDE, MATMUL_SIDE))
    calls = {name: whole.signature(name) for name in ("serving_default", "jpeg")}
    backbone, head = halves.signature("backbone"), halves.signature("head")
    local = inputs | backbone({"faces": inputs["faces"]})
    ways = {
        "backbone": lambda: backbone({"faces": inputs["faces"]}),
        "head": lambda: head(local),
        "serving_default": lambda: calls["serving_default"](inputs),
        "jpeg": lambda: calls["jpeg"]({"jpegs": jpegs}),
        "keras": lambda: trained.network.predict_on_batch(inputs),
        "matmul": lambda: tf.matmul(one, one).numpy(),
    }
    times = take_turns(ways, seconds)
    times["matmul"] *= flops * shape[0] * shape[1] / (2 * MATMUL_SIDE**3)
    row = {"clips": shape[0], "frames": shape[1], **describe(times, faces=shape[0] * shape[1])}
    alone, cpu = np.median(times["head"], axis=0) / np.median(times["backbone"], axis=0)
    found = overhead(times["serving_default"], times["backbone"])
    return row | {"head_overhead": found | {"alone": float(alone), "alone_cpu": float(cpu)}}


def tflite_rows(trained, whole, halves, folder, frames, *, seconds, numbers):
    """Returns a row for each kind of numbers: the TFLite file of a clip and that of the backbone."""
    inputs, _ = clips_of(trained, 1, frames)
    rows = []
    for to in track(numbers, len(numbers), "TFLite"):
        shards = make_shards(trained, folder, frames) if to == "int8" else None
        calibration = {"calibration_data": shards, "calibration_split": "train", "calibration_clips": 2}
        fixed = convert(whole.path, folder / f"{to}.tflite", to=to, frames=frames, **calibration)
        files = {"clip": read_artefact(fixed["path"])}
        if to == "float32":
            free = convert(whole.path, folder / "free.tflite", to=to)
            files["free_frames"] = read_artefact(free["path"])
        request = Request("a clip", "backbone", {"faces": inputs["faces"]})
        content = to_flatbuffer(halves, ["backbone"], Form(to, "clip", frames), [request])
        runner = Runner(content, halves.description | {"conversion": {"frames": frames}})
        ways = {"backbone": lambda runner=runner: runner.run("backbone", {"faces": inputs["faces"]})}
        for name, file in files.items():
            call = file.signature("serving_default")
            ways[name] = lambda call=call: call(inputs)
        times = take_turns(ways, seconds)
        row = {"to": to, "clips": 1, "frames": frames, "bytes": fixed["bytes"], "backbone_bytes": len(content)}
        rows.append(row | describe(times, faces=frames) | {"head_overhead": overhead(times["clip"], times["backbone"])})
    return rows


def stream_rows(trained, whole, halves, frames, pooled_frames):
    """Returns a row of each way to read a stream, and of pooling alone."""
    signature, features = whole.signature("frame"), halves.signature("backbone")
    scores = itertools.cycle(np.random.default_rng(0).normal(size=(997, 1, len(trained.classes))))
    keras_frame = trained.frame_functions["frame"]
    backbone = {"backbone": lambda face: features({"faces": face[None, None]})}
    return {
        "keras": stream_row(trained, keras_frame, frames, backbone),
        "saved_model": stream_row(trained, lambda faces: signature({"faces": faces}), frames, backbone),
        "pooling_alone": stream_row(trained, lambda faces: {"frame_logits": next(scores)}, pooled_frames, {}),
    }


def stream_row(trained, network, frames, others):
    """Returns what a frame costs late in a stream and early in one, beside other functions of a face."""
    early, late = (StreamingClassifier({"frame": network}, trained.experiment.model, trained.classes) for _ in range(2))
    faces = itertools.cycle(clips_of(trained, 1, 16)[0]["faces"][0])
    begin = frames - frames // 10
    for index in range(begin):
        late.add(index / 25, next(faces))
    times = {name: [] for name in (*others, "early", "late")}
    for index in range(begin, frames):
        face = next(faces)
        ways = {name: partial(call, face) for name, call in others.items()}
        ways |= {"early": partial(early.add, index / 25, face), "late": partial(late.add, index / 25, face)}
        for name in list(ways)[:: 1 if index % 2 else -1]:
            times[name].append(_seconds(ways[name]))
    times = {name: np.array(values) for name, values in times.items()}
    row = {"frames": frames, **describe(times, faces=1), "growth": overhead(times["late"], times["early"])}
    return row | ({"head_overhead": overhead(times["late"], times["backbone"])} if "backbone" in others else {})


def take_turns(ways, seconds):
    """Returns float64 (rounds, 2) of each way: seconds by the clock and of all cores. The order alternates."""
    for way in ways.values():
        way()  # the first call builds the graph
    times = {name: [] for name in ways}
    begin = time.perf_counter()
    for count in range(MOST_ROUNDS):
        if count >= LEAST_ROUNDS and time.perf_counter() - begin > seconds:
            break
        for name in list(ways)[:: 1 if count % 2 else -1]:
            times[name].append(_seconds(ways[name]))
    return {name: np.array(values) for name, values in times.items()}


def _seconds(call):
    wall, cores = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cores


def describe(times, *, faces):
    """Returns the number of rounds and, for each way, milliseconds and faces a second."""
    ways = {}
    for name, values in times.items():
        (median, cores), (least, _) = np.median(values, axis=0).tolist(), values.min(axis=0).tolist()
        ways[name] = {
            "median_ms": 1000 * median,
            "min_ms": 1000 * least,
            "cpu_ms": 1000 * cores,
            "faces_a_second": faces / median,
        }
    return {"rounds": len(next(iter(times.values()))), "ways": ways}


def overhead(whole, part):
    """Returns how much longer the whole model takes than the backbone, as shares of the backbone's time."""
    median, cpu = np.median(whole, axis=0) / np.median(part, axis=0) - 1
    return {
        "median": float(median),
        "cpu": float(cpu),
        "min": float(whole[:, 0].min() / part[:, 0].min() - 1),
        "quartiles": np.quantile(whole[:, 0] / part[:, 0] - 1, (0.25, 0.5, 0.75)).tolist(),
    }


def clips_of(trained, clips, frames):
    """Returns `(inputs, jpegs)` of as many clips of a portrait: for `serving_default`, and as stored JPEGs."""
    views = [portrait(trained.face_size, shift=4 * frame) for frame in range(frames)]
    stored = portrait(trained.faces.face_size)
    jpeg = tf.io.encode_jpeg(stored, quality=trained.faces.jpeg_quality).numpy()
    faces = np.tile(np.stack(views), (clips, 1, 1, 1, 1))
    return {"faces": faces, "frame_mask": np.ones((clips, frames), bool)}, np.full((clips, frames), jpeg, object)


def portrait(size, *, shift=0):
    """Returns the astronaut's face, uint8 RGB (size, size, 3), `shift` pixels to the side."""
    left = 124 + shift % 100
    return cv2.resize(skimage.data.astronaut()[20:220, left : left + 200], (size, size), interpolation=cv2.INTER_AREA)


def make_shards(trained, folder, frames):
    """Writes shards of two clips in AFEW's layout of aligned faces, because int8 is calibrated on shards."""
    source = folder / "faces" / "Train_AFEW"
    for index, label in enumerate(("Angry", "Happy")):
        (source / label).mkdir(parents=True)
        (source / label / f"{index}.avi").touch()
        faces = source / "AlignedFaces_LBPTOP_Points" / "Faces" / str(index)
        faces.mkdir(parents=True)
        for frame in range(frames):
            image = portrait(trained.faces.face_size, shift=8 * (frame + index))
            cv2.imwrite(str(faces / f"{frame:03d}.jpg"), image[..., ::-1])
    prepare(folder / "faces", dataset="afew_faces", out=folder / "shards", faces=trained.faces, workers=1)
    return folder / "shards"


def text(result):
    """Returns the result in one line."""
    parts = []
    for row in result["saved_model"]:
        ways = ", ".join(f"{name} {way['median_ms']:.1f} ms" for name, way in row["ways"].items())
        parts.append(f"{row['clips']}×{row['frames']}: {ways}, {_shares(row['head_overhead'])}")
    for row in result["tflite"]:
        ways = ", ".join(f"{name} {way['median_ms']:.1f} ms" for name, way in row["ways"].items())
        parts.append(f"tflite {row['to']}: {ways}, {_shares(row['head_overhead'])}")
    for name, row in result["stream"].items():
        parts.append(
            f"stream {name}: {row['ways']['late']['median_ms']:.3g} ms a frame, after {row['frames']} frames "
            f"{row['growth']['median']:+.1%}"
        )
    loads = (result["machine"][f"load_average_{when}"] for when in ("before", "after"))
    return f"{result['model']['backbone']}: {'; '.join(parts)}; load {' to '.join(f'{load:.1f}' for load in loads)}"


def _shares(found):
    alone = f", by itself {found['alone']:.1%}" if "alone" in found else ""
    return f"head {found['median']:+.1%}, by CPU time {found['cpu']:+.1%}{alone}"


def main(backbone: Literal["vgg16", "mini_xception"] = "vgg16", seconds: float = 20, out: Path | None = None):
    """Measure latency, throughput and the head's overhead of paper A's best row."""
    clips, tflite_frames = SIZES[backbone]
    model = replace(CONFIG.model, backbone=backbone, weights=None)
    experiment = replace(CONFIG, model=model)
    trained = Trained(build_frame_classifier(model, EMOTIONS), experiment, EMOTIONS, Faces())
    sources = {"licence": None, "metrics": {}, "checkpoint_sha256": None, "trained_with": None, "weights_sha256": None}
    with tempfile.TemporaryDirectory() as folder:
        result = measure(
            trained,
            read_artefact(export_trained(trained, Path(folder) / "whole", sources)),
            folder,
            clips=clips,
            tflite_frames=tflite_frames,
            stream_frames=STREAM_FRAMES,
            pooled_frames=POOLED_FRAMES,
            seconds=seconds,
        )
    print(text(result))
    if out:
        write_json(out, result)


if __name__ == "__main__":
    typer.run(main)

"""What training costs: reading faces, an epoch with a frozen backbone, and one step beside bare Keras and PyTorch.

    python -m benchmarks.training pipeline SHARDS
    python -m benchmarks.training epoch SHARDS
    python -m benchmarks.training step [--network vgg16|paper_b] [--precision bfloat16] [--pytorch PYTHON]

SHARDS is a folder of clips with classes and stored faces, such as `demo/shards` of `affect demo`. All times of
`pipeline` and `epoch` are CPU seconds of this process, because other programs do not change them much.

- `pipeline`: milliseconds a face. `decode, resize` decodes faces with OpenCV and scales their central crops, 16 at a
  time, with TensorFlow. `one by one` views each face in operations of TensorFlow, as affect did before. `batches` is
  what `affect train` reads.
- `epoch`: `affect train` of `configs/planted.py` for a few epochs, less a shorter run, so that the start does not
  count: with new views in every epoch, and with stored features.
- `step`: `train_on_batch` of one batch, all layers learn, weights are random. `affect` is the model built and compiled
  as `affect train` does. `keras` is the same network written with keras.layers and keras.applications. With
  `--pytorch PYTHON`, `pytorch` is VGG16's convolutions with mean pooling in PyTorch, channels last, in a process of
  that Python, because PyTorch and TensorFlow can crash in one. The ways take turns; the median counts. It also runs
  with KERAS_BACKEND=jax. On a GPU it prints frames a second, the share of `--peak-tflops`, such as 989, and the minutes
  that 30 epochs of 773 clips of 16 frames take, as AFEW has them.
"""

import atexit
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO, cast

import cv2
import keras
import numpy as np
import tensorflow as tf
import typer
from keras import layers, ops
from rich.console import Console
from rich.table import Table

from affect.configs.paper_a import CONFIG as PAPER_A
from affect.configs.paper_b import CONFIG as PAPER_B
from affect.configs.planted import CONFIG as PLANTED
from affect.data.augment import random_view
from affect.data.batches import train_batches
from affect.data.labels import DIMENSIONS, EMOTIONS
from affect.data.records import parse_example
from affect.data.shards import Shards
from affect.data.views import cut_square, decode_face
from affect.models.device import describe_device
from affect.models.precision import use_precision
from affect.tasks import find_task
from affect.training.train import build_optimizer, train

# Floating-point operations of VGG16's convolutions on a face of 224 × 224; a step takes three times as many.
VGG16_FLOP = 30.7e9
AFEW_FRAMES = 30 * 773 * 16


def cpu_s(work: Callable[[], Any]) -> float:
    """Returns the CPU seconds of this process that a function takes."""
    before_s = time.process_time()
    work()
    return time.process_time() - before_s


def print_table(*columns: str, rows: list[list[str]]) -> None:
    """Prints a table.

    Args:
        *columns: Headings.
        rows: Rows of text.
    """
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)


def view_one_by_one(jpegs: tf.Tensor, view: dict[str, Any], face_size: int) -> tf.Tensor:
    """Views faces in operations of TensorFlow, one face after the other.

    Args:
        jpegs: Strings (F,).
        view: From `random_view`.
        face_size: Height and width in pixels.
    """

    def turn(face, angle_rad):
        matrix = cv2.getRotationMatrix2D(((face.shape[1] - 1) / 2,) * 2, np.degrees(angle_rad), 1)
        return cv2.warpAffine(face, matrix, face.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)

    def view_face(jpeg):
        face = tf.io.decode_jpeg(jpeg, channels=3, dct_method="INTEGER_ACCURATE")
        crop = tf.cast(tf.round(tf.cast(tf.shape(face)[0], tf.float32) * view["crop_ratio"]), tf.int32)
        top_left = tf.cast(tf.round(view["offset"] * tf.cast(tf.shape(face)[:2] - crop, tf.float32)), tf.int32)
        face = tf.slice(face, tf.concat([top_left, [0]], 0), tf.stack([crop, crop, 3]))
        if view["angle_rad"] is not None:
            face = tf.numpy_function(turn, [face, tf.cast(view["angle_rad"], tf.float64)], tf.uint8)
        face = tf.cond(view["flip"], lambda: tf.reverse(face, [1]), lambda: face)
        face = tf.image.resize(tf.ensure_shape(face, (None, None, 3)), (face_size, face_size), antialias=True)
        return tf.cast(tf.round(face), tf.uint8)

    return tf.map_fn(view_face, jpegs, fn_output_signature=tf.TensorSpec((face_size, face_size, 3), tf.uint8))


def measure_pipeline(shards: Path, rounds: int, face_size: int = 64, faces: int = 2048) -> None:
    """Prints the milliseconds that reading a face takes.

    Args:
        shards: Folder of shards.
        rounds: Measurements, of which the median counts.
        face_size: Of the network, in pixels.
        faces: Faces of a measurement.
    """
    found = Shards(shards)
    data = PLANTED.data
    keys = [clip["key"] for clip in found.of_split(data.train_split) if clip["frames_with_a_face"] and clip["label"]]
    jpegs = []
    for serialized in tf.data.TFRecordDataset(found.files(data.train_split)):
        jpegs += parse_example(serialized)["image/encoded"].numpy().tolist()
    jpegs = [jpegs[place % len(jpegs)] for place in range(faces)]

    def decode_and_resize():
        for start in range(0, faces, 16):
            decoded = [cut_square(decode_face(jpeg), data.crop_ratio) for jpeg in jpegs[start : start + 16]]
            tf.image.resize(np.stack(decoded), (face_size, face_size), antialias=True)

    clips = tf.data.Dataset.from_tensor_slices(jpegs).batch(16).enumerate()
    view = random_view(data, tf.constant([0, 0]))
    singly = clips.map(lambda place, jpegs: view_one_by_one(jpegs, view, face_size), num_parallel_calls=2).prefetch(2)
    batches, _ = train_batches(found, data, classes=found.classes, keys=keys, face_size=face_size, seed=0)

    ways = {
        "decode, resize": decode_and_resize,
        "one by one": lambda: [None for _ in singly],
        "batches": lambda: [None for _ in batches.take(faces // (data.batch_clips * data.frames))],
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            times[name].append(1000 * cpu_s(work) / faces)
    least = statistics.median(times["decode, resize"])
    rows = [
        [name, f"{statistics.median(taken):.2f}", f"{statistics.median(taken) / least:.2f}"]
        for name, taken in times.items()
    ]
    print_table("way", "CPU ms a face", "× decode, resize", rows=rows)


def measure_epoch(shards: Path, short: int = 4, epochs: int = 12) -> None:
    """Prints the CPU milliseconds of an epoch with a frozen mini-Xception.

    Args:
        shards: Folder of shards.
        short: Epochs of the shorter run.
        epochs: Epochs of the longer run.
    """
    rows = []
    for name, views in (("new views in every epoch", None), ("stored features, one view", 1)):
        taken = []
        for count in (short, short, epochs):  # the first run warms up
            settings = replace(PLANTED.train, epochs=count, restart_epochs=2, feature_views=views)
            experiment = replace(PLANTED, train=settings)
            with tempfile.TemporaryDirectory() as folder:
                run = lambda: train(experiment, data=shards, workdir=folder, progress=False)  # noqa: B023, E731
                taken.append(cpu_s(run))
        each_s = (taken[2] - taken[1]) / (epochs - short)
        rows.append([name, f"{1000 * each_s:.0f}", f"{taken[1] - short * each_s:.1f}"])
    print_table("training", "CPU ms an epoch", "CPU s before the first epoch", rows=rows)


def write_vgg16() -> keras.Model:
    """Returns paper A's network, written with keras.applications and keras.layers."""
    faces = keras.Input((16, 224, 224, 3), dtype="uint8", name="faces")
    x = ops.reshape(ops.cast(faces, keras.config.dtype_policy().compute_dtype), (-1, 224, 224, 3))
    vgg16 = keras.applications.VGG16(include_top=False, weights=None, input_shape=(224, 224, 3))
    x = keras.Model(vgg16.input, vgg16.get_layer("block5_conv3").output)(x / 64 - 2)
    x = layers.Reshape((196, 512))(x)
    weights = ops.softmax(layers.Dense(2)(layers.Dense(256, "tanh", use_bias=False)(x)), axis=1)
    x = layers.Reshape((1024,))(ops.matmul(ops.transpose(weights, (0, 2, 1)), x))
    scores = ops.reshape(layers.Dense(len(EMOTIONS), dtype="float32")(x), (-1, 16, len(EMOTIONS)))
    return keras.Model(faces, ops.logsumexp(scores, axis=1))


def write_paper_b(frames: int) -> keras.Model:
    """Returns paper B's network, written with keras.layers.

    Args:
        frames: Frames of a window.
    """
    faces = keras.Input((frames, 96, 96, 3), dtype="uint8", name="faces")
    pixels = ops.cast(faces, keras.config.dtype_policy().compute_dtype) / 64 - 2
    x, maps = pixels, ops.reshape(pixels, (-1, 96, 96, 3))
    for filters in (64, 128, 256):
        maps = layers.MaxPooling2D(2)(layers.Conv2D(filters, 5, padding="same", activation="relu")(maps))
        x = layers.MaxPooling3D((1, 2, 2))(layers.Conv3D(filters, 3, padding="same", activation="relu")(x))
    maps = ops.reshape(maps, (-1, frames, 12, 12, 256))
    scores = layers.ConvLSTM2D(64, 3, padding="same", return_sequences=True)(maps)
    scores = layers.Reshape((frames, 144))(layers.Conv3D(1, 1, dtype="float32")(scores))
    attention = ops.reshape(ops.softmax(scores) * 144, (-1, frames, 12, 12, 1))
    x = layers.Conv3D(256, 3, padding="same", activation="relu")(x * ops.cast(attention, x.dtype))
    x = layers.Dropout(0.5)(layers.Dense(300, "relu")(ops.mean(x, axis=(2, 3))))
    return keras.Model(faces, layers.Dense(len(DIMENSIONS), dtype="float32")(x))


def make_keras_ways(network: str, precision: str, jit_compile: Any) -> dict[str, Callable[[], Any]]:
    """Returns name → a function that takes one step.

    Args:
        network: `"vgg16"` or `"paper_b"`.
        precision: As of `train.precision`.
        jit_compile: As `keras.Model.compile` takes it.
    """
    draw = np.random.default_rng(0).integers
    if network == "vgg16":
        experiment = replace(PAPER_A, model=replace(PAPER_A.model, weights=None))
        names, shape, labels = EMOTIONS, (1, 16, 224, 224, 3), np.eye(len(EMOTIONS), dtype=np.float32)[:1]
        loss: Any = keras.losses.CategoricalCrossentropy(from_logits=True)
    else:
        experiment, names, shape = PAPER_B, DIMENSIONS, (1, PAPER_B.windows.frames, 96, 96, 3)
        loss, labels = "mean_squared_error", np.zeros((1, shape[1], 2), np.float32)
    experiment = replace(experiment, train=replace(experiment.train, precision=precision))
    faces, frame_mask = draw(0, 256, shape).astype(np.uint8), np.ones(shape[:2], bool)
    with use_precision(experiment.train.precision):
        ours = find_task(experiment).build(experiment.model, names, experiment.train)
        bare = write_vgg16() if network == "vgg16" else write_paper_b(shape[1])
    ours.compile(build_optimizer(ours, experiment.train, 1000), loss, jit_compile=jit_compile)
    optimizer = (
        keras.optimizers.SGD(1e-3, momentum=0.9, nesterov=True, weight_decay=5e-5)
        if network == "vgg16"
        else keras.optimizers.AdamW(1e-3, weight_decay=5e-5)
    )
    bare.compile(optimizer, loss, jit_compile=jit_compile)
    return {
        "affect": lambda: ours.train_on_batch({"faces": faces, "frame_mask": frame_mask}, labels),
        "keras": lambda: bare.train_on_batch(faces, labels),
    }


def start_pytorch(python: Path, precision: str) -> Callable[[], Any]:
    """Starts `benchmarks/training_in_pytorch.py`, and returns a function that takes one step there.

    Args:
        python: Python that has PyTorch.
        precision: As of `train.precision`.
    """
    script = Path(__file__).with_name("training_in_pytorch.py")
    process = subprocess.Popen([python, script, precision], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(process.kill)
    requests, answers = cast(TextIO, process.stdin), cast(TextIO, process.stdout)

    def step():
        print(file=requests, flush=True)
        if not answers.readline():
            raise RuntimeError(f"{script} ended; {python} must have PyTorch: pip install torch numpy")

    return step


def measure_step(
    networks: list[str], precisions: list[str], rounds: int, peak_tflops: float | None, pytorch: Path | None
) -> None:
    """Prints the seconds of one step: VGG16 with 16 faces of 224 pixels, paper B with 40 faces of 96 pixels.

    Args:
        networks: `"vgg16"` and `"paper_b"`.
        precisions: As of `train.precision`.
        rounds: Steps of each way, of which the median counts.
        peak_tflops: Of the accelerator, at this precision.
        pytorch: Python that has PyTorch; `None` leaves PyTorch out.
    """
    is_cpu = describe_device(PAPER_A.train)["name"] == "CPU"
    jit_compile = False if is_cpu and keras.backend.backend() == "tensorflow" else "auto"
    rows = []
    for name in networks:
        for of in precisions:
            ways = make_keras_ways(name, of, jit_compile)
            if name == "vgg16" and pytorch:
                ways["pytorch"] = start_pytorch(pytorch, of)
            times: dict[str, list[float]] = {way: [] for way in ways}
            for turn in range(rounds + 1):  # the first one traces the graphs
                for way, take in ways.items():
                    before_s = time.perf_counter()
                    take()
                    if turn:
                        times[way].append(time.perf_counter() - before_s)
            seconds = {way: statistics.median(taken) for way, taken in times.items()}
            for way, taken_s in seconds.items():
                frames_s = (16 if name == "vgg16" else PAPER_B.windows.frames) / taken_s
                row = [name, of, way, f"{taken_s:.3f}", f"{seconds['affect'] / taken_s:.3f}", f"{frames_s:.1f}"]
                is_vgg16 = name == "vgg16"
                share = 3 * VGG16_FLOP * frames_s / 1e12 / peak_tflops if peak_tflops and is_vgg16 else None
                row.append(f"{share:.1%}" if share else "–")
                rows.append([*row, f"{AFEW_FRAMES / frames_s / 60:.0f}" if is_vgg16 else "–"])
    columns = ("network", "precision", "way", "s a step", "affect / way", "frames/s", "of peak", "30 epochs, min")
    print_table(*columns, rows=rows)


def main(
    part: Annotated[Literal["pipeline", "epoch", "step"], typer.Argument(help="What is measured.")],
    shards: Annotated[Path, typer.Argument(help="Folder of shards; step needs none.")] = Path("demo/shards"),
    network: Annotated[list[str] | None, typer.Option(help="vgg16 and paper_b.")] = None,
    precision: Annotated[list[str] | None, typer.Option(help="float32 and bfloat16.")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    peak_tflops: Annotated[float | None, typer.Option(help="Of the accelerator, at this precision.")] = None,
    pytorch: Annotated[Path | None, typer.Option(help="Python that has PyTorch, to measure it too.")] = None,
) -> None:
    """What training costs."""
    if part == "pipeline":
        measure_pipeline(shards, rounds)
    elif part == "epoch":
        measure_epoch(shards)
    else:
        measure_step(
            network or ["vgg16", "paper_b"], precision or ["float32", "bfloat16"], rounds, peak_tflops, pytorch
        )


if __name__ == "__main__":
    typer.run(main)

"""Trains in a process of its own on Keras's JAX backend, alone or as one of several, and compares such runs.

    python -m tests.trained_apart WORK.json RANK PROCESSES COORDINATOR

WORK.json is a list of `{"experiment": ..., "data": ..., "workdir": ...}`, which are trained one after the
other, because the libraries take seconds to start.
"""

import io
import json
import os
import socket
import subprocess
import sys
import zipfile
from contextlib import nullcontext
from pathlib import Path

import h5py
import numpy as np
import pytest

from affect.config import Data, Experiment, Train, VideoClassifier, from_json
from affect.training.train import read_log, train
from tests.clips import make_clip, textured, write_shards

ROOT = Path(__file__).resolve().parents[1]
CLIPS = Experiment(
    name="clips",
    model=VideoClassifier(
        None, face_size=16, blocks=1, filters=2, hidden_units=6, spatial_pooling="attention", diversity=0.5
    ),
    data=Data(batch_clips=4, frames=3, eval_frames=4, selection_ratio=0.0, selection_split="val", keep_last_batch=True),
    train=Train(
        epochs=4,
        head_learning_rate=0.02,
        restart_epochs=2,
        accumulation_steps=2,
        label_smoothing=0.1,
        class_weights=True,
    ),
)
# Compiling takes longer than these networks compute.
QUICK = "--xla_backend_optimization_level=0"
ON_JAX = {**os.environ, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3", "XLA_FLAGS": QUICK}


def free_address():
    """An address of this machine at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def start(work, processes=1, **environment):
    """Starts the processes; returns their `subprocess.Popen`. `environment` is added to that of this one."""
    coordinator = free_address()
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.trained_apart", work, str(rank), str(processes), coordinator],
            cwd=ROOT,
            env=ON_JAX | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(processes)
    ]


def clip(number, label, frames):
    return make_clip(number, frames, label=label, jpegs=[textured(10 * number + frame) for frame in range(frames)])


def write_labelled(folder):
    """Writes 18 clips to train on, four batches of 4 and a rest of 2, and 7 that select, with 2 to 5 faces."""
    train_clips = [clip(number, "happy" if number % 3 else "sad", 2 + number % 4) for number in range(18)]
    others = [clip(number, "happy" if number % 2 else "sad", 2 + number % 4) for number in range(18, 25)]
    return write_shards(folder, train=[train_clips[:10], train_clips[10:]], val=[others])


def numbers_of(path):
    """All arrays of a checkpoint: weights, momenta and counts of steps."""
    found = {}
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def check_equal(ours, theirs):
    """Compares two runs: weights after the last epoch, and the log."""
    ours_numbers, theirs_numbers = numbers_of(ours / "last.keras"), numbers_of(theirs / "last.keras")
    assert ours_numbers.keys() == theirs_numbers.keys()
    for name, values in theirs_numbers.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(ours_numbers[name], values, rtol=0, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(ours_numbers[name], values, err_msg=name)
    for row, expected in zip(read_log(ours), read_log(theirs), strict=True):
        assert row == pytest.approx(expected, rel=1e-4, abs=1e-5)


def main():
    from affect.data.ranks import Rank
    from affect.training.processes import Place, join

    work, (rank, processes) = json.loads(Path(sys.argv[1]).read_text()), map(int, sys.argv[2:4])
    place = Place(sys.argv[4], Rank(rank, processes))
    with join(place, {}) if processes > 1 else nullcontext():
        for each in work:
            experiment = from_json(Experiment, each["experiment"], "experiment")
            result = train(experiment, data=each["data"], workdir=each["workdir"], progress=False)
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()

"""Training on several devices and in several processes ends with the weights of one, which are read from the files.

The processes run on this machine's CPU and meet on loopback. What is compared: 20 steps of networks that train as a
whole, with dropout, class weights, a penalty over the frames of a batch, accumulated gradients, batch normalisation and
a smaller last batch.
"""

import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from affect.config import (
    Data,
    Experiment,
    FrameClassifier,
    Train,
    VideoRegressor,
    Windows,
    read_json,
    to_json,
    write_json,
)
from affect.data.clips import Dimensions
from affect.errors import InputError
from affect.training.train import read_log, train
from tests.clips import write_shards
from tests.commands import refused
from tests.trained_apart import CLIPS, ON_JAX, QUICK, check_equal, clip, free_address, numbers_of, start, write_labelled

RECORDINGS = Experiment(
    name="recordings",
    model=VideoRegressor(None, face_size=16, blocks=1, filters=2, hidden_units=6),
    data=Data(batch_clips=4, selection_ratio=0.0, selection_split="val"),
    train=Train(
        epochs=10, head_learning_rate=0.01, restart_epochs=10, optimizer="adam", concordance=0.5, selection_metric="ccc"
    ),
    windows=Windows(length_s=2.0, stride_s=1.0, frame_rate_hz=4.0, delay_s=0.5),
)
BATCH_NORMALISED = replace(
    CLIPS,
    name="batch normalised",
    data=replace(CLIPS.data, keep_last_batch=True),
    model=FrameClassifier("mini_xception", None, face_size=32, hidden_units=4, dropout=0.2, diversity=0.5),
    # With accumulated gradients the difference of one digit jumped to 8e-5 between the steps 10 and 15.
    train=replace(CLIPS.train, epochs=4, accumulation_steps=1, backbone_learning_rate=1e-4, head_learning_rate=1e-3),
)


def recording(number):
    """Of 5 s, with 4 faces a second; the first lacks some."""
    whole = clip(number, "", 20)
    faces = [replace(face, timestamp_s=index / 4) for index, face in enumerate(whole.faces)]
    kept = tuple(face for face in faces if number or not 1 <= face.timestamp_s < 2)
    times_s = np.arange(51) / 10
    valence, arousal = (tuple(np.sin(times_s * (1 + k) + number) / 2) for k in range(2))
    return replace(whole, faces=kept, dimensions=Dimensions(tuple(times_s), valence, arousal))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return write_labelled(tmp_path_factory.mktemp("shards") / "labelled")


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    """Two recordings to train on, whose 10 windows or so are two batches and a rest; one that selects."""
    split = [recording(number) for number in range(2)]
    return write_shards(tmp_path_factory.mktemp("shards") / "rated", classes=(), train=[split], val=[[recording(2)]])


@pytest.fixture(scope="module")
def trained(labelled, rated, tmp_path_factory):
    """Runs of one process with one device, of two processes, and of one process with two devices: their folder, and
    the results that each process printed."""
    folder, started = tmp_path_factory.mktemp("runs"), {}
    ways = {
        "one": {},
        "processes": {"processes": 2},
        "devices": {"XLA_FLAGS": f"{QUICK} --xla_force_host_platform_device_count=2"},
    }
    for name, way in ways.items():
        runs = [(CLIPS, labelled), *([(RECORDINGS, rated)] if name != "devices" else [])]
        work = folder / f"{name}.json"
        write_json(
            work,
            [
                {"experiment": to_json(each), "data": str(shards.folder), "workdir": str(folder / name / each.name)}
                for each, shards in runs
            ],
        )
        started[name] = start(work, **way)
    printed = {name: [each.communicate(timeout=300)[0] for each in found] for name, found in started.items()}
    for name, found in started.items():
        assert not any(each.returncode for each in found), printed[name]
    return folder, {name: [re.findall(r"^\{.*\}$", text, re.M) for text in texts] for name, texts in printed.items()}


@pytest.mark.parametrize(("way", "name"), [("processes", "clips"), ("processes", "recordings"), ("devices", "clips")])
def test_several_devices_learn_what_one_does(trained, way, name):
    folder, _ = trained
    ours, theirs = folder / way / name, folder / "one" / name
    check_equal(ours, theirs)
    counts = [
        int(values)
        for values in numbers_of(ours / "last.keras").values()
        if values.dtype.kind in "iu" and not values.shape
    ]
    assert 20 in counts  # steps
    # The convolutions learn, too: what the optimizer keeps for them is not 0.
    kept = [values for name, values in numbers_of(ours / "last.keras").items() if name.startswith("optimizer")]
    assert any(values.ndim == 4 and values.any() for values in kept)


def test_the_first_process_alone_writes_and_all_return_the_same(trained):
    folder, results = trained
    assert results["processes"][0] == results["processes"][1] != []
    for each in (CLIPS, RECORDINGS):
        ours, theirs = ({path.name for path in (folder / way / each.name).iterdir()} for way in ("processes", "one"))
        assert ours == theirs
        logs = list((folder / "processes" / each.name / "tensorboard").rglob("events*"))
        assert len(logs) == len(list((folder / "one" / each.name / "tensorboard").rglob("events*")))


def test_the_run_says_on_how_many_devices_it_computed(trained):
    folder, _ = trained
    for way, expected in {"one": (1, 1), "processes": (2, 2), "devices": (2, 1)}.items():
        device = read_json(folder / way / "clips" / "config.json")["device"]
        assert (device["devices"], device["processes"], device["visible"]) == (*expected, expected[0])
        assert (device["name"], device["backend"]) == ("CPU", "jax")


def command_of(workdir, config, data, rank, coordinator, *others):
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "affect", "train", config, "--data", data, "--workdir", workdir),
            *("--processes", "2", "--rank", str(rank), "--coordinator", coordinator, *others),
        ],
        env=ON_JAX,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(process):
    """Waits for a process; returns its exit code and the lines of stderr that affect wrote."""
    _, errors = process.communicate(timeout=300)
    return process.returncode, [line for line in errors.splitlines() if line.startswith("affect: ")]


@pytest.mark.large
def test_processes_that_are_killed_go_on_where_they_were(labelled, tmp_path):
    data, config = labelled.folder, tmp_path / "config.json"
    write_json(config, {"experiment": to_json(BATCH_NORMALISED)})
    work = tmp_path / "work.json"
    write_json(work, [{"experiment": to_json(BATCH_NORMALISED), "data": str(data), "workdir": str(tmp_path / "one")}])
    (alone,) = start(work)
    printed, _ = alone.communicate(timeout=600)
    assert alone.returncode == 0, printed
    run = tmp_path / "two"
    for epochs, victim in enumerate((1, 0), start=1):
        address = free_address()
        pair = [command_of(run, config, data, rank, address) for rank in range(2)]
        end = time.monotonic() + 300
        while not (run / "last.keras").is_file() or len(read_log(run)) < epochs:
            assert time.monotonic() < end and pair[0].poll() is None, said(pair[0])
            time.sleep(0.01)
        pair[victim].send_signal(signal.SIGKILL)
        killed_at = time.monotonic()
        lines = [said(each) for each in pair]
        assert time.monotonic() - killed_at < 20
        again = "Start all of them again with the same commands: the run goes on after its last finished epoch."
        assert lines[victim] == (-signal.SIGKILL, [f"affect: Process {victim} of 2 was killed or has crashed. {again}"])
        code, found = lines[1 - victim]
        assert code in (-signal.SIGKILL, -signal.SIGABRT)
        assert found == [f"affect: Process {victim} of 2 was lost. Process {1 - victim} stops too. {again}"]
        assert len(read_log(run)) < BATCH_NORMALISED.train.epochs
    address = free_address()
    pair = [command_of(run, config, data, rank, address) for rank in range(2)]
    assert [said(each) for each in pair] == [(0, []), (0, [])]
    check_equal(run, tmp_path / "one")


@pytest.mark.large
def test_a_loss_that_is_not_finite_is_said_by_each_process(labelled, tmp_path):
    config = tmp_path / "config.json"
    write_json(config, {"experiment": to_json(replace(CLIPS, train=replace(CLIPS.train, head_learning_rate=1e30)))})
    address = free_address()
    pair = [command_of(tmp_path / "run", config, labelled.folder, rank, address) for rank in range(2)]
    for code, lines in map(said, pair):
        assert code == 2
        assert len(lines) == 1 and lines[0].startswith("affect: The loss is not finite in epoch ")


def test_tensorflow_and_a_batch_that_cannot_be_divided_are_refused(labelled, tmp_path, monkeypatch):
    config = tmp_path / "config.json"
    write_json(config, {"experiment": to_json(CLIPS)})
    options = ["train", config, "--data", labelled.folder, "--workdir", tmp_path / "run"]
    several = ["--processes", 3, "--rank", 0, "--coordinator", free_address()]
    assert refused(*options, *several) == (
        "affect: Several processes train with Keras on JAX, and here it is on tensorflow. Set KERAS_BACKEND=jax for "
        "this command, or leave out --processes."
    )
    done = subprocess.run(
        [sys.executable, "-m", "affect", *map(str, options), *map(str, several)],
        env=ON_JAX,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "affect: 3 processes cannot divide a batch of 4 into equal parts. Set data.batch_clips to a multiple of 3 "
        "that is at most the number of training examples, and data.keep_last_batch=false.\n"
    )
    assert not (tmp_path / "run").exists()


def test_a_strategy_of_tensorflow_is_refused(labelled, tmp_path):
    with (
        tf.distribute.MirroredStrategy(["CPU:0"]).scope(),
        pytest.raises(InputError, match="scope of TensorFlow's Mir"),
    ):
        train(CLIPS, data=labelled.folder, workdir=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_two_processes_of_which_one_has_another_config_say_so(labelled, tmp_path):
    config, address = tmp_path / "config.json", free_address()
    write_json(config, {"experiment": to_json(CLIPS)})
    pair = [
        command_of(tmp_path / "run", config, labelled.folder, rank, address, "--set", f"train.epochs={3 + rank}")
        for rank in range(2)
    ]
    line = (
        "affect: Process 1 differs from process 0 in config.train.epochs. Start all processes with the same command "
        "except for --rank, the same version of affect and the same shards."
    )
    assert [said(each) for each in pair] == [(2, [line]), (2, [line])]
    assert not (tmp_path / "run").exists()

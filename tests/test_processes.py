"""How processes find each other, what they refuse before JAX starts, and how one notices that another is lost."""

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from affect.data.ranks import ALONE, Rank
from affect.errors import InputError
from affect.training import peers
from affect.training.processes import Place, find_place, meet
from tests.commands import refused
from tests.trained_apart import free_address

SLURM = {
    "SLURM_JOB_ID": "12",
    "SLURM_STEP_ID": "3",
    "SLURM_STEP_NODELIST": "node[007-009],other",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
}


def test_each_row_of_a_batch_is_read_by_one_process_in_order():
    sizes = [6, 6, 3]
    rows = np.array([Rank(number, 3).find_rows(sizes) for number in range(3)])
    assert (rows.sum(axis=0) == 1).all()
    assert rows.argmax(axis=0).tolist() == [0, 0, 1, 1, 2, 2] * 2 + [0, 1, 2]
    assert Rank(1, 3).divide(sizes) == [2, 2, 1]
    assert ALONE.find_rows(sizes).all() and ALONE.divide(sizes) == sizes


def test_each_batch_is_evaluated_by_one_process():
    for processes in (1, 2, 5):
        ranks = [Rank(number, processes) for number in range(processes)]
        assert [sum(rank.reads_batch(index) for rank in ranks) for index in range(3)] == [1, 1, 1]
        assert [rank.count_batches(3) for rank in ranks] == [sum(map(rank.reads_batch, range(3))) for rank in ranks]


def test_the_options_name_the_place():
    assert find_place(None, None, None, {}) is None
    assert find_place(None, None, None, SLURM) is None  # srun may start trainings that have nothing to do with another
    assert find_place("host:1", "2", 1, {}) == Place("host:1", Rank(1, 2))
    assert find_place("host:1", "1", 0, {}) is None


def test_slurm_names_the_place():
    place = find_place(None, "slurm", None, SLURM)
    assert place.rank == Rank(1, 4) and place.device is None
    host, port = place.coordinator.split(":")
    assert host == "node007" and 61_440 <= int(port) < 65_536
    assert find_place(None, "slurm", None, SLURM | {"SLURM_PROCID": "0"}).coordinator == place.coordinator
    assert find_place(None, "slurm", None, SLURM | {"SLURM_STEP_ID": "4"}).coordinator != place.coordinator
    assert find_place(None, "slurm", None, SLURM | {"SLURM_STEP_NODELIST": "a-1,b"}).coordinator == f"a-1:{port}"
    racks = SLURM | {"SLURM_STEP_NODELIST": "rack[1-2]n[01-04,07],other[3,4]"}
    assert find_place(None, "slurm", None, racks).coordinator == f"rack1n01:{port}"
    assert find_place(None, "slurm", None, SLURM | {"SLURM_STEP_NUM_TASKS": "1"}) is None
    # Tasks that see all accelerators of their machine take one each; a task that was given its own uses it.
    assert find_place(None, "slurm", None, SLURM | {"CUDA_VISIBLE_DEVICES": "0,1"}).device == 1
    assert find_place(None, "slurm", None, SLURM | {"CUDA_VISIBLE_DEVICES": "1"}).device is None
    alone = SLURM | {"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_STEP_TASKS_PER_NODE": "1(x4)", "SLURM_LOCALID": "0"}
    assert find_place(None, "slurm", None, alone).device is None


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ["--processes", 2, "--rank", 0],
            "Several processes need --coordinator HOST:PORT, --processes N and --rank R, or --processes slurm alone. "
            "Missing: --coordinator",
        ),
        (
            ["--rank", 0],
            "Several processes need --coordinator HOST:PORT, --processes N and --rank R, or --processes slurm alone. "
            "Missing: --coordinator, --processes",
        ),
        (
            ["--processes", 2, "--rank", 2, "--coordinator", "host:1"],
            "--rank must be from 0 to 1 with --processes 2. Received: 2",
        ),
        (
            ["--processes", "two", "--rank", 2, "--coordinator", "host:1"],
            "--processes must be a number, or slurm. Received: two",
        ),
        (
            ["--processes", 2, "--rank", 1, "--coordinator", "host"],
            "--coordinator must be HOST:PORT, the address of process 0. Received: host",
        ),
        (
            ["--processes", "slurm", "--rank", 1],
            "--processes slurm takes address and rank from Slurm. Leave out --coordinator and --rank.",
        ),
        (
            ["--processes", "slurm"],
            "--processes slurm needs a step of Slurm, which srun starts: srun --ntasks=2 affect train ... Here "
            "SLURM_STEP_ID is not set.",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(monkeypatch, options, line):
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "12")  # sbatch without srun is no step
    assert refused("train", "paper_a", "--data", "shards", "--workdir", "run", *options) == f"affect: {line}"


def meet_all(places, abouts, wait_s=20):
    """Lets processes meet, each in a thread; returns what each got: numbers of the others, or the text of its error."""
    found = [None] * len(places)

    def run(index):
        try:
            connections = meet(places[index], abouts[index], wait_s=wait_s)
            found[index] = sorted(connections)
            for connection in connections.values():
                connection.close()
        except InputError as error:
            found[index] = str(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(places))]
    for thread in reversed(threads):
        thread.start()
    for thread in threads:
        thread.join()
    return found


def places_of(numbers, processes):
    address = free_address()
    return [Place(address, Rank(number, processes)) for number in numbers]


def test_processes_that_were_given_the_same_meet():
    about = {"config": {"train": {"epochs": 3}}, "shards": {"a": "1"}}
    assert meet_all(places_of(range(3), 3), [about] * 3) == [[1, 2], [0], [0]]


@pytest.mark.parametrize(
    ("shards", "name"), [({"a": "2", "b": "1"}, "a"), ({"a": "1"}, "b"), ({"a": "1", "b": "1", "c": "1"}, "c")]
)
def test_processes_that_differ_say_in_what(shards, name):
    abouts = [{"config": {"train": {"epochs": 3}}, "shards": each} for each in ({"a": "1", "b": "1"},) * 2 + (shards,)]
    line = (
        f"Process 2 differs from process 0 in shards.{name}. Start all processes with the same command except for "
        "--rank, the same version of affect and the same shards."
    )
    assert meet_all(places_of(range(3), 3), abouts) == [line] * 3


def test_two_processes_of_one_rank_are_refused():
    places = places_of([0, 1, 1], 3)
    assert meet_all(places, [{}] * 3) == ["Two processes have --rank 1. Give each its own, from 0 to 2."] * 3


def test_another_number_of_processes_is_refused():
    address = free_address()
    found = meet_all([Place(address, Rank(0, 2)), Place(address, Rank(1, 3))], [{}] * 2)
    assert all(each.startswith("Process 1 differs from process 0 in --processes. Start all") for each in found)


def test_a_process_that_does_not_come_is_named():
    address = free_address()
    with pytest.raises(
        InputError, match=rf"^Process 0 waited 0.2 s at {address}. These of the 3 processes did not connect: 1, 2. Read"
    ):
        meet(Place(address, Rank(0, 3)), {}, wait_s=0.2)
    with pytest.raises(InputError, match=rf"^Process 0 could not be reached at --coordinator {address} for 0.2 s \("):
        meet(Place(address, Rank(1, 3)), {}, wait_s=0.2)


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(
            InputError, match=r"^Process 0 cannot listen at port .* Choose another port, or check that only"
        ):
            meet(Place(address, Rank(0, 2)), {}, wait_s=1)


def test_a_stranger_is_not_counted():
    (first, second), found = places_of(range(2), 2), {}
    thread = threading.Thread(target=lambda: found.update(meet(first, {}, wait_s=20)))
    thread.start()
    host, port = first.coordinator.split(":")
    end = time.monotonic() + 10
    while True:
        try:
            with socket.create_connection((host, int(port))) as stranger:
                stranger.sendall(b"GET / HTTP/1.1\n")
            break
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.05)
    assert list(meet(second, {}, wait_s=20)) == [0]
    thread.join()
    assert list(found) == [1]


# A process that has met process 1, from which it is told the second argument. What it says itself is the first.
WATCHED = """\
import os, socket, subprocess, sys, time
own, theirs = socket.socketpair()
program = [sys.executable, "-I", sys.argv[1], "0", "2", str(os.getpid()), f"1:{own.fileno()}"]
watcher = subprocess.Popen(program, stdin=subprocess.PIPE, pass_fds=[own.fileno()])
own.close()
word, told = sys.argv[2:]
if told == "nothing":
    theirs.close()
elif told:
    theirs.sendall(f"{told} 1".encode())
if word:
    watcher.communicate(f"{word} 0".encode())
    print(theirs.recv(100).decode())
else:
    time.sleep(60)
"""
AGAIN = f"{peers.AGAIN}\n"


@pytest.mark.parametrize(
    ("word", "told", "code", "says"),
    [
        ("done", "done", 0, ""),
        ("stopped", "", 0, ""),
        ("stopped", "stopped", 0, ""),
        ("", "nothing", -signal.SIGKILL, f"affect: Process 1 of 2 was lost. Process 0 stops too. {AGAIN}"),
        ("", "lost", -signal.SIGKILL, f"affect: Process 1 of 2 was lost. Process 0 stops too. {AGAIN}"),
    ],
)
def test_a_process_notices_that_another_is_lost(word, told, code, says):
    program = [sys.executable, "-c", WATCHED, str(Path(peers.__file__)), word, told]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (code, says)

"""Several processes that train one network: they find each other, and notice when one is lost.

Process 0 waits at the coordinator's address until all others have come, and compares what they were given. Only then
JAX uses the same address. JAX alone would abort a process without a word that a user understands, when another one does
not come or was started otherwise.
"""

import atexit
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from affect.config import list_changes
from affect.data.ranks import Rank
from affect.errors import InputError
from affect.training.peers import GRACE_S

# How long a process waits for the others to be started, and JAX to find them then.
WAIT_S, JAX_WAIT_S = 300, 60
# A machine that is silent for this long, switched off or cut from the network, is lost: the first wait, the interval
# and the number of further tries.
SILENT_S = 15, 5, 6
_LONGEST = 2**24  # bytes of what a process says of itself


@dataclass(frozen=True)
class Place:
    """The place of a process among several.

    Args:
        coordinator: Address of process 0, `HOST:PORT`.
        rank: This process.
        device: Index of the only accelerator that it uses; `None` for all that it sees.
    """

    coordinator: str
    rank: Rank
    device: int | None = None


def find_place(
    coordinator: str | None, processes: str | None, rank: int | None, environment: Mapping[str, str] = os.environ
) -> Place | None:
    """Returns the place that the options of `affect train` name.

    Args:
        coordinator: Of `--coordinator`.
        processes: Of `--processes`: their number, or `"slurm"`, by which Slurm's variables name all three.
        rank: Of `--rank`.
        environment: The variables.

    Returns:
        The place; `None` without options, and for a single process.

    Raises:
        InputError: If an option is missing, or its value is wrong.
    """
    if (coordinator, processes, rank) == (None, None, None):
        return None
    if processes == "slurm":
        if coordinator is not None or rank is not None:
            raise InputError("--processes slurm takes address and rank from Slurm. Leave out --coordinator and --rank.")
        return _find_place_in_slurm(environment)
    options = {"--coordinator": coordinator, "--processes": processes, "--rank": rank}
    if missing := [name for name, value in options.items() if value is None]:
        raise InputError(
            f"Several processes need --coordinator HOST:PORT, --processes N and --rank R, or --processes slurm alone. "
            f"Missing: {', '.join(missing)}"
        )
    if not re.fullmatch("[1-9][0-9]{0,5}", str(processes)):
        raise InputError(f"--processes must be a number, or slurm. Received: {processes}")
    count, number = int(str(processes)), int(rank or 0)
    if not 0 <= number < count:
        raise InputError(f"--rank must be from 0 to {count - 1} with --processes {count}. Received: {number}")
    _split_address(str(coordinator))
    return Place(str(coordinator), Rank(number, count)) if count > 1 else None


def check_backend() -> None:
    """Checks that Keras computes with JAX.

    Raises:
        InputError: If not.
    """
    import keras

    if (backend := keras.backend.backend()) != "jax":
        raise InputError(
            f"Several processes train with Keras on JAX, and here it is on {backend}. Set KERAS_BACKEND=jax for this "
            "command, or leave out --processes."
        )


def _find_place_in_slurm(environment):
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_STEP_NODELIST", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID")
    if missing := [name for name in names if name not in environment]:
        raise InputError(
            f"--processes slurm needs a step of Slurm, which srun starts: srun --ntasks=2 affect train ... Here "
            f"{missing[0]} is not set."
        )
    job, step, nodes, count, number = (environment[name] for name in names)
    if int(count) == 1:
        return None
    (several,) = re.findall(r"^(?:[^[,]|\[[^]]*\])*", nodes)  # rack[1-2]n[007-009,012] of rack[1-2]n[007-009,012],other
    first = re.sub(r"\[([^],-]*)[^]]*\]", r"\1", several)  # rack1n007
    port = 61_440 + (int(job) * 17 + int(step)) % 4096  # the same in each process, another for another step
    tasks_of_node = environment.get("SLURM_STEP_TASKS_PER_NODE", "1")
    visible = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    shares = len(visible) > 1 and tasks_of_node.split("(")[0].split(",")[0] != "1"
    device = int(environment["SLURM_LOCALID"]) if shares else None
    return Place(f"{first}:{port}", Rank(int(number), int(count)), device)


def _split_address(address):
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 2**16):
        raise InputError(f"--coordinator must be HOST:PORT, the address of process 0. Received: {address}")
    return host.strip("[]"), int(port)


@contextlib.contextmanager
def join(place: Place, about: Mapping[str, Any], *, wait_s: float = WAIT_S) -> Iterator[None]:
    """Joins the processes of a training on JAX, for a `with` block. A process can join once.

    Another process watches the others meanwhile (`affect.training.peers`).

    Args:
        place: Of this process.
        about: Name → what JSON can hold: what must be the same in all processes.
        wait_s: How long to wait for the others.

    Raises:
        InputError: If the others do not come, or differ.
    """
    import jax
    from jax.experimental.multihost_utils import process_allgather

    if os.name == "nt":
        raise InputError("Several processes train on Linux and macOS alone. Leave out --processes.")
    peers = meet(place, about, wait_s=wait_s)
    watcher = _start_watcher(place, peers)
    jax.config.update("jax_enable_preemption_service", False)  # it would ignore SIGTERM
    number = place.rank.number
    try:
        jax.distributed.initialize(
            coordinator_address=place.coordinator,
            num_processes=place.rank.processes,
            process_id=number,
            local_device_ids=place.device,
            cluster_detection_method="deactivate",
            initialization_timeout=JAX_WAIT_S,
            coordinator_bind_address=_find_bind_address(place),
        )
        with _mute_stdout():
            process_allgather(np.array(number))
        yield
    except BaseException as error:
        if _is_of_lost_process(error):
            time.sleep(
                SILENT_S[0] + SILENT_S[1] * SILENT_S[2] + GRACE_S
            )  # the watcher says which one, and ends this process
        # JAX would wait for the other processes.
        code = 2 if isinstance(error, InputError) else 130 if isinstance(error, KeyboardInterrupt) else 1
        atexit.register(_leave, code)
        _say(watcher, f"stopped {number}")
        raise
    _say(watcher, f"done {number}")


@contextlib.contextmanager
def _mute_stdout():
    """Mutes standard output, because Gloo, which connects CPUs, prints a line there."""
    sys.stdout.flush()
    kept, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nothing)


def _find_bind_address(place):
    """Returns where JAX's service listens: at all addresses of this machine, of both versions of IP if it has them."""
    _, port = _split_address(place.coordinator)
    return f"[::]:{port}" if socket.has_dualstack_ipv6() else f"0.0.0.0:{port}"


def _leave(code):
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _is_of_lost_process(error):
    """Returns whether JAX failed because another process has ended. Its errors have no type of their own."""
    is_of_jax = type(error).__name__ in ("ValueError", "JaxRuntimeError", "XlaRuntimeError")
    return is_of_jax and re.search("gloo|nccl|peer|coordination service", str(error), re.IGNORECASE)


def _start_watcher(place, peers):
    program = str(Path(__file__).with_name("peers.py"))
    handles = {number: connection.fileno() for number, connection in peers.items()}
    words = [place.rank.number, place.rank.processes, os.getpid(), *(f"{peer}:{it}" for peer, it in handles.items())]
    watcher = subprocess.Popen(
        [sys.executable, "-I", program, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=sys.stderr,
        pass_fds=tuple(handles.values()),
        start_new_session=True,  # Ctrl-C does not reach it
    )
    for connection in peers.values():
        connection.close()
    return watcher


def _say(watcher, word):
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        watcher.communicate(f"{word}\n".encode(), timeout=5)


def meet(place: Place, about: Mapping[str, Any], *, wait_s: float = WAIT_S) -> dict[int, socket.socket]:
    """Waits until all processes have come, and checks that they were given the same.

    Args:
        place: Of this process.
        about: As in `join`.
        wait_s: As in `join`.

    Returns:
        Number of a process → a connection to it: in process 0 of each other one, in these of process 0.

    Raises:
        InputError: As `join`.
    """
    end = time.monotonic() + wait_s
    about = json.loads(json.dumps({"--processes": place.rank.processes, **about}))
    peers = (
        _receive_others(place, about, wait_s, end) if place.rank.number == 0 else _connect(place, about, wait_s, end)
    )
    for connection in peers.values():
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in zip(("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT"), SILENT_S, strict=True):
            if option := getattr(socket, name, None):
                connection.setsockopt(socket.IPPROTO_TCP, option, value)
    return peers


def _receive_others(place, about, wait_s, end):
    count, peers, problem = place.rank.processes, {}, None
    _, port = _split_address(place.coordinator)
    is_dual = socket.has_dualstack_ipv6()
    try:
        server = socket.create_server(
            ("", port), family=socket.AF_INET6 if is_dual else socket.AF_INET, dualstack_ipv6=is_dual
        )
    except OSError as error:
        raise InputError(
            f"Process 0 cannot listen at port {port} of --coordinator {place.coordinator} ({error.strerror}). "
            "Choose another port, or check that only one process has --rank 0."
        ) from error
    with server:
        while len(peers) < count - 1:
            server.settimeout(max(0.01, end - time.monotonic()))
            try:
                connection, _ = server.accept()
            except TimeoutError:
                missing = ", ".join(str(number) for number in range(1, count) if number not in peers)
                problem = problem or (
                    f"Process 0 waited {wait_s:g} s at {place.coordinator}. These of the {count} processes did not "
                    f"connect: {missing}. Read their messages, then start all again."
                )
                break
            said = _read_line(connection, 10)
            if not isinstance(said, dict) or not isinstance(said.get("rank"), int):
                connection.close()  # a stranger
                continue
            number = said["rank"]
            if changed := list_changes(about, said.get("about")):
                problem = problem or (
                    f"Process {number} differs from process 0 in {', '.join(changed[:5])}. Start all "
                    "processes with the same command except for --rank, the same version of affect and the same shards."
                )
            elif number in peers or not 0 < number < count:
                problem = problem or f"Two processes have --rank {number}. Give each its own, from 0 to {count - 1}."
            if problem:
                end = min(end, time.monotonic() + GRACE_S)  # so that the others, too, are told
            peers[number if number not in peers else -number] = connection
        for connection in peers.values():
            with contextlib.suppress(OSError):
                connection.sendall(json.dumps({"problem": problem}).encode() + b"\n")
    if problem:
        for connection in peers.values():
            connection.close()
        raise InputError(problem)
    return peers


def _connect(place, about, wait_s, end):
    host, port = _split_address(place.coordinator)
    while True:
        try:
            connection = socket.create_connection((host, port), timeout=max(0.1, min(10, end - time.monotonic())))
            break
        except OSError as error:
            if time.monotonic() >= end:
                raise InputError(
                    f"Process 0 could not be reached at --coordinator {place.coordinator} for {wait_s:g} s "
                    f"({error.strerror or error}). Start it there, and open the port."
                ) from error
            time.sleep(0.2)
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps({"rank": place.rank.number, "about": about}).encode() + b"\n")
    answer = _read_line(connection, max(1.0, end - time.monotonic()) + 30)
    if not isinstance(answer, dict):
        connection.close()
        raise InputError(f"Process 0 at {place.coordinator} ended before all processes had come. See what it says.")
    if answer.get("problem"):
        connection.close()
        raise InputError(answer["problem"])
    return {0: connection}


def _read_line(connection, wait_s):
    """Returns the JSON of the next line; `None` if none comes."""
    connection.settimeout(wait_s)
    text = b""
    try:
        while not text.endswith(b"\n"):
            part = connection.recv(65_536)
            text += part
            if not part or len(text) > _LONGEST:
                return None
        return json.loads(text)
    except (OSError, ValueError):
        return None

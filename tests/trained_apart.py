"""Trains in a process of its own on Keras's JAX backend, alone or as one of several, for tests/test_parallel.py.

    python -m tests.trained_apart WORK.json RANK PROCESSES COORDINATOR

WORK.json is a list of `{"experiment": ..., "data": ..., "workdir": ...}`, which are trained one after the
other, because the libraries take seconds to start.
"""

import json
import os
import socket
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

from affect.config import Experiment, from_json

ROOT = Path(__file__).resolve().parents[1]
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


def main():
    from affect.data.ranks import Rank
    from affect.training.processes import Place, join
    from affect.training.train import train

    work, (rank, processes) = json.loads(Path(sys.argv[1]).read_text()), map(int, sys.argv[2:4])
    place = Place(sys.argv[4], Rank(rank, processes))
    with join(place, {}) if processes > 1 else nullcontext():
        for each in work:
            experiment = from_json(Experiment, each["experiment"], "experiment")
            result = train(experiment, data=each["data"], workdir=each["workdir"], progress=False)
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()

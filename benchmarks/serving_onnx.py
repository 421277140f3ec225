"""An ONNX model behind KServe's server: the same answers for 1, 8 and 32 clients at once, and how long they wait.

    pip install --editable '.[test,test-large]'
    python -m benchmarks.serving_onnx NAME/VERSION [--requests 200] [--frames 8] [--workers 2] [--out result.json]

NAME/VERSION is what `affect export --format onnx` wrote. `savedmodels/serving/kserve/server.py` serves it on this
machine by the Open Inference Protocol. Each client sends its next request when it has the answer to the last one. Every
answer must equal the one of the network in this process, whose own time for a request is the reference `bare`. In the
row `killed`, a process of the server is killed while the 32 clients send; a client whose connection broke sends its
request again.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from affect.config import write_json
from affect.reading.artefact import measure_difference
from affect.reading.onnx import ONNXModel, read_onnx

SERVER = Path(__file__).parents[1] / "savedmodels" / "serving" / "kserve" / "server.py"
CLIENTS = (1, 8, 32)
NAME = "model"
START_S, DIFFERENT_CLIPS, TRIES = 120, 4, 20


def find_free_port() -> int:
    """Returns a port of this machine that no process listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def serve(folder: Path, workers: int) -> Iterator[tuple[str, str, int]]:
    """Starts the server; gives the addresses for HTTP and for gRPC, and the number of the server's process."""
    http, rpc = find_free_port(), find_free_port()
    command = [sys.executable, SERVER, "--model_dir", folder, "--model_name", NAME, "--workers", workers]
    command += ["--http_port", http, "--grpc_port", rpc]
    with tempfile.TemporaryFile() as log:
        command = [str(part) for part in command]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            address, end = f"http://127.0.0.1:{http}", time.monotonic() + START_S
            while not is_ready(address):
                if process.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    raise RuntimeError(f"The server did not start: {log.read()[-2000:].decode()}")
                time.sleep(0.2)
            yield address, f"127.0.0.1:{rpc}", process.pid
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # because it waits without end for a process it has replaced
            process.wait()


def is_ready(address: str) -> bool:
    """Returns whether the server answers that the model is ready."""
    import httpx

    try:
        return httpx.get(f"{address}/v2/models/{NAME}/ready").is_success
    except httpx.TransportError:
        return False


def make_clips(model: ONNXModel, frames: int) -> list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Returns different clips of random faces, the last frame masked, with the answers of the network."""
    random, clips = np.random.default_rng(0), []
    for _ in range(DIFFERENT_CLIPS):
        faces = random.integers(0, 256, (1, frames, model.face_size, model.face_size, 3), np.uint8)
        inputs = {"faces": faces, "frame_mask": np.arange(frames)[None] < max(1, frames - 1)}
        outputs = model.signature("serving_default")(inputs)
        clips.append((inputs, {key: value for key, value in outputs.items() if value.dtype.kind == "f"}))
    return clips


def make_request(inputs: dict[str, np.ndarray]) -> Any:
    """Returns a clip as a request with binary tensors."""
    from kserve import InferInput, InferRequest

    tensors = []
    for key, value in inputs.items():
        tensor = InferInput(key, list(value.shape), {"uint8": "UINT8", "bool": "BOOL"}[value.dtype.name])
        tensor.set_data_from_numpy(value)
        tensors.append(tensor)
    return InferRequest(NAME, tensors)


async def load(send: Any, clips: Any, clients: int, requests: int, at_half: Any = None) -> dict[str, Any]:
    """Sends requests from several clients at once.

    Args:
        send: Coroutine from a request to its answer.
        clips: Of `make_clips`.
        clients: Number of clients.
        requests: Number of requests of all of them.
        at_half: Called once when half of the requests are answered.

    Returns:
        Dict: `answered`, the number of requests with an answer; `largest_difference` of an answer; `sent_again`;
        `per_s`; and the percentiles `p50_ms`, `p95_ms`, `p99_ms`.
    """
    import grpc
    import httpx

    waiting, times, again, worst = iter(range(requests)), [], 0, 0.0
    called = False

    async def work():
        nonlocal again, worst, called
        for number in waiting:
            inputs, expected = clips[number % len(clips)]
            begin = time.perf_counter()
            for left in reversed(range(TRIES)):
                try:
                    answer = await send(make_request(inputs))
                    break
                except (httpx.TransportError, grpc.RpcError):
                    if not left:
                        raise
                    again += 1
                    await asyncio.sleep(0.1)
            times.append(1000 * (time.perf_counter() - begin))
            outputs = {output.name: output.as_numpy().reshape(output.shape) for output in answer.outputs}
            worst = max(worst, *(measure_difference(outputs[key], value) for key, value in expected.items()))
            if at_half and not called and len(times) >= requests // 2:
                called = True
                at_half()

    begin = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(clients)))
    taken = time.perf_counter() - begin
    p50, p95, p99 = np.percentile(times, [50, 95, 99])
    counts = {"answered": len(times), "largest_difference": worst, "sent_again": again, "per_s": len(times) / taken}
    return counts | {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99}


def measure_bare(model: ONNXModel, clips: Any, requests: int) -> dict[str, Any]:
    """Returns the numbers of `load` for the network in this process."""
    times, call = [], model.signature("serving_default")
    for number in range(requests):
        begin = time.perf_counter()
        call(clips[number % len(clips)][0])
        times.append(1000 * (time.perf_counter() - begin))
    p50, p95, p99 = np.percentile(times, [50, 95, 99])
    counts = {"answered": requests, "largest_difference": 0.0, "sent_again": 0, "per_s": 1000 * requests / sum(times)}
    return counts | {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99}


def kill_worker(server: int) -> None:
    """Kills one of the processes that answer HTTP."""
    import psutil

    workers = [child for child in psutil.Process(server).children() if "spawn_main" in " ".join(child.cmdline())]
    os.kill(workers[0].pid, signal.SIGKILL)


async def measure(model: ONNXModel, requests: int, frames: int, workers: int) -> list[dict[str, Any]]:
    """Returns the rows of the table."""
    from kserve import InferenceGRPCClient, InferenceRESTClient, RESTConfig

    clips = make_clips(model, frames)
    rows = [{"way": "bare", "clients": 1} | measure_bare(model, clips, requests)]
    with serve(model.path, workers) as (address, rpc_address, server):
        config = RESTConfig(protocol="v2", timeout=60, retries=0)
        async with InferenceRESTClient(config) as rest, InferenceGRPCClient(rpc_address) as rpc:

            def ask(request):
                return rest.infer(address, request, model_name=NAME)

            for way, send in (("HTTP", ask), ("gRPC", rpc.infer)):
                await load(send, clips, 2 * workers, 4 * workers)  # each process opens the file
                for clients in CLIENTS:
                    rows.append({"way": way, "clients": clients} | await load(send, clips, clients, requests))
            row = {"way": "HTTP, killed", "clients": CLIENTS[-1]}
            rows.append(row | await load(ask, clips, CLIENTS[-1], requests, lambda: kill_worker(server)))
    return rows


def main(
    model: Annotated[Path, typer.Argument(metavar="NAME/VERSION", help="Of affect export --format onnx.")],
    requests: Annotated[int, typer.Option(min=8, help="Requests of a row.")] = 200,
    frames: Annotated[int, typer.Option(min=1, help="Frames of a clip.")] = 8,
    workers: Annotated[int, typer.Option(min=1, help="Processes that answer HTTP.")] = 2,
    out: Annotated[Path | None, typer.Option(help="JSON file for the rows.")] = None,
) -> None:
    rows = asyncio.run(measure(read_onnx(model), requests, frames, workers))
    table = Table(*rows[0])
    for row in rows:
        table.add_row(
            *(
                f"{value:.2g}"
                if name == "largest_difference"
                else f"{value:.0f}"
                if isinstance(value, float)
                else str(value)
                for name, value in row.items()
            )
        )
    Console().print(table)
    if out:
        write_json(out, {"rows": rows})


if __name__ == "__main__":
    typer.run(main)

"""An ONNX model behind KServe's server gives the network's answers, also under load and when a process is killed."""

import asyncio
import importlib.util
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from affect.config import read_json
from affect.serving.export import export_trained
from tests.exported import SOURCES

pytestmark = pytest.mark.large
SERVER = Path(__file__).parents[1] / "savedmodels" / "serving" / "kserve" / "server.py"


@pytest.fixture(scope="module")
def version(exported, tmp_path_factory):
    if importlib.util.find_spec("kserve") is None:
        pytest.skip("kserve is not installed: pip install affect[test-large]")
    return export_trained(exported("joint_softmax")[0], tmp_path_factory.mktemp("onnx") / "tiny", SOURCES, form="onnx")


def test_the_server_bounds_the_faces_of_a_request(version):
    from kserve import InferInput, InferRequest
    from kserve.errors import InvalidInput

    def ask(frames):
        size = read_json(version / "assets.extra" / "affect.json")["signatures"]["serving_default"]["inputs"]["faces"]
        inputs = {
            "faces": np.zeros((1, frames, *size["shape"][2:]), np.uint8),
            "frame_mask": np.ones((1, frames), bool),
        }
        tensors = []
        for (name, array), dtype in zip(inputs.items(), ("UINT8", "BOOL"), strict=True):
            tensors.append(InferInput(name, list(array.shape), dtype))
            tensors[-1].set_data_from_numpy(array)
        return asyncio.run(model.predict(InferRequest("tiny", tensors)))

    model = runpy.run_path(str(SERVER), run_name="server")["ONNX"]("tiny", version / "model.onnx", 1)
    assert "probabilities" in {output.name for output in ask(512).outputs}
    with pytest.raises(InvalidInput, match="More than 512 faces a request"):
        ask(513)


def test_served_answers_equal_the_networks_under_load(version, tmp_path):
    command = [
        sys.executable,
        "-m",
        "benchmarks.serving_onnx",
        version,
        "--requests",
        "64",
        "--out",
        tmp_path / "rows.json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = read_json(tmp_path / "rows.json")["rows"]
    assert [(row["way"], row["clients"]) for row in rows] == [
        ("bare", 1),
        *(("HTTP", clients) for clients in (1, 8, 32)),
        *(("gRPC", clients) for clients in (1, 8, 32)),
        ("HTTP, killed", 32),
    ]
    for row in rows:
        assert row["answered"] == 64
        assert row["largest_difference"] <= 1e-5
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
    assert all(row["sent_again"] == 0 for row in rows[:-1])

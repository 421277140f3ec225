"""An ONNX model behind KServe's server gives the network's answers, also under load and when a process is killed."""

import importlib.util
import subprocess
import sys

import pytest

from affect.config import read_json
from affect.serving.export import export_trained
from tests.exported import SOURCES

pytestmark = pytest.mark.large


def test_served_answers_equal_the_networks_under_load(exported, tmp_path):
    if importlib.util.find_spec("kserve") is None:
        pytest.skip("kserve is not installed: pip install affect[test-large]")
    version = export_trained(exported("joint_softmax")[0], tmp_path / "tiny", SOURCES, form="onnx")
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

import shutil

import numpy as np
import pytest

from affect.reading.artefact import measure_difference
from affect.reading.saved_model import write_sums
from affect.serving.check import check
from tests.commands import affect, refused
from tests.exported import MODELS


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported("joint_softmax")[1].path, tmp_path / "name" / "1")


@pytest.mark.parametrize("name", ["joint_softmax", "lstm", "regression_sta"])
def test_what_was_exported_passes(name, exported):
    assert name in MODELS
    report = check(exported(name)[1].path)
    assert report["passed"]
    assert report["largest"] == max(report["differences"].values()) <= 1e-5
    assert ("step" in report["differences"]) == (name == "lstm")


def test_the_verb_exits_with_1_where_answers_differ(copy):
    code, out, _ = affect("check", copy)
    assert code == 0
    assert out.endswith(f"{copy}: passed\n")

    path = copy / "assets.extra" / "golden.npz"
    arrays = dict(np.load(path))
    arrays["frame/outputs/attention"][0, 0, 0] += 2e-5
    np.savez(path, **arrays)
    write_sums(copy)
    code, out, lines = affect("check", copy)
    assert code == 1
    assert "frame: largest difference 2.0e-05" in out
    assert lines == [f"affect: {copy} does not give what was exported: 2.0e-05 is above 1e-05."]

    path.write_bytes(b"")
    line = refused("check", copy)
    assert line == f"affect: {copy} was changed after its export: assets.extra/golden.npz was altered. " + (
        "Copy it again, or export it again."
    )


def test_differences():
    numbers = np.array([[0.5, 2.0]], np.float32)
    assert measure_difference(numbers, numbers) == 0
    assert measure_difference(np.array([[0.5, 2.5]], np.float32), numbers) == 0.25  # as a share of the largest, 2
    assert measure_difference(numbers / 2, numbers / 2 + np.float32(0.125)) == pytest.approx(0.125 / 1.125)
    assert measure_difference(numbers / 4, numbers / 4 + np.float32(0.125)) == pytest.approx(0.125)
    assert measure_difference(numbers[:, :1], numbers) == np.inf
    assert measure_difference(np.full_like(numbers, np.nan), numbers) == np.inf
    assert measure_difference(numbers, numbers > 1) == np.inf
    labels = np.array([b"sad", b""])
    assert measure_difference(labels.astype(object), labels) == 0
    assert measure_difference(np.array([b"sadder", b""], object), labels) == np.inf
    assert measure_difference(np.array([True, False]), np.array([True, True])) == np.inf
    assert measure_difference(np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)) == 0

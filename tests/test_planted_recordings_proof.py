"""What time, attention and a known delay are for: `benchmarks/planted_recordings.py`."""

import numpy as np
import pytest

from affect.config import load_rows, read_json
from affect.reading.run import load_trained
from affect.training.evaluate import evaluate
from affect.training.train import train
from benchmarks.planted import in_view, inside
from benchmarks.planted_recordings import DELAY_S, OVERRIDES, TABLE, make, measure_attention, prove, text


def test_a_box_is_carried_to_the_view_by_hand():
    """Frame → face doubles and shifts by (10, 20) to faces of 100 pixels, of which the view is the central half."""
    to_face = np.array([[[2.0, 0, 10], [0, 2.0, 20]]])
    box = in_view(np.array([[10.0, 10, 20, 15]]), to_face, face_size=100, crop_ratio=0.5)
    np.testing.assert_allclose(box, [[0.1, 0.3, 0.5, 0.5]])  # (30, 40) to (50, 50), less 25, of 50
    np.testing.assert_array_equal(inside(box[0], (np.arange(4) + 0.5) / 4).nonzero(), [[1, 1], [0, 1]])


@pytest.mark.large
def test_the_road_to_the_table(tmp_path):
    """All nine rows, with an epoch and recordings too short to learn from."""
    made = make(tmp_path, train_recordings=2, dev_recordings=2, length_s=10.0)
    result = prove(tmp_path, *made, seeds=1, overrides=(*OVERRIDES, "train.epochs=1"))
    rows = [row["row"] for row in result["table"]["rows"]]
    assert len(rows) == 9
    lines = text(result).splitlines()
    for row in result["table"]["rows"]:
        assert np.isfinite([row["ccc"], row["arousal_ccc"]]).all()
        assert sum(line.startswith(f"| {row['row']} | ") for line in lines) == 2
    assert len(result["attention"]) == 3
    for found in result["attention"]:
        assert 0 < found["chance"] < 1 and 0 <= found["hits"] <= 1
        assert found["regions"].keys() == {"mouth", "brows"}


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """Returns row → (folder of its run, evaluation), of two rows as the table trains them; shards, oracle."""
    folder = tmp_path_factory.mktemp("recordings")
    shards, oracle = make(folder)
    rows = {}
    for row, experiment in load_rows(TABLE, OVERRIDES, names=["cnn", "sta"]).items():
        run = folder / "runs" / row / "seed-0"
        train(experiment, data=shards, workdir=run, progress=False)
        rows[row] = run, evaluate(load_trained(run), shards, split="val")
    return rows, shards, oracle


@pytest.mark.large
def test_the_delay_is_found_to_a_step(learnt):
    rows, _, oracle = learnt
    for run, _ in rows.values():
        found = read_json(run / "delay.json")["delay_s"]
        assert abs(found - DELAY_S) <= oracle["arguments"]["label_step_s"] + 1e-9


@pytest.mark.large
@pytest.mark.parametrize("dimension", ["valence", "arousal"])
def test_attention_over_time_reads_other_subjects_and_a_frame_does_not(learnt, dimension):
    rows, _, _ = learnt
    cnn, sta = (
        {key: rows[row][1][key][dimension]["concatenated"]["ccc"] for key in ("metrics", "raw_metrics")}
        for row in ("cnn", "sta")
    )
    assert sta["metrics"] >= 0.8
    assert sta["metrics"] > cnn["metrics"] + 0.05  # though a median over time helps a reader of frames most
    assert sta["raw_metrics"] > cnn["raw_metrics"] + 0.1


@pytest.mark.large
def test_attention_falls_where_the_face_moves(learnt):
    rows, shards, oracle = learnt
    found = measure_attention(rows["sta"][0], shards, oracle)
    assert found["hits"] >= 0.9
    assert found["chance"] < 0.5

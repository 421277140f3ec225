"""What time, attention and a known delay are for: `benchmarks/planted_recordings.py`."""

import numpy as np
import pytest

from benchmarks.planted import in_view, inside
from benchmarks.planted_recordings import OVERRIDES, make, prove, text


def test_a_box_is_carried_to_the_view_by_hand():
    """Frame → face doubles and shifts by (10, 20) to faces of 100 pixels, of which the view is the central half."""
    to_face = np.array([[[2.0, 0, 10], [0, 2.0, 20]]])
    box = in_view(np.array([[10.0, 10, 20, 15]]), to_face, face_size=100, crop_ratio=0.5)
    np.testing.assert_allclose(box, [[0.1, 0.3, 0.5, 0.5]])  # (30, 40) to (50, 50), less 25, of 50
    np.testing.assert_array_equal(inside(box[0], (np.arange(4) + 0.5) / 4).nonzero(), [[1, 1], [0, 1]])


@pytest.mark.large
def test_the_road_to_the_table(tmp_path):
    """All nine rows, with an epoch and recordings too short to learn from."""
    made = make(tmp_path, train=2, dev=2, length_s=10.0)
    result = prove(tmp_path, *made, seeds=1, overrides=(*OVERRIDES, "train.epochs=1"))
    rows = [row["row"] for row in result["table"]["rows"]]
    assert len(rows) == 9
    lines = text(result).splitlines()
    for row in result["table"]["rows"]:
        assert np.isfinite([row["ccc"], row["arousal_ccc"]]).all()
        assert sum(line.startswith(f"| {row['row']} | ") for line in lines) == 2
    (found,) = result["attention"]
    assert 0 < found["chance"] < 1 and 0 <= found["hits"] <= 1
    assert found["regions"].keys() == {"mouth", "brows"}

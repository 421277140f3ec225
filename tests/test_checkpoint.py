"""Which epoch is kept: the best by the metric of selection, the first of equals, and the last where none selects."""

import pytest

from affect.training.train import Checkpoint

ROWS = [
    {"val_accuracy": 0.5, "val_loss": 0.9, "val_valence_ccc": 0.1, "val_arousal_ccc": 0.6},
    {"val_accuracy": 0.7, "val_loss": 0.8, "val_valence_ccc": 0.4, "val_arousal_ccc": 0.2},
    {"val_accuracy": 0.7, "val_loss": 0.3, "val_valence_ccc": 0.3, "val_arousal_ccc": 0.5},
    {"val_accuracy": 0.2, "val_loss": 0.3, "val_valence_ccc": 0.5, "val_arousal_ccc": 0.3},
    {"val_accuracy": 0.6, "val_loss": 1.4, "val_valence_ccc": 0.0, "val_arousal_ccc": 0.7},
]


@pytest.mark.parametrize(("metric", "best"), [("accuracy", 1), ("loss", 2), ("ccc", 2), (None, 4)])
def test_the_best_epoch_is_kept(tmp_path, metric, best):
    assert Checkpoint(tmp_path, metric, 0).best_of(ROWS) == best
    assert Checkpoint(tmp_path, metric, 0).best_of(ROWS[:1]) == 0

"""Checkpoints that end with a checksum: damage is found, and a run killed at any instant keeps a whole file."""

import hashlib
import zipfile

import keras
import pytest

from affect.config import Experiment, Faces, FrameClassifier, to_json, write_json
from affect.errors import InputError
from affect.files import is_intact, seal
from affect.reading.run import load_trained
from affect.training.train import Checkpoint


@pytest.fixture
def checkpoint(tmp_path):
    """Saves a network of one weight, by its value, as the best of a run."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])

    def save(value):
        model.layers[0].kernel.assign([[value]])
        found = Checkpoint(tmp_path, None, 0)
        found.restore(model, 1)
        found.save("best.keras")

    return save


def test_the_file_ends_with_the_sum_of_what_stands_before(checkpoint, tmp_path):
    checkpoint(2.0)
    content = (tmp_path / "best.keras").read_bytes()
    assert content[-64:].decode() == hashlib.sha256(content[:-64]).hexdigest()
    assert zipfile.ZipFile(tmp_path / "best.keras").testzip() is None
    assert keras.saving.load_model(tmp_path / "best.keras").get_weights()[0].tolist() == [[2.0]]


def test_a_flipped_bit_is_found(checkpoint, tmp_path):
    checkpoint(2.0)
    path = tmp_path / "best.keras"
    whole = path.read_bytes()
    assert is_intact(path)
    for place in [*range(0, len(whole) - 72, 997), *range(len(whole) - 64, len(whole))]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert not is_intact(path)


def test_files_without_a_seal_are_taken_as_they_are(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    assert is_intact(tmp_path / "a.keras") is None
    seal(tmp_path / "a.keras")
    (tmp_path / "a.keras").write_bytes(b"x" + (tmp_path / "a.keras").read_bytes()[1:])
    assert is_intact(tmp_path / "a.keras") is False


class KilledModel:
    """A model whose saving is stopped when half of the file is written."""

    def save(self, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt


def test_killed_while_it_is_saved_the_best_is_that_of_before(checkpoint, tmp_path):
    checkpoint(2.0)
    killed = Checkpoint(tmp_path, None, 0)
    killed.restore(KilledModel(), 1)
    with pytest.raises(KeyboardInterrupt):
        killed.save("best.keras")
    assert is_intact(tmp_path / "best.keras")
    assert [path.name for path in tmp_path.iterdir()] == ["best.keras"]
    assert keras.saving.load_model(tmp_path / "best.keras").get_weights()[0].tolist() == [[2.0]]


def test_a_run_with_an_altered_checkpoint_is_refused(checkpoint, tmp_path):
    checkpoint(2.0)
    experiment = Experiment("tiny", FrameClassifier(backbone="mini_xception", weights=None))
    run = {"experiment": to_json(experiment), "faces": to_json(Faces()), "classes": ["angry", "happy"]}
    write_json(tmp_path / "config.json", run)
    assert load_trained(tmp_path).classes == ("angry", "happy")
    content = bytearray((tmp_path / "best.keras").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "best.keras").write_bytes(content)
    with pytest.raises(InputError, match="best.keras is damaged: its checksum differs. Copy it again"):
        load_trained(tmp_path)

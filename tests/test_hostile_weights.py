"""`affect weights import` of mutated files: kept, or refused with one line; what was in the cache stays."""

import h5py
import keras
import numpy as np
import pytest
import safetensors.numpy

from affect.errors import InputError
from affect.models.backbones import BACKBONES, Backbone
from affect.models.published import PUBLISHED, Published
from tests.commands import affect
from tests.mutations import survive
from tests.torch_files import write_pth

RANDOM = np.random.default_rng(0)
KERNEL, BIAS = RANDOM.standard_normal((3, 3, 3, 4)).astype("float32"), np.ones(4, "float32")
STATE = {"conv1_1.weight": np.ascontiguousarray(np.einsum("yxio->oiyx", KERNEL)), "conv1_1.bias": BIAS}


def build(face_size, output_stride, scaling):
    faces = keras.Input((face_size, face_size, 3), name="faces")
    return keras.Model(faces, keras.layers.Conv2D(4, 3, name="block1_conv1")(faces))


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tmp_path):
    """A backbone of one layer, because a file of VGG16 has 59 MB."""
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path / "cache"))
    row = Published("mine", "mine.h5", "none", {"block1_conv1": "conv1_1"}, first_layer="conv1_1")
    monkeypatch.setitem(PUBLISHED, "tiny", row)
    monkeypatch.setitem(BACKBONES, "tiny", Backbone(build, 32, (1,), {"published": {}}))


def write_hdf5(path):
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv1_1"]
        file.create_group("conv1_1").attrs["weight_names"] = [b"conv1_1/kernel:0", b"conv1_1/bias:0"]
        file["conv1_1/conv1_1/kernel:0"], file["conv1_1/conv1_1/bias:0"] = KERNEL, BIAS


FORMS = {
    "weights.h5": write_hdf5,
    "weights.safetensors": lambda path: safetensors.numpy.save_file(STATE, path),
    "zip.pth": lambda path: write_pth(path, STATE, "zip"),
    "legacy.pth": lambda path: write_pth(path, STATE, "legacy"),
}


def import_weights(path):
    code, out, lines = affect("weights", "import", "tiny", path)
    if code:
        assert code == 2 and len(lines) == 1 and str(path) in lines[0], (code, lines)
        raise InputError(lines[0])
    assert out.startswith("tiny: stored in")


@pytest.mark.parametrize("count", [15, pytest.param(500, marks=pytest.mark.large)])
@pytest.mark.parametrize("name", FORMS)
def test_mutated_weights_are_imported_or_refused(tmp_path, name, count):
    path, cache = tmp_path / name, tmp_path / "cache" / "weights"
    FORMS[name](path)
    import_weights(path)
    assert len([*cache.iterdir()]) == 2
    good, refused = survive(import_weights, path.read_bytes(), path, count, seed=count)
    assert refused
    assert good or name == "zip.pth"  # a zip archive has checksums
    assert len([*cache.iterdir()]) == 2

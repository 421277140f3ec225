import shutil
import subprocess
import sys

import numpy as np
import pytest

from affect.config import read_json, write_json
from affect.errors import InputError
from affect.reading.loading import read_artefact
from affect.reading.saved_model import latest_version, write_sums


@pytest.fixture
def copy(exported, tmp_path):
    """A copy of an exported model, which may be harmed."""
    return shutil.copytree(exported("joint_softmax")[1].path, tmp_path / "name" / "1")


def refused(path):
    """Reads what must be refused; returns the one line it says."""
    with pytest.raises(InputError) as error:
        read_artefact(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_flipped_bit_in_any_file_is_found(copy):
    files = [path for path in copy.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"saved_model.pb", "variables.index", "golden.npz", "SHA256SUMS"}
    for path in files:
        whole = path.read_bytes()
        for place in (0, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            line = refused(copy)
            if path.name != "SHA256SUMS":
                name = path.relative_to(copy).as_posix()
                assert line == (
                    f"{copy} was changed after its export: {name} was altered. Copy it again, or export it again."
                )
        path.write_bytes(whole)
    read_artefact(copy)


def test_a_file_that_is_missing_or_was_added_is_found(copy):
    (copy / "variables" / "variables.index").unlink()
    assert "variables/variables.index is missing." in refused(copy)
    (copy / "assets.extra" / "labels.txt").unlink()
    assert "assets.extra/labels.txt is missing and 1 more." in refused(copy)


def test_a_file_that_was_added_is_found(copy):
    (copy / "saved_model.pbtxt").write_text("meta_graphs {}")  # TensorFlow would read one like it.
    assert "saved_model.pbtxt was added." in refused(copy)


@pytest.mark.parametrize("content", [b"", b"no sum\n", b"\xff\xfe"])
def test_checksums_that_are_none(copy, content):
    (copy / "assets.extra" / "SHA256SUMS").write_bytes(content)
    assert str(copy) in refused(copy)


def test_a_folder_that_is_no_artefact(copy, tmp_path):
    assert refused(copy.parent).endswith(f"has no assets.extra/SHA256SUMS. Name a version: {copy}.")
    assert refused(tmp_path / "gone").endswith(f"Make one: affect export RUN {tmp_path / 'gone'}")


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("format", 2, "is of kind and format ('savedmodel', 2); this version of affect reads ('savedmodel', 1)."),
        ("faces", {"detector": 1}, "faces.detector: expected str. Received: 1"),
        ("experiment", None, "experiment must be an object"),
        ("classes", None, "lacks classes."),
    ],
)
def test_a_description_that_cannot_be_meant(copy, field, value, text):
    path = copy / "assets.extra" / "affect.json"
    description = read_json(path) | {field: value}
    if value is None and field == "classes":
        del description["classes"]
    write_json(path, description)
    write_sums(copy)
    assert text in refused(copy)


def test_a_network_of_whole_clips_has_no_functions_of_frames(exported, converted):
    for found in (*exported("video_sta"), converted("video_sta")[1]):
        with pytest.raises(InputError) as caught:
            found.frame_functions  # noqa: B018
        text = "reads whole clips, and does not judge their frames one by one. Use affect predict."
        assert str(caught.value).endswith(text)


def test_a_regression_has_no_functions_of_frames(exported):
    with pytest.raises(InputError, match="reads windows of frames. Use affect.models.stream.StreamingRegressor"):
        exported("regression")[1].frame_functions  # noqa: B018


def test_the_latest_version_of_a_name(tmp_path):
    for version in ("2", "10", "9", "notes", ".export-x"):
        (tmp_path / "name" / version).mkdir(parents=True)
        (tmp_path / "name" / version / "saved_model.pb").touch()
    (tmp_path / "name" / "11").mkdir()
    assert latest_version(tmp_path / "name") == tmp_path / "name" / "10"
    for path in (tmp_path / "name" / "9", tmp_path, tmp_path / "model.tflite"):
        assert latest_version(path) == path


def test_what_a_signature_takes(exported):
    _, artefact = exported("joint_softmax")
    with pytest.raises(InputError, match=r"has no signature 'step'. Expected one of \['explain', 'frame', 'jpeg', "):
        artefact.signature("step")
    with pytest.raises(InputError, match=r"Signature frame takes the inputs \['faces'\]. Received: \['face'\]"):
        artefact.signature("frame")({"face": np.zeros((1, 32, 32, 3), np.uint8)})


def test_a_model_is_read_and_run_without_its_code(exported):
    """Reading needs neither TensorFlow nor Keras nor a layer of ours; running, TensorFlow alone of our requirements."""
    code = (
        "import sys\n"
        "from affect.reading.loading import read_artefact\n"
        f"artefact = read_artefact({str(exported('lstm')[1].path)!r})\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
        "sys.modules['keras'] = None\n"
        "inputs, expected = artefact.golden()['serving_default']\n"
        "outputs = artefact.signature('serving_default')(inputs)\n"
        "assert abs(outputs['probabilities'] - expected['probabilities']).max() < 1e-5\n"
        "ours = {name for name in sys.modules if name.startswith('affect')}\n"
        "reading = ('', '.artefact', '.loading', '.operations', '.predictor', '.rows', '.saved_model')\n"
        "light = {'affect', *(f'affect.{name}' for name in ('config', 'errors', 'extras', 'files', 'progress'))}\n"
        "light |= {f'affect.config.{name}' for name in ('effects', 'experiment', 'loading', 'values')}\n"
        "assert ours == light | {f'affect.reading{name}' for name in reading}, ours\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]

import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from scipy.special import softmax

from affect.config import to_json, write_json
from affect.data import clip_inputs
from affect.errors import InputError
from affect.model import detailed, load_trained
from affect.predict import predict, read_model
from pipelines.detectors.mtcnn import Mtcnn
from pipelines.faces import cut_clip

FER2013 = Path(__file__).parents[1] / "configs" / "fer2013.py"


@pytest.fixture(scope="module")
def trained():
    return load_trained(FER2013)


@pytest.fixture(scope="module")
def clip(trained, face_videos):
    return cut_clip(face_videos / "moving.mp4", trained.faces, Mtcnn(trained.faces), key="moving")[0]


def test_what_a_prediction_holds(trained, clip):
    result = predict(trained, clip)
    assert (result["key"], result["frames_decoded"], result["frames_with_a_face"]) == ("moving", 8, 8)
    assert result["coverage"] == 1.0
    assert list(result["probabilities"]) == ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    assert result["label"] == max(result["probabilities"], key=result["probabilities"].get)
    assert sum(result["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert sum(frame["importance"] for frame in result["frames"]) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose([frame["timestamp_s"] for frame in result["frames"]], np.arange(8) / 10, atol=1e-6)
    for frame in result["frames"]:
        assert sum(frame["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_clip_probability_is_the_sum_over_frames_of_the_joint_softmax(trained, clip):
    inputs, _ = clip_inputs(clip, trained.experiment.data, trained.face_size)
    scores = detailed(trained.model).predict_on_batch(inputs)["frame_logits"][0].astype(np.float64)
    joint = softmax(scores)  # over frames and classes, eq. 5
    result = predict(trained, clip)
    np.testing.assert_allclose(list(result["probabilities"].values()), joint.sum(axis=0), atol=1e-5)
    np.testing.assert_allclose([frame["importance"] for frame in result["frames"]], joint.sum(axis=1), atol=1e-5)


def test_a_real_smile_is_happy_and_rises(trained, shared_data):
    """The clip shows a neutral face that begins to smile; the model is the published one, untrained by us."""
    clip, problem = cut_clip(shared_data / "clips/single_face.mp4", trained.faces, Mtcnn(trained.faces), key="smile")
    assert not problem
    result = predict(trained, clip)
    assert result["label"] == "happy"
    happy = [frame["probabilities"]["happy"] for frame in result["frames"]]
    third = len(happy) // 3
    assert np.mean(happy[-third:]) > np.mean(happy[:third]) + 0.5


def test_what_predicts_is_told_from_what_is_in_it(exported, converted, tmp_path):
    saved, file = exported("joint_softmax")[1].path, converted("joint_softmax")[1].path
    for path in (saved, file):
        assert (read_model(path).path, read_model(path).is_regression) == (path, False)
    assert read_model(FER2013).experiment.name == "fer2013"
    harmed = [shutil.copytree(saved, tmp_path / name / "1") for name in ("altered", "unsealed", "bare")]
    (harmed[0] / "saved_model.pb").write_bytes(b"x" + (saved / "saved_model.pb").read_bytes()[1:])
    (harmed[1] / "assets.extra" / "SHA256SUMS").unlink()
    shutil.rmtree(harmed[2] / "assets.extra")
    cut_short = tmp_path / "model.tflite"
    cut_short.write_bytes(file.read_bytes()[:-1])
    lines = ["saved_model.pb was altered", *["is not an exported model: it has no assets.extra/SHA256SUMS"] * 2]
    for path, line in zip([*harmed, cut_short], [*lines, "its checksum is another"], strict=True):
        with pytest.raises(InputError) as error:
            read_model(path)
        assert line in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", ["", ".h5", ".json", ".keras", ".onnx", ".pb", ".pth", ".tflite", ".txt", ".zip"])
def test_a_file_that_is_data_is_never_run(tmp_path, suffix):
    trap, path = tmp_path / "trap", tmp_path / f"model{suffix}"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", f"open({str(trap)!r}, 'w')")
    for read in (read_model, load_trained):
        with pytest.raises(InputError) as error:
            read(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
        assert not trap.exists()


def test_a_checkpoint_that_holds_code_is_refused(exported, tmp_path):
    """Keras keeps a lambda as bytecode, and reads it in safe mode only as an error."""
    trap = tmp_path / "trap"
    faces = keras.Input((2,))
    layer = keras.layers.Lambda(lambda x, opened=open, path=str(trap): opened(path, "w") and x, output_shape=(2,))
    keras.Model(faces, layer(faces)).save(tmp_path / "best.keras")
    trap.unlink(missing_ok=True)
    trained = exported("joint_softmax")[0]
    run = {"experiment": to_json(trained.experiment), "faces": to_json(trained.faces), "classes": trained.classes}
    write_json(tmp_path / "config.json", run)
    with pytest.raises(InputError, match="best.keras cannot be read"):
        load_trained(tmp_path)
    assert not trap.exists()

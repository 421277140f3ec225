import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from scipy.special import softmax

from affect.config import to_json, write_json
from affect.data.clips import Clip
from affect.data.views import clip_inputs
from affect.errors import InputError
from affect.models.frame_classifier import detail_classifier
from affect.pipelines.detectors.mtcnn import Mtcnn
from affect.pipelines.faces import Cut, cut_clip
from affect.pipelines.tracks import Track
from affect.reading.loading import read_model
from affect.reading.predict import predict
from affect.reading.run import load_trained
from tests.pictures import portrait, write_video

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
    scores = detail_classifier(trained.model).predict_on_batch(inputs)["frame_logits"][0].astype(np.float64)
    joint = softmax(scores)  # over frames and classes, eq. 5
    result = predict(trained, clip)
    np.testing.assert_allclose(list(result["probabilities"].values()), joint.sum(axis=0), atol=1e-5)
    np.testing.assert_allclose([frame["importance"] for frame in result["frames"]], joint.sum(axis=1), atol=1e-5)


@pytest.mark.parametrize("name", ["joint_softmax", "average", "max", "lstm", "statistics"])
@pytest.mark.parametrize("batch_faces", [3, 32])
def test_all_faces_are_read_whatever_evaluation_looks_at(exported, clip, name, batch_faces):
    """By a network that is told all faces of the clip at once, and of a clip that is longer than `eval_frames`."""
    trained, artefact = exported(name)
    inputs, _ = clip_inputs(clip, trained.experiment.data, trained.face_size)
    expected = trained.respond(inputs)
    for model in map(of_4_frames, (trained, artefact)):
        result = predict(model, clip, batch_faces=batch_faces)
        assert (result["frames_read"], len(result["frames"])) == (8, 8)
        assert list(result["probabilities"].values()) == pytest.approx(expected["probabilities"][0], abs=1e-5)
        for key, rows in (("importance", "frame_importance"), ("probabilities", "frame_probabilities")):
            found = [frame[key] for frame in result["frames"]]
            found = [[*row.values()] for row in found] if key == "probabilities" else found
            np.testing.assert_allclose(found, expected[rows][0], atol=1e-5)


def of_4_frames(trained):
    data = replace(trained.experiment.data, eval_frames=4)
    return replace(trained, experiment=replace(trained.experiment, data=data))


@pytest.mark.parametrize("form", ["network", "saved model", "tflite", "tflite of one face"])
def test_what_takes_whole_clips_reads_some_faces_and_says_how_many(exported, converted, clip, form):
    """A TFLite file of single faces reads all."""
    model = {
        "network": lambda: exported("video_sta")[0],
        "saved model": lambda: exported("video_sta")[1],
        "tflite": lambda: converted("joint_softmax")[1],
        "tflite of one face": lambda: converted("joint_softmax", part="frame")[1],
    }[form]()
    result = predict(of_4_frames(model), clip)
    read = [place for place, frame in enumerate(result["frames"]) if frame["probabilities"] is not None]
    expected = [*range(8)] if form == "tflite of one face" else [0, 2, 5, 7]
    assert read == expected and result["frames_read"] == len(expected)
    assert all(frame["has_face"] for frame in result["frames"])
    assert sum(result["frames"][place]["importance"] for place in read) == pytest.approx(1, abs=1e-5)


def test_a_frame_without_a_face_has_a_row_of_its_own(trained, clip):
    track = Track(id=1, frames=8, mean_area_px=900.0, mean_distance_ratio=0.1)
    times_s = (
        -0.5,
        *(face.timestamp_s for face in clip.faces[:5]),
        0.45,
        *(face.timestamp_s for face in clip.faces[5:]),
    )
    cut = Cut((track,), 10, 10.0, "", seen=(replace(track, id=0), track), times_s=times_s)
    result, alone = predict(trained, replace(clip, frames_decoded=10), cut), predict(trained, clip)
    assert (result["faces_seen"], result["frames_with_a_face"], result["frames_decoded"]) == (2, 8, 10)
    assert [frame["timestamp_s"] for frame in result["frames"]] == [*times_s]
    without = [frame for frame in result["frames"] if not frame["has_face"]]
    assert without == [
        {"timestamp_s": time_s, "has_face": False, "importance": None, "probabilities": None} for time_s in (-0.5, 0.45)
    ]
    assert [frame for frame in result["frames"] if frame["has_face"]] == alone["frames"]
    assert result["probabilities"] == alone["probabilities"]


def test_a_clip_without_a_face_has_rows_and_no_label(trained, exported):
    cut = Cut((), 2, 10.0, "no face", times_s=(0.0, 0.1))
    result = predict(trained, Clip("a", frames_decoded=2), cut)
    assert (result["label"], result["probabilities"], result["frames_read"], result["coverage"]) == (None, None, 0, 0.0)
    assert [frame["has_face"] for frame in result["frames"]] == [False, False]
    result = predict(exported("regression_sta")[0], Clip("a", frames_decoded=2), cut)
    nothing = {"has_face": False, "valence": None, "arousal": None}
    assert result["frames"] == []
    assert result["decoded_frames"] == [{"timestamp_s": time_s, **nothing} for time_s in cut.times_s]


def test_each_decoded_frame_has_the_value_of_the_nearest_point_of_the_grid(exported, clip):
    """Faces at 25 frames/s, of which every fourth frame shows none, and a grid of 10 points a second."""
    times_s = tuple(place / 25 for place in range(40))
    faces = tuple(
        replace(clip.faces[place % 8], timestamp_s=time_s) for place, time_s in enumerate(times_s) if place % 4
    )
    track = Track(0, len(faces), 900.0, 0.1)
    result = predict(
        exported("regression_sta")[0],
        replace(clip, faces=faces, frames_decoded=40),
        Cut((track,), 40, 25.0, "", seen=(track,), times_s=times_s),
    )
    assert [row["timestamp_s"] for row in result["decoded_frames"]] == [*times_s]
    assert [row["has_face"] for row in result["decoded_frames"]] == [place % 4 > 0 for place in range(40)]
    grid = {round(frame["timestamp_s"] * 10): frame for frame in result["frames"]}
    for row in result["decoded_frames"]:
        expected = grid[min(grid, key=lambda point: abs(point / 10 - row["timestamp_s"]))] if row["has_face"] else row
        assert (row["valence"], row["arousal"]) == (expected["valence"], expected["arousal"])
        assert (row["valence"] is None) == (not row["has_face"])


LOOPED = """
import json, resource, sys
from pathlib import Path
from tempfile import TemporaryDirectory
from affect.reading.loading import read_model
from affect.reading.predict import predict
from affect.data.clips import Clip
from affect.pipelines.detectors.mtcnn import Mtcnn
from affect.pipelines.faces import Cut, cut_clip
from affect.pipelines.tracks import Track
from tests.pictures import portrait, write_video

trained = read_model(Path(sys.argv[1]))
with TemporaryDirectory() as folder:
    clip, cut = cut_clip(sys.argv[2], trained.faces, Mtcnn(trained.faces), key="a", folder=Path(folder))
    result = predict(trained, clip, cut)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"frames": len(result["frames"]), "read": result["frames_read"], "peak_mib": peak / 1024}))
"""


@pytest.mark.large
def test_memory_does_not_grow_with_the_video(tmp_path):
    peaks = {}
    for times in (1, 10, 100):
        frames = [portrait(shift=(4 * (t % 8), 2 * (t % 8))) for t in range(24)] * times
        video = write_video(tmp_path / f"{times}.mp4", frames)
        command = [sys.executable, "-c", LOOPED, FER2013, video]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        found = json.loads(done.stdout)
        assert found["frames"] == found["read"] == 24 * times
        peaks[times] = found["peak_mib"]
    print(f"peak memory in MiB by length: {peaks}")
    assert peaks[100] < 1.1 * peaks[10]


def test_a_real_smile_is_happy_and_rises(trained, shared_data):
    """The clip shows a neutral face that begins to smile; the model is the published one, untrained by us."""
    clip, cut = cut_clip(shared_data / "clips/single_face.mp4", trained.faces, Mtcnn(trained.faces), key="smile")
    assert not cut.problem
    result = predict(trained, clip)
    assert result["label"] == "happy"
    happy = [frame["probabilities"]["happy"] for frame in result["frames"]]
    third = len(happy) // 3
    assert np.mean(happy[-third:]) > np.mean(happy[:third]) + 0.5


def test_what_predicts_is_told_from_what_is_in_it(exported, converted, tmp_path):
    saved, file = exported("joint_softmax")[1].path, converted("joint_softmax")[1].path
    for path in (saved, file):
        assert (read_model(path).path, read_model(path).task.name) == (path, "classification")
    assert read_model(FER2013).experiment.name == "fer2013"
    harmed = [shutil.copytree(saved, tmp_path / name / "1") for name in ("altered", "unsealed", "bare")]
    (harmed[0] / "saved_model.pb").write_bytes(b"x" + (saved / "saved_model.pb").read_bytes()[1:])
    (harmed[1] / "assets.extra" / "SHA256SUMS").unlink()
    shutil.rmtree(harmed[2] / "assets.extra")
    cut_short = tmp_path / "model.tflite"
    cut_short.write_bytes(file.read_bytes()[:-1])
    lines = ["saved_model.pb was altered", *["is not an exported model: it has no assets.extra/SHA256SUMS"] * 2]
    for path, line in zip([*harmed, cut_short], [*lines, "its checksum differs"], strict=True):
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

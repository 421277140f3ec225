"""The same frames give the same numbers on every road: trained network, SavedModel in Python and C, stream, TFLite."""

import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from affect.config import Experiment, Faces, FrameClassifier, Windows
from affect.data.views import clip_inputs
from affect.models.frame_classifier import build_frame_classifier, detail_classifier
from affect.models.stream import StreamingClassifier, StreamingRegressor
from affect.models.video_networks import detail_regressor
from affect.pipelines.detectors.mtcnn import Mtcnn
from affect.pipelines.faces import cut_clip
from affect.reading.loading import read_artefact
from affect.reading.predict import predict
from affect.reading.run import Trained
from affect.serving.convert import convert
from affect.serving.export import export_trained
from tests.exported import CLASSES, FACES, MODELS, SOURCES
from tests.requests_to_models import BAD_REQUESTS, HOSTILE, INPUTS

ROWS = [*MODELS, "mini_xception"]
# The other rows convert in `make test-large`.
FLOAT32, FLOAT16 = tuple(MODELS), ("joint_softmax", "regression_sta")
FRAME_RATE_HZ = 10.0


@pytest.fixture(scope="module")
def clips(face_videos, request):
    """Name → `Clip`: the embedded portrait, which moves, and a real face where it is at hand."""
    videos = {"portrait": face_videos / "moving.mp4"}
    with suppress(pytest.skip.Exception):  # Those who ask for it by `material` are skipped.
        videos["single_face"] = request.getfixturevalue("shared_data") / "clips" / "single_face.mp4"
    found = {}
    for name, video in videos.items():
        clip, cut = cut_clip(video, replace(FACES, frame_rate_hz=5.0), Mtcnn(FACES), key=name)
        assert not cut.problem and len(clip.faces) >= 4
        found[name] = replace(clip, faces=clip.faces[:6])
    return found


@pytest.fixture(params=["portrait", "single_face"])
def material(request, clips):
    if request.param not in clips:
        request.getfixturevalue("shared_data")
    return request.param


def expected_of(trained, inputs):
    """The training path: the Keras network, and SciPy's softmax."""
    if trained.task.name == "regression":
        outputs = detail_regressor(trained.model)(inputs, training=False)
        return {"dimensions": outputs["dimensions"].numpy()}
    outputs = {name: value.numpy() for name, value in detail_classifier(trained.model)(inputs, training=False).items()}
    return {
        "probabilities": softmax(outputs["logits"], axis=-1),
        "frame_importance": outputs["frame_importance"],
        "frame_probabilities": softmax(outputs["frame_logits"], axis=-1),
    } | {name: outputs[name] for name in ("attention",) if name in outputs}


def same(outputs, expected, atol=1e-5):
    """Compares what both have; all but attention must be there."""
    assert expected.keys() - {"attention"} <= outputs.keys()
    for name in expected.keys() & outputs.keys():
        np.testing.assert_allclose(outputs[name], expected[name], atol=atol, rtol=0, err_msg=name)


@pytest.fixture(scope="module")
def seen(clips, exported):
    """Function: row, material → `(inputs, what the training path says of them)`."""

    def found(name, material):
        trained, _ = exported(name)
        inputs, _ = clip_inputs(clips[material], trained.experiment.data, trained.face_size)
        return inputs, expected_of(trained, inputs)

    return found


def stored(clip):
    return np.array([[face.jpeg for face in clip.faces]])


@pytest.mark.parametrize("name", ROWS)
def test_the_saved_model_in_python(name, material, clips, seen, exported):
    _, artefact = exported(name)
    inputs, expected = seen(name, material)
    assert np.ptp(expected.get("probabilities", expected.get("dimensions"))) > 0.01  # not a dead network
    same(artefact.respond(inputs), expected)
    same(artefact.signature("jpeg")({"jpegs": stored(clips[material])}), expected)


@pytest.fixture(scope="module")
def answers(clips, seen, exported, tmp_path_factory):
    """Answers of TensorFlow's C API, in one process without TensorFlow's Python: row → dict of arrays by name."""
    folder, arguments = tmp_path_factory.mktemp("c_api"), []
    for name in ROWS:
        _, artefact = exported(name)
        requests = {
            f"golden/{signature}/{key}": value
            for signature, (inputs, _) in artefact.golden().items()
            for key, value in inputs.items()
        }
        for material, clip in clips.items():
            requests |= {f"{material}/serving_default/{key}": value for key, value in seen(name, material)[0].items()}
            requests[f"{material}/jpeg/jpegs"] = stored(clip)
        if name == "joint_softmax":
            requests |= {f"gaps/serving_default/{key}": value for key, value in INPUTS.items()}
            requests["hostile/jpeg/jpegs"] = np.array(
                [[content] for content in HOSTILE.values() if len(content) < 2**20]
            )
            for request, (signature, inputs, _) in BAD_REQUESTS.items():
                requests |= {f"bad {request}/{signature}/{key}": value for key, value in inputs.items()}
        arguments += c_api_arguments(artefact, requests, folder / name)
    return answers_of_c_api(arguments)


def c_api_arguments(artefact, requests, path):
    np.savez(f"{path}-requests.npz", **requests)
    return [artefact.path, f"{path}-requests.npz", f"{path}-answers.npz"]


def answers_of_c_api(arguments):
    """Returns name of the model → dict of arrays `request/signature/tensor`."""
    script = Path(__file__).with_name("serve_c_api.py")
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return {Path(path).name.removesuffix("-answers.npz"): dict(np.load(path)) for path in arguments[2::3]}


def of_request(answers, request):
    prefix = f"{request}/"
    return {key.removeprefix(prefix): value for key, value in answers.items() if key.startswith(prefix)}


@pytest.mark.parametrize("name", ROWS)
def test_the_saved_model_through_the_c_api(name, material, seen, answers):
    _, expected = seen(name, material)
    for signature in ("serving_default", "jpeg"):
        same(of_request(answers[name], f"{material}/{signature}"), expected)


@pytest.mark.parametrize("name", ROWS)
def test_every_signature_through_the_c_api(name, answers, exported):
    for signature, (_, expected) in exported(name)[1].golden().items():
        outputs = of_request(answers[name], f"golden/{signature}")
        assert outputs.keys() == expected.keys()
        for key, value in expected.items():
            if value.dtype.kind == "f":
                np.testing.assert_allclose(outputs[key], value, atol=1e-5, rtol=0, err_msg=key)
            else:
                assert outputs[key].tolist() == value.tolist()


def test_a_bad_request_is_an_error_and_the_server_lives(answers):
    found = answers["joint_softmax"]
    for request, (signature, _, text) in BAD_REQUESTS.items():
        error = found[f"bad {request}/{signature}/error"].item()
        assert error.startswith("3: ")  # INVALID_ARGUMENT
        assert text in error
    # They are sent in the order of their names: these came after the errors.
    assert not found["hostile/jpeg/frame_mask"].any()
    assert "golden/serving_default/probabilities" in found
    assert found["gaps/serving_default/label"].tolist()[2] == b""


def stream(artefact, faces):
    """Returns what a stream of faces uint8 (1, F, S, S, 3) comes to, as arrays of a clip."""
    config = artefact.experiment.model
    if config.task == "regression":
        windows = Windows(length_s=faces.shape[1] / FRAME_RATE_HZ, frame_rate_hz=FRAME_RATE_HZ, delay_s=0.0)
        regressor = StreamingRegressor(
            lambda **inputs: artefact.respond(inputs)["dimensions"], windows, face_size=artefact.face_size
        )
        for index, face in enumerate(faces[0]):
            assert regressor.add(index / FRAME_RATE_HZ, face) == []
        (reading,) = regressor.flush()
        return {"dimensions": reading.dimensions[None]}
    classifier = StreamingClassifier(artefact.frame_functions, config, artefact.classes)
    readings = [classifier.add(index / FRAME_RATE_HZ, face) for index, face in enumerate(faces[0])]
    outputs = {
        "probabilities": [list(readings[-1].probabilities.values())],
        "frame_probabilities": [[list(reading.frame_probabilities.values()) for reading in readings]],
        "attention": [[reading.attention for reading in readings]],
    }
    return {name: value for name, value in outputs.items() if readings[-1].attention is not None or name != "attention"}


def without_importance(expected):
    """Importance of a stream is of the frames so far; test_stream.py compares it."""
    return {name: value for name, value in expected.items() if name != "frame_importance"}


@pytest.mark.parametrize("name", [row for row in ROWS if row != "video_sta"])
def test_a_stream_of_frames(name, material, seen, exported):
    inputs, expected = seen(name, material)
    same(stream(exported(name)[1], inputs["faces"]), without_importance(expected))


@pytest.mark.parametrize("name", ["joint_softmax", "lstm"])
def test_a_stream_through_tflite(name, material, seen, converted):
    inputs, expected = seen(name, material)
    same(stream(converted(name, part="frame")[1], inputs["faces"]), without_importance(expected))


def rows(fast):
    return [row if row in fast else pytest.param(row, marks=pytest.mark.large) for row in ROWS]


@pytest.mark.parametrize("name", rows(FLOAT32))
def test_tflite_of_float32(name, material, seen, converted):
    inputs, expected = seen(name, material)
    same(converted(name)[1].respond(inputs), expected)


@pytest.mark.parametrize("name", rows(FLOAT16))
def test_tflite_of_float16(name, material, seen, converted):
    inputs, expected = seen(name, material)
    same(converted(name, "float16")[1].respond(inputs), expected, atol=1e-3)


@pytest.mark.parametrize("name", ["statistics", "regression_sta"])
def test_a_clip_is_predicted_alike_by_all_that_predict(name, material, clips, exported, converted):
    trained, artefact = exported(name)
    expected = flat(predict(trained, clips[material]))
    assert len(expected) > 10
    for other in (artefact, converted(name)[1]):
        found = flat(predict(other, clips[material]))
        assert found.keys() == expected.keys()
        assert found == pytest.approx(expected, abs=1e-5)


def flat(value, name=""):
    """Returns a nested value as a dict of its numbers and strings by their places."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {key: leaf for place, item in items for key, leaf in flat(item, f"{name}/{place}").items()}
    return {name: value}


@pytest.mark.large
def test_vgg16_at_true_size(clips, tmp_path):
    config = FrameClassifier(backbone="vgg16", weights=None, heads=2, hidden_units=256)
    trained = Trained(build_frame_classifier(config, CLASSES), Experiment("vgg16", config), CLASSES, Faces())
    version = export_trained(trained, tmp_path / "vgg16", SOURCES)
    artefact = read_artefact(version)
    *_, clip = clips.values()
    clip = replace(clip, faces=clip.faces[:3])
    inputs, _ = clip_inputs(clip, trained.experiment.data, trained.face_size)
    expected = expected_of(trained, inputs)
    same(artefact.signature("explain")(inputs), expected)
    same(artefact.signature("jpeg")({"jpegs": stored(clip)}), expected)
    same(stream(artefact, inputs["faces"]), without_importance(expected))
    requests = {f"clip/serving_default/{key}": value for key, value in inputs.items()}
    answers = answers_of_c_api(c_api_arguments(artefact, requests, tmp_path / "vgg16"))
    same(of_request(answers["vgg16"], "clip/serving_default"), expected)
    sizes = {}
    for to, bound in (("float32", 1e-5), ("float16", 1e-3), ("dynamic", 0.02)):
        report = convert(version, to=to)
        same(read_artefact(report["path"]).respond(inputs), expected, bound)
        sizes[to] = report["bytes"]
    assert sizes["float16"] < 0.51 * sizes["float32"] and sizes["dynamic"] < 0.26 * sizes["float32"]

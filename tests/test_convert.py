"""TFLite files give what the SavedModel gives, carry what is needed to use them, and are refused when harmed."""

import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from flatbuffers.number_types import Float32Flags, Int8Flags, Uint8Flags, Uint32Flags
from flatbuffers.table import Table
from scipy.special import logsumexp, softmax

from affect.data.batches import eval_batches
from affect.data.shards import Shards
from affect.errors import InputError
from affect.models.stream import StreamingClassifier
from affect.reading.loading import read_artefact
from affect.reading.saved_model import write_sums
from affect.reading.tflite import count_operators
from affect.serving.agreement import Sample, compare, find_fault, list_losses, make_reference
from affect.serving.convert import NUMBERS, PARTS, convert
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
    agreement = report["agreement"]
    if name.startswith("regression"):
        assert agreement is None
    else:
        assert (agreement["clips"], agreement["labels"], agreement["frame_labels"]) == (2, 1.0, 1.0)
        assert agreement["top_frame"] == 1.0 and agreement["importance"]["largest"] < 1e-3
        assert sum(row["clips"] for row in agreement["by_class"].values()) == 2
    assert not report["losses"]
    assert report["compared_on"] == "2 clips of the golden faces"
    assert json.loads(json.dumps(report)) == report
    assert list(report["latency_ms"]["tflite"]) == ["1", "2"]
    assert min(*report["latency_ms"]["tflite"].values(), report["latency_ms"]["saved_model"]) > 0


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
    assert types[schema.BuiltinOperator.CONV_2D] == schema.TensorType.INT8
    for name in ("SOFTMAX", "EXP", "TANH"):  # Pooling in integers loses the importance of frames.
        assert types[getattr(schema.BuiltinOperator, name)] == schema.TensorType.FLOAT32
    assert report["agreement"]["importance"]["mean"] < 0.05
    outputs = read_artefact(out).signature("serving_default")(INPUTS)
    np.testing.assert_allclose(outputs["probabilities"].sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(outputs["frame_importance"].sum(axis=1), [1, 1, 0], atol=1e-5)
    assert outputs["label"][2] == b""
    assert not outputs["frame_importance"][~FRAME_MASK].any()


def test_int8_is_calibrated_on_other_clips_than_it_is_compared_on(exported, shards, tmp_path):
    version, out = exported("joint_softmax")[1].path, tmp_path / "model.tflite"
    report = convert(version, out, to="int8", data=shards, clips=1, calibration_clips=3)
    assert report["compared_on"] == f"1 clip of split test of {shards}"
    assert report["calibrated_on"] == f"3 clips of split train of {shards}"
    assert read_artefact(out).description["conversion"]["calibrated_on"] == report["calibrated_on"]
    (warning,) = report["warnings"]
    assert "3 videos, whose people are not named" in warning and "--calibration-data" in warning
    message = refused(version, out, to="int8", data=shards, split="train")
    assert "compared on the clips that it is calibrated on: split train" in message
    report = convert(version, out, to="int8", calibration_data=shards, calibration_split="test")
    assert report["compared_on"] == "2 clips of the golden faces"
    assert report["calibrated_on"] == f"3 clips of split test of {shards}"


def test_damaged_shards_are_named_also_where_they_calibrate(exported, shards, tmp_path):
    harmed = shutil.copytree(shards, tmp_path / "harmed")
    (name,) = (shard["name"] for shard in Shards(shards).shards if shard["split"] == "train")
    content = bytearray((harmed / name).read_bytes())
    content[len(content) // 2] ^= 1
    (harmed / name).write_bytes(content)
    message = refused(
        exported("joint_softmax")[1].path, tmp_path / "a.tflite", to="int8", data=shards, calibration_data=harmed
    )
    assert message.startswith(f"{harmed} is damaged: {name}.")


def test_integers_alone(exported, shards, tmp_path):
    saved, out = exported("joint_softmax")[1], tmp_path / "model.tflite"
    report = convert(saved.path, out, to="int8", part="frame", integer_io=True, data=shards)
    model = schema.Model.GetRootAs(out.read_bytes())
    graph = model.Subgraphs(0)
    types = {graph.Tensors(graph.Operators(i).Outputs(0)).Type() for i in range(graph.OperatorsLength())}
    assert schema.TensorType.FLOAT32 not in types and "CAST" not in report["operators"]
    details = Interpreter(str(out)).get_signature_runner("frame")
    assert details.get_input_details()["faces"]["dtype"] is np.uint8
    assert details.get_input_details()["faces"]["quantization"] == (1.0, 0)
    assert details.get_output_details()["frame_logits"]["dtype"] is np.int8
    faces = {"faces": INPUTS["faces"][0]}
    found, expected = (each.signature("frame")(faces)["frame_logits"] for each in (read_artefact(out), saved))
    assert found.dtype == np.float32
    np.testing.assert_allclose(softmax(found, axis=1), softmax(expected, axis=1), atol=0.05)
    for options in ({"to": "int8"}, {"to": "float32", "part": "frame"}):
        assert "--to int8 and --part frame" in refused(saved.path, out, integer_io=True, data=shards, **options)
    message = refused(exported("lstm")[1].path, out, to="int8", part="frame", integer_io=True, data=shards)
    assert message.endswith("Received: to int8, part frame, with frame and step and classify.")


def test_every_form_in_one_table(exported, shards, tmp_path):
    version = exported("average")[1].path
    code, printed, lines = affect(
        "convert", version, "--all", "--data", shards, "--calibration-clips", 2, "--out", tmp_path
    )
    assert code == 0
    forms = [f"{part}-{to}" for part in PARTS for to in NUMBERS] + ["frame-int8-io"]
    names = [f"average-{version.name}-{form}.tflite" for form in forms]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert printed.splitlines()[-9:] == [str(tmp_path / name) for name in names]
    table = [line for line in printed.splitlines() if line.startswith("│")]
    assert len(table) == 9
    assert any("2 videos, whose people are not named" in line for line in lines)


def test_a_form_that_cannot_be_made_is_named_and_the_others_are_written(exported, tmp_path):
    code, _, lines = affect("convert", exported("max")[1].path, "--all", "--part", "frame", "--out", tmp_path)
    assert code == 1
    assert len(list(tmp_path.iterdir())) == 3
    assert [line for line in lines if "int8" in line] == [
        "affect: frame, int8: int8 is calibrated on real faces. Give shards: --calibration-data SHARDS, or --data "
        "SHARDS",
        "affect: frame, int8 with integer outputs: int8 is calibrated on real faces. Give shards: "
        "--calibration-data SHARDS, or --data SHARDS",
    ]


def rows(worst, count=1000):
    """A report in which one of many faces differs more than the others."""
    found = {"largest": worst, "quantile": 7e-7 if count > 100 else worst, "mean": 1e-7, "worst": "clip a, face 3"}
    same = found | {"largest": 3e-7, "quantile": 3e-7}
    differences = {"frame": {"frame_logits": found, "probabilities of frame_logits": same}}
    return {"differences": differences, "agreement": {"labels": 1.0, "frame_labels": 1.0}}


def test_one_face_of_many_may_differ_a_little_more():
    """The shipped model: one face of 640 differs by 1.1e-5, the median by 6e-7."""
    assert not find_fault(rows(1.1e-5))
    assert find_fault(rows(1.1e-5, count=2)) == "frame_logits by 1.1e-05 (99 %), above 1e-05, most in clip a, face 3"
    assert "frame_logits by 2.0e-04 (largest), above 0.0001, most in clip a, face 3" in find_fault(rows(2e-4))
    other = rows(1e-6)
    other["differences"]["frame"]["probabilities of frame_logits"]["largest"] = 1.1e-5
    assert find_fault(other).startswith("probabilities of frame_logits by 1.1e-05 (largest), above 1e-05")
    other = rows(1e-6)
    other["agreement"]["frame_labels"] = 0.999
    assert find_fault(other) == "the label in 0.10% of the clips or faces"
    assert find_fault(rows(float("nan")))


def test_what_is_the_same_is_counted_by_clip_and_by_class(exported, converted):
    """A classifier whose frames are reversed: labels are the same, and the importance is of other frames."""
    saved, artefact = exported("joint_softmax")[1], converted("joint_softmax")[1]
    sample = Sample("a", {"faces": INPUTS["faces"][:1], "frame_mask": FRAME_MASK[:1]})
    reference = make_reference(saved, ["serving_default"], [sample])
    (expected,) = (answer for _, answer in reference.answers)
    reversed_answer = replace(expected, importance=expected.importance[::-1])
    other = replace(reference, answers=((sample, reversed_answer),))
    found = compare(artefact, ["serving_default"], other)["agreement"]
    moved = np.abs(expected.importance - expected.importance[::-1]).sum() / 2
    assert (found["clips"], found["labels"], found["frame_labels"], found["top_frame"]) == (1, 1.0, 1.0, 0.0)
    assert found["importance"]["mean"] == pytest.approx(moved, abs=1e-5) and moved > 1e-3
    (name,) = found["by_class"]
    assert name == CLASSES[int(expected.probabilities.argmax())]
    losses = list_losses({"agreement": found | {"importance": {"mean": 0.4, "largest": 0.5}}}, "int8")
    assert losses == ["40% of the importance lies on other frames, above 10%"]


def test_the_worst_face_is_named(exported, converted):
    """A model that differs in one face."""
    saved, artefact = exported("joint_softmax")[1], converted("joint_softmax", part="frame")[1]
    sample = Sample("a", {"faces": INPUTS["faces"][:1], "frame_mask": FRAME_MASK[:1]})
    reference = make_reference(saved, ["frame"], [sample])
    (request, outputs) = reference.requests[2]
    outputs = outputs | {"frame_logits": outputs["frame_logits"] + np.float32(0.01)}
    requests = (*reference.requests[:2], (request, outputs), *reference.requests[3:])
    found = compare(artefact, ["frame"], replace(reference, requests=requests))
    assert found["differences"]["frame"]["frame_logits"]["worst"] == "a, face 2"
    assert "frame_logits by" in find_fault(found) and find_fault(found).endswith("most in a, face 2")


def test_frames_may_be_fixed(exported, tmp_path):
    saved, out = exported("joint_softmax")[1], tmp_path / "model.tflite"
    (tmp_path / ".convert-left-behind").mkdir()
    assert convert(saved.path, out, to="float32", frames=6)["frames"] == 6
    assert [*tmp_path.iterdir()] == [out]  # what a killed conversion left is gone
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


def test_a_file_of_others_is_not_called_damaged(file, tmp_path):
    function = tf.function(tf.math.sin).get_concrete_function(tf.TensorSpec((2,), tf.float32))
    other = tmp_path / "other.tflite"
    other.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([function]).convert())
    text = tmp_path / "text.tflite"
    text.write_text("a text with another name")
    for path in (other, text):
        with pytest.raises(InputError, match="was not written by affect") as error:
            read_artefact(path)
        assert "\n" not in str(error.value)
    whole = other.read_bytes()
    other.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="was not written by affect|is damaged"):
        read_artefact(other)


def read_table(table, **places):
    """Returns fields of a FlatBuffers table by their places in the schema: texts, or lists of tables."""
    found = {}
    for name, (place, kind) in places.items():
        offset = table.Offset(4 + 2 * place)
        if not offset:
            continue
        start = offset + table.Pos
        if kind == "text":
            found[name] = table.String(start).decode()
        elif kind == "tables":
            start, size = table.Vector(offset), table.VectorLen(offset)
            found[name] = [Table(table.Bytes, table.Indirect(start + 4 * index)) for index in range(size)]
        elif kind == "table":
            found[name] = Table(table.Bytes, table.Indirect(start))
        elif kind == "floats":
            found[name] = table.GetVectorAsNumpy(Float32Flags, offset).tolist()
        else:
            found[name] = table.Get(kind, start)
    return found


def metadata_of(path):
    """Returns the inputs and outputs that TFLite's own metadata describe. MediaPipe 1.2.3 read the same, by hand."""
    model = schema.Model.GetRootAs(path.read_bytes())
    (content,) = (
        model.Buffers(model.Metadata(index).Buffer()).DataAsNumpy().tobytes()
        for index in range(model.MetadataLength())
        if model.Metadata(index).Name() == b"TFLITE_METADATA"
    )
    assert content[4:8] == b"M001"
    root = Table(content, int.from_bytes(content[:4], "little"))
    about = read_table(root, name=(0, "text"), graphs=(3, "tables"), licence=(5, "text"), parser=(7, "text"))
    (graph,) = about.pop("graphs")
    sides = read_table(graph, inputs=(2, "tables"), outputs=(3, "tables"))
    tensors = {"name": (0, "text"), "content": (3, "table"), "units": (4, "tables"), "files": (6, "tables")}
    return about, *([read_table(table, **tensors) for table in sides[side]] for side in ("inputs", "outputs"))


def test_androids_tools_find_names_labels_and_scaling(converted):
    _, artefact = converted("joint_softmax", part="frame")
    about, inputs, outputs = metadata_of(artefact.path)
    assert about == {"name": "joint_softmax", "licence": "none", "parser": "1.0.0"}
    (faces,) = inputs
    content = read_table(faces["content"], kind=(0, Uint8Flags), properties=(1, "table"))
    image = read_table(content["properties"], colours=(0, Int8Flags), size=(1, "table"))
    assert (faces["name"], content["kind"], image["colours"]) == ("faces", 2, 1)
    assert read_table(image["size"], width=(0, Uint32Flags), height=(1, Uint32Flags)) == {"width": 32, "height": 32}
    (unit,) = faces["units"]
    unit = read_table(unit, kind=(0, Uint8Flags), options=(1, "table"))
    assert read_table(unit["options"], mean=(0, "floats"), deviation=(1, "floats")) == {
        "mean": [0.0],
        "deviation": [1.0],
    }
    graph = schema.Model.GetRootAs(artefact.path.read_bytes()).Subgraphs(0)
    sizes = [graph.Tensors(place).ShapeAsNumpy()[-1] for place in graph.OutputsAsNumpy()]
    assert {output["name"] for output in outputs} == {"frame_logits", "attention"}
    for output, size in zip(outputs, sizes, strict=True):
        files = [read_table(file, name=(0, "text"), kind=(2, Int8Flags)) for file in output.get("files", ())]
        is_scores = output["name"] == "frame_logits"
        assert files == ([{"name": "labels.txt", "kind": 2}] if is_scores else [])
        assert (size == len(CLASSES)) == is_scores
    _, inputs, outputs = metadata_of(converted("regression")[1].path)
    assert [each["name"] for each in inputs] == ["faces", "frame_mask"]
    assert [len(each["files"]) for each in outputs] == [1]


def test_an_operator_that_is_not_builtin_is_named(exported, tmp_path):
    class Other(tf.Module):
        @tf.function(
            input_signature=[tf.TensorSpec((None, None, 32, 32, 3), tf.uint8), tf.TensorSpec((None, None), tf.bool)]
        )
        def clip(self, faces, frame_mask):
            lengths = tf.strings.length(tf.gather([b"", b"a"], tf.cast(frame_mask[:, 0], tf.int32)))
            return {"probabilities": tf.cast(lengths, tf.float32)}

    version = shutil.copytree(exported("joint_softmax")[1].path, tmp_path / "name" / "1")
    model = Other()
    tf.saved_model.save(model, str(version), signatures={"serving_default": model.clip})
    write_sums(version)
    line = refused(version, to="float32")
    assert line.startswith(f"{version} does not convert to builtin operators: it needs") and "StringLength" in line
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
    assert "Give shards: --calibration-data SHARDS" in refused(version, to="int8")
    assert "is a TFLite file. Expected the folder NAME/VERSION" in refused(file, to="float32")
    assert "must be a file .tflite" in refused(version, version.parent / "model", to="float32")
    scores = exported("joint_softmax")[1].path
    assert "Received: frames=4" in refused(scores, to="float32", part="frame", frames=4)


def test_command_line(exported):
    version = exported("regression")[1].path
    out = version.parent.with_name(f"{version.parent.name}-1-clip-float32.tflite").resolve()
    code, printed, _ = affect("convert", version, "--to", "float32")
    assert code == 0
    assert printed.splitlines()[-1] == f"{out}: {out.stat().st_size} bytes, float32, frames dynamic, batch 1"
    assert "compared on 2 clips of the golden faces" in printed and "1 WHILE" in printed


@pytest.mark.large
def test_int8_keeps_the_labels_of_planted_expressions(tmp_path):
    code, _, lines = affect("demo", "--out", tmp_path)
    assert code == 0, lines
    version = export(tmp_path / "run", tmp_path / "savedmodels" / "planted")
    data = tmp_path / "shards"
    assert convert(version, to="int8", data=data)["agreement"]["labels"] >= 0.95
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
    assert len(agree) == 25 and np.mean(agree) >= 0.95

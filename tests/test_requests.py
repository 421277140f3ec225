"""The requests of savedmodels/README.md, as they are written, and what the server does when many come at once."""

import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from affect.data.clips import Clip, Face
from affect.errors import InputError
from affect.reading.predict import predict
from affect.reading.saved_model import read_saved_model
from affect.reading.server import bind, connect
from affect.tasks.answers import list_buckets
from tests.documents import DOCUMENTS, asks_server, blocks_of
from tests.serving_files import ROOT, parse_batching, parse_models, text_of
from tests.serving_stub import RefusedError, serve

README = "savedmodels/README.md"
BLOCKS = [block for document in DOCUMENTS for block in blocks_of(document) if asks_server(block)]
BATCHING = text_of("batching.config")
BATCHES_OF_4 = BATCHING.replace("max_execution_batch_size { value: 1 }", "max_execution_batch_size { value: 4 }")
TRANSPORTS = ("grpc", "http")


@pytest.fixture(scope="module")
def planted():
    return read_saved_model(ROOT / "savedmodels" / "planted" / "1")


@pytest.fixture(scope="module")
def face(planted):
    """A stored face, JPEG."""
    return planted.golden()["jpeg"][0]["jpegs"][0, 0]


@pytest.fixture(scope="module")
def served():
    """The clone's models behind the clone's files: `(models, {transport: address})`."""
    folder, config = ROOT / "savedmodels", parse_models(text_of("models.config"))
    with serve(folder, config, parse_batching(BATCHING), allow_labels=True) as (models, grpc_address, rest_address):
        yield models, {"grpc": f"grpc://{grpc_address}", "http": rest_address}


@pytest.fixture
def run(served, face, tmp_path):
    """Function: a block of the documents → what it prints, run beside `face.jpg` with the ports of the stub."""
    (tmp_path / "face.jpg").write_bytes(face)

    def found(block):
        text = block.text
        for port, address in zip(("8500", "8501"), served[1].values(), strict=True):
            text = text.replace(f"localhost:{port}", address.rpartition("/")[2])
        if block.language == "python":
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(tmp_path)
                exec(compile(text, str(block), "exec"), {})
            return ""
        done = subprocess.run(["bash", "-e", "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return found


def find(words):
    (block,) = (block for block in BLOCKS if words in block.text)
    return block


@pytest.mark.parametrize("block", BLOCKS, ids=map(str, BLOCKS))
def test_every_request_of_the_documents_is_answered(block, run):
    for answer in read_json_texts(run(block)):
        assert "error" not in answer


def test_columns_and_rows_are_answered_as_the_document_says(run, planted, face):
    expected = planted.signature("jpeg")({"jpegs": np.array([[face] * 3, [face, b"", b""]], object)})
    (columns,) = read_json_texts(run(find("columns.json")))
    outputs = columns["outputs"]
    labels = [label.decode() for label in expected["label"].tolist()]
    assert outputs["label"] == labels[:1]
    np.testing.assert_allclose(outputs["probabilities"], expected["probabilities"][:1], atol=1e-5)
    assert outputs["frame_mask"] == [[True] * 3 + [False] * 5]
    assert outputs["frame_importance"][0][3:] == [0] * 5
    (rows,) = read_json_texts(run(find("rows.json")))
    assert [row["label"] for row in rows["predictions"]] == labels
    found = [row["probabilities"] for row in rows["predictions"]]
    np.testing.assert_allclose(found, expected["probabilities"], atol=1e-5)


def test_the_status_says_what_is_ready_and_the_metadata_follow_a_label(run, served):
    status, of_one, metadata = read_json_texts(run(find("/metadata")))
    version = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert status == of_one == {"model_version_status": [version]}
    assert metadata["model_spec"]["version"] == "1"
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "planted"
    with grpc.insecure_channel(served[1]["grpc"].removeprefix("grpc://")) as channel:
        answer = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request)
        (found,) = answer.model_version_status
        assert (found.version, found.State.Name(found.state)) == (1, "AVAILABLE")
        request.model_spec.version.value = 7
        with pytest.raises(grpc.RpcError, match="Could not find version 7 of model planted"):
            model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request)
    assert {"jpeg", "frame"} <= set(metadata["metadata"]["signature_def"]["signature_def"])


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_clip_is_padded_to_the_next_bucket_and_its_answer_is_the_models(served, planted, face, transport):
    models, addresses = served
    client = bind(connect(f"{addresses[transport]}/planted/labels/stable"), planted)
    for count, bucket in ((1, 8), (9, 16), (32, 32)):
        clip = Clip("video.mp4", faces=tuple(Face(index / 25, face, (), (), 1.0, ()) for index in range(count)))
        result, expected = client.predict(clip), predict(planted, clip)
        assert result["label"] == expected["label"]
        assert result["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)
        importance = [[frame["importance"] for frame in found["frames"]] for found in (result, expected)]
        assert importance[0] == pytest.approx(importance[1], abs=1e-5)
        if transport == "http":
            assert len(models.requests[-1]["inputs"]["jpegs"][0]) == bucket


def test_the_last_bucket_is_the_largest_number_of_frames():
    assert list_buckets(120) == [8, 16, 32, 64, 120]
    assert list_buckets(6) == [6]
    assert list_buckets(16) == [8, 16]
    assert list_buckets(300) == [8, 16, 32, 64, 120, 300]


@pytest.fixture(scope="module")
def tiny(exported, tmp_path_factory):
    """Folder with two versions of one model."""
    folder = tmp_path_factory.mktemp("models")
    for version in ("1", "2"):
        shutil.copytree(exported("average")[1].path, folder / "planted" / version)
    return folder


def ask_at_once(service, address, clips):
    """Sends clips one after the other while the server waits, then lets it work; returns the answers or errors."""

    def ask(jpegs):
        try:
            return connect(f"{address}/planted").signature("jpeg")({"jpegs": jpegs})
        except InputError as error:
            return error

    service.answers.clear()
    asked = []
    with ThreadPoolExecutor(len(clips)) as pool:
        try:
            for clip in clips:
                asked.append(pool.submit(ask, clip))
                assert service.queued.acquire(timeout=30)
        finally:
            service.answers.set()
        return [answer.result() for answer in asked]


@pytest.fixture(scope="module")
def average(exported):
    return exported("average")[1]


@pytest.fixture(scope="module")
def jpeg(average):
    return average.golden()["jpeg"][0]["jpegs"][0, 0]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_clips_of_any_length_arrive_together_and_each_gets_its_own_answer(tiny, average, jpeg, transport):
    shapes = ((1, 8), (3, 16), (5, 8), (2, 32), (1, 120))
    clips = [
        np.array([[jpeg] * (2 + index) + [b""] * (shape[1] - 2 - index)] * shape[0])
        for index, shape in enumerate(shapes)
    ]
    with serve(tiny, batching=parse_batching(BATCHING)) as (service, grpc_address, rest_address):
        address = {"grpc": f"grpc://{grpc_address}", "http": rest_address}[transport]
        answers = ask_at_once(service, address, clips)
    for clip, answer in zip(clips, answers, strict=True):
        expected = average.signature("jpeg")({"jpegs": clip})
        assert answer.keys() == expected.keys()
        for name in ("probabilities", "frame_importance", "frame_probabilities"):
            np.testing.assert_allclose(answer[name], expected[name], atol=1e-6)


def test_32_clients_at_once_get_each_their_own_answer(served, planted, face):
    clips = [np.array([[face] * (1 + index % 3) + [b""] * (5 + index // 2 % 5)]) for index in range(32)]
    expected = planted.signature("jpeg")(
        {"jpegs": np.array([[face] * (1 + index) + [b""] * (2 - index) for index in range(3)])}
    )

    def ask(index):
        address = served[1][TRANSPORTS[index % 2]]
        return connect(f"{address}/planted/labels/stable").signature("jpeg")({"jpegs": clips[index]})

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(ask, range(32)))
    assert len({answer["frame_mask"].shape[1] for answer in answers}) > 2
    for index, answer in enumerate(answers):
        np.testing.assert_allclose(answer["probabilities"][0], expected["probabilities"][index % 3], atol=1e-5)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_batches_of_several_clips_need_one_length(tiny, average, jpeg, transport):
    """What a larger max_execution_batch_size would do."""
    with serve(tiny, batching=parse_batching(BATCHES_OF_4)) as (service, grpc_address, rest_address):
        address = {"grpc": f"grpc://{grpc_address}", "http": rest_address}[transport]
        short, long = np.full((1, 2), jpeg), np.full((1, 3), jpeg)
        for error in ask_at_once(service, address, [short, long]):
            assert "different shapes and padding is turned off" in str(error)
            assert "Pad all clips to the same number of frames" in str(error)
            assert "\n" not in str(error)
        # A full batch is closed; what follows is in another.
        answers = ask_at_once(service, address, [np.full((3, 2), jpeg), short, long])
    for frames, answer in zip((2, 2, 3), answers, strict=True):
        expected = average.signature("jpeg")({"jpegs": np.full((1, frames), jpeg)})["probabilities"]
        np.testing.assert_allclose(answer["probabilities"][:1], expected, atol=1e-6)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_request_that_is_too_large_and_a_full_queue_are_one_line(tiny, jpeg, transport):
    small = BATCHING.replace("max_enqueued_batches { value: 128 }", "max_enqueued_batches { value: 33 }")
    with serve(tiny, batching=parse_batching(small)) as (service, grpc_address, rest_address):
        address = {"grpc": f"grpc://{grpc_address}", "http": rest_address}[transport]
        ask = connect(f"{address}/planted").signature("jpeg")
        for words, advice in (("Task size 33 is larger than maximum input batch size 32", "Correct the request"),):
            with pytest.raises(InputError, match=f"INVALID_ARGUMENT: {words}. {advice}[^\n]*$"):
                ask({"jpegs": np.full((33, 1), jpeg)})
        service.answers.clear()
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(ask, {"jpegs": np.full((30, 1), jpeg)})
            assert service.queued.acquire(timeout=30)
            try:
                with pytest.raises(InputError, match=r"UNAVAILABLE: .*queue .* is full.*or wait and ask again[^\n]*$"):
                    ask({"jpegs": np.full((4, 1), jpeg)})
            finally:
                service.answers.set()
            assert first.result()["probabilities"].shape == (30, 7)


def test_a_version_is_tried_promoted_and_rolled_back_as_the_document_says(tiny):
    def config(text):
        return parse_models(f'model_config_list {{ config {{ name: "planted" base_path: "/models/planted" {text} }} }}')

    def labelled(address):
        found = {}
        for label in ("stable", "canary"):
            try:
                found[label] = connect(f"{address}/planted/labels/{label}").served[0]
            except InputError as error:
                assert "INVALID_ARGUMENT: Unrecognized servable version label" in str(error)
        return found | {None: connect(f"{address}/planted").served[0]}

    steps = [block.text for block in blocks_of(README) if "version_labels" in block.text]
    first = config('model_version_policy { specific { versions: 1 } } version_labels { key: "stable" value: 1 }')
    with serve(tiny, first, allow_labels=True) as (service, grpc_address, rest_address):
        for address in (f"grpc://{grpc_address}", rest_address):
            assert labelled(address) == {"stable": 1, None: 1}
        found = []
        for step in steps:
            service.reload(config(step))
            found.append(labelled(f"grpc://{grpc_address}"))
        assert found == [{"stable": 1, "canary": 2, None: 2}, {"stable": 2, None: 2}, {"stable": 1, None: 2}]
        # In one step, the server refuses it and keeps what it had.
        service.reload(first)
        with pytest.raises(RefusedError, match="version 2 of model planted, which is not currently available"):
            service.reload(config(steps[1]))
        assert labelled(rest_address) == {"stable": 1, None: 1}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"instances": [{"jpegs": [""] * 2}, {"jpegs": [""] * 3}]}, "Expecting tensor size: 2 but got: 3"),
        ({"inputs": {"jpegs": [["", ""], [""]]}}, "Encountered list at unexpected size: 1 at level: 1"),
        ({"inputs": {"jpegs": [[1]]}}, "is not of expected type: string"),
        ({"inputs": {"jpegs": [[{"b64": "?"}]]}}, "Unable to base64 decode"),
        ({"inputs": {"faces": []}}, "Missing named input: jpegs in 'inputs' object"),
        ({"instances": []}, "No values in 'instances' array"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"inputs": [], "instances": []}, "expecting only one of 'inputs' or 'instances'"),
    ],
)
def test_json_that_the_server_refuses(served, body, message):
    with pytest.raises(RefusedError, match=message):
        served[0].rest("POST", "/v1/models/planted:predict", json.dumps(body | {"signature_name": "jpeg"}))


def read_json_texts(text):
    """Returns the JSON values that follow each other in a text."""
    found, decoder = [], json.JSONDecoder()
    while text := text.strip():
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:]
    return found


@pytest.fixture(scope="module", autouse=True)
def _no_proxy_on_loopback():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "127.0.0.1")
        yield

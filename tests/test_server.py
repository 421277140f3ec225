"""The client against a server of TensorFlow Serving's own stubs on loopback; serving_stub.py says what that is."""

import copy
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from affect.data.clips import Clip, Face
from affect.errors import InputError
from affect.reading.loading import read_artefact
from affect.reading.predict import predict
from affect.reading.server import GrpcClient, RestClient, bind, check_served, connect
from tests.commands import affect, refused
from tests.serving_stub import serve

CLASSES = ("angry", "happy", "sad")
SIGNATURES = ("serving_default", "jpeg", "explain", "frame", "classify", "step")
TRANSPORTS = ("grpc", "columns", "rows")


@pytest.fixture(scope="module")
def models(exported, tmp_path_factory):
    """Folder of models: `tiny`, an LSTM, which has every kind of signature; `regression`; `video`, of whole clips."""
    folder = tmp_path_factory.mktemp("models")
    for name, row in (("tiny", "lstm"), ("regression", "regression_sta"), ("video", "video_sta")):
        shutil.copytree(exported(row)[1].path, folder / name / "1")
    return folder


@pytest.fixture(scope="module")
def trained(exported):
    return of_8_frames(exported("lstm")[0])


@pytest.fixture(scope="module")
def artefact(models):
    return of_8_frames(read_artefact(models / "tiny" / "1"))


def of_8_frames(trained):
    data = replace(trained.experiment.data, eval_frames=8)
    return replace(trained, experiment=replace(trained.experiment, data=data))


@pytest.fixture(scope="module")
def server(models):
    with serve(models) as (service, grpc_address, rest_address):
        yield service, grpc_address, rest_address


@pytest.fixture(scope="module")
def clients(server):
    """The ways to ask, by their names."""
    _, grpc_address, rest_address = server
    return {
        "grpc": connect(f"grpc://{grpc_address}/tiny"),
        "columns": connect(f"{rest_address}/tiny/1"),
        "rows": RestClient(rest_address, "tiny", rows=True),
    }


@pytest.fixture(scope="module")
def jpegs(artefact):
    """Three faces, JPEG."""
    return artefact.golden()["jpeg"][0]["jpegs"][0].tolist()


def assert_equal(outputs, expected, tolerance=1e-6):
    assert outputs.keys() == expected.keys()
    for key, value in expected.items():
        assert outputs[key].shape == value.shape, key
        if value.dtype.kind == "f":
            assert outputs[key].dtype == value.dtype, key
            np.testing.assert_allclose(outputs[key], value, rtol=0, atol=tolerance, err_msg=key)
        else:
            assert outputs[key].tolist() == value.tolist(), key


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", SIGNATURES)
def test_a_server_answers_as_the_saved_model_in_process(artefact, clients, name, transport):
    inputs, golden = artefact.golden()[name]
    outputs = clients[transport].signature(name)(inputs)
    assert_equal(outputs, artefact.signature(name)(inputs))
    assert_equal(outputs, golden, tolerance=1e-5)


def test_the_default_signature_needs_no_name(artefact, clients):
    inputs, _ = artefact.golden()["serving_default"]
    assert_equal(clients["grpc"].predict(inputs), artefact.signature("serving_default")(inputs))


def test_rows_and_columns_are_written_as_the_rest_api_is_documented(server, clients):
    service, _, _ = server
    inputs = {"jpegs": np.array([[b"\xff\xd8", b""], [b"x", b"y"]], object)}
    column = [[{"b64": "/9g="}, {"b64": ""}], [{"b64": "eA=="}, {"b64": "eQ=="}]]
    clients["columns"].signature("jpeg")(inputs)
    assert service.requests[-1] == {"signature_name": "jpeg", "inputs": {"jpegs": column}}
    clients["rows"].signature("jpeg")(inputs)
    assert service.requests[-1] == {"signature_name": "jpeg", "instances": [{"jpegs": row} for row in column]}
    faces = np.zeros((1, 1, 32, 32, 3), np.uint8)
    clients["rows"].predict({"faces": faces, "frame_mask": np.array([[True]])})
    (row,) = service.requests[-1]["instances"]
    assert row == {"faces": faces[0].tolist(), "frame_mask": [True]}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_clips_of_a_batch_are_answered_as_each_alone_and_padding_changes_nothing(clients, jpegs, transport):
    ask = clients[transport].signature("jpeg")
    together = ask({"jpegs": np.array([[*jpegs, b""], [jpegs[1], b"", b"", b""], [b"", b"", b"", b""]], object)})
    assert together["label"].tolist()[2] == b""
    alone = [ask({"jpegs": np.array([clip], object)}) for clip in (jpegs, jpegs[1:2])]
    for index, answer in enumerate(alone):
        frames = answer["frame_mask"].shape[1]
        np.testing.assert_allclose(together["probabilities"][index], answer["probabilities"][0], atol=1e-6)
        for key in ("frame_importance", "frame_probabilities", "frame_mask"):
            np.testing.assert_allclose(together[key][index][:frames], answer[key][0], atol=1e-6)
            assert not np.any(together[key][index][frames:])


def test_many_clients_at_once_get_each_their_own_answer(server, artefact, jpegs):
    _, grpc_address, rest_address = server
    clips = [np.array([[jpegs[index % 3]] * (1 + index % 4)], object) for index in range(12)]
    expected = [artefact.signature("jpeg")({"jpegs": clip}) for clip in clips]

    def ask(index):
        client = connect(f"grpc://{grpc_address}/tiny" if index % 2 else f"{rest_address}/tiny")
        return client.signature("jpeg")({"jpegs": clips[index]})

    with ThreadPoolExecutor(6) as pool:
        for answer, value in zip(pool.map(ask, range(len(clips))), expected, strict=True):
            assert_equal(answer, value)


@pytest.fixture(scope="module")
def hostile(jpegs):
    """Strings that are no face within the bounds."""
    bomb = cv2.imencode(".jpg", np.zeros((10_000, 10_000), np.uint8))[1].tobytes()
    assert len(bomb) < 4 * 2**20
    random = np.random.default_rng(4).bytes(5000)
    return [random, b"\xff\xd8" + random, jpegs[0][: len(jpegs[0]) // 2], bomb]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_hostile_strings_are_no_frames_and_too_many_are_refused(clients, jpegs, hostile, transport):
    ask = clients[transport].signature("jpeg")
    alone = ask({"jpegs": np.array([jpegs[:1]], object)})
    outputs = ask({"jpegs": np.array([[jpegs[0], *hostile]], object)})
    assert outputs["frame_mask"].tolist() == [[True, False, False, False, False]]
    np.testing.assert_allclose(outputs["probabilities"], alone["probabilities"], atol=1e-6)
    with pytest.raises(InputError, match="INVALID_ARGUMENT: .*More than 512 JPEGs"):
        ask({"jpegs": np.full((27, 19), b"", object)})
    assert_equal(ask({"jpegs": np.array([jpegs[:1]], object)}), alone)  # It lives.


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_requests_that_the_server_refuses(clients, transport):
    faces, frame_mask = np.zeros((1, 2, 32, 32, 3), np.uint8), np.ones((1, 2), bool)
    for inputs in ({"faces": faces[..., :1]}, {"faces": faces[:, :, :20]}, {"frame_mask": frame_mask[:, :1]}):
        with pytest.raises(InputError, match="INVALID_ARGUMENT: .*Correct the request"):
            clients[transport].predict({"faces": faces, "frame_mask": frame_mask} | inputs)


def test_requests_that_are_not_sent(clients):
    ask, faces = clients["grpc"].predict, np.zeros((1, 2, 32, 32, 3), np.uint8)
    with pytest.raises(InputError, match="model tiny has no signature 'faces'. Expected one of .'classify', 'explain'"):
        ask({}, "faces")
    with pytest.raises(InputError, match=r"serving_default takes the inputs .*'frame_mask'.*Received: \['faces'\]"):
        ask({"faces": faces})
    with pytest.raises(InputError, match="input faces must be uint8. Received: float64"):
        ask({"faces": faces / 255, "frame_mask": np.ones((1, 2), bool)})
    with pytest.raises(InputError, match="input jpegs must be string. Received: int64"):
        ask({"jpegs": np.array([[1]])}, "jpeg")
    with pytest.raises(InputError, match=r"the same number of clips. Received: \[1, 2\]"):
        clients["rows"].predict({"faces": faces, "frame_mask": np.ones((2, 2), bool)})
    features = np.full((1, 8), np.nan, np.float32)
    with pytest.raises(InputError, match="input pooled_features must be finite. Received: NaN or infinity"):
        ask({"pooled_features": features}, "classify")
    small = replace(clients["grpc"], max_message_bytes=2**20)
    with pytest.raises(InputError, match="request of 2 MiB is too large. Expected at most 1 MiB"):
        small.predict({"jpegs": np.array([[b"x" * 2**20, b"y" * 2**20]], object)}, "jpeg")


def test_messages_above_grpcs_own_limit_arrive(artefact, clients):
    """A clip of 120 frames of 224 pixels is 18 MB, and gRPC takes 4 MiB unless told otherwise."""
    tensors = artefact.description["signatures"]["step"]["inputs"]
    inputs = {name: np.zeros((100_000, tensor["shape"][1]), np.float32) for name, tensor in tensors.items()}
    outputs = clients["grpc"].predict(inputs, "step")
    for arrays in (inputs, outputs):
        assert sum(array.nbytes for array in arrays.values()) > 4 * 2**20
    np.testing.assert_allclose(outputs["hidden"], np.tile(outputs["hidden"][:1], (100_000, 1)), atol=1e-6)


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_what_is_not_served(server, scheme):
    base = {"grpc": f"grpc://{server[1]}", "http": server[2]}[scheme]
    for name in ("missing", "tiny/7"):
        with pytest.raises(InputError, match="NOT_FOUND: Servable not found for request.*models.config"):
            connect(f"{base}/{name}").predict({})
    service, client = server[0], connect(f"{base}/tiny", timeout_s=0.3)
    assert client.served[0] == 1
    service.answers.clear()
    try:
        with pytest.raises(InputError, match="DEADLINE_EXCEEDED: .*allow more time"):
            client.signature("jpeg")({"jpegs": np.array([[b""]], object)})
    finally:
        service.answers.set()


def test_a_server_that_is_down_or_is_another():
    server = ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
    port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with pytest.raises(InputError, match="the answer is not TensorFlow Serving's"):
            connect(f"http://127.0.0.1:{port}/tiny").predict({})
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    for scheme in ("grpc", "http"):
        with pytest.raises(InputError, match="UNAVAILABLE: .*docker compose"):
            connect(f"{scheme}://127.0.0.1:{port}/tiny").predict({})


@pytest.mark.parametrize(
    "url",
    ["localhost:8500/tiny", "grpc://localhost:8500", "ftp://localhost/tiny", "http://h:8501/tiny/latest", "grpc:///x"],
)
def test_what_names_no_server(url):
    with pytest.raises(InputError, match="The address of a server is grpc://HOST:8500/NAME"):
        connect(url)


def test_a_server_is_named_by_a_url():
    assert connect("grpc://host:8500/tiny/2", 5.0) == GrpcClient("host:8500", "tiny", 2, 5.0)
    assert connect("https://host/tiny/") == RestClient("https://host", "tiny", None)
    assert connect("grpcs://host:443/tiny") == GrpcClient("host:443", "tiny", tls=True)
    assert connect("grpc://host:8500/tiny/labels/stable") == GrpcClient("host:8500", "tiny", label="stable")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_copy_is_known_and_another_model_or_version_is_refused(server, clients, artefact, tmp_path, transport):
    check_served(clients[transport], artefact)
    described = copy.deepcopy(artefact.description)
    described["signatures"]["serving_default"]["outputs"]["probabilities"]["shape"] = [None, 4]
    with pytest.raises(InputError, match=r"outputs of serving_default: expected .*None, 4\].* found .*None, 3\]"):
        check_served(clients[transport], replace(artefact, description=described))
    with pytest.raises(InputError, match="is version 1, and .*/2 is 2. Add the version to the server's URL"):
        check_served(clients[transport], replace(artefact, path=tmp_path / "2"))
    shutil.copytree(artefact.path / "assets.extra", tmp_path / "1" / "assets.extra")
    golden = dict(np.load(artefact.path / "assets.extra" / "golden.npz"))
    golden["frame/outputs/frame_features"] = golden["frame/outputs/frame_features"] + 0.1
    np.savez(tmp_path / "1" / "assets.extra" / "golden.npz", **golden)
    with pytest.raises(InputError, match="is not .*: its outputs for the golden faces differ by 1.0e-01"):
        check_served(clients[transport], replace(artefact, path=tmp_path / "1"))


@pytest.fixture(scope="module")
def clip(jpegs):
    faces = [Face(index / 10, jpegs[index % 3], (), (), 1.0, ()) for index in range(11)]
    return Clip("video.mp4", frames_decoded=20, faces=tuple(faces))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_clip_is_predicted_as_by_the_trained_network(trained, artefact, clients, clip, transport):
    result = bind(clients[transport], artefact).predict(clip)
    expected = predict(trained, clip)
    frames, expected_frames = result.pop("frames"), expected.pop("frames")
    assert result.pop("probabilities") == pytest.approx(expected.pop("probabilities"), abs=1e-5)
    assert result == expected
    assert len(frames) == 11  # all, and not eval_frames
    for frame, row in zip(frames, expected_frames, strict=True):
        assert frame.pop("probabilities") == pytest.approx(row.pop("probabilities"), abs=1e-5)
        assert frame == pytest.approx(row, abs=1e-5)


def test_a_model_of_whole_clips_reads_some_frames_and_shorter_clips_are_padded(server, models, clip):
    service, grpc_address, rest_address = server
    artefact = of_8_frames(read_artefact(models / "video" / "1"))
    check_served(connect(f"grpc://{grpc_address}/video"), artefact)
    result = bind(connect(f"grpc://{grpc_address}/video"), artefact).predict(clip)
    expected = predict(artefact, clip)
    assert (result["frames_read"], len(result["frames"])) == (8, 11)
    assert result["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)
    rows = RestClient(rest_address, "video", rows=True)
    bind(rows, artefact).predict(replace(clip, faces=clip.faces[:2]))
    (row,) = service.requests[-1]["instances"]
    assert [len(jpeg["b64"]) > 0 for jpeg in row["jpegs"]] == [True] * 2 + [False] * 6


def test_faces_of_a_long_clip_are_sent_in_requests_that_a_server_takes(server, artefact, clients, jpegs):
    service, _, _ = server
    before = len(service.requests)
    faces = tuple(Face(index / 10, jpegs[index % 3], (), (), 1.0, ()) for index in range(33))
    bind(clients["rows"], artefact).predict(Clip("video.mp4", frames_decoded=33, faces=faces))
    sent = [request for request in service.requests[before:] if request["signature_name"] == "frame"]
    assert [len(request["instances"]) for request in sent] == [32, 1]


def test_clips_that_a_server_cannot_predict(artefact, clients, clip):
    damaged = replace(clip, faces=(*clip.faces[:2], replace(clip.faces[2], jpeg=b"damaged")))
    with pytest.raises(InputError, match="video.mp4: .*could not decode 1 of 3 faces"):
        bind(clients["grpc"], artefact).predict(damaged)
    with pytest.raises(InputError, match="classes of .* are happy, sad, angry"):
        bind(clients["grpc"], replace(artefact, classes=("happy", "sad", "angry"))).predict(
            replace(clip, faces=clip.faces[:1])
        )


@pytest.mark.parametrize(
    ("name", "place", "value", "words"),
    [
        ("probabilities", (0, 1), 7.0, "probabilities that are no shares of 1"),
        ("frame_importance", (0, 1), 7.0, "frame_importance that are no shares of 1"),
        ("frame_probabilities", (0, 1, 2), -0.5, "frame_probabilities that are no shares of 1"),
        ("frame_mask", (0, 1), False, "could not decode 1 of 3 faces"),
        ("label", (0,), b"\xff\x1b[2J", r"answers '�\\x1b\[2J' for class"),
        ("label", (0,), b"x" * 10_000, "answers 'x{80}' for class"),
    ],
)
def test_a_server_that_answers_no_probabilities(artefact, clients, clip, name, place, value, words):
    class Changed:
        def signature(self, signature):
            def ask(inputs):
                outputs = clients["grpc"].signature(signature)(inputs)
                outputs[name] = outputs[name].copy()
                outputs[name][place] = value
                return outputs

            return ask

    with pytest.raises(InputError, match=words):
        bind(Changed(), artefact).predict(replace(clip, faces=clip.faces[:3]))


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_valence_and_arousal_are_predicted_too(exported, server, models, clip, scheme):
    base = {"grpc": f"grpc://{server[1]}", "http": server[2]}[scheme]
    client = connect(f"{base}/regression")
    artefact = read_artefact(models / "regression" / "1")
    check_served(client, artefact)
    result, expected = bind(client, artefact).predict(clip), predict(exported("regression_sta")[0], clip)
    for rows in ("frames", "decoded_frames"):
        frames, expected_frames = result.pop(rows), expected.pop(rows)
        assert [frame["valence"] is None for frame in frames] == [frame["valence"] is None for frame in expected_frames]
        for frame, row in zip(frames, expected_frames, strict=True):
            if row["valence"] is not None:
                assert frame == pytest.approx(row, abs=1e-5)
    assert result == expected


def test_the_command_line_predicts_by_a_server(server, artefact, face_videos, tmp_path):
    _, grpc_address, rest_address = server
    arguments = "predict", artefact.path, face_videos / "still.mp4", "--json", "--server"
    answers = []
    for url in (f"grpc://{grpc_address}/tiny", f"{rest_address}/tiny/1"):
        code, out, lines = affect(*arguments, url)
        assert code == 0, lines
        answers.append(json.loads(out))
    over_grpc, over_rest = answers
    assert (over_grpc["key"], over_grpc["frames_with_a_face"]) == (str(face_videos / "still.mp4"), 8)
    assert over_grpc["label"] == over_rest["label"]
    np.testing.assert_allclose(
        list(over_grpc["probabilities"].values()), list(over_rest["probabilities"].values()), atol=1e-6
    )
    newer = tmp_path / "2"
    shutil.copytree(artefact.path, newer)
    assert "is version 1, and" in refused(*arguments[:1], newer, *arguments[2:], f"grpc://{grpc_address}/tiny")


@pytest.fixture(scope="module", autouse=True)
def _no_proxy_on_loopback():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "127.0.0.1")
        yield

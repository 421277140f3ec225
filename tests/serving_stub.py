"""A model server on loopback: the official stubs of TensorFlow Serving before a SavedModel.

The ModelServer itself cannot be installed from PyPI. This one does what its sources and its page on the REST API say:
it loads the signatures with TensorFlow 1's loader and runs them in a session (`servables/tensorflow/predict_util.cc`),
and reads and writes JSON by `util/json_tensor.cc`. It does not batch requests.
"""

import base64
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+))?(?::(?P<verb>predict)|/(?P<data>metadata))"
)
HTTP = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "FAILED_PRECONDITION": 412, "DEADLINE_EXCEEDED": 504}


class RefusedError(Exception):
    """An answer that is a status: its `grpc.StatusCode` and message."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code, self.message = code, message


class _Version:
    def __init__(self, path):
        self.session = tf.compat.v1.Session(graph=tf.Graph())
        with self.session.graph.as_default():
            loaded = tf.compat.v1.saved_model.load(self.session, ["serve"], str(path))
        self.signatures = loaded.signature_def


class Models(prediction_service_pb2_grpc.PredictionServiceServicer):
    """All versions of the models in a folder.

    Args:
        folder: Has a folder a model, and in each a folder a version.

    Attributes:
        requests: Bodies of the REST requests, as read.
        answers: A `threading.Event`; while it is cleared, requests to predict wait.
    """

    def __init__(self, folder):
        self.models = {
            path.name: {int(version.name): _Version(version) for version in path.iterdir() if version.name.isdecimal()}
            for path in folder.iterdir()
        }
        self.requests = []
        self.answers = threading.Event()
        self.answers.set()

    def Predict(self, request, context):  # noqa: N802, the service's name
        return _or_abort(self.run, request, context)

    def GetModelMetadata(self, request, context):  # noqa: N802
        return _or_abort(self.metadata, request, context)

    def find(self, spec):
        versions = self.models.get(spec.name, {})
        number = spec.version.value if spec.HasField("version") else max(versions, default=0)
        if number not in versions:
            which = f"Specific({spec.name}, {number})" if spec.HasField("version") else f"Latest({spec.name})"
            raise RefusedError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {which}")
        return number, versions[number]

    def run(self, request):
        self.answers.wait()
        number, version = self.find(request.model_spec)
        name = request.model_spec.signature_name or "serving_default"
        if name not in version.signatures:
            raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        signature = version.signatures[name]
        if set(request.inputs) != set(signature.inputs):
            raise _invalid(f"input size does not match signature: {sorted(request.inputs)} {sorted(signature.inputs)}")
        feeds = {}
        for key, tensor in request.inputs.items():
            if tensor.dtype != signature.inputs[key].dtype:
                raise _invalid(f"Expects {key} to be {signature.inputs[key].dtype} but {tensor.dtype} is provided")
            feeds[signature.inputs[key].name] = tf.make_ndarray(tensor)
        names = list(request.output_filter) or list(signature.outputs)
        try:
            values = version.session.run([signature.outputs[name].name for name in names], feeds)
        except tf.errors.OpError as error:
            raise RefusedError(_code(error.error_code), error.message) from error
        except ValueError as error:  # A shape that the session of C++ refuses by the same status.
            raise _invalid(str(error)) from error
        response = predict_pb2.PredictResponse()
        response.model_spec.CopyFrom(request.model_spec)
        response.model_spec.version.value = number
        for name, value in zip(names, values, strict=True):
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value, signature.outputs[name].dtype, value.shape))
        return response

    def metadata(self, request):
        if list(request.metadata_field) != ["signature_def"]:
            raise _invalid("Metadata field is not supported")
        number, version = self.find(request.model_spec)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in version.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = number
        response.metadata["signature_def"].Pack(signatures)
        return response

    def rest(self, method, path, body):
        """Answers a request of the REST API: its path and its body → the JSON of the answer."""
        found = PATH.fullmatch(path)
        if not found or (method == "POST") != bool(found["verb"]):
            raise _invalid(f"Malformed request: {method} {path}")
        request = predict_pb2.PredictRequest() if found["verb"] else get_model_metadata_pb2.GetModelMetadataRequest()
        request.model_spec.name = found["name"]
        if found["version"]:
            request.model_spec.version.value = int(found["version"])
        if found["data"]:
            request.metadata_field.append("signature_def")
            response = self.metadata(request)
            signatures = get_model_metadata_pb2.SignatureDefMap()
            response.metadata["signature_def"].Unpack(signatures)
            spec = {"name": found["name"], "signature_name": "", "version": str(response.model_spec.version.value)}
            fields = json_format.MessageToDict(signatures, preserving_proto_field_name=True)
            return {"model_spec": spec, "metadata": {"signature_def": fields}}
        try:
            body = json.loads(body)
        except ValueError as error:
            raise _invalid(f"JSON Parse error: {error}") from error
        self.requests.append(body)
        if ("instances" in body) == ("inputs" in body):
            raise _invalid("Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist")
        _, version = self.find(request.model_spec)
        request.model_spec.signature_name = body.get("signature_name", "")
        name = request.model_spec.signature_name or "serving_default"
        if name not in version.signatures:
            raise _invalid(f'Serving signature name: "{name}" not found in signature def')
        infos = version.signatures[name].inputs
        is_row = "instances" in body
        columns = _columns_of_rows(body["instances"], infos) if is_row else body["inputs"]
        if not isinstance(columns, dict):
            columns = {only: columns for only in infos}
        for key, values in columns.items():
            if key not in infos:
                raise _invalid(f"JSON object: does not have named input: {key}")
            request.inputs[key].CopyFrom(_tensor(values, infos[key].dtype))
        outputs = {key: _values(key, tf.make_ndarray(value)) for key, value in self.run(request).outputs.items()}
        if len(outputs) == 1:
            (outputs,) = outputs.values()
        elif is_row:
            outputs = [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
        return {"predictions" if is_row else "outputs": outputs}


@contextmanager
def serve(folder):
    """Serves a folder of models on free ports of loopback; yields `(models, gRPC address, REST address)`."""
    models = Models(folder)
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", 2**31 - 1)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(models, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"models": models}))
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        yield models, f"127.0.0.1:{port}", f"http://127.0.0.1:{http.server_port}"
    finally:
        models.answers.set()
        http.shutdown()
        http.server_close()
        thread.join()
        server.stop(None).wait()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer("GET", b"")

    def do_POST(self):
        self.answer("POST", self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, method, body):
        try:
            status, answer = 200, self.models.rest(method, self.path, body)
        except RefusedError as refused:
            status, answer = HTTP.get(refused.code.name, 500), {"error": refused.message}
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        try:
            self.wfile.write(text)
        except OSError:
            self.close_connection = True  # The client waits no more.

    def log_message(self, *_):
        pass


def _or_abort(function, request, context):
    try:
        return function(request)
    except RefusedError as refused:
        context.abort(refused.code, refused.message)


def _invalid(message):
    return RefusedError(grpc.StatusCode.INVALID_ARGUMENT, message)


def _code(number):
    return next(code for code in grpc.StatusCode if code.value[0] == number)


def _columns_of_rows(rows, infos):
    if not isinstance(rows, list) or not rows:
        raise _invalid("Expecting 'instances' to be a list of values")
    if not isinstance(rows[0], dict) or set(rows[0]) == {"b64"}:
        if len(infos) > 1:
            raise _invalid("instances is a plain list, but expecting list of objects")
        return {only: rows for only in infos}
    if any(set(row) != set(infos) for row in rows):
        raise _invalid(f"keys must be equal to: {','.join(sorted(infos))}")
    return {key: [row[key] for row in rows] for key in infos}


def _tensor(values, dtype):
    dtype = tf.dtypes.as_dtype(dtype)
    try:
        if dtype == tf.string:
            array = np.array(_decoded(values), object)
        else:
            array = np.array(values)
            if array.dtype.kind not in {"b": "b", "f": "if"}.get(np.dtype(dtype.as_numpy_dtype).kind, "i"):
                raise ValueError(f"JSON value is not of expected type: {dtype.name}")
            array = array.astype(dtype.as_numpy_dtype)
        return tf.make_tensor_proto(array, dtype, array.shape)
    except (ValueError, TypeError) as error:
        raise _invalid(str(error)) from error


def _decoded(values):
    if isinstance(values, list):
        return [_decoded(value) for value in values]
    return base64.b64decode(values["b64"], validate=True) if isinstance(values, dict) else values.encode()


def _values(key, array):
    """Returns a tensor as JSON: the fewest digits that give the same float, and text for strings, but for `*_bytes`."""
    if array.dtype.kind == "f":
        return np.reshape([float(f"{value:.9g}") for value in array.flat], array.shape).tolist()
    if array.dtype == object:
        encode = (lambda value: {"b64": base64.b64encode(value).decode()}) if key.endswith("_bytes") else bytes.decode
        return np.reshape(np.array([encode(value) for value in array.flat], object), array.shape).tolist()
    return array.tolist()

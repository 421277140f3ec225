"""A model server on loopback: the official stubs of TensorFlow Serving before a SavedModel.

The ModelServer itself cannot be installed from PyPI. This one does what the sources of its version 2.20.0 say, with
their messages. The files are below tensorflow_serving/:

- It loads the signatures with TensorFlow 1's loader and runs them in a session (servables/tensorflow/predict_util.cc).
- It reads and writes JSON by util/json_tensor.cc, and takes paths by model_servers/http_rest_api_util.cc.
- It takes versions and labels from a `ModelServerConfig`, and refuses labels, by model_servers/server_core.cc.
- It answers for the status and the metadata of a model by model_servers/get_model_status_impl.cc.
- It queues, splits, batches and refuses requests by batching/batching_session.cc and by shared_batch_scheduler.h of
  TensorFlow. A batch is as large as the requests that wait allow; there is no timeout.
"""

import base64
import json
import re
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from urllib.parse import unquote

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

_MODEL = r"(?i)/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
PATHS = {"POST": re.compile(rf"{_MODEL}:(?P<verb>predict)"), "GET": re.compile(rf"{_MODEL}(?:/(?P<data>metadata))?")}
# model_servers/http_server.cc
HTTP = {
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "FAILED_PRECONDITION": 400,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
KINDS = {"b": (bool,), "f": (int, float), "O": (str,)}
MIXED = (
    "Tensors with name '{}' from different tasks have different shapes and padding is turned off. Set "
    "pad_variable_length_inputs to true, or ensure that all tensors with the same name have equal dimensions starting "
    "with the first dim."
)


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
        self.queues = {}

    def run(self, feeds, names):
        try:
            return self.session.run(names, feeds)
        except tf.errors.OpError as error:
            raise RefusedError(_code(error.error_code), error.message) from error
        except ValueError as error:  # A shape that the session of C++ refuses by the same status.
            raise _invalid(str(error)) from error


class _Queue:
    """Requests for the same inputs and outputs of a version, which run as batches.

    Args:
        run: Function of the feeds of a batch, an array for each name → list of arrays.
        parameters: `BatchingParameters`.
        pool: Threads that run batches.
        answers: As in `Models`.
        queued: As in `Models`.
    """

    def __init__(self, run, parameters, pool, answers, queued):
        self.run, self.parameters, self.pool, self.answers, self.queued = run, parameters, pool, answers, queued
        self.splits = parameters.enable_large_batch_splitting.value
        self.most = parameters.max_batch_size.value
        self.limit = parameters.max_execution_batch_size.value or self.most if self.splits else self.most
        self.batches, self.lock = deque(), threading.Lock()

    def ask(self, feeds):
        if not all(array.ndim for array in feeds.values()):
            raise _invalid("Batching Run() input tensors must have at least one dimension")
        rows, *others = {len(array) for array in feeds.values()}
        if others:
            raise _invalid("Batching Run() input tensors must have equal 0th-dimension size")
        with self.lock:
            tail = _rows(self.batches[-1]) if self.batches else 0
            self._check(rows, tail)
            start, parts = 0, []
            for size in self._split(rows, self.limit - tail):
                if not self.batches or _rows(self.batches[-1]) + size > self.limit:
                    self.batches.append([])
                    self.pool.submit(self._run_batch)
                parts.append(Future())
                part = {name: array[start : start + size] for name, array in feeds.items()}
                self.batches[-1].append((size, part, parts[-1]))
                start += size
        self.queued.release()
        found = [part.result() for part in parts]
        return [np.concatenate(values) for values in zip(*found, strict=True)]

    def _split(self, rows, room):
        """Returns the rows of the parts of a request: the first fills the batch that is open."""
        if rows <= room or not self.splits:
            return [rows]
        rest = rows - room
        sizes = [room, *[self.limit] * (rest // self.limit), rest % self.limit]
        return [size for size in sizes if size]

    def _check(self, rows, tail):
        if rows > self.most:
            raise _invalid(f"Task size {rows} is larger than maximum input batch size {self.most}")
        waiting, most = max(len(self.batches), 1), self.parameters.max_enqueued_batches.value
        capacity = (most - waiting) * self.limit + self.limit - tail
        if rows > capacity:
            raise RefusedError(
                grpc.StatusCode.UNAVAILABLE,
                "The batch scheduling queue to which this task was submitted is full; task size is "
                f"{rows} but scheduling capacity is only {capacity}",
            )

    def _run_batch(self):
        self.answers.wait()
        with self.lock:
            batch = self.batches.popleft()
        try:
            values = self._merge_and_run(batch)
        except RefusedError as refused:  # all requests of the batch get the error of one
            for _, _, part in batch:
                part.set_exception(refused)
            return
        start = 0
        for size, _, part in batch:
            part.set_result([value[start : start + size] for value in values])
            start += size

    def _merge_and_run(self, batch):
        size, merged = _rows(batch), {}
        allowed = [allowed for allowed in self.parameters.allowed_batch_sizes if allowed >= size] or [size]
        for name in batch[0][1]:
            tensors = [feeds[name] for _, feeds, _ in batch]
            if any(tensor.shape[1:] != tensors[0].shape[1:] for tensor in tensors):
                raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, MIXED.format(name))
            merged[name] = np.concatenate([*tensors, *[tensors[-1][:1]] * (allowed[0] - size)])
        values = self.run(merged)
        if any(len(value) != allowed[0] for value in values):
            message = "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes"
            raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, f"{message} of the input tensors")
        return values


class Models(prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer):
    """Models in a folder.

    Args:
        folder: Has a folder a model, and in each a folder a version. A `base_path` in `config` is /models/NAME.
        config: `ModelServerConfig`; `None` serves all versions.
        batching: `BatchingParameters`; `None` does not batch, as without --enable_batching.
        allow_labels: --allow_version_labels_for_unavailable_models.

    Attributes:
        requests: Bodies of the REST requests, as read.
        answers: A `threading.Event`; while it is cleared, requests to predict wait.
        queued: `threading.Semaphore`, released for each request that is in a queue.
    """

    def __init__(self, folder, config=None, batching=None, *, allow_labels=False):
        self.folder, self.batching, self.allow_labels = folder, batching, allow_labels
        self.models, self.labels, self.requests = {}, {}, []
        self.answers, self.lock = threading.Event(), threading.Lock()
        self.answers.set()
        self.queued = threading.Semaphore(0)
        self.pool = ThreadPoolExecutor(batching.num_batch_threads.value if batching else 1)
        if config is None:
            for path in folder.iterdir():
                self._load(path.name, path, _versions(path))
        else:
            self.reload(config)

    def reload(self, config):
        """Takes another `ModelServerConfig`, as the server does when the file has changed. A refused one is a
        `RefusedError`."""
        labels = {}
        for model in config.model_config_list.config:
            labels[model.name] = dict(model.version_labels)
            for label, version in model.version_labels.items():
                is_other = self.labels.get(model.name, {}).get(label, version) != version
                if version not in self.models.get(model.name, {}) and (is_other or not self.allow_labels):
                    raise RefusedError(
                        grpc.StatusCode.FAILED_PRECONDITION,
                        f"Request to assign label to version {version} of model {model.name}, which is not currently "
                        "available for inference",
                    )
        self.labels = labels
        names = [model.name for model in config.model_config_list.config]
        self.models = {name: versions for name, versions in self.models.items() if name in names}
        for model in config.model_config_list.config:
            path = self.folder / PurePosixPath(model.base_path).relative_to("/models")
            if not path.is_dir():
                raise _invalid(f"Could not find base path {model.base_path} for servable {model.name}")
            found, policy = _versions(path), model.model_version_policy
            match policy.WhichOneof("policy_choice"):
                case "specific":
                    found = [version for version in found if version in policy.specific.versions]
                case None | "latest":
                    found = found[-max(policy.latest.num_versions, 1) :]
            self._load(model.name, path, found)

    def _load(self, name, path, versions):
        loaded = self.models.get(name, {})
        self.models[name] = {version: loaded.get(version) or _Version(path / str(version)) for version in versions}

    def Predict(self, request, context):  # noqa: N802, the service's name
        return _or_abort(self.run, request, context)

    def GetModelMetadata(self, request, context):  # noqa: N802
        return _or_abort(self.metadata, request, context)

    def GetModelStatus(self, request, context):  # noqa: N802
        return _or_abort(self.status, request, context)

    def find(self, spec):
        versions, choice = self.models.get(spec.name, {}), spec.WhichOneof("version_choice")
        which = f"Latest({spec.name})"
        number = max(versions, default=0)
        if choice == "version_label":
            if spec.version_label not in self.labels.get(spec.name, {}):
                raise _invalid(f"Unrecognized servable version label: {spec.version_label}")
            number = self.labels[spec.name][spec.version_label]
        elif choice:
            number = spec.version.value
        if choice:
            which = f"Specific({spec.name}, {number})"
        if number not in versions:
            raise RefusedError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {which}")
        return number, versions[number]

    def run(self, request):
        number, version = self.find(request.model_spec)
        key = request.model_spec.signature_name or "serving_default"
        if key not in version.signatures:
            raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{key}" not found.')
        signature = version.signatures[key]
        if set(request.inputs) != set(signature.inputs):
            sent, needed = (",".join(sorted(names)) for names in (request.inputs, signature.inputs))
            raise _invalid(
                f"input size does not match signature: {len(request.inputs)}!={len(signature.inputs)} "
                f"len({{{sent}}}) != len({{{needed}}})."
            )
        feeds = {}
        for name, tensor in request.inputs.items():
            if tensor.dtype != signature.inputs[name].dtype:
                raise _invalid(f"Expects {name} to be {signature.inputs[name].dtype} but {tensor.dtype} is provided")
            feeds[signature.inputs[name].name] = tf.make_ndarray(tensor)
        names = list(request.output_filter) or list(signature.outputs)
        values = self._ask(version, feeds, [signature.outputs[name].name for name in names])
        response = predict_pb2.PredictResponse()
        response.model_spec.name, response.model_spec.signature_name = request.model_spec.name, key
        response.model_spec.version.value = number
        for name, value in zip(names, values, strict=True):
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value, signature.outputs[name].dtype, value.shape))
        return response

    def _ask(self, version, feeds, outputs):
        if self.batching is None:
            self.answers.wait()
            return version.run(feeds, outputs)
        names = sorted(set(outputs))
        with self.lock:
            key = (*sorted(feeds), *names)
            if key not in version.queues:
                run = partial(version.run, names=names)
                version.queues[key] = _Queue(run, self.batching, self.pool, self.answers, self.queued)
        values = version.queues[key].ask(feeds)
        return [values[names.index(name)] for name in outputs]

    def metadata(self, request):
        for field in request.metadata_field:
            if field != "signature_def":
                raise _invalid(f"Metadata field {field} is not supported")
        number, version = self.find(request.model_spec)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in version.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = number
        response.metadata["signature_def"].Pack(signatures)
        return response

    def status(self, request):
        """Of a version, or of all: a label is not looked at."""
        name, versions = request.model_spec.name, sorted(self.models.get(request.model_spec.name, {}))
        if request.model_spec.HasField("version"):
            version = request.model_spec.version.value
            if version not in versions:
                raise RefusedError(grpc.StatusCode.NOT_FOUND, f"Could not find version {version} of model {name}")
            versions = [version]
        if not versions:
            raise RefusedError(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for version in versions:
            response.model_version_status.add(version=version, state="AVAILABLE", status={"error_code": "OK"})
        return response

    def rest(self, method, path, body):
        """Answers a request of the REST API: its path and its body → the JSON of the answer."""
        found = PATHS[method].fullmatch(path)
        if not found:
            raise _invalid(f"Malformed request: {method} {path}")
        request = {
            ("GET", None): get_model_status_pb2.GetModelStatusRequest,
            ("GET", "metadata"): get_model_metadata_pb2.GetModelMetadataRequest,
            ("POST", None): predict_pb2.PredictRequest,
        }[method, found.groupdict().get("data")]()
        request.model_spec.name = unquote(found["name"])
        if found["version"]:
            request.model_spec.version.value = int(found["version"])
        if found["label"]:
            request.model_spec.version_label = unquote(found["label"])
        if method == "POST":
            return self._predict(request, body)
        if not found["data"]:
            return json_format.MessageToDict(self.status(request), always_print_fields_with_no_presence=True)
        request.metadata_field.append("signature_def")
        response = self.metadata(request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        spec = {
            "name": response.model_spec.name,
            "signature_name": "",
            "version": str(response.model_spec.version.value),
        }
        fields = json_format.MessageToDict(signatures, preserving_proto_field_name=True)
        return {"model_spec": spec, "metadata": {"signature_def": fields}}

    def _predict(self, request, body):
        try:
            body = json.loads(body)
        except ValueError as error:
            raise _invalid(f"JSON Parse error: {error}") from error
        self.requests.append(body)
        request.model_spec.signature_name = body.get("signature_name", "")
        _, version = self.find(request.model_spec)
        name = request.model_spec.signature_name or "serving_default"
        if name not in version.signatures:
            raise _invalid(f'Serving signature name: "{name}" not found in signature def')
        infos = version.signatures[name].inputs
        if "instances" in body and "inputs" in body:
            raise _invalid("Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist")
        if "instances" in body:
            tensors = _read_rows(body["instances"], infos)
        elif "inputs" in body:
            tensors = _read_columns(body["inputs"], infos)
        else:
            raise _invalid("Missing 'inputs' or 'instances' key")
        for key, array in tensors.items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(array, infos[key].dtype, array.shape))
        is_row = "instances" in body
        outputs = {key: _values(key, tf.make_ndarray(value)) for key, value in self.run(request).outputs.items()}
        if len(outputs) == 1:
            (outputs,) = outputs.values()
        elif is_row:
            outputs = [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
        return {"predictions" if is_row else "outputs": outputs}


@contextmanager
def serve(folder, config=None, batching=None, *, allow_labels=False):
    """Serves a folder of models on free ports of loopback; yields `(models, gRPC address, REST address)`.

    The arguments are those of `Models`.
    """
    models = Models(folder, config, batching, allow_labels=allow_labels)
    server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", 2**31 - 1)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(models, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(models, server)
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
        models.pool.shutdown()


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


def _rows(batch):
    return sum(size for size, _, _ in batch)


def _versions(path):
    return sorted(int(version.name) for version in path.iterdir() if version.name.isdecimal())


def _or_abort(function, request, context):
    try:
        return function(request)
    except RefusedError as refused:
        context.abort(refused.code, refused.message)


def _invalid(message):
    return RefusedError(grpc.StatusCode.INVALID_ARGUMENT, message)


def _code(number):
    return next(code for code in grpc.StatusCode if code.value[0] == number)


def _read_rows(rows, infos):
    """Reads "instances": a row for each clip, an object with all inputs, or the only input itself."""
    if not isinstance(rows, list):
        raise _invalid("Expecting 'instances' to be an list/array")
    if not rows:
        raise _invalid("No values in 'instances' array")
    if not _is_object(rows[0]):
        if len(infos) > 1:
            raise _invalid(
                "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
                "tensorinfo_map"
            )
        rows = [{only: row for only in infos} for row in rows]
    tensors = {name: [] for name in infos}
    for index, row in enumerate(rows):
        if not _is_object(row):
            raise _invalid(f"Expecting object but got list at item {index} of input list")
        for name, value in row.items():
            failed = f"Failed to process element: {index} key: {name} of 'instances' list. Error: INVALID_ARGUMENT: "
            if name not in infos:
                raise _invalid(f"{failed}JSON object: does not have named input: {name}")
            array = _tensor(value, infos[name].dtype, failed)
            tensors[name].append(array)
            first = tensors[name][0]
            if first.size != array.size:
                raise _invalid(f"{failed}Expecting tensor size: {first.size} but got: {array.size}")
            if first.shape != array.shape:
                raise _invalid(f"{failed}Expecting shape {list(first.shape)} but got: {list(array.shape)}")
        if set(row) != set(infos):
            keys = ",".join(sorted(infos))
            raise _invalid(
                f"Failed to process element: {index} of 'instances' list. JSON object: {json.dumps(row)[:256]} keys "
                f"must be equal to: {keys}"
            )
    return {name: np.stack(arrays) for name, arrays in tensors.items()}


def _read_columns(values, infos):
    """Reads "inputs": an object with a list for each input, or the only input itself. Other keys are ignored."""
    if not _is_object(values):
        if len(infos) > 1:
            raise _invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        values = {only: values for only in infos}
    for name in infos:
        if name not in values:
            raise _invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: _tensor(values[name], info.dtype) for name, info in infos.items()}


def _is_object(value):
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value):
    return isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str)


def _tensor(values, dtype, where=""):
    """Reads a tensor, whose shape is that of the first elements."""
    dtype, shape, first = tf.dtypes.as_dtype(dtype), [], values
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    flat = []
    _fill(flat, values, 0, shape, dtype, where)
    array = np.empty(len(flat), dtype.as_numpy_dtype)
    array[:] = flat
    return array.reshape(shape)


def _fill(flat, value, level, shape, dtype, where):
    if isinstance(value, list):
        if level >= len(shape):
            raise _invalid(f"{where}Encountered list at unexpected level: {level} expected < {len(shape)}")
        if len(value) != shape[level]:
            sizes = f"{len(value)} at level: {level} expected size: {shape[level]}"
            raise _invalid(f"{where}Encountered list at unexpected size: {sizes}")
        for item in value:
            _fill(flat, item, level + 1, shape, dtype, where)
        return
    shown = json.dumps(value)[:256]
    if level != len(shape):
        raise _invalid(
            f"{where}JSON Value: {shown} found at incorrect level: {level + 1} in the JSON DOM. Expected at level: "
            f"{len(shape)}"
        )
    if isinstance(value, dict) and dtype == tf.string:
        if not _is_base64(value):
            raise _invalid(f"{where}JSON Value: {shown} not formatted correctly for base64 data")
        try:
            flat.append(base64.b64decode(value["b64"], validate=True))
        except ValueError as error:
            raise _invalid(f"{where}Unable to base64 decode") from error
        return
    kinds = KINDS.get(np.dtype(dtype.as_numpy_dtype).kind, (int,))
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise _invalid(f"{where}JSON Value: {shown} is not of expected type: {dtype.name}")
    flat.append(value.encode() if isinstance(value, str) else value)


def _values(key, array):
    """Returns a tensor as JSON: the fewest digits that give the same float, and text for strings, but for `*_bytes`."""
    if array.dtype.kind == "f":
        return np.reshape([float(f"{value:.9g}") for value in array.flat], array.shape).tolist()
    if array.dtype == object:
        encode = (lambda value: {"b64": base64.b64encode(value).decode()}) if key.endswith("_bytes") else bytes.decode
        return np.reshape(np.array([encode(value) for value in array.flat], object), array.shape).tolist()
    return array.tolist()

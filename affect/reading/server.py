"""A model behind TensorFlow Serving, asked over gRPC or REST as if it were in this process."""

import base64
from dataclasses import dataclass, fields
from functools import cached_property, partial
from urllib.parse import urlsplit

import grpc
import numpy as np
import requests
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

from affect.errors import InputError
from affect.reading.artefact import Artefact, measure_difference

# Of a request and of an answer. gRPC's own limit for answers is 4 MiB; the ModelServer takes requests of up to 2 GiB.
MAX_MESSAGE_BYTES = 256 * 2**20
TIMEOUT_S = 60.0
# Other weights differ by far more, and a GPU that multiplies in TF32 by less; see `affect.serving.check`.
SERVED_TOLERANCE = 0.01

# Faces of a request of the signature frame: as many as batching.config allows in a batch.
SERVED_FACES = 4

# What TensorFlow Serving's HTTP statuses mean.
HTTP_CODES = {
    400: "INVALID_ARGUMENT",
    404: "NOT_FOUND",
    412: "FAILED_PRECONDITION",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
ADVICE = {
    "UNAVAILABLE": "Start it, or mend the address: docker compose -f savedmodels/serving/compose.yaml up",
    "NOT_FOUND": "Name a model and a version that it serves; savedmodels/serving/models.config lists the models.",
    "DEADLINE_EXCEEDED": "Send fewer clips at once, or allow more time (timeout_s).",
    "INVALID_ARGUMENT": "Mend the request; affect.json of the exported model describes its signatures.",
    "FAILED_PRECONDITION": "Pad all clips to the same number of frames, because the server runs several in one batch.",
}


@dataclass(frozen=True)
class _Client:
    """A served model.

    Args:
        address: Of the server.
        name: Of the model.
        version: Of the model; `None` is the one that the server holds for the latest.
        timeout_s: Longest wait for an answer in seconds.
    """

    address: str
    name: str
    version: int | None = None
    timeout_s: float = TIMEOUT_S

    def predict(self, inputs, signature="serving_default"):
        """Asks the server.

        Args:
            inputs: Dict of arrays by the names of the signature's inputs, of its dtypes; strings are bytes.
            signature: Name of a signature.

        Returns:
            Dict of arrays, as of `affect.reading.artefact.Artefact.signature`.

        Raises:
            InputError: When the inputs are not those of the signature or exceed `MAX_MESSAGE_BYTES`; when the server
                cannot be reached, is too slow, refuses the request or does not serve the model.
        """
        _, signatures = self.served
        if signature not in signatures:
            raise InputError(f"{self} has no signature {signature!r}. Expected one of {sorted(signatures)}.")
        served = signatures[signature]
        if set(inputs) != set(served.inputs):
            raise InputError(
                f"Signature {signature} takes the inputs {sorted(served.inputs)}. Received: {sorted(inputs)}"
            )
        arrays = {key: _checked(key, inputs[key], info) for key, info in served.inputs.items()}
        size = sum(sum(map(len, array.flat)) if array.dtype == object else array.nbytes for array in arrays.values())
        if size > MAX_MESSAGE_BYTES:
            raise InputError(
                f"A request of {size / 2**20:.0f} MiB is too large. Expected at most {MAX_MESSAGE_BYTES // 2**20} MiB. "
                "Send fewer clips at once, or JPEGs by the signature jpeg."
            )
        return self._ask(arrays, signature, served)

    def signature(self, name):
        """Returns `predict` of one signature: a callable like that of `affect.reading.artefact.Artefact.signature`."""
        return partial(self.predict, signature=name)

    @cached_property
    def served(self):
        """Version that answers, and its signatures: name → `SignatureDef`. The server is asked once."""
        version, signatures = self._metadata()
        return version, {name: value for name, value in signatures.signature_def.items() if value.inputs}

    def _refusal(self, code, details):
        """Returns the `InputError` of an answer that is none."""
        reason = " ".join(details.split())[:300] or "no reason given"
        return InputError(f"{self}: {code}: {reason}. {ADVICE.get(code, 'See the log of the server.')}")

    def __str__(self):
        return f"{self.address}, model {self.name}" + ("" if self.version is None else f", version {self.version}")


class GrpcClient(_Client):
    """A served model over gRPC, at the address `HOST:PORT`; the traffic is not encrypted."""

    @cached_property
    def _stub(self):
        options = [(f"grpc.max_{way}_message_length", MAX_MESSAGE_BYTES + 2**20) for way in ("send", "receive")]
        return prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(self.address, options=options))

    def _ask(self, arrays, signature, served):
        request = self._named(predict_pb2.PredictRequest())
        request.model_spec.signature_name = signature
        for key, array in arrays.items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(array, served.inputs[key].dtype, array.shape))
        response = self._call(self._stub.Predict, request)
        return {key: tf.make_ndarray(tensor) for key, tensor in response.outputs.items()}

    def _metadata(self):
        request = self._named(get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"]))
        response = self._call(self._stub.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return response.model_spec.version.value, signatures

    def _named(self, request):
        request.model_spec.name = self.name
        if self.version is not None:
            request.model_spec.version.value = self.version
        return request

    def _call(self, method, request):
        try:
            return method(request, timeout=self.timeout_s)
        except grpc.RpcError as error:
            raise self._refusal(error.code().name, error.details() or "") from error


@dataclass(frozen=True)
class RestClient(_Client):
    """A served model over REST, at the address `http://HOST:PORT`.

    Numbers travel as text, at some four bytes a value, and strings in base64: send JPEGs rather than faces.

    Args:
        rows: Whether a request is a list of clips ("instances"), and not a list for each input ("inputs").
    """

    rows: bool = False

    def _ask(self, arrays, signature, served):
        lists = {key: _json(array) for key, array in arrays.items()}
        if self.rows:
            if len(sizes := set(map(len, lists.values()))) > 1:
                raise InputError(f"In rows all inputs have as many clips. Received: {sorted(sizes)}")
            body = {"instances": [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]}
        else:
            body = {"inputs": lists}
        answer = self._call("POST", ":predict", json={"signature_name": signature} | body)
        try:
            found = answer["predictions" if self.rows else "outputs"]
            if len(served.outputs) == 1:  # Its name is left out.
                found = dict.fromkeys(served.outputs, found)
            elif self.rows:
                found = {key: [row[key] for row in found] for key in served.outputs}
            return {key: _array(found[key], info) for key, info in served.outputs.items()}
        except (KeyError, TypeError, ValueError) as error:
            raise self._no_serving() from error

    def _metadata(self):
        answer = self._call("GET", "/metadata")
        try:
            signatures = get_model_metadata_pb2.SignatureDefMap()
            json_format.ParseDict(answer["metadata"]["signature_def"], signatures, ignore_unknown_fields=True)
            return int(answer["model_spec"]["version"]), signatures
        except (KeyError, TypeError, ValueError, json_format.ParseError) as error:
            raise self._no_serving() from error

    def _call(self, method, verb, **options):
        version = "" if self.version is None else f"/versions/{self.version}"
        url = f"{self.address}/v1/models/{self.name}{version}{verb}"
        try:
            response = requests.request(method, url, timeout=self.timeout_s, **options)
        except requests.Timeout as error:
            raise self._refusal("DEADLINE_EXCEEDED", f"no answer in {self.timeout_s:g} s") from error
        except requests.RequestException as error:
            raise self._refusal("UNAVAILABLE", str(error)) from error
        try:
            answer = response.json()
        except ValueError as error:
            raise self._no_serving() from error
        if not response.ok:
            code = HTTP_CODES.get(response.status_code, f"HTTP {response.status_code}")
            raise self._refusal(code, str(answer.get("error", "")) if isinstance(answer, dict) else "")
        return answer

    def _no_serving(self):
        return InputError(f"{self}: the answer is not TensorFlow Serving's. Expected the port of its REST API, 8501.")


def connect(url, timeout_s=TIMEOUT_S):
    """Returns a client of a served model; nothing is sent yet.

    Args:
        url: `grpc://HOST:PORT/NAME`, `http://HOST:PORT/NAME` or `https://...`, each with `/VERSION` behind it or not.
        timeout_s: Longest wait for an answer in seconds.

    Returns:
        `GrpcClient` or `RestClient`.

    Raises:
        InputError: When it is no such URL.
    """
    parts = urlsplit(url)
    name, _, version = parts.path.strip("/").partition("/")
    if (
        parts.scheme not in ("grpc", "http", "https")
        or not parts.netloc
        or not name
        or not (version or "0").isdecimal()
    ):
        raise InputError(
            "A server is named as grpc://HOST:8500/NAME or http://HOST:8501/NAME, with /VERSION behind it or not. "
            f"Received: {url!r}"
        )
    is_grpc = parts.scheme == "grpc"
    address = parts.netloc if is_grpc else f"{parts.scheme}://{parts.netloc}"
    return (GrpcClient if is_grpc else RestClient)(address, name, int(version) if version else None, timeout_s)


def check_served(client, artefact):
    """Checks that a server serves an exported model: its version, its signatures and its golden pair of faces.

    Args:
        client: Of `connect`.
        artefact: `affect.reading.saved_model.SavedModel`, the local copy.

    Raises:
        InputError: When it serves another version, tensors of other names, dtypes or sizes, such as other classes, or
            other weights.
    """
    version, signatures = client.served
    folder = artefact.path.resolve().name
    if folder.isdecimal() and version != int(folder):
        raise InputError(
            f"{client} is version {version}, and {artefact.path} is {folder}. Write the version behind the server's "
            "URL, or name the folder that is served."
        )
    for name, described in artefact.description["signatures"].items():
        for side in ("inputs", "outputs"):
            found = {key: _spec(info) for key, info in getattr(signatures.get(name), side, {}).items()}
            expected = {key: (tensor["dtype"], tensor["shape"]) for key, tensor in described[side].items()}
            if found != expected:
                raise InputError(
                    f"{client} is not {artefact.path}: {side} of {name}: expected {expected}, found {found}. "
                    "Serve this folder, or name the one that is served."
                )
    inputs, expected = artefact.golden().get("frame", ({}, {}))
    outputs = client.predict(inputs, "frame") if inputs else {}
    largest = max((measure_difference(outputs[key], value) for key, value in expected.items()), default=0.0)
    if largest > SERVED_TOLERANCE:
        raise InputError(
            f"{client} is not {artefact.path}: on its golden faces it differs by {largest:.1e}. Serve this folder, or "
            "name the one that is served."
        )


@dataclass(frozen=True)
class Served(Artefact):
    """An exported model whose signatures a server answers.

    Args:
        client: Of `connect`.
        batch_faces: Faces that are sent at once.
    """

    client: _Client
    batch_faces: int = SERVED_FACES

    def call(self, name, inputs):
        return self.client.predict(inputs, name)

    def signature(self, name):
        return self.client.signature(name)

    def predict(self, clip, cut=None):
        """Returns what `affect.reading.predict.predict` does.

        Raises:
            InputError: As `predict` of the client; when the server does not decode a face or answers by other classes.
        """
        return self.task.predict_served(self, clip, cut)


def serve(url, artefact, timeout_s=TIMEOUT_S):
    """Returns a model that a server answers for, after it has been compared with the local copy.

    Args:
        url, timeout_s: As in `connect`.
        artefact: `affect.reading.saved_model.SavedModel`, the local copy.

    Returns:
        `Served`.

    Raises:
        InputError: As `connect` and `check_served`.
    """
    client = connect(url, timeout_s)
    check_served(client, artefact)
    return bind(client, artefact)


def bind(client, artefact):
    """Returns an exported model, `affect.reading.artefact.Artefact`, as a `Served` one whose answers a client gets."""
    return Served(**{field.name: getattr(artefact, field.name) for field in fields(Artefact)}, client=client)


def _checked(key, value, info):
    """Returns an input as an array of its dtype; what would be rounded or cut off is refused."""
    expected = tf.dtypes.as_dtype(info.dtype)
    array = np.asarray(value)
    is_string = array.dtype.kind in "SO"
    if is_string != (expected == tf.string) or not (is_string or array.dtype == expected.as_numpy_dtype):
        raise InputError(f"The input {key} is of {expected.name}. Received: {array.dtype}")
    return array.astype(object) if is_string else array


def _spec(info):
    """Returns dtype and shape of a `TensorInfo` as affect.json has them."""
    shape = tf.TensorShape(info.tensor_shape)
    return tf.dtypes.as_dtype(info.dtype).name, None if shape.rank is None else shape.as_list()


def _json(array):
    if array.dtype != object:
        return array.tolist()
    return _nested(array.tolist(), lambda value: {"b64": base64.b64encode(value).decode()})


def _array(values, info):
    dtype = tf.dtypes.as_dtype(info.dtype)
    if dtype == tf.string:
        return np.array(_nested(values, _bytes), object)
    return np.array(values, dtype.as_numpy_dtype)


def _bytes(value):
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value.encode()


def _nested(values, function):
    return [_nested(value, function) for value in values] if isinstance(values, list) else function(values)

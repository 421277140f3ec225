"""A model behind TensorFlow Serving, called over gRPC or REST like a local one."""

import base64
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import Any
from urllib.parse import urlsplit

import grpc
import numpy as np
import requests
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

from affect.data.clips import Clip
from affect.errors import InputError
from affect.files import sha256_of
from affect.progress import Track, hide_progress
from affect.reading.artefact import Artefact, measure_difference
from affect.reading.saved_model import SUMS, SavedModel

# Largest request and largest answer. gRPC's default for answers is 4 MiB. The ModelServer takes requests up to 2 GiB.
MAX_MESSAGE_BYTES = 256 * 2**20
TIMEOUT_S = 60.0
# Largest relative difference from the local copy. Other weights differ by far more; a GPU that multiplies in TF32
# differs by less (`affect.serving.check`).
SERVED_TOLERANCE = 0.01

# Faces in a request of the signature `frame`: max_batch_size in batching.config.
SERVED_FACES = 32

# HTTP status of TensorFlow Serving → name of the error. 400 is also FAILED_PRECONDITION.
HTTP_CODES = {
    400: "INVALID_ARGUMENT",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
ADVICE = {
    "UNAVAILABLE": "Start it, or correct the address: docker compose -f savedmodels/serving/compose.yaml up",
    "RESOURCE_EXHAUSTED": "Send fewer clips at once, or wait and ask again.",
    "NOT_FOUND": "Name a model and a version that it serves; savedmodels/serving/models.config lists the models.",
    "DEADLINE_EXCEEDED": "Send fewer clips at once, or allow more time (timeout_s).",
    "INVALID_ARGUMENT": "Correct the request; affect.json of the exported model describes its signatures.",
    "FAILED_PRECONDITION": "Pad all clips to the same number of frames, because the server runs several in one batch.",
}
# Words of TensorFlow Serving → the error whose advice helps, where its own name is used for several faults.
PHRASES = {"padding is turned off": "FAILED_PRECONDITION", "scheduling queue": "RESOURCE_EXHAUSTED"}


@dataclass(frozen=True)
class Client(ABC):
    """A served model.

    Args:
        address: Address of the server.
        name: Name of the model.
        version: Version of the model. `None` without a label is the highest that the server has loaded.
        timeout_s: Longest wait for an answer in seconds.
        max_message_bytes: Size in bytes of the largest request and of the largest answer.
        label: Label of a version, from the server's models.config, instead of its number.
    """

    address: str
    name: str
    version: int | None = None
    timeout_s: float = TIMEOUT_S
    max_message_bytes: int = MAX_MESSAGE_BYTES
    label: str | None = None

    @abstractmethod
    def _ask(self, arrays, signature, served):
        """Sends a request and returns the outputs, arrays by name.

        Args:
            arrays: Inputs by name, which `predict` has checked.
            signature: Name of the signature.
            served: Its `SignatureDef`.
        """

    @abstractmethod
    def _ask_metadata(self):
        """Asks the server for `(version, signatures)`: the version that answers, and a `SignatureDefMap`."""

    def predict(self, inputs: Mapping[str, Any], signature: str = "serving_default") -> dict[str, np.ndarray]:
        """Runs a signature on the server.

        Args:
            inputs: Arrays by the names of the signature's inputs, of its dtypes; strings are bytes.
            signature: Name of the signature.

        Returns:
            Arrays by name, as from `affect.reading.artefact.Artefact.signature`.

        Raises:
            InputError: If the inputs are not those of the signature or exceed `max_message_bytes`, or if the server
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
        arrays = {key: _check(key, inputs[key], info) for key, info in served.inputs.items()}
        size = sum(sum(map(len, array.flat)) if array.dtype == object else array.nbytes for array in arrays.values())
        if size > self.max_message_bytes:
            raise InputError(
                f"A request of {size / 2**20:.0f} MiB is too large. Expected at most "
                f"{self.max_message_bytes // 2**20} MiB. Send fewer clips at once, or send JPEGs with the signature "
                "jpeg."
            )
        return self._ask(arrays, signature, served)

    def signature(self, name: str) -> Callable[[Mapping[str, Any]], dict[str, np.ndarray]]:
        """Returns `predict` for one signature, a function like that of `affect.reading.artefact.Artefact.signature`."""
        return partial(self.predict, signature=name)

    @cached_property
    def served(self) -> tuple[int, dict[str, Any]]:
        """The version that answers, and its signatures: name → `SignatureDef`. The server is asked once."""
        version, signatures = self._ask_metadata()
        return version, {name: value for name, value in signatures.signature_def.items() if value.inputs}

    def _make_error(self, code, details):
        """Returns the `InputError` for a refused or failed request."""
        reason = " ".join(details.split())[:300] or "no reason given"
        advised = next((name for phrase, name in PHRASES.items() if phrase in reason), code)
        return InputError(f"{self}: {code}: {reason}. {ADVICE.get(advised, 'See the log of the server.')}")

    def __str__(self) -> str:
        which = "" if self.version is None else f", version {self.version}"
        return f"{self.address}, model {self.name}" + (which if self.label is None else f", label {self.label}")


class GrpcClient(Client):
    """A served model over gRPC, at the address `HOST:PORT`. The traffic is not encrypted."""

    @cached_property
    def _stub(self):
        options = [(f"grpc.max_{way}_message_length", self.max_message_bytes + 2**20) for way in ("send", "receive")]
        return prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(self.address, options=options))

    def _ask(self, arrays, signature, served):
        request = self._name_model(predict_pb2.PredictRequest())
        request.model_spec.signature_name = signature
        for key, array in arrays.items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(array, served.inputs[key].dtype, array.shape))
        response = self._call(self._stub.Predict, request)
        return {key: tf.make_ndarray(tensor) for key, tensor in response.outputs.items()}

    def _ask_metadata(self):
        request = self._name_model(get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"]))
        response = self._call(self._stub.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return response.model_spec.version.value, signatures

    def _name_model(self, request):
        request.model_spec.name = self.name
        if self.label is not None:
            request.model_spec.version_label = self.label
        elif self.version is not None:
            request.model_spec.version.value = self.version
        return request

    def _call(self, method, request):
        try:
            return method(request, timeout=self.timeout_s)
        except grpc.RpcError as error:
            raise self._make_error(error.code().name, error.details() or "") from error


@dataclass(frozen=True)
class RestClient(Client):
    """A served model over REST, at the address `http://HOST:PORT`.

    Numbers are sent as text, about four bytes a value, and strings in base64. So send JPEGs rather than faces.

    Args:
        rows: Whether a request is a list of clips ("instances"), or a list for each input ("inputs").
    """

    rows: bool = False

    def _ask(self, arrays, signature, served):
        lists = {key: _to_lists(array) for key, array in arrays.items()}
        body: dict[str, Any]
        if self.rows:
            if len(sizes := set(map(len, lists.values()))) > 1:
                raise InputError(f"All inputs must have the same number of clips. Received: {sorted(sizes)}")
            body = {"instances": [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]}
        else:
            body = {"inputs": lists}
        answer = self._call("POST", ":predict", json={"signature_name": signature} | body)
        try:
            found = answer["predictions" if self.rows else "outputs"]
            if len(served.outputs) == 1:  # The server leaves out the name of a single output.
                found = dict.fromkeys(served.outputs, found)
            elif self.rows:
                found = {key: [row[key] for row in found] for key in served.outputs}
            return {key: _to_array(found[key], info) for key, info in served.outputs.items()}
        except (KeyError, TypeError, ValueError) as error:
            raise self._make_format_error() from error

    def _ask_metadata(self):
        answer = self._call("GET", "/metadata")
        try:
            signatures = get_model_metadata_pb2.SignatureDefMap()
            json_format.ParseDict(answer["metadata"]["signature_def"], signatures, ignore_unknown_fields=True)
            return int(answer["model_spec"]["version"]), signatures
        except (KeyError, TypeError, ValueError, json_format.ParseError) as error:
            raise self._make_format_error() from error

    def _call(self, method, suffix, **options):
        which = "" if self.version is None else f"/versions/{self.version}"
        if self.label is not None:
            which = f"/labels/{self.label}"
        url = f"{self.address}/v1/models/{self.name}{which}{suffix}"
        try:
            response = requests.request(method, url, timeout=self.timeout_s, **options)
        except requests.Timeout as error:
            raise self._make_error("DEADLINE_EXCEEDED", f"no answer in {self.timeout_s:g} s") from error
        except requests.RequestException as error:
            raise self._make_error("UNAVAILABLE", str(error)) from error
        try:
            answer = response.json()
        except ValueError as error:
            raise self._make_format_error() from error
        if not response.ok:
            code = HTTP_CODES.get(response.status_code, f"HTTP {response.status_code}")
            raise self._make_error(code, str(answer.get("error", "")) if isinstance(answer, dict) else "")
        return answer

    def _make_format_error(self):
        return InputError(f"{self}: the answer is not TensorFlow Serving's. Expected the port of its REST API, 8501.")


def connect(url: str, timeout_s: float = TIMEOUT_S) -> GrpcClient | RestClient:
    """Returns a client of a served model. Nothing is sent yet.

    Args:
        url: `grpc://HOST:PORT/NAME`, `http://HOST:PORT/NAME` or `https://...`. `/VERSION` or `/labels/LABEL` may
            follow.
        timeout_s: Longest wait for an answer in seconds.

    Raises:
        InputError: If it is no such URL.
    """
    parts = urlsplit(url)
    match = re.fullmatch(r"/([^/]+)(?:/(\d+)|/labels/([^/]+))?/?", parts.path)
    if parts.scheme not in ("grpc", "http", "https") or not parts.netloc or not match:
        raise InputError(
            "The address of a server is grpc://HOST:8500/NAME or http://HOST:8501/NAME, and /VERSION or /labels/LABEL "
            f"may follow. Received: {url!r}"
        )
    name, version, label = match.groups()
    number = int(version) if version else None
    if parts.scheme == "grpc":
        return GrpcClient(parts.netloc, name, number, timeout_s, label=label)
    return RestClient(f"{parts.scheme}://{parts.netloc}", name, number, timeout_s, label=label)


def check_served(client: Client, artefact: SavedModel) -> None:
    """Compares a served model with its local copy: version, signatures, and the golden pair of the signature `frame`.

    Args:
        client: From `connect`.
        artefact: The local copy.

    Raises:
        InputError: If the server has another version, other weights, or tensors of other names, dtypes or sizes, such
            as other classes.
    """
    version, signatures = client.served
    folder = artefact.path.resolve().name
    if folder.isdecimal() and version != int(folder):
        raise InputError(
            f"{client} is version {version}, and {artefact.path} is {folder}. Add the version to the server's "
            "URL, or give the folder that is served."
        )
    for name, described in artefact.description["signatures"].items():
        for side in ("inputs", "outputs"):
            found = {key: _describe_tensor(info) for key, info in getattr(signatures.get(name), side, {}).items()}
            expected = {key: (tensor["dtype"], tensor["shape"]) for key, tensor in described[side].items()}
            if found != expected:
                raise InputError(
                    f"{client} is not {artefact.path}: {side} of {name}: expected {expected}, found {found}. "
                    "Serve this folder, or give the one that is served."
                )
    inputs, golden = artefact.golden().get("frame", ({}, {}))
    outputs = client.predict(inputs, "frame") if inputs else {}
    largest = max((measure_difference(outputs[key], value) for key, value in golden.items()), default=0.0)
    if largest > SERVED_TOLERANCE:
        raise InputError(
            f"{client} is not {artefact.path}: its outputs for the golden faces differ by {largest:.1e}. Serve this "
            "folder, or give the one that is served."
        )


@dataclass(frozen=True)
class Served(Artefact):
    """An exported model whose signatures run on a server.

    Args:
        client: From `connect`.
        batch_faces: Faces in one request.
    """

    client: Client
    batch_faces: int = SERVED_FACES

    def call(self, name: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return self.client.predict(inputs, name)

    @property
    def fingerprint(self) -> str:
        """That of the local copy. Its answers were compared with the server's."""
        return sha256_of(self.path / SUMS)

    def signature(self, name: str) -> Callable[[Mapping[str, Any]], dict[str, np.ndarray]]:
        return self.client.signature(name)

    def answer(self, clip: Clip, track: Track = hide_progress) -> Any:
        """Reads the faces of a clip by the server, as `Predictor.answer` does.

        Args:
            clip: The clip with its faces.
            track: Shows progress.

        Raises:
            InputError: As `Client.predict`; if the server does not decode a face or has other classes.
        """
        return self.task.answer_served(self, clip, track=track)


def serve(url: str, artefact: SavedModel, timeout_s: float = TIMEOUT_S) -> Served:
    """Connects to a served model and compares it with the local copy.

    Args:
        url: As in `connect`.
        artefact: The local copy.
        timeout_s: As in `connect`.

    Raises:
        InputError: As `connect` and `check_served`.
    """
    client = connect(url, timeout_s)
    check_served(client, artefact)
    return bind(client, artefact)


def bind(client: Client, artefact: Artefact) -> Served:
    """Returns an exported model whose signatures run on a server. Nothing is compared.

    Args:
        client: From `connect`.
        artefact: The local copy.
    """
    return Served(**{field.name: getattr(artefact, field.name) for field in fields(Artefact)}, client=client)


def _check(key, value, info):
    """Returns an input as an array of the dtype in `info`. Another dtype is an error, because it would be rounded."""
    expected = tf.dtypes.as_dtype(info.dtype)
    array = np.asarray(value)
    is_string = array.dtype.kind in "SO"
    if is_string != (expected == tf.string) or not (is_string or array.dtype == expected.as_numpy_dtype):
        raise InputError(f"The input {key} must be {expected.name}. Received: {array.dtype}")
    return array.astype(object) if is_string else array


def _describe_tensor(info):
    """Returns the dtype and the shape of a `TensorInfo` in the form of affect.json."""
    shape = tf.TensorShape(info.tensor_shape)
    return tf.dtypes.as_dtype(info.dtype).name, None if shape.rank is None else shape.as_list()


def _to_lists(array):
    """Returns an array as lists for JSON; strings in base64."""
    if array.dtype != object:
        return array.tolist()
    return _map_nested(array.tolist(), lambda value: {"b64": base64.b64encode(value).decode()})


def _to_array(values, info):
    """Returns lists from JSON as an array of the dtype in `info`."""
    dtype = tf.dtypes.as_dtype(info.dtype)
    if dtype == tf.string:
        return np.array(_map_nested(values, _decode_string), object)
    return np.array(values, dtype.as_numpy_dtype)


def _decode_string(value):
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value.encode()


def _map_nested(values, function):
    return [_map_nested(value, function) for value in values] if isinstance(values, list) else function(values)

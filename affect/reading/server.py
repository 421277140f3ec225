"""A model behind TensorFlow Serving, called over gRPC or REST like a local one."""

import json
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
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

from affect.data.clips import Clip
from affect.errors import InputError
from affect.files import sha256_of
from affect.progress import Track, hide_progress
from affect.reading.access import ANONYMOUS, TOKEN, Access, fetch
from affect.reading.artefact import Artefact, measure_difference
from affect.reading.saved_model import SUMS, SavedModel
from affect.reading.tensors import (
    ServedSignature,
    check_input,
    free_sizes,
    read_lists,
    read_messages,
    read_signatures,
    to_lists,
)

# Largest request and largest answer. gRPC's default for answers is 4 MiB. The ModelServer takes requests up to 2 GiB.
MAX_MESSAGE_BYTES = 256 * 2**20
TIMEOUT_S = 60.0
# Bytes of `max_message_bytes` for each value in JSON. Python takes up to 100 bytes for a value of 3 letters.
BYTES_PER_VALUE = 64
# Largest relative difference from the local copy. Other weights differ by far more; a GPU that multiplies in TF32
# differs by less (`affect.serving.check`).
SERVED_TOLERANCE = 0.01

# Faces in a request of the signature `frame`: max_batch_size in batching.config.
SERVED_FACES = 32

# HTTP status of TensorFlow Serving → name of the error. 400 is also FAILED_PRECONDITION.
HTTP_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
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
    "UNAUTHENTICATED": f"Put the token that it asks for into {TOKEN}, or name its file with --server-token-file.",
    "PERMISSION_DENIED": f"Ask who runs it for a token that may read this model, and put it into {TOKEN}.",
    "CERTIFICATE": "If the server is yours, name the file of its certification authority with --server-ca.",
    "FAILED_PRECONDITION": "Pad all clips to the same number of frames, because the server runs several in one batch.",
}
# Words of TensorFlow Serving → the error whose advice helps, where its own name is used for several faults.
PHRASES = {
    "padding is turned off": "FAILED_PRECONDITION",
    "scheduling queue": "RESOURCE_EXHAUSTED",
    "CERTIFICATE_VERIFY_FAILED": "CERTIFICATE",
}
# What reading an answer raises that is not what TensorFlow Serving sends.
MALFORMED = (
    AttributeError,
    DecodeError,
    KeyError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    json_format.Error,
)


@dataclass(frozen=True)
class Client(ABC):
    """A served model.

    Args:
        address: Address of the server.
        name: Name of the model.
        version: Version of the model. `None` without a label is the highest that the server has loaded.
        timeout_s: Longest time in seconds until an answer is complete.
        max_message_bytes: Size in bytes of the largest request and of the largest answer.
        label: Label of a version, from the server's models.config, instead of its number.
        access: Certificates and token.
    """

    address: str
    name: str
    version: int | None = None
    timeout_s: float = TIMEOUT_S
    max_message_bytes: int = MAX_MESSAGE_BYTES
    label: str | None = None
    access: Access = ANONYMOUS

    @abstractmethod
    def _ask(self, arrays, signature):
        """Sends a request and returns the answer.

        Args:
            arrays: Inputs by name, which `predict` has checked.
            signature: Name of the signature.
        """

    @abstractmethod
    def _read(self, answer, served, sizes):
        """Returns the outputs of an answer, arrays by name.

        Args:
            answer: From `_ask`.
            served: A `ServedSignature`.
            sizes: From `free_sizes`.

        Raises:
            MALFORMED: If it is not TensorFlow Serving's.
        """

    @abstractmethod
    def _ask_metadata(self):
        """Returns the server's answer about the model."""

    @abstractmethod
    def _read_metadata(self, answer):
        """Returns `(version, signatures)`: the version that answers, and a `SignatureDefMap`.

        Args:
            answer: From `_ask_metadata`.

        Raises:
            MALFORMED: If it is not TensorFlow Serving's.
        """

    def predict(self, inputs: Mapping[str, Any], signature: str = "serving_default") -> dict[str, np.ndarray]:
        """Runs a signature on the server.

        Args:
            inputs: Arrays by the names of the signature's inputs, of its dtypes; strings are bytes.
            signature: Name of the signature.

        Returns:
            Arrays by name, as from `affect.reading.artefact.Artefact.signature`.

        Raises:
            InputError: If the inputs are not those of the signature or exceed `max_message_bytes`, or if the server
                cannot be reached, is too slow, refuses the request, does not serve the model, or answers what no
                such model answers: other names, dtypes or shapes, more than `max_message_bytes`, NaN or infinity.
        """
        _, signatures = self.served
        if signature not in signatures:
            raise InputError(f"{self} has no signature {signature!r}. Expected one of {sorted(signatures)}.")
        served = signatures[signature]
        if set(inputs) != set(served.inputs):
            raise InputError(
                f"Signature {signature} takes the inputs {sorted(served.inputs)}. Received: {sorted(inputs)}"
            )
        arrays = {key: check_input(key, inputs[key], spec) for key, spec in served.inputs.items()}
        size = sum(sum(map(len, array.flat)) if array.dtype == object else array.nbytes for array in arrays.values())
        if size > self.max_message_bytes:
            raise InputError(
                f"A request of {size / 2**20:.0f} MiB is too large. Expected at most "
                f"{self.max_message_bytes // 2**20} MiB. Send fewer clips at once, or send JPEGs with the signature "
                "jpeg."
            )
        answer = self._ask(arrays, signature)
        try:
            return self._read(answer, served, free_sizes(arrays, served))
        except MALFORMED as error:
            raise self._make_format_error(error) from error

    def signature(self, name: str) -> Callable[[Mapping[str, Any]], dict[str, np.ndarray]]:
        """Returns `predict` for one signature, a function like that of `affect.reading.artefact.Artefact.signature`."""
        return partial(self.predict, signature=name)

    @cached_property
    def served(self) -> tuple[int, dict[str, ServedSignature]]:
        """The version that answers, and its signatures by name. The server is asked once.

        Raises:
            InputError: As `predict`; if another version answers than the one that was asked for.
        """
        answer = self._ask_metadata()
        try:
            version, signatures = self._read_metadata(answer)
            found = read_signatures(signatures)
        except MALFORMED as error:
            raise self._make_format_error(error) from error
        if self.version not in (None, version):
            raise InputError(f"{self}: version {version} answers. Expected the one that was asked for.")
        return version, found

    def _make_error(self, code, details):
        """Returns the `InputError` for a refused or failed request."""
        advised = next((name for phrase, name in PHRASES.items() if phrase in details), code)
        advice = ADVICE.get(advised, "See the log of the server.")
        return InputError(f"{self}: {code}: {_quote(details) or 'no reason given'}. {advice}")

    def _make_format_error(self, reason):
        """Returns the `InputError` for an answer that is not TensorFlow Serving's."""
        return InputError(
            f"{self}: the answer is not TensorFlow Serving's: {_quote(str(reason))}. Expected a model that affect "
            "exported, at the port of gRPC, 8500, or of REST, 8501."
        )

    def __str__(self) -> str:
        which = "" if self.version is None else f", version {self.version}"
        return f"{self.address}, model {self.name}" + (which if self.label is None else f", label {self.label}")


@dataclass(frozen=True)
class GrpcClient(Client):
    """A served model over gRPC, at the address `HOST:PORT`.

    Args:
        tls: Whether the traffic is encrypted.
    """

    tls: bool = False

    @cached_property
    def _stub(self):
        options = [(f"grpc.max_{way}_message_length", self.max_message_bytes + 2**20) for way in ("send", "receive")]
        if not self.tls:
            channel = grpc.insecure_channel(self.address, options=options)
        else:
            roots = None if self.access.ca_file is None else self.access.ca_file.read_bytes()
            channel = grpc.secure_channel(self.address, grpc.ssl_channel_credentials(roots), options=options)
        return prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def _ask(self, arrays, signature):
        request = self._name_model(predict_pb2.PredictRequest())
        request.model_spec.signature_name = signature
        for key, array in arrays.items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(array, shape=array.shape))
        return self._call(self._stub.Predict, request)

    def _read(self, answer, served, sizes):
        return read_messages(answer.outputs, served, sizes, self.max_message_bytes)

    def _ask_metadata(self):
        request = self._name_model(get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"]))
        return self._call(self._stub.GetModelMetadata, request)

    def _read_metadata(self, answer):
        signatures = get_model_metadata_pb2.SignatureDefMap()
        if not answer.metadata["signature_def"].Unpack(signatures):
            raise ValueError("it describes no signatures")
        return answer.model_spec.version.value, signatures

    def _name_model(self, request):
        request.model_spec.name = self.name
        if self.label is not None:
            request.model_spec.version_label = self.label
        elif self.version is not None:
            request.model_spec.version.value = self.version
        return request

    def _call(self, method, request):
        try:
            return method(request, timeout=self.timeout_s, metadata=tuple(self.access.headers.items()))
        except grpc.RpcError as error:
            raise self._make_error(error.code().name, error.details() or "") from error


@dataclass(frozen=True)
class RestClient(Client):
    """A served model over REST, at the address `http://HOST:PORT` or `https://HOST:PORT`.

    Numbers are sent as text, about four bytes a value, and strings in base64. So send JPEGs rather than faces.

    Args:
        rows: Whether a request is a list of clips ("instances"), or a list for each input ("inputs").
    """

    rows: bool = False

    def _ask(self, arrays, signature):
        lists = {key: to_lists(array) for key, array in arrays.items()}
        body: dict[str, Any]
        if self.rows:
            if len(sizes := set(map(len, lists.values()))) > 1:
                raise InputError(f"All inputs must have the same number of clips. Received: {sorted(sizes)}")
            body = {"instances": [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]}
        else:
            body = {"inputs": lists}
        return self._call("POST", ":predict", {"signature_name": signature} | body)

    def _read(self, answer, served, sizes):
        found = answer["predictions" if self.rows else "outputs"]
        if len(served.outputs) == 1:  # The server leaves out the name of a single output.
            found = dict.fromkeys(served.outputs, found)
        elif self.rows:
            found = {key: [row[key] for row in found] for key in served.outputs}
        return read_lists(found, served, sizes)

    def _ask_metadata(self):
        return self._call("GET", "/metadata")

    def _read_metadata(self, answer):
        signatures = get_model_metadata_pb2.SignatureDefMap()
        json_format.ParseDict(answer["metadata"]["signature_def"], signatures, ignore_unknown_fields=True)
        return int(answer["model_spec"]["version"]), signatures

    def _call(self, method, suffix, body=None):
        which = "" if self.version is None else f"/versions/{self.version}"
        if self.label is not None:
            which = f"/labels/{self.label}"
        url = f"{self.address}/v1/models/{self.name}{which}{suffix}"
        try:
            status, content = fetch(method, url, self.access, self.timeout_s, self.max_message_bytes, body)
        except TimeoutError as error:
            raise self._make_error("DEADLINE_EXCEEDED", f"no whole answer in {self.timeout_s:g} s") from error
        except requests.RequestException as error:
            raise self._make_error("UNAVAILABLE", str(error)) from error
        except ValueError as error:
            raise self._make_format_error(error) from error
        code = HTTP_CODES.get(status, f"HTTP {status}")
        try:
            answer = self._parse(content)
        except MALFORMED as error:
            if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):  # by a proxy, which does not speak JSON
                raise self._make_error(code, "") from error
            raise self._make_format_error(error) from error
        if status != 200:
            raise self._make_error(code, str(answer.get("error", "")))
        return answer

    def _parse(self, content):
        """Returns the object of a text of JSON. A text takes many times its size in memory, if its values are short."""
        values, most = sum(map(content.count, (b",", b"[", b"{"))), self.max_message_bytes // BYTES_PER_VALUE
        if values > most:
            raise ValueError(f"it has {values} values, more than {most}; ask over gRPC")
        answer = json.loads(content)
        if not isinstance(answer, dict):
            raise ValueError("it is no object of JSON")
        return answer


def connect(url: str, timeout_s: float = TIMEOUT_S, access: Access = ANONYMOUS) -> GrpcClient | RestClient:
    """Returns a client of a served model. Nothing is sent yet.

    Args:
        url: `grpc://HOST:PORT/NAME` or `http://HOST:PORT/NAME`; with TLS `grpcs://...` or `https://...`. `/VERSION` or
            `/labels/LABEL` may follow.
        timeout_s: Longest time in seconds until an answer is complete.
        access: Certificates and token.

    Raises:
        InputError: If it is no such URL, or `access` does not fit it.
    """
    parts = urlsplit(url)
    match = re.fullmatch(r"/([^/]+)(?:/(\d+)|/labels/([^/]+))?/?", parts.path)
    if parts.username is not None:  # The address is shown in messages.
        raise InputError(
            f"The address of a server takes no password. Put a token into {TOKEN}, and name the server "
            f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        )
    if parts.scheme not in ("grpc", "grpcs", "http", "https") or not parts.hostname or not match:
        raise InputError(
            "The address of a server is grpc://HOST:8500/NAME or http://HOST:8501/NAME, with TLS grpcs:// or https://, "
            f"and /VERSION or /labels/LABEL may follow. Received: {url!r}"
        )
    name, version, label = match.groups()
    number, is_encrypted = int(version) if version else None, parts.scheme in ("grpcs", "https")
    access.check_address(parts.hostname, is_encrypted=is_encrypted)
    if parts.scheme.startswith("grpc"):
        return GrpcClient(parts.netloc, name, number, timeout_s, label=label, access=access, tls=is_encrypted)
    return RestClient(f"{parts.scheme}://{parts.netloc}", name, number, timeout_s, label=label, access=access)


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
            found = {key: _describe_tensor(spec) for key, spec in getattr(signatures.get(name), side, {}).items()}
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


def serve(url: str, artefact: SavedModel, timeout_s: float = TIMEOUT_S, access: Access = ANONYMOUS) -> Served:
    """Connects to a served model and compares it with the local copy.

    Args:
        url: As in `connect`.
        artefact: The local copy.
        timeout_s: As in `connect`.
        access: As in `connect`.

    Raises:
        InputError: As `connect` and `check_served`.
    """
    client = connect(url, timeout_s, access)
    check_served(client, artefact)
    return bind(client, artefact)


def bind(client: Client, artefact: Artefact) -> Served:
    """Returns an exported model whose signatures run on a server. Nothing is compared.

    Args:
        client: From `connect`.
        artefact: The local copy.
    """
    return Served(**{field.name: getattr(artefact, field.name) for field in fields(Artefact)}, client=client)


def _describe_tensor(spec):
    """Returns the dtype and the shape of a `tf.TensorSpec` in the form of affect.json."""
    return spec.dtype.name, None if spec.shape.rank is None else spec.shape.as_list()


def _quote(text):
    """Returns the words of a server on one line, with signs that a terminal would obey written out."""
    words = " ".join(text[:1000].split())[:300]
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in words).rstrip(".")

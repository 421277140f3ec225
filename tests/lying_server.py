"""A server that lies: one small model over HTTP and gRPC, whose true answers are replaced by one of `LIES`.

The model has the signature `f`: `x` float32 (rows, 2) → `y` float32 (rows, 3) and `label` string (rows,). A lie is told
when the client asks about the model ("metadata") or when it asks the model ("predict"); the other answer is true.
"""

import copy
import gzip
import json
import socket
import socketserver
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2

ROWS = 2
INPUTS = {"x": np.ones((ROWS, 2), np.float32)}
TRUTH = {
    "y": [[0.25, 0.25, 0.5], [0.5, 0.25, 0.25]],
    "label": ["a", "b"],
}
# The client's limits in the tests. An honest answer arrives in much less, a drip in much more.
TIMEOUT_S = 1.0
MOST_BYTES = 2**20
DRIP_S = 0.2
DRIPS = 20
SERVICE = "/tensorflow.serving.PredictionService/"


@dataclass(frozen=True)
class Lie:
    """What is sent instead of the truth.

    Args:
        transport: `"http"` or `"grpc"`.
        stage: `"metadata"` or `"predict"`.
        tell: For HTTP, `tell(write, body)`, which sends another body than the true one. For gRPC,
            `tell(answer, context)`, which returns the bytes of another message.
        words: Regular expression for what the client must say.
    """

    transport: str
    stage: str
    tell: Any
    words: str


def make_metadata():
    answer = get_model_metadata_pb2.GetModelMetadataResponse()
    answer.model_spec.name = "tiny"
    answer.model_spec.version.value = 3
    signatures = get_model_metadata_pb2.SignatureDefMap()
    signature = signatures.signature_def["f"]
    for tensors, name, dtype, shape in (
        (signature.inputs, "x", tf.float32, [None, 2]),
        (signature.outputs, "y", tf.float32, [None, 3]),
        (signature.outputs, "label", tf.string, [None]),
    ):
        tensors[name].dtype = dtype.as_datatype_enum
        tensors[name].tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
    answer.metadata["signature_def"].Pack(signatures)
    return answer, signatures


def make_prediction():
    answer = predict_pb2.PredictResponse()
    answer.outputs["y"].CopyFrom(tf.make_tensor_proto(TRUTH["y"], tf.float32))
    answer.outputs["label"].CopyFrom(tf.make_tensor_proto(TRUTH["label"]))
    return answer


METADATA, SIGNATURES = make_metadata()
BODIES = {
    "metadata": {
        "model_spec": {"name": "tiny", "signature_name": "", "version": "3"},
        "metadata": {
            "signature_def": json_format.MessageToDict(SIGNATURES, preserving_proto_field_name=True),
        },
    },
    "predict": {"outputs": TRUTH},
}
MESSAGES = {"metadata": METADATA, "predict": make_prediction()}


def frame(body, status="200 OK", length=None, *headers):
    """Returns an HTTP answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def raw(content):
    return lambda write, body: write(content)


def text(content, status="200 OK"):
    return raw(frame(content.encode() if isinstance(content, str) else content, status))


def header(*lines, status="200 OK"):
    """The true body under other headers."""
    return lambda write, body: write("\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode() + body)


def drip(start, rest=b""):
    """Sends the start of an answer a byte at a time, and at last a true one, which is too late."""

    def tell(write, body):
        for byte in start[:DRIPS]:
            write(bytes([byte]))
            time.sleep(DRIP_S)
        write(rest or start[DRIPS:] + body)

    return tell


def drip_body(write, body):
    write(frame(b"", length=len(body)))
    for byte in body[:DRIPS]:
        write(bytes([byte]))
        time.sleep(DRIP_S)
    write(body[DRIPS:])


def drip_chunks(write, body):
    write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for byte in body[:DRIPS]:
        write(b"1\r\n" + bytes([byte]) + b"\r\n")
        time.sleep(DRIP_S)
    write(b"%x\r\n" % len(body[DRIPS:]) + body[DRIPS:] + b"\r\n0\r\n\r\n")


def drip_continue(write, body):
    for _ in range(DRIPS):
        write(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(DRIP_S)
    write(frame(body))


def large(start):
    """The true body after 40 times the largest answer in blanks, which JSON ignores."""

    def tell(write, body):
        write(start)
        for _ in range(40):
            write(b" " * MOST_BYTES)
        write(body)

    return tell


def changed(change):
    """The true body, changed as an object of JSON."""

    def tell(write, body):
        found = copy.deepcopy(json.loads(body))
        change(found)
        write(frame(json.dumps(found).encode()))

    return tell


def put(*path, value):
    """Sets what a path of keys leads to."""

    def change(found):
        for key in path[:-1]:
            found = found[key]
        found[path[-1]] = value

    return changed(change)


def drop(*path):
    def change(found):
        for key in path[:-1]:
            found = found[key]
        del found[path[-1]]

    return changed(change)


def cut(write, body):
    write(frame(body[:-9]))


def bomb(write, body):
    packed = gzip.compress(b" " * 40 * MOST_BYTES + body)
    write(frame(packed, "200 OK", None, "Content-Encoding: gzip"))


def message(change):
    """The true message of gRPC, changed."""

    def tell(answer, context):
        found = copy.deepcopy(answer)
        change(found)
        return found.SerializeToString()

    return tell


def tensor(name="y", *, shape=None, **fields):
    """A `TensorProto` of other fields. The fields of the truth are kept where none is given."""

    def change(answer):
        found = answer.outputs[name]
        if shape is not None:
            del found.tensor_shape.dim[:]
            for size in shape:
                found.tensor_shape.dim.add(size=size)
        for key, value in fields.items():
            if key.endswith("_val"):
                found.tensor_content = b""
                getattr(found, key).extend(value)
            else:
                setattr(found, key, value)

    return message(change)


def array(value, name="y", dtype=None):
    return message(lambda answer: answer.outputs[name].CopyFrom(tf.make_tensor_proto(value, dtype)))


def info(change):
    """The metadata of gRPC with other signatures."""

    def tell(answer):
        signatures = copy.deepcopy(SIGNATURES)
        change(signatures.signature_def["f"])
        answer.metadata["signature_def"].Pack(signatures)

    return message(tell)


def set_dims(side, name, sizes):
    def change(signature):
        shape = getattr(signature, side)[name].tensor_shape
        del shape.dim[:]
        for size in sizes:
            shape.dim.add(size=size)

    return info(change)


def set_dtype(side, name, dtype):
    return info(lambda signature: setattr(getattr(signature, side)[name], "dtype", dtype))


def abort(code, details):
    return lambda answer, context: context.abort(code, details)


def sleep(answer, context):
    time.sleep(DRIP_S * DRIPS)
    return answer.SerializeToString()


def grow(answer, context):
    found = copy.deepcopy(answer)
    found.outputs["y"].tensor_content = b"\0" * 40 * MOST_BYTES
    return found.SerializeToString()


def grow_packed(answer, context):
    context.set_compression(grpc.Compression.Gzip)
    return grow(answer, context)


def send_headers(answer, context):
    context.send_initial_metadata([(f"x-{number}", "x" * 4000) for number in range(20)])
    return answer.SerializeToString()


FALSE = "the answer is not TensorFlow Serving's"
LATE = "DEADLINE_EXCEEDED: no whole answer in 1 s"
SIGNATURE = ("metadata", "signature_def", "signature_def", "f")
# HTTP: what is sent is no HTTP, or no answer.
HTTP = {
    "hangs up": (raw(b""), "UNAVAILABLE"),
    "random bytes": (raw(bytes(range(256)) * 40), "UNAVAILABLE"),
    "half a status line": (raw(b"HTTP/1.1 2"), "UNAVAILABLE"),
    "a status line of 100 kB": (raw(b"HTTP/1.1 200 " + b"x" * 100_000 + b"\r\n\r\n"), "UNAVAILABLE"),
    "a header of 100 kB": (header("x: " + "x" * 100_000), "UNAVAILABLE"),
    "1,000 headers": (header(*(f"x{number}: x" for number in range(1000))), "UNAVAILABLE"),
    "another protocol": (raw(b"SSH-2.0-OpenSSH_9.2\r\n"), "UNAVAILABLE"),
    "status abc": (raw(b"HTTP/1.1 abc OK\r\n\r\n"), "UNAVAILABLE"),
    "status 999": (text("{}", "999 Odd"), "HTTP 999"),
    "status 204": (raw(b"HTTP/1.1 204 No Content\r\n\r\n"), FALSE),
    "length -1 of a false body": (raw(frame(b"{", length=-1)), FALSE),
    "length of words": (raw(frame(b"{", length="many")), FALSE),
    "two lengths": (header("Content-Length: 3", "Content-Length: 4"), "UNAVAILABLE: Content-Length contained"),
    "a length that does not come": (raw(frame(b"{}", length=1000)), "UNAVAILABLE"),
    "a chunk of no number": (header("Transfer-Encoding: chunked", "", "zz"), "UNAVAILABLE"),
    "a chunk of -5 bytes": (header("Transfer-Encoding: chunked", "", "-5"), FALSE),
    "a chunk of 2^62 bytes": (header("Transfer-Encoding: chunked", "", "4000000000000000"), "UNAVAILABLE"),
    "a body without end": (large(b"HTTP/1.1 200 OK\r\n\r\n"), f"{FALSE}: it is larger than 1 MiB"),
    "a length of 1.5 GB": (large(frame(b"", length=1_500_000_000)), f"{FALSE}: it is larger than 1 MiB"),
    "a chunk of 1.5 GB": (
        large(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n59682f00\r\n"),
        f"{FALSE}: it is larger than 1 MiB",
    ),
    "a gzip bomb": (bomb, f"{FALSE}: it is compressed"),
    "gzip that is none": (header("Content-Encoding: gzip"), f"{FALSE}: it is compressed"),
    "redirect to a file": (raw(frame(b"", "302 Found", None, "Location: file:///etc/passwd")), "'file:///etc/passwd'"),
    "redirect to itself": (raw(frame(b"", "307 Again", None, "Location: /v1/models/tiny")), f"{FALSE}: it sends to an"),
    "redirect to nothing": (raw(frame(b"", "301 Gone")), f"{FALSE}: it sends to another address"),
    "status 304": (raw(b"HTTP/1.1 304 Not Modified\r\n\r\n"), f"{FALSE}: it sends to another address"),
    "says nothing": (lambda write, body: time.sleep(DRIP_S * DRIPS), LATE),
    "drips the status line": (drip(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n"), LATE),
    "drips a header": (drip(b"H" + b"x" * 80, frame(b"{}")), LATE),
    "drips the body": (drip_body, LATE),
    "drips chunks": (drip_chunks, LATE),
    "continues without end": (drip_continue, LATE),
    "401 in HTML": (text("<h1>no</h1>", "401 No"), "UNAUTHENTICATED: no reason given. .*AFFECT_SERVER_TOKEN"),
    "403": (text('{"error": "no"}', "403 No"), "PERMISSION_DENIED: no. "),
    "500 in HTML": (text("<h1>no</h1>", "500 No"), FALSE),
    "an error that is a list": (text('["error"]', "503 No"), FALSE),
    "an error that is a number": (text('{"error": 5}', "503 No"), "UNAVAILABLE: 5"),
    "an error of a megabyte": (text('{"error": "' + "x" * 900_000 + '"}', "400 No"), "INVALID_ARGUMENT: x{300}[.] "),
    "an error for the terminal": (text('{"error": "a\\u001b[2J\\nb\\u202e"}', "400 No"), r"a\\x1b\[2J b\\u202e[.] "),
    # JSON: what is sent is no object.
    "an empty body": (text(""), FALSE),
    "null": (text("null"), f"{FALSE}: it is no object"),
    "a list": (text("[]"), f"{FALSE}: it is no object"),
    "a number": (text("5"), f"{FALSE}: it is no object"),
    "half of the truth": (cut, FALSE),
    "no UTF-8": (text(b'{"outputs": "\xff\xfe"}'), FALSE),
    "lists in lists": (text("[" * 9000), FALSE),
    "objects in objects": (text('{"a":' * 9000), FALSE),
    "many empty lists": (text("[" + "[]," * 100_000 + "[]]"), f"{FALSE}: it has 200002 values, more than 16384"),
    "a number of 9,000 digits": (text('{"outputs": ' + "1" * 9000 + "}"), FALSE),
    "an empty object": (text("{}"), FALSE),
}
METADATA_OVER_HTTP = {
    "no metadata": (drop("metadata"), FALSE),
    "metadata null": (put("metadata", value=None), FALSE),
    "metadata a text": (put("metadata", value="x"), FALSE),
    "signatures a number": (put("metadata", "signature_def", value=5), FALSE),
    "signatures a list": (put("metadata", "signature_def", "signature_def", value=[1]), FALSE),
    "a dtype that there is not": (put(*SIGNATURE, "outputs", "y", "dtype", value="DT_BANANA"), FALSE),
    "dtype 0": (put(*SIGNATURE, "outputs", "y", "dtype", value=0), FALSE),
    "dtype resource": (put(*SIGNATURE, "outputs", "y", "dtype", value="DT_RESOURCE"), f"{FALSE}: the tensor y is"),
    "a size of -7": (put(*SIGNATURE, "outputs", "y", "tensor_shape", "dim", 1, "size", value="-7"), FALSE),
    "a size of words": (put(*SIGNATURE, "outputs", "y", "tensor_shape", "dim", 1, "size", value="x"), FALSE),
    "a size of 2^70": (put(*SIGNATURE, "outputs", "y", "tensor_shape", "dim", 1, "size", value=str(2**70)), FALSE),
    "no version": (drop("model_spec", "version"), FALSE),
    "version null": (put("model_spec", "version", value=None), FALSE),
    "version of words": (put("model_spec", "version", value="three"), FALSE),
    "version infinite": (put("model_spec", "version", value=float("inf")), FALSE),
    "another version": (put("model_spec", "version", value="4"), "version 3: version 4 answers"),
    "no such signature": (drop(*SIGNATURE), "has no signature 'f'. Expected one of .."),
    "other inputs": (put(*SIGNATURE, "inputs", "z", value={"dtype": "DT_FLOAT"}), "takes the inputs"),
    "an input of another dtype": (put(*SIGNATURE, "inputs", "x", "dtype", value="DT_HALF"), "x must be float16"),
}
PREDICTIONS_OVER_HTTP = {
    "no outputs": (drop("outputs"), FALSE),
    "outputs null": (put("outputs", value=None), FALSE),
    "outputs a list": (put("outputs", value=[[1.0, 2.0, 3.0]] * 2), FALSE),
    "outputs a text": (put("outputs", value="y"), FALSE),
    "an output is missing": (drop("outputs", "label"), f"{FALSE}: expected the outputs"),
    "one output too many": (put("outputs", "z", value=[1]), f"{FALSE}: expected the outputs"),
    "a row is missing": (put("outputs", "y", value=TRUTH["y"][:1]), rf"{FALSE}: y has the shape \[1, 3\]"),
    "a row too many": (put("outputs", "y", value=TRUTH["y"] * 2), rf"{FALSE}: y has the shape \[4, 3\]"),
    "a class too many": (put("outputs", "y", value=[[0.25] * 4] * 2), rf"{FALSE}: y has the shape \[2, 4\]"),
    "a number for a list": (put("outputs", "y", value=0.5), rf"{FALSE}: y has the shape \[\]"),
    "rows of two lengths": (put("outputs", "y", value=[[0.5], [0.5, 0.5]]), FALSE),
    "texts for numbers": (put("outputs", "y", value=[["0.5"] * 3] * 2), f"{FALSE}: y is no float32"),
    "truths for numbers": (put("outputs", "y", value=[[True] * 3] * 2), f"{FALSE}: y is no float32"),
    "nulls for numbers": (put("outputs", "y", value=[[None] * 3] * 2), f"{FALSE}: y is no float32"),
    "objects for numbers": (put("outputs", "y", value=[[{"b64": ""}] * 3] * 2), f"{FALSE}: y is no float32"),
    "NaN": (put("outputs", "y", value=[[float("nan")] * 3] * 2), f"{FALSE}: y holds NaN"),
    "infinity": (put("outputs", "y", value=[[0, 0, float("-inf")]] * 2), f"{FALSE}: y holds NaN or infinity"),
    "more than float32": (put("outputs", "y", value=[[0, 0, 1e300]] * 2), f"{FALSE}: y holds NaN or infinity"),
    "an integer of 400 digits": (put("outputs", "y", value=[[0, 0, 10**400]] * 2), FALSE),
    "numbers for texts": (put("outputs", "label", value=[1, 2]), f"{FALSE}: label is no string"),
    "null for a text": (put("outputs", "label", value=[None, "a"]), f"{FALSE}: label is no string"),
    "base64 that is none": (put("outputs", "label", value=[{"b64": "?"}, "a"]), FALSE),
    "base64 of a number": (put("outputs", "label", value=[{"b64": 5}, "a"]), f"{FALSE}: label is no string"),
    "half a character": (put("outputs", "label", value=["\ud800", "a"]), FALSE),
    "lists of texts": (put("outputs", "label", value=[["a"], ["b"]]), rf"{FALSE}: label has the shape \[2, 1\]"),
}
GRPC = {
    "nothing": (lambda answer, context: b"", FALSE),
    "random bytes": (lambda answer, context: bytes(range(256)), "INTERNAL"),
    "half a message": (lambda answer, context: answer.SerializeToString()[:-3], "INTERNAL"),
    "says nothing": (sleep, "DEADLINE_EXCEEDED"),
    "40 MiB": (grow, "RESOURCE_EXHAUSTED"),
    "40 MiB, packed": (grow_packed, "RESOURCE_EXHAUSTED"),
    "headers of 80 kB": (send_headers, "RESOURCE_EXHAUSTED"),
    "no token": (abort(grpc.StatusCode.UNAUTHENTICATED, ""), "UNAUTHENTICATED: no reason given. .*TOKEN"),
    "an error for the terminal": (abort(grpc.StatusCode.UNKNOWN, "a\x1b[2J\nb\u202e"), r"a\\x1b\[2J b\\u202e[.] "),
    "an error of 4 kB": (abort(grpc.StatusCode.ABORTED, "x" * 4000), "ABORTED: x{300}[.] "),
}
METADATA_OVER_GRPC = {
    "no signatures": (message(lambda answer: answer.metadata.clear()), f"{FALSE}: it describes no signatures"),
    "signatures of another type": (
        message(lambda answer: answer.metadata["signature_def"].Pack(tf.TensorShape([2]).as_proto())),
        f"{FALSE}: it describes no signatures",
    ),
    "signatures of random bytes": (
        message(lambda answer: setattr(answer.metadata["signature_def"], "value", bytes(range(256)))),
        FALSE,
    ),
    "dtype 0": (set_dtype("outputs", "y", 0), FALSE),
    "dtype 999": (set_dtype("outputs", "y", 999), FALSE),
    "dtype variant": (set_dtype("outputs", "y", tf.variant.as_datatype_enum), f"{FALSE}: the tensor y is variant"),
    "a size of -7": (set_dims("outputs", "y", [-1, -7]), FALSE),
    "another version": (message(lambda answer: setattr(answer.model_spec.version, "value", 4)), "version 4 answers"),
    "other inputs": (info(lambda signature: signature.inputs["z"].CopyFrom(signature.inputs["x"])), "takes the inputs"),
    "other outputs": (info(lambda signature: signature.outputs.pop("y")), f"{FALSE}: expected the outputs"),
    "sizes without limit": (set_dims("outputs", "y", [-1, 2**40]), rf"{FALSE}: y has the shape \[2, 3\]"),
}
PREDICTIONS_OVER_GRPC = {
    "one float of dimension 2^31": (
        tensor(shape=[2**31], float_val=[1.0]),
        rf"{FALSE}: y has the shape \[2147483648\]",
    ),
    "rows 2^40": (tensor(shape=[2**40, 3], float_val=[1.0]), f"{FALSE}: y has the shape"),
    "sizes whose product overflows": (tensor(shape=[2**32, 2**32, 3]), f"{FALSE}: y has the shape"),
    "a size of -1": (tensor(shape=[-1, 3]), rf"{FALSE}: y has the shape \[-1, 3\]"),
    "64 axes": (tensor(shape=[1] * 64), f"{FALSE}: y has the shape"),
    "no axis": (tensor(shape=[], float_val=[1.0]), rf"{FALSE}: y has the shape \[\]"),
    "too few bytes": (tensor(tensor_content=b"\0" * 20), FALSE),
    "too many bytes": (tensor(tensor_content=b"\0" * 28), FALSE),
    "bytes of no float": (tensor(tensor_content=b"\0" * 23), FALSE),
    "too many numbers": (tensor(float_val=[1.0] * 7), FALSE),
    "no numbers": (tensor(tensor_content=b""), FALSE),
    "numbers of another field": (tensor(tensor_content=b"", int_val=[1] * 6), FALSE),
    "float64": (array(np.ones((2, 3))), f"{FALSE}: y is no float32"),
    "texts for numbers": (array([["a"] * 3] * 2), f"{FALSE}: y is no float32"),
    "dtype 0": (tensor(dtype=0), f"{FALSE}: y is no float32"),
    "dtype 999": (tensor(dtype=999), f"{FALSE}: y is no float32"),
    "a row is missing": (array(TRUTH["y"][:1], dtype=tf.float32), rf"{FALSE}: y has the shape \[1, 3\]"),
    "NaN": (array([[0, 0, np.nan]] * 2, dtype=tf.float32), f"{FALSE}: y holds NaN"),
    "infinity": (array([[0, 0, np.inf]] * 2, dtype=tf.float32), f"{FALSE}: y holds NaN or infinity"),
    "an output is missing": (message(lambda answer: answer.outputs.pop("label")), f"{FALSE}: expected the outputs"),
    "one output too many": (
        message(lambda answer: answer.outputs["z"].CopyFrom(answer.outputs["y"])),
        f"{FALSE}: expected the outputs",
    ),
    "numbers for texts": (array([1, 2], "label"), f"{FALSE}: label is no string"),
    "too many texts": (tensor("label", string_val=[b"c"]), FALSE),
    "one text for 2^31 rows": (tensor("label", shape=[2**31]), f"{FALSE}: label has the shape"),
}
LIES = {
    **{
        f"http {stage}: {name}": Lie("http", stage, *lie)
        for stage in ("metadata", "predict")
        for name, lie in HTTP.items()
    },
    **{f"http metadata: {name}": Lie("http", "metadata", *lie) for name, lie in METADATA_OVER_HTTP.items()},
    **{f"http predict: {name}": Lie("http", "predict", *lie) for name, lie in PREDICTIONS_OVER_HTTP.items()},
    **{
        f"grpc {stage}: {name}": Lie("grpc", stage, *lie)
        for stage in ("metadata", "predict")
        for name, lie in GRPC.items()
        if stage == "predict" or lie[0] not in (grow, grow_packed)
    },
    **{f"grpc metadata: {name}": Lie("grpc", "metadata", *lie) for name, lie in METADATA_OVER_GRPC.items()},
    **{f"grpc predict: {name}": Lie("grpc", "predict", *lie) for name, lie in PREDICTIONS_OVER_GRPC.items()},
}


class LyingServer:
    """Answers over HTTP and gRPC on loopback; `lie` is what it tells, or `None` for the truth.

    Args:
        http: Address `http://HOST:PORT`.
        grpc: Address `grpc://HOST:PORT`.
    """

    def __init__(self, http, grpc):
        self.addresses, self.lie = {"http": http, "grpc": grpc}, None
        self.headers = []  # of each request: name in small letters → value

    def lies_in(self, transport, stage):
        return self.lie is not None and (self.lie.transport, self.lie.stage) == (transport, stage)


@contextmanager
def serve_lies(tls=None):
    """Yields a `LyingServer`.

    Args:
        tls: `(context, credentials)`: an `ssl.SSLContext` for HTTP and the server's credentials for gRPC.
    """

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            start = self.rfile.readline(9999).split()
            headers = {}
            while b":" in (line := self.rfile.readline(9999)):
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            self.rfile.read(int(headers.get("content-length", 0)))
            if not start:
                return
            liar.headers.append(headers)
            stage = "metadata" if start[0] == b"GET" else "predict"
            body = json.dumps(BODIES[stage]).encode()
            try:
                if liar.lies_in("http", stage):
                    liar.lie.tell(self.write, body)
                else:
                    self.write(frame(body))
            except OSError:
                pass  # The client waits no more.

        def write(self, content):
            self.connection.sendall(content)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads, block_on_close = True, False

        def get_request(self):
            connection, address = super().get_request()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return (connection if tls is None else tls[0].wrap_socket(connection, server_side=True)), address

        def handle_error(self, request, client_address):
            pass

    def answer(stage):
        def respond(request, context):
            liar.headers.append(dict(context.invocation_metadata()))
            if liar.lies_in("grpc", stage):
                return liar.lie.tell(MESSAGES[stage], context)
            return MESSAGES[stage].SerializeToString()

        return grpc.unary_unary_rpc_method_handler(respond)

    methods = {f"{SERVICE}GetModelMetadata": answer("metadata"), f"{SERVICE}Predict": answer("predict")}

    class Router(grpc.GenericRpcHandler):
        def service(self, details):
            return methods.get(details.method)

    http = Server(("127.0.0.1", 0), Handler)
    rpc = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_send_message_length", -1)])
    rpc.add_generic_rpc_handlers([Router()])
    port = rpc.add_insecure_port("127.0.0.1:0") if tls is None else rpc.add_secure_port("127.0.0.1:0", tls[1])
    s = "" if tls is None else "s"
    liar = LyingServer(f"http{s}://127.0.0.1:{http.server_address[1]}", f"grpc{s}://127.0.0.1:{port}")
    rpc.start()
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        yield liar
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
        rpc.stop(None).wait()

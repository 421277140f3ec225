"""The client of a server that lies, drips and floods; what it asks for before it tells a token."""

import ssl
from dataclasses import replace

import cv2
import grpc
import numpy as np
import pytest
import trustme

from affect.errors import InputError
from affect.reading.access import Access, read_access
from affect.reading.server import connect
from tests.commands import refused
from tests.lying_server import INPUTS, LIES, MOST_BYTES, TIMEOUT_S, TRUTH, serve_lies
from tests.serving_files import ROOT

# One of each kind; `make test-large` tells them all.
QUICK = (
    "http predict: hangs up",
    "http predict: a chunk of 1.5 GB",
    "http predict: a gzip bomb",
    "http predict: redirect to a file",
    "http predict: drips the body",
    "http metadata: drips a header",
    "http predict: an error for the terminal",
    "http predict: lists in lists",
    "http predict: many empty lists",
    "http metadata: dtype resource",
    "http metadata: another version",
    "http predict: rows of two lengths",
    "http predict: NaN",
    "http predict: numbers for texts",
    "grpc metadata: signatures of random bytes",
    "grpc metadata: dtype 999",
    "grpc predict: one float of dimension 2^31",
    "grpc predict: 40 MiB, packed",
    "grpc predict: too few bytes",
    "grpc predict: one text for 2^31 rows",
)


@pytest.fixture(scope="module")
def liar():
    with serve_lies() as found:
        yield found


def ask(liar, transport, timeout_s=60.0):
    client = connect(f"{liar.addresses[transport]}/tiny/3", timeout_s)
    return replace(client, max_message_bytes=MOST_BYTES).predict(INPUTS, "f")


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_the_truth_is_understood(liar, transport):
    liar.lie = None
    outputs = ask(liar, transport)
    assert outputs["y"].dtype == np.float32
    assert {name: value.tolist() for name, value in outputs.items()} == TRUTH | {"label": [b"a", b"b"]}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.large) for name in LIES]
)
def test_a_lie_is_refused_in_one_line(liar, name):
    liar.lie = lie = LIES[name]
    with pytest.raises(InputError, match=lie.words) as caught:
        # Only a server that is too slow is to meet the limit of time, also on a slow machine.
        ask(liar, lie.transport, TIMEOUT_S if "DEADLINE_EXCEEDED" in lie.words else 60.0)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 800


def test_there_are_many_lies():
    assert len(LIES) > 100
    assert set(QUICK) <= set(LIES)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def encrypted(authority):
    """A truthful server with a certificate of an authority that nobody knows."""
    certificate = authority.issue_cert("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    pair = certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes()
    with serve_lies(tls=(context, grpc.ssl_server_credentials([pair]))) as found:
        yield found


@pytest.fixture(scope="module")
def ca_file(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_a_certificate_is_checked_and_a_token_is_sent_encrypted(encrypted, ca_file, transport):
    url = f"{encrypted.addresses[transport]}/tiny/3"
    with pytest.raises(InputError, match="UNAVAILABLE: .*--server-ca"):
        connect(url, 60.0).predict(INPUTS, "f")
    for token, sent in (("abc", "Bearer abc"), ("Basic YTpi", "Basic YTpi")):
        encrypted.headers.clear()
        outputs = connect(url, 60.0, Access(ca_file, token)).predict(INPUTS, "f")
        assert outputs["y"].tolist() == TRUTH["y"]
        assert [headers["authorization"] for headers in encrypted.headers] == [sent, sent]


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_another_authoritys_server_is_refused(encrypted, tmp_path, transport):
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    access = Access(tmp_path / "ca.pem", "secret")
    encrypted.headers.clear()
    with pytest.raises(InputError, match="UNAVAILABLE: .*--server-ca") as caught:
        connect(f"{encrypted.addresses[transport]}/tiny/3", 60.0, access).predict(INPUTS, "f")
    assert encrypted.headers == []
    assert "secret" not in str(caught.value) + repr(access)


def test_no_password_of_another_file_is_sent(liar, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    liar.lie = None
    liar.headers.clear()
    ask(liar, "http")
    assert ["authorization" in headers for headers in liar.headers] == [False, False]
    connect(f"{liar.addresses['http']}/tiny", 60.0, Access(token="abc")).predict(INPUTS, "f")
    assert [headers["authorization"] for headers in liar.headers[2:]] == ["Bearer abc"] * 2


@pytest.mark.parametrize(
    ("url", "access", "words"),
    [
        ("http://example.org:8501/tiny", {"token": "abc"}, "not sent to example.org without encryption. .*https://"),
        ("grpc://192.0.2.1:8500/tiny", {"token": "abc"}, "not sent to 192.0.2.1 without encryption. .*grpcs://"),
        ("http://localhost.example.org/tiny", {"token": "abc"}, "not sent to localhost.example.org without"),
        ("http://me:secret@localhost/tiny", {}, "takes no password. .*AFFECT_SERVER_TOKEN.* http://localhost/tiny"),
        ("grpc://localhost:8500/tiny", {"ca_file": "ca.pem"}, "--server-ca has no effect without TLS"),
        ("https://localhost/tiny", {"ca_file": "none.pem"}, "--server-ca takes a PEM file .*none.pem"),
        ("https://localhost/tiny", {"ca_file": "empty.pem"}, "--server-ca takes a PEM file .*empty.pem"),
        ("https://localhost/tiny", {"token": "a\nx-evil: b"}, "is one word of ASCII"),
        ("https://localhost/tiny", {"token": "é"}, "is one word of ASCII"),
        ("https://localhost/tiny", {"token": " abc"}, "is one word of ASCII"),
        ("https://localhost/tiny", {"token": "a b c"}, "is one word of ASCII, .* Received: 5 characters"),
        ("https://localhost/tiny", {"token": ""}, "is one word of ASCII, .* Received: 0 characters"),
    ],
)
def test_access_that_would_not_keep_a_secret(ca_file, tmp_path, url, access, words):
    paths = {"ca.pem": ca_file, "none.pem": tmp_path / "none.pem", "empty.pem": tmp_path / "empty.pem"}
    paths["empty.pem"].write_text("")
    with pytest.raises(InputError, match=words) as caught:
        connect(url, access=Access(paths.get(access.get("ca_file")), access.get("token")))
    assert "secret" not in str(caught.value)


def test_a_token_comes_from_the_environment_or_a_file(tmp_path, monkeypatch):
    monkeypatch.delenv("AFFECT_SERVER_TOKEN", raising=False)
    assert read_access() == Access()
    monkeypatch.setenv("AFFECT_SERVER_TOKEN", "abc")
    assert read_access().headers == {"authorization": "Bearer abc"}
    (tmp_path / "token").write_text("def\n")
    assert read_access(token_file=tmp_path / "token").token == "def"
    (tmp_path / "token").write_bytes(b"\xff")
    for path in (tmp_path / "token", tmp_path):
        with pytest.raises(InputError, match="--server-token-file: .* could not be read"):
            read_access(token_file=path)


def test_the_command_line_takes_a_certificate_and_a_token(encrypted, ca_file, tmp_path, monkeypatch):
    """The server is another model, so the command ends after it has asked."""
    monkeypatch.setenv("AFFECT_SERVER_TOKEN", "abc")
    cv2.imwrite(str(tmp_path / "face.png"), np.zeros((64, 64, 3), np.uint8))
    command = "predict", ROOT / "savedmodels" / "planted" / "1", tmp_path / "face.png"
    url = f"{encrypted.addresses['grpc']}/tiny/3"
    encrypted.headers.clear()
    assert "is version 3, and" in refused(*command, "--server", url, "--server-ca", ca_file)
    (tmp_path / "token").write_text("def\n")
    assert "is version 3, and" in refused(
        *command, "--server", url, "--server-ca", ca_file, "--server-token-file", tmp_path / "token"
    )
    assert [headers["authorization"] for headers in encrypted.headers] == ["Bearer abc", "Bearer def"]
    assert "--server-ca and --server-token-file need --server" in refused(*command, "--server-ca", ca_file)


@pytest.fixture(scope="module", autouse=True)
def _no_proxy_on_loopback():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "127.0.0.1")
        yield

"""How a server is reached: certificates, an authorisation header, and one HTTP request with bounds on time and size."""

import ipaddress
import os
import socket
import ssl
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from affect.errors import InputError

# Environment variable that holds the token. A token on a command line is seen by every user of the machine.
TOKEN = "AFFECT_SERVER_TOKEN"
READ_BYTES = 2**20


@dataclass(frozen=True)
class Access:
    """How a server is known, and how the client is known to it.

    Args:
        ca_file: PEM file of the certification authorities that the server's certificate may be from. `None` takes those
            that gRPC and requests bring.
        token: Sent as `authorization: Bearer TOKEN`. A token of two words, such as `Basic dXNlcjpw`, is sent as it is.

    Raises:
        InputError: If the file holds no certificate, or a header cannot hold the token.
    """

    ca_file: Path | None = None
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.ca_file is not None:
            try:
                ssl.create_default_context(cafile=self.ca_file)
            except OSError as error:  # ssl.SSLError too
                raise InputError(
                    f"--server-ca takes a PEM file of certificates. Received: {self.ca_file}: {error}"
                ) from error
        words = [] if self.token is None else self.token.split(" ")
        is_text = self.token is None or (self.token.isascii() and self.token.isprintable())
        if not (is_text and len(words) < 3 and all(words)):
            raise InputError(
                f"The token of {TOKEN} or --server-token-file is one word of ASCII, or a scheme and a word. Received: "
                f"{len(self.token or '')} characters."
            )

    @property
    def headers(self) -> dict[str, str]:
        """Header → value, in the small letters that gRPC asks for."""
        if self.token is None:
            return {}
        return {"authorization": self.token if " " in self.token else f"Bearer {self.token}"}

    def check_address(self, host: str, *, is_encrypted: bool) -> None:
        """Checks that a token is not sent where others can read it, and that certificates have an effect.

        Args:
            host: Name or number of the server.
            is_encrypted: Whether the connection uses TLS.

        Raises:
            InputError: If a token would be sent to another machine without TLS, or `ca_file` has no effect.
        """
        if is_encrypted:
            return
        if self.ca_file is not None:
            raise InputError("--server-ca has no effect without TLS. Name the server grpcs://... or https://...")
        if self.token is not None and not _is_this_machine(host):
            raise InputError(
                f"A token is not sent to {host} without encryption. Name the server grpcs://... or https://..., or "
                f"remove {TOKEN}."
            )


# Certificates that gRPC and requests bring, and no token.
ANONYMOUS = Access()


def read_access(ca_file: Path | None = None, token_file: Path | None = None) -> Access:
    """Returns the access that a command was given.

    Args:
        ca_file: As in `Access`.
        token_file: File of the token. Without it, the environment variable AFFECT_SERVER_TOKEN counts.

    Raises:
        InputError: As `Access`; if the file of the token cannot be read.
    """
    token = os.environ.get(TOKEN) or None
    if token_file is not None:
        try:
            token = token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--server-token-file: {token_file} could not be read: {error}") from error
    return Access(ca_file, token)


def fetch(
    method: str, url: str, access: Access, timeout_s: float, most_bytes: int, body: Any = None
) -> tuple[int, bytes]:
    """Sends one HTTP request. Neither time nor memory depends on what the server does.

    The request runs in a thread of its own, because the time-outs of Python's sockets begin again with every byte. When
    the time is over its connection is cut.

    Args:
        method: `"GET"` or `"POST"`.
        url: Address. No redirect is followed.
        access: Certificates and token.
        timeout_s: Longest time in seconds until the last byte of the answer.
        most_bytes: Size in bytes of the largest answer.
        body: Is sent as JSON.

    Returns:
        `(status, content)`.

    Raises:
        TimeoutError: If the answer is not complete in time.
        requests.RequestException: If the server cannot be reached, or what it sends is not HTTP.
        ValueError: If the answer is a redirect, compressed or too large.
    """
    adapter, answer = _Adapter(), Future()

    def ask():
        try:
            answer.set_result(_exchange(adapter, method, url, access, timeout_s, most_bytes, body))
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.result(timeout_s)
    except requests.Timeout as error:
        raise TimeoutError from error
    finally:
        adapter.cut()


class _Adapter(HTTPAdapter):
    """Keeps its sockets, because requests gives the connection away before the first header has come."""

    def __init__(self):
        super().__init__()
        self.sockets, self.is_cut = [], False

    def get_connection_with_tls_context(self, *args, **kwargs):
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        keep = self._keep

        class Connection(pool.ConnectionCls):  # type: ignore[name-defined]
            def connect(self):
                super().connect()
                keep(self.sock)

        pool.ConnectionCls = Connection
        return pool

    def _keep(self, connected):
        self.sockets.append(connected)
        if self.is_cut:
            self.cut()

    def cut(self):
        """Ends every connection, and those that are still being made."""
        self.is_cut = True
        for connected in self.sockets:
            with suppress(OSError):  # is closed already
                socket.socket.shutdown(connected, socket.SHUT_RDWR)  # without TLS's farewell, which may wait


def _exchange(adapter, method, url, access, timeout_s, most_bytes, body):
    with requests.Session() as session:
        session.mount(url, adapter)
        response = session.request(
            method,
            url,
            json=body,
            timeout=timeout_s,
            stream=True,
            allow_redirects=False,
            headers={"Accept-Encoding": "identity"},
            auth=lambda request: _authorise(request, access),  # so that no password of ~/.netrc is sent
            verify=True if access.ca_file is None else str(access.ca_file),
        )
        if 300 <= response.status_code < 400:
            raise ValueError(f"it sends to another address, {response.headers.get('location', '')[:200]!r}")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise ValueError("it is compressed, which was not asked for")
        content = bytearray()
        for chunk in response.iter_content(READ_BYTES):
            content += chunk
            if len(content) > most_bytes:
                raise ValueError(f"it is larger than {most_bytes / 2**20:g} MiB")
        return response.status_code, bytes(content)


def _authorise(request, access):
    request.headers.update(access.headers)
    return request


def _is_this_machine(host):
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

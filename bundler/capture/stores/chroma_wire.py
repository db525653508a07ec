"""One request to a Chroma server and its answer: bounded in bytes and in time, whatever the server sends.

Python's own client reads a chunk of length -1 up to the end of the memory, keeps a list of all chunks, skips
`100 Continue` for as long as they come, and counts time anew with every byte. So HTTP is read by h11, which does no
I/O, and this file holds the clock.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import h11

from bundler.patience import Passing
from bundler.registries.reach import reach

_BLOCK_BYTES = 1 << 18


class TooLong(Exception):
    """An answer is longer than it may be."""


@dataclass(frozen=True)
class Limits:
    """Of one answer: its bytes, how long nothing may come, and how long all of it may take (both in seconds)."""

    length_bytes: int
    silence_s: float
    whole_s: float


def exchange(
    url: str, method: str, path: str, headers: Mapping[str, str], body: bytes | None, limits: Limits
) -> tuple[int, bytes]:
    """Sends a request on a connection of its own; returns status and body of the answer.

    Args:
        url: Scheme, host and port.
        method: Of HTTP.
        path: Quoted.
        headers: Beside those of the connection.
        body: What is sent, or None.
        limits: Of the answer.

    Raises:
        TooLong: The answer is longer than the limit.
        TimeoutError: It does not come in time; in words.
        OSError: The server cannot be reached.
        SourceFailed: Nobody knows its name.
        h11.RemoteProtocolError: What came is not HTTP, or broke off.
    """
    until = time.monotonic() + limits.whole_s
    try:
        with _connected(url, min(limits.silence_s, limits.whole_s)) as connection:
            http = h11.Connection(our_role=h11.CLIENT)
            connection.sendall(_request(http, urlsplit(url).netloc, method, path, headers, body))
            return _answer(connection, http, limits, until)
    except TimeoutError:
        late_s = limits.whole_s if time.monotonic() >= until else limits.silence_s
        raise TimeoutError(f"no answer within {late_s:g} s") from None


def _connected(url: str, timeout_s: float) -> socket.socket:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        connection = reach(host, port, timeout_s, socket.create_connection, OSError)
    except Passing as fault:
        raise OSError(fault.fact) from fault
    connection.settimeout(timeout_s)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if parts.scheme != "https":
        return connection
    try:
        return ssl.create_default_context().wrap_socket(connection, server_hostname=host)
    except BaseException:
        connection.close()
        raise


def _request(
    http: h11.Connection, host: str, method: str, path: str, headers: Mapping[str, str], body: bytes | None
) -> bytes:
    own = {"Host": host, "Accept-Encoding": "identity", "Connection": "close"}
    length = {} if body is None else {"Content-Length": str(len(body))}
    head = h11.Request(method=method, target=path, headers=list({**own, **length, **headers}.items()))
    events: list[h11.Event] = [head, *([h11.Data(data=body)] if body else []), h11.EndOfMessage()]
    return b"".join(http.send(event) or b"" for event in events)


def _answer(connection: socket.socket, http: h11.Connection, limits: Limits, until: float) -> tuple[int, bytes]:
    status, data = 0, bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(_received(connection, limits, until))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            data += event.data
            if len(data) > limits.length_bytes:
                raise TooLong(f"the answer is longer than {limits.length_bytes} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return status, bytes(data)


def _received(connection: socket.socket, limits: Limits, until: float) -> bytes:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(min(left, limits.silence_s))
    return connection.recv(_BLOCK_BYTES)

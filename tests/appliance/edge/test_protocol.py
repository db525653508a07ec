"""Strangers hold no connection: headers must come in time and within their size."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from appliance.app import serve
from appliance.edge import protocol
from appliance.edge.limits import HEADER_BYTES_MAX

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    while scope["path"] != "/early" and (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def answer(client: socket.socket) -> bytes:
    """Reads until the body of `hello` has come, or the end."""
    found = b""
    while not found.endswith(b"ok") and (part := client.recv(1000)):
        found += part
    return found


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(protocol, "HEADERS_S", 0.3)
    listener = socket.create_server(("127.0.0.1", 0))
    servers: list[uvicorn.Server] = []
    thread = threading.Thread(target=lambda: asyncio.run(serve(hello, listener, on_ready=servers.append)))
    thread.start()
    yield listener.getsockname()
    servers[0].should_exit = True
    thread.join(30)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_unfinished_headers_end_the_connection(address: tuple[str, int], sent: bytes) -> None:
    """Also one that never sent a byte; nothing is answered."""
    with socket.create_connection(address, 20) as client:
        client.sendall(sent)
        assert client.recv(100) == b""


def test_a_second_request_may_come_later_and_must_then_be_finished(address: tuple[str, int]) -> None:
    """The limit counts from the first byte of each request, not from the last answer."""
    with socket.create_connection(address, 20) as client:
        client.sendall(REQUEST)
        assert answer(client).endswith(b"ok")
        threading.Event().wait(0.5)
        client.sendall(REQUEST)
        assert answer(client).endswith(b"ok")
        client.sendall(b"GET / HTTP")
        assert client.recv(100) == b""


@pytest.mark.parametrize("rest", [b"\r\n", b"x" * 3])
def test_bytes_that_begin_no_request_hold_no_connection(address: tuple[str, int], rest: bytes) -> None:
    """Empty lines, and the rest of a body whose request was answered without it."""
    head = b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n" if rest.strip() else REQUEST
    with socket.create_connection(address, 20) as client:
        client.sendall(head)
        assert answer(client).endswith(b"ok")
        client.sendall(rest)
        assert client.recv(100) == b""


def test_after_the_rest_of_a_body_the_next_request_is_answered(address: tuple[str, int]) -> None:
    """Its time is its own."""
    with socket.create_connection(address, 20) as client:
        client.sendall(b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n")
        assert answer(client).endswith(b"ok")
        client.sendall(b"xxx")
        client.sendall(REQUEST)
        assert answer(client).endswith(b"ok")
        threading.Event().wait(0.5)
        client.sendall(REQUEST)
        assert answer(client).endswith(b"ok")


def test_endless_headers_are_cut(address: tuple[str, int]) -> None:
    """One header line that does not end takes no memory beyond the limit."""
    with socket.create_connection(address, 20) as client:
        client.sendall(b"GET / HTTP/1.1\r\nX-Long: " + b"a" * (HEADER_BYTES_MAX + 1))
        assert client.recv(100).startswith(b"HTTP/1.1 400")


def test_a_long_body_after_short_headers_is_no_header(address: tuple[str, int]) -> None:
    """What follows the headers counts by the limits of bodies."""
    body = b"b" * (4 * HEADER_BYTES_MAX)
    with socket.create_connection(address, 20) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert answer(client).endswith(b"ok")

"""Strangers hold no connection: headers must come in time and within their size."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from appliance.app import serve
from appliance.edge import protocol
from appliance.edge.limits import HEADER_BYTES_MAX
from appliance.edge.server import Server

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    while scope["path"] not in ("/early", "/last") and (await receive()).get("more_body"):
        pass
    last = [(b"connection", b"close")] if scope["path"] == "/last" else []
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2"), *last]})
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


def test_a_last_answer_before_the_body_is_no_reset(address: tuple[str, int]) -> None:
    """The client may send all of the body, finds the answer, and then the end of the connection."""
    body = b"b" * (64 * HEADER_BYTES_MAX)
    with socket.create_connection(address, 20) as client:
        client.sendall(b"POST /last HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
        threading.Event().wait(0.1)
        client.sendall(body)
        assert answer(client).endswith(b"ok")
        assert client.recv(100) == b""


def test_a_body_that_does_not_end_holds_no_connection(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last answer it has a short time left."""
    monkeypatch.setattr(protocol, "LINGER_S", 0.3)
    with socket.create_connection(address, 20) as client:
        client.sendall(b"POST /last HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nbbb")
        assert answer(client).endswith(b"ok")
        assert client.recv(100) == b""


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


def test_an_ignored_signal_stops_no_server() -> None:
    """Where a supervisor says when to stop, a Ctrl-C of the terminal that reaches this process too is no word of it."""

    async def served_through_a_signal() -> bool:
        listener = socket.create_server(("127.0.0.1", 0))
        servers: list[Server] = []
        serving = asyncio.create_task(serve(hello, listener, on_ready=servers.append))
        with await asyncio.to_thread(socket.create_connection, listener.getsockname(), 20) as client:
            client.sendall(REQUEST)
            await asyncio.to_thread(answer, client)
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0.2)
        stood = not servers[0].should_exit
        servers[0].stop()
        await serving
        return stood

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert asyncio.run(served_through_a_signal())
    finally:
        signal.signal(signal.SIGINT, before)

"""One answer of a server that means harm: it ends, in time and in little memory, with what is wrong."""

from __future__ import annotations

import socket
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, repeat

import h11
import pytest

from bundler.capture.stores.chroma_wire import Limits, TooLong, exchange
from bundler.format.limits import MIB

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n"
LIMITS = Limits(MIB // 4, 30, 120)


@contextmanager
def sending(pieces: Iterator[bytes], pause_s: float = 0.0) -> Iterator[str]:
    """A server that sends what it is told to whoever asks, until that one hangs up."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                connection.recv(65_536)
                for piece in pieces:
                    connection.sendall(piece)
                    if ended.wait(pause_s) or ended.is_set():
                        return

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        ended.set()
        thread.join(10)


def ask(url: str, limits: Limits = LIMITS, body: bytes | None = None) -> tuple[int, bytes]:
    return exchange(url, "GET" if body is None else "POST", "/api/v2/version", {}, body, limits)


@pytest.mark.parametrize(
    ("first", "again", "error", "match"),
    [
        (CHUNKED, b"10000\r\n" + b"a" * 65_536 + b"\r\n", TooLong, "longer than"),
        (CHUNKED, b"2\r\nab\r\n" * 10_000, TooLong, "longer than"),
        (CHUNKED + b"-1\r\n", b"a" * MIB, h11.RemoteProtocolError, "chunk"),
        (CHUNKED + b"0\r\n", b"X-A: aaaa\r\n" * 1_000, h11.RemoteProtocolError, "too long"),
        (LENGTH, b"a" * MIB, TooLong, "longer than"),
        (b"", b"A" * MIB, h11.RemoteProtocolError, "too long"),
        (b"HTTP/1.1 200 OK\r\n", b"X-A: " + b"a" * 60_000 + b"\r\n", h11.RemoteProtocolError, "too long"),
    ],
    ids=["chunks", "tiny chunks", "chunk of -1", "trailers", "10 GB", "first line", "headers"],
)
def test_what_never_ends_is_ended(first: bytes, again: bytes, error: type[Exception], match: str) -> None:
    """In memory for little more than what is allowed, whatever shape it has."""
    tracemalloc.start()
    try:
        with sending(chain([first], repeat(again))) as url, pytest.raises(error, match=match):
            ask(url)
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "piece",
    [b"HTTP/1.1 100 Continue\r\n\r\n", b"X"],
    ids=["100 continue", "a byte at a time"],
)
def test_the_clock_is_of_the_whole_answer(piece: bytes) -> None:
    """A byte now and then does not make it begin anew."""
    late = Limits(MIB, 5, 0.5)
    head = b"" if piece[:1] == b"H" else b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
    with sending(chain([head], repeat(piece)), 0.02) as url, pytest.raises(TimeoutError, match=r"within 0\.5 s"):
        ask(url, late)


def test_silence_is_shorter_than_the_whole() -> None:
    """A long answer may take its time, and one that stops may not."""
    with sending(iter([LENGTH, b"a"]), 60) as url, pytest.raises(TimeoutError, match=r"within 0\.3 s"):
        ask(url, Limits(MIB, 0.3, 60))


def test_an_honest_answer_comes_whole() -> None:
    """In chunks, after a note that it is being worked on; the request had a body."""
    pieces = [b"HTTP/1.1 103 Early\r\n\r\n", CHUNKED, b"3\r\n1.0\r\n", b"2\r\n.0\r\n0\r\n\r\n"]
    with sending(iter(pieces)) as url:
        assert ask(url, body=b"{}") == (200, b"1.0.0")

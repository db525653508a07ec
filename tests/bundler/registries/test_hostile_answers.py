"""A registry whose answers have no end, no pace or no sense: bounded in bytes and in time, whatever comes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from bundler.format.errors import SourceFailed
from bundler.patience import Passing
from bundler.registries import wire
from bundler.registries.wire import Wire

Serve = Callable[[socket.socket], None]
OK, CHUNKED = b"HTTP/1.1 200 OK\r\n", b"Transfer-Encoding: chunked\r\n\r\n"
MIB = 1 << 20


@pytest.fixture
def served() -> Iterator[Callable[[Serve], str]]:
    """Lets every connection be served so after its request; returns host and port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve(connection: socket.socket, answer: Serve) -> None:
            with connection, suppress(OSError):
                connection.settimeout(10)
                connection.recv(65_536)
                answer(connection)

        def accept(answer: Serve) -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return  # the test is over
                threading.Thread(target=serve, args=(connection, answer), daemon=True).start()

        def start(answer: Serve) -> str:
            threading.Thread(target=accept, args=(answer,), daemon=True).start()
            return f"127.0.0.1:{listening.getsockname()[1]}"

        yield start
        listening.shutdown(socket.SHUT_RDWR)


def _endless(head: bytes, part: bytes, most_bytes: int = 256 * MIB) -> Serve:
    """Sends a head and then the same for as long as it is taken; it ends so that a test that fails ends as well."""
    block = part * (65_536 // len(part) + 1)

    def serve(connection: socket.socket) -> None:
        connection.sendall(head)
        for _ in range(most_bytes // len(block)):
            connection.sendall(block)

    return serve


def _dripping(head: bytes, part: bytes) -> Serve:
    """The same, so slowly that nothing is silent for long; for twenty seconds."""

    def serve(connection: socket.socket) -> None:
        connection.sendall(head)
        for _ in range(200):
            connection.sendall(part)
            time.sleep(0.1)

    return serve


def _body(host: str, limit: int, within_s: float = 10.0) -> bytes:
    with closing(Wire(f"http://{host}", None, ())) as asked, asked.send("GET", "/v2/") as answer:
        return answer.body(limit, within_s)


def _rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize(
    ("head", "part", "why"),
    [
        (OK + CHUNKED + b"-1\r\n", b"a", "a length below nothing"),
        (OK + CHUNKED, b"1\r\na\r\n", "more comes than belongs to the answer"),
        (OK + CHUNKED + b"1\r\na\r\n0\r\n", b"a: b\r\n", "more comes than belongs to the answer"),
        (OK + CHUNKED, b"0", "chunk size"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "more comes than belongs to the answer"),
        (OK, b"a: b\r\n", "100 headers"),
    ],
    ids=["below-nothing", "tiny-chunks", "trailers", "long-length", "continue", "headers"],
)
def test_an_answer_without_an_end(served: Callable[[Serve], str], head: bytes, part: bytes, why: str) -> None:
    """It is left as a connection that broke, and the memory stays as it was."""
    before = _rss_bytes()
    with pytest.raises(Passing, match=why):
        _body(served(_endless(head, part)), 100_000)
    assert _rss_bytes() - before < 32 * MIB


@pytest.mark.parametrize("head", [OK + b"\r\n", OK + b"Content-Length: 99999999999\r\n\r\n"])
def test_a_small_answer_that_is_large(served: Callable[[Serve], str], head: bytes) -> None:
    """With its length or without: refused after the bytes that it may have."""
    with pytest.raises(SourceFailed, match="more than 100000 bytes where less is due"):
        _body(served(_endless(head, b"a")), 100_000)


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (OK + b"Content-Length: 9999\r\n\r\n", b"a"),
        (OK + CHUNKED, b"1\r\na\r\n"),
        (OK + CHUNKED + b"0\r\n", b"a: b\r\n"),
    ],
    ids=["length", "chunks", "trailers"],
)
def test_a_body_that_drips(served: Callable[[Serve], str], head: bytes, part: bytes) -> None:
    """The time of a small answer is that of all of it, not of a byte."""
    with pytest.raises(Passing, match=r"not whole within 0\.5 s"):
        _body(served(_dripping(head, part)), 100_000, within_s=0.5)


@pytest.mark.parametrize("part", [b"a", b"HTTP/1.1 100 Continue\r\n\r\n"], ids=["line", "continue"])
def test_a_head_that_drips(served: Callable[[Serve], str], monkeypatch: pytest.MonkeyPatch, part: bytes) -> None:
    """What comes before an answer has the time of a silence."""
    monkeypatch.setattr(wire, "READ_S", 0.5)
    with pytest.raises(Passing, match=r"not whole within 0\.5 s"):
        _body(served(_dripping(b"", part)), 100)


def test_the_word_of_an_error_that_drips(served: Callable[[Serve], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The status counts without it."""
    monkeypatch.setattr(wire, "WORD_S", 0.3)
    with pytest.raises(Passing, match=r"it answers 500$"):
        _body(served(_dripping(b"HTTP/1.1 500 X\r\nContent-Length: 8000\r\n\r\n", b"a")), 100)


def test_a_token_service_without_an_end(served: Callable[[Serve], str]) -> None:
    """What a registry names for its tokens is held to the same."""
    service = served(_endless(OK + CHUNKED + b"-1\r\n", b"a"))
    challenge = f'WWW-Authenticate: Bearer realm="http://{service}/token"\r\n'.encode()
    with socket.create_server(("127.0.0.1", 0)) as registry:

        def refuse() -> None:
            connection, _ = registry.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n" + challenge + b"\r\n")

        threading.Thread(target=refuse, daemon=True).start()
        with pytest.raises(Passing, match="a length below nothing"):
            _body(f"127.0.0.1:{registry.getsockname()[1]}", 100)


@pytest.mark.parametrize(
    ("head", "part", "why"),
    [
        (OK + CHUNKED + b"-1\r\n", b"a", "a length below nothing"),
        (OK + CHUNKED + b"100000\r\n" + b"a" * MIB + b"\r\n0\r\n", b"a: b\r\n", "more comes than belongs"),
    ],
    ids=["below-nothing", "trailers"],
)
def test_a_blob_without_an_end(served: Callable[[Serve], str], head: bytes, part: bytes, why: str) -> None:
    """A stream of any length holds no more than a block."""
    before = _rss_bytes()
    host = served(_endless(head, part))
    with closing(Wire(f"http://{host}", None, ())) as asked, asked.send("GET", "/") as answer:
        with pytest.raises(Passing, match=why):
            assert list(answer.blocks())
        assert _rss_bytes() - before < 32 * MIB


def test_a_blob_that_falls_silent(served: Callable[[Serve], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may come for so long, however long the whole takes."""
    monkeypatch.setattr(wire, "READ_S", 0.5)

    def serve(connection: socket.socket) -> None:
        connection.sendall(OK + b"Content-Length: 9\r\n\r\na")
        connection.recv(1)  # until the other side goes

    with (
        closing(Wire(f"http://{served(serve)}", None, ())) as asked,
        asked.send("GET", "/") as answer,
        pytest.raises(Passing, match="nothing came for too long"),
    ):
        list(answer.blocks())


@pytest.mark.parametrize("size", [64, 4_096])
def test_a_blob_in_small_chunks_comes_whole(served: Callable[[Serve], str], size: int) -> None:
    """Honest chunks, small ones too, are no fault; nor is a kept connection."""
    chunk = b"%x\r\n" % size + b"a" * size + b"\r\n"
    whole = OK + CHUNKED + chunk * (3 * MIB // size) + b"0\r\n\r\n"

    def serve(connection: socket.socket) -> None:
        connection.sendall(whole)
        connection.recv(65_536)
        connection.sendall(OK + b"Content-Length: 2\r\n\r\nok")

    with closing(Wire(f"http://{served(serve)}", None, ())) as asked:
        with asked.send("GET", "/") as answer:
            assert b"".join(answer.blocks()) == b"a" * 3 * MIB
        with asked.send("GET", "/") as answer:
            assert answer.body(2) == b"ok"


def test_a_proxy_without_an_end(served: Callable[[Serve], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands before a registry is held as well."""
    host = served(_endless(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"))
    monkeypatch.setenv("https_proxy", f"http://lena:s3cret@{host}")
    with (
        closing(Wire("https://registry.test", None, ())) as asked,
        pytest.raises(Passing, match=r"more comes than belongs|100 headers") as failed,
        asked.send("GET", "/v2/"),
    ):
        pass
    assert "s3cret" not in failed.value.fact


def test_a_refused_connection_names_who_refused_it() -> None:
    """Host and port are in the line: the name that was asked for may be another than was meant."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: it refuses
        port = nobody.getsockname()[1]
        with (
            closing(Wire(f"http://127.0.0.1:{port}", None, ())) as asked,
            pytest.raises(Passing, match=rf"^127\.0\.0\.1:{port}: NewConnectionError.*refused"),
            asked.send("GET", "/v2/"),
        ):
            pass

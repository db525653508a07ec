"""A front on loopback before a real registry: hands every request on, notes it with its bytes, breaks some on purpose.

A fault is a function of the request that returns None (hand it on), an `Answer` or an `Endless` one (the registry is
not asked), or a `Cut` (the connection ends after so many bytes of the body, on the way in or out).
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BLOCK_BYTES = 1 << 16
NOT_HANDED_ON = ("connection", "transfer-encoding", "keep-alive", "content-length")


@dataclass
class Seen:
    """A request: bytes of the bodies that went to the registry and came back, 0 as status where it was cut off.

    `ended` tells that the front has done with it.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    status: int = 0
    up_bytes: int = 0
    down_bytes: int = 0
    ended: bool = False


@dataclass(frozen=True)
class Answer:
    """What the front says in the registry's place."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Cut:
    """Ends the connection after so many bytes of the request's body, or of the answer's, None for never."""

    up_bytes: int | None = None
    down_bytes: int | None = None


@dataclass(frozen=True)
class Endless:
    """Sends zeros until the client leaves, `most_bytes` at most; it declares `length_bytes`, None for nothing."""

    most_bytes: int
    length_bytes: int | None = None


Fault = Callable[[Seen], Answer | Endless | Cut | None]


class _CutOff(Exception):
    """The front hangs up, as planned."""


class Front:
    """The front itself: `host`, `seen`, `fault`, and `watch`, which is told of every block; both may be set any time.

    Args:
        port: The registry's, on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self.upstream_port = port
        self.seen: list[Seen] = []
        self.fault: Fault | None = None
        self.watch: Callable[[Seen], None] | None = None
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.front = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def host(self) -> str:
        """Host and port, as a reference names them."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def reset(self) -> None:
        """Forgets what was seen, the fault, and who watches."""
        self.seen.clear()
        self.fault = self.watch = None

    def up_bytes(self) -> int:
        """Bytes of bodies that were sent to the registry."""
        return sum(seen.up_bytes for seen in self.seen)

    def down_bytes(self) -> int:
        """Bytes of bodies that the registry sent."""
        return sum(seen.down_bytes for seen in self.seen)

    def asked(self, method: str, part: str = "") -> list[Seen]:
        """The requests of a method whose path holds `part`."""
        return [seen for seen in self.seen if seen.method == method and part in seen.path]

    def __enter__(self) -> Front:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    front: Front

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves in mid-request is what tests do; the front says nothing of it."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Nothing: `Front.seen` tells."""

    def _handle(self) -> None:
        front = self.server.front
        seen = Seen(self.command, self.path, {name.lower(): value for name, value in self.headers.items()})
        front.seen.append(seen)
        planned = front.fault(seen) if front.fault else None
        try:
            if isinstance(planned, Answer):
                self._answer(seen, planned)
            elif isinstance(planned, Endless):
                self._pour(seen, planned)
            else:
                self._hand_on(seen, planned or Cut())
        except (_CutOff, OSError, http.client.HTTPException):
            self.close_connection = True
            with suppress(OSError):  # the peer may have left first
                self.connection.shutdown(2)
        finally:
            seen.ended = True

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815 - names of http.server

    def _answer(self, seen: Seen, answer: Answer) -> None:
        for _ in self._body():
            pass  # read to its end, or the next request would begin in it
        seen.status = answer.status
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
            seen.down_bytes += len(answer.body)

    def _pour(self, seen: Seen, endless: Endless) -> None:
        seen.status = 200
        self.send_response(200)
        self.send_header("Connection", "close")
        if endless.length_bytes is not None:
            self.send_header("Content-Length", str(endless.length_bytes))
        self.end_headers()
        while seen.down_bytes < endless.most_bytes:
            self.wfile.write(bytes(BLOCK_BYTES))
            seen.down_bytes += BLOCK_BYTES
            self._tell(seen)
        raise _CutOff

    def _hand_on(self, seen: Seen, cut: Cut) -> None:
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.front.upstream_port, timeout=120)
        try:
            names = dict.fromkeys(name for name in self.headers if name.lower() not in NOT_HANDED_ON)
            # A client may say `Accept` once for each kind that it takes (RFC 9110, 5.3).
            headers = {name: ", ".join(self.headers.get_all(name, [])) for name in names}
            length, chunked = self.headers.get("Content-Length"), self._is_chunked()
            if length is not None:
                headers["Content-Length"] = length
            body = self._counted(seen, cut.up_bytes) if length or chunked else None
            upstream.request(self.command, self.path, body=body, headers=headers, encode_chunked=chunked)
            self._pass_back(seen, upstream.getresponse(), cut.down_bytes)
        finally:
            upstream.close()

    def _pass_back(self, seen: Seen, answer: http.client.HTTPResponse, cut: int | None) -> None:
        seen.status = answer.status
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in NOT_HANDED_ON:
                self.send_header(name, value)
        length = answer.getheader("Content-Length")
        if length is None:
            self.close_connection = True
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", length)
        self.end_headers()
        while block := answer.read(BLOCK_BYTES if cut is None else min(BLOCK_BYTES, cut - seen.down_bytes)):
            self.wfile.write(block)
            seen.down_bytes += len(block)
            self._tell(seen)
            if cut is not None and seen.down_bytes >= cut:
                raise _CutOff

    def _tell(self, seen: Seen) -> None:
        watch = self.server.front.watch
        if watch is not None:
            watch(seen)

    def _counted(self, seen: Seen, cut: int | None) -> Iterator[bytes]:
        for block in self._body():
            kept = block if cut is None else block[: cut - seen.up_bytes]
            seen.up_bytes += len(kept)
            self._tell(seen)
            yield kept
            if cut is not None and seen.up_bytes >= cut:
                raise _CutOff

    def _is_chunked(self) -> bool:
        return self.headers.get("Transfer-Encoding", "").lower() == "chunked"

    def _body(self) -> Iterator[bytes]:
        if self._is_chunked():
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield from self._blocks(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            yield from self._blocks(int(self.headers.get("Content-Length") or 0))

    def _blocks(self, left: int) -> Iterator[bytes]:
        while left:
            block = self.rfile.read1(min(left, BLOCK_BYTES))
            if not block:
                raise _CutOff
            left -= len(block)
            yield block

"""What no proxy and no server may read in two ways: such a request is refused, and nothing after it is served."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

BODY = b'{"messages": [{"role": "user", "content": "hello"}]}'
SECRET = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


def _head(token: str, *more: bytes) -> bytes:
    lines = [b"POST /v1/chat/completions HTTP/1.1", b"Host: localhost", f"Authorization: Bearer {token}".encode()]
    return b"\r\n".join([*lines, b"Content-Type: application/json", *more, b"", b""])


def _said(url: str, data: bytes) -> bytes:
    """Sends bytes and returns everything that comes until the box closes, or a second of silence."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=1) as client:
        client.sendall(data)
        said = b""
        try:
            while data := client.recv(2**16):
                said += data
        except (TimeoutError, ConnectionResetError):
            pass  # the box waits for more, or has hung up: what it said is what counts
        return said


@contextmanager
def no_look_ups() -> Iterator[list[object]]:
    """Takes down the host of every name look-up and connection of this process."""
    looked: list[object] = []
    real, connect = socket.getaddrinfo, socket.socket.connect

    def noted(host: Any, *more: Any, **options: Any) -> Any:
        looked.append(host.decode() if isinstance(host, bytes) else host)
        return real(host, *more, **options)

    def connected(self: socket.socket, address: Any) -> None:
        looked.append(address[0] if isinstance(address, tuple) else None)
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", noted)
        patch.setattr(socket.socket, "connect", connected)
        yield looked


def _statuses(said: bytes) -> list[int]:
    return [int(part[:3]) for part in said.split(b"HTTP/1.1 ")[1:]]


LENGTH = b"Content-Length: %d" % len(BODY)
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


@pytest.mark.parametrize(
    ("more", "body"),
    [
        ((LENGTH, b"Transfer-Encoding: chunked"), b"0\r\n\r\n"),
        ((b"Transfer-Encoding: chunked", LENGTH), CHUNKED),
        ((LENGTH, b"Content-Length: 3"), BODY),
        ((b"Content-Length: 3, %d" % len(BODY),), BODY),
        ((b"Content-Length: +%d" % len(BODY),), BODY),
        ((b"Content-Length: 0x34",), BODY),
        ((b"Content-Length : %d" % len(BODY),), BODY),
        ((b"Transfer-Encoding: xchunked",), CHUNKED),
        ((b"Transfer-Encoding: chunked, identity",), CHUNKED),
        ((b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"), CHUNKED),
        ((LENGTH, b"X-Note: one\r\n two"), BODY),
        ((LENGTH, b" X-Note: folded"), BODY),
        ((LENGTH, b"X-Note: a\rb"), BODY),
        ((LENGTH, b"X-Note: a\x00b"), BODY),
        ((LENGTH, b"X-No\x01te: a"), BODY),
        ((LENGTH, b"X Note: a"), BODY),
        ((LENGTH, b"Transfer-Encoding:\x0bchunked"), CHUNKED),
        ((LENGTH, b"Transfer-Encoding\x00: chunked"), CHUNKED),
        ((LENGTH, b"Content-Length: %d" % (len(BODY) + len(SECRET))), BODY),
        ((b"Content-Length: -1",), BODY),
        ((b"Content-Length: 99999999999999999999",), BODY),
        ((b"Content-Length: ",), BODY),
        ((LENGTH, b": nameless"), BODY),
        ((b"Transfer-Encoding: chunked",), b"-1\r\n" + BODY),
        ((b"Transfer-Encoding: chunked",), b"ffffffffffffffffff\r\n" + BODY),
        ((b"Transfer-Encoding: chunked",), b"%x\r\n%sXX0\r\n\r\n" % (len(BODY), BODY)),
        ((b"Transfer-Encoding: chunked",), b"%x;\nx\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
        ((b"Transfer-Encoding: chunked",), b"0x34\r\n" + BODY + b"\r\n0\r\n\r\n"),
    ],
)
def test_a_request_that_reads_in_two_ways_is_refused(world: Any, more: tuple[bytes, ...], body: bytes) -> None:
    """One 400 or nothing; no provider is asked; what follows on the connection is not taken for a request."""
    statuses = _statuses(_said(world.url, _head(world.token, *more) + body + SECRET))
    assert statuses in ([], [400])
    assert world.cloud.asked == []


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"Host: evil.example", 403),
        (b"Host: evil.example\r\nX-Forwarded-Host: localhost", 403),
        (b"Host: localhost:80@evil.example", 403),
        (b"Host: localhost\r\nOrigin: http://evil.example", 403),
        (b"Host: localhost\r\nOrigin: null", 403),
        (b"X-Nothing: there is no Host", 400),
        (b"Host: evil.example\r\nHost: localhost", 400),
        (b"Host: localhost\r\nHost: evil.example", 400),
    ],
)
def test_a_page_that_another_name_points_here_gets_nothing(world: Any, line: bytes, status: int) -> None:
    """A browser whose name was rebound to this box says that name in Host (DNS rebinding); two Hosts are none."""
    request = b"GET /v1/models HTTP/1.1\r\n" + line + f"\r\nAuthorization: Bearer {world.token}\r\n\r\n".encode()
    assert _statuses(_said(world.url, request)) == [status]


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/status", "/status.json", "/app.js", "/ca.crt", "/health/live", "/health/ready", "/metrics"),
        *("/v1/events", "/v1/models", "/v1/chat/completions", "/v1/messages", "/nothing"),
    ],
)
def test_no_path_answers_under_another_name(world: Any, path: str) -> None:
    """Neither pages nor what needs no token: a page that was rebound here learns nothing of the box."""
    for line in (b"Host: evil.example", b"Host: 169.254.169.254.evil.example", b"Host: localhost.evil.example:80"):
        rest = f"\r\nConnection: close\r\nAuthorization: Bearer {world.token}\r\n\r\n".encode()
        request = f"GET {path} HTTP/1.1\r\n".encode() + line + rest
        said = _said(world.url, request)
        assert _statuses(said) in ([403], [404], [405])
        assert b"lifeboat" not in said.lower()


@pytest.mark.parametrize(
    "line",
    [
        b"GET /health/live\x00 HTTP/1.1",
        b"GET /health/live\x01x HTTP/1.1",
        b"GET /health/live HTTP/1.1 x",
        b"GET\t/health/live\tHTTP/1.1",
        b"G\x00T /health/live HTTP/1.1",
        b"GET /health/live HTTP/9.9",
        b"GET /health/live HTTP/1.1\r",
        b" GET /health/live HTTP/1.1",
        b"PRI * HTTP/2.0",
    ],
)
def test_a_request_line_that_is_none_is_refused(world: Any, line: bytes) -> None:
    """One 400 or nothing, and the connection ends: what follows is not served."""
    assert _statuses(_said(world.url, line + b"\r\nHost: localhost\r\n\r\n" + SECRET)) in ([], [400], [404])


@pytest.mark.parametrize(
    "more",
    [
        b"X-Long: " + b"x" * 70_000,
        b"X-" + b"n" * 70_000 + b": x",
        b"\r\n".join(b"X-%d: y" % number for number in range(9_000)),
        b"Cookie: " + b"a=b; " * 14_000,
    ],
)
def test_headers_beyond_the_limit_are_cut(world: Any, more: bytes) -> None:
    """431, or the connection ends; no provider is asked."""
    statuses = _statuses(_said(world.url, _head(world.token, LENGTH, more) + BODY))
    assert statuses in ([], [400], [431])
    assert world.cloud.asked == []


def test_trailers_of_a_body_are_no_headers(world: Any) -> None:
    """What comes after the last chunk changes neither who asks nor what is next."""
    trailer = f"Authorization: Bearer {world.token}\r\nHost: evil.example".encode()
    body = b"%x\r\n%s\r\n0\r\n%s\r\n\r\n" % (len(BODY), BODY, trailer)
    said = _said(world.url, _head("lb_wrong", b"Connection: close", b"Transfer-Encoding: chunked") + body)
    assert _statuses(said) == [401]
    assert world.cloud.asked == []


METADATA = ("http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "http://metadata.google.internal/")


@pytest.mark.parametrize("url", [*METADATA, "file:///etc/passwd", "gopher://127.0.0.1:6379/_x", "unix:///run/x.sock"])
def test_an_address_in_a_request_is_text(world: Any, url: str) -> None:
    """Wherever it stands: it reaches the provider as the caller wrote it, and this box connects to nobody for it."""
    image = {"type": "image_url", "image_url": {"url": url}}
    content = [{"type": "text", "text": url}, image]
    body = {"messages": [{"role": "user", "content": content}], "user": url, "metadata": {"url": url}}
    options = {"base_url": url, "api_base": url, "proxy": url, "tools": [], "store": False}
    headers = {
        "X-Forwarded-Host": url,
        "X-Original-URL": url,
        "Referer": url,
        "X-Custom-Host": url,
        "Forwarded": f"for={url}",
    }
    with no_look_ups() as looked:
        reply = world.http.post("/v1/chat/completions", json=body | options, headers=headers)
    assert reply.json()["lifeboat"]["rung"] == "alpha"
    assert world.cloud.asked[0]["messages"][0]["content"] == content
    assert not [name for name in looked if name not in (None, "127.0.0.1", "localhost")]
    assert not [value for value in world.cloud.headers[0].values() if url in value]


def test_an_address_in_the_request_line_is_a_path(world: Any) -> None:
    """The box is nobody's proxy: what stands before the path leads nowhere, and no tunnel is opened."""
    trap = world.cloud.url.encode()
    head = b" HTTP/1.1\r\nHost: localhost\r\n" + f"Authorization: Bearer {world.token}\r\n\r\n".encode()
    _said(world.url, b"GET " + trap + b"/models" + head)
    _said(world.url, b"CONNECT " + trap.removeprefix(b"http://").removesuffix(b"/v1") + head)
    assert world.cloud.asked == []

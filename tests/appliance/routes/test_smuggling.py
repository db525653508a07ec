"""What no proxy and no server may read in two ways: such a request is refused, and nothing after it is served."""

from __future__ import annotations

import socket
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


def test_an_address_in_the_request_line_is_a_path(world: Any) -> None:
    """The box is nobody's proxy: what stands before the path leads nowhere, and no tunnel is opened."""
    trap = world.cloud.url.encode()
    head = b" HTTP/1.1\r\nHost: localhost\r\n" + f"Authorization: Bearer {world.token}\r\n\r\n".encode()
    _said(world.url, b"GET " + trap + b"/models" + head)
    _said(world.url, b"CONNECT " + trap.removeprefix(b"http://").removesuffix(b"/v1") + head)
    assert world.cloud.asked == []

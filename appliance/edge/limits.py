"""Limits of the edge: header bytes, connections, idle time. Body size and time are enforced where the body is read."""

from __future__ import annotations

from collections.abc import Iterable

HEADER_BYTES_MAX = 32 * 2**10
HEADERS_S = 10
KEEP_ALIVE_S = 30
# Every connection costs memory before it has shown a token.
CONNECTIONS_MAX = 512
SHUTDOWN_S = 30
# How long the rest of a request is read whose answer was the connection's last.
LINGER_S = 2
# How much of an answer is put together before it is written.
PACKET_BYTES = 64 * 2**10


def header_bytes(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Returns the size of the request's headers as ASGI gives them."""
    return sum(len(name) + len(value) for name, value in headers)

"""What an answer writes reaches its client whole and in order, however it is put together into packets."""

from __future__ import annotations

import asyncio
import http.client
import random
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from appliance.edge.limits import PACKET_BYTES

LONG = 12 * PACKET_BYTES


def pieces(number: int) -> list[bytes]:
    """Returns what request `number` is answered with: from nothing to far more than a packet, in uneven pieces."""
    rest, found = random.Random(number), list[bytes]()
    for _ in range(rest.randrange(40)):
        found.append(rest.randbytes(rest.choice((1, 30, 3_000, PACKET_BYTES - 1, PACKET_BYTES))))
    return found


async def app(scope: Any, receive: Any, send: Any) -> None:
    number = int(scope["path"][1:])
    parts, chance = pieces(number), random.Random(-number)
    size = [(b"content-length", str(sum(map(len, parts))).encode())] if number % 2 else []
    await send({"type": "http.response.start", "status": 200, "headers": size})
    for part in parts:
        await send({"type": "http.response.body", "body": part, "more_body": True})
        if chance.random() < 0.3:
            await asyncio.sleep(chance.choice((0.0, 0.002)))
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@pytest.fixture
def address(served: Callable[[Any], tuple[str, int]]) -> tuple[str, int]:
    return served(app)


class Fed:
    """A socket whose bytes `http.client` reads answer after answer."""

    def __init__(self, client: socket.socket) -> None:
        self._file = client.makefile("rb")

    def makefile(self, *_: Any, **__: Any) -> Any:
        return _Kept(self._file)


class _Kept:
    """A file that closing an answer leaves open for the next one."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def close(self) -> None:
        """The next answer comes from the same bytes."""

    def flush(self) -> None:
        """Nothing is written here."""


def answers(client: socket.socket, numbers: range) -> Iterator[bytes]:
    fed = Fed(client)
    for _ in numbers:
        answer = http.client.HTTPResponse(fed)  # type: ignore[arg-type]  # all that it needs of a socket
        answer.begin()
        yield answer.read()


@pytest.mark.parametrize("first", [0, 100, 200])
def test_requests_ahead_of_their_answers_get_them_in_order(address: tuple[str, int], first: int) -> None:
    """Twenty at once on one connection, streamed and whole in turn."""
    numbers = range(first, first + 20)
    with socket.create_connection(address, timeout=60) as client:
        client.sendall(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in numbers))
        for number, found in zip(numbers, answers(client, numbers), strict=True):
            assert found == b"".join(pieces(number)), number


def test_a_slow_reader_gets_every_byte(address: tuple[str, int]) -> None:
    """More than the sockets hold: the writer of the answer is slowed down meanwhile."""
    number = next(number for number in range(1_000) if sum(map(len, pieces(number))) > LONG)
    with socket.create_connection(address, timeout=60) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.sendall(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number)
        assert next(answers(client, range(1))) == b"".join(pieces(number))


@pytest.mark.parametrize("number", range(6))
def test_the_last_answer_of_a_connection_is_whole(address: tuple[str, int], number: int) -> None:
    """`Connection: close` closes behind the last byte."""
    with socket.create_connection(address, timeout=60) as client:
        client.sendall(b"GET /%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % number)
        assert next(answers(client, range(1))) == b"".join(pieces(number))
        assert client.recv(1) == b""

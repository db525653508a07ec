"""A request reaches an upstream once, however its connection breaks: raw servers that count what they were sent."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from appliance.gateway import relay
from appliance.gateway.call import CHAT, Call
from appliance.gateway.outcome import Failed, Kind
from appliance.gateway.upstream import Client, Target

_ANSWER = b'{"choices": [{"index": 0, "message": {"content": "yes"}, "finish_reason": "stop"}]}'
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_ANSWER)
# What a server says before it closes the connection, after it read the whole request.
FAULTS = {"nothing": b"", "half a head": _HEAD[:20], "a head": _HEAD, "half an answer": _HEAD + _ANSWER[:9]}


class Server:
    """Answers the first `good` requests and breaks the connection under the others; counts them and its connections."""

    def __init__(self, good: int, fault: bytes, *, resets: bool = False) -> None:
        self._good, self._fault, self._resets = good, fault, resets
        self.requests = self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._request(reader):
                self.requests += 1
                if self.requests > self._good:
                    writer.write(self._fault)
                    break
                writer.write(_HEAD + _ANSWER)
                await writer.drain()
        finally:
            if self._resets:
                writer.transport.abort()
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> bool:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
        return True


def target(url: str, socket: Path | None) -> Target:
    return Target("x", url, "x", "", socket, connect_s=5, first_token_s=5, whole_s=5, stall_s=5)


def call(left_s: float = 30) -> Call:
    words: dict[str, Any] = {"wire": CHAT, "body": {"messages": []}, "question": "", "stream": False, "model": "x"}
    return Call(**words, needs=frozenset(), ignorable=(), deadline_s=time.monotonic() + left_s)


async def asked(server: Server, times: int, folder: Path | None) -> list[Failed | None]:
    """Asks a server on TCP, or on a Unix socket of `folder`, one time after the other."""
    if folder is None:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        where = target(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1", None)
    else:
        listening = await asyncio.start_unix_server(server.serve, folder / "s")
        where = target("http://engine/v1", folder / "s")
    found: list[Failed | None] = []
    async with listening, Client(where) as client:
        for _ in range(times):
            try:
                await relay.whole(client, call(), {})
            except Failed as failure:
                found.append(failure)
            else:
                found.append(None)
    return found


@pytest.mark.parametrize("unix", [False, True])
@pytest.mark.parametrize("good", [0, 2])
@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("fault", list(FAULTS))
def test_what_was_sent_is_not_sent_again(tmp_path: Path, fault: str, good: int, *, unix: bool, resets: bool) -> None:
    """On a fresh connection and on a kept one, closed or reset: each request came once, and the last failed."""
    server = Server(good, FAULTS[fault], resets=resets)
    found = asyncio.run(asked(server, good + 1, tmp_path if unix else None))
    assert server.requests == good + 1
    assert found[:-1] == [None] * good
    last = found[-1]
    assert last is not None
    assert last.kind in (Kind.CONNECT, Kind.CUT)


@pytest.mark.parametrize(("unix", "connections"), [(False, 1), (True, 3)])
def test_connections_are_kept_to_providers_alone(tmp_path: Path, *, unix: bool, connections: int) -> None:
    """An engine may end at any time, so that each request tries its own connection; a provider's costs a handshake."""
    server = Server(3, b"")
    assert asyncio.run(asked(server, 3, tmp_path if unix else None)) == [None] * 3
    assert (server.requests, server.connections) == (3, connections)


def test_what_comes_too_late_is_not_sent() -> None:
    """A call whose time is over reaches no upstream."""

    async def run() -> None:
        async with Client(target("http://127.0.0.1:9/v1", None)) as client:
            for asking in (relay.whole, relay.stream):
                with pytest.raises(Failed, match="over before it was asked"):
                    await asking(client, call(-1), {})

    asyncio.run(run())

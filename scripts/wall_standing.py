"""Serves a wall on loopback, in a thread of its own: where it works, and where it is broken below HTTP."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from wall_addresses import NO_SUCH_NAME, black_hole, certificate_context

HEAD_BYTES_MAX = 2**16


class Wall(Protocol):
    """What serves connections."""

    def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Awaitable[None]: ...


@dataclass(frozen=True)
class Addresses:
    """Where the wall is, with and without working connections; all but `named` end before `/v1`."""

    url: str
    expired: str
    untrusted: str
    black_hole: str
    no_such_name: str = NO_SUCH_NAME


@contextmanager
def standing(wall: Wall, port: int = 0) -> Iterator[Addresses]:
    """Serves the wall in a thread of its own, until the block ends."""
    with closing(black_hole()) as hole, closing(socket.create_server(("127.0.0.1", port))) as listener:
        started, found = threading.Event(), list[str]()
        stop: list[Callable[[], object]] = []

        async def serve() -> None:
            over, loop = asyncio.Event(), asyncio.get_running_loop()
            stop.append(partial(loop.call_soon_threadsafe, over.set))
            async with AsyncExitStack() as stack:
                found.extend([await _served(stack, wall, each) for each in _listeners(listener)])
                started.set()
                await over.wait()

        thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        thread.start()
        if not started.wait(20):
            raise RuntimeError("the wall did not start")
        nowhere = f"http://127.0.0.1:{hole.getsockname()[1]}"
        try:
            yield Addresses(f"http://{found[0]}", f"https://{found[1]}", f"https://{found[2]}", nowhere)
        finally:
            stop[0]()
            thread.join(20)


def _listeners(plain: socket.socket) -> Iterator[dict[str, Any]]:
    yield {"sock": plain}
    for expired in (True, False):
        yield {"host": "127.0.0.1", "port": 0, "ssl": certificate_context(expired=expired)}


async def _served(stack: AsyncExitStack, wall: Wall, where: dict[str, Any]) -> str:
    server = await asyncio.start_server(wall.connection, limit=HEAD_BYTES_MAX, **where)
    # Not its own block: that would wait for the silent ones, which wait for minutes.
    stack.callback(server.close)
    return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

"""A served application on a socket of loopback."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import uvicorn

from appliance.app import serve

App = Callable[[Any, Any, Any], Awaitable[None]]


@pytest.fixture
def served() -> Iterator[Callable[[App], tuple[str, int]]]:
    """Serves what answers requests, and returns its address; it stops with the test."""
    with ExitStack() as stack:

        def start(answer: App) -> tuple[str, int]:
            async def app(scope: Any, receive: Any, send: Any) -> None:
                if scope["type"] != "lifespan":
                    await answer(scope, receive, send)
                    return
                await receive()
                await send({"type": "lifespan.startup.complete"})
                await receive()
                await send({"type": "lifespan.shutdown.complete"})

            listener, servers = socket.create_server(("127.0.0.1", 0)), list[uvicorn.Server]()
            thread = threading.Thread(target=lambda: asyncio.run(serve(app, listener, on_ready=servers.append)))
            thread.start()
            stack.callback(thread.join, 60)
            stack.callback(lambda: setattr(servers[0], "should_exit", True))
            address: tuple[str, int] = listener.getsockname()
            return address

        yield start

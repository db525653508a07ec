"""How a box stops: what it has accepted is finished, within a limit; who comes now is told to come again.

The listening socket stays open meanwhile: a refused connection would tell a client nothing, and a load balancer little.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from appliance.app import AsgiApp

_RETRY_AFTER_S = 30
_LAST_WORDS_S = 5.0
_ERROR = {"message": "this box is stopping; ask again", "type": "api_error", "param": None, "code": "stopping"}
_READY = "/health/ready"


class Leaving:
    """An ASGI application in front of another one.

    Args:
        app: What answers.
    """

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self._inside, self._leaving = 0, False
        self._idle = asyncio.Event()
        self._idle.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif self._leaving and (scope["method"] not in ("GET", "HEAD") or scope["path"] == _READY):
            await _refuse(send)
        else:
            await self._counted(scope, receive, send)

    async def finish(self, limit_s: float, cut: Callable[[], Awaitable[None]]) -> None:
        """Lets nobody in any more, and returns once those inside have their answers.

        Args:
            limit_s: How long they may take.
            cut: Ends what still runs after that; streams then end with an error.
        """
        self._leaving = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), limit_s)
            return
        await cut()
        with suppress(TimeoutError):  # what holds on even now is the server's to end
            await asyncio.wait_for(self._idle.wait(), _LAST_WORDS_S)

    async def _counted(self, scope: Any, receive: Any, send: Any) -> None:
        self._inside += 1
        self._idle.clear()
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1
            if not self._inside:
                self._idle.set()


async def _refuse(send: Any) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"retry-after", str(_RETRY_AFTER_S).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"error": _ERROR}).encode()})

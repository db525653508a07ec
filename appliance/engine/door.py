"""Who may still come in, and how those inside leave when the engine ends: none is left without a word.

DRAIN shuts the door: what comes now gets 503 and Retry-After, what is inside is finished. STOP also ends those inside:
with 503 where nothing was sent yet, else with an error event and without `[DONE]`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from appliance.engine.transfer import DRAIN, STOP

_RETRY_AFTER_S = 5
_ENDING = "the local model is ending; ask again"
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_BEGUN = web.RequestKey("lifeboat", web.StreamResponse)


class Door:
    """The door of one engine; used from its event loop."""

    def __init__(self) -> None:
        self._shut, self._cut, self._empty = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._empty.set()
        self._inside = 0

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Takes the parent's signals."""
        loop.add_signal_handler(DRAIN, self.shut)
        loop.add_signal_handler(STOP, self.cut)

    def shut(self) -> None:
        """Lets nobody in any more."""
        self._shut.set()

    def cut(self) -> None:
        """Lets nobody in, and ends those inside."""
        self._shut.set()
        self._cut.set()

    async def closed(self) -> None:
        """Returns once the door is shut and nobody is inside."""
        await self._shut.wait()
        await self._empty.wait()

    def guard(self, app: web.Application) -> web.Application:
        """Puts the door in front of everything that an application answers but its health."""

        @web.middleware
        async def door(request: web.Request, handler: _Handler) -> web.StreamResponse:
            return await self._through(request, handler)

        app.middlewares.append(door)
        app.on_response_prepare.append(_remember)
        return app

    async def _through(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if request.method != "POST":
            return await handler(request)
        if self._shut.is_set():
            return _refusal()
        self._inside += 1
        self._empty.clear()
        try:
            return await self._answered(request, handler)
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    async def _answered(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        answering: asyncio.Future[Any] = asyncio.ensure_future(handler(request))
        cutting: asyncio.Future[Any] = asyncio.ensure_future(self._cut.wait())
        try:
            await asyncio.wait({answering, cutting}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answered: web.StreamResponse = answering.result()
                return answered
        finally:
            # Also where the client has left: the answer must not be made for nobody.
            cutting.cancel()
            answering.cancel()
            await asyncio.wait({answering, cutting})
        begun: web.StreamResponse | None = request.get(_BEGUN)
        if begun is None:
            return _refusal()
        await begun.write(b"data: " + json.dumps(_error()).encode() + b"\n\n")
        await begun.write_eof()
        return begun


async def _remember(request: web.Request, response: web.StreamResponse) -> None:
    request[_BEGUN] = response


def _refusal() -> web.Response:
    return web.json_response(_error(), status=503, headers={"Retry-After": str(_RETRY_AFTER_S)})


def _error() -> dict[str, object]:
    return {"error": {"message": _ENDING, "type": "api_error", "code": "engine_ending", "param": None}}

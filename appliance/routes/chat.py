"""`/v1/chat/completions` and `/v1/completions`: whole or streamed, by whichever rung serves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import msgspec
from litestar import Request, get
from litestar.types import ASGIApp

from appliance.answer.answering import Answering
from appliance.edge.metrics import Metrics
from appliance.gateway.call import CHAT, TEXT, Call, Served
from appliance.gateway.outcome import Failed
from appliance.gateway.sse import KEEPALIVE, event
from appliance.routes import present
from appliance.routes.bodies import ChatRequest, TextRequest, once_of, read
from appliance.routes.errors import ApiError, as_api_error
from appliance.routes.guards import Handler
from appliance.routes.jobs import taken
from appliance.routes.reply import Events, Whole, as_json, disconnected

CLIENT_GONE = 499  # nginx's word for it; nobody is left to read it


@Handler("/chat/completions", http_method="POST", status_code=200)
async def chat_completions(request: Request[Any, Any, Any]) -> ASGIApp:
    answering: Answering = request.app.state.answering
    _, body = await read(request, ChatRequest, answering.settings.body_wait_s)
    call = answering.call(body, CHAT, request.state.tenant, request.state.via, once_of(request))
    if b"prefer" in request.scope["state"]["head"] and (job := await taken(request, call)) is not None:
        return job
    return await Completion(request, call).reply()


@Handler("/completions", http_method="POST", status_code=200)
async def completions(request: Request[Any, Any, Any]) -> ASGIApp:
    answering: Answering = request.app.state.answering
    _, body = await read(request, TextRequest, answering.settings.body_wait_s)
    call = answering.call(body, TEXT, request.state.tenant, request.state.via, once_of(request))
    if b"prefer" in request.scope["state"]["head"] and (job := await taken(request, call)) is not None:
        return job
    return await Completion(request, call).reply()


@get(["/chat/completions/{key:str}", "/completions/{key:str}"])
async def resumed(request: Request[Any, Any, Any]) -> ASGIApp:
    """The whole answer of a stream that broke off: `chat.completions.retrieve` of OpenAI's clients."""
    answering: Answering = request.app.state.answering
    served = await answering.resumed(request.path_params["key"], request.state.tenant)
    if served is None:
        raise ApiError(404, "resume_not_found", "there is no answer of this id here, or its time is over", param="id")
    return as_json(present.whole(served), headers=present.headers(served))


def with_wishes(request: Request[Any, Any, Any], call: Call) -> Call:
    """Returns a call with what its caller says of caching, where its route keeps answers."""
    said = request.scope["state"]["head"].get(b"cache-control") if call.route.cache is not None else None
    return call if said is None else replace(call, cache_control=said.decode("latin-1"))


class Completion:
    """One completion on its way, and the client that waits for it."""

    def __init__(self, request: Request[Any, Any, Any], call: Call) -> None:
        call = with_wishes(request, call)
        self._request, self._call = request, call
        self._answering: Answering = request.app.state.answering
        self._metrics: Metrics = request.app.state.metrics
        self._started = time.monotonic()
        self._work: asyncio.Task[Served] = asyncio.create_task(self._answering.complete(call))

    async def reply(self) -> ASGIApp:
        """Returns the reply: whole, streamed from its commit, or streamed with headers that say `pending`."""
        wait_s = self._answering.settings.headers_wait_s if self._call.stream else None
        if not await self._begun(wait_s):
            return Whole(b"", status=CLIENT_GONE)
        if not self._work.done():
            return Events(self.shaped(self._pending()), self._close, present.PENDING)
        served = self._result()
        if self._call.stream:
            return Events(self.shaped(self._events(served)), self._close, self.headers(served))
        return as_json(self.whole(served), headers=self.headers(served))

    @property
    def endpoint(self) -> str:
        """The path as metrics name it."""
        return "/v1/chat/completions" if self._call.wire == CHAT else "/v1/completions"

    def headers(self, served: Served) -> dict[str, str]:
        """Returns the headers of an answer."""
        return present.headers(served)

    def whole(self, served: Served) -> dict[str, Any]:
        """Returns the body of a whole answer."""
        return present.whole(served)

    def shaped(self, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Returns the events of a stream as this endpoint's clients read them."""
        return events

    async def _begun(self, wait_s: float | None) -> bool:
        """Waits for the answer to begin; False where the client left first."""
        watching = asyncio.create_task(disconnected(self._request.receive))
        try:
            await asyncio.wait({self._work, watching}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            left = watching.done() and not self._work.done()
        except asyncio.CancelledError:
            self._work.cancel()
            raise
        finally:
            watching.cancel()
        if left:
            self._work.cancel()
        return not left

    def _result(self) -> Served:
        served = self._work.result()
        skipped = [skip.rung for skip in served.skips]
        self._metrics.answered(
            self.endpoint, served.answer.rung, served.mode, skipped, time.monotonic() - self._started
        )
        return served

    def _events(self, served: Served) -> AsyncIterator[bytes]:
        def cut(failure: Failed) -> str | None:
            self._metrics.cut()
            return self._answering.broken(self._call, served, failure)

        return present.events(served, cut)

    async def _pending(self) -> AsyncIterator[bytes]:
        while not self._work.done():
            yield KEEPALIVE
            await asyncio.wait({self._work}, timeout=self._answering.settings.keepalive_s)
        try:
            served = self._result()
        except Exception as error:  # noqa: BLE001 - the headers are gone: every fault becomes an event, as `render` would
            yield event(msgspec.json.encode(as_api_error(error, self._answering).body))
            return
        async for data in self._events(served):
            yield data

    def _close(self) -> None:
        if not self._work.done():
            self._work.cancel()
        elif not self._work.cancelled() and self._work.exception() is None:
            chunks = self._work.result().answer.chunks
            if chunks is not None:
                chunks.close()

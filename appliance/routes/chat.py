"""`/v1/chat/completions` and `/v1/completions`: whole or streamed, by whichever rung serves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from typing import Any

import msgspec
from litestar import Request, get
from litestar.types import ASGIApp

from appliance.answer.answering import Answering
from appliance.edge.caller import CallerLeft, caller_of
from appliance.edge.metrics import Metrics
from appliance.gateway.call import CHAT, TEXT, Call, Served
from appliance.gateway.outcome import Failed
from appliance.gateway.pace import prompt_bytes
from appliance.gateway.sse import KEEPALIVE, event
from appliance.routes import present
from appliance.routes.bodies import ChatRequest, TextRequest, asked_by, read
from appliance.routes.errors import ApiError, as_api_error
from appliance.routes.guards import Handler
from appliance.routes.jobs import taken
from appliance.routes.metered import costs, metered, spend_whole, spender
from appliance.routes.reply import GONE, Events, as_json


@Handler("/chat/completions", http_method="POST", status_code=200)
async def chat_completions(request: Request[Any, Any, Any]) -> ASGIApp:
    answering: Answering = request.app.state.answering
    _, body = await read(request, ChatRequest, answering.settings.body_wait_s)
    call = answering.call(body, CHAT, **asked_by(request))
    if b"prefer" in request.scope["state"]["head"] and (job := await taken(request, call)) is not None:
        return job
    return await Completion(request, call).reply()


@Handler("/completions", http_method="POST", status_code=200)
async def completions(request: Request[Any, Any, Any]) -> ASGIApp:
    answering: Answering = request.app.state.answering
    _, body = await read(request, TextRequest, answering.settings.body_wait_s)
    call = answering.call(body, TEXT, **asked_by(request))
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
        self._call, self._caller = with_wishes(request, call), caller_of(request.scope)
        self._answering: Answering = request.app.state.answering
        self._metrics: Metrics = request.app.state.metrics
        self._started, self._spend = time.monotonic(), spender(request)

    async def reply(self) -> ASGIApp:
        """Returns the reply: whole, streamed from its commit, or streamed with headers that say `pending`."""
        try:
            return await (self._streamed() if self._call.stream else self._whole())
        except CallerLeft:
            return GONE

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

    def _work(self) -> Coroutine[Any, Any, Served]:
        call, complete = self._call, self._answering.complete
        return complete(call) if self._spend is None else metered(complete, call, self._spend)

    async def _whole(self) -> ASGIApp:
        served = self._told(await self._caller.waits_for(self._work()))
        return as_json(self.whole(served), headers=self.headers(served))

    async def _streamed(self) -> ASGIApp:
        """Waits for the answer to begin, so that headers can say what served; not for long."""
        work = asyncio.create_task(self._work())
        wait_s = self._answering.settings.headers_wait_s
        try:
            await self._caller.waits_for(asyncio.wait({work}, timeout=wait_s))
        except BaseException:
            _end(work)
            raise
        if not work.done():
            return Events(self.shaped(self._pending(work)), lambda: _end(work), present.PENDING)
        served = self._told(work.result())
        return Events(self.shaped(self._events(served)), lambda: _end(work), self.headers(served))

    def _told(self, served: Served) -> Served:
        skipped = [skip.rung for skip in served.skips]
        took_s = time.monotonic() - self._started
        self._metrics.answered(self.endpoint, served.answer.rung, served.mode, skipped, took_s)
        return served

    def _events(self, served: Served) -> AsyncIterator[bytes]:
        def cut(failure: Failed) -> str | None:
            self._metrics.cut()
            return self._answering.broken(self._call, served, failure, self._resumed)

        return present.events(served, cut)

    def _resumed(self, served: Served) -> None:
        """Counts an answer that is fetched after its stream broke; fetched again it is the same one."""
        if self._spend is not None and costs(served.answer):
            spend_whole(self._spend, prompt_bytes(self._call.body), served.answer.body)

    async def _pending(self, work: asyncio.Task[Served]) -> AsyncIterator[bytes]:
        while not work.done():
            yield KEEPALIVE
            await asyncio.wait({work}, timeout=self._answering.settings.keepalive_s)
        try:
            served = self._told(work.result())
        except Exception as error:  # noqa: BLE001 - the headers are gone: every fault becomes an event, as `render` would
            yield event(msgspec.json.encode(as_api_error(error, self._answering).body))
            return
        async for data in self._events(served):
            yield data


def _end(work: asyncio.Task[Served]) -> None:
    """Ends the work on a stream that nobody reads any more, wherever it is."""
    if not work.done():
        work.cancel()
    elif not work.cancelled() and work.exception() is None:
        chunks = work.result().answer.chunks
        if chunks is not None:
            chunks.close()

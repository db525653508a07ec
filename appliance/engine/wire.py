"""OpenAI's wire over a Unix socket: many requests at once, a bounded queue in front, cancel on disconnect."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import msgspec
import uvloop
from aiohttp import web

from appliance.engine.desk import Desk
from appliance.engine.door import Door
from appliance.engine.making import Answer, Piece
from appliance.engine.model import Model
from appliance.engine.options import MOST_CHOICES, Refused
from appliance.engine.prepare import Prepared, Preparer
from appliance.engine.pulse import Pulse
from appliance.engine.reply import CHAT, TEXT, Reply
from appliance.engine.standing import Standing, from_headers
from appliance.engine.step import Limits
from appliance.engine.watchdog import EXIT_STUCK
from appliance.engine.worker import Worker

_BODY_BYTES = 16 * 2**20
_RETRY_AFTER_S = 5
_FINISH_S = 30.0
Pieces = AsyncGenerator[tuple[Answer, Piece | None], None]


class Wire:
    """The handlers of one model."""

    def __init__(self, model: Model, order: dict[str, Any], worker: Worker, desk: Desk) -> None:
        self._model, self._order, self._worker, self._desk = model, order, worker, desk
        self._preparer = Preparer(model, order["max_output_tokens"])
        self._inside = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=_BODY_BYTES)
        app.router.add_get("/health", self._health)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._completion)
        return app

    async def _health(self, _: web.Request) -> web.Response:
        running, waiting = self._worker.load
        return _json({"state": "ready", "requests": self._inside, "running": running, "waiting": waiting})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, CHAT, self._preparer.chat)

    async def _completion(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, TEXT, lambda body, _: self._preparer.text(body))

    async def _answer(
        self, request: web.Request, kind: str, prepare: Callable[[dict[str, Any], int], Prepared]
    ) -> web.StreamResponse:
        try:
            arrived_s, standing = time.monotonic(), _standing(request)
            body = await _body(request)
            # Template, tokenizer and grammar take their time, and streams go on meanwhile.
            prepared = await self._prepared(partial(prepare, body, standing.public_messages))
        except Refused as refused:
            return _refusal(refused)
        waited_s = time.monotonic() - arrived_s
        standing = replace(standing, deadline_s=standing.deadline_s - waited_s)
        self._inside += len(prepared.answers)
        try:
            reply = Reply(
                self._order["name"], self._order["digest"], kind, prepared.answers, prepared.toolbox, prepared.echo
            )
            pieces = self._worker.pieces(prepared.answers, standing)
            return await _Sending(request, reply, prepared).send(pieces)
        except Refused as refused:
            return _refusal(refused)
        finally:
            self._inside -= len(prepared.answers)

    async def _prepared(self, work: Callable[[], Prepared]) -> Prepared:
        """Prepares a request that may come in; until its answers are known it counts as one."""
        self._admit(1)
        self._inside += 1
        try:
            prepared = await self._desk.prepare(work)
        except RecursionError as error:
            raise Refused("the request is nested too deeply", "invalid_request") from error
        except UnicodeEncodeError as error:  # JSON can write half of a surrogate pair, which is no character
            raise Refused("the request holds text that is not Unicode", "invalid_request") from error
        finally:
            self._inside -= 1
        self._admit(len(prepared.answers))
        return prepared

    def _admit(self, answers: int) -> None:
        waiting = self._inside + answers - self._model.sequences
        if self._inside and waiting > self._order["queue_requests"]:
            raise Refused(f"{waiting} requests are waiting already", "queue_full", 429)


@dataclass
class _Sending:
    """Sends one reply."""

    request: web.Request
    reply: Reply
    prepared: Prepared

    async def send(self, pieces: Pieces) -> web.StreamResponse:
        """Sends the answers as they come; before the first byte a refusal keeps its status.

        Raises:
            Refused: The request was not admitted, or cannot go on and nothing was sent yet.
        """
        try:
            if not self.prepared.answers[0].options.stream:
                async for answer, piece in pieces:
                    if piece is not None:
                        self.reply.take(answer, piece)
                return _json(self.reply.whole())
            return await self._stream(pieces)
        finally:
            await pieces.aclose()

    async def _stream(self, pieces: Pieces) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        try:
            async for answer, piece in pieces:
                chunks = self.reply.end(answer) if piece is None else self.reply.take(answer, piece)
                await self._write(response, chunks)
        except Refused as refused:
            if not response.prepared:
                raise
            await self._write(response, [_error(refused)])
            return response
        if self.prepared.answers[0].options.include_usage:
            await self._write(response, [self.reply.usage_chunk()])
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _write(self, response: web.StreamResponse, chunks: list[dict[str, Any]]) -> None:
        if not response.prepared:
            await response.prepare(self.request)
        for chunk in chunks:
            await response.write(b"data: " + msgspec.json.encode(chunk) + b"\n\n")


def serve(model: Model, order: dict[str, Any], pulse: Pulse, on_ready: Callable[[], None]) -> None:
    """Serves until the process is told to end; `on_ready` is called once the socket takes connections."""
    uvloop.run(_serve(model, order, pulse, on_ready))


async def _serve(model: Model, order: dict[str, Any], pulse: Pulse, on_ready: Callable[[], None]) -> None:
    door, loop = Door(), asyncio.get_running_loop()
    door.listen(loop)
    pulse.follow(loop)
    # A burst waits for its first step as a whole: `_admit` holds the bound, the scheduler's own only backs it.
    waiting = model.sequences + order["queue_requests"] + MOST_CHOICES
    limits = Limits(model.sequences, model.context_tokens, model.batch_tokens, waiting, model.rewinds)
    worker = Worker(model, limits, loop, pulse)
    worker.start()
    desk = Desk(lambda: _give_up(door, loop))
    app = door.guard(Wire(model, order, worker, desk).app())
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0, handler_cancellation=True)
    await runner.setup()
    try:
        await web.UnixSite(runner, order["socket"]).start()
        on_ready()
        await door.closed()
    finally:
        await runner.cleanup()
        worker.stop()
        if desk.stuck:
            print("a request's preparation did not come to an end", file=sys.stderr, flush=True)  # noqa: T201 - the log
            os._exit(EXIT_STUCK)  # the interpreter would wait for the thread


def _give_up(door: Door, loop: asyncio.AbstractEventLoop) -> None:
    """Lets those inside finish, within a limit; then another process takes over."""
    door.shut()
    loop.call_later(_FINISH_S, door.cut)


def _standing(request: web.Request) -> Standing:
    try:
        return from_headers(request.headers)
    except ValueError as error:  # not by the gateway
        raise Refused("a header of the standing is not a number", "invalid_request") from error


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except (ValueError, RecursionError, web.RequestPayloadError) as error:
        raise Refused("the body is not JSON", "invalid_request") from error
    if not isinstance(body, dict):
        raise Refused("the body is not an object", "invalid_request")
    return body


def _refusal(refused: Refused) -> web.Response:
    headers = {"Retry-After": str(_RETRY_AFTER_S)} if refused.status == 429 else {}
    return _json(_error(refused), status=refused.status, headers=headers)


def _json(value: dict[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    data = msgspec.json.encode(value)
    return web.Response(body=data, status=status, headers=headers, content_type="application/json")


def _error(refused: Refused) -> dict[str, Any]:
    kind = {429: "rate_limit_error", 500: "api_error", 503: "api_error"}.get(refused.status, "invalid_request_error")
    error = {"message": str(refused), "type": kind, "code": refused.code, "param": None}
    return {"error": error}

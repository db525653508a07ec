"""OpenAI's wire over a Unix socket: many requests at once, a bounded queue in front, cancel on disconnect."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from appliance.engine import endpoint
from appliance.engine.desk import Desk
from appliance.engine.endpoint import BODY_BYTES, Tell, as_json, error_body, read_object, read_standing, refusal
from appliance.engine.making import Answer, Piece
from appliance.engine.model import Model
from appliance.engine.options import MOST_CHOICES, Refused
from appliance.engine.prepare import Prepared, Preparer
from appliance.engine.pulse import Pulse
from appliance.engine.reply import CHAT, TEXT, Reply
from appliance.engine.standing import URGENT, Standing, may_wait
from appliance.engine.step import Limits
from appliance.engine.worker import Worker

# Beside long prompts the answers in progress say a token every so many tokens: on two slow cores about two seconds.
STEP_TOKENS = 512
Pieces = AsyncGenerator[tuple[Answer, Piece | None], None]


class Wire:
    """The handlers of one model."""

    def __init__(self, model: Model, order: dict[str, Any], worker: Worker, desk: Desk) -> None:
        self._model, self._order, self._worker, self._desk = model, order, worker, desk
        self._preparer = Preparer(model, order["max_output_tokens"])
        self._inside = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=BODY_BYTES)
        app.router.add_get("/health", self._health)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._completion)
        return app

    async def _health(self, _: web.Request) -> web.Response:
        running, waiting = self._worker.load
        return as_json({"state": "ready", "requests": self._inside, "running": running, "waiting": waiting})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, CHAT, self._preparer.chat)

    async def _completion(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, TEXT, lambda body, _: self._preparer.text(body))

    async def _answer(
        self, request: web.Request, kind: str, prepare: Callable[[dict[str, Any], int], Prepared]
    ) -> web.StreamResponse:
        try:
            arrived_s, standing = time.monotonic(), read_standing(request)
            body = await read_object(request)
            # Template, tokenizer and grammar take their time, and streams go on meanwhile.
            prepared = await self._prepared(partial(prepare, body, standing.public_messages), standing)
        except Refused as refused:
            return refusal(refused)
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
            return refusal(refused)
        finally:
            self._inside -= len(prepared.answers)

    async def _prepared(self, work: Callable[[], Prepared], standing: Standing) -> Prepared:
        """Prepares a request that may come in; until its answers are known it counts as one."""
        self._admit(1, standing)
        self._inside += 1
        try:
            prepared = await self._desk.prepare(work)
        finally:
            self._inside -= 1
        self._admit(len(prepared.answers), standing)
        return prepared

    def _admit(self, answers: int, standing: Standing) -> None:
        waiting = self._inside + answers - self._model.sequences
        if self._inside and waiting > may_wait(self._order["queue_requests"], standing.priority):
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
                return as_json(self.reply.whole())
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
            await self._write(response, [error_body(refused)])
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


def serve(model: Model, order: dict[str, Any], pulse: Pulse, tell: Tell) -> None:
    """Serves until the process is told to end; `tell` tells the parent a state and its reason."""

    def make(loop: asyncio.AbstractEventLoop, desk: Desk) -> tuple[web.Application, Worker]:
        # A burst waits for its first step as a whole: `_admit` holds the bound, the scheduler's own only backs it.
        waiting = model.sequences + may_wait(order["queue_requests"], URGENT) + MOST_CHOICES
        limits = Limits(model.sequences, model.context_tokens, model.batch_tokens, STEP_TOKENS, waiting, model.rewinds)
        worker = Worker(model, limits, loop, pulse)
        return Wire(model, order, worker, desk).app(), worker

    endpoint.serve(make, order["socket"], pulse, tell)

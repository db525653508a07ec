"""OpenAI's wire over a Unix socket: many requests at once, a bounded queue in front, cancel on disconnect."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from typing import Any

from aiohttp import web

from appliance.engine.model import BATCH_TOKENS, Model
from appliance.engine.options import Options, Refused, read_messages, read_options
from appliance.engine.scheduler import Limits
from appliance.engine.template import BadMessages, ChatTemplate
from appliance.engine.transfer import STOP
from appliance.engine.worker import Answer, Worker

_BODY_BYTES = 16 * 2**20
_RETRY_AFTER_S = 5


class Wire:
    """The handlers of one model."""

    def __init__(self, model: Model, order: dict[str, Any], worker: Worker) -> None:
        self._model, self._order, self._worker = model, order, worker
        self._template = ChatTemplate(model.template(), model.special("bos"), model.special("eos"))
        self._inside = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=_BODY_BYTES)
        app.router.add_get("/health", self._health)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._completion)
        return app

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"state": "ready", "requests": self._inside})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, "chat.completion", self._chat_tokens)

    async def _completion(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, "text_completion", self._prompt_tokens)

    def _chat_tokens(self, body: dict[str, Any]) -> list[int]:
        try:
            prompt = self._template.render(read_messages(body))
        except BadMessages as error:
            raise Refused(str(error), "invalid_request") from error
        return self._model.tokenize(prompt, special=True)

    def _prompt_tokens(self, body: dict[str, Any]) -> list[int]:
        prompt = body.get("prompt")
        if not isinstance(prompt, str):
            raise Refused("prompt must be one text", "invalid_request")
        return self._model.tokenize(prompt, special=False)

    async def _answer(
        self, request: web.Request, kind: str, tokens_of: Callable[[dict[str, Any]], list[int]]
    ) -> web.StreamResponse:
        try:
            body = await _body(request)
            options = read_options(body, self._order["max_output_tokens"])
            answer = self._prepared(tokens_of(body), options)
            self._admit()
        except Refused as refused:
            return _refusal(refused)
        self._inside += 1
        try:
            return await _Reply(self._order, kind, answer).send(request, self._worker.pieces(answer))
        except Refused as refused:
            return _refusal(refused)
        finally:
            self._inside -= 1

    def _prepared(self, tokens: list[int], options: Options) -> Answer:
        """Checks that prompt and answer fit the context; raises Refused with the figures."""
        if not tokens:
            raise Refused("the prompt is empty", "invalid_request")
        room = self._model.context_tokens - len(tokens)
        if room < 1:
            raise Refused(
                f"the prompt has {len(tokens)} tokens, the context of the local model {self._model.context_tokens}",
                "context_length_exceeded",
            )
        return Answer(tuple(tokens), options, min(options.max_tokens, room), len(tokens))

    def _admit(self) -> None:
        waiting = self._inside - self._model.sequences
        if waiting >= self._order["queue_requests"]:
            raise Refused(f"{waiting} requests are waiting already", "queue_full", 429)


class _Reply:
    """Puts an answer into OpenAI's shapes."""

    def __init__(self, order: dict[str, Any], kind: str, answer: Answer) -> None:
        self._kind, self._options, self._run = kind, answer.options, answer
        self._head = {
            "id": f"{'chatcmpl' if kind == 'chat.completion' else 'cmpl'}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": order["name"],
            "system_fingerprint": order["digest"][:12],
        }

    async def send(self, request: web.Request, pieces: AsyncGenerator[str, None]) -> web.StreamResponse:
        if not self._options.stream:
            text = "".join([piece async for piece in pieces])
            return web.json_response(self._whole(text))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        try:
            first = True
            async for piece in pieces:
                if first:  # not before it was admitted: a refusal must keep its status
                    await response.prepare(request)
                await response.write(_event(self._chunk(piece, None, first=first)))
                first = False
            if first:
                await response.prepare(request)
            await response.write(_event(self._chunk(None, self._run.finish, first=first)))
            if self._options.include_usage:
                await response.write(
                    _event({**self._head, "object": self._object, "choices": [], "usage": self._usage})
                )
            await response.write(b"data: [DONE]\n\n")
        finally:
            await pieces.aclose()
        return response

    @property
    def _object(self) -> str:
        return "chat.completion.chunk" if self._kind == "chat.completion" else self._kind

    @property
    def _usage(self) -> dict[str, Any]:
        asked, said = self._run.prompt_tokens, self._run.completion_tokens
        cached = {"cached_tokens": self._run.cached_tokens}
        whole = {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}
        return {**whole, "prompt_tokens_details": cached}

    def _whole(self, text: str) -> dict[str, Any]:
        said = (
            {"message": {"role": "assistant", "content": text}} if self._kind == "chat.completion" else {"text": text}
        )
        choice = {"index": 0, "finish_reason": self._run.finish, "logprobs": None, **said}
        return {**self._head, "object": self._kind, "choices": [choice], "usage": self._usage}

    def _chunk(self, piece: str | None, finish: str | None, *, first: bool) -> dict[str, Any]:
        if self._kind == "chat.completion":
            delta = {"content": piece} if piece is not None else {}
            said: dict[str, Any] = {"delta": {"role": "assistant", **delta} if first else delta}
        else:
            said = {"text": piece or ""}
        choice = {"index": 0, "finish_reason": finish, "logprobs": None, **said}
        return {**self._head, "object": self._object, "choices": [choice]}


def serve(model: Model, order: dict[str, Any], on_ready: Callable[[], None]) -> None:
    """Serves until the process is told to end; `on_ready` is called once the socket takes connections."""
    asyncio.run(_serve(model, order, on_ready))


async def _serve(model: Model, order: dict[str, Any], on_ready: Callable[[], None]) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(STOP, stop.set)
    # A burst waits for its first step as a whole: `_admit` holds the bound, the scheduler's own only backs it.
    waiting = model.sequences + order["queue_requests"]
    limits = Limits(model.sequences, model.context_tokens, BATCH_TOKENS, waiting)
    worker = Worker(model, limits, loop)
    worker.start()
    app = Wire(model, order, worker).app()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0, handler_cancellation=True)
    await runner.setup()
    try:
        await web.UnixSite(runner, order["socket"]).start()
        on_ready()
        await stop.wait()
    finally:
        await runner.cleanup()
        worker.stop()


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except (ValueError, RecursionError) as error:
        raise Refused("the body is not JSON", "invalid_request") from error
    if not isinstance(body, dict):
        raise Refused("the body is not an object", "invalid_request")
    return body


def _refusal(refused: Refused) -> web.Response:
    headers = {"Retry-After": str(_RETRY_AFTER_S)} if refused.status == 429 else {}
    error = {"message": str(refused), "type": "invalid_request_error", "code": refused.code, "param": None}
    return web.json_response({"error": error}, status=refused.status, headers=headers)


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"

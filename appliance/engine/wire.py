"""OpenAI's wire over a Unix socket: one request at a time, a bounded queue in front, cancel on disconnect."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import web

from appliance.engine.generate import Run, generate, prepare
from appliance.engine.model import Model
from appliance.engine.options import Options, Refused, read_messages, read_options
from appliance.engine.template import BadMessages, ChatTemplate
from appliance.engine.transfer import STOP

_BODY_BYTES = 16 * 2**20
_RETRY_AFTER_S = 5
_END = object()


class Wire:
    """The handlers of one model."""

    def __init__(self, model: Model, order: dict[str, Any]) -> None:
        self._model, self._order = model, order
        self._template = ChatTemplate(model.template(), model.special("bos"), model.special("eos"))
        self._busy = asyncio.Lock()
        self._waiting = 0
        # One thread for all steps: a cancelled request's step may still be inside llama.cpp when the next one begins,
        # and two threads in one context abort the process.
        self._thread = ThreadPoolExecutor(1, "llama")

    def app(self) -> web.Application:
        app = web.Application(client_max_size=_BODY_BYTES)
        app.router.add_get("/health", self._health)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._completion)
        return app

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"state": "ready", "waiting": self._waiting})

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
            tokens = tokens_of(body)
            run = prepare(self._model, tokens)
            self._admit()
        except Refused as refused:
            return _refusal(refused)
        self._waiting += 1
        try:
            async with self._busy:
                reply = _Reply(self._order, kind, options, run)
                return await reply.send(request, self._pieces(tokens, options, run))
        finally:
            self._waiting -= 1

    def _step(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _admit(self) -> None:
        if self._waiting >= self._order["queue_requests"]:
            raise Refused(f"{self._waiting} requests are waiting already", "queue_full", 429)

    async def _pieces(self, tokens: Sequence[int], options: Options, run: Run) -> AsyncGenerator[str, None]:
        """Runs the blocking generation step by step; a reader that leaves stops it after the step in hand."""
        steps = generate(self._model, tokens, options, run)
        try:
            while (piece := await self._step(next, steps, _END)) is not _END:
                yield str(piece)
        finally:
            run.cancelled.set()
            await asyncio.shield(self._step(steps.close))


class _Reply:
    """Puts an answer into OpenAI's shapes."""

    def __init__(self, order: dict[str, Any], kind: str, options: Options, run: Run) -> None:
        self._kind, self._options, self._run = kind, options, run
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
        await response.prepare(request)
        try:
            first = True
            async for piece in pieces:
                await response.write(_event(self._chunk(piece, None, first=first)))
                first = False
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
    def _usage(self) -> dict[str, int]:
        asked, said = self._run.prompt_tokens, self._run.completion_tokens
        return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}

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
    asyncio.run(_serve(Wire(model, order).app(), order["socket"], on_ready))


async def _serve(app: web.Application, path: str, on_ready: Callable[[], None]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(STOP, stop.set)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0, handler_cancellation=True)
    await runner.setup()
    try:
        await web.UnixSite(runner, path).start()
        on_ready()
        await stop.wait()
    finally:
        await runner.cleanup()


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

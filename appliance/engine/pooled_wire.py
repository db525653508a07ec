"""`/v1/embeddings` or `/v1/rerank` over a Unix socket, for a model that pools."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from aiohttp import web

from appliance.engine import endpoint
from appliance.engine.desk import Desk
from appliance.engine.endpoint import BODY_BYTES, as_json, read_object, refusal
from appliance.engine.messages import inert_text
from appliance.engine.options import Refused
from appliance.engine.pooled import PooledModel
from appliance.engine.pooled_request import Text, VectorsAsked, check_length, read_ranking, read_vectors
from appliance.engine.pooled_worker import PooledWorker, Rows
from appliance.engine.pulse import Pulse
from appliance.engine.standing import from_headers
from bundler.format.service import RERANK

Tokens = list[list[int]]


class PooledWire:
    """The handlers of one model."""

    def __init__(self, model: PooledModel, order: dict[str, Any], worker: PooledWorker, desk: Desk) -> None:
        self._model, self._order, self._worker, self._desk = model, order, worker, desk
        self._name = str(order["name"])
        # Without a template the tokenizer is told to see no control tokens.
        control = model.control_texts() if model.template(b"rerank") else []
        self._control = re.compile("|".join(map(re.escape, control))) if control else None
        self._inside = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=BODY_BYTES)
        app.router.add_get("/health", self._health)
        if self._order["serves"] == RERANK:
            app.router.add_post("/v1/rerank", lambda request: self._answer(request, self._rank))
        else:
            app.router.add_post("/v1/embeddings", lambda request: self._answer(request, self._embed))
        return app

    async def _health(self, _: web.Request) -> web.Response:
        return as_json({"state": "ready", "requests": self._inside})

    async def _answer(
        self, request: web.Request, serve: Callable[[dict[str, Any], str], Awaitable[dict[str, Any]]]
    ) -> web.Response:
        if self._inside > self._order["queue_requests"]:
            return refusal(Refused(f"{self._inside} requests are waiting already", "queue_full", 429))
        self._inside += 1
        try:
            return as_json(await serve(await read_object(request), from_headers(request.headers).tenant))
        except Refused as refused:
            return refusal(refused)
        except UnicodeEncodeError:  # JSON can write half of a surrogate pair, which is no character
            return refusal(Refused("the request holds text that is not Unicode", "invalid_request"))
        finally:
            self._inside -= 1

    async def _embed(self, body: dict[str, Any], tenant: str) -> dict[str, Any]:
        model = self._model
        asked = read_vectors(body, self._name, model.width, model.vocabulary_size)
        # The tokenizer takes its time, and others are answered meanwhile.
        tokens = await self._desk.prepare(partial(self._tokens, asked.texts))
        rows = _sound(await self._worker.rows(tokens, tenant))
        vectors = await asyncio.to_thread(_encoded, rows, asked)
        data = [{"object": "embedding", "index": number, "embedding": vector} for number, vector in enumerate(vectors)]
        return {"object": "list", "data": data, "model": self._name, "usage": _usage(tokens)}

    async def _rank(self, body: dict[str, Any], tenant: str) -> dict[str, Any]:
        asked = read_ranking(body, self._name)
        tokens = await self._desk.prepare(partial(self._pairs, asked.query, asked.documents))
        rows = _sound(await self._worker.rows(tokens, tenant))
        scores = [self._model.score(row) for row in rows]
        best = sorted(range(len(scores)), key=lambda number: -scores[number])[: asked.top_n]
        results = [{"index": number, "relevance_score": scores[number]} for number in best]
        return {"results": results, "model": self._name, "usage": _usage(tokens)}

    def _tokens(self, texts: Sequence[Text]) -> Tokens:
        found = []
        for number, text in enumerate(texts):
            tokens = self._model.tokenize(text, special=False, begins=True) if isinstance(text, str) else text
            what = "the input" if len(texts) == 1 else f"input {number}"
            check_length(len(tokens), self._model.longest_tokens, what)
            found.append(tokens)
        return found

    def _pairs(self, query: str, documents: Sequence[str]) -> Tokens:
        found = []
        asked = inert_text(query, self._control)
        for number, document in enumerate(documents):
            tokens = self._model.pair(asked, inert_text(document, self._control))
            check_length(len(tokens), self._model.longest_tokens, f"the query with document {number}")
            found.append(tokens)
        return found


def serve(model: PooledModel, order: dict[str, Any], pulse: Pulse, on_ready: Callable[[], None]) -> None:
    """Serves until the process is told to end; `on_ready` is called once the socket takes connections."""

    def make(loop: asyncio.AbstractEventLoop, desk: Desk) -> tuple[web.Application, PooledWorker]:
        worker = PooledWorker(model, loop, pulse)
        return PooledWire(model, order, worker, desk).app(), worker

    endpoint.serve(make, order["socket"], pulse, on_ready)


def _sound(rows: Rows) -> Rows:
    if not np.isfinite(rows).all():
        raise Refused("the model gave no numbers for this text", "engine_error", 500)
    return rows


def _encoded(rows: Rows, asked: VectorsAsked) -> list[Any]:
    """Vectors of length 1, as OpenAI encodes them: little-endian float32 in base64, or numbers."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = (rows / np.where(lengths > 0, lengths, 1)).astype("<f4")
    return [base64.b64encode(row.tobytes()).decode() if asked.base64 else row.tolist() for row in unit]


def _usage(tokens: Tokens) -> dict[str, int]:
    count = sum(map(len, tokens))
    return {"prompt_tokens": count, "total_tokens": count}

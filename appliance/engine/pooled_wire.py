"""`/v1/embeddings` or `/v1/rerank` over a Unix socket, for a model that pools."""

from __future__ import annotations

import asyncio
import re
from array import array
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from aiohttp import web

from appliance.engine import endpoint
from appliance.engine.allowance import Allowance, Share
from appliance.engine.desk import Desk
from appliance.engine.endpoint import BODY_BYTES, Tell, as_json, read_object, read_standing, refusal
from appliance.engine.messages import inert_text
from appliance.engine.options import Refused
from appliance.engine.pooled import PooledModel
from appliance.engine.pooled_request import MOST_TOKENS, MOST_VALUES, Text, check_length, read_ranking, read_vectors
from appliance.engine.pooled_worker import PooledWorker, Rows
from appliance.engine.pulse import Pulse
from appliance.engine.vectors import as_document, unit
from bundler.format.service import RERANK

Tokens = list[Sequence[int]]


class PooledWire:
    """The handlers of one model."""

    def __init__(self, model: PooledModel, order: dict[str, Any], worker: PooledWorker, desk: Desk) -> None:
        self._model, self._order, self._worker, self._desk = model, order, worker, desk
        self._name = str(order["name"])
        # Without a template the tokenizer is told to see no control tokens.
        control = model.control_texts() if model.template(b"rerank") else []
        self._control = re.compile("|".join(map(re.escape, control))) if control else None
        self._tokens, self._values = Allowance(MOST_TOKENS, "tokens"), Allowance(MOST_VALUES, "values")
        self._inside = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=BODY_BYTES)
        app.router.add_get("/health", self._health)
        if self._order["serves"] == RERANK:
            app.router.add_post("/v1/rerank", self._rankings)
        else:
            app.router.add_post("/v1/embeddings", self._vectors)
        return app

    async def _health(self, _: web.Request) -> web.Response:
        return as_json({"state": "ready", "requests": self._inside})

    async def _rankings(self, request: web.Request) -> web.Response:
        return await self._answer(request, self._rank)

    async def _vectors(self, request: web.Request) -> web.Response:
        return await self._answer(request, self._embed)

    async def _answer(
        self, request: web.Request, serve: Callable[[dict[str, Any], str], Awaitable[web.Response]]
    ) -> web.Response:
        if self._inside > self._order["queue_requests"]:
            return refusal(Refused(f"{self._inside} requests are waiting already", "queue_full", 429))
        self._inside += 1
        try:
            tenant = read_standing(request).tenant
            return await serve(await read_object(request), tenant)
        except Refused as refused:
            return refusal(refused)
        finally:
            self._inside -= 1

    async def _embed(self, body: dict[str, Any], tenant: str) -> web.Response:
        model = self._model
        asked = read_vectors(body, self._name, model.width, model.vocabulary_size)
        with Share(self._values) as values, Share(self._tokens) as share:
            values.take(len(asked.texts) * model.width)
            # The tokenizer takes its time, and others are answered meanwhile.
            tokens = await self._desk.prepare(partial(self._cut, asked.texts, share))
            rows = _sound(await self._worker.rows(tokens, tenant), lambda number: _named(number, len(tokens)))
            count = sum(map(len, tokens))
            data = await asyncio.to_thread(lambda: as_document(unit(rows), self._name, count, base64=asked.base64))
        return web.Response(body=data, content_type="application/json")

    async def _rank(self, body: dict[str, Any], tenant: str) -> web.Response:
        asked = read_ranking(body, self._name)
        with Share(self._values) as values, Share(self._tokens) as share:
            values.take(len(asked.documents) * self._model.width)
            tokens = await self._desk.prepare(partial(self._pairs, asked.query, asked.documents, share))
            rows = _sound(await self._worker.rows(tokens, tenant), _pair_named)
        scores = [self._model.score(row) for row in rows]
        best = sorted(range(len(scores)), key=lambda number: -scores[number])[: asked.top_n]
        results = [{"index": number, "relevance_score": scores[number]} for number in best]
        return as_json({"results": results, "model": self._name, "usage": _usage(tokens)})

    def _cut(self, texts: Sequence[Text], share: Share) -> Tokens:
        found = []
        for number, text in enumerate(texts):
            what = _named(number, len(texts))
            tokens = self._model.cut(text, what) if isinstance(text, str) else text
            found.append(self._checked(tokens, what, share))
        return found

    def _pairs(self, query: str, documents: Sequence[str], share: Share) -> Tokens:
        pair, found = self._model.pairing(inert_text(query, self._control)), []
        for number, document in enumerate(documents):
            what = _pair_named(number)
            found.append(self._checked(pair(inert_text(document, self._control), what), what, share))
        return found

    def _checked(self, tokens: Sequence[int], what: str, share: Share) -> Sequence[int]:
        check_length(len(tokens), self._model.longest_tokens, what)
        share.take(len(tokens))
        return array("i", tokens)  # a list of numbers takes nine times as much


def serve(model: PooledModel, order: dict[str, Any], pulse: Pulse, tell: Tell) -> None:
    """Serves until the process is told to end; `tell` tells the parent a state and its reason."""

    def make(loop: asyncio.AbstractEventLoop, desk: Desk) -> tuple[web.Application, PooledWorker]:
        worker = PooledWorker(model, loop, pulse)
        return PooledWire(model, order, worker, desk).app(), worker

    endpoint.serve(make, order["socket"], pulse, tell)


def _named(number: int, count: int) -> str:
    return "the input" if count == 1 else f"input {number}"


def _pair_named(number: int) -> str:
    return f"the query with document {number}"


def _sound(rows: Rows, named: Callable[[int], str]) -> Rows:
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if bad.size:
        raise Refused(f"the model gave no numbers for {named(int(bad[0]))}", "engine_error", 500)
    return rows


def _usage(tokens: Tokens) -> dict[str, int]:
    count = sum(map(len, tokens))
    return {"prompt_tokens": count, "total_tokens": count}

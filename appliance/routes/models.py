"""`/v1/models`, `/v1/embeddings` and `/v1/rerank`; the numbers of one model never stand for another's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from litestar import Request, get, post
from litestar.types import ASGIApp

from appliance.answer.answering import Answering
from appliance.answer.pooling import named
from appliance.engine.pooled_request import AUTO, REQUEST_TEXTS
from appliance.engine.vectors import as_document
from appliance.gateway.call import RANKING, VECTORS
from appliance.routes.bodies import EmbeddingRequest, RerankRequest, read
from appliance.routes.errors import ApiError, not_ready, unknown_model
from appliance.routes.metered import spend_numbers
from appliance.routes.present import MODE, SERVED_BY
from appliance.routes.reply import Whole, as_json
from bundler.format.service import EMBEDDING, RERANK


@get("/models")
async def list_models(request: Request[Any, Any, Any]) -> ASGIApp:
    return as_json({"object": "list", "data": [_model(name) for name in known(request.app.state.answering)]})


@get("/models/{name:path}")
async def one_model(request: Request[Any, Any, Any]) -> ASGIApp:
    names = known(request.app.state.answering)
    wanted = request.path_params["name"].removeprefix("/")
    if wanted not in names:
        raise unknown_model(wanted, names)
    return as_json(_model(wanted))


@post("/embeddings", status_code=200)
async def embeddings(request: Request[Any, Any, Any]) -> ASGIApp:
    answering: Answering = request.app.state.answering
    asked, body = await read(request, EmbeddingRequest, answering.settings.body_wait_s)
    spec, local = answering.box.service.embedding, answering.pooling.serving(EMBEDDING)
    names = [*([spec.name] if spec else []), *local]
    name = named(asked.model, names)
    if name is None:
        raise unknown_model(asked.model, [AUTO, *names] if names else [])
    if name in local:
        return _pooled(request, name, await answering.pool(name, body, VECTORS, request.state.tenant))
    return await _embedded(request, asked)


@post("/rerank", status_code=200)
async def rerank(request: Request[Any, Any, Any]) -> ASGIApp:
    answering: Answering = request.app.state.answering
    names = answering.pooling.serving(RERANK)
    if not names:
        raise ApiError(501, "not_implemented", "no model of this box reranks")
    asked, body = await read(request, RerankRequest, answering.settings.body_wait_s)
    name = named(asked.model, names)
    if name is None:
        raise unknown_model(asked.model, [AUTO, *names])
    return _pooled(request, name, await answering.pool(name, body, RANKING, request.state.tenant))


def _pooled(request: Request[Any, Any, Any], name: str, body: bytes) -> Whole:
    spend_numbers(request, body)
    answering: Answering = request.app.state.answering
    return Whole(body, headers={MODE: answering.climber.mode, SERVED_BY: name})


async def _embedded(request: Request[Any, Any, Any], asked: EmbeddingRequest) -> ASGIApp:
    """Answers by the embedding model of documents and FAQ, in this process."""
    answering: Answering = request.app.state.answering
    spec, encoder = answering.box.service.embedding, answering.box.encoder
    if spec is None or encoder is None:
        raise not_ready("the embedding model is not loaded")
    if asked.dimensions not in (None, spec.dimensions):
        message = f"{spec.name} makes vectors of {spec.dimensions} dimensions, not {asked.dimensions}"
        raise ApiError(400, "unsupported_option", message, param="dimensions")
    texts = texts_of(asked.input)
    ids = await answering.threads.run(lambda: encoder.tokenise(texts))
    # Not in one of those threads: a large request would keep one for as long as it takes, and questions need them.
    vectors = await asyncio.wrap_future(encoder.submit(ids))
    tokens = sum(len(row) for row in ids)
    as_base64 = asked.encoding_format == "base64"
    body = await asyncio.to_thread(lambda: as_document(vectors, spec.name, tokens, base64=as_base64))
    return _pooled(request, spec.name, bytes(body))


def texts_of(given: str | Sequence[Any]) -> list[str]:
    """Returns the texts of a request; raises ApiError where there are too many, or token numbers among them."""
    texts = [given] if isinstance(given, str) else list(given)
    if len(texts) > REQUEST_TEXTS:
        raise ApiError(400, "invalid_value", f"input has {len(texts)} texts, at most {REQUEST_TEXTS}", param="input")
    if not all(isinstance(text, str) for text in texts):
        raise ApiError(400, "unsupported_option", "this model takes texts, not token numbers", param="input")
    if "" in texts:
        raise ApiError(400, "invalid_value", f"text {texts.index('')} of input is empty", param="input")
    return texts


def known(answering: Answering) -> list[str]:
    """Returns every model name that this box takes."""
    embedding = answering.box.service.embedding
    pooling = (*answering.pooling.serving(EMBEDDING), *answering.pooling.serving(RERANK))
    return [*answering.models(), *([embedding.name] if embedding else []), *pooling]


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "lifeboat"}

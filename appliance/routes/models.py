"""`/v1/models` and `/v1/embeddings`; a vector of one model never stands for another's."""

from __future__ import annotations

import base64
from typing import Any

from litestar import Request, get, post
from litestar.types import ASGIApp

from appliance.answer.answering import Answering
from appliance.answer.facts import EncoderFacts
from appliance.gateway.ladder import AUTO
from appliance.routes.bodies import EmbeddingRequest, read
from appliance.routes.errors import ApiError, not_ready, unknown_model
from appliance.routes.present import MODE, SERVED_BY
from appliance.routes.reply import as_json


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
    asked, _ = await read(request, EmbeddingRequest, answering.settings.body_wait_s)
    spec = answering.box.service.embedding
    if spec is None or asked.model not in (AUTO, spec.name):
        raise unknown_model(asked.model, [AUTO, spec.name] if spec else [])
    encoder = answering.box.encoder
    if encoder is None:
        raise not_ready("the embedding model is not loaded")
    if asked.dimensions not in (None, spec.dimensions):
        message = f"{spec.name} makes vectors of {spec.dimensions} dimensions, not {asked.dimensions}"
        raise ApiError(400, "unsupported_option", message, param="dimensions")
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    rows, tokens = await answering.threads.run(lambda: embed(encoder, texts, asked.encoding_format))
    data = [{"object": "embedding", "index": number, "embedding": row} for number, row in enumerate(rows)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    body = {"object": "list", "data": data, "model": spec.name, "usage": usage}
    return as_json(body, headers={MODE: answering.climber.mode, SERVED_BY: spec.name})


def embed(encoder: EncoderFacts, texts: list[str], encoding: str) -> tuple[list[Any], int]:
    """Returns the rows as OpenAI encodes them (little-endian float32 in base64, or numbers), and the tokens read."""
    vectors = encoder.embed(texts).astype("<f4", copy=False)
    tokens = sum(encoder.count_tokens(text) for text in texts)
    if encoding == "base64":
        return [base64.b64encode(row.tobytes()).decode() for row in vectors], tokens
    return [row.tolist() for row in vectors], tokens


def known(answering: Answering) -> list[str]:
    """Returns every model name that this box takes."""
    embedding = answering.box.service.embedding
    return [*answering.models(), *([embedding.name] if embedding else [])]


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "lifeboat"}

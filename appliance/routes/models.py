"""`/v1/models` and `/v1/embeddings`; a vector of one model never stands for another's."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import numpy as np
from litestar import Request, get, post
from litestar.types import ASGIApp
from numpy.typing import NDArray

from appliance.answer.answering import Answering
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
    ids = await answering.threads.run(lambda: encoder.tokenise(texts))
    # Not in one of those threads: a large request would keep one for as long as it takes, and questions need them.
    vectors = await asyncio.wrap_future(encoder.submit(ids))
    rows, tokens = encoded(vectors, asked.encoding_format), sum(len(row) for row in ids)
    data = [{"object": "embedding", "index": number, "embedding": row} for number, row in enumerate(rows)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    body = {"object": "list", "data": data, "model": spec.name, "usage": usage}
    return as_json(body, headers={MODE: answering.climber.mode, SERVED_BY: spec.name})


def encoded(vectors: NDArray[np.float32], encoding: str) -> list[Any]:
    """Returns the rows as OpenAI encodes them: little-endian float32 in base64, or numbers."""
    rows = vectors.astype("<f4", copy=False)
    if encoding == "base64":
        return [base64.b64encode(row.tobytes()).decode() for row in rows]
    return [row.tolist() for row in rows]


def known(answering: Answering) -> list[str]:
    """Returns every model name that this box takes."""
    embedding = answering.box.service.embedding
    return [*answering.models(), *([embedding.name] if embedding else [])]


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "lifeboat"}

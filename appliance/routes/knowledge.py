"""`/v1/search`, `/v1/faq`, `/v1/route` and `/v1/ask`: what the box knows, in its own shapes."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from litestar import Request, post
from litestar.types import ASGIApp

from appliance.answer.answering import Answering
from appliance.answer.facts import KnowledgeFacts
from appliance.answer.rungs import NO_KNOWLEDGE
from appliance.edge.caller import CallerLeft, caller_of
from appliance.gateway.call import Answer
from appliance.routes import present
from appliance.routes.bodies import QuestionRequest, RouteRequest, SearchRequest, once_of, read
from appliance.routes.errors import ApiError, not_ready
from appliance.routes.metered import costs, spend_whole, spender
from appliance.routes.reply import GONE, Whole, as_json


@post("/search", status_code=200)
async def search(request: Request[Any, Any, Any]) -> ASGIApp:
    answering: Answering = request.app.state.answering
    asked, _ = await read(request, SearchRequest, answering.settings.body_wait_s)
    _known("collection", asked.collection, [spec.name for spec in answering.box.service.collections])
    knowledge = _knowledge(answering)
    hits = await answering.threads.run(lambda: knowledge.search(asked.query, asked.top_k, asked.collection))
    return _reply(answering, {"hits": [_hit(hit) for hit in hits]})


@post("/faq", status_code=200)
async def faq(request: Request[Any, Any, Any]) -> ASGIApp:
    answering: Answering = request.app.state.answering
    asked, _ = await read(request, QuestionRequest, answering.settings.body_wait_s)
    knowledge = _knowledge(answering)
    result = await answering.threads.run(lambda: knowledge.faq(asked.question))
    body = {
        "match": _match(result.match) if result.match is not None else None,
        "confidence": float(result.confidence),
        "suggestions": [_match(match) for match in result.suggestions],
    }
    return _reply(answering, body)


@post("/route", status_code=200)
async def route(request: Request[Any, Any, Any]) -> ASGIApp:
    answering: Answering = request.app.state.answering
    asked, _ = await read(request, RouteRequest, answering.settings.body_wait_s)
    routers = [spec.name for spec in answering.box.service.routers]
    if not routers:
        raise ApiError(404, "no_router", "this box has no router")
    _known("router", asked.router, routers)
    knowledge = _knowledge(answering)
    result = await answering.threads.run(lambda: knowledge.route(asked.input, asked.router))
    body = {
        "label": result.label,
        "confidence": float(result.confidence),
        "abstained": bool(result.abstained),
        "candidates": [{"label": label, "confidence": float(share)} for label, share in result.candidates],
    }
    return _reply(answering, body)


@post("/ask", status_code=200)
async def ask(request: Request[Any, Any, Any]) -> ASGIApp:
    answering: Answering = request.app.state.answering
    asked, _ = await read(request, QuestionRequest, answering.settings.body_wait_s)
    started, spend, prompt_bytes = time.monotonic(), spender(request), len(asked.question.encode())
    work = answering.ask(asked.question, request.state.tenant, once_of(request), request.state.grant.regions)
    try:
        served = await caller_of(request.scope).waits_for(work)
    except CallerLeft:
        if spend is not None:
            spend_whole(spend, prompt_bytes, None)
        return GONE
    answer = served.answer
    if spend is not None and costs(answer):
        spend_whole(spend, prompt_bytes, answer.body)
    skipped = [skip.rung for skip in served.skips]
    request.app.state.metrics.answered("/v1/ask", answer.rung, served.mode, skipped, time.monotonic() - started)
    body = {
        "answer": said(answer),
        "rung": answer.rung,
        "citations": [asdict(citation) for citation in answer.citations],
        "confidence": answer.confidence,
        "lifeboat": present.lifeboat(served),
    }
    return as_json(body, headers=present.headers(served))


def said(answer: Answer) -> str:
    """Returns the text of a whole answer's first choice."""
    choices = (answer.body or {}).get("choices") or [{}]
    message = choices[0].get("message")
    content = message.get("content") if isinstance(message, dict) else None
    return content if isinstance(content, str) else ""


def _knowledge(answering: Answering) -> KnowledgeFacts:
    knowledge = answering.box.knowledge
    if knowledge is None:
        raise not_ready(NO_KNOWLEDGE)
    return knowledge


def _known(field: str, name: str | None, names: list[str]) -> None:
    if name is not None and name not in names:
        message = f"there is no {field} {name[:100]!r} here; this box has: {', '.join(names) or 'none'}"
        raise ApiError(404, f"{field}_not_found", message, param=field)


def _reply(answering: Answering, body: dict[str, Any]) -> Whole:
    return as_json(body, headers={present.MODE: answering.climber.mode})


def _hit(hit: Any) -> dict[str, Any]:
    place = {"source": hit.source, "start": int(hit.start), "end": int(hit.end)}
    found = {"text": hit.text, **place, "score": float(hit.score), "collection": hit.collection}
    return {**found, "id": hit.id} if hit.id else found


def _match(match: Any) -> dict[str, str]:
    return {"id": match.id, "question": match.question, "answer": match.answer}

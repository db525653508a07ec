"""`/health/live`, `/health/ready`, `/metrics`; and the public `/status.json`, which tells what the page shows."""

from __future__ import annotations

from typing import Any

from litestar import Request, get
from litestar.types import ASGIApp

from appliance.answer.answering import Answering
from appliance.answer.facts import EngineFacts
from appliance.answer.jobs import Jobs
from appliance.edge.metrics import CONTENT_TYPE, Seen, UpstreamSeen
from appliance.engine.fit import explained
from appliance.routes.guards import monitor_guard
from appliance.routes.reply import Whole, as_json
from bundler.format.service import CACHE


@get("/health/live")
async def live() -> ASGIApp:
    return as_json({"live": True})


@get("/health/ready", guards=[monitor_guard])
async def ready(request: Request[Any, Any, Any]) -> ASGIApp:
    answering: Answering = request.app.state.answering
    body = readiness(answering, request.app.state.jobs)
    return as_json(body, status=200 if body["ready"] else 503, headers={} if body["ready"] else {"Retry-After": "5"})


@get("/metrics", guards=[monitor_guard])
async def metrics(request: Request[Any, Any, Any]) -> ASGIApp:
    answering: Answering = request.app.state.answering
    states = [(state.rung, state.kind, state.state == "ready") for state in answering.states()]
    health = answering.health
    tickets = answering.tickets.facts() if answering.tickets is not None else None
    jobs: Jobs | None = request.app.state.jobs
    request.app.state.metrics.worked(jobs.facts() if jobs is not None else None)
    request.app.state.metrics.cached(answering.cache.facts() if answering.cache is not None else None)
    cloud = [
        UpstreamSeen(name, health.breaker(name).state, health.watched(name), health.throttled(name))
        for name in health.names
    ]
    seen = Seen(answering.climber.mode, answering.box.version, answering.pinned.now.target, answering.prober.counts)
    page = request.app.state.metrics.page(seen, states, cloud, tickets)
    return Whole(page, media_type=CONTENT_TYPE)


@get("/status.json")
async def status(request: Request[Any, Any, Any]) -> ASGIApp:
    answering: Answering = request.app.state.answering
    rungs = [{"rung": state.rung, "kind": state.kind, "state": state.state} for state in answering.states()]
    box = answering.box
    return as_json(
        {
            "mode": answering.climber.mode,
            "pinned": answering.pinned.now.words,
            "version": box.version,
            "ready": can_serve(answering),
            "rungs": rungs,
        }
    )


def readiness(answering: Answering, jobs: Jobs | None = None) -> dict[str, Any]:
    """Returns everything that an operator asks of a serving box."""
    box = answering.box
    devices = {name: engine.device for name, engine in box.engines.items() if engine.state == "ready"}
    if box.encoder is not None and box.service.embedding is not None:
        devices[box.service.embedding.name] = box.encoder.provider
    rungs = [
        {"rung": state.rung, "kind": state.kind, "state": state.state, "reason": state.reason}
        for state in answering.states()
    ]
    return {
        "ready": can_serve(answering),
        "mode": answering.climber.mode,
        "pinned": answering.pinned.now.words,
        "version": box.version,
        "bundle": box.bundle,
        "profile": box.service.profile,
        "title": box.service.title,
        "device": devices,
        "embedding_precision": box.encoder.precision if box.encoder is not None else None,
        "models": [
            {
                "name": model.name,
                "serves": model.serves,
                "digest": model.digest,
                "fit": _fit(box.engines.get(model.name)),
            }
            for model in box.service.models
        ],
        "engines": [
            {
                "name": name,
                "state": engine.state,
                "reason": engine.reason,
                "restarts": engine.restarts,
                "last_end": engine.last_end,
            }
            for name, engine in box.engines.items()
        ],
        **box.told(),
        "handoff": answering.tickets.facts().as_json() if answering.tickets is not None else None,
        "jobs": jobs.facts().as_json() if jobs is not None else None,
        "cache": answering.cache.facts().as_json() if answering.cache is not None else None,
        "rungs": rungs,
    }


def _fit(engine: EngineFacts | None) -> dict[str, Any] | None:
    """Tells how a model runs here and why; None where it does not, which its rung explains."""
    return None if engine is None or engine.fit is None else explained(engine.fit)


def can_serve(answering: Answering) -> bool:
    """Says whether any rung can answer a new question; words of regret are no service, nor are old answers."""
    return any(state.state == "ready" for state in answering.states() if state.kind not in ("message", CACHE))

"""`Prefer: respond-async` (RFC 7240) on completions, and `/v1/jobs/ID`: requests that nobody waits for."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from typing import Any

from litestar import Request, delete, get
from litestar.types import ASGIApp

from appliance.answer.answering import Answering, UnknownModel
from appliance.answer.job import Again, Asked, Job, Outcome
from appliance.answer.jobs import Jobs, Reused
from appliance.edge.quota import Quotas
from appliance.edge.tokens import Token, TokenStore
from appliance.gateway.call import Call
from appliance.gateway.climb import NoRung
from appliance.gateway.outcome import Refused
from appliance.gateway.pace import prompt_bytes
from appliance.gateway.residency import narrowed
from appliance.gateway.route import rungs_of
from appliance.records.entry import Full
from appliance.records.journal import NotKept
from appliance.routes import present
from appliance.routes.errors import ApiError, as_api_error, unknown_model
from appliance.routes.metered import spend_whole
from appliance.routes.reply import Whole, as_json
from bundler.format.errors import BadBundle

RESPOND_ASYNC = "respond-async"
_POLL_S = 2
_MESSAGE = "message"


async def taken(request: Request[Any, Any, Any], call: Call) -> ASGIApp | None:
    """Returns the reply of a job that is on the disk now, None where the caller waits for the answer.

    A preference that a route does not know, or a stream, is passed over, as RFC 7240 has it.

    Raises:
        ApiError: It is not kept.
    """
    said = request.scope["state"]["head"].get(b"prefer", b"").decode("latin-1")
    jobs: Jobs | None = request.app.state.jobs
    if not _prefers_async(said) or call.stream or not call.route.jobs_keep_s or jobs is None:
        return None
    answering: Answering = request.app.state.answering
    if not rungs_of(answering.box.service, call.route):
        raise unknown_model(call.model, answering.models())
    try:
        job, _ = await jobs.take(call)
    except Reused:
        message = "this Idempotency-Key was given with another request; a key is for one"
        raise ApiError(422, "idempotency_key_reused", message) from None
    except NotKept as error:
        raise not_kept(error) from error
    headers = {"Location": f"/v1/jobs/{job.entry.id}", "Preference-Applied": RESPOND_ASYNC}
    return as_json(job.as_json(), status=202, headers=headers | {"Retry-After": str(_POLL_S)})


@get("/jobs/{key:str}")
async def one_job(request: Request[Any, Any, Any]) -> ASGIApp:
    """How a job stands, and what came of it."""
    try:
        job = await _jobs(request).look(request.path_params["key"], request.state.tenant)
    except NotKept as error:
        raise not_kept(error) from error
    if job is None:
        raise _unknown()
    return _told(job)


@delete("/jobs/{key:str}", status_code=200)
async def forget_job(request: Request[Any, Any, Any]) -> ASGIApp:
    """Ends a job, and removes it with whatever came of it."""
    key = request.path_params["key"]
    try:
        had = await _jobs(request).forget(key, request.state.tenant)
    except NotKept as error:
        raise not_kept(error) from error
    if not had:
        raise _unknown()
    return as_json({"id": key, "object": "job", "deleted": True})


def not_kept(error: NotKept) -> ApiError:
    """Returns the error of a job that is not kept: the caller has too many, it is too long, or the box is full."""
    if error.full is Full.TENANT:
        return ApiError(429, "too_many_jobs", error.fact, headers={"Retry-After": "60"})
    if error.full is Full.ONE:
        return ApiError(413, "request_too_large", error.fact)
    return ApiError(507, "jobs_not_kept", f"this box cannot keep it: {error.fact}", headers={"Retry-After": "60"})


async def answered(
    answering: Answering, tokens: TokenStore, quotas: Quotas, tenant: str, asked: Asked
) -> Outcome | Again:
    """Answers a job by its route, without the last message: who does not wait wants an answer, later if need be."""
    try:
        token = await asyncio.to_thread(_token, tokens, tenant)
    except BadBundle:
        return Again("the token file of this box is damaged")
    if token is None:
        return _failed(ApiError(401, "invalid_api_key", "the token of this job is no longer valid"), asked)
    limited = token.grant.tokens_a_day
    if limited and quotas.used(tenant) >= limited:
        return Again("its token has used up its day")
    call = _call(answering, token, asked)
    try:
        served = await answering.complete(call)
    except NoRung as error:
        return _failed(as_api_error(error, answering), asked) if error.incapable else Again("no rung serves it now")
    except (Refused, UnknownModel) as error:
        return _failed(as_api_error(error, answering), asked)
    if limited:
        spend_whole(partial(quotas.spend, tenant), prompt_bytes(asked.body), served.answer.body)
    return Outcome(200, present.whole(served), asked.digest, asked.keep_s)


def _call(answering: Answering, token: Token, asked: Asked) -> Call:
    """Returns a job as a call; where its data may go is what its token said then, and says now."""
    call = answering.call(asked.body, asked.wire, token.id, ", ".join(asked.via))
    rungs = rungs_of(answering.box.service, call.route)
    names = tuple(rung.name for rung in rungs if rung.kind != _MESSAGE)
    regions = narrowed((asked.regions, token.grant.regions))
    return replace(call, route=replace(call.route, rungs=names), regions=regions, later=True)


def _failed(error: ApiError, asked: Asked) -> Outcome:
    return Outcome(error.status, error.body, asked.digest, asked.keep_s)


def _token(tokens: TokenStore, tenant: str) -> Token | None:
    now_s = time.time()
    return next((one for one in tokens.list() if one.id == tenant and not 0 < one.expires <= now_s), None)


def _prefers_async(header: str) -> bool:
    parts = (part.partition(";")[0].strip().lower() for part in header.split(","))
    return RESPOND_ASYNC in parts


def _jobs(request: Request[Any, Any, Any]) -> Jobs:
    jobs: Jobs | None = request.app.state.jobs
    if jobs is None:
        raise _unknown()
    return jobs


def _unknown() -> ApiError:
    return ApiError(404, "job_not_found", "there is no job of this id here, or its time is over", param="id")


def _told(job: Job) -> Whole:
    return as_json(job.as_json(), headers={} if job.over else {"Retry-After": str(_POLL_S)})

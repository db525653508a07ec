"""`answer(request, ladder)`: joins the box, its clients and the climber; the routes call only this."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

from appliance.answer.cached import AnswerCache, as_answer
from appliance.answer.facts import Box, EngineFacts
from appliance.answer.off import switched_off
from appliance.answer.pooling import NotServing, Pooling
from appliance.answer.rungs import NO_KNOWLEDGE, Rungs
from appliance.answer.targets import engine_target, provider_target
from appliance.answer.threads import BoundedThreads
from appliance.answer.tickets import Tickets
from appliance.answer.upkeep import Upkeep
from appliance.engine.pooled_request import AUTO
from appliance.gateway.abilities import goes_on, unable
from appliance.gateway.breaker import Rules
from appliance.gateway.call import CHAT, Call, Served, Skip
from appliance.gateway.climb import Climber, NoRung
from appliance.gateway.health import Health, Known, fingerprint
from appliance.gateway.ladder import order
from appliance.gateway.modes import WATCH
from appliance.gateway.options import ignorable_of, needs_of, question_of
from appliance.gateway.other_box import passed
from appliance.gateway.outcome import Failed, Refused
from appliance.gateway.pace import Limits
from appliance.gateway.pin_file import Pinned
from appliance.gateway.prober import Prober
from appliance.gateway.resume import Resumes
from appliance.gateway.route import after, names_of, route_of, rungs_of
from appliance.gateway.stitch import Stitched, continuing, may_continue
from appliance.gateway.upstream import Client, Target
from appliance.settings import Settings
from bundler.format.service import CACHE, CONTINUE, RouteSpec, RungSpec, UpstreamSpec

# A continuation begins within this, also where the time of its request is nearly over: its first part was sent.
CONTINUE_S = 20.0
# The engine queues requests and runs on CPUs: only silence far beyond one slow token means that it hangs.
ENGINE_STALL_S = 60.0


class UnknownModel(Exception):
    """No rung serves a model of this name."""


@dataclass(frozen=True)
class RungState:
    """One rung as `/health/ready` shows it: ready, failing, loading, missing, failed, off or pinned."""

    rung: str
    kind: str
    state: str
    reason: str


class Answering:
    """The answering side of one serving process; `async with` it around the serving.

    Args:
        box: What is installed.
        settings: Read at start.
        clock: Monotonic seconds.
        tickets: Of the last rung; None where it makes none.
        cache: Of answers; None where none are kept.
    """

    def __init__(
        self,
        box: Box,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        tickets: Tickets | None = None,
        cache: AnswerCache | None = None,
    ) -> None:
        service = box.service
        self.box, self.settings, self._clock = box, settings, clock
        self.id = secrets.token_hex(8)  # random, so that it says nothing but whether two are one
        self.threads = BoundedThreads(settings.knowledge_threads, service.limits.queue_requests)
        auto = route_of(service, AUTO)
        chat = rungs_of(service, auto) if auto is not None else ()
        self._off = dict(switched_off(service.upstreams, settings, box.policy.egress))
        self.health = Health(
            [_known(upstream, settings) for upstream in service.upstreams if upstream.name not in self._off],
            Rules(open_s=settings.open_s, longest_s=settings.open_longest_s, look_s=settings.look_s),
            probed=settings.probe_s > 0,
            clock=clock,
            chance=random.random,
        )
        cloud = [rung for rung in chat if rung.kind == "upstream"]
        every = [rung.name for rung in service.ladder.rungs if rung.kind == "upstream"]
        self.climber = Climber(cloud, service.ladder.banner, self.health, self._away, every)
        self.pinned = Pinned(settings.pin, clock)
        self._stack, self.leaving = AsyncExitStack(), asyncio.Event()
        self._clients: dict[str, Client] = {}
        self.pooling = Pooling(service.models, box.engines, self._clients)
        self.tickets, self.cache = tickets, cache
        self._rungs = Rungs(box, self._clients, self.threads, new_id, tickets, cache)
        self.resumes = Resumes(clock, self._climb)
        self.prober = Prober(self.health, self._clients, every_s=settings.probe_s, daily=settings.probes_daily)
        self._upkeep = Upkeep(
            self.health,
            self.prober,
            self.pinned,
            lambda target: bool(self._away(target)),
            settings.kept,
            lambda: self.climber.mode == WATCH,
            self._local,
        )

    async def __aenter__(self) -> Answering:
        service = self.box.service
        request_s = service.limits.request_timeout_ms / 1000
        if self.tickets is not None:
            await self._stack.enter_async_context(self.tickets)
        if self.cache is not None:
            await self._stack.enter_async_context(self.cache)
        for upstream in service.upstreams:
            if upstream.name not in self._off:
                await self._open(provider_target(upstream, self.settings))
        for model in service.models:
            if model.name in self.box.engines:
                await self._open(engine_target(model, self.box.engines[model.name], request_s))
        await self._upkeep.start()
        return self

    def leave(self) -> None:
        """Ends what watches: nobody who only looks keeps a version open."""
        self.leaving.set()

    async def __aexit__(self, *_: object) -> None:
        self.leave()
        await self._upkeep.close()
        await self.resumes.close()
        await self.climber.race.close()
        await self._stack.aclose()

    async def _open(self, target: Target) -> None:
        self._clients[target.name] = await self._stack.enter_async_context(Client(target))

    def call(
        self,
        body: dict[str, Any],
        wire: str = CHAT,
        tenant: str = "",
        via: str = "",
        once: str = "",
        regions: tuple[str, ...] | None = None,
    ) -> Call:
        """Returns a checked request body of a tenant as a call; its route has no rungs where its model is not known.

        `via` is the header that names the boxes it has passed, `once` the caller's idempotency key, `regions` those
        that the tenant allows.
        """
        model = str(body.get("model", AUTO))
        route = route_of(self.box.service, model) or RouteSpec(model, ())
        limit_ms = route.deadline_ms or self.box.service.limits.request_timeout_ms
        return Call(
            wire=wire,
            body=body,
            question=question_of(body),
            stream=body.get("stream") is True,
            model=model,
            needs=needs_of(body),
            ignorable=ignorable_of(body),
            deadline_s=self._clock() + limit_ms / 1000,
            tenant=tenant,
            route=route,
            via=(*passed(via), self.id),
            once=once,
            regions=regions,
        )

    async def complete(self, call: Call) -> Served:
        """Answers a chat or text completion.

        Raises:
            UnknownModel: Nothing here has that name.
            NoRung: No rung served it.
            Refused: An upstream refused the request itself.
        """
        rungs = rungs_of(self.box.service, call.route)
        if not rungs:
            raise UnknownModel(call.model)
        cache = self.cache if call.route.cache is not None else None
        if cache is not None and (fresh := await cache.fresh(call)) is not None:
            return self.climber.unasked(as_answer(fresh, CACHE, call, new_id()))
        if all(rung.kind == "model" for rung in rungs):  # nothing else can answer
            await self._rungs.revive(rungs[0], call)
        served = await self._climb(call, rungs)
        if call.stream and call.route.stream == CONTINUE:
            served = self._stitched(call, served, rungs)
        return served if cache is None else replace(served, answer=cache.noting(call, served.answer))

    def broken(
        self, call: Call, served: Served, failure: Failed, made: Callable[[Served], None] | None = None
    ) -> str | None:
        """Keeps a request whose stream broke off after its commit; returns the id to fetch its whole answer by.

        `made` is told of that answer, once.
        """
        rungs = rungs_of(self.box.service, call.route)
        # Where nothing comes after it, the same ones may do better the next time.
        later = after(rungs, served.answer.rung) or rungs
        return self.resumes.put(call, later, _passed(served, later, failure), made)

    async def resumed(self, key: str, tenant: str) -> Served | None:
        """Returns the whole answer of a stream that broke off, None where this tenant has none of that id.

        Raises:
            NoRung, Refused: As `complete`.
        """
        return await self.resumes.get(key, tenant, self.box.service.limits.request_timeout_ms / 1000)

    async def _climb(self, call: Call, rungs: tuple[RungSpec, ...], passed: tuple[Skip, ...] = ()) -> Served:
        cannot = unable(self.box.service, rungs, call)
        able = replace(call, cannot=cannot) if cannot else call
        served = await self.climber.climb(able, rungs, self.unavailable(rungs), self._rungs.open, passed)
        words = self.pinned.now.words
        return replace(served, pinned=words) if words else served

    def _stitched(self, call: Call, served: Served, rungs: tuple[RungSpec, ...]) -> Served:
        """Returns the answer with somebody to go on with it, where there is one."""
        later = tuple(rung for rung in after(rungs, served.answer.rung) if goes_on(self.box.service, rung))
        if not later or not may_continue(call):
            return served

        async def go_on(sent: str, pieces: int, failure: Failed) -> Served | None:
            rest = continuing(call, sent, pieces, max(call.deadline_s, self._clock() + CONTINUE_S))
            try:
                return await self._climb(rest, later, _passed(served, later, failure))
            except (NoRung, Refused):  # then the stream ends as it broke
                return None

        working_s = self.settings.keepalive_s
        chunks = Stitched(served.answer, go_on, working_s=working_s, wants_usage=call.wants_usage)
        return replace(served, answer=replace(served.answer, chunks=chunks))

    async def ask(
        self, question: str, tenant: str = "", once: str = "", regions: tuple[str, ...] | None = None
    ) -> Served:
        """Answers a question by the ladder of `/v1/ask`.

        Raises:
            NoRung: No rung served it.
            Refused: An upstream refused the request itself.
        """
        ladder = self.box.service.ladder
        rungs = order(ladder, ladder.ask)
        body = {"messages": [{"role": "user", "content": question}]}
        call = self.call(body, CHAT, tenant, once=once, regions=regions)
        return await self._climb(call, rungs)

    async def pool(self, name: str, body: dict[str, Any], wire: str, tenant: str) -> bytes:
        """Returns what a local model gives for `/v1/embeddings` or `/v1/rerank`, as JSON.

        Raises:
            NotServing: It is not ready, or gave no answer.
            Refused: It refused the request itself.
            Busy: Too many requests wait.
        """
        call = self.call(body, wire, tenant)
        await self.pooling.revive(name, call)
        state, reason = _engine_state(self.box.engines.get(name), known=name in self._clients)
        if state != "ready":
            raise NotServing(f"{name}: {reason}")
        return await self.pooling.ask(name, call)

    def unavailable(self, rungs: Sequence[RungSpec]) -> dict[str, str]:
        """Returns the rungs that cannot be asked now, with the reason."""
        return {rung.name: state[1] for rung in rungs if (state := self._state(rung))[0] != "ready"}

    def states(self) -> list[RungState]:
        """Returns every rung of the profile with its state."""
        rungs = self.box.service.ladder.rungs
        failing = self.climber.failing(rungs)
        states = []
        for rung in rungs:
            state, reason = self._state(rung)
            if state == "ready" and rung.name in failing:
                state, reason = "failing", failing[rung.name]
            if rung.kind == CACHE and self.cache is not None and self.cache.trouble:
                state, reason = "failing", self.cache.trouble
            states.append(RungState(rung.name, rung.kind, state, reason))
        return states

    def models(self) -> list[str]:
        """Returns the names that `model` may have in a chat, `auto` first."""
        return names_of(self.box.service)

    def _away(self, upstream: str) -> str:
        """Returns why an upstream is not asked at all, or ""."""
        return self._off.get(upstream, "") or self.pinned.now.keeps_from(upstream)

    def _local(self) -> list[Client]:
        """Returns the clients of the local chat models that are ready."""
        rungs = [rung for rung in self.box.service.ladder.rungs if rung.kind == "model"]
        return [self._clients[rung.target] for rung in rungs if self._state(rung)[0] == "ready"]

    def _state(self, rung: RungSpec) -> tuple[str, str]:
        if rung.kind == "upstream":
            off, away = rung.target in self._off, self._away(rung.target)
            return ("off" if off else "pinned", away) if away else ("ready", "")
        if rung.kind == "model":
            return _engine_state(self.box.engines.get(rung.target), known=rung.target in self._clients)
        if rung.kind == CACHE and self.cache is None:
            return "off", "this box keeps no answers"
        if rung.kind in ("faq", "documents") and self.box.knowledge is None:
            return "missing", NO_KNOWLEDGE
        return "ready", ""


def _passed(served: Served, later: Sequence[RungSpec], failure: Failed) -> tuple[Skip, ...]:
    """Returns the rungs that did not serve a request, up to the one whose stream broke off."""
    names = {rung.name for rung in later}
    before = [skip for skip in served.skips if skip.rung not in names]
    return (*before, Skip(served.answer.rung, f"it broke off in mid-answer ({failure.detail})"))


def _known(upstream: UpstreamSpec, settings: Settings) -> Known:
    target = provider_target(upstream, settings)
    limits = Limits(target.first_token_s, target.whole_s, target.stall_s)
    return Known(upstream.name, upstream.model, fingerprint(target.key, settings.secret), limits)


def new_id() -> str:
    """Returns a fresh completion id."""
    return f"lifeboat-{secrets.token_hex(12)}"


def _engine_state(engine: EngineFacts | None, *, known: bool) -> tuple[str, str]:
    if engine is None or not known:
        return "missing", "the local model is not installed"
    if engine.state == "ready":
        return "ready", ""
    detail = f": {engine.reason}" if engine.reason else ""
    return engine.state, f"the local model is {engine.state}{detail}"

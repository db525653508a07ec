"""Probes upstreams that are not well, and tells `Health` what it found; one probe of an upstream at a time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from appliance.gateway import breaker as breakers
from appliance.gateway import probe, relay
from appliance.gateway.call import CHAT, Call
from appliance.gateway.classify import classify
from appliance.gateway.health import Health
from appliance.gateway.outcome import SUCCEEDED, Failed, Meaning, Verdict
from appliance.gateway.probe import BILLED, UNBILLED, Probes
from appliance.gateway.upstream import Client

UNBILLED_S = 5.0
BILLED_S = 30.0


class Prober:
    """The probes of one serving process.

    Args:
        health: What is known, and where what was found goes.
        clients: An open client for each upstream, by name.
        every_s: Time between two unbilled probes; 0 for no probes at all.
        daily: Billed probes of an upstream in a day.
        unix: The wall clock, for the day.

    Attributes:
        probes: What was probed, by upstream.
        counts: (upstream, kind, "good" or "bad") -> how often.
    """

    def __init__(
        self,
        health: Health,
        clients: Mapping[str, Client],
        *,
        every_s: float,
        daily: int,
        unix: Callable[[], float] = time.time,
    ) -> None:
        self._health, self._clients, self.every_s, self._daily, self._unix = health, clients, every_s, daily, unix
        self.probes = {name: Probes() for name in health.names}
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self._running: dict[str, asyncio.Task[None]] = {}

    def tick(self, away: Callable[[str], bool]) -> None:
        """Starts the probes that are due; `away` says which upstreams are not asked at all."""
        for name in self._health.names if self.every_s else ():
            kind = None if name in self._running or away(name) else self._due(name)
            if kind is not None:
                self._begun(name, kind)
                self._running[name] = asyncio.create_task(self._probe(name, kind))

    async def close(self) -> None:
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    def _begun(self, name: str, kind: str) -> None:
        health, now_s = self._health, self._health.clock()
        self.probes[name] = self.probes[name].asked(kind, now_s, self._unix())
        if kind == BILLED:
            health.put(name, breakers.looked(health.breaker(name), now_s, health.rules, health.chance()))

    def _due(self, name: str) -> str | None:
        return self.probes[name].due(
            self._health.breaker(name),
            self._health.clock(),
            self._unix(),
            every_s=self.every_s,
            daily=self._daily,
            watched=self._health.watched(name),
        )

    async def _probe(self, name: str, kind: str) -> None:
        try:
            good = await (self._unbilled(name) if kind == UNBILLED else self._billed(name))
            self.counts[name, kind, "good" if good else "bad"] += 1
        finally:
            del self._running[name]

    async def _unbilled(self, name: str) -> bool:
        good: bool | None
        try:
            async with asyncio.timeout(UNBILLED_S):
                good = probe.reachable(*await self._clients[name].look("/models", probe.LOOK_BYTES))
        except (Failed, TimeoutError):
            good = False
        health = self._health
        after = breakers.reached(health.breaker(name), health.clock(), health.rules, health.chance(), good=good)
        health.put(name, after)
        return good is True

    async def _billed(self, name: str) -> bool:
        verdict = probe.found(await self._asked(name))
        health = self._health
        health.put(name, breakers.vouched(health.breaker(name), verdict, health.clock(), health.rules, health.chance()))
        return verdict.meaning is Meaning.SUCCESS

    async def _asked(self, name: str) -> Verdict:
        client, limits = self._clients[name], self._health.limits(name, 0, patient=True)
        try:
            live = await relay.stream(client, small_call(self._health.clock()), _body(client), limits)
        except Failed as failure:
            return classify(failure)
        live.close()
        return SUCCEEDED


def _body(client: Client) -> dict[str, Any]:
    return {**probe.BILLED_BODY, "model": client.target.model}


def small_call(now_s: float) -> Call:
    """Returns a request of ours that asks for next to nothing."""
    return Call(
        wire=CHAT,
        body=dict(probe.BILLED_BODY),
        question="",
        stream=True,
        model="",
        needs=frozenset(),
        ignorable=(),
        deadline_s=now_s + BILLED_S,
    )

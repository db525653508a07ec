"""What goes on beside the requests: probes, the pin, the file of what is remembered, and a model kept warm on WATCH."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from appliance.gateway import kept, kept_file, relay
from appliance.gateway.breaker import CLOSED, OPEN
from appliance.gateway.health import Health
from appliance.gateway.kept import Clocks, Kept
from appliance.gateway.lag import BEAT_S
from appliance.gateway.outcome import Failed
from appliance.gateway.pin_file import Pinned
from appliance.gateway.prober import Prober, small_call
from appliance.gateway.upstream import Client
from appliance.unattended import unattended

TICK_S = 1.0
PREWARM_EVERY_S = 60.0

log = logging.getLogger("lifeboat.gateway")


class Upkeep:
    """The work beside the requests of one serving process; `start` it, and `close` it.

    Args:
        health: What is known.
        prober: Probes.
        pinned: The pin.
        away: Says which upstreams are not asked.
        path: Where is kept what is to outlive the process, or None.
        watching: Looks at the mode, and says whether it is WATCH.
        local: The clients of the local models that are ready.
    """

    def __init__(
        self,
        health: Health,
        prober: Prober,
        pinned: Pinned,
        away: Callable[[str], bool],
        path: Path | None,
        watching: Callable[[], bool],
        local: Callable[[], Sequence[Client]],
    ) -> None:
        self._health, self._prober, self._pinned, self._away = health, prober, pinned, away
        self._path, self._watching, self._local = path, watching, local
        self._tick_s = min(TICK_S, prober.every_s or TICK_S)
        self._written: Kept | None = None
        self._told = False
        self._open: set[str] = set()
        self._pin = ""
        self._warmed_s: float | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._warming: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Takes up what was kept; from now on it goes on by itself."""
        if self._path is not None:
            found = await asyncio.to_thread(kept_file.read, self._path)
            self._restore(found)
        self._pinned.look()
        work = unattended(self._run, "the look at the providers"), unattended(self._beat, "the look at the clock")
        self._tasks = [asyncio.create_task(each) for each in work]

    async def close(self) -> None:
        for task in (*self._tasks, *self._warming):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._warming, return_exceptions=True)
        await self._prober.close()
        await self._keep()

    async def _run(self) -> None:
        while True:
            self._pinned.look()
            self._prober.tick(self._away)
            self._prewarm()
            self._tell()
            await self._keep()
            await asyncio.sleep(self._tick_s)

    async def _beat(self) -> None:
        """Notes how late this process is, so that no provider is blamed for it."""
        health = self._health
        while True:
            began_s = health.clock()
            await asyncio.sleep(BEAT_S)
            now_s = health.clock()
            health.lag.beat(now_s, now_s - began_s - BEAT_S)

    def _tell(self) -> None:
        """Has the log say when a provider was away, and when the box was pinned; in our own words alone."""
        for name in self._health.names:
            breaker = self._health.breaker(name)
            if breaker.state == OPEN and name not in self._open:
                self._open.add(name)
                log.warning("provider %s is left alone: %s", name, breaker.reason)
            elif breaker.state == CLOSED and name in self._open:
                self._open.discard(name)
                log.warning("provider %s serves again", name)
        if (pin := self._pinned.now.words) != self._pin:
            self._pin = pin
            log.warning("the box is pinned to %s", pin) if pin else log.warning("the box is pinned no more")

    def _prewarm(self) -> None:
        now_s = self._health.clock()
        rested = self._warmed_s is None or now_s - self._warmed_s >= PREWARM_EVERY_S
        if self._watching() and rested:
            self._warmed_s = now_s
            for client in self._local():
                task = asyncio.create_task(touch(client, now_s))
                self._warming.add(task)
                task.add_done_callback(self._warming.discard)

    def _restore(self, found: Kept) -> None:
        clocks = self._clocks()
        for record in found.upstreams:
            name = self._health.keys.get((record.name, record.model, record.credential))
            if name is not None:
                breaker, probes = kept.restored(record, clocks, self._health.rules)
                self._health.put(name, breaker)
                self._prober.probes[name] = probes

    async def _keep(self) -> None:
        """Writes what changed; a disk that takes no note must not end the serving."""
        if self._path is None:
            return
        found = {
            key: (self._health.breaker(name), self._prober.probes[name]) for key, name in self._health.keys.items()
        }
        record = kept.kept(found, self._clocks())
        if self._written is not None and kept.alike(record, self._written):
            return
        try:
            await asyncio.to_thread(kept_file.write, self._path, record)
        except OSError as error:
            if not self._told:
                self._told = True
                log.warning("what is known of the providers is not kept over a restart: %s", error.strerror)
            return
        self._written, self._told = record, False

    def _clocks(self) -> Clocks:
        return Clocks(self._health.clock(), time.time())


async def touch(client: Client, now_s: float) -> None:
    """Has a local model say one token, so that its weights are in memory when they are needed."""
    call = small_call(now_s)
    with suppress(Failed):  # it says itself how it is
        await relay.whole(client, call, {**call.body, "model": client.target.model, "max_tokens": 1, "stream": False})

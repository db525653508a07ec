"""Asks a local engine again where it died under a request of which the caller has not seen a byte.

Rules:
1. A whole answer and a stream before its commit lose nothing: they are sent to the next child. All attempts and all
   waits together have the one deadline of their call.
2. Whoever asked for `auto` or another route of several rungs waits at most PATIENCE_S in all, on all rungs together,
   and not at all where loading is known to take longer than what is left: the ladder has other rungs. Whoever named
   the model waits to the deadline.
3. A request may be what kills the engine. The first replay goes with all the others; the second alone among those that
   were there at two deaths. So the guilty one dies by itself; at its third death it gets the error, and no other
   engine is asked. Deaths count for the call, whichever engines they were.
4. Who names a model and comes while it loads again after its end waits by the same rules.
5. Only the engine's end counts: what it answers, and a limit of time, are outcomes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from appliance.engine.pooled_request import AUTO
from appliance.gateway.call import Call
from appliance.gateway.outcome import Failed, Kind

REPLAYS = 2
PATIENCE_S = 10.0

T = TypeVar("T")


class Revivable(Protocol):
    """An engine that comes back after its end; `appliance.engine.parent.Engine` is one."""

    @property
    def generation(self) -> int: ...

    @property
    def state(self) -> str: ...

    async def back(self, after: int, limit_s: float) -> bool:
        """Waits for a child newer than generation `after`; False where none comes within `limit_s`."""


class Replays:
    """The replays of one engine."""

    def __init__(self, engine: Revivable) -> None:
        self._engine = engine
        self._alone = asyncio.Lock()

    async def ask(self, call: Call, attempt: Callable[[], Awaitable[T]]) -> T:
        """Returns what `attempt` returns, at the latest from its third run.

        Raises:
            Failed: The engine did not come back in time, the call was there at three deaths, or another outcome.
        """
        while call.spent.deaths < REPLAYS:
            seen = self._engine.generation
            try:
                return await attempt()
            except Failed as failure:
                await self._again(failure, seen, call)
        return await self._quarantined(call, attempt)

    async def revive(self, call: Call) -> None:
        """Waits where the engine loads again after an end: who comes a moment later is served as who found it dead."""
        generation = self._engine.generation
        if generation and self._engine.state == "loading":
            with _waiting(call) as limit_s:
                await self._engine.back(generation, limit_s)

    async def _quarantined(self, call: Call, attempt: Callable[[], Awaitable[T]]) -> T:
        if call.spent.deaths > REPLAYS:
            raise Failed(Kind.CUT, "local models ended three times under this request")
        try:
            with _waiting(call) as limit_s:
                async with asyncio.timeout(limit_s):
                    await self._alone.acquire()
        except TimeoutError:
            raise Failed(Kind.CUT, "the local model ended twice under this request, and its time is over") from None
        seen = self._engine.generation
        try:
            return await attempt()
        except Failed as failure:
            # The next one in this line must not meet the dead child: it waits for the new one here.
            await self._again(failure, seen, call)
            raise Failed(failure.kind, "the local model ended three times under this request") from failure
        finally:
            self._alone.release()

    async def _again(self, failure: Failed, seen: int, call: Call) -> None:
        """Returns once the engine is back; raises the failure where it was not its end, or it does not come back."""
        if failure.kind not in (Kind.CONNECT, Kind.UNREACHED, Kind.CUT):
            raise failure
        call.spent.deaths += 1
        with _waiting(call) as limit_s:
            back = await self._engine.back(seen, limit_s)
        if not back:
            raise failure


@contextmanager
def _waiting(call: Call) -> Iterator[float]:
    """Counts the time inside on the call; yields the longest that it may be, in seconds."""
    began_s = time.monotonic()
    left_s = call.deadline_s - began_s
    if call.model == AUTO or len(call.route.rungs) > 1:
        left_s = min(left_s, PATIENCE_S - call.spent.waited_s)
    try:
        yield max(0.0, left_s)
    finally:
        call.spent.waited_s += time.monotonic() - began_s

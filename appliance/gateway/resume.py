"""Answers that broke off in mid-stream, to be fetched whole under an id: made by the rest of the ladder when asked for.

Everything is in memory, bounded in number, bytes and time, and each entry is its tenant's alone: an id of another
tenant is an id that does not exist.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

import msgspec

from appliance.gateway.call import Call, Served, Skip, Spent
from bundler.format.service import RungSpec

ENTRIES_MAX, TENANT_ENTRIES_MAX = 256, 64
BYTES_MAX, TENANT_BYTES_MAX = 16 * 2**20, 4 * 2**20
KEPT_S = 600.0
PREFIX = "resume-"


@dataclass
class Broken:
    """A request whose stream broke off.

    Attributes:
        call: What was asked, for a whole answer.
        rungs: Those that may still answer it.
        passed: The rungs that do not, with the reason.
        size_bytes: What the request takes, and the answer once there is one.
        until_s: Monotonic time until which it is kept.
        making: The answer, once somebody asked for it.
        made: Told of the answer once it is there.
    """

    call: Call
    rungs: tuple[RungSpec, ...]
    passed: tuple[Skip, ...]
    size_bytes: int
    until_s: float
    making: asyncio.Task[Served] | None = None
    made: Callable[[Served], None] | None = None


class Resumes:
    """The broken answers of one serving process.

    Args:
        clock: Monotonic seconds.
        make: Answers a call by these rungs, after those that were passed.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        make: Callable[[Call, tuple[RungSpec, ...], tuple[Skip, ...]], Awaitable[Served]],
    ) -> None:
        self._clock, self._make = clock, make
        self._entries: dict[str, Broken] = {}
        self._tasks: set[asyncio.Task[Served]] = set()

    def put(
        self,
        call: Call,
        rungs: tuple[RungSpec, ...],
        passed: tuple[Skip, ...],
        made: Callable[[Served], None] | None = None,
    ) -> str | None:
        """Keeps a request; returns the id under which its answer can be had, None where it is too long to be kept."""
        body = {name: value for name, value in call.body.items() if name not in ("stream", "stream_options")}
        size_bytes = len(msgspec.json.encode(body))
        if size_bytes > TENANT_BYTES_MAX:
            return None
        whole = replace(call, body=body, stream=False, spent=Spent())
        key = PREFIX + secrets.token_urlsafe(18)
        self._entries[key] = Broken(whole, rungs, passed, size_bytes, self._clock() + KEPT_S, made=made)
        self._tidy(call.tenant)
        return key

    async def get(self, key: str, tenant: str, limit_s: float) -> Served | None:
        """Returns the whole answer, None where this tenant has no such id.

        The first one who asks has it made; whoever asks again gets the same, and after a failure it is tried again.

        Raises:
            NoRung, Refused: As `Climber.climb`.
        """
        self._tidy(tenant)
        entry = self._entries.get(key)
        if entry is None or entry.call.tenant != tenant:
            return None
        if entry.making is None or _failed(entry.making):
            entry.making = asyncio.create_task(self._made(entry, limit_s))
            self._tasks.add(entry.making)
            entry.making.add_done_callback(self._tasks.discard)
        # Whoever leaves does not take the answer away from the one who asks again.
        served = await asyncio.shield(entry.making)
        self._tidy(tenant)
        return served

    async def close(self) -> None:
        """Ends what is being made and forgets everything."""
        self._entries.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _made(self, entry: Broken, limit_s: float) -> Served:
        fresh = replace(entry.call, deadline_s=self._clock() + limit_s)
        served = await self._make(fresh, entry.rungs, entry.passed)
        entry.size_bytes += len(msgspec.json.encode(served.answer.body))
        if entry.made is not None:
            entry.made(served)
        return served

    def _tidy(self, tenant: str) -> None:
        """Forgets what is over: by time, then the tenant's oldest, then the oldest of all."""
        now_s = self._clock()
        for key in [key for key, entry in self._entries.items() if now_s > entry.until_s]:
            del self._entries[key]
        own = {key: entry for key, entry in self._entries.items() if entry.call.tenant == tenant}
        while len(own) > TENANT_ENTRIES_MAX or (len(own) > 1 and _size_bytes(own) > TENANT_BYTES_MAX):
            oldest = next(iter(own))
            del own[oldest], self._entries[oldest]
        while len(self._entries) > ENTRIES_MAX or _size_bytes(self._entries) > BYTES_MAX:
            del self._entries[next(iter(self._entries))]


def _size_bytes(entries: Mapping[str, Broken]) -> int:
    return sum(entry.size_bytes for entry in entries.values())


def _failed(task: asyncio.Task[Served]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)

"""How often each token asked and what it used, in memory: numbers for tokens with a limit, and for no others.

Requests of a minute are forgotten with the process. The model tokens of a day are kept over a restart: what was used
since the last look is added to a file (`quota_file`) every few seconds, and never on a request's way; two processes
that serve for a moment both add to it. What a process used in its last seconds is lost where it is killed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from appliance.edge import allowance, quota_file
from appliance.edge.allowance import DAY_S, Left
from appliance.edge.grant import Grant, after_request, spends
from bundler.format.errors import Busy

TOKENS_MOST = 10_000
KEEP_S = 10.0

log = logging.getLogger("lifeboat.quotas")


class Quotas:
    """The requests and the model tokens of a serving process.

    Args:
        clock: Monotonic seconds.
        unix: The wall clock, for the day.
        path: Where the model tokens of the day are kept, or None.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        unix: Callable[[], float] = time.time,
        path: Path | None = None,
    ) -> None:
        self._clock, self._unix, self._path = clock, unix, path
        self._full_at: dict[str, float] = {}
        self._day = self._today()
        self._kept: Counter[str] = Counter()
        self._fresh: Counter[str] = Counter()
        self._told = False

    def ask(self, token: str, grant: Grant, verb: str) -> tuple[Left, ...]:
        """Counts a request of a token; what is left of each of its limits, of which one may have it wait."""
        found: list[Left] = []
        if grant.tokens_a_day:
            found.append(allowance.of_tokens(self.used(token), grant.tokens_a_day, self._unix()))
            if found[0].wait_s and spends(verb):
                return tuple(found)
        if grant.requests_a_minute:
            found.append(self._requested(token, grant.requests_a_minute))
        return tuple(found if spends(verb) else [left for left in found if left.what == allowance.REQUESTS])

    def spend(self, token: str, count: int) -> None:
        """Counts model tokens."""
        self._turn()
        self._fresh[token] += count

    def used(self, token: str) -> int:
        """Returns the model tokens that a token used today."""
        self._turn()
        return self._kept[token] + self._fresh[token]

    async def follow(self) -> None:
        """Keeps up the file, for ever."""
        while True:
            await asyncio.sleep(KEEP_S)
            if self._fresh:
                await self.keep()

    async def keep(self) -> None:
        """Adds what was used to the file, and takes what others added; a disk that takes no note ends nothing."""
        if self._path is None:
            return
        self._turn()
        day, adding = self._day, self._fresh
        self._fresh, self._kept = Counter(), self._kept + adding
        try:
            found = await asyncio.to_thread(quota_file.add, self._path, day, adding)
        except (OSError, Busy) as error:
            if day == self._day:
                self._fresh, self._kept = self._fresh + adding, self._kept - adding
            if not self._told:
                self._told = True
                log.warning("what tokens used today is not kept over a restart: %s", error)
            return
        self._told = False
        if day == self._day:
            self._kept = Counter(found)

    def _requested(self, token: str, a_minute: int) -> Left:
        now_s = self._clock()
        full_at_s, wait_s = after_request(self._full_at.get(token, 0.0), now_s, a_minute)
        self._full_at[token] = full_at_s
        if len(self._full_at) > TOKENS_MOST:  # a bucket that is full again says nothing
            self._full_at = {name: full_s for name, full_s in self._full_at.items() if full_s > now_s}
        return allowance.of_requests(full_at_s, now_s, a_minute, wait_s)

    def _turn(self) -> None:
        """Begins anew with the day."""
        if (today := self._today()) != self._day:
            self._day, self._kept, self._fresh = today, Counter(), Counter()

    def _today(self) -> int:
        return int(self._unix() // DAY_S)

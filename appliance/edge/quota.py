"""How often each token asked, in memory: one number for a token with a limit; full buckets are forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable

from appliance.edge.grant import after_request

TOKENS_MOST = 10_000


class Quotas:
    """The requests of a serving process.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._full_at: dict[str, float] = {}

    def wait_s(self, token: str, a_minute: int) -> float:
        """Counts a request and returns 0, or how long to wait with it."""
        if not a_minute:
            return 0.0
        now_s = self._clock()
        full_at_s, wait_s = after_request(self._full_at.get(token, 0.0), now_s, a_minute)
        self._full_at[token] = full_at_s
        if len(self._full_at) > TOKENS_MOST:  # a bucket that is full again says nothing
            self._full_at = {name: full_s for name, full_s in self._full_at.items() if full_s > now_s}
        return wait_s

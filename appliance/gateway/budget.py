"""How often the same upstream may be asked again: a share of what is asked, so that retries never become a storm. Pure.

The rule is Finagle's retry budget: 20 % of the requests of the last 10 s, and one a second beside.
"""

from __future__ import annotations

from dataclasses import dataclass

WINDOW_S = 10
SHARE = 0.2
FREE_PER_S = 1.0
# Of one request, on all upstreams together: the first time, and two more.
ATTEMPTS = 3
# A throttled upstream is waited for where that is short, and leaves the most of the time to others.
WAIT_MAX_S = 3.0
WAIT_SHARE = 0.25


@dataclass(frozen=True)
class Counted:
    """What happened in one second."""

    second: int
    requests: int = 0
    retries: int = 0


@dataclass(frozen=True)
class RetryBudget:
    """The last seconds, oldest first."""

    seconds: tuple[Counted, ...] = ()

    def requested(self, now_s: float) -> RetryBudget:
        """Returns the budget after one more request."""
        return self._with(now_s, 1, 0)

    def retried(self, now_s: float) -> RetryBudget:
        """Returns the budget after one more retry."""
        return self._with(now_s, 0, 1)

    def allows(self, now_s: float) -> bool:
        """Says whether one more retry is within the budget."""
        recent = self._recent(int(now_s))
        retries, requests = sum(each.retries for each in recent), sum(each.requests for each in recent)
        return retries + 1 <= SHARE * requests + FREE_PER_S * WINDOW_S

    def _with(self, now_s: float, requests: int, retries: int) -> RetryBudget:
        recent = self._recent(int(now_s))
        *before, last = recent if recent and recent[-1].second == int(now_s) else (*recent, Counted(int(now_s)))
        return RetryBudget((*before, Counted(last.second, last.requests + requests, last.retries + retries)))

    def _recent(self, second: int) -> tuple[Counted, ...]:
        return tuple(each for each in self.seconds if second - WINDOW_S < each.second <= second)


def waits(wait_s: float | None, left_s: float) -> bool:
    """Says whether a throttled upstream is waited for, once: at most WAIT_MAX_S and WAIT_SHARE of the time left."""
    return wait_s is not None and wait_s <= min(WAIT_MAX_S, WAIT_SHARE * left_s)

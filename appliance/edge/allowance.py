"""How much of its limits a token has left, in the headers that OpenAI's clients know. Pure.

Requests are a bucket of a minute's size that fills evenly (GCRA, see `grant.after_request`). Model tokens are counted
by the day, in UTC: a request that begins below the limit is served whole, and the next one waits for the next day.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

DAY_S, _MINUTE_S = 86_400, 60.0
REQUESTS, TOKENS = "requests", "tokens"


@dataclass(frozen=True)
class Left:
    """What is left of one limit.

    Attributes:
        what: REQUESTS or TOKENS.
        limit: How many a minute, or a day.
        remaining: How many more now.
        reset_s: Until all of them are there again.
        wait_s: Until the next one is taken; 0 is now.
    """

    what: str
    limit: int
    remaining: int
    reset_s: float
    wait_s: float = 0.0

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """As OpenAI's API names and writes them."""
        values = (("limit", str(self.limit)), ("remaining", str(self.remaining)), ("reset", duration(self.reset_s)))
        return tuple((f"x-ratelimit-{name}-{self.what}".encode(), value.encode()) for name, value in values)


def of_requests(full_at_s: float, now_s: float, a_minute: int, wait_s: float) -> Left:
    """Returns what is left of a bucket after a request.

    Args:
        full_at_s: When it is full again.
        now_s: On the same clock.
        a_minute: Its size.
        wait_s: What the request has to wait.
    """
    full_in_s = max(0.0, full_at_s - now_s)
    # The bucket holds a request for each step of the minute that is not owed; a tiny share more, for the arithmetic.
    remaining = 0 if wait_s else floor((_MINUTE_S - full_in_s) * a_minute / _MINUTE_S + 1e-6)
    return Left(REQUESTS, a_minute, max(0, remaining), full_in_s, wait_s)


def of_tokens(used: int, a_day: int, unix_s: float) -> Left:
    """Returns what is left of a day's model tokens."""
    left_s = DAY_S - unix_s % DAY_S
    return Left(TOKENS, a_day, max(0, a_day - used), left_s, left_s if used >= a_day else 0.0)


def duration(seconds: float) -> str:
    """Writes a time as OpenAI's headers do: `1s`, `6m0s`, `4h5m6s`; it is never told too short."""
    minutes, rest_s = divmod(ceil(seconds), 60)
    hours, rest_m = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{rest_m}m" if minutes else "") + f"{rest_s}s"

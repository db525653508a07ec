"""When an upstream is probed, and what a probe found. Pure.

The unbilled probe asks for the list of models, every `every_s` while the upstream is not well or there is a doubt,
twice as often where its first tokens come late. The billed one asks for 16 tokens, once the unbilled one was good and
the last look is a while ago, at most one a minute and `daily` a day, and never while a request is on trial.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from appliance.gateway.breaker import BUCKET_S, CLOSED, Breaker
from appliance.gateway.outcome import Meaning, Verdict

UNBILLED, BILLED = "unbilled", "billed"
BILLED_EVERY_S = 60.0
DOUBT_S = 60.0
DAY_S = 86_400
# Reasoning models need a few tokens before they say anything; OpenAI's smallest limit is 16.
BILLED_TOKENS = 16
BILLED_BODY = {"messages": [{"role": "user", "content": "Say OK."}], "max_tokens": BILLED_TOKENS, "stream": True}
LOOK_BYTES = 64


@dataclass(frozen=True)
class Probes:
    """What was probed of one upstream; times are monotonic seconds, `day` is a number of days of Unix time."""

    unbilled_s: float | None = None
    billed_s: float | None = None
    day: int = 0
    today: int = 0

    def due(
        self, breaker: Breaker, now_s: float, unix_s: float, *, every_s: float, daily: int, watched: bool
    ) -> str | None:
        """Returns which probe is due, if any."""
        if now_s < breaker.throttled_s or not (breaker.state != CLOSED or watched or in_doubt(breaker, now_s)):
            return None
        if breaker.state != CLOSED and breaker.reachable and not breaker.trial and now_s >= breaker.due_s:
            rested = self.billed_s is None or now_s - self.billed_s >= BILLED_EVERY_S
            if rested and self._spent(unix_s) < daily:
                return BILLED
        every_s = every_s / 2 if watched else every_s
        return UNBILLED if self.unbilled_s is None or now_s - self.unbilled_s >= every_s else None

    def asked(self, kind: str, now_s: float, unix_s: float) -> Probes:
        """Returns the state after a probe began."""
        if kind == UNBILLED:
            return replace(self, unbilled_s=now_s)
        return replace(self, billed_s=now_s, day=int(unix_s // DAY_S), today=self._spent(unix_s) + 1)

    def _spent(self, unix_s: float) -> int:
        # A clock that went back starts no new day.
        return self.today if int(unix_s // DAY_S) <= self.day else 0


def in_doubt(breaker: Breaker, now_s: float) -> bool:
    """Says whether a closed upstream failed last, and not long ago."""
    return breaker.streak > 0 and any(now_s - bucket.slot * BUCKET_S < DOUBT_S for bucket in breaker.buckets)


def reachable(status: int, beginning: bytes) -> bool | None:
    """Says whether an unbilled probe found the upstream itself, None where it cannot tell.

    A list of models that is refused or not there still shows that it is up. A page or a redirect in its stead may be a
    captive portal, or an upstream that has no such list: nothing is paid for on its word, and nobody is shut out by it.

    Args:
        status: Of the response.
        beginning: The first bytes of its body.
    """
    if 200 <= status < 300:
        return True if beginning.lstrip()[:1] in (b"{", b"[") else None
    return None if status < 400 else status < 500


def found(verdict: Verdict) -> Verdict:
    """Returns what a billed probe found: a refusal of our own small request comes from an upstream that is up."""
    refused = verdict.meaning in (Meaning.CALLER, Meaning.INCAPABLE, Meaning.SOFT)
    return Verdict(Meaning.SUCCESS, "") if refused else verdict

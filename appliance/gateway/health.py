"""What the gateway has learned of its upstreams: one breaker and one pace each, and the budget of retries.

No I/O; one object a serving process, used from one event loop. The deciding is in `breaker`, `pace`, `spike`, `budget`
and `modes`. Health is our own evidence alone: outcomes of requests and of our own probes, never a provider's dashboard.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from appliance.gateway import breaker as breakers
from appliance.gateway import modes, pace
from appliance.gateway.breaker import Breaker, Permit, Rules
from appliance.gateway.budget import ATTEMPTS, RetryBudget, waits
from appliance.gateway.call import Call
from appliance.gateway.classify import PAUSES_S
from appliance.gateway.lag import Lag
from appliance.gateway.modes import Moded, Standing
from appliance.gateway.outcome import NOTHING_LEARNED, SUCCEEDED, Meaning, Verdict
from appliance.gateway.pace import Limits, Pace
from appliance.gateway.spike import Spike

RETRY_JITTER = 0.1


@dataclass(frozen=True)
class Known:
    """An upstream that may be asked.

    Args:
        name: The upstream's name.
        model: The model's name there.
        credential: `fingerprint` of its key: a new key is a new start.
        limits: What the profile sets.
    """

    name: str
    model: str
    credential: str
    limits: Limits

    @property
    def key(self) -> tuple[str, str, str]:
        return self.name, self.model, self.credential


def fingerprint(key: str, secret: bytes) -> str:
    """Returns what tells one API key from another and nothing about it to who lacks the secret."""
    return hmac.new(secret, key.encode(), hashlib.sha256).hexdigest()[:32]


class Health:
    """Breakers, paces, spikes and the mode.

    Args:
        known: The upstreams, by name.
        rules: The breakers' numbers.
        probed: Whether probes run.
        clock: Monotonic seconds.
        chance: Returns numbers from 0 to 1.
    """

    def __init__(
        self,
        known: Sequence[Known],
        rules: Rules,
        *,
        probed: bool,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self.rules, self.probed, self.clock, self.chance = rules, probed, clock, chance
        self._known = {each.name: each for each in known}
        self._breakers = {each.name: Breaker() for each in known}
        self._paces: dict[tuple[str, int], Pace] = {}
        self._spikes = {each.name: Spike() for each in known}
        self._budget = RetryBudget()
        self.lag = Lag()
        self._moded = Moded(since_s=clock())

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._known)

    def breaker(self, name: str) -> Breaker:
        return self._breakers[name]

    def put(self, name: str, breaker: Breaker) -> None:
        """Takes a breaker's new state."""
        self._breakers[name] = breaker

    @property
    def keys(self) -> Mapping[tuple[str, str, str], str]:
        """(name, model, credential) -> name of all upstreams."""
        return {each.key: each.name for each in self._known.values()}

    def admit(self, name: str, call: Call, *, alternatives: bool) -> Asking | str:
        """Gives leave to ask an upstream for a call, or says why nobody asks it now."""
        now_s = self.clock()
        if call.spent.attempts >= ATTEMPTS:
            return f"{ATTEMPTS} attempts at providers are spent on this request"
        before = self._breakers[name]
        after, permit = breakers.admit(before, now_s, self.rules, probed=self.probed, alternatives=alternatives)
        self._breakers[name] = after
        if permit is None:
            return self._denied(name)
        self._budget = self._budget.requested(now_s)
        call.spent.attempts += 1
        return Asking(self, name, permit, pace.size_of(pace.prompt_bytes(call.body)))

    def again(self, name: str, call: Call) -> Permit | None:
        """Gives leave to ask once more at once, where the breaker and the budgets allow it."""
        now_s = self.clock()
        breaker = self._breakers[name]
        closed = breaker.state == breakers.CLOSED and now_s >= breaker.throttled_s
        if not closed or call.spent.attempts >= ATTEMPTS or not self._budget.allows(now_s):
            return None
        self._budget = self._budget.retried(now_s)
        call.spent.attempts += 1
        return Permit(breaker.epoch)

    def learn(self, name: str, permit: Permit, verdict: Verdict, *, cost_s: float = 0.0, slow: bool = False) -> None:
        """Takes an outcome of a request."""
        self._breakers[name] = breakers.after(
            self._breakers[name],
            permit,
            verdict,
            self.clock(),
            self.rules,
            cost_s=cost_s,
            slow=slow,
            chance=self.chance(),
        )

    def limits(self, name: str, size: int, *, patient: bool) -> Limits:
        """Returns how long an attempt may take."""
        return pace.limits(self._paces.get((name, size), Pace()), self._known[name].limits, patient=patient)

    def timed(self, name: str, size: int, change: Callable[[Pace], Pace]) -> Pace:
        """Takes a sample; returns the pace before it."""
        before = self._paces.get((name, size), Pace())
        self._paces[name, size] = change(before)
        return before

    def first_token(self, name: str, seconds: float, usual: Pace) -> None:
        """Takes how long a first token took, to see whether that is a spike."""
        self._spikes[name] = self._spikes[name].seen(seconds, self.clock(), usual.first_p95_s)

    def watched(self, name: str) -> bool:
        """Says whether the first tokens of an upstream come far later than usual."""
        return self._spikes[name].anomalous(self.clock())

    def throttled(self, name: str) -> bool:
        """Says whether an upstream asked to be left alone for now."""
        return self.clock() < self._breakers[name].throttled_s

    def failing(self, name: str) -> str | None:
        """Returns why an upstream failed last, until it answered again; None where all is well."""
        breaker = self._breakers[name]
        if breaker.state == breakers.CLOSED and not self.throttled(name):
            return f"{breaker.reason}; asked again now" if breaker.reason else None
        return self._denied(name)

    def mode(self, upstreams: Sequence[str], away: Callable[[str], bool]) -> str:
        """Looks at the upstreams of the ladder, best first, and returns the mode; `away` says which are off."""
        standings = [self._standing(name, asked=name in self._known and not away(name)) for name in upstreams]
        self._moded = self._moded.moved(modes.observed(standings), self.clock())
        return self._moded.mode

    def _standing(self, name: str, *, asked: bool) -> Standing:
        if not asked:
            return Standing(well=False)
        breaker = self._breakers[name]
        well = breaker.state == breakers.CLOSED and not self.throttled(name)
        return Standing(well, self.watched(name))

    def _denied(self, name: str) -> str:
        now_s, breaker = self.clock(), self._breakers[name]
        reason = breaker.reason or "it is throttled"
        if now_s >= breaker.throttled_s and breaker.state == breakers.CLOSED:
            return "it has just come back, and takes a part of the requests"
        if now_s >= breaker.throttled_s and breaker.state == breakers.HALF_OPEN:
            return f"{reason}; asked again now, by one request at a time"
        left_s = breakers.waits_s(breaker, now_s, self.rules, probed=self.probed)
        return f"{reason}; asked again in {max(1, round(left_s))} s"


@dataclass
class Asking:
    """Leave to ask one upstream for one call: what it learns goes back to `Health`, and nothing is left out by anybody.

    Whoever got it says `began` or `ended`, or lets go of it by `release`, which is a word that says nothing.
    """

    health: Health
    name: str
    permit: Permit
    size: int
    asked_s: float = field(init=False)
    retried: bool = False
    waited: bool = False
    over: bool = False
    passed: bool = False
    slow: bool = False

    def __post_init__(self) -> None:
        self.asked_s = self.health.clock()

    @property
    def trial(self) -> bool:
        return self.permit.trial

    @cached_property
    def limits(self) -> Limits:
        """How long the attempt may take; a trial has the time, as the caller is served by others meanwhile."""
        return self.health.limits(self.name, self.size, patient=self.trial)

    def began(self) -> None:
        """The first content is there: a trial has passed, any other attempt is whole only at its end."""
        seconds = max(0.0, self.health.clock() - self.asked_s - self.health.lag.since(self.asked_s))
        usual = self.health.timed(self.name, self.size, lambda known: known.with_first(seconds))
        self.health.first_token(self.name, seconds, usual)
        self.slow = usual.slow(seconds)
        if self.trial:
            self._tell(SUCCEEDED)
            self.permit, self.passed = replace(self.permit, trial=False), True

    def whole(self) -> None:
        """The answer in one piece is there."""
        seconds = self.health.clock() - self.asked_s
        self.health.timed(self.name, self.size, lambda known: known.with_whole(seconds))
        self.ended(SUCCEEDED)

    def streamed(self, gap_s: float | None) -> None:
        """The stream came to its end; its pieces came every `gap_s` on average."""
        if gap_s is not None:
            self.health.timed(self.name, self.size, lambda known: known.with_gap(gap_s))
        self.ended(SUCCEEDED)

    def ended(self, verdict: Verdict) -> None:
        """The attempt is over."""
        good_twice = self.passed and verdict.meaning is Meaning.SUCCESS
        if not self.over and not good_twice:
            self._tell(verdict)
        self.over = True

    def release(self) -> None:
        """Lets go of it where nothing was learned: the caller left."""
        self.ended(NOTHING_LEARNED)

    def pause_s(self, verdict: Verdict, call: Call) -> float | None:
        """Says how long to wait before the same upstream is asked once more, None for not at all.

        A throttled one is waited for once, where it asked for little; the failure of any other counts before.
        """
        left_s = call.deadline_s - self.health.clock()
        if verdict.meaning is Meaning.THROTTLED:
            if self.trial or self.waited or verdict.wait_s is None or not waits(verdict.wait_s, left_s):
                return None
            pause_s = verdict.wait_s * (1 + RETRY_JITTER * self.health.chance())
        elif verdict.again and not self.trial and not self.retried:
            self._tell(verdict)
            least_s, most_s = PAUSES_S[verdict.again]
            pause_s = least_s + (most_s - least_s) * self.health.chance()
        else:
            return None
        return self._again(verdict, call, pause_s)

    def _again(self, verdict: Verdict, call: Call, pause_s: float) -> float | None:
        throttled = verdict.meaning is Meaning.THROTTLED
        permit = self.health.again(self.name, call)
        if permit is None:
            self.over = not throttled  # a failure is counted already
            return None
        self.waited, self.retried = self.waited or throttled, self.retried or not throttled
        self.permit, self.asked_s = permit, self.health.clock() + pause_s
        return pause_s

    def _tell(self, verdict: Verdict) -> None:
        now_s = self.health.clock()
        if verdict.timed and self.health.lag.hides(self.asked_s, now_s):
            verdict = NOTHING_LEARNED
        cost_s = max(0.0, now_s - self.asked_s)
        self.health.learn(self.name, self.permit, verdict, cost_s=cost_s, slow=self.slow)

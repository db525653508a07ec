"""One breaker: whether an upstream is asked, for boxes with one request every few seconds. Pure: values in, values out.

Rules:

1. CLOSED opens after `streak` failures one after the other (a costly one counts more), or where of at least `calls`
   in the last minute half failed, or four fifths were slow. A dead key or a retired model opens it at once.
2. OPEN: nobody asks. It lasts `open_s` times two for each opening since the upstream was last well, with +-20 % of
   chance, at most `longest_s`. Where probes run they find out sooner what is up, and a good billed one ends the open
   time; then a request may try by itself only every `touch_s`, or every `blind_s` while the unbilled probe fails.
3. HALF_OPEN: one request at a time, and each outcome gives its permit back, also one that says nothing. `good` good
   ones close it; a failure opens it again. Who climbs races that request with the box's own rungs.
4. After it closes, a tenth, then half of the requests for 15 s each, and never fewer than one a second: a small box
   is back at once, a busy one does not bury what has just come up.
5. A throttled upstream is asked by nobody until the time that it named. That says nothing about its health: it moves
   no count and no state.
6. An outcome of a request from before the last change of state moves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from appliance.gateway.outcome import Meaning, Verdict

CLOSED, OPEN, HALF_OPEN = STATES = ("closed", "open", "half-open")
WINDOW_S, BUCKET_S = 60.0, 5.0
JITTER = 0.2
RAMP = ((15.0, 0.1), (30.0, 0.5))
RAMP_FREE_PER_S = 1.0
COSTLY_S, WEIGHT_MAX = 5.0, 3.0
THROTTLE_LONGEST_S = 600.0
OUT_OF_REACH = "it is out of reach"
_FATAL = frozenset({Meaning.CREDENTIAL, Meaning.RETIRED})
_NEUTRAL = frozenset({Meaning.NEUTRAL, Meaning.CALLER, Meaning.INCAPABLE})


@dataclass(frozen=True)
class Rules:
    """The numbers; seconds are monotonic.

    Args:
        open_s: The first open time.
        longest_s: The longest.
        touch_s: Where probes run: the least time between two requests that try an upstream which no probe vouches for.
        blind_s: The same while the unbilled probe fails.
        fatal_s: The first open time of a dead key or a retired model.
        fatal_longest_s: The longest.
    """

    open_s: float = 5.0
    longest_s: float = 20.0
    touch_s: float = 30.0
    blind_s: float = 120.0
    fatal_s: float = 60.0
    fatal_longest_s: float = 600.0
    streak: float = 3.0
    calls: int = 5
    failed_share: float = 0.5
    slow_share: float = 0.8
    good: int = 2


@dataclass(frozen=True)
class Bucket:
    """What happened in BUCKET_S from `slot` times BUCKET_S on; a soft failure is half a failed one."""

    slot: int
    calls: int = 0
    failed: float = 0.0
    slow: int = 0


@dataclass(frozen=True)
class Permit:
    """Leave to ask once; `trial` where the upstream is half open."""

    epoch: int
    trial: bool = False


@dataclass(frozen=True)
class Breaker:
    """What is known of one upstream, model and credential. The default is an upstream of which nothing bad is known.

    Args:
        state: CLOSED, OPEN or HALF_OPEN.
        reason: Why it last failed, in our own words; "" once it was well again.
        streak: Weighed failures one after the other.
        buckets: The last minute, oldest first.
        opened: How often it opened since it was last well.
        until_s: When the open time is over.
        touched_s: When a request last found it bad.
        reachable: Whether the last unbilled probe since then was good; None where there was none, or it told nothing.
        throttled_s: Until when it wants to be left alone.
        throttles: How often it said so since it last answered.
        trial: Whether the permit of the half-open state is out.
        good: Good outcomes since it is half open.
        closed_s: When it closed after an outage, or None.
        credit: What the ramp has saved up, from 0 to 1.
        admitted_s: When the ramp last let a request through.
        epoch: Counts the changes of state.
    """

    state: str = CLOSED
    reason: str = ""
    streak: float = 0.0
    buckets: tuple[Bucket, ...] = field(default=())
    opened: int = 0
    until_s: float = 0.0
    touched_s: float = 0.0
    reachable: bool | None = None
    throttled_s: float = 0.0
    throttles: int = 0
    trial: bool = False
    good: int = 0
    closed_s: float | None = None
    credit: float = 0.0
    admitted_s: float = 0.0
    epoch: int = 0


def admit(
    breaker: Breaker, now_s: float, rules: Rules, *, probed: bool, alternatives: bool
) -> tuple[Breaker, Permit | None]:
    """Gives leave to ask, or not.

    Args:
        breaker: The state before.
        now_s: Monotonic.
        rules: The numbers.
        probed: Whether probes run.
        alternatives: Whether another rung could serve; without one the ramp holds nobody back.
    """
    if now_s < breaker.throttled_s or now_s < _asked_at(breaker, rules, probed=probed):
        return breaker, None
    if breaker.state == CLOSED:
        return _ramped(breaker, now_s) if alternatives else (breaker, Permit(breaker.epoch))
    if breaker.trial:
        return breaker, None
    if breaker.state == OPEN:
        breaker = replace(breaker, state=HALF_OPEN, good=0, epoch=breaker.epoch + 1)
    return replace(breaker, trial=True), Permit(breaker.epoch, trial=True)


def after(
    breaker: Breaker,
    permit: Permit,
    verdict: Verdict,
    now_s: float,
    rules: Rules,
    *,
    cost_s: float = 0.0,
    slow: bool = False,
    chance: float = 0.5,
) -> Breaker:
    """Returns the state after a request that was given leave.

    Args:
        breaker: The state before.
        permit: The leave.
        verdict: How it went.
        now_s: Monotonic.
        rules: The numbers.
        cost_s: How long the caller waited for a failure.
        slow: Whether it took far longer than usual to begin.
        chance: From 0 to 1.
    """
    current = permit.epoch == breaker.epoch
    if current and permit.trial:
        breaker = replace(breaker, trial=False)
    if verdict.meaning is Meaning.THROTTLED:
        return throttled(breaker, verdict, now_s, rules, chance)
    if verdict.meaning in _NEUTRAL or not current:
        return breaker
    if verdict.meaning in _FATAL:
        return _opened(breaker, verdict.reason, now_s, rules, chance, fatal=True)
    if breaker.state == HALF_OPEN:
        return _tried(breaker, verdict, now_s, rules, chance)
    return _counted(breaker, verdict, now_s, rules, chance, _weight(verdict, cost_s), slow=slow)


def throttled(breaker: Breaker, verdict: Verdict, now_s: float, rules: Rules, chance: float) -> Breaker:
    """Returns the state after the upstream asked to be left alone; the chance only ever adds to what it named."""
    wait_s = verdict.wait_s
    if wait_s is None:
        wait_s = min(rules.open_s * 2.0 ** min(breaker.throttles, 10), 3 * rules.longest_s)
    until_s = now_s + min(wait_s * (1 + JITTER * chance), THROTTLE_LONGEST_S)
    return replace(
        breaker,
        throttled_s=max(until_s, breaker.throttled_s),
        throttles=breaker.throttles + 1,
        reason=breaker.reason if breaker.state != CLOSED else verdict.reason,
    )


def reached(breaker: Breaker, now_s: float, rules: Rules, chance: float, *, good: bool | None) -> Breaker:
    """Returns the state after an unbilled probe: a half-open upstream that is out of reach is open again.

    Out of reach counts as one more failure of a closed one whose last request failed; alone it is no reason to stop
    asking what serves.
    """
    if breaker.state == CLOSED:
        doubt = Verdict(Meaning.FAILURE, OUT_OF_REACH)
        counts = good is False and breaker.streak > 0
        return _counted(breaker, doubt, now_s, rules, chance, 1.0, slow=False) if counts else breaker
    if breaker.state == HALF_OPEN and good is False and not breaker.trial:
        return replace(breaker, state=OPEN, good=0, reachable=False, epoch=breaker.epoch + 1)
    return replace(breaker, reachable=good)


def vouched(breaker: Breaker, verdict: Verdict, now_s: float, rules: Rules, chance: float) -> Breaker:
    """Returns the state after a billed probe: a good one ends the open time and counts as the first good outcome."""
    if breaker.state == CLOSED:
        return breaker
    if verdict.meaning is Meaning.THROTTLED:
        return throttled(breaker, verdict, now_s, rules, chance)
    if verdict.meaning is not Meaning.SUCCESS:
        if breaker.trial or verdict.meaning in _NEUTRAL:
            return breaker
        fatal = verdict.meaning in _FATAL
        touched_s = breaker.touched_s
        return replace(_opened(breaker, verdict.reason, now_s, rules, chance, fatal=fatal), touched_s=touched_s)
    if breaker.state == OPEN:
        breaker = replace(breaker, state=HALF_OPEN, good=0, epoch=breaker.epoch + 1)
    return _tried(breaker, verdict, now_s, rules, chance)


def waits_s(breaker: Breaker, now_s: float, rules: Rules, *, probed: bool) -> float:
    """Returns how long nobody asks it from now on, if no probe says otherwise."""
    return max(0.0, max(breaker.throttled_s, _asked_at(breaker, rules, probed=probed)) - now_s)


def _asked_at(breaker: Breaker, rules: Rules, *, probed: bool) -> float:
    if breaker.state != OPEN:
        return 0.0
    if not probed:
        return breaker.until_s
    rest_s = rules.blind_s if breaker.reachable is False else rules.touch_s
    return max(breaker.until_s, breaker.touched_s + rest_s)


def _ramped(breaker: Breaker, now_s: float) -> tuple[Breaker, Permit | None]:
    if breaker.closed_s is None or not _ramps(breaker, now_s):
        return breaker, Permit(breaker.epoch)
    share = next(share for until_s, share in RAMP if now_s - breaker.closed_s < until_s)
    credit = breaker.credit + share
    if credit < 1.0 and now_s - breaker.admitted_s < 1 / RAMP_FREE_PER_S:
        return replace(breaker, credit=credit), None
    return replace(breaker, credit=max(0.0, credit - 1.0), admitted_s=now_s), Permit(breaker.epoch)


def _ramps(breaker: Breaker, now_s: float) -> bool:
    return breaker.closed_s is not None and now_s - breaker.closed_s < RAMP[-1][0]


def _opened(
    breaker: Breaker, reason: str, now_s: float, rules: Rules, chance: float, *, fatal: bool = False
) -> Breaker:
    first_s, longest_s = (rules.fatal_s, rules.fatal_longest_s) if fatal else (rules.open_s, rules.longest_s)
    open_s = min(first_s * 2.0 ** min(breaker.opened, 20), longest_s) * (1 + JITTER * (2 * chance - 1))
    return Breaker(
        state=OPEN,
        reason=reason,
        opened=breaker.opened + 1,
        until_s=now_s + open_s,
        touched_s=now_s,
        throttled_s=breaker.throttled_s,
        throttles=breaker.throttles,
        epoch=breaker.epoch + 1,
    )


def _tried(breaker: Breaker, verdict: Verdict, now_s: float, rules: Rules, chance: float) -> Breaker:
    """A good or bad outcome of a half-open upstream; an answer that is merely poor leaves it as it is."""
    if verdict.meaning is Meaning.FAILURE:
        return _opened(breaker, verdict.reason, now_s, rules, chance)
    if verdict.meaning is Meaning.SOFT:
        return replace(breaker, reason=verdict.reason)
    if breaker.good + 1 < rules.good:
        return replace(breaker, good=breaker.good + 1, throttles=0)
    return Breaker(
        opened=breaker.opened, throttled_s=breaker.throttled_s, closed_s=now_s, credit=1.0, epoch=breaker.epoch + 1
    )


def _counted(
    breaker: Breaker, verdict: Verdict, now_s: float, rules: Rules, chance: float, weight: float, *, slow: bool
) -> Breaker:
    """An outcome of a closed one: adds to the counts, and opens where they say so."""
    well = verdict.meaning is Meaning.SUCCESS
    breaker = replace(
        breaker,
        streak=0.0 if well else breaker.streak + weight,
        buckets=_added(breaker.buckets, now_s, min(weight, 1.0), slow=slow),
        reason="" if well else verdict.reason,
        opened=0 if well and not _ramps(breaker, now_s) else breaker.opened,
        throttles=0 if well else breaker.throttles,
    )
    calls = sum(bucket.calls for bucket in breaker.buckets)
    failed, slowed = sum(b.failed for b in breaker.buckets), sum(b.slow for b in breaker.buckets)
    many = calls >= rules.calls
    if breaker.streak >= rules.streak or (many and not well and failed >= rules.failed_share * calls):
        return _opened(breaker, verdict.reason, now_s, rules, chance)
    if many and slow and slowed >= rules.slow_share * calls:
        return _opened(breaker, "it is far slower than usual", now_s, rules, chance)
    return breaker


def _weight(verdict: Verdict, cost_s: float) -> float:
    if verdict.meaning is Meaning.SUCCESS:
        return 0.0
    if verdict.meaning is Meaning.SOFT:
        return 0.5
    return min(1.0 + cost_s // COSTLY_S, WEIGHT_MAX)


def _added(buckets: tuple[Bucket, ...], now_s: float, failed: float, *, slow: bool) -> tuple[Bucket, ...]:
    slot = int(now_s // BUCKET_S)
    recent = tuple(bucket for bucket in buckets if slot - WINDOW_S / BUCKET_S < bucket.slot <= slot)
    *before, last = recent if recent and recent[-1].slot == slot else (*recent, Bucket(slot))
    return (*before, Bucket(slot, last.calls + 1, last.failed + failed, last.slow + slow))

"""One breaker: whether an upstream is asked, for boxes with one request every few seconds. Pure: values in, values out.

Rules:

1. CLOSED opens after `streak` failures one after the other (a costly one counts more), or where of at least `calls`
   in the last minute half failed, or four fifths were slow. A dead key or a retired model opens it at once. Where
   probes run, `streak_again` failures are enough where then a second passed without an answer: who has few requests
   does not send the next one to the same end.
2. OPEN: nobody asks. Where probes run they find out what is up, and a good billed one ends the open time. Beside them a
   request may try: `look_s` after the last look, at once where the unbilled probe is good again, and only every
   `blind_s` while it fails. In each minute `touches` requests at most find it bad.
3. Without probes it is open for `open_s` times two for each opening since it was last well, with +-20 % of chance, at
   most `longest_s`.
4. HALF_OPEN: one request at a time, and each outcome gives its permit back, also one that says nothing. `good` good
   ones close it; a failure opens it again. Who climbs races that request with the box's own rungs.
5. After it closes, a tenth, then half of the requests for 15 s each, and never fewer than one a second: a small box
   is back at once, a busy one does not bury what has just come up. `streak_again` failures open it again.
6. A throttled upstream is asked by nobody until the time that it named. That says nothing about its health: it moves
   no count and no state.
7. An outcome of a request from before the last change of state moves nothing.
"""

from __future__ import annotations

from dataclasses import replace

from appliance.gateway.breaker_state import (
    BUCKET_S,
    CLOSED,
    HALF_OPEN,
    OPEN,
    STATES,
    WINDOW_S,
    Breaker,
    Bucket,
    Permit,
    Rules,
)
from appliance.gateway.outcome import Meaning, Verdict

__all__ = ["BUCKET_S", "CLOSED", "HALF_OPEN", "OPEN", "STATES", "WINDOW_S", "Breaker", "Bucket", "Permit", "Rules"]

JITTER, LOOK_JITTER = 0.2, 0.05
RAMP = ((15.0, 0.1), (30.0, 0.5))
RAMP_FREE_PER_S = 1.0
COSTLY_S, WEIGHT_MAX = 5.0, 3.0
THROTTLE_LONGEST_S = 600.0
# What is asked so soon after was under way together, or is the same request once more.
SAME_TOUCH_S = DOUBT_S = 1.0
OUT_OF_REACH = "it is out of reach"
_FATAL = frozenset({Meaning.CREDENTIAL, Meaning.RETIRED})
_NEUTRAL = frozenset({Meaning.NEUTRAL, Meaning.CALLER, Meaning.INCAPABLE})


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
    if probed and alternatives and _doubted(breaker, now_s, rules):
        breaker = _opened(breaker, breaker.reason, now_s, rules, 0.5, cost_s=now_s - breaker.touches[-1])
    if now_s < breaker.throttled_s or now_s < _asked_at(breaker, rules, probed=probed):
        return breaker, None
    if breaker.state == CLOSED:
        return _ramped(breaker, now_s) if alternatives else (breaker, Permit(breaker.epoch))
    if breaker.trial:
        return breaker, None
    if breaker.state == OPEN:
        breaker = replace(breaker, state=HALF_OPEN, good=0, epoch=breaker.epoch + 1)
    touches = _touched(breaker, now_s, rules)
    return replace(breaker, trial=True, touches=touches), Permit(breaker.epoch, trial=True)


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
    if verdict.meaning in (*_FATAL, Meaning.FAILURE):
        breaker = replace(breaker, touches=_touched(breaker, now_s - cost_s, rules))
    if verdict.meaning in _FATAL:
        return _opened(breaker, verdict.reason, now_s, rules, chance, fatal=True, cost_s=cost_s)
    if breaker.state == HALF_OPEN:
        return _tried(breaker, verdict, now_s, rules, chance, cost_s)
    breaker = _counted(breaker, verdict, now_s, _weight(verdict, cost_s), slow=slow)
    reason = _too_bad(breaker, verdict, now_s, rules, slow=slow)
    return _opened(breaker, reason, now_s, rules, chance, cost_s=cost_s) if reason else breaker


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
    asking what serves. That an open one is in reach again is news: a request may try it at once.
    """
    if breaker.state == CLOSED:
        if good is not False or not breaker.streak:
            return breaker
        doubt = Verdict(Meaning.FAILURE, OUT_OF_REACH)
        breaker = _counted(breaker, doubt, now_s, 1.0, slow=False)
        reason = _too_bad(breaker, doubt, now_s, rules, slow=False)
        return _opened(breaker, reason, now_s, rules, chance) if reason else breaker
    if breaker.state == HALF_OPEN and good is False and not breaker.trial:
        return replace(breaker, state=OPEN, good=0, reachable=False, epoch=breaker.epoch + 1)
    news = good is True and (breaker.reachable is False or breaker.unclear)
    due_s = min(breaker.due_s, now_s) if news else breaker.due_s
    return replace(breaker, reachable=good, unclear=good is None, due_s=due_s)


def looked(breaker: Breaker, now_s: float, rules: Rules, chance: float) -> Breaker:
    """Returns the state after a billed probe was sent: the next look comes no sooner than after any other."""
    return replace(breaker, due_s=now_s + _rest_s(breaker.opened, rules, chance))


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
        again = _opened(breaker, verdict.reason, now_s, rules, chance, fatal=fatal)
        return replace(again, touched_s=breaker.touched_s, due_s=breaker.due_s)
    if breaker.state == OPEN:
        breaker = replace(breaker, state=HALF_OPEN, good=0, epoch=breaker.epoch + 1)
    return _tried(breaker, verdict, now_s, rules, chance)


def waits_s(breaker: Breaker, now_s: float, rules: Rules, *, probed: bool) -> float:
    """Returns how long nobody asks it from now on, if no probe says otherwise."""
    return max(0.0, max(breaker.throttled_s, _asked_at(breaker, rules, probed=probed)) - now_s)


def _asked_at(breaker: Breaker, rules: Rules, *, probed: bool) -> float:
    if breaker.state == CLOSED:
        return 0.0
    if not probed:
        return breaker.until_s if breaker.state == OPEN else 0.0
    full = len(breaker.touches) >= rules.touches
    spared_s = breaker.touches[0] + WINDOW_S if full else 0.0
    if breaker.state == HALF_OPEN:
        return 0.0 if breaker.good else spared_s
    until_s = breaker.until_s if breaker.fatal else 0.0
    if breaker.reachable is False:
        return max(until_s, breaker.touched_s + rules.blind_s)
    return max(until_s, breaker.due_s, spared_s)


def _doubted(breaker: Breaker, now_s: float, rules: Rules) -> bool:
    """Says whether a closed one failed twice in a row, and has not answered since."""
    bad = breaker.state == CLOSED and breaker.streak >= rules.streak_again and bool(breaker.touches)
    return bad and DOUBT_S <= now_s - breaker.touches[-1] < WINDOW_S


def _touched(breaker: Breaker, began_s: float, rules: Rules) -> tuple[float, ...]:
    if breaker.touches and began_s - breaker.touches[-1] < SAME_TOUCH_S:
        return breaker.touches
    return (*breaker.touches, began_s)[-rules.touches :]


def _rest_s(opened: int, rules: Rules, chance: float) -> float:
    rest_s = rules.look_s * 2.0 ** min(opened // rules.look_steps, 10)
    return min(rest_s, rules.look_longest_s) * (1 + LOOK_JITTER * chance)


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
    breaker: Breaker,
    reason: str,
    now_s: float,
    rules: Rules,
    chance: float,
    *,
    fatal: bool = False,
    cost_s: float = 0.0,
) -> Breaker:
    """It opens; what is waited for counts from the beginning of the attempt that it opened for."""
    first_s, longest_s = (rules.fatal_s, rules.fatal_longest_s) if fatal else (rules.open_s, rules.longest_s)
    open_s = min(first_s * 2.0 ** min(breaker.opened, 20), longest_s) * (1 + JITTER * (2 * chance - 1))
    return Breaker(
        state=OPEN,
        reason=reason,
        opened=breaker.opened + 1,
        fatal=fatal,
        until_s=now_s + open_s,
        due_s=now_s - cost_s + _rest_s(breaker.opened + 1, rules, chance),
        touched_s=now_s,
        touches=breaker.touches,
        reachable=False if breaker.reachable is False else None,  # so that it is news when it is there
        unclear=breaker.unclear,
        throttled_s=breaker.throttled_s,
        throttles=breaker.throttles,
        epoch=breaker.epoch + 1,
    )


def _tried(
    breaker: Breaker, verdict: Verdict, now_s: float, rules: Rules, chance: float, cost_s: float = 0.0
) -> Breaker:
    """A good or bad outcome of a half-open upstream; an answer that is merely poor leaves it as it is."""
    if verdict.meaning is Meaning.FAILURE:
        return _opened(breaker, verdict.reason, now_s, rules, chance, cost_s=cost_s)
    if verdict.meaning is Meaning.SOFT:
        return replace(breaker, reason=verdict.reason)
    if breaker.good + 1 < rules.good:
        return replace(breaker, good=breaker.good + 1, throttles=0)
    return Breaker(
        opened=breaker.opened,
        touches=breaker.touches,
        throttled_s=breaker.throttled_s,
        closed_s=now_s,
        credit=1.0,
        epoch=breaker.epoch + 1,
    )


def _counted(breaker: Breaker, verdict: Verdict, now_s: float, weight: float, *, slow: bool) -> Breaker:
    """An outcome of a closed one: adds to the counts."""
    well = verdict.meaning is Meaning.SUCCESS
    over = well and not _ramps(breaker, now_s)  # what was before is forgotten
    return replace(
        breaker,
        streak=0.0 if well else breaker.streak + weight,
        buckets=_added(breaker.buckets, now_s, min(weight, 1.0), slow=slow),
        reason="" if well else verdict.reason,
        opened=0 if over else breaker.opened,
        touches=() if over else breaker.touches,
        throttles=0 if well else breaker.throttles,
    )


def _too_bad(breaker: Breaker, verdict: Verdict, now_s: float, rules: Rules, *, slow: bool) -> str:
    """Says why a closed one opens after its last outcome, or ""."""
    calls = sum(bucket.calls for bucket in breaker.buckets)
    failed, slowed = sum(b.failed for b in breaker.buckets), sum(b.slow for b in breaker.buckets)
    many, well = calls >= rules.calls, verdict.meaning is Meaning.SUCCESS
    streak = rules.streak_again if _ramps(breaker, now_s) else rules.streak
    if breaker.streak >= streak or (many and not well and failed >= rules.failed_share * calls):
        return verdict.reason
    return "it is far slower than usual" if many and slow and slowed >= rules.slow_share * calls else ""


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

"""What a breaker knows and the numbers that it goes by: values alone. What happens to them is in `breaker`."""

from __future__ import annotations

from dataclasses import dataclass, field

CLOSED, OPEN, HALF_OPEN = STATES = ("closed", "open", "half-open")
WINDOW_S, BUCKET_S = 60.0, 5.0


@dataclass(frozen=True)
class Rules:
    """The numbers; seconds are monotonic.

    Args:
        open_s: The first open time where no probes run.
        longest_s: The longest.
        look_s: Where probes run: the least time between two looks at an open upstream, by a request or a billed probe:
            so that three requests and one billed probe a minute, which is all that there is, leave no gap over 15 s.
        look_longest_s: What that grows to, twofold with each `look_steps` openings.
        look_steps: See `look_longest_s`.
        touches: How many requests may find it bad in `WINDOW_S`, those before it opened included.
        blind_s: The least time between two requests that try an upstream while the unbilled probe fails.
        fatal_s: The first open time of a dead key or a retired model.
        fatal_longest_s: The longest.
        streak: Weighed failures one after the other that open it.
        streak_again: The same in the first half minute after it closed, and where nothing answered since.
        calls: How many calls of a minute a share is taken of, at least.
        failed_share: The share of failures that opens it.
        slow_share: The share of slow answers that opens it.
        good: How many good outcomes close it.
    """

    open_s: float = 5.0
    longest_s: float = 20.0
    look_s: float = 13.0
    look_longest_s: float = 60.0
    look_steps: int = 16
    touches: int = 3
    blind_s: float = 120.0
    fatal_s: float = 60.0
    fatal_longest_s: float = 600.0
    streak: float = 3.0
    streak_again: float = 2.0
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
        fatal: Whether it is a dead key or a retired model.
        until_s: When the open time is over.
        due_s: When it may be looked at next where probes run and do not fail.
        touched_s: When a request last found it bad.
        touches: When requests began that found it bad, or tried it; the newest few.
        reachable: Whether the last unbilled probe since then was good; None where there was none, or it told nothing.
        unclear: Whether the last unbilled probe found something that tells nothing, such as a portal's page.
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
    fatal: bool = False
    until_s: float = 0.0
    due_s: float = 0.0
    touched_s: float = 0.0
    touches: tuple[float, ...] = ()
    reachable: bool | None = None
    unclear: bool = False
    throttled_s: float = 0.0
    throttles: int = 0
    trial: bool = False
    good: int = 0
    closed_s: float | None = None
    credit: float = 0.0
    admitted_s: float = 0.0
    epoch: int = 0

"""Sixteen faults and what a gateway should do about each, judged from both sides. Pure.

The faults, their numbers and the rules of the verdicts are those of failoverbench
(https://github.com/failoverbench/failoverbench, methodology 0.1, September 2026); words and code are our own.

- pass: the caller got the whole answer (S13: a clean error) and the provider was treated as it should be.
- partial: the same, and something advisory was not as it should be.
- safe: no answer, but an error in bounded time that is told as one.
- fail: no end within the fault's limit, a part of an answer given as the whole, or the provider was treated badly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

PASS, PARTIAL, SAFE, FAIL = "pass", "partial", "safe", "fail"
SECOND, SECOND_STRICT = "ok", "ok-no-prefill"
INTERVAL_S, REQUESTS, OUTAGE_S = 4.0, 20, 60.0
BILLED_EVERY_S = 59.0  # a minute, and what a log of another clock may differ by


@dataclass(frozen=True)
class Result:
    """What both sides saw of one fault.

    Args:
        ended: "answer", "error" or "hang".
        whole: Whether the answer is the provider's text, whole.
        seconds: How long the caller waited.
        model: The model that the answer names.
        usage: Whether the answer told its usage.
        error: What the caller was told.
        primary_s: When the primary was asked, in seconds; probes are not among them.
        second: How often the second provider was asked.
        prefill_refused: Whether the second provider was sent words to continue, and refused.
        alive: Whether a healthy request was served right after.
        probes: How often the primary was looked at, unbilled, and with a tiny completion.
        billed_s: When the primary got a billed probe.
        blind: How many of them came though the last unbilled one had failed, or there was none.
        outage: What came of a row of requests over an outage; None for the other faults.
    """

    ended: str
    whole: bool
    seconds: float
    model: str = ""
    usage: bool = False
    error: str = ""
    primary_s: Sequence[float] = ()
    second: int = 0
    prefill_refused: bool = False
    alive: bool = True
    probes: tuple[int, int] = (0, 0)
    billed_s: Sequence[float] = ()
    blind: int = 0
    outage: Outage | None = None


@dataclass(frozen=True)
class Outage:
    """A row of requests over an outage.

    Args:
        asked: How many requests came while the primary was down.
        served: How many of them were answered whole.
        attempts: How many of their requests reached the primary.
        back_s: When the primary served again, in seconds after its recovery; None where it did not.
        hung: How many requests did not end in time.
        later_s: The longest that a request took once the first three were over, in the outage.
    """

    asked: int
    served: int
    attempts: int
    back_s: float | None
    hung: int
    later_s: float


Check = Callable[[Result], bool]


@dataclass(frozen=True)
class Scenario:
    """One fault.

    Args:
        number: failoverbench's.
        title: What happens.
        fault: The wall's name of it.
        limit_s: How long a caller waits at most.
        required: What must hold, by name; else the verdict is a fail.
        advisory: What should hold; else it is partial.
        second: What the second provider is.
        ideal: "answer", or "error" where the refusal is the caller's to see.
    """

    number: str
    title: str
    fault: str
    limit_s: float
    required: dict[str, Check] = field(default_factory=dict)
    advisory: dict[str, Check] = field(default_factory=dict)
    second: str = SECOND
    ideal: str = "answer"


def verdict(scenario: Scenario, result: Result) -> tuple[str, str]:
    """Returns the verdict of one fault, and why."""
    if result.ended == "hang":
        return FAIL, f"no end within {scenario.limit_s:.0f} s"
    if result.ended == "answer" and not result.whole and scenario.ideal == "answer":
        return FAIL, "a part of an answer, or another one, is given as the whole"
    broken = [name for name, holds in scenario.required.items() if not holds(result)]
    if broken:
        return FAIL, ", ".join(broken)
    if scenario.ideal == "error":
        return (PASS, "told") if result.ended == "error" else (PARTIAL, "answered by going around the refusal")
    if result.ended == "error":
        return SAFE, result.error
    missed = [name for name, holds in scenario.advisory.items() if not holds(result)]
    return (PARTIAL, ", ".join(missed)) if missed else (PASS, "answered")


def _within(seconds: float) -> Check:
    return lambda result: result.seconds <= seconds


def _asked(most: int, least: int = 0) -> Check:
    return lambda result: least <= len(result.primary_s) <= most


def _asked_early(most: int, window_s: float) -> Check:
    """At most so many attempts within the first seconds."""
    return lambda result: sum(at < result.primary_s[0] + window_s for at in result.primary_s) <= most


def _waited(result: Result) -> bool:
    """The second attempt came when the provider had asked for it: after 2 s, of which 1.8 count."""
    return len(result.primary_s) >= 2 and result.primary_s[1] - result.primary_s[0] >= 1.8


def _alive(result: Result) -> bool:
    return result.alive


def _told_usage(result: Result) -> bool:
    return result.usage


def _names_second(result: Result) -> bool:
    return result.second == 0 or SECOND in result.model.split("/")[-1]


def _not_masked(result: Result) -> bool:
    return result.ended != "error" or not result.prefill_refused


def _served_in_outage(result: Result) -> bool:
    return result.outage is not None and result.outage.served == result.outage.asked


def _rested(result: Result) -> bool:
    return all(later - sooner >= BILLED_EVERY_S for sooner, later in pairwise(result.billed_s))


def _returned(result: Result) -> bool:
    return result.outage is not None and result.outage.back_s is not None and result.outage.back_s <= 30


FEW = "the primary is not asked too often"
SCENARIOS = (
    Scenario(
        "S01",
        "429 with Retry-After, once",
        "429-once",
        20,
        {FEW: _asked_early(2, 1.5)},
        {"asked again": _asked(99, 2), "Retry-After honoured": _waited},
    ),
    Scenario("S02", "429 for ever, no Retry-After", "429", 40, {FEW: lambda r: _asked_early(4, 3)(r) and _asked(6)(r)}),
    Scenario("S03", "500 once", "500-once", 20, {}, {"asked again": _asked(99, 2)}),
    Scenario("S04", "503 for ever", "503", 40, {FEW: _asked(6)}),
    Scenario("S05", "reset before the headers, once", "reset-once", 20),
    Scenario("S06", "no response at all", "silent", 130, {"within 100 s": _within(100)}, {"asked once": _asked(1)}),
    Scenario("S07", "first token after 20 s", "slow-first-token", 60, {}, {"within 15 s": _within(15)}),
    Scenario("S08", "stream cut after 40 words", "cut", 40),
    Scenario("S09", "stream stalls after 20 words", "stall", 70, {"within 45 s": _within(45), "alive": _alive}),
    Scenario("S10", "one event of the stream is no JSON", "malformed", 30, {"alive": _alive}),
    Scenario("S11", "stream without `[DONE]`", "no-done", 30, {"within 8 s": _within(8)}, {"usage": _told_usage}),
    Scenario("S12", "context length exceeded", "context-length", 20, {"asked once": _asked(1, 1)}),
    Scenario("S13", "content filter", "content-filter", 20, {"asked once": _asked(1, 1)}, ideal="error"),
    Scenario(
        "S14",
        "stream cut; the second provider takes no prefill",
        "cut",
        40,
        {"the refusal of a prefill is not what is told": _not_masked},
        second=SECOND_STRICT,
    ),
    Scenario(
        "S15",
        "down for 60 s, 20 requests, one every 4 s",
        "flap",
        30,
        {
            "served in the outage": _served_in_outage,
            "back within 30 s": _returned,
            "no billed probe while the unbilled one fails": lambda r: not r.blind,
            "at most one billed probe a minute": _rested,
        },
    ),
    Scenario(
        "S16",
        "503: who answered is told",
        "503",
        40,
        {"names the model that answered": _names_second, FEW: _asked(6)},
        {"usage": _told_usage},
    ),
)

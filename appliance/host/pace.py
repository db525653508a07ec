"""How long the knowledge of a version takes on this box, and whether that is inside the profile's limit. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from itertools import cycle, islice

from bundler.knowledge.selftest import Case, Probe, holds

ASKED = 5
_KINDS = ("faq", "documents", "route")


def pace(cases: Sequence[Case], probe: Probe, clock_s: Callable[[], float]) -> dict[str, float]:
    """Asks each kind of knowledge that has cases once to warm up and five times more.

    Returns:
        The medians in milliseconds, by kind.
    """
    return {
        kind: _median_ms(kind, cases, probe, clock_s) for kind in _KINDS if any(case.kind == kind for case in cases)
    }


def pace_line(found: dict[str, float], limit_ms: int) -> str:
    """Returns what the self-test says of it; "FAILED" stands in it where one kind is too slow."""
    slow = {kind: taken for kind, taken in found.items() if taken > limit_ms}
    told = ", ".join(f"{kind} in {taken:.0f} ms" for kind, taken in (slow or found).items())
    return f"speed: {told} (at most {limit_ms}){'  FAILED' if slow else ''}"


def _median_ms(kind: str, cases: Sequence[Case], probe: Probe, clock_s: Callable[[], float]) -> float:
    taken = []
    for case in islice(cycle([case for case in cases if case.kind == kind]), 1 + ASKED):
        began_s = clock_s()
        holds(case, probe)
        taken.append((clock_s() - began_s) * 1000)
    return statistics.median(taken[1:])

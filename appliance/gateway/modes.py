"""The box's mode: NORMAL, WATCH, DEGRADED or LOCAL, and the mode of one answer. Pure.

NORMAL: the first upstream serves. WATCH: it serves, and far slower than usual. DEGRADED: another one serves. LOCAL: the
box does. It gets worse at once, and better only after DWELL_S in the same mode, so that no banner flaps.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

NORMAL, WATCH, DEGRADED, LOCAL = "NORMAL", "WATCH", "DEGRADED", "LOCAL"
MODES = (NORMAL, WATCH, DEGRADED, LOCAL)  # from good to bad
DWELL_S = 15.0
WORDS_GO_WITH = (DEGRADED, LOCAL)


@dataclass(frozen=True)
class Standing:
    """An upstream of the ladder: whether it may be asked, and whether it is far slower than usual."""

    well: bool
    watched: bool = False


@dataclass(frozen=True)
class Moded:
    """The mode and since when, in monotonic seconds."""

    mode: str = NORMAL
    since_s: float = 0.0

    def moved(self, observed: str, now_s: float) -> Moded:
        """Returns the mode after a look at the upstreams."""
        worse = MODES.index(observed) > MODES.index(self.mode)
        if observed == self.mode or not (worse or now_s - self.since_s >= DWELL_S):
            return self
        return Moded(observed, now_s)


def observed(standings: Sequence[Standing]) -> str:
    """Returns what the upstreams say, best first; without any the box itself is the normal service."""
    if not standings or standings[0].well:
        return WATCH if standings and standings[0].watched else NORMAL
    return DEGRADED if any(standing.well for standing in standings) else LOCAL


def of_answer(mode: str, *, upstreams: Sequence[str], passed: Collection[str], served: str | None) -> str:
    """Returns the mode of one answer.

    Only evidence about upstreams differs from the box's mode: an answer of an upstream, or a request that passed all of
    them. A request that never concerned them (an FAQ question, a named local model) has the mode of the box.

    Args:
        mode: The box's.
        upstreams: The upstream rungs, best first.
        passed: The rungs that failed or were being left alone.
        served: The rung that answered, or None when none did.
    """
    if not upstreams:
        return NORMAL
    if served == upstreams[0]:
        return WATCH if mode == WATCH else NORMAL
    if served in upstreams:
        # A later upstream may have been asked by its own name: that says nothing about the first one.
        return DEGRADED if upstreams[0] in passed or mode == LOCAL else mode
    return LOCAL if set(upstreams) <= set(passed) else mode

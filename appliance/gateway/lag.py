"""How late this process itself was: what an overloaded box did not read in time is no silence of a provider. Pure.

A beat that should come every BEAT_S comes late where the loop or the machine is busy; what was late while an upstream
was waited for comes off that wait.
"""

from __future__ import annotations

from collections import deque

BEAT_S = 0.25
# A wait that was late for this share, and for longer than a busy machine trembles, says nothing of who was waited for.
LATE_SHARE, LATE_LEAST_S = 0.2, 0.5
_KEPT_S = 120.0
_NOISE_S = 0.02


class Lag:
    """The late beats of the last two minutes."""

    def __init__(self) -> None:
        self._late: deque[tuple[float, float]] = deque()

    def beat(self, now_s: float, late_s: float) -> None:
        """Takes a beat that came `late_s` after its time."""
        if late_s > _NOISE_S:
            self._late.append((now_s, late_s))
        while self._late and self._late[0][0] < now_s - _KEPT_S:
            self._late.popleft()

    def since(self, began_s: float) -> float:
        """Returns for how many seconds beats were late in all since then."""
        return sum(late_s for at_s, late_s in self._late if at_s >= began_s)

    def hides(self, began_s: float, now_s: float) -> bool:
        """Says whether a wait since then was so late that it says nothing."""
        return self.since(began_s) >= max(LATE_LEAST_S, LATE_SHARE * (now_s - began_s))

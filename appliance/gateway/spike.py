"""Whether first tokens come far later than usual: a reason to watch, never by itself one to stop asking. Pure.

The logarithm of the time to the first token is compared by two averages: a slow one, which stands still while things
are unusual, and a fast one. A spike is a fast average three deviations over the slow one and at least twice as long,
three of the last five over the 95th percentile, or a slow drift upwards (Page-Hinkley). It is over QUIET_S after the
last sign of it. What stays slow becomes the usual, at a tenth of the speed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

FAST_S = 30.0
SLOW_SHARE = 0.02
DEVIATIONS, RATIO, SAMPLES_LEAST = 3.0, 2.0, 5
DEVIATION_LEAST = 0.1  # of a logarithm: a provider that is even to the millisecond is not unusual at a tenth more
LATE_OF_LAST = (3, 5)
DRIFT_SLACK, DRIFT_LIMIT = 0.2, 4.0
# One answer alone is no spike, however late it comes: of its logarithm no more than this counts.
STEP = 2.0
QUIET_S = 30.0
FROZEN = 0.1
_LEAST_S = 0.001


@dataclass(frozen=True)
class Spike:
    """What was seen: the two averages, the slow one's variance, whether the last few were late, and the drift."""

    samples: int = 0
    slow: float = 0.0
    variance: float = 0.0
    fast: float = 0.0
    late: tuple[bool, ...] = ()
    drift: float = 0.0
    seen_s: float = 0.0
    unusual_s: float | None = None

    def seen(self, seconds: float, now_s: float, p95_s: float) -> Spike:
        """Returns the state after one first token.

        Args:
            seconds: How long it took.
            now_s: Monotonic.
            p95_s: The usual 95th percentile, 0 where it is not known.
        """
        value = math.log(max(seconds, _LEAST_S))
        if not self.samples:
            return Spike(samples=1, slow=value, fast=value, late=(False,), seen_s=now_s)
        weight = 1 - math.exp(-max(now_s - self.seen_s, 1.0) / FAST_S)
        value = min(value, self.slow + STEP)
        fast = self.fast + weight * (value - self.fast)
        late = (*self.late, 0 < p95_s < seconds)[-LATE_OF_LAST[1] :]
        drift = min(max(0.0, self.drift + value - self.slow - DRIFT_SLACK), 2 * DRIFT_LIMIT)
        after = Spike(self.samples + 1, self.slow, self.variance, fast, late, drift, now_s, self.unusual_s)
        return after._frozen(value, now_s) if after._unusual() else after._learned(value)

    def anomalous(self, now_s: float) -> bool:
        """Says whether there was a sign of a spike in the last QUIET_S."""
        return self.unusual_s is not None and now_s - self.unusual_s < QUIET_S

    def _unusual(self) -> bool:
        if self.samples < SAMPLES_LEAST:
            return False
        above = self.fast - self.slow
        deviation = max(math.sqrt(self.variance), DEVIATION_LEAST)
        high = above >= DEVIATIONS * deviation and above >= math.log(RATIO)
        often = sum(self.late) >= LATE_OF_LAST[0] and above > 0
        return high or often or self.drift >= DRIFT_LIMIT

    def _frozen(self, value: float, now_s: float) -> Spike:
        return replace(self, unusual_s=now_s, slow=self.slow + FROZEN * SLOW_SHARE * (value - self.slow))

    def _learned(self, value: float) -> Spike:
        """The slow average moves by a share, and by more while it has seen little."""
        share = max(SLOW_SHARE, 1 / self.samples)
        away = value - self.slow
        variance = (1 - share) * (self.variance + share * away * away)
        slow = self.slow + share * away
        return Spike(self.samples, slow, variance, self.fast, self.late, self.drift, self.seen_s, self.unusual_s)

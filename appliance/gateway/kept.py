"""What the gateway remembers over a restart, so that no reboot asks a dead provider anew: values to records and back.

Pure. Times are Unix milliseconds in the record and monotonic seconds in use. What a clock that jumped makes of them is
bounded: nobody is left alone longer than the caps, and a day of probes ends with its day. No key is in it: a credential
is its keyed fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from appliance.gateway.breaker import CLOSED, OPEN, THROTTLE_LONGEST_S, Breaker, Rules
from appliance.gateway.probe import Probes

FORMAT = 1
CLOCKS_DIFFER_MS = 1_000
OPENED_MAX = 30
REASON_CHARS_MAX = 200


@dataclass(frozen=True)
class KeptUpstream:
    """One upstream that was not well, or that was probed today."""

    name: str
    model: str
    credential: str
    state: str
    reason: str
    opened: int
    until_ms: int
    touched_ms: int
    throttled_ms: int
    probe_day: int
    probes_today: int


@dataclass(frozen=True)
class Kept:
    """The file."""

    format: int
    upstreams: tuple[KeptUpstream, ...]


@dataclass(frozen=True)
class Clocks:
    """The same moment on both clocks, in seconds."""

    monotonic_s: float
    unix_s: float

    def unix_ms(self, monotonic_s: float) -> int:
        return int((self.unix_s + monotonic_s - self.monotonic_s) * 1000)

    def left_s(self, unix_ms: int, most_s: float) -> float:
        """Returns how long it is until a kept time, from 0 to `most_s`."""
        return min(max(unix_ms / 1000 - self.unix_s, 0.0), most_s)


def kept(found: Mapping[tuple[str, str, str], tuple[Breaker, Probes]], clocks: Clocks) -> Kept:
    """Returns the record of (name, model, credential) -> what is known; of those that are well nothing is kept."""
    telling = (
        (key, breaker, probes)
        for key, (breaker, probes) in sorted(found.items())
        if breaker.state != CLOSED or breaker.throttled_s > clocks.monotonic_s or probes.today
    )
    return Kept(FORMAT, tuple(_record(*each, clocks) for each in telling))


def alike(one: Kept, other: Kept) -> bool:
    """Says whether two records tell the same, but for what two clocks differ by."""
    if len(one.upstreams) != len(other.upstreams):
        return False
    return all(_alike(a, b) for a, b in zip(one.upstreams, other.upstreams, strict=True))


def restored(record: KeptUpstream, clocks: Clocks, rules: Rules) -> tuple[Breaker, Probes]:
    """Returns what a record says, now; a half-open upstream is open again, and due at once."""
    throttled_s = clocks.monotonic_s + clocks.left_s(record.throttled_ms, THROTTLE_LONGEST_S)
    probes = Probes(day=record.probe_day, today=max(0, record.probes_today))
    if record.state == CLOSED:
        return Breaker(throttled_s=throttled_s, reason=_words(record.reason)), probes
    age_s = min(max(clocks.unix_s - record.touched_ms / 1000, 0.0), rules.blind_s)
    breaker = Breaker(
        state=OPEN,
        reason=_words(record.reason),
        opened=min(max(record.opened, 1), OPENED_MAX),
        until_s=clocks.monotonic_s + clocks.left_s(record.until_ms, rules.fatal_longest_s),
        touched_s=clocks.monotonic_s - age_s,
        throttled_s=throttled_s,
    )
    return breaker, probes


def _record(key: tuple[str, str, str], breaker: Breaker, probes: Probes, clocks: Clocks) -> KeptUpstream:
    name, model, credential = key
    return KeptUpstream(
        name=name,
        model=model,
        credential=credential,
        state=CLOSED if breaker.state == CLOSED else OPEN,
        reason=breaker.reason,
        opened=breaker.opened,
        until_ms=clocks.unix_ms(breaker.until_s),
        touched_ms=clocks.unix_ms(breaker.touched_s),
        throttled_ms=clocks.unix_ms(breaker.throttled_s),
        probe_day=probes.day,
        probes_today=probes.today,
    )


def _alike(one: KeptUpstream, other: KeptUpstream) -> bool:
    same = replace(one, until_ms=other.until_ms, touched_ms=other.touched_ms, throttled_ms=other.throttled_ms) == other
    times = ((one.until_ms, other.until_ms), (one.touched_ms, other.touched_ms), (one.throttled_ms, other.throttled_ms))
    return same and all(abs(a - b) < CLOCKS_DIFFER_MS for a, b in times)


def _words(reason: str) -> str:
    return reason[:REASON_CHARS_MAX] if reason.isprintable() else "it failed"

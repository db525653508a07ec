"""What the gateway remembers over a restart, so that no reboot asks a dead provider anew: values to records and back.

Pure. Times are Unix milliseconds in the record and monotonic seconds in use. What a clock that jumped makes of them is
bounded: nobody is left alone longer than the caps, and a day of probes ends with its day. No key is in it: a credential
is its keyed fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from appliance.gateway.breaker import CLOSED, JITTER, OPEN, THROTTLE_LONGEST_S, Breaker, Rules
from appliance.gateway.probe import BILLED_EVERY_S, Probes

FORMAT = 1
CLOCKS_DIFFER_MS = 1_000
OPENED_MAX = 30
REASON_CHARS_MAX = 200
_TIMES = ("until_ms", "touched_ms", "throttled_ms", "billed_ms")


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
    billed_ms: int = 0


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
    billed_s = min(max(clocks.unix_s - record.billed_ms / 1000, 0.0), BILLED_EVERY_S)
    probes = Probes(billed_s=clocks.monotonic_s - billed_s, day=record.probe_day, today=max(0, record.probes_today))
    if record.state == CLOSED:
        return Breaker(throttled_s=throttled_s, reason=_words(record.reason)), probes
    age_s = min(max(clocks.unix_s - record.touched_ms / 1000, 0.0), rules.blind_s)
    left_s = clocks.left_s(record.until_ms, rules.fatal_longest_s)
    breaker = Breaker(
        state=OPEN,
        reason=_words(record.reason),
        opened=min(max(record.opened, 1), OPENED_MAX),
        fatal=left_s > rules.longest_s * (1 + JITTER),  # longer than any other open time
        until_s=clocks.monotonic_s + left_s,
        due_s=clocks.monotonic_s + rules.look_s,  # a probe comes first
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
        billed_ms=0 if probes.billed_s is None else clocks.unix_ms(probes.billed_s),
    )


def _alike(one: KeptUpstream, other: KeptUpstream) -> bool:
    times = {field: getattr(other, field) for field in _TIMES}
    near = all(abs(getattr(one, field) - time_ms) < CLOCKS_DIFFER_MS for field, time_ms in times.items())
    return near and replace(one, **times) == other


def _words(reason: str) -> str:
    return reason[:REASON_CHARS_MAX] if reason.isprintable() else "it failed"

"""How fast an upstream usually is, by the size of the prompt, and the limits that follow from it. Pure.

The first token may take three times the 95th percentile of what it took before, from 2 to 30 s, and 10 s until twenty
samples are there; a pause may take twenty times the median gap, from 5 to 30 s, and 10 s until then. What the profile
sets is the cap. A profile that gives more than 30 s says that the model thinks long before it speaks: its number holds
until the samples are there, and is the upper end then. An answer in one piece may take as long as a stream would until
its end, three times the limit of a first token, until samples of whole answers are there; where it is not there
when the first token of a stream would have to be, or later than 95 of 100 such answers, others are asked beside it.
Who waits for the end of a stream waits for none that trickles; an upstream whose pieces are known to come slowly may.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

SAMPLES_LEAST, SAMPLES_KEPT = 20, 100
FIRST_UNKNOWN_S, FIRST_LEAST_S, FIRST_MOST_S, FIRST_FACTOR = 10.0, 2.0, 30.0, 3.0
STALL_UNKNOWN_S, STALL_LEAST_S, STALL_MOST_S, STALL_FACTOR = 10.0, 5.0, 30.0, 20.0
WHOLE_FACTOR = 3.0
TRICKLE_LEAST_S, TRICKLE_MOST_S, TRICKLE_GAP_S = 5.0, 10.0, 0.5
SLOW_FACTOR = 2.0
BYTES_PER_TOKEN = 4
SIZES_TOKENS = (512, 2_048, 8_192, 32_768)


@dataclass(frozen=True)
class Limits:
    """How long one attempt may take.

    Args:
        first_token_s: Until the first content of a stream.
        whole_s: Until an answer in one piece is there.
        stall_s: Between two pieces of content.
        beside_s: Until others are asked beside an answer in one piece; 0 for not at all.
        trickle_s: The seconds over which a stream whose end is waited for must not trickle; 0 where it may.
    """

    first_token_s: float
    whole_s: float
    stall_s: float
    beside_s: float = 0.0
    trickle_s: float = 0.0


@dataclass(frozen=True)
class Pace:
    """The newest samples of one upstream and one size of prompt, in seconds, newest last."""

    first_s: tuple[float, ...] = field(default=())
    whole_s: tuple[float, ...] = field(default=())
    gaps_s: tuple[float, ...] = field(default=())

    @cached_property
    def first_p95_s(self) -> float:
        """The usual first token at its latest; 0 where none was seen."""
        return p95(self.first_s)

    def with_first(self, seconds: float) -> Pace:
        return Pace(_kept(self.first_s, seconds), self.whole_s, self.gaps_s)

    def with_whole(self, seconds: float) -> Pace:
        return Pace(self.first_s, _kept(self.whole_s, seconds), self.gaps_s)

    def with_gap(self, seconds: float) -> Pace:
        return Pace(self.first_s, self.whole_s, _kept(self.gaps_s, seconds))

    def slow(self, seconds: float) -> bool:
        """Says whether a first token after `seconds` is far slower than usual."""
        return len(self.first_s) >= SAMPLES_LEAST and seconds > max(FIRST_LEAST_S, SLOW_FACTOR * self.first_p95_s)


def limits(pace: Pace, profile: Limits, *, patient: bool = False) -> Limits:
    """Returns the limits of one attempt.

    Args:
        pace: What was seen before.
        profile: What the profile sets.
        patient: Nobody waits for this attempt alone: the widest limits, so that one that became slower is learned.
    """
    first_s = _first(pace, profile.first_token_s, patient=patient)
    if len(pace.whole_s) >= SAMPLES_LEAST and not patient:
        usual_s = p95(pace.whole_s)
        whole_s, beside_s = _between(FIRST_FACTOR * usual_s, FIRST_LEAST_S, profile.whole_s), max(usual_s, first_s)
    else:
        whole_s, beside_s = min(WHOLE_FACTOR * first_s, profile.whole_s), first_s
    stall_s = _stall(pace.gaps_s, profile.stall_s)
    beside_s = beside_s if beside_s < whole_s and not patient else 0.0
    return Limits(first_s, whole_s, stall_s, beside_s, _trickle(pace.gaps_s, stall_s))


def size_of(prompt_bytes: int) -> int:
    """Returns the number of the bucket that a prompt falls into."""
    tokens = prompt_bytes // BYTES_PER_TOKEN
    return sum(tokens >= limit for limit in SIZES_TOKENS)


def p95(samples: Sequence[float]) -> float:
    """Returns the 95th percentile (nearest rank); of nothing, 0."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, -(-95 * len(ordered) // 100) - 1)] if ordered else 0.0


def prompt_bytes(body: Mapping[str, object]) -> int:
    """Returns about how long the prompt of a request is."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        return len(str(body.get("prompt", "")))
    return sum(_text_bytes(message.get("content")) for message in messages if isinstance(message, dict))


def _text_bytes(content: object) -> int:
    if not isinstance(content, list):
        return len(content) if isinstance(content, str) else 0
    texts = (part.get("text") for part in content if isinstance(part, dict))
    return sum(len(text) for text in texts if isinstance(text, str))


def _first(pace: Pace, profile_s: float, *, patient: bool) -> float:
    thinks = profile_s > FIRST_MOST_S
    most_s = profile_s if thinks else min(profile_s, FIRST_MOST_S)
    if patient:
        return most_s
    if len(pace.first_s) < SAMPLES_LEAST:
        return profile_s if thinks else min(profile_s, FIRST_UNKNOWN_S)
    return _between(FIRST_FACTOR * pace.first_p95_s, FIRST_LEAST_S, most_s)


def _stall(samples: Sequence[float], profile_s: float) -> float:
    thinks = profile_s > STALL_MOST_S
    if len(samples) < SAMPLES_LEAST:
        return profile_s if thinks else min(profile_s, STALL_UNKNOWN_S)
    most_s = profile_s if thinks else min(profile_s, STALL_MOST_S)
    return _between(STALL_FACTOR * statistics.median(samples), STALL_LEAST_S, most_s)


def _trickle(samples: Sequence[float], stall_s: float) -> float:
    slow = len(samples) >= SAMPLES_LEAST and statistics.median(samples) > TRICKLE_GAP_S
    return 0.0 if slow else _between(stall_s, TRICKLE_LEAST_S, TRICKLE_MOST_S)


def _between(value: float, least: float, most: float) -> float:
    return min(max(value, least), most)


def _kept(samples: tuple[float, ...], seconds: float) -> tuple[float, ...]:
    return (*samples, seconds)[-SAMPLES_KEPT:]

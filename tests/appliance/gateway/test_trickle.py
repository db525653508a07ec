"""Whether an answer trickles: at which pace, over which time, and whose time that is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.gateway.call import Chunk, Told
from appliance.gateway.held import Held, Room
from appliance.gateway.outcome import Failed, Kind
from appliance.gateway.pace import SAMPLES_LEAST, Limits, Pace, limits
from appliance.gateway.trickle import LEAST_CHARS_PER_S, Trickle, chars_of

WINDOW_S = 10.0
PROFILE = Limits(10.0, 30.0, 15.0)


def _ends_at(pieces: list[tuple[float, int]], window_s: float = WINDOW_S) -> float | None:
    """Returns when pieces of (gap, characters) are too slow."""
    trickle, waited_s = Trickle(window_s), 0.0
    for gap_s, chars in pieces:
        waited_s += gap_s
        if trickle.slow(waited_s, chars):
            return waited_s
    return None


@pytest.mark.parametrize(
    ("pieces", "ends_s"),
    [
        ([(1.0, 1)] * 300, 10.0),
        ([(0.02, 4)] * 300, None),
        ([(0.02, 4)] * 50 + [(1.0, 1)] * 30, 11.0),
        ([(0.02, 4)] * 50 + [(9.5, 40), (9.5, 40)], None),
        ([(2.0, 5)] * 100, None),
        ([(9.9, 9)] * 3, 19.8),
    ],
)
def test_a_drip_ends_and_a_pause_does_not(pieces: list[tuple[float, int]], ends_s: float | None) -> None:
    """Two characters a second over ten seconds, however they come."""
    found = _ends_at(pieces)
    assert found == (ends_s if ends_s is None else pytest.approx(ends_s))


@given(st.lists(st.tuples(st.floats(0, 60), st.integers(0, 500)), max_size=60))
def test_it_is_the_mean_of_the_window(pieces: list[tuple[float, int]]) -> None:
    """Whatever comes is judged by the characters of the last seconds alone, and never before they are over."""
    trickle, waited_s, seen = Trickle(WINDOW_S), 0.0, list[tuple[float, int]]()
    for gap_s, chars in pieces:
        waited_s += gap_s
        seen.append((waited_s, chars))
        recent = sum(size for at_s, size in seen if at_s >= waited_s - WINDOW_S)
        slow = waited_s >= WINDOW_S and recent < LEAST_CHARS_PER_S * WINDOW_S
        assert trickle.slow(waited_s, chars) is slow


def test_without_a_window_nothing_is_too_slow() -> None:
    """An upstream that is known to be slow is let be."""
    assert _ends_at([(60.0, 1)] * 50, 0.0) is None


@pytest.mark.parametrize(
    ("value", "chars"),
    [
        ({"choices": [{"delta": {"content": "abc"}}]}, 3),
        ({"choices": [{"delta": {"reasoning_content": "abcd"}}, {"delta": {"content": "x"}}]}, 5),
        ({"choices": [{"text": "ab"}]}, 2),
        ({"choices": [{"delta": {"role": "assistant", "content": "x"}}]}, 1),
        ({"choices": [{"delta": {"role": "", "content": None}}]}, 0),
        ({"choices": [None, 7, {"delta": 3}]}, 0),
        ({"choices": "no"}, 0),
        ({}, 0),
    ],
)
def test_content_of_any_kind_counts(value: dict[str, Any], chars: int) -> None:
    """And what is no content does not."""
    assert chars_of(value) == chars


def test_where_it_is_looked_for() -> None:
    """Over the time of a stall, from 5 to 10 s; nowhere where pieces are known to come seldom."""
    assert limits(Pace(), PROFILE).trickle_s == 10.0
    assert limits(Pace(gaps_s=(0.02,) * SAMPLES_LEAST), PROFILE).trickle_s == 5.0
    assert limits(Pace(gaps_s=(1.0,) * SAMPLES_LEAST), PROFILE).trickle_s == 0.0


class Drip:
    """A stream of a character a second, on a clock of its own."""

    def __init__(self) -> None:
        self.waited_s, self.gap_s = 0.0, None

    def close(self) -> None:
        """Nothing is open."""

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        for _ in range(300):
            yield Chunk(b"{}", {"choices": [{"delta": {"content": "x"}}]})
            self.waited_s += 1.0


def test_who_waits_for_the_whole_waits_for_no_drip() -> None:
    """A held answer fails over once it is plain that it trickles."""
    drip: Any = Drip()
    held = Held(drip, Room(), Told(), trickle_s=WINDOW_S)
    with pytest.raises(Failed, match="less than 2 characters") as caught:
        asyncio.run(held.gather(time.monotonic() + 60))
    assert caught.value.kind is Kind.STALLED
    assert drip.waited_s == WINDOW_S

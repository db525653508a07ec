"""What an overloaded box did not read in time is held against nobody."""

from __future__ import annotations

import pytest

from appliance.gateway import breaker as breakers
from appliance.gateway.breaker import Rules
from appliance.gateway.call import CHAT, Call
from appliance.gateway.classify import classify
from appliance.gateway.health import Asking, Health, Known
from appliance.gateway.lag import Lag
from appliance.gateway.outcome import Failed, Kind
from appliance.gateway.pace import Limits


class Clock:
    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def _health(clock: Clock) -> Health:
    known = Known("a", "m", "k", Limits(10.0, 30.0, 15.0))
    return Health([known], Rules(), probed=True, clock=clock, chance=lambda: 0.5)


def _asked(health: Health) -> Asking:
    body = {"messages": [{"role": "user", "content": "?"}]}
    call = Call(CHAT, body, "?", False, "auto", frozenset(), (), 2_000.0)
    asking = health.admit("a", call, alternatives=True)
    assert isinstance(asking, Asking)
    return asking


@pytest.mark.parametrize(
    ("kind", "late_s", "state"),
    [
        (Kind.SILENT, 0.0, breakers.OPEN),
        (Kind.SILENT, 1.0, breakers.OPEN),
        (Kind.SILENT, 4.0, breakers.CLOSED),
        (Kind.STALLED, 4.0, breakers.CLOSED),
        (Kind.UNREACHED, 4.0, breakers.CLOSED),
        (Kind.CONNECT, 4.0, breakers.OPEN),
        (Kind.CUT, 4.0, breakers.OPEN),
    ],
)
def test_a_clock_counts_where_it_was_right(kind: Kind, late_s: float, state: str) -> None:
    """After ten seconds of waiting; what needs no clock to be told counts also where the box is busy."""
    clock = Clock()
    health = _health(clock)
    asking = _asked(health)
    clock.now_s += 10.0
    health.lag.beat(clock.now_s, late_s)
    asking.ended(classify(Failed(kind)))
    assert health.breaker("a").state == state


def test_a_first_token_is_not_late_by_our_own_lag() -> None:
    """What is learned of a provider's pace is the provider's."""
    clock = Clock()
    health = _health(clock)
    asking = _asked(health)
    clock.now_s += 9.0
    health.lag.beat(clock.now_s, 8.5)
    asking.began()
    assert health.timed("a", asking.size, lambda known: known).first_s == (0.5,)


def test_only_the_lag_of_a_wait_counts() -> None:
    """What was late before is over, and trembling is no lag."""
    lag = Lag()
    lag.beat(10.0, 3.0)
    lag.beat(20.0, 0.01)
    assert (lag.since(15.0), lag.since(5.0)) == (0.0, 3.0)
    assert not lag.hides(15.0, 16.0)
    assert lag.hides(5.0, 16.0)
    lag.beat(30.0, 0.4)
    assert not lag.hides(29.0, 30.0)
    lag.beat(1_000.0, 0.0)
    assert lag.since(0.0) == 0.0

"""Outages on a virtual clock: how often a sick provider is asked, how often it is looked at, and when it is back.

The breaker, the paces, the probes and their schedule are the real ones; the provider and the time are not.
"""

from __future__ import annotations

import heapq
from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate, count, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.gateway import breaker as breakers
from appliance.gateway.breaker import Rules
from appliance.gateway.call import CHAT, Call
from appliance.gateway.health import Asking, Health, Known
from appliance.gateway.outcome import SUCCEEDED, Meaning, Verdict
from appliance.gateway.pace import Limits
from appliance.gateway.probe import BILLED_EVERY_S, UNBILLED, Probes

OK, REFUSING, SILENT, SLOW = "ok", "503", "silent", "slow"
ANSWER_S, SLOW_S, UNBILLED_LIMIT_S, TICK_S = 0.5, 20.0, 5.0, 1.0
FAILED = Verdict(Meaning.FAILURE, "it answered 503", again="server")
NOTHING = Verdict(Meaning.FAILURE, "no first token")
BACK_S, LYING_BACK_S = 15.0, 20.0
Weather = Callable[[float], tuple[str, str]]


@dataclass
class Provider:
    """What happens to whom at which time: completions and the list of models, each by its own weather.

    Attributes:
        asked_s: When requests were sent there, and sent again.
        served_s: When requests were sent there that it answered.
        billed: Tiny completions, as (time, whether the last list was good).
        failed_lists: Lists that failed.
    """

    weather: Weather
    every_s: float = 4.0
    local: bool = True
    rules: Rules = field(default_factory=Rules)
    now_s: float = 1000.0
    asked_s: list[float] = field(default_factory=list)
    served_s: list[float] = field(default_factory=list)
    billed: list[tuple[float, bool]] = field(default_factory=list)
    opened_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.began_s = self.now_s
        known = Known("a", "m", "k", Limits(10.0, 30.0, 15.0))
        self.health = Health([known], self.rules, probed=True, clock=lambda: self.now_s, chance=lambda: 0.5)
        self.probes, self.probing, self.list_good = Probes(), False, True
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = count()

    def at(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now_s + seconds, next(self.order), act))

    def run(self, seconds: float) -> Provider:
        for number in range(int(seconds / self.every_s)):
            self.at(number * self.every_s, self._request)
        for number in range(int(seconds / TICK_S)):
            self.at(number * TICK_S, self._tick)
        end_s = self.now_s + seconds
        while self.events and self.events[0][0] <= end_s:
            self.now_s, _, act = heapq.heappop(self.events)
            state = self.health.breaker("a").state
            act()
            if state != breakers.OPEN and self.health.breaker("a").state == breakers.OPEN:
                self.opened_s.append(self.now_s - self.began_s)
        return self

    def _weather(self) -> tuple[str, str]:
        return self.weather(self.now_s - self.began_s)

    def _request(self) -> None:
        body = {"messages": [{"role": "user", "content": "why"}]}
        call = Call(CHAT, body, "why", True, "auto", frozenset(), (), deadline_s=self.now_s + 120.0)
        asking = self.health.admit("a", call, alternatives=self.local)
        if isinstance(asking, Asking):
            self._attempt(call, asking)

    def _attempt(self, call: Call, asking: Asking) -> None:
        self.asked_s.append(self.now_s - self.began_s)
        state, _ = self._weather()
        limit_s = asking.limits.first_token_s
        if state == OK:
            self.served_s.append(self.now_s - self.began_s)
            self.at(ANSWER_S, asking.began)
            self.at(2 * ANSWER_S, lambda: asking.streamed(0.01))
        elif state == SLOW and limit_s > SLOW_S:
            self.at(SLOW_S, asking.began)
            self.at(SLOW_S + 1, lambda: asking.streamed(0.01))
        elif state == REFUSING:
            self.at(0.02, lambda: self._refused(call, asking))
        else:
            self.at(limit_s, lambda: asking.ended(NOTHING))

    def _refused(self, call: Call, asking: Asking) -> None:
        pause_s = asking.pause_s(FAILED, call)
        if pause_s is None:
            asking.ended(FAILED)
        else:
            self.at(pause_s, lambda: self._attempt(call, asking))

    def _tick(self) -> None:
        health, breaker = self.health, self.health.breaker("a")
        kind = None
        if not self.probing:
            kind = self.probes.due(breaker, self.now_s, 1e9 + self.now_s, every_s=5.0, daily=100, watched=False)
        if kind is None:
            return
        self.probing = True
        self.probes = self.probes.asked(kind, self.now_s, 1e9 + self.now_s)
        completions, lists = self._weather()
        if kind == UNBILLED:
            self.at(UNBILLED_LIMIT_S if lists == SILENT else 0.02, lambda: self._listed(good=lists == OK))
            return
        health.put("a", breakers.looked(breaker, self.now_s, self.rules, 0.5))
        self.billed.append((self.now_s - self.began_s, self.list_good))
        found = {OK: SUCCEEDED, REFUSING: FAILED}.get(completions, NOTHING)
        self.at({OK: ANSWER_S, REFUSING: 0.02}.get(completions, 10.0), lambda: self._looked(found))

    def _listed(self, *, good: bool) -> None:
        self.probing, self.list_good = False, good
        breaker = self.health.breaker("a")
        self.health.put("a", breakers.reached(breaker, self.now_s, self.rules, 0.5, good=good))

    def _looked(self, found: Verdict) -> None:
        self.probing = False
        self.health.put("a", breakers.vouched(self.health.breaker("a"), found, self.now_s, self.rules, 0.5))

    def touched(self, begin_s: float, end_s: float) -> int:
        """Returns how often requests of users reached it in a time.

        Those that were under way together before the first failure was known count as one.
        """
        known_s = self.opened_s[0] if self.opened_s else 0.0
        counted = [at_s for at_s in self.asked_s if begin_s <= at_s < end_s]
        if self.weather(0.0)[0] in (SILENT, SLOW):
            counted = [at_s for at_s in counted if not 0.1 < at_s <= known_s]
        return sum(later - sooner >= 1.0 for sooner, later in pairwise([-1e9, *counted]))

    def back_s(self, recovered_s: float) -> float:
        """Returns how long after its recovery it first served a request."""
        return min((at_s for at_s in self.served_s if at_s >= recovered_s), default=float("inf")) - recovered_s


def outage(seconds: float, completions: str, lists: str = OK, begin_s: float = 0.0) -> Weather:
    """Returns a provider that is ill once."""
    return lambda at_s: (completions, lists) if begin_s <= at_s < begin_s + seconds else (OK, OK)


def spared(seen: Provider, end_s: float) -> None:
    """No minute of an outage has more than three touches or two billed probes; none while the list fails."""
    for begin_s in range(max(1, int(end_s) - 59)):
        assert seen.touched(begin_s, min(begin_s + 60.0, end_s)) <= 3, (begin_s, seen.asked_s)
    times_s = [at_s for at_s, _ in seen.billed]
    assert all(later - sooner >= BILLED_EVERY_S for sooner, later in pairwise(times_s))
    assert all(good for _, good in seen.billed), "no billed probe while the unbilled one fails"


@pytest.mark.parametrize("lists", [OK, REFUSING, SILENT])
@pytest.mark.parametrize("completions", [REFUSING, SILENT, SLOW])
@pytest.mark.parametrize("every_s", [4.0, 1.0, 0.3])
def test_a_minute_of_outage(completions: str, lists: str, every_s: float) -> None:
    """At most three requests of fifteen reach the provider, and it serves within 15 s of its recovery."""
    seen = Provider(outage(60.0, completions, lists), every_s).run(120)
    spared(seen, 60.0)
    back_s = 60.0 + seen.back_s(60.0)
    assert back_s <= 60.0 + BACK_S
    assert not [at_s for at_s in seen.opened_s if at_s > back_s], "no flapping"
    assert len([at_s for at_s in seen.served_s if at_s >= back_s]) >= 0.9 * (119 - back_s) / max(every_s, 1.0)


@pytest.mark.parametrize("completions", [REFUSING, SILENT, SLOW])
def test_after_an_illness_of_any_length_it_is_soon_back(completions: str) -> None:
    """Also where the list of models was there all the time, however the billed probe's minute fell."""
    for seconds in range(1, 61):
        seen = Provider(outage(float(seconds), completions)).run(seconds + 90)
        assert seen.back_s(seconds) <= BACK_S, (seconds, seen.asked_s, seen.billed)
        assert seen.opened_s or completions == REFUSING


@pytest.mark.parametrize("lists", [REFUSING, SILENT])
@given(seconds=st.floats(1, 400))
@settings(max_examples=60, deadline=None)
def test_where_the_list_tells_the_truth_it_is_always_soon_back(lists: str, seconds: float) -> None:
    """However long it was away: that the list is there again is news."""
    seen = Provider(outage(seconds, REFUSING, lists)).run(seconds + 60)
    spared(seen, seconds)
    assert seen.back_s(seconds) <= BACK_S


@pytest.mark.parametrize("completions", [REFUSING, SILENT, SLOW])
@given(seconds=st.floats(1, 400), every_s=st.sampled_from([1.0, 2.5, 4.0]))
@settings(max_examples=60, deadline=None)
def test_where_the_list_lies(completions: str, seconds: float, every_s: float) -> None:
    """Three touches a minute and one billed look are all there is to go by; after some minutes it is fewer."""
    seen = Provider(outage(seconds, completions), every_s).run(seconds + 150)
    spared(seen, seconds)
    assert seen.back_s(seconds) <= (LYING_BACK_S if seconds < 180 else 60 + BACK_S)


@pytest.mark.parametrize("lists", [OK, REFUSING])
@pytest.mark.parametrize("half_s", [5.0, 8.0, 15.0])
def test_a_provider_that_comes_and_goes(lists: str, half_s: float) -> None:
    """It is asked less and less in vain, and no billed probe is sent more often for it."""

    def weather(at_s: float) -> tuple[str, str]:
        return (OK, OK) if at_s % (2 * half_s) < half_s else (REFUSING, lists)

    seen = Provider(weather).run(600.0)
    looks = [at_s for at_s, _ in seen.billed]
    assert all(later - sooner >= BILLED_EVERY_S for sooner, later in pairwise(looks))
    in_vain = {round(at_s) for at_s in seen.asked_s if weather(at_s)[0] != OK}
    assert len(in_vain) <= 4 * 10
    assert len(seen.opened_s) <= 3 * 10


SPELLS = st.tuples(
    st.floats(0.5, 90), st.sampled_from([OK, REFUSING, SILENT, SLOW]), st.sampled_from([OK, REFUSING, SILENT])
)


@given(st.lists(SPELLS, min_size=1, max_size=8), st.sampled_from([1.0, 4.0]))
@settings(max_examples=150, deadline=None)
def test_whatever_came_before_it_comes_back(spells: list[tuple[float, str, str]], every_s: float) -> None:
    """Any weather: looks that cost stay rare and never blind, and a provider that is well at last is asked soon."""
    ends_s = list(accumulate(seconds for seconds, _, _ in spells))

    def weather(at_s: float) -> tuple[str, str]:
        number = bisect(ends_s, at_s)
        return spells[number][1:] if number < len(spells) else (OK, OK)

    seen = Provider(weather, every_s).run(ends_s[-1] + 120.0)
    times_s = [at_s for at_s, _ in seen.billed]
    assert all(later - sooner >= BILLED_EVERY_S for sooner, later in pairwise(times_s))
    assert all(good for _, good in seen.billed)
    assert seen.back_s(ends_s[-1]) <= 60.0 + BACK_S


def test_a_recovery_right_after_a_billed_probe_failed() -> None:
    """The next look is a request, beside the box's own answer; nobody waits for the probe's minute."""
    sick = Provider(outage(1e9, SILENT)).run(30)
    failed_s = sick.billed[0][0]
    seen = Provider(outage(failed_s + 0.1, SILENT)).run(90)
    assert seen.back_s(failed_s + 0.1) <= BACK_S

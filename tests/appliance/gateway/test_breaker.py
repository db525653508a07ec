"""The breaker: when it opens, whom it lets through, and a machine of all that can happen to it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from appliance.gateway import breaker as b
from appliance.gateway.breaker import CLOSED, HALF_OPEN, OPEN, Breaker, Permit, Rules
from appliance.gateway.outcome import SUCCEEDED, Meaning, Verdict

RULES = Rules()
FAILED = Verdict(Meaning.FAILURE, "it answered 503")
NEUTRAL = Verdict(Meaning.NEUTRAL, "the caller left")
LONGEST_S = max(RULES.fatal_longest_s, RULES.blind_s, b.THROTTLE_LONGEST_S) * (1 + b.JITTER) + 0.001


def _admit(state: Breaker, now_s: float, *, probed: bool = False, alternatives: bool = True) -> tuple[Breaker, bool]:
    state, permit = b.admit(state, now_s, RULES, probed=probed, alternatives=alternatives)
    return state, permit is not None


def _asked(state: Breaker, now_s: float, verdict: Verdict, cost_s: float = 0.0, *, slow: bool = False) -> Breaker:
    state, permit = b.admit(state, now_s, RULES, probed=False, alternatives=False)
    assert permit is not None
    return b.after(state, permit, verdict, now_s, RULES, cost_s=cost_s, slow=slow)


def _open(now_s: float = 0.0) -> Breaker:
    state = Breaker()
    for _ in range(3):
        state = _asked(state, now_s, FAILED)
    assert state.state == OPEN
    return state


def test_three_failures_in_a_row_open_it() -> None:
    """And a success between them begins anew."""
    state = Breaker()
    for number, verdict in enumerate((FAILED, FAILED, SUCCEEDED, FAILED, FAILED)):
        state = _asked(state, number * 60.0, verdict)
    assert state.state == CLOSED
    assert _asked(state, 300.0, FAILED).state == OPEN


@pytest.mark.parametrize(("cost_s", "times"), [(0.1, 3), (5, 2), (10, 1), (60, 1)])
def test_a_costly_failure_counts_more(cost_s: float, times: int) -> None:
    """Ten seconds of silence are paid by one caller."""
    state = Breaker()
    for number in range(times):
        assert state.state == CLOSED, number
        state = _asked(state, 1.0, FAILED, cost_s)
    assert state.state == OPEN


def test_half_of_five_in_a_minute_open_it() -> None:
    """Where failures never come three in a row."""
    state = Breaker()
    for number, verdict in enumerate((FAILED, SUCCEEDED, FAILED, SUCCEEDED)):
        state = _asked(state, number * 4.0, verdict)
    assert state.state == CLOSED
    assert _asked(state, 16.0, FAILED).state == OPEN
    assert _asked(state, 200.0, FAILED).state == CLOSED


def test_poor_answers_count_half() -> None:
    """Six in a row open it, or more than half a minute of them."""
    state, soft = Breaker(), Verdict(Meaning.SOFT, "the answer is empty")
    for _ in range(4):
        state = _asked(state, 1.0, soft)
    assert state.state == CLOSED
    assert _asked(state, 1.0, soft).state == OPEN


def test_slow_answers_open_it() -> None:
    """Four fifths of at least five."""
    state = Breaker()
    for number in range(4):
        state = _asked(state, number, SUCCEEDED, slow=True)
    assert state.state == CLOSED
    assert _asked(state, 4, SUCCEEDED, slow=True).state == OPEN


@pytest.mark.parametrize("meaning", [Meaning.CREDENTIAL, Meaning.RETIRED])
def test_a_dead_key_opens_it_at_once(meaning: Meaning) -> None:
    """For a minute at first: no waiting makes a key valid."""
    state = _asked(Breaker(), 0.0, Verdict(meaning, "dead"))
    assert (state.state, state.until_s) == (OPEN, 60)


def test_nobody_asks_while_it_is_open() -> None:
    """Then one at a time, until two were good."""
    state = _open()
    assert not _admit(state, 4.9)[1]
    state, permit = b.admit(state, 5.0, RULES, probed=False, alternatives=True)
    assert permit is not None
    assert permit.trial
    assert not _admit(state, 5.1)[1]
    state = b.after(state, permit, SUCCEEDED, 6.0, RULES)
    assert state.state == HALF_OPEN
    assert _asked(state, 6.0, SUCCEEDED).state == CLOSED


@pytest.mark.parametrize("meaning", [Meaning.NEUTRAL, Meaning.CALLER, Meaning.INCAPABLE, Meaning.THROTTLED])
def test_an_outcome_that_says_nothing_gives_the_permit_back(meaning: Meaning) -> None:
    """A leaked permit would lock the upstream out for ever."""
    state, permit = b.admit(_open(), 5.0, RULES, probed=False, alternatives=True)
    assert permit is not None
    state = b.after(state, permit, Verdict(meaning, "x", wait_s=1.0), 6.0, RULES)
    assert (state.state, state.trial, state.good) == (HALF_OPEN, False, 0)
    assert _admit(state, 8.0)[1]


def test_each_opening_lasts_longer_up_to_the_cap() -> None:
    """Five, ten, twenty, twenty seconds."""
    state, lasts, now_s = _open(), [], 0.0
    for _ in range(4):
        lasts.append(state.until_s - now_s)
        now_s = state.until_s
        state = _asked(state, now_s, FAILED)
    assert lasts == [5, 10, 20, 20]


@pytest.mark.parametrize(("chance", "until_s"), [(0.0, 4.0), (0.5, 5.0), (1.0, 6.0)])
def test_the_open_time_is_spread_by_chance(chance: float, until_s: float) -> None:
    """Boxes that lost a provider together do not come back together."""
    state, permit = replace(Breaker(), streak=2.0), Permit(0)
    assert b.after(state, permit, FAILED, 0.0, RULES, chance=chance).until_s == pytest.approx(until_s)


def test_throttling_is_neutral_and_a_floor() -> None:
    """No count moves, and nobody asks before the time that was named, by however much chance."""
    state = _asked(Breaker(), 0.0, Verdict(Meaning.THROTTLED, "throttled", wait_s=20))
    assert (state.state, state.streak, state.buckets) == (CLOSED, 0, ())
    assert not _admit(state, 19.9)[1]
    assert _admit(state, 24.0)[1]
    again = _asked(state, 24.0, Verdict(Meaning.THROTTLED, "throttled"))
    assert again.throttled_s > 24.0 + RULES.open_s


def test_a_good_probe_ends_the_open_time() -> None:
    """It is the first of two good outcomes; an unbilled one alone leaves it to a request, some time after the last."""
    state = b.reached(_open(), 0.0, RULES, 0.5, good=True)
    assert not _admit(state, RULES.look_s - 0.1, probed=True)[1]
    assert _admit(state, RULES.look_s * (1 + b.LOOK_JITTER), probed=True)[1]
    state = b.vouched(state, SUCCEEDED, 2.0, RULES, 0.5)
    assert (state.state, state.good) == (HALF_OPEN, 1)
    assert _asked(state, 2.0, SUCCEEDED).state == CLOSED


def test_the_wait_counts_from_the_beginning_of_what_failed() -> None:
    """Ten seconds of silence say nothing of its last nine."""
    state = _asked(Breaker(), 20.0, FAILED, 10.0)
    assert not _admit(state, 22.9, probed=True)[1]
    assert _admit(state, 24.0, probed=True)[1]


def test_a_billed_probe_is_a_look_like_any_other() -> None:
    """No request tries it right behind one."""
    state = b.looked(_open(), 10.0, RULES, 0.5)
    assert not _admit(state, 22.9, probed=True)[1]
    assert _admit(state, 24.0, probed=True)[1]


def test_what_is_in_reach_again_is_tried_at_once() -> None:
    """And is not tried before."""
    state = b.reached(_open(), 0.0, RULES, 0.5, good=False)
    assert not _admit(state, 100.0, probed=True)[1]
    assert _admit(b.reached(state, 6.0, RULES, 0.5, good=True), 6.0, probed=True)[1]


def test_what_is_no_portal_any_more_is_tried_at_once() -> None:
    """A page in place of the list tells nothing, and its end something."""
    state = b.reached(_open(), 0.0, RULES, 0.5, good=None)
    assert not _admit(state, 6.0, probed=True)[1]
    assert _admit(b.reached(state, 6.0, RULES, 0.5, good=True), 6.0, probed=True)[1]


def test_three_requests_a_minute_find_it_bad() -> None:
    """The fourth waits for the minute's end, and no unbilled probe shortens that."""
    state, tried_s = _open(), list[int]()
    for now_s in range(1, 120):
        state, permit = b.admit(state, float(now_s), RULES, probed=True, alternatives=True)
        if permit is not None:
            state = b.after(state, permit, FAILED, float(now_s), RULES)
            tried_s.append(now_s)
        state = b.reached(state, float(now_s), RULES, 0.5, good=now_s % 2 == 0)
    assert sum(at_s < 60 for at_s in tried_s) == 2
    assert sum(60 <= at_s < 120 for at_s in tried_s) <= 3


def test_failures_between_answers_are_no_outage() -> None:
    """They do not count among the three that one has."""
    state = Breaker()
    for number in range(2):
        state = _asked(_asked(state, 10.0 * number, FAILED), 10.0 * number + 1, SUCCEEDED)
    state = _asked(state, 31.0, FAILED, 10.0)
    assert (state.state, len(state.touches)) == (OPEN, 1)
    assert _admit(state, 21.0 + RULES.look_s * (1 + b.LOOK_JITTER), probed=True)[1]


def test_after_a_failure_and_its_retry_the_next_request_goes_elsewhere() -> None:
    """Where nothing answered for a second, probes run, and somebody else can serve."""
    state = _asked(_asked(Breaker(), 0.0, FAILED), 0.3, FAILED)
    assert _admit(state, 0.5, probed=True)[1]
    assert _admit(state, 4.0, probed=False)[1]
    assert _admit(state, 4.0, probed=True, alternatives=False)[1]
    state, passed = _admit(state, 4.0, probed=True)
    assert (state.state, passed) == (OPEN, False)


def test_what_has_just_come_back_and_fails_twice_is_open_again() -> None:
    """In the first half minute; later it takes three."""
    for since_s, left in ((10.0, OPEN), (40.0, CLOSED)):
        state = _asked(_asked(_open(), 5.0, SUCCEEDED), 5.0, SUCCEEDED)
        state = _asked(_asked(state, 5.0 + since_s, FAILED), 5.0 + since_s, FAILED)
        assert state.state == left


def test_an_upstream_out_of_reach_is_touched_rarely() -> None:
    """No request tries what the unbilled probe does not reach, but for one every two minutes."""
    state = b.reached(_open(), 0.0, RULES, 0.5, good=False)
    assert not _admit(state, RULES.blind_s - 1, probed=True)[1]
    assert _admit(state, RULES.blind_s, probed=True)[1]


def test_after_an_outage_the_first_request_is_back_and_few_follow() -> None:
    """Of a hundred a second a tenth, then a half, then all; of one every two seconds all."""
    state = _asked(_asked(_open(), 5.0, SUCCEEDED), 5.0, SUCCEEDED)
    assert state.state == CLOSED
    for first_s, least, most in ((5.0, 95, 120), (20.0, 490, 520), (35.0, 1000, 1000)):
        through, busy = 0, state
        for number in range(1000):
            busy, passed = _admit(busy, first_s + number / 100)
            through += passed
        assert least <= through <= most
    for number in range(10):
        state, passed = _admit(state, 5.0 + 2 * number)
        assert passed


def test_the_ramp_holds_nobody_back_without_another_rung() -> None:
    """An answer of what has just come back is better than none."""
    state = _asked(_asked(_open(), 5.0, SUCCEEDED), 5.0, SUCCEEDED)
    assert all(_admit(state, 5.0, alternatives=False)[1] for _ in range(50))


class Life(RuleBasedStateMachine):
    """Requests, probes and time in any order, on a virtual clock."""

    permits: Bundle[Permit] = Bundle("permits")

    def __init__(self) -> None:
        super().__init__()
        self.state, self.now_s = Breaker(), 1000.0
        self.trials = set[int]()

    @rule(seconds=st.floats(0, 100))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(target=permits, probed=st.booleans(), alternatives=st.booleans())
    def somebody_asks(self, *, probed: bool, alternatives: bool) -> Permit:
        before = self.state
        self.state, permit = b.admit(before, self.now_s, RULES, probed=probed, alternatives=alternatives)
        if permit is None:
            return Permit(-1)
        assert self.now_s >= before.throttled_s, "a throttled upstream is left alone"
        assert permit.trial == (self.state.state == HALF_OPEN)
        if permit.trial:
            assert not before.trial, "one trial at a time"
        return permit

    @rule(
        permit=consumes(permits),
        meaning=st.sampled_from(Meaning),
        wait_s=st.none() | st.floats(0, 600),
        cost_s=st.floats(0, 30),
        chance=st.floats(0, 1),
        slow=st.booleans(),
    )
    def an_outcome_comes(
        self, permit: Permit, meaning: Meaning, wait_s: float | None, cost_s: float, chance: float, *, slow: bool
    ) -> None:
        before, verdict = self.state, Verdict(meaning, "reason", wait_s)
        self.state = b.after(before, permit, verdict, self.now_s, RULES, cost_s=cost_s, slow=slow, chance=chance)
        current = permit.epoch == before.epoch
        if current and permit.trial:
            assert not self.state.trial, "every outcome gives the permit back"
        if not current or meaning in (Meaning.NEUTRAL, Meaning.CALLER, Meaning.INCAPABLE):
            kept = replace(self.state, trial=before.trial, throttled_s=0, throttles=0, reason="")
            assert kept == replace(before, throttled_s=0, throttles=0, reason=""), "it moves nothing"
        if meaning is Meaning.SUCCESS:
            assert self.state.state != OPEN or before.state == OPEN or slow

    @rule(good=st.sampled_from([True, False, None]))
    def an_unbilled_probe_returns(self, *, good: bool | None) -> None:
        before, self.state = self.state, b.reached(self.state, self.now_s, RULES, 0.5, good=good)
        assert self.state.state == before.state or (good is False and self.state.state == OPEN)
        assert before.streak or before.state != CLOSED or self.state == before, "what serves is not shut out"

    @rule(meaning=st.sampled_from(Meaning), chance=st.floats(0, 1))
    def a_billed_probe_returns(self, meaning: Meaning, chance: float) -> None:
        before = self.state
        self.state = b.vouched(before, Verdict(meaning, "reason"), self.now_s, RULES, chance)
        if meaning is Meaning.SUCCESS:
            assert self.state.state != OPEN

    @rule(chance=st.floats(0, 1))
    def a_billed_probe_is_sent(self, chance: float) -> None:
        before, self.state = self.state, b.looked(self.state, self.now_s, RULES, chance)
        assert replace(self.state, due_s=0.0) == replace(before, due_s=0.0), "it is a look, and no outcome"

    @invariant()
    def a_trial_is_out_only_while_half_open(self) -> None:
        assert not self.state.trial or self.state.state == HALF_OPEN
        assert self.state.good < RULES.good

    @invariant()
    def nobody_is_locked_out_for_ever(self) -> None:
        for probed in (False, True):
            assert b.waits_s(self.state, self.now_s, RULES, probed=probed) <= LONGEST_S
            later = self.now_s + LONGEST_S
            _, permit = b.admit(self.state, later, RULES, probed=probed, alternatives=True)
            assert permit is not None or self.state.trial

    @invariant()
    def what_is_not_well_says_why(self) -> None:
        assert self.state.state == CLOSED or self.state.reason or self.state.good


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)

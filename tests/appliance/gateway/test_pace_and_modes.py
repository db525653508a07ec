"""The limits that follow from what an upstream usually takes, what counts as a spike, and the modes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.gateway.modes import DEGRADED, DWELL_S, LOCAL, MODES, NORMAL, WATCH, Moded, Standing, observed, of_answer
from appliance.gateway.pace import SAMPLES_LEAST, Limits, Pace, limits, p95, prompt_bytes, size_of
from appliance.gateway.spike import QUIET_S, Spike

PROFILE = Limits(first_token_s=30, whole_s=90, stall_s=30)
SECONDS = st.floats(0, 100)


def _pace(first_s: float = 1.0, gap_s: float = 0.05, times: int = SAMPLES_LEAST) -> Pace:
    return Pace((first_s,) * times, (3 * first_s,) * times, (gap_s,) * times)


def _as_set(found: Limits) -> Limits:
    """Returns what a profile sets of it."""
    return Limits(found.first_token_s, found.whole_s, found.stall_s)


def test_ten_seconds_until_it_is_known() -> None:
    """Nineteen samples are not known: a first token of twenty seconds is rescued inside fifteen."""
    for pace in (Pace(), _pace(0.1, times=SAMPLES_LEAST - 1)):
        found = limits(pace, PROFILE)
        assert (found.first_token_s, found.stall_s) == (10, 10)


@pytest.mark.parametrize(("usual_s", "limit_s"), [(0.1, 2), (1, 3), (5, 15), (20, 30)])
def test_three_times_the_usual(usual_s: float, limit_s: float) -> None:
    """From two to thirty seconds."""
    assert limits(_pace(usual_s), PROFILE).first_token_s == limit_s


@pytest.mark.parametrize(("gap_s", "limit_s"), [(0.05, 5), (0.5, 10), (5, 30)])
def test_twenty_times_the_usual_gap(gap_s: float, limit_s: float) -> None:
    """From five to thirty seconds."""
    assert limits(_pace(gap_s=gap_s), PROFILE).stall_s == limit_s


def test_what_the_profile_sets_is_the_cap() -> None:
    """Also below the least."""
    short = Limits(1, 3, 1)
    assert _as_set(limits(Pace(), short)) == short
    assert _as_set(limits(_pace(20, 5), short)) == short


def test_a_profile_that_lets_a_model_think_is_followed() -> None:
    """More than thirty seconds are meant; what is known later makes them shorter again."""
    thinks = Limits(90, 270, 60)
    assert _as_set(limits(Pace(), thinks)) == thinks
    assert limits(_pace(20), thinks).first_token_s == 60
    assert limits(_pace(40), thinks).first_token_s == 90


def test_nobody_waits_for_a_patient_attempt() -> None:
    """So one that became slower than its limit is learned and not shut out for ever."""
    assert limits(_pace(0.1), PROFILE, patient=True).first_token_s == 30


@given(
    samples=st.lists(SECONDS, max_size=120),
    first_s=st.floats(0.1, 600),
    stall_s=st.floats(0.1, 600),
    patient=st.booleans(),
)
def test_no_limit_passes_the_profile(samples: list[float], first_s: float, stall_s: float, *, patient: bool) -> None:
    """Whatever was seen, and memory is bounded."""
    pace = Pace()
    for seconds in samples:
        pace = pace.with_first(seconds).with_whole(seconds).with_gap(seconds)
    found = limits(pace, Limits(first_s, 3 * first_s, stall_s), patient=patient)
    assert 0 < found.first_token_s <= first_s
    assert 0 < found.whole_s <= 3 * first_s
    assert 0 < found.stall_s <= stall_s
    assert len(pace.first_s) <= 100


@pytest.mark.parametrize(
    ("usual_s", "beside_s"), [(None, 10.0), (0.5, 0.0), (3.0, 0.0), (4.0, 10.0), (9.0, 10.0), (15.0, 15.0), (40.0, 0.0)]
)
def test_when_others_are_asked_beside_a_whole_answer(usual_s: float | None, beside_s: float) -> None:
    """When a stream would have begun, or later than usual; not where its own limit comes sooner."""
    known = Pace() if usual_s is None else Pace(whole_s=(usual_s,) * SAMPLES_LEAST)
    found = limits(known, Limits(10.0, 30.0, 15.0))
    assert found.beside_s == beside_s
    assert limits(known, Limits(10.0, 30.0, 15.0), patient=True).beside_s == 0.0


def test_prompts_of_a_size_share_a_pace() -> None:
    """Four bytes are about a token; pictures do not count."""
    assert [size_of(tokens * 4) for tokens in (0, 511, 512, 2_048, 8_192, 40_000)] == [0, 0, 1, 2, 3, 4]
    picture = [{"type": "text", "text": "abc"}, {"type": "image_url", "image_url": {"url": "data:" + "x" * 9_999}}]
    assert prompt_bytes({"messages": [{"content": picture}, {"content": "de"}, 7, {"content": None}]}) == 5
    assert prompt_bytes({"prompt": "abcd"}) == 4


@given(st.lists(SECONDS, min_size=1, max_size=200))
def test_at_most_a_twentieth_is_over_the_95th_percentile(samples: list[float]) -> None:
    """And it is one of them."""
    assert p95(samples) in samples
    assert sum(seconds > p95(samples) for seconds in samples) <= len(samples) / 20


def _seen(values: list[float], spike: Spike | None = None, now_s: float = 0.0) -> tuple[Spike, float]:
    spike = spike or Spike()
    for seconds in values:
        now_s += 4.0
        spike = spike.seen(seconds, now_s, 1.3)
    return spike, now_s


def test_a_provider_that_is_as_usual_is_no_spike() -> None:
    """Spread by a third."""
    spike, now_s = _seen([0.8, 1.0, 1.2, 0.9, 1.1] * 20)
    assert not spike.anomalous(now_s)


def test_a_provider_that_is_four_times_slower_is_one_within_five_requests() -> None:
    """And no longer once it was quiet for a while."""
    spike, now_s = _seen([0.8, 1.0, 1.2, 0.9, 1.1] * 10)
    spike, now_s = _seen([4.0] * 5, spike, now_s)
    assert spike.anomalous(now_s)
    spike, now_s = _seen([1.0] * 30, spike, now_s)
    assert not spike.anomalous(now_s)


def test_one_late_answer_is_none() -> None:
    """A single one says nothing."""
    spike, now_s = _seen([0.8, 1.0, 1.2, 0.9, 1.1] * 10)
    for seconds in (3.0, 300.0):
        assert not _seen([seconds], spike, now_s)[0].anomalous(now_s + 4)


def test_what_stays_slow_becomes_the_usual() -> None:
    """No box watches for ever what is simply so."""
    spike, now_s = _seen([1.0] * 50)
    spike, now_s = _seen([4.0] * 3_000, spike, now_s)
    for _ in range(50):
        now_s += 4.0
        spike = spike.seen(4.0, now_s, 4.0)
    assert not spike.anomalous(now_s + QUIET_S)


@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e5), st.floats(0, 100)), max_size=60))
def test_no_sample_breaks_it(samples: list[tuple[float, float, float]]) -> None:
    """Zero, a day of silence, and everything between."""
    spike, now_s = Spike(), 0.0
    for seconds, pause_s, usual_s in samples:
        now_s += pause_s
        spike = spike.seen(seconds, now_s, usual_s)
    assert spike.anomalous(now_s) in (True, False)
    assert len(spike.late) <= 5


@pytest.mark.parametrize(
    ("standings", "mode"),
    [
        ([], NORMAL),
        ([Standing(well=True)], NORMAL),
        ([Standing(well=True, watched=True)], WATCH),
        ([Standing(well=False), Standing(well=True)], DEGRADED),
        ([Standing(well=True), Standing(well=False)], NORMAL),
        ([Standing(well=False), Standing(well=False, watched=True)], LOCAL),
    ],
)
def test_the_mode_is_what_the_upstreams_say(standings: list[Standing], mode: str) -> None:
    """Best first; without any the box itself is the normal service."""
    assert observed(standings) == mode


@given(st.lists(st.tuples(st.sampled_from(MODES), st.floats(0, 30)), max_size=50))
def test_a_mode_gets_better_only_after_its_time(steps: list[tuple[str, float]]) -> None:
    """And worse at once."""
    moded, now_s = Moded(), 0.0
    for seen, pause_s in steps:
        now_s += pause_s
        before, moded = moded, moded.moved(seen, now_s)
        if MODES.index(seen) > MODES.index(before.mode):
            assert moded.mode == seen
        if MODES.index(moded.mode) < MODES.index(before.mode):
            assert now_s - before.since_s >= DWELL_S


@pytest.mark.parametrize(
    ("before", "passed", "served", "after"),
    [
        (NORMAL, set(), "a", NORMAL),
        (WATCH, set(), "a", WATCH),
        (LOCAL, set(), "a", NORMAL),
        (NORMAL, {"a"}, "b", DEGRADED),
        (NORMAL, {"a", "b"}, "small", LOCAL),
        (NORMAL, {"a", "b"}, None, LOCAL),
        (NORMAL, {"a"}, "small", NORMAL),
        (NORMAL, set(), "faq", NORMAL),
        (LOCAL, set(), "faq", LOCAL),
        (NORMAL, set(), "b", NORMAL),
        (LOCAL, set(), "b", DEGRADED),
    ],
)
def test_only_evidence_about_upstreams_moves_the_mode_of_an_answer(
    before: str, passed: set[str], served: str | None, after: str
) -> None:
    """An FAQ answer or a named local model says nothing about the cloud."""
    assert of_answer(before, upstreams=("a", "b"), passed=passed, served=served) == after


def test_a_box_without_upstreams_is_normal() -> None:
    """There is nothing to fall back from."""
    assert of_answer(NORMAL, upstreams=(), passed={"small"}, served="faq") == NORMAL

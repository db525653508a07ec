"""What a failure means and how long an upstream is left alone; and the modes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.gateway import hold
from appliance.gateway.classify import RETRY_AFTER_MAX_S, Verdict, classify
from appliance.gateway.hold import Hold
from appliance.gateway.modes import DEGRADED, LOCAL, NORMAL, next_mode
from appliance.gateway.outcome import Failed, Kind


def _verdict(failure: Failed, cost_s: float = 0.001) -> Verdict:
    return classify(failure, cost_s=cost_s, hold_s=3, hold_longest_s=30)


@pytest.mark.parametrize("kind", [Kind.CONNECT, Kind.SILENT, Kind.STALLED, Kind.CUT, Kind.NOT_JSON, Kind.TOO_LONG])
def test_a_fault_of_the_upstream_is_skipped_and_held(kind: Kind) -> None:
    """A cheap failure is repeated after the shortest hold."""
    assert _verdict(Failed(kind)) == Verdict(kind.value, 3)


def test_a_costly_failure_earns_a_longer_hold() -> None:
    """Ten seconds of silence are not paid every three seconds, and no hold passes the longest."""
    assert _verdict(Failed(Kind.SILENT), cost_s=5).hold_s == 15
    assert _verdict(Failed(Kind.SILENT), cost_s=60).hold_s == 30


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_fault_of_the_request_goes_to_the_caller(status: int) -> None:
    """No other rung would think better of it."""
    assert _verdict(Failed(Kind.STATUS, status=status)).propagate


@pytest.mark.parametrize("code", ["context_length_exceeded", "unsupported_option"])
@pytest.mark.parametrize("kind", [Kind.STATUS, Kind.IN_BAND])
def test_a_limit_of_the_rung_is_not_a_fault_of_the_request(code: str, kind: Kind) -> None:
    """Another rung may have a longer context; the upstream itself is well and is not held."""
    verdict = _verdict(Failed(kind, status=400, code=code))
    assert (verdict.propagate, verdict.hold_s, verdict.incapable) == (False, 0, True)


@pytest.mark.parametrize("status", [401, 402, 403, 404, 405, 410, 302, 500, 502, 503, 529, 418])
def test_every_other_status_is_skipped_and_held(status: int) -> None:
    """With the status in the reason."""
    verdict = _verdict(Failed(Kind.STATUS, status=status))
    assert not verdict.propagate
    assert verdict.hold_s == 3
    assert str(status) in verdict.reason


@pytest.mark.parametrize(("asked", "hold_s"), [(None, 3), (1, 3), (20, 20), (86_400, RETRY_AFTER_MAX_S)])
def test_retry_after_is_a_floor_with_a_cap(asked: float | None, hold_s: float) -> None:
    """A provider's word is kept, within reason."""
    assert _verdict(Failed(Kind.STATUS, status=429, retry_after_s=asked)).hold_s == hold_s
    assert _verdict(Failed(Kind.STATUS, status=503, retry_after_s=asked)).hold_s == hold_s


def test_an_empty_answer_is_no_outage() -> None:
    """The next request may try again at once."""
    assert _verdict(Failed(Kind.EMPTY)).hold_s == 0


@given(
    st.sampled_from(Kind),
    st.integers(0, 999),
    st.text(max_size=5),
    st.floats(0, 1e6),
    st.none() | st.floats(0, 1e9),
)
def test_the_provider_s_words_are_never_the_reason(
    kind: Kind, status: int, code: str, cost_s: float, retry_s: float | None
) -> None:
    """Provider text can echo keys; and every hold has a bound."""
    failure = Failed(kind, status=status, code=code, message="sk-secret", retry_after_s=retry_s)
    verdict = _verdict(failure, cost_s)
    assert "sk-secret" not in verdict.reason
    assert verdict.reason
    assert 0 <= verdict.hold_s <= RETRY_AFTER_MAX_S


def test_a_held_upstream_is_asked_again_when_the_time_has_come() -> None:
    """At `until_s` exactly it is free."""
    holds = hold.after({}, "a", now_s=10, hold_s=3, reason="connection refused")
    assert hold.held(holds, "a", 11) == "connection refused; asked again in 2 s"
    assert hold.held(holds, "a", 13) is None
    assert hold.failing(holds, "a", 13) == "connection refused; asked again now"
    assert hold.failing(holds, "b", 13) is None
    assert hold.held(holds, "b", 11) is None


def test_no_hold_is_shortened_and_an_answer_ends_it() -> None:
    """A later cheap failure does not undo a Retry-After."""
    holds = {"a": Hold(100, "throttled")}
    assert hold.after(holds, "a", now_s=10, hold_s=3, reason="x")["a"].until_s == 100
    assert hold.after(holds, "a", now_s=10, hold_s=0, reason="x") == holds
    assert hold.without(holds, "a") == {}


@pytest.mark.parametrize(
    ("before", "passed", "served", "after"),
    [
        (NORMAL, set(), "a", NORMAL),
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
def test_only_evidence_about_upstreams_moves_the_mode(
    before: str, passed: set[str], served: str | None, after: str
) -> None:
    """An FAQ answer or a pinned local model says nothing about the cloud."""
    assert next_mode(before, upstreams=("a", "b"), passed=passed, served=served) == after


def test_a_box_without_upstreams_is_normal() -> None:
    """There is nothing to fall back from."""
    assert next_mode(NORMAL, upstreams=(), passed={"small"}, served="faq") == NORMAL

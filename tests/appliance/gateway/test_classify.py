"""What an outcome means, and what an upstream asks for: tables that hold for everything."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.gateway.budget import ATTEMPTS, FREE_PER_S, SHARE, WINDOW_S, RetryBudget, waits
from appliance.gateway.classify import CONNECTION, IN_BAND, SERVER, classify
from appliance.gateway.outcome import Failed, Kind, Meaning
from appliance.gateway.retry_after import RETRY_AFTER_MAX_S, retry_after_s

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
FAULTS = (
    Kind.CONNECT, Kind.UNREACHED, Kind.NO_NAME, Kind.NO_TRUST, Kind.SILENT, Kind.STALLED, Kind.CUT, Kind.NOT_JSON,
    Kind.IN_BAND, Kind.TOO_LONG,
)  # fmt: skip


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_of_the_upstream_is_a_failure(kind: Kind) -> None:
    """Only a refused or reset connection may be asked again at once."""
    verdict = classify(Failed(kind))
    assert (verdict.meaning, verdict.reason) == (Meaning.FAILURE, kind.value)
    assert verdict.again == (CONNECTION if kind is Kind.CONNECT else "")


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        *((status, Meaning.CALLER) for status in (400, 413, 422)),
        *((status, Meaning.CREDENTIAL) for status in (401, 402, 403, 451)),
        *((status, Meaning.RETIRED) for status in (404, 405, 410)),
        *((status, Meaning.FAILURE) for status in (204, 302, 408, 418, 500, 501, 502, 503, 504, 505, 529)),
        (429, Meaning.THROTTLED),
    ],
)
def test_each_status_has_its_meaning(status: int, meaning: Meaning) -> None:
    """With the status in the reason."""
    verdict = classify(Failed(Kind.STATUS, status=status))
    assert verdict.meaning is meaning
    assert str(status) in verdict.reason
    assert (verdict.again == SERVER) == (status in (500, 502, 503, 504, 529))


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
def test_a_retry_after_is_throttling(status: int) -> None:
    """The upstream is well and says when to come back; it is not asked again before."""
    verdict = classify(Failed(Kind.STATUS, status=status, retry_after_s=7))
    assert (verdict.meaning, verdict.wait_s, verdict.again) == (Meaning.THROTTLED, 7, "")


def test_an_unpaid_account_is_no_throttling() -> None:
    """OpenAI says 429 for it, and no waiting helps."""
    assert classify(Failed(Kind.STATUS, status=429, code="insufficient_quota")).meaning is Meaning.CREDENTIAL


@pytest.mark.parametrize("code", ["context_length_exceeded", "unsupported_option", "invalid_schema"])
@pytest.mark.parametrize("kind", [Kind.STATUS, Kind.IN_BAND])
def test_a_limit_of_the_rung_is_not_a_fault_of_the_request(code: str, kind: Kind) -> None:
    """Another rung may have a longer context."""
    assert classify(Failed(kind, status=400, code=code)).meaning is Meaning.INCAPABLE


@pytest.mark.parametrize("kind", [Kind.STATUS, Kind.IN_BAND])
def test_a_content_filter_s_word_goes_to_the_caller(kind: Kind) -> None:
    """No other provider is asked to think otherwise."""
    assert classify(Failed(kind, status=403, code="content_filter")).propagate


@pytest.mark.parametrize("code", sorted(IN_BAND))
def test_an_error_inside_a_200_is_read_by_its_code(code: str) -> None:
    """A throttled provider is not a failing one, wherever it says so."""
    assert classify(Failed(Kind.IN_BAND, code=code)).meaning is IN_BAND[code][0]


@pytest.mark.parametrize("kind", [Kind.EMPTY, Kind.INVALID])
def test_a_poor_answer_is_a_soft_failure(kind: Kind) -> None:
    """It answered, and not well."""
    assert classify(Failed(kind)).meaning is Meaning.SOFT


@given(
    st.sampled_from(Kind),
    st.integers(0, 999),
    st.sampled_from(["", "content_filter", "429", "context_length_exceeded"]) | st.text(max_size=5),
    st.none() | st.floats(0, 1e9),
)
def test_every_outcome_has_a_meaning_and_no_word_of_the_provider(
    kind: Kind, status: int, code: str, retry_s: float | None
) -> None:
    """Provider text can echo keys; and neither silence nor a stream is ever asked again at once."""
    verdict = classify(Failed(kind, status=status, code=code, message="sk-secret", retry_after_s=retry_s))
    assert verdict.meaning not in (Meaning.SUCCESS,)
    assert "sk-secret" not in verdict.reason
    assert verdict.reason
    assert not verdict.again or kind in (Kind.CONNECT, Kind.STATUS)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "0"}, 0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After": "86400"}, RETRY_AFTER_MAX_S),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "1e9"}, None),
        ({"Retry-After": "٣"}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Sat, 21 Nov 2026 12:00:20 GMT"}, 20),
        ({"Retry-After": "Sat, 21 Nov 2026 11:00:00 GMT"}, 0),
        ({"Retry-After": "Sat, 21 Nov 2026 18:00:20 GMT", "Date": "Sat, 21 Nov 2026 18:00:00 GMT"}, 20),
        ({"Retry-After": "Sat, 99 Nov 2026 12:00:20 GMT"}, None),
        ({"retry-after-ms": "1500", "Retry-After": "9"}, 1.5),
        ({"X-MS-Retry-After-MS": "250"}, 0.25),
        ({"retry-after-ms": "x", "Retry-After": "9"}, 9),
        ({}, None),
    ],
)
def test_retry_after_in_every_form_of_a_header(headers: dict[str, str], seconds: float | None) -> None:
    """A date counts from the response's own Date: our clock may be off."""
    assert retry_after_s(headers, b"", NOW) == seconds


@pytest.mark.parametrize("wrap", [lambda error: error, lambda error: [error]])
@pytest.mark.parametrize(("delay", "seconds"), [("17s", 17), ("1.5s", 1.5), ("9999s", 600), ("soon", None), (3, None)])
def test_gemini_says_it_in_the_body(wrap: object, delay: object, seconds: float | None) -> None:
    """`retryDelay` of google.rpc.RetryInfo, also in the list that its OpenAI surface sends."""
    assert callable(wrap)
    error = {"error": {"code": 429, "details": [{"@type": "x"}, {"retryDelay": delay}]}}
    assert retry_after_s({}, json.dumps(wrap(error)).encode(), NOW) == seconds


@given(
    st.dictionaries(st.sampled_from(["Retry-After", "retry-after-ms", "Date"]), st.text(max_size=40)),
    st.binary(max_size=80) | st.just(b'{"error": {"details": "retryDelay"}}') | st.just(b'"retryDelay"'),
)
def test_no_header_or_body_breaks_the_reader(headers: dict[str, str], body: bytes) -> None:
    """What cannot be read counts as absent, and everything else is within the cap."""
    found = retry_after_s(headers, body, NOW)
    assert found is None or 0 <= found <= RETRY_AFTER_MAX_S


@given(st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=200))
def test_retries_stay_a_share_of_the_requests(events: list[tuple[float, bool]]) -> None:
    """In any ten seconds a fifth of the requests, and one a second beside."""
    budget, asked, again = RetryBudget(), list[float](), list[float]()
    for now_s, wants in sorted(events):
        budget = budget.requested(now_s)
        asked.append(now_s)
        if wants and budget.allows(now_s):
            budget = budget.retried(now_s)
            again.append(now_s)
    for end_s in again:
        recent = [at for at in again if end_s - WINDOW_S < at <= end_s]
        requests = [at for at in asked if int(end_s) - WINDOW_S < int(at) <= end_s]
        assert len([at for at in recent if int(at) > int(end_s) - WINDOW_S]) <= (
            SHARE * len(requests) + FREE_PER_S * WINDOW_S
        )


def test_a_short_throttle_is_waited_for() -> None:
    """At most three seconds, and a quarter of what is left."""
    assert waits(3, 60)
    assert waits(0, 1)
    assert not waits(3.1, 60)
    assert not waits(2, 7.9)
    assert not waits(None, 60)
    assert ATTEMPTS == 3

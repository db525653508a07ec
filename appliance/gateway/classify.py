"""What a failure means: skip the rung (and leave it alone for how long), or hand the refusal to the caller.

Pure: the table is data, `now` is no part of it. Provider text never becomes a reason (it can echo keys).
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.gateway.outcome import Failed, Kind

RETRY_AFTER_MAX_S = 600.0
# A failure that cost much is repeated less often: three times its cost, so at most a quarter of the time is waste.
COST_FACTOR = 3.0

TOO_LONG_CODE = "context_length_exceeded"
# OpenAI error codes of a 400 that are a limit of this rung and not a fault of the request.
RUNG_LIMITS = {
    TOO_LONG_CODE: "the request is longer than its context",
    "unsupported_option": "it does not support an option of this request",
    "invalid_schema": "it cannot follow the JSON schema of this request",
}
CREDENTIAL = {401: "it does not accept our key", 402: "its account is unpaid", 403: "it denies us access"}
GONE = {404: "it does not serve this model", 405: "it does not serve this model", 410: "its model is retired"}
REQUEST_FAULTS = frozenset({400, 413, 422})


@dataclass(frozen=True)
class Verdict:
    """What to do: `propagate` the refusal to the caller or skip the rung for `hold_s`; `busy`: it has too much."""

    reason: str
    hold_s: float = 0.0
    propagate: bool = False
    incapable: bool = False
    busy: bool = False


def classify(failure: Failed, *, cost_s: float, hold_s: float, hold_longest_s: float) -> Verdict:
    """Says what a failed attempt means.

    Args:
        failure: How the attempt ended.
        cost_s: How long the attempt took.
        hold_s: How long an upstream is left alone at least after it failed.
        hold_longest_s: The longest hold that a costly failure earns.
    """
    hold = min(max(hold_s, COST_FACTOR * cost_s), max(hold_s, hold_longest_s))
    if failure.kind is Kind.STATUS:
        return _by_status(failure, hold)
    if failure.kind is Kind.IN_BAND and failure.code in RUNG_LIMITS:
        return Verdict(RUNG_LIMITS[failure.code], incapable=True)
    if failure.kind in (Kind.EMPTY, Kind.INVALID):
        return Verdict(failure.detail)
    return Verdict(failure.detail, hold)


def is_too_long(failure: Failed) -> bool:
    """Says whether the request was longer than the context of the one that was asked."""
    said = failure.kind is Kind.IN_BAND or (failure.kind is Kind.STATUS and failure.status in REQUEST_FAULTS)
    return said and failure.code == TOO_LONG_CODE


def _by_status(failure: Failed, hold: float) -> Verdict:
    status = failure.status
    if failure.code in RUNG_LIMITS and status in REQUEST_FAULTS:
        return Verdict(RUNG_LIMITS[failure.code], incapable=True)
    if status in REQUEST_FAULTS:
        return Verdict(f"it refused the request ({status})", propagate=True)
    if status in CREDENTIAL:
        return Verdict(f"{CREDENTIAL[status]} ({status})", hold)
    if status in GONE:
        return Verdict(f"{GONE[status]} ({status})", hold)
    if status == 429 or failure.retry_after_s is not None:
        return Verdict(f"it is throttled ({status})", _throttle(failure.retry_after_s, hold), busy=status == 429)
    if 300 <= status < 400:
        return Verdict(f"it redirects ({status}), and redirects are not followed", hold)
    return Verdict(f"it answered {status}", hold)


def _throttle(retry_after_s: float | None, hold: float) -> float:
    return hold if retry_after_s is None else min(max(retry_after_s, hold), RETRY_AFTER_MAX_S)

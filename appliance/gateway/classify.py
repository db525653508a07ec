"""What an outcome means: one table from status, headers, body, timing and stream events to a `Verdict`.

Pure: the table is data. It is complete: whatever an attempt ends with has a meaning. Provider text never becomes a
reason (it can echo keys). Rules:

1. Silence is never asked again: a silent upstream stays silent, and each wait costs the caller the whole limit.
2. Only what cost nothing and may pass in a moment is asked again at once: a refused or reset connection, and a 5xx.
3. A Retry-After is the upstream's own word for "I am well, leave me alone": it says nothing about its health.
4. A dead key or a retired model is a fact about us or the model; the next upstream is asked, and a person is told.
5. What the request itself is refused for goes to the caller: no other upstream would think better of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from appliance.gateway.outcome import Failed, Kind, Meaning, Verdict

# How long a rung is let be before it is asked once more, in seconds: at least, at most; between them by chance.
CONNECTION, SERVER = "connection", "server"
PAUSES_S: Mapping[str, tuple[float, float]] = {CONNECTION: (0.05, 0.15), SERVER: (0.2, 0.5)}

TOO_LONG_CODE = "context_length_exceeded"
# OpenAI error codes of a 400 that are a limit of this rung and not a fault of the request.
RUNG_LIMITS = {
    TOO_LONG_CODE: "the request is longer than its context",
    "unsupported_option": "it does not support an option of this request",
    "invalid_schema": "it cannot follow the JSON schema of this request",
}
CREDENTIAL = {
    401: "it does not accept our key",
    402: "its account is unpaid",
    403: "it denies us access",
    451: "it denies us access",
}
# OpenAI answers 429 also where the account is empty: no waiting helps.
UNPAID = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
GONE = {404: "it does not serve this model", 405: "it does not serve this model", 410: "its model is retired"}
REQUEST_FAULTS = frozenset({400, 413, 422})
# A content filter's word is about the request, whatever status carries it; another provider is not asked to differ.
FILTERED = frozenset({"content_filter", "content_policy_violation"})
# What an error inside a 200 answer says by its code; any other code is a failure.
IN_BAND: Mapping[str, tuple[Meaning, str]] = {
    "rate_limit_exceeded": (Meaning.THROTTLED, "it is throttled"),
    "429": (Meaning.THROTTLED, "it is throttled"),
    "invalid_api_key": (Meaning.CREDENTIAL, CREDENTIAL[401]),
    **dict.fromkeys(UNPAID, (Meaning.CREDENTIAL, CREDENTIAL[402])),
    "model_not_found": (Meaning.RETIRED, GONE[404]),
}
# Not implemented, a version of HTTP that it does not speak, and a box that this request has passed already: the same a
# moment later.
LASTING = frozenset({501, 505, 508})

_SOFT = frozenset({Kind.EMPTY, Kind.INVALID})
_TIMED = frozenset({Kind.UNREACHED, Kind.SILENT, Kind.STALLED})


def classify(failure: Failed) -> Verdict:
    """Says what a failed attempt means."""
    if failure.code in RUNG_LIMITS and (failure.kind is Kind.IN_BAND or failure.status in REQUEST_FAULTS):
        return Verdict(Meaning.INCAPABLE, RUNG_LIMITS[failure.code])
    if failure.code in FILTERED:
        return Verdict(Meaning.CALLER, "it refused the content of the request")
    if failure.kind is Kind.STATUS:
        return _by_status(failure)
    if failure.kind is Kind.IN_BAND and failure.code in IN_BAND:
        return Verdict(*IN_BAND[failure.code])
    if failure.kind is Kind.CLIENT_GONE:
        return Verdict(Meaning.NEUTRAL, failure.detail)
    meaning = Meaning.SOFT if failure.kind in _SOFT else Meaning.FAILURE
    again = CONNECTION if failure.kind is Kind.CONNECT else ""
    return Verdict(meaning, failure.detail, again=again, timed=failure.kind in _TIMED)


def is_too_long(failure: Failed) -> bool:
    """Says whether the request was longer than the context of the one that was asked."""
    said = failure.kind is Kind.IN_BAND or (failure.kind is Kind.STATUS and failure.status in REQUEST_FAULTS)
    return said and failure.code == TOO_LONG_CODE


def _by_status(failure: Failed) -> Verdict:
    status = failure.status
    if status in REQUEST_FAULTS:
        return Verdict(Meaning.CALLER, f"it refused the request ({status})")
    if failure.code in UNPAID:
        return Verdict(Meaning.CREDENTIAL, f"{CREDENTIAL[402]} ({status})")
    if status in CREDENTIAL:
        return Verdict(Meaning.CREDENTIAL, f"{CREDENTIAL[status]} ({status})")
    if status in GONE:
        return Verdict(Meaning.RETIRED, f"{GONE[status]} ({status})")
    if status == 429 or (status >= 500 and failure.retry_after_s is not None):
        return Verdict(
            Meaning.THROTTLED, f"it is throttled ({status})", wait_s=failure.retry_after_s, busy=status == 429
        )
    if 300 <= status < 400:
        return Verdict(Meaning.FAILURE, f"it redirects ({status}), and redirects are not followed")
    passing = 500 <= status < 600 and status not in LASTING
    return Verdict(Meaning.FAILURE, f"it answered {status}", again=SERVER if passing else "")

"""How long an upstream wants to be left alone, in every form that providers say it in. Pure.

Forms, the exact ones first: `retry-after-ms` and `x-ms-retry-after-ms` (Azure), `Retry-After` in seconds or as a date
(RFC 9110, 10.2.3), and `retryDelay` in a Google error body (google.rpc.RetryInfo).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

RETRY_AFTER_MAX_S = 600.0
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_DELAY = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)s")
_ERRORS_MAX = 8


def retry_after_s(headers: Mapping[str, str], body: bytes, now: datetime) -> float | None:
    """Returns what an upstream asked for, from 0 to RETRY_AFTER_MAX_S seconds, or None where it asked for nothing.

    Args:
        headers: Of the response; looked up by lower-case names and as they are written usually.
        body: Of the response.
        now: For a date where the response has no Date of its own; its own is better, as our clock may be off.
    """
    found = next(_asked(headers, body, now), None)
    return None if found is None else min(max(found, 0.0), RETRY_AFTER_MAX_S)


def _asked(headers: Mapping[str, str], body: bytes, now: datetime) -> Iterator[float]:
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        if _NUMBER.fullmatch(lower.get(name, "")):
            yield float(lower[name]) / 1000
    text = lower.get("retry-after", "")
    if _NUMBER.fullmatch(text):
        yield float(text)
    elif (until := _date(text)) is not None:
        yield (until - (_date(lower.get("date", "")) or now)).total_seconds()
    yield from _delays(body)


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):  # what the standard library raises for what is no date
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _delays(body: bytes) -> Iterator[float]:
    if b"retryDelay" not in body:
        return
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    for error in (value if isinstance(value, list) else [value])[:_ERRORS_MAX]:  # Google's OpenAI surface sends a list
        for detail in _details(error):
            text = detail.get("retryDelay") if isinstance(detail, dict) else None
            found = _DELAY.fullmatch(text) if isinstance(text, str) else None
            if found is not None and math.isfinite(float(found[1])):
                yield float(found[1])


def _details(error: Any) -> list[Any]:
    inner = error.get("error") if isinstance(error, dict) else None
    details = inner.get("details") if isinstance(inner, dict) else None
    return details if isinstance(details, list) else []

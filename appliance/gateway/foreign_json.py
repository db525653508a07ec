"""JSON that somebody else wrote: a value, or None for whatever is none. Pure."""

from __future__ import annotations

from typing import Any

import msgspec


def object_of(data: bytes) -> dict[str, Any] | None:
    """Returns the JSON object that `data` holds, None where it is something else or nothing readable."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # the last: nested too deep
        return None
    return value if isinstance(value, dict) else None

"""Another box as an upstream: what it says of itself stays its own, and no request goes in a circle. Pure.

A request carries the ids of the boxes that it has passed. Ids are random and new with each start.
"""

from __future__ import annotations

import re
from typing import Any

VIA, NAME = "X-Lifeboat-Via", "lifeboat"
BOXES_MOST = 4
_ID = re.compile(r"[0-9a-f]{16}")
_FIELDS = ("mode", "rung", "served_by")
_CHARS = 100


def passed(via: str) -> tuple[str, ...]:
    """Returns the ids in a header; what is none is left out."""
    return tuple(part for part in map(str.strip, via[:1_000].split(",")) if _ID.fullmatch(part))


def looped(via: str, own: str) -> bool:
    """Says whether a request has been here before, or has passed more boxes than anybody chains on purpose."""
    ids = passed(via)
    return own in ids or len(ids) >= BOXES_MOST


def taken(value: dict[str, Any]) -> dict[str, str]:
    """Takes the `lifeboat` object out of an upstream's answer; returns what of it is told on, as the upstream's."""
    said = value.pop(NAME, None)
    fields = said if isinstance(said, dict) else {}
    return {name: text[:_CHARS] for name in _FIELDS if isinstance(text := fields.get(name), str)}

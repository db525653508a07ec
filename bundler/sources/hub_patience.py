"""How long a hub is waited for: which failures may pass, how often they are tried, and when it is enough. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

from bundler.format.limits import KIB, MIB

MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504})


class Unsteady(Exception):
    """A try failed in a way that may pass.

    Args:
        fact: What happened.
        asked_s: How long the server asks to wait, or None.
    """

    def __init__(self, fact: str, asked_s: float | None = None) -> None:
        super().__init__(fact)
        self.fact, self.asked_s = fact, asked_s


@dataclass(frozen=True)
class Patience:
    """The limits of waiting.

    Attributes:
        tries: How many failures in a row end the work; one that brought PROGRESS_BYTES begins the count anew.
        first_s: Wait after the first failure; it doubles each time.
        most_s: The longest wait of our own.
        asked_most_s: The longest wait that a server may ask for.
        connect_s: For a connection to come about.
        silence_s: How long a connection may say nothing.
        slow_s: A span in which at least `slow_bytes` of a file must come.
    """

    tries: int = 5
    first_s: float = 1.0
    most_s: float = 30.0
    asked_most_s: float = 300.0
    connect_s: float = 20.0
    silence_s: float = 30.0
    slow_s: float = 60.0
    slow_bytes: int = 64 * KIB

    def wait_s(self, failures: int, asked_s: float | None) -> float | None:
        """Returns how long to wait after so many failures in a row, or None where it is enough."""
        if failures >= self.tries or (asked_s is not None and asked_s > self.asked_most_s):
            return None
        return float(min(self.most_s, self.first_s * 2 ** (failures - 1))) if asked_s is None else asked_s


PATIENCE = Patience()
PROGRESS_BYTES = MIB


def asked_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Returns the seconds of a `Retry-After` (RFC 9110, 10.2.3: seconds or a date), or None where it has none."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        return max(0.0, (parsedate_to_datetime(text) - now).total_seconds())
    except (ValueError, TypeError):
        return None

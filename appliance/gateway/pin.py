"""A pin: for a while only the box's own rungs are asked, or of the providers only one. Pure.

A pin ends by itself. It is kept with how long it was made for, so that no jump of the clock makes it last longer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from bundler.format.errors import BadInput

LOCAL, AUTO = "local", "auto"
LONGEST_S = 7 * 86_400
_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION = re.compile(r"([1-9][0-9]{0,6})([smhd])")


@dataclass(frozen=True)
class Pin:
    """Only `target` (LOCAL, or an upstream's name) from `set_s` for `for_s`, in Unix seconds; AUTO pins nothing."""

    target: str = AUTO
    set_s: int = 0
    for_s: int = 0

    def left_s(self, unix_s: float) -> float:
        """Returns how long it holds on."""
        if self.target == AUTO:
            return 0.0
        return min(max(self.set_s + self.for_s - unix_s, 0.0), float(self.for_s))

    @property
    def until(self) -> str:
        """When it ends, in UTC."""
        return datetime.fromtimestamp(self.set_s + self.for_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    @property
    def words(self) -> str:
        """Tells it in a line, "" where nothing is pinned."""
        return "" if self.target == AUTO else f"{self.target} until {self.until}"

    def words_at(self, unix_s: float) -> str:
        """Tells it in a line, "" where it holds no more."""
        return self.words if self.left_s(unix_s) > 0 else ""

    def keeps_from(self, upstream: str) -> str:
        """Returns why an upstream is not asked while this holds, or ""."""
        if self.target in (AUTO, upstream):
            return ""
        return f"the box is pinned to {self.words}"


def seconds_of(text: str) -> int:
    """Reads a duration such as 90s, 30m, 2h or 1d.

    Raises:
        BadInput: It is none, or longer than a week.
    """
    found = _DURATION.fullmatch(text)
    seconds = int(found[1]) * _UNITS_S[found[2]] if found else 0
    if not 0 < seconds <= LONGEST_S:
        raise BadInput(f"{text!r} is no duration of at most 7 days", "such as 90s, 30m, 2h or 1d")
    return seconds

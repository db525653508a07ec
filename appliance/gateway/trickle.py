"""Whether an answer comes so slowly that nobody should wait for its end. Pure.

A stream that gives a character a second never stalls, and holds whoever waits for the whole of it for minutes. The
time is that of waiting for the upstream alone: a client that reads slowly makes no upstream slow.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from appliance.gateway.commit import DELTA_FIELDS

LEAST_CHARS_PER_S = 2.0
REASON = f"it gives less than {LEAST_CHARS_PER_S:.0f} characters a second"


class Trickle:
    """The content of the last seconds.

    Args:
        window_s: How many; 0 where no pace is too slow.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._recent: deque[tuple[float, int]] = deque()
        self._chars = 0

    def slow(self, waited_s: float, chars: int) -> bool:
        """Takes content that came after so long a wait in all; says whether it comes too slowly.

        Args:
            waited_s: Since the first content, waits for the upstream alone; never less than before.
            chars: How many characters came.
        """
        if self._window_s <= 0:
            return False
        self._recent.append((waited_s, chars))
        self._chars += chars
        while self._recent[0][0] < waited_s - self._window_s:
            self._chars -= self._recent.popleft()[1]
        return waited_s >= self._window_s and self._chars < LEAST_CHARS_PER_S * self._window_s


def chars_of(value: dict[str, Any]) -> int:
    """Returns how many characters of content a chunk holds, whatever content that is."""
    choices = value.get("choices")
    return sum(_chars(choice) for choice in choices) if isinstance(choices, list) else 0


def _chars(choice: Any) -> int:
    if not isinstance(choice, dict):
        return 0
    delta = choice.get("delta")
    # Some providers name the role in every chunk, which is no content.
    said = map(delta.get, DELTA_FIELDS) if isinstance(delta, dict) else (choice.get("text"),)
    return sum(len(item) if isinstance(item, str) else len(str(item)) for item in said if item)

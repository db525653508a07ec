"""Decides which texts are embedded together. Pure: no clock, no threads, no model.

A batch is led by the request that has had least (fair queueing: Demers, Keshav and Shenker 1989, with a request as a
flow and a token as a bit), so a question does not wait behind thousands of texts of another request. It is filled with
texts of about the leader's length, of whichever request: padding is computed and thrown away. Nothing waits to be
filled.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

# A text joins a batch if it is at least so long, as a share of the longest.
_FILL = 0.8


@dataclass
class _Request:
    """Rows by length, the next one last, and how many tokens the request has had, as fair queueing counts them."""

    rows: dict[int, list[int]] = field(default_factory=dict)
    left_tokens: int = 0
    had: float = 0.0


class Batcher:
    """The texts that wait.

    Args:
        batch_tokens: Padded tokens of a batch at most; a longer text makes a batch of its own.
        most_tokens: Above so many waiting tokens, only requests that fit a batch are taken.
        most_requests: More are never taken.
    """

    def __init__(self, batch_tokens: int, most_tokens: int, most_requests: int) -> None:
        self._batch_tokens, self._most_tokens, self._most_requests = batch_tokens, most_tokens, most_requests
        self._waiting: dict[Hashable, _Request] = {}
        self._served = 0.0

    @property
    def waiting_tokens(self) -> int:
        return sum(request.left_tokens for request in self._waiting.values())

    @property
    def waiting_requests(self) -> int:
        return len(self._waiting)

    def has_room(self, lengths: Sequence[int]) -> bool:
        """Tells whether a request of texts of these lengths may be added."""
        if len(self._waiting) >= self._most_requests:
            return False
        total = sum(lengths)
        return total <= self._batch_tokens or self.waiting_tokens + total <= self._most_tokens

    def add(self, key: Hashable, lengths: Sequence[int]) -> None:
        """Adds a request; `lengths` are the tokens of its texts, each at least 1."""
        request = _Request(left_tokens=sum(lengths), had=self._served)
        for row in reversed(range(len(lengths))):
            request.rows.setdefault(lengths[row], []).append(row)
        if request.rows:
            self._waiting[key] = request

    def drop(self, key: Hashable) -> None:
        """Forgets what is left of a request, if anything."""
        self._waiting.pop(key, None)

    def take(self) -> list[tuple[Hashable, int]]:
        """Returns the next batch as (request, row), the longest text first; empty if nothing waits."""
        if not self._waiting:
            return []
        order = sorted(self._waiting.items(), key=lambda item: (item[1].had, item[1].left_tokens))
        longest = max(order[0][1].rows)
        room, batch = max(1, self._batch_tokens // longest), list[tuple[Hashable, int]]()
        for key, request in order:
            taken = _taken(request, longest, room - len(batch))
            batch += [(key, row) for row in taken]
            request.had += longest * len(taken)
        self._served += longest * len(batch) / len(order)
        self._waiting = {key: request for key, request in self._waiting.items() if request.rows}
        return batch


def _taken(request: _Request, longest: int, room: int) -> list[int]:
    """Takes up to `room` rows that are not longer than `longest`, and not much shorter, out of a request."""
    rows: list[int] = []
    fitting = sorted((length for length in request.rows if _FILL * longest <= length <= longest), reverse=True)
    for length in fitting:
        stack = request.rows[length]
        part = stack[len(stack) - min(room - len(rows), len(stack)) :]
        del stack[len(stack) - len(part) :]
        if not stack:
            del request.rows[length]
        request.left_tokens -= length * len(part)
        rows += reversed(part)
    return rows

"""Guesses which pieces of a model a loader asks for next.

Rules:
1. Chunks are cut at tensors and else have full length: so pieces of full length and the shorter one behind them are a
   run, and within a run the next piece follows.
2. llama.cpp takes runs in an order of its own, the same in each layer: after the same two jumps comes the jump that
   came last time.
3. A guess costs time and no more: what is asked for is read whatever was guessed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

_Jumps = tuple[int, int]


class Foresight:
    """What was asked for so far, and what follows from it.

    Args:
        bounds: Where pieces begin and end, in bytes.
        full_bytes: Length of a piece behind which its run goes on.
    """

    def __init__(self, bounds: Sequence[int], full_bytes: int) -> None:
        short = [number + 1 for number, (a, b) in enumerate(pairwise(bounds)) if b - a < full_bytes]
        self._pieces = len(bounds) - 1
        self._runs = sorted({0, *short} - {self._pieces})  # the first piece of each
        self._asked = -1
        self._given: set[int] = set()
        self._jumps: _Jumps = (0, 0)
        self._known: dict[_Jumps, int] = {}

    def note(self, number: int) -> None:
        """Takes note that a piece is asked for."""
        if number != self._asked + 1 or self._run(number) != self._run(self._asked):
            jump = self._run(number) - self._run(self._asked)
            self._known[self._jumps] = jump
            self._jumps = (self._jumps[1], jump)
        self._asked = number
        self._given.add(number)

    def next(self, count: int) -> list[int]:
        """Returns up to so many pieces that are to be expected, none of which was asked for before."""
        found: list[int] = []
        number, jumps = self._asked, self._jumps
        while len(found) < count and (place := self._after(number, jumps)) is not None:
            number, jumps = place
            if number in self._given or number in found:
                break
            found.append(number)
        return found

    def _after(self, number: int, jumps: _Jumps) -> tuple[int, _Jumps] | None:
        run = self._run(number)
        if number + 1 < self._pieces and self._run(number + 1) == run:
            return number + 1, jumps
        jump = self._known.get(jumps)
        if jump is None or not 0 <= run + jump < len(self._runs):
            return None
        return self._runs[run + jump], (jumps[1], jump)

    def _run(self, number: int) -> int:
        return bisect_right(self._runs, number) - 1

"""What passes: how often a fault of the network may come before it counts, and the pauses between."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from bundler.format.errors import SourceFailed

T = TypeVar("T")


class Passing(Exception):
    """A fault that may pass: a connection that broke, a registry that is busy."""

    def __init__(self, fact: str, after_s: float = 0.0) -> None:
        super().__init__(fact)
        self.after_s = after_s


@dataclass(frozen=True)
class Patience:
    """How often a fault may come before it counts, and the pauses between: `first_s`, doubled, at most `most_s`.

    `told` hears of every fault that is waited out.
    """

    tries: int = 6
    first_s: float = 1.0
    most_s: float = 30.0
    sleep: Callable[[float], None] = time.sleep
    told: Callable[[str], None] = lambda _: None

    def wait(self, failures: int, fault: Passing) -> None:
        """Waits before the next try; raises SourceFailed where there is none."""
        if failures >= self.tries:
            raise SourceFailed(
                f"the registry failed {failures} times: {fault}",
                "run the same command again later: it goes on where it was",
            ) from fault
        # A registry may ask for more time than it gets: nobody waits an hour on its word.
        pause_s = min(self.most_s, max(fault.after_s, self.first_s * 2 ** (failures - 1)))
        self.told(f"the registry failed: {fault}; again in {pause_s:.0f} s")
        self.sleep(pause_s)

    def keep(self, act: Callable[[], T]) -> T:
        """Returns what `act` returns, however often it failed in passing before."""
        failures = 0
        while True:
            try:
                return act()
            except Passing as fault:
                failures += 1
                self.wait(failures, fault)

"""How long a hub is waited for, and how slow it may be."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from bundler.format.limits import KIB, MIB
from bundler.patience import Patience
from bundler.silence import ANSWER_S, Silence

MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504})
PROGRESS_BYTES = MIB


@dataclass(frozen=True)
class HubPatience(Patience):
    """The limits of waiting for a hub; a try that brought PROGRESS_BYTES begins the count of failures anew.

    Attributes:
        connect_s: For a connection to come about, its name and all its addresses.
        silence_s: How long a connection may say nothing.
        whole_s: How long an answer that is no file may take, and each piece of a file.
        slow_s: A span in which at least `slow_bytes` of a file must come.
        ended: Waits for an event, so many seconds at most; whether it came.
    """

    tries: int = 5
    connect_s: float = 20.0
    silence_s: float = 30.0
    whole_s: float = 120.0
    slow_s: float = 60.0
    slow_bytes: int = 64 * KIB
    ended: Callable[[threading.Event, float], bool] = threading.Event.wait

    def silence(self, host: str, after_s: float = ANSWER_S) -> Silence:
        """Returns what tells that a host says nothing, in the length of a block."""
        given = f"{self.connect_s:.0f} s to connect and {self.silence_s:.0f} s to answer, {self.tries} times in a row"
        return Silence(host, given, self.told, after_s, self.ended)


PATIENCE = HubPatience()

"""How long a hub is waited for, and how slow it may be."""

from __future__ import annotations

from dataclasses import dataclass

from bundler.format.limits import KIB, MIB
from bundler.patience import Patience

MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504})
PROGRESS_BYTES = MIB


@dataclass(frozen=True)
class HubPatience(Patience):
    """The limits of waiting for a hub; a try that brought PROGRESS_BYTES begins the count of failures anew.

    Attributes:
        connect_s: For a connection to come about.
        silence_s: How long a connection may say nothing.
        slow_s: A span in which at least `slow_bytes` of a file must come.
    """

    tries: int = 5
    connect_s: float = 20.0
    silence_s: float = 30.0
    slow_s: float = 60.0
    slow_bytes: int = 64 * KIB


PATIENCE = HubPatience()

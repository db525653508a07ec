"""What the journal keeps of a piece of work, and what a restart makes of work that was begun. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

# Kinds of work: a ticket of the last rung, and a request that nobody waits for.
HANDOFF, JOB = "handoff", "job"
WAITING, BEGUN, DONE, FAILED = STATES = ("waiting", "begun", "done", "failed")


@dataclass(frozen=True)
class Bounds:
    """How much the journal takes.

    Attributes:
        entries: Pieces of work that wait.
        payload_bytes: Of all that wait together.
        one_bytes: Of one of them.
        ended: Outcomes that are kept; the oldest go first.
        file_bytes: Of the file, whatever it holds.
        tenant_entries: Pieces of work of one tenant.
        outcomes_count: Whether work that has ended takes room like what waits, until it is forgotten.
    """

    entries: int = 10_000
    payload_bytes: int = 64 * 2**20
    one_bytes: int = 2**20
    ended: int = 10_000
    file_bytes: int = 256 * 2**20
    tenant_entries: int = 10_000
    outcomes_count: bool = False


@dataclass(frozen=True)
class Entry:
    """A piece of accepted work, without what is in it.

    Attributes:
        id: Its name.
        kind: What kind of work, such as "handoff".
        tenant: Whose: the id of a token.
        state: One of STATES.
        made_s: When it was accepted, in Unix seconds.
        ended_s: When its outcome was known; 0 before.
        tries: How often it was begun.
        words: The outcome or the last failure in our own words, never a provider's.
    """

    id: str
    kind: str
    tenant: str
    state: str
    made_s: int
    ended_s: int
    tries: int
    words: str


@dataclass(frozen=True)
class Standing:
    """How many pieces of work of a kind wait, and since when the oldest does, in Unix seconds; 0 where none does."""

    waiting: int
    oldest_s: int
    words: str = ""

    def age_s(self, now_s: float) -> int:
        """Returns the age of the oldest; a clock that went back makes no negative age."""
        return max(0, int(now_s) - self.oldest_s) if self.waiting else 0


class Full(Enum):
    """Why the journal takes no more."""

    ENTRIES = "too many of them wait already"
    TENANT = "too many of this caller's are there already"
    BYTES = "what waits already takes all the room that there is for it"
    ONE = "it is too long to be kept"


def room(bounds: Bounds, *, entries: int, payload_bytes: int, new_bytes: int, tenant_entries: int = 0) -> Full | None:
    """Says why a new piece of work is refused, None where there is room.

    Args:
        bounds: How much is taken.
        entries: How many wait.
        payload_bytes: What they hold together.
        new_bytes: What the new one holds.
        tenant_entries: How many are of its tenant.
    """
    if new_bytes > bounds.one_bytes:
        return Full.ONE
    if tenant_entries >= bounds.tenant_entries:
        return Full.TENANT
    if entries >= bounds.entries:
        return Full.ENTRIES
    if payload_bytes + new_bytes > bounds.payload_bytes:
        return Full.BYTES
    return None


@dataclass(frozen=True)
class Restart:
    """What becomes of begun work when nobody works on it any more: done again, or given up."""

    again: tuple[str, ...]
    given_up: tuple[str, ...]


def restarted(entries: Sequence[Entry], tries_most: int) -> Restart:
    """Says what becomes of work that a killed process had begun.

    Args:
        entries: What the journal holds.
        tries_most: How often work may be begun: 2 is once more after a crash, so that work that itself brings the
            process down does not do so for ever; 0 is without a limit.
    """
    begun = [entry for entry in entries if entry.state == BEGUN]
    again = tuple(entry.id for entry in begun if not tries_most or entry.tries < tries_most)
    return Restart(again, tuple(entry.id for entry in begun if entry.id not in again))

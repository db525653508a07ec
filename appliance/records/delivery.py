"""When a ticket is tried, and what a failed try means. Pure: time, randomness and outcomes are arguments.

Rules: what is wrong with the destination (no connection, no answer, throttled, our credential) holds everything; what
is wrong with one ticket holds that one. The one that failed least goes first, so that a ticket that no receiver takes,
or on which the receiver dies, does not block others. Nothing is given up while it may still be kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

FIRST_S = 5.0
# A try at a dead destination costs a connection: often enough that a ticket leaves soon after the network is back.
DESTINATION_MOST_S = 60.0
TICKET_MOST_S = 900.0
RETRY_AFTER_MOST_S = 3_600.0
# A clock that jumps must not throw away what waits: age alone gives nothing up.
TRIES_LEAST = 10


@dataclass(frozen=True)
class Verdict:
    """What came of a try.

    Attributes:
        sent: The receiver has taken it.
        words: Ours, never the receiver's.
        destination: The destination failed, and not this ticket.
        retry_after_s: What the receiver asked for.
    """

    sent: bool
    words: str
    destination: bool = False
    retry_after_s: float | None = None


@dataclass(frozen=True)
class Hold:
    """How often something failed in a row, and until when it is left alone (monotonic seconds)."""

    failures: int = 0
    until_s: float = 0.0


@dataclass(frozen=True)
class Standings:
    """The holds of the destination and of each ticket that failed."""

    destination: Hold = Hold()
    tickets: Mapping[str, Hold] = ()  # type: ignore[assignment]  # an empty one, which nobody can change

    def of(self, ticket: str) -> Hold:
        return dict(self.tickets).get(ticket, Hold())


def pause_s(failures: int, most_s: float, draw: float, retry_after_s: float | None = None) -> float:
    """Returns how long something is left alone: exponential, half of it jitter, never less than was asked for.

    Args:
        failures: In a row, 1 at least.
        most_s: The longest.
        draw: From 0 to 1, random: boxes whose network returns at once do not come at once.
        retry_after_s: What the receiver asked for.
    """
    longest = min(most_s, FIRST_S * 2.0 ** min(failures - 1, 30))
    asked = min(retry_after_s or 0.0, RETRY_AFTER_MOST_S)
    return max(asked, longest * (0.5 + 0.5 * draw))


def judge_status(status: int, retry_after_s: float | None = None) -> Verdict:
    """Returns what the status of a webhook means."""
    if 200 <= status < 300:
        return Verdict(sent=True, words=f"taken ({status})")
    if status == 409:  # it has this idempotency key already
        return Verdict(sent=True, words="it was there already (409)")
    if status in (401, 403, 404, 407, 410):
        return Verdict(sent=False, words=f"the receiver does not let the box in ({status})", destination=True)
    if status in (408, 425, 429) or status in (502, 503, 504):
        return Verdict(
            sent=False, words=f"the receiver has no time ({status})", destination=True, retry_after_s=retry_after_s
        )
    if 300 <= status < 400:
        return Verdict(sent=False, words=f"the receiver redirects ({status}), which is not followed", destination=True)
    return Verdict(sent=False, words=f"the receiver refuses it ({status})", retry_after_s=retry_after_s)


def after(standings: Standings, ticket: str, verdict: Verdict, *, now_s: float, draw: float) -> Standings:
    """Returns the holds after a try."""
    others = {name: hold for name, hold in dict(standings.tickets).items() if name != ticket}
    if verdict.sent:
        return Standings(Hold(), others)
    failures = standings.of(ticket).failures + 1
    wait_s = pause_s(failures, TICKET_MOST_S, draw, verdict.retry_after_s if not verdict.destination else None)
    # A ticket on which the receiver dies looks like a dead receiver: it falls behind the others either way.
    until_s = now_s if verdict.destination else now_s + wait_s
    others[ticket] = Hold(failures, until_s)
    if not verdict.destination:
        return Standings(Hold(), others)
    ended = standings.destination.failures + 1
    pause = pause_s(ended, DESTINATION_MOST_S, draw, verdict.retry_after_s)
    return Standings(Hold(ended, now_s + pause), others)


def without(standings: Standings, gone: Iterable[str]) -> Standings:
    """Returns the holds without those of tickets that no longer wait."""
    left = set(gone)
    return replace(
        standings, tickets={name: hold for name, hold in dict(standings.tickets).items() if name not in left}
    )


def next_of(tickets: Iterable[str], standings: Standings, now_s: float) -> tuple[str | None, float | None]:
    """Returns the ticket to try now, or how long to wait for one; (None, None) where nothing waits.

    Args:
        tickets: Those that wait, oldest first.
        standings: The holds.
        now_s: Monotonic seconds.
    """
    waiting = list(tickets)
    if not waiting:
        return None, None
    if now_s < standings.destination.until_s:
        return None, standings.destination.until_s - now_s
    holds = {name: standings.of(name) for name in waiting}
    due = [name for name in waiting if holds[name].until_s <= now_s]
    if due:
        return min(due, key=lambda name: holds[name].failures), None
    return None, min(hold.until_s for hold in holds.values()) - now_s


def given_up(*, age_s: float, tries: int, keep_s: float) -> bool:
    """Says whether a ticket that nobody took is given up."""
    return age_s > keep_s and tries >= TRIES_LEAST

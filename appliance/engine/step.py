"""What the scheduler is told and what it says: limits, requests, rows of batches, operations, steps. Pure data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What the engine has.

    Attributes:
        sequences: How many there are, running and kept together.
        context_tokens: The longest prompt and answer together.
        batch_tokens: The largest batch.
        step_tokens: What the batches of one step hold together: so long the answers in progress wait at most.
        queued: How many requests may wait.
        rewinds: A sequence can forget its last tokens. Without it (recurrent models) no beginning is shared, but a
            sequence may go on.
    """

    sequences: int
    context_tokens: int
    batch_tokens: int
    step_tokens: int
    queued: int
    rewinds: bool = True


@dataclass(frozen=True)
class Job:
    """A request.

    Attributes:
        id: Names it.
        prompt: Its tokens.
        most_new: The longest answer, in tokens.
        arrived: When, in seconds of any clock.
        priority: Lower goes first.
        tenant: Whose it is.
        deadline: When it is of no use any more to begin, by the same clock.
        public: How many of the first tokens may be shared with other tenants.
        guesses: Its next tokens may be guessed: not where the same request must give the same bits again.
    """

    id: int
    prompt: tuple[int, ...]
    most_new: int
    arrived: float
    priority: int = 0
    tenant: str = ""
    deadline: float = float("inf")
    public: int = 0
    guesses: bool = False


@dataclass(frozen=True)
class Row:
    """One token of a batch; `wanted` where the logits after it are needed."""

    job: int
    sequence: int
    token: int
    position: int
    wanted: bool


@dataclass(frozen=True)
class Copy:
    """The first `tokens` of a sequence also become those of another, which was empty."""

    source: int
    target: int
    tokens: int


@dataclass(frozen=True)
class Trim:
    """A sequence forgets all but its first `tokens`."""

    sequence: int
    tokens: int


@dataclass(frozen=True)
class Step:
    """What to do: the operations in their order, then decode batch after batch. `expired` jobs were never admitted."""

    operations: tuple[Copy | Trim, ...]
    batches: tuple[tuple[Row, ...], ...]
    expired: tuple[int, ...]


class QueueFull(Exception):
    """As many requests wait as may."""

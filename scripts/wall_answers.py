"""How the wall answers one attempt: steps of bytes, waits and ends; whole answers and parts of them. Pure.

A wait ends early where the client leaves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from wall_wire import TEXT, WORDS, Wire, piece, stream_head, whole


class End(Enum):
    """How a connection ends that is not simply used again."""

    CLOSE = "closed"
    RESET = "reset"


Step = bytes | float | End  # to write; seconds to wait; how the connection ends


@dataclass(frozen=True)
class Timing:
    """How long the faults last, in seconds; the defaults are those of failoverbench's published profile.

    Args:
        retry_after_s: What a 429 asks for.
        first_token_s: When the first token of a slow answer comes.
        stall_s: How long a stalled stream stays open.
        silence_s: How long a silent provider holds a connection.
        down_s: How long a flapping provider is down after a reset of the wall.
        word_s: Between two words of an answer.
    """

    retry_after_s: float = 2.0
    first_token_s: float = 20.0
    stall_s: float = 30.0
    silence_s: float = 120.0
    down_s: float = 60.0
    word_s: float = 0.015


@dataclass(frozen=True)
class Attempt:
    """One request for an answer.

    Args:
        number: The how-manieth of this fault since the wall was reset, from 1.
        since_s: Seconds since the wall was reset.
        now_s: The clock of the wall, for a Retry-After that is a date.
        stream: Whether events are wanted.
        wire: How the answer is written.
        begun: The last message where it is the assistant's own, to be continued; else "".
        timing: How long things take.
    """

    number: int
    since_s: float
    now_s: float
    stream: bool
    wire: Wire
    begun: str
    timing: Timing

    @property
    def prefilled(self) -> bool:
        return bool(self.begun)

    @property
    def word_s(self) -> float:
        return self.timing.word_s


def ok(asked: Attempt) -> Iterator[Step]:
    """A healthy answer."""
    if not asked.stream:
        yield asked.word_s * len(WORDS)
        yield whole(200, asked.wire.body(TEXT))
        return
    yield from streamed(asked, [*asked.wire.words(WORDS), asked.wire.done()])


def streamed(asked: Attempt, events: list[bytes], line_end: bytes = b"\n") -> Iterator[Step]:
    yield stream_head()
    for data in events:
        yield piece(asked.wire.event(data, line_end))
        yield asked.word_s
    yield piece(b"")


def tail(asked: Attempt) -> Iterator[Step]:
    for data in (*asked.wire.end(), asked.wire.done()):
        yield piece(asked.wire.event(data))
    yield piece(b"")


def part(asked: Attempt, words: int) -> Iterator[Step]:
    """The first words of a stream, or half of a whole answer whose length says more."""
    if not asked.stream:
        data = whole(200, asked.wire.body(TEXT))
        yield data[: -len(asked.wire.body(TEXT)) // 2]
        return
    yield stream_head()
    for data in asked.wire.words(WORDS[:words], None):
        yield piece(asked.wire.event(data))
        yield asked.word_s


def dripped(data: bytes) -> Iterator[Step]:
    for at in range(len(data)):
        if at:
            yield 1.0
        yield data[at : at + 1]

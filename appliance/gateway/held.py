"""A stream that is held back until it has ended: until then every fault is a clean restart on another rung.

What is held is bounded, for one answer and for all together, in bytes and in time; beyond a bound the answer is handed
on as it stands, goes on as it comes, and says so.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import AsyncIterator

from appliance.gateway import trickle
from appliance.gateway.call import Chunk, Told
from appliance.gateway.foreign_json import object_of
from appliance.gateway.outcome import Failed, Kind
from appliance.gateway.relay import LiveStream
from appliance.gateway.trickle import Trickle, chars_of

ANSWER_BYTES_MAX = 2**20
ROOM_BYTES = 32 * 2**20
# What a chunk takes beside its bytes (CPython's object and the list's slot, rounded up).
_CHUNK_BYTES = 64


class Room:
    """The memory for answers that are held, of all requests together."""

    def __init__(self, size_bytes: int = ROOM_BYTES) -> None:
        self.left_bytes = size_bytes

    def take(self, size_bytes: int) -> None:
        self.left_bytes -= size_bytes

    def give(self, taken: list[int]) -> None:
        """Takes back what a holder took; `taken` is emptied, so that twice does no harm."""
        self.left_bytes += sum(taken)
        taken.clear()


class Held:
    """A stream of which the chunks so far are kept.

    Args:
        live: A stream that has committed.
        room: Where the memory is counted.
        told: Gets the reason where a bound was met.
        answer_bytes: The most for this answer.
        trickle_s: As in `pace.Limits`.
    """

    def __init__(
        self,
        live: LiveStream,
        room: Room,
        told: Told,
        answer_bytes: int = ANSWER_BYTES_MAX,
        *,
        trickle_s: float = 0.0,
    ) -> None:
        self._trickle = Trickle(trickle_s)
        self._live, self._room, self._told, self._answer_bytes = live, room, told, answer_bytes
        self._raws: list[bytes] = []
        self._rest: AsyncIterator[Chunk] | None = None
        self._size_bytes = 0
        # A reply that never begins closes nothing: then the memory is free when the object is.
        self._taken: list[int] = []
        weakref.finalize(self, room.give, self._taken)

    async def gather(self, until_s: float) -> bool:
        """Reads until the stream has ended, or a bound is met; says whether it has ended.

        Args:
            until_s: Monotonic time until which the answer is held.

        Raises:
            Failed: The stream broke, or trickles; nothing of it was handed out.
        """
        chunks = aiter(self._live)
        async for chunk in chunks:
            self._keep(chunk.raw)
            if self._trickle.slow(self._live.waited_s, chars_of(chunk.value)):
                raise Failed(Kind.STALLED, trickle.REASON)
            self._told.held = self._over(until_s)
            if self._told.held:
                self._rest = chunks
                return False
        return True

    @property
    def gap_s(self) -> float | None:
        """How long the upstream took for a piece of content on average."""
        return self._live.gap_s

    @property
    def waited_s(self) -> float:
        """How long the upstream was waited for since its first content."""
        return self._live.waited_s

    def values(self) -> list[Chunk]:
        """Returns the chunks so far."""
        return [Chunk(raw, object_of(raw) or {}) for raw in self._raws]

    def close(self) -> None:
        """Ends the upstream's connection and gives the memory back."""
        self._live.close()
        self._room.give(self._taken)

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        for raw in self._raws:
            yield Chunk(raw, object_of(raw) or {})
        if self._rest is not None:
            async for chunk in self._rest:
                yield chunk

    def _keep(self, raw: bytes) -> None:
        size_bytes = len(raw) + _CHUNK_BYTES
        self._raws.append(raw)
        self._taken.append(size_bytes)
        self._size_bytes += size_bytes
        self._room.take(size_bytes)

    def _over(self, until_s: float) -> str:
        if self._size_bytes > self._answer_bytes:
            return f"it was longer than {self._answer_bytes // 1024} KiB before its end"
        if self._room.left_bytes < 0:
            return "other answers that are held left no memory"
        return "it took too long" if time.monotonic() > until_s else ""

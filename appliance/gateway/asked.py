"""Asks one upstream for one call: once, or once more where that is cheap and likely to help; and tells how it went."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from appliance.gateway.call import Call, Chunk, ChunkStream
from appliance.gateway.classify import classify
from appliance.gateway.health import Asking
from appliance.gateway.outcome import Failed, Kind, Verdict

T = TypeVar("T")


async def asked(asking: Asking, call: Call, attempt: Callable[[], Awaitable[T]]) -> T:
    """Returns what `attempt` returns, at the latest from its third run; the failure of the last one is counted.

    Raises:
        Failed: How the last attempt ended.
    """
    while True:
        try:
            return await attempt()
        except Failed as failure:
            verdict = classify(failure)
            pause_s = asking.pause_s(verdict, call)
            if pause_s is None:
                asking.ended(verdict)
                raise
            await asyncio.sleep(pause_s)


class Counted:
    """A committed stream of an upstream that tells how it ended; the mean gap of its pieces is learned."""

    def __init__(self, inner: ChunkStream, asking: Asking) -> None:
        self._inner, self._asking = inner, asking
        self._pieces = 0
        self._began_s = self._last_s = 0.0

    def close(self) -> None:
        self._inner.close()
        self._asking.release()

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        self._began_s = time.monotonic()
        try:
            async for chunk in self._inner:
                self._pieces += 1
                self._last_s = time.monotonic()
                yield chunk
        except Failed as failure:
            self._asking.ended(classify(failure))
            raise
        gaps = self._pieces - 1
        self._asking.streamed((self._last_s - self._began_s) / gaps if gaps > 0 else None)


def rejected(asking: Asking, reason: str) -> Verdict:
    """Counts an answer that came and does not pass a check of ours; returns what that means."""
    verdict = classify(Failed(Kind.REJECTED, reason))
    asking.ended(verdict)
    return verdict

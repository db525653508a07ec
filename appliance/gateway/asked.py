"""Asks one upstream for one call, and tells how it went.

Once more after a fault and once after a short wait that it wanted, where that is cheap and likely to help.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from appliance.gateway import trickle
from appliance.gateway.call import Call, Chunk
from appliance.gateway.classify import classify
from appliance.gateway.health import Asking
from appliance.gateway.held import Held
from appliance.gateway.outcome import Failed, Kind
from appliance.gateway.relay import LiveStream
from appliance.gateway.trickle import Trickle, chars_of

T = TypeVar("T")


async def asked(asking: Asking, call: Call, attempt: Callable[[], Awaitable[T]]) -> T:
    """Returns what `attempt` returns, at the latest from its third run.

    Raises:
        Failed: How the last attempt ended; what it means is not told to `asking` yet.
    """
    while True:
        try:
            return await attempt()
        except Failed as failure:
            pause_s = asking.pause_s(classify(failure), call)
            if pause_s is None:
                raise
            await asyncio.sleep(pause_s)


class Counted:
    """A stream of an upstream that tells how it ended; the mean gap of its pieces is learned.

    Args:
        inner: The stream.
        asking: Whom it is told.
        trickle_s: As in `pace.Limits`: where another rung can go on, a stream that trickles is one that broke.
    """

    def __init__(self, inner: LiveStream | Held, asking: Asking, trickle_s: float = 0.0) -> None:
        self._inner, self._asking = inner, asking
        self._trickle = Trickle(trickle_s) if trickle_s else None

    def close(self) -> None:
        self._inner.close()
        self._asking.release()

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        try:
            async for chunk in self._inner:
                yield chunk
                if self._trickle is not None:
                    self._look(self._trickle, chunk)
        except Failed as failure:
            self._asking.ended(classify(failure))
            raise
        self._asking.streamed(self._inner.gap_s)

    def _look(self, pace: Trickle, chunk: Chunk) -> None:
        if pace.slow(self._inner.waited_s, chars_of(chunk.value)):
            raise Failed(Kind.STALLED, trickle.REASON)

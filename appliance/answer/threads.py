"""Runs the knowledge base and the encoder in threads, a bounded number at once, never on the event loop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from appliance.gateway.outcome import Passed
from bundler.format.errors import Busy

T = TypeVar("T")
NOT_ASKED = "the documents and FAQs cannot be asked"

log = logging.getLogger("lifeboat.knowledge")


class BoundedThreads:
    """Blocking calls, `threads` at once and `queue` waiting; one more is refused."""

    def __init__(self, threads: int, queue: int) -> None:
        self._threads, self._queue, self._pending = threads, queue, 0
        self._limiter: anyio.CapacityLimiter | None = None

    async def run(self, call: Callable[[], T]) -> T:
        """Runs `call` in a thread and returns what it returns.

        Raises:
            Busy: Too many calls wait already.
        """
        if self._pending >= self._threads + self._queue:
            raise Busy(f"{self._pending} requests are waiting", "try again in a moment")
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self._threads)
        self._pending += 1
        try:
            return await anyio.to_thread.run_sync(call, limiter=self._limiter)
        finally:
            self._pending -= 1

    async def asked(self, call: Callable[[], T]) -> T:
        """Runs a question to what the box knows.

        Raises:
            Passed: Too many calls wait already, or it fails.
        """
        try:
            return await self.run(call)
        except Busy as busy:
            raise Passed(busy.fact, busy=True) from busy
        except Exception as error:  # native libraries raise what they like, and other rungs can serve
            log.warning("what this box knows cannot be asked: %s", type(error).__name__)  # its words may quote a caller
            raise Passed(NOT_ASKED) from error

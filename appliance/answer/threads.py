"""Runs the knowledge base and the encoder in threads, a bounded number at once, never on the event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from appliance.gateway.outcome import Passed
from bundler.format.errors import Busy

T = TypeVar("T")
NOT_ASKED = "the documents and FAQs cannot be asked"

log = logging.getLogger("lifeboat.knowledge")


class _Left(Exception):
    """Whoever asked has left before the call began."""


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
        left = threading.Event()

        def unless_left() -> T:
            if left.is_set():
                raise _Left
            return call()

        # In a task of its own: a thread goes on when its caller is cancelled, and must count until it has ended.
        running = asyncio.ensure_future(anyio.to_thread.run_sync(unless_left, limiter=self._limiter))
        running.add_done_callback(self._over)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            left.set()
            raise

    def _over(self, running: asyncio.Future[Any]) -> None:
        self._pending -= 1
        if not running.cancelled():
            running.exception()  # nobody else asks for it where the caller has left

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

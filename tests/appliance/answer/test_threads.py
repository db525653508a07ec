"""The threads of what the box knows: a bounded number, whoever still waits for them."""

from __future__ import annotations

import asyncio
import threading

import pytest

from appliance.answer.threads import BoundedThreads
from bundler.format.errors import Busy


async def _served(pool: BoundedThreads) -> str:
    """Returns what a call gives once there is room."""
    while True:
        try:
            return await pool.run(lambda: "served")
        except Busy:
            await asyncio.sleep(0.01)


def test_a_thread_counts_until_it_ends_also_where_its_caller_has_left() -> None:
    """Who asks and hangs up, again and again, takes no more threads than who waits; what has not begun never does."""
    began: list[int] = []
    begun, release = threading.Event(), threading.Event()

    def work() -> None:
        began.append(1)
        begun.set()
        release.wait(30)

    async def run() -> None:
        pool = BoundedThreads(1, 1)
        for _ in range(2):
            asking = asyncio.create_task(pool.run(work))
            await asyncio.sleep(0)  # it has asked; the second waits behind the first
            assert await asyncio.to_thread(begun.wait, 30)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        with pytest.raises(Busy):
            await pool.run(work)
        release.set()
        assert await _served(pool) == "served"

    asyncio.run(run())
    assert began == [1]

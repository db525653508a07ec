"""The bounds of streams that are held: for one, for all together, and in time."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from appliance.gateway.call import Chunk, Told
from appliance.gateway.held import Held, Room

SIZE_BYTES = 100


class Live:
    """A stream of so many chunks."""

    def __init__(self, count: int) -> None:
        self.count, self.closed, self.gap_s, self.waited_s = count, False, None, 0.0

    def close(self) -> None:
        self.closed = True

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        for number in range(self.count):
            raw = (b'{"n": %d, "x": "' % number).ljust(SIZE_BYTES - 2, b"x") + b'"}'
            yield Chunk(raw, {"n": number})


async def _gathered(live: Any, room: Room, until_s: float, answer_bytes: int) -> tuple[bool, str, list[int]]:
    told = Told()
    held = Held(live, room, told, answer_bytes)
    ended = await held.gather(until_s)
    numbers = [chunk.value["n"] async for chunk in held]
    held.close()
    held.close()
    return ended, told.held, numbers


@pytest.mark.parametrize(
    ("room_bytes", "left_s", "answer_bytes", "why"),
    [
        (2**20, 60.0, 2**20, ""),
        (2**20, 60.0, 2**10, "it was longer than 1 KiB before its end"),
        (2**10, 60.0, 2**20, "other answers that are held left no memory"),
        (2**20, -1.0, 2**20, "it took too long"),
    ],
)
def test_beyond_a_bound_it_goes_on_live(room_bytes: int, left_s: float, answer_bytes: int, why: str) -> None:
    """No chunk is lost or doubled where it stops being held, the reason is told, and the memory comes back."""
    room = Room(room_bytes)
    live = Live(20)
    found = asyncio.run(_gathered(live, room, time.monotonic() + left_s, answer_bytes))
    assert found == (why == "", why, list(range(20)))
    assert room.left_bytes == room_bytes
    assert live.closed


def test_memory_comes_back_from_a_reply_that_never_began() -> None:
    """Nobody closed it: it is counted until the object is gone."""
    room = Room(2**20)

    async def leave() -> None:
        live: Any = Live(20)
        held = Held(live, room, Told())
        await held.gather(time.monotonic() + 60)
        assert room.left_bytes < 2**20

    asyncio.run(leave())
    gc.collect()
    assert room.left_bytes == 2**20

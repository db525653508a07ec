"""Requests whose preparation hangs are refused in time; they neither stop others nor stay unseen."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from appliance.engine.desk import PLACES, Desk
from appliance.engine.options import Refused


class Hanging:
    """Work that tells when it begins, and ends when it is let."""

    def __init__(self, release: threading.Event) -> None:
        self.begun, self._release = threading.Event(), release

    def __call__(self) -> None:
        self.begun.set()
        assert self._release.wait(60)


async def hang(desk: Desk, release: threading.Event) -> asyncio.Task[None]:
    """Returns a request whose preparation has begun, and hangs."""
    work = Hanging(release)
    task = asyncio.create_task(desk.prepare(work))
    assert await asyncio.to_thread(work.begun.wait, 60)
    return task


def with_desk(work: Callable[[Desk, asyncio.Event, threading.Event], Any], **options: float) -> Any:
    """Runs `work` with a desk, what it was told, and the event that lets hanging work end."""
    release = threading.Event()

    async def run() -> Any:
        told = asyncio.Event()
        desk = Desk(told.set, **{"limit_s": 0.05, "grace_s": 0.05, "places": 2, **options})  # type: ignore[arg-type]
        try:
            return await work(desk, told, release)
        finally:
            release.set()

    return asyncio.run(run())


def test_what_hangs_is_refused_and_the_next_goes_on() -> None:
    """A request beside the one that hangs is prepared; the hanging one gets 400, and is told of after its grace."""

    async def work(desk: Desk, told: asyncio.Event, release: threading.Event) -> None:
        hanging = await hang(desk, release)
        assert await desk.prepare(lambda: "ready") == "ready"
        assert not hanging.done()
        with pytest.raises(Refused, match="took longer") as caught:
            await hanging
        assert (caught.value.status, caught.value.code) == (400, "too_slow_to_prepare")
        await asyncio.wait_for(told.wait(), 60)
        assert desk.stuck

    with_desk(work, limit_s=2.0)


def test_no_place_left_is_told_at_once() -> None:
    """Where all places are held by what took too long, nobody waits for the grace: 503, and the desk is told of."""

    async def work(desk: Desk, told: asyncio.Event, release: threading.Event) -> None:
        hanging = [await hang(desk, release) for _ in range(PLACES)]
        waiting = [asyncio.create_task(desk.prepare(lambda: "never")) for _ in range(3)]
        await asyncio.wait_for(told.wait(), 60)
        for refused in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(refused, Refused)
            assert (refused.status, refused.code) == (503, "engine_ending")
        with pytest.raises(Refused, match="starts anew"):
            await desk.prepare(lambda: "never")
        codes = {getattr(error, "code", None) for error in await asyncio.gather(*hanging, return_exceptions=True)}
        assert (codes, desk.stuck, desk.busy) == ({"too_slow_to_prepare"}, True, True)

    with_desk(work, places=PLACES, limit_s=1.0, grace_s=3600.0)


def test_a_desk_tells_whether_it_is_at_work() -> None:
    """Also for a client that has left: the process must not wait for the thread."""

    async def work(desk: Desk, told: asyncio.Event, release: threading.Event) -> None:
        hanging = await hang(desk, release)
        hanging.cancel()
        await asyncio.wait({hanging})
        busy = [desk.busy]
        release.set()
        assert await desk.prepare(lambda: "next") == "next"
        assert [*busy, desk.busy] == [True, False]
        assert not told.is_set()

    with_desk(work, places=1, limit_s=3600.0)


def test_what_ends_within_its_grace_is_not_stuck() -> None:
    """Its place is free again: as many are prepared at once as ever."""

    async def work(desk: Desk, told: asyncio.Event, release: threading.Event) -> None:
        with pytest.raises(Refused):
            await desk.prepare(Hanging(release))
        release.set()
        together = threading.Barrier(2, timeout=60)
        await asyncio.gather(*(desk.prepare(together.wait) for _ in range(2)))
        assert not told.is_set()

    with_desk(work, limit_s=2.0, grace_s=3600.0)


def test_a_client_that_leaves_hides_nothing() -> None:
    """Work that hangs is told of although nobody waits for it any more."""

    async def work(desk: Desk, told: asyncio.Event, release: threading.Event) -> None:
        hanging = asyncio.create_task(desk.prepare(release.wait))
        await asyncio.sleep(0)
        hanging.cancel()
        await asyncio.wait_for(told.wait(), 60)

    with_desk(work)


def test_faults_of_the_work_are_its_own() -> None:
    """What it raises comes through, and its place is free again."""

    async def work(desk: Desk, told: asyncio.Event, release: threading.Event) -> None:
        def refuse() -> None:
            raise Refused("no", "invalid_request")

        for _ in range(3):
            with pytest.raises(Refused, match="no"):
                await desk.prepare(refuse)
        assert not told.is_set()

    with_desk(work, places=1, limit_s=60.0)

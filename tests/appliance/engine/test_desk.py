"""Requests whose preparation hangs are refused in time; they neither stop others nor stay unseen."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from appliance.engine.desk import Desk
from appliance.engine.options import Refused


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
        hanging = asyncio.create_task(desk.prepare(release.wait))
        assert await desk.prepare(lambda: "ready") == "ready"
        with pytest.raises(Refused, match="took longer") as caught:
            await hanging
        assert (caught.value.status, caught.value.code) == (400, "too_slow_to_prepare")
        await asyncio.wait_for(told.wait(), 60)
        assert desk.stuck

    with_desk(work)


def test_what_ends_within_its_grace_is_not_stuck() -> None:
    """Its place is free again for the next."""

    async def work(desk: Desk, told: asyncio.Event, release: threading.Event) -> None:
        with pytest.raises(Refused):
            await desk.prepare(release.wait)
        release.set()
        assert await desk.prepare(lambda: "next") == "next"
        assert not told.is_set()

    with_desk(work, grace_s=60.0, places=1)


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

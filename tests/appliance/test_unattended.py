"""Work that nobody awaits outlives its faults, and tells them without their words."""

from __future__ import annotations

import asyncio
import logging

import pytest

from appliance import unattended as module
from appliance.unattended import unattended


def test_it_goes_on_after_faults(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Each is in the log by type and place; an end is an end."""
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    faults: list[Exception] = [ValueError("planted"), KeyError("planted")]

    async def work() -> None:
        if faults:
            raise faults.pop()

    with caplog.at_level(logging.ERROR):
        asyncio.run(unattended(work, "the work"))
    assert [record.getMessage().splitlines()[0] for record in caplog.records] == [
        "the work was ended by a fault of this program: KeyError",
        "the work was ended by a fault of this program: ValueError",
    ]
    assert "in work" in caplog.text
    assert "planted" not in caplog.text


def test_a_stop_ends_it() -> None:
    """Also while it rests after a fault."""

    async def work() -> None:
        raise ValueError

    async def run() -> None:
        task = asyncio.create_task(unattended(work, "the work"))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())

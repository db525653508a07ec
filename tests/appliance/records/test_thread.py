"""The thread of a file of records: how much may wait for it, whoever still does."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType

import pytest

from appliance.records import thread
from appliance.records.journal import NotKept
from appliance.records.thread import RecordThread


class Records:
    """A file of nothing, on a disk that hangs until it is let go."""

    def __init__(self) -> None:
        self.disk = threading.Event()

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open."""

    def fail(self) -> None:
        self.disk.wait(30)
        raise NotKept("the disk is gone")


def test_calls_of_callers_who_left_still_count_while_the_disk_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is bounded by the calls, not by who waits for them; nor does their failure go to the log."""
    monkeypatch.setattr(thread, "CALLS_MAX", 2)
    told: list[dict[str, object]] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        records = Records()
        async with RecordThread(lambda: records, "records") as calls:
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(calls.run(Records.fail), 0.01)
            with pytest.raises(NotKept, match="too many"):
                await calls.run(Records.fail)
            records.disk.set()

    asyncio.run(run())
    assert told == []

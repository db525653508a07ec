"""An outbox ends when it is told to, also where something comes at that very moment."""

from __future__ import annotations

import asyncio
from pathlib import Path

from appliance.records.cipher import Cipher
from appliance.records.delivery import Verdict
from appliance.records.entry import HANDOFF
from appliance.records.journal import Journal
from appliance.records.outbox import Clocks, Outbox
from appliance.records.thread import JournalThread

CIPHER = Cipher(b"s" * 32, "journal")


async def _send(_: str, __: bytes) -> Verdict:
    return Verdict(sent=False, words="nobody is there", destination=True)


def test_an_outbox_that_is_woken_and_ended_at_once_ends(tmp_path: Path) -> None:
    """`asyncio.wait_for` of Python 3.11 would lose the cancellation, and the box would wait for its outbox for ever."""

    async def body() -> None:
        thread = JournalThread(lambda: Journal(tmp_path / "journal.db", CIPHER), tmp_path / "lock")
        async with asyncio.timeout(30), thread:
            for number in range(3):
                outbox = Outbox(thread, HANDOFF, _send, str, 60, Clocks(look_s=60))
                async with outbox:
                    await asyncio.sleep(0.2)  # it waits now
                    await outbox.queue("t", str(number), b"x")

    asyncio.run(body())

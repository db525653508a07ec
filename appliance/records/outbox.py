"""Takes tickets into the journal and hands them on when the network is there; one task, off the callers' way.

At least once: a box that dies between the receiver's word and its own note of it sends the same ticket again, under the
same name. Deciding is in `delivery`; which of two processes works is the journal's lock.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from appliance.records.delivery import Standings, Verdict, after, given_up, next_of, without
from appliance.records.entry import Entry, Standing
from appliance.records.journal import NotKept
from appliance.records.thread import JournalThread
from appliance.unattended import unattended
from bundler.format.errors import BadBundle

LOOK_S = 2.0  # how soon what another process accepted, or a free lock, is seen
HOUSEKEEPING_S = 3_600.0
NO_KEY = "it cannot be read: it was changed on this disk, or is of another box"

log = logging.getLogger("lifeboat.outbox")
Send = Callable[[str, bytes], Awaitable[Verdict]]


@dataclass(frozen=True)
class Clocks:
    """Where an outbox has its time and chance from: monotonic and Unix seconds, and draws from 0 to 1."""

    monotonic: Callable[[], float] = time.monotonic
    unix: Callable[[], float] = time.time
    draw: Callable[[], float] = random.random
    look_s: float = LOOK_S


class Outbox:
    """One kind of work of the journal that is sent somewhere; `async with` it inside the journal's thread.

    Args:
        journal: Where it is kept.
        kind: The kind of work.
        send: Sends what an entry of this name holds.
        new_id: Makes a name of random bits.
        keep_s: How long something that nobody takes is kept, and an outcome after.
        clocks: Time and chance.

    Attributes:
        standing: How much waits, as of the last look.
        sent: How many were taken since the start.
        journal_fault: Why the journal cannot be used, or "".
    """

    def __init__(
        self,
        journal: JournalThread,
        kind: str,
        send: Send,
        new_id: Callable[[int], str],
        keep_s: int,
        clocks: Clocks | None = None,
    ) -> None:
        self._journal, self._kind, self._send, self._keep_s = journal, kind, send, keep_s
        self._new_id, self._clocks = new_id, clocks or Clocks()
        self._standings = Standings()
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._cleaned_s: float | None = None
        self.standing, self.sent, self.journal_fault = Standing(0, 0), 0, ""

    async def __aenter__(self) -> Outbox:
        self._task = asyncio.create_task(unattended(self._work, "the sending of tickets"))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def queue(self, tenant: str, once: str, payload: bytes) -> str:
        """Keeps something to be sent; returns its name once it is on the disk.

        Raises:
            NotKept: It is not kept.
        """
        now_s = int(self._clocks.unix())
        name = await self._journal.run(
            lambda journal: journal.accept(
                self._kind, tenant, once, payload, new_id=lambda: self._new_id(secrets.randbits(50)), now_s=now_s
            )
        )
        self._woken.set()
        return name

    async def _work(self) -> None:
        """Works for ever; a fault of the disk is told and outlasted."""
        recovered = False
        while True:
            wait_s: float | None = None
            try:
                if await self._journal.works_here():
                    if not recovered:
                        await self._journal.run(lambda j: j.recover(self._kind, 0, int(self._clocks.unix())))
                        recovered = True
                    wait_s = await self._one()
                else:
                    wait_s = self._clocks.look_s
                self.standing = await self._journal.run(lambda journal: journal.standing(self._kind))
                self.journal_fault = ""
            except (NotKept, OSError) as error:
                self.journal_fault = error.fact if isinstance(error, NotKept) else "its lock cannot be taken"
                wait_s = self._clocks.look_s
            if wait_s is None or wait_s > 0:
                await self._pause(min(wait_s or self._clocks.look_s, self._clocks.look_s))

    async def _pause(self, limit_s: float) -> None:
        # Not `wait_for`: in Python 3.11 it loses a cancellation that comes together with what it waits for.
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._woken.wait()
        self._woken.clear()

    async def _one(self) -> float | None:
        """Tries one entry; returns how long to wait for the next, 0 for not at all, None where nothing waits."""
        await self._tidy()
        entries = {entry.id: entry for entry in await self._journal.run(lambda journal: journal.waiting(self._kind))}
        self._standings = without(self._standings, dict(self._standings.tickets).keys() - entries.keys())
        name, wait_s = next_of(entries, self._standings, self._clocks.monotonic())
        if name is None:
            return wait_s
        await self._try(entries[name])
        return 0.0

    async def _try(self, entry: Entry) -> None:
        try:
            payload = await self._journal.run(lambda journal: journal.payload(entry))
        except BadBundle:
            await self._end(entry, NO_KEY, done=False)
            return
        await self._journal.run(lambda journal: journal.begin(entry))
        verdict = await self._sent(entry.id, payload)
        now_s, draw = self._clocks.monotonic(), self._clocks.draw()
        self._standings = after(self._standings, entry.id, verdict, now_s=now_s, draw=draw)
        age_s = self._clocks.unix() - entry.made_s
        if verdict.sent:
            self.sent += 1
            await self._end(entry, verdict.words, done=True)
        elif given_up(age_s=age_s, tries=entry.tries + 1, keep_s=self._keep_s):
            await self._end(entry, f"nobody took it in time; last: {verdict.words}", done=False)
        else:
            await self._journal.run(lambda journal: journal.put_back(entry, verdict.words))

    async def _sent(self, name: str, payload: bytes) -> Verdict:
        try:
            return await self._send(name, payload)
        except Exception as error:  # noqa: BLE001 - a fault of ours with one of them must not keep the others here
            log.error("a fault of this program kept %s from being sent: %s", name, type(error).__name__)  # noqa: TRY400 - a traceback may quote what is in it
            return Verdict(sent=False, words="a fault of this program, which its log names")

    async def _end(self, entry: Entry, words: str, *, done: bool) -> None:
        now_s = int(self._clocks.unix())
        await self._journal.run(lambda journal: journal.end(entry, words, now_s=now_s, done=done))

    async def _tidy(self) -> None:
        now_s = self._clocks.monotonic()
        if self._cleaned_s is None or now_s >= self._cleaned_s + HOUSEKEEPING_S:
            before_s = int(self._clocks.unix()) - self._keep_s
            await self._journal.run(lambda journal: journal.forget(self._kind, before_s))
            self._cleaned_s = now_s

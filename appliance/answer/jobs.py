"""Jobs of a serving version: taken into a journal of their own, worked on after everybody who waits, and looked up.

Deciding is in `job`; which of two processes works is the lock of the journal.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from appliance.answer import job
from appliance.answer.job import Again, Asked, Job, Outcome
from appliance.gateway.call import Call
from appliance.records.delivery import DESTINATION_MOST_S, Hold, pause_s
from appliance.records.entry import JOB, Bounds, Entry, Standing
from appliance.records.journal import Journal, NotKept
from appliance.records.thread import JournalThread
from appliance.unattended import unattended
from bundler.format.errors import BadBundle

# A file of their own: what callers leave here must never take the room of a hand-off ticket.
BOUNDS = Bounds(entries=1_000, payload_bytes=64 * 2**20, one_bytes=16 * 2**20, tenant_entries=100, outcomes_count=True)
KEEP_MOST_S = 30 * 86_400
AT_ONCE = 2
LOOK_S = 2.0
HOUSEKEEPING_S = 600.0

Answer = Callable[[str, Asked], Awaitable[Outcome | Again]]
log = logging.getLogger("lifeboat.jobs")


class Reused(Exception):
    """The idempotency key was given with another request."""


@dataclass(frozen=True)
class Facts:
    """How the jobs stand: not answered, the age of the oldest, how many run and ended here, and what is wrong."""

    waiting: int
    oldest_s: int
    running: int
    ended: int
    trouble: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Jobs:
    """Takes jobs and works on them; `async with` it, and let it `work`.

    Args:
        journal: Where they are kept; opened and closed with this.
        clock: Unix seconds.
        look_s: How soon what another process accepted, or a free lock, is seen.
    """

    def __init__(self, journal: JournalThread, clock: Callable[[], float] = time.time, look_s: float = LOOK_S) -> None:
        self._journal, self._clock, self._look_s = journal, clock, look_s
        self._stack, self._woken = AsyncExitStack(), asyncio.Event()
        self._answer: Answer | None = None
        self._leaving: Callable[[], bool] = lambda: False
        self._work_task: asyncio.Task[None] | None = None
        self._running: dict[str, tuple[str, asyncio.Task[None]]] = {}
        self._holds: dict[str, Hold] = {}
        self._tidied_s: float | None = None
        self._standing, self._ended, self._trouble = Standing(0, 0), 0, ""

    async def __aenter__(self) -> Jobs:
        await self._stack.enter_async_context(self._journal)
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [task for _, task in self._running.values()]
        tasks += [self._work_task] if self._work_task is not None else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._stack.aclose()

    def work(self, answer: Answer, leaving: Callable[[], bool]) -> None:
        """Begins to work.

        Args:
            answer: Answers what a tenant asked.
            leaving: Says whether another version goes on with what is not begun.
        """
        self._answer, self._leaving = answer, leaving
        self._work_task = asyncio.create_task(unattended(self._work, "the work on jobs"))

    async def take(self, call: Call) -> tuple[Job, bool]:
        """Keeps a job; returns it once it is on the disk, and whether it is a new one.

        Raises:
            NotKept: It is not kept.
            Reused: Its key belongs to another request.
        """
        name, asked, now_s = f"job-{secrets.token_urlsafe(18)}", job.asked_of(call), self._clock()
        once, payload = job.once_of(call, name), job.encode(asked)

        def accept(journal: Journal) -> Entry:
            found = journal.accept(JOB, call.tenant, once, payload, new_id=lambda: name, now_s=int(now_s))
            entry = journal.entry(found)
            if entry is None:
                raise NotKept("it was removed at once")
            return entry

        entry = await self._journal.run(accept)
        if entry.id == name:
            self._woken.set()
            return Job(entry, int(now_s) + asked.keep_s, None), True
        known = await self.look(entry.id, call.tenant)
        if known is None:  # its time was over, and nobody had tidied yet
            await self._journal.run(lambda journal: journal.remove(entry))
            return await self.take(call)
        record = await self._record(entry)
        if record is not None and record.digest != asked.digest:
            raise Reused
        return known, False

    async def look(self, name: str, tenant: str) -> Job | None:
        """Returns a job, None where this tenant has none of that name; raises NotKept."""
        entry = await self._own(name, tenant)
        if entry is None:
            return None
        record = await self._record(entry)
        until_s = job.until_s(entry, record, KEEP_MOST_S)
        found = Job(entry, until_s, record if isinstance(record, Outcome) else None)
        return None if found.over and until_s <= self._clock() else found

    async def forget(self, name: str, tenant: str) -> bool:
        """Ends a job where it runs, and removes it; says whether this tenant had it; raises NotKept."""
        entry = await self._own(name, tenant)
        if entry is None:
            return False
        await self._journal.run(lambda journal: journal.remove(entry))
        if entry.id in self._running:
            self._running[entry.id][1].cancel()
        return True

    def facts(self) -> Facts:
        """Returns how the jobs stand, as of the last look."""
        return Facts(
            self._standing.waiting, self._standing.age_s(self._clock()), len(self._running), self._ended, self._trouble
        )

    async def _own(self, name: str, tenant: str) -> Entry | None:
        entry = await self._journal.run(lambda journal: journal.entry(name))
        return entry if entry is not None and (entry.kind, entry.tenant) == (JOB, tenant) else None

    async def _record(self, entry: Entry) -> Asked | Outcome | None:
        """Returns what is in a job; None where it holds nothing that can be read."""

        def read(journal: Journal) -> Asked | Outcome | None:
            return job.decode(entry, journal.payload(entry))

        with suppress(BadBundle, msgspec.DecodeError):
            return await self._journal.run(read)
        return None

    async def _work(self) -> None:
        """Works for ever; a fault of the disk is told and outlasted."""
        recovered = False
        while True:
            try:
                if await self._journal.works_here():
                    if not recovered:
                        await self._journal.run(lambda j: j.recover(JOB, job.BEGINS_MOST, int(self._clock())))
                        recovered = True
                    await self._begin_due()
                self._standing = await self._journal.run(lambda journal: journal.standing(JOB))
                self._trouble = ""
            except (NotKept, OSError) as error:
                self._trouble = error.fact if isinstance(error, NotKept) else "its lock cannot be taken"
            # Not `wait_for`: in Python 3.11 it loses a cancellation that comes together with what it waits for.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._look_s):
                    await self._woken.wait()
            self._woken.clear()

    async def _begin_due(self) -> None:
        await self._tidy()
        waiting = await self._journal.run(lambda journal: journal.waiting(JOB))
        names = {entry.id for entry in waiting}
        self._holds = {name: hold for name, hold in self._holds.items() if name in names}
        now_s = time.monotonic()
        due = [one for one in waiting if one.id not in self._running and self._hold(one).until_s <= now_s]
        while due and len(self._running) < AT_ONCE and not self._leaving():
            tenants = [tenant for tenant, _ in self._running.values()]
            entry = min(due, key=lambda one: tenants.count(one.tenant))
            due.remove(entry)
            await self._journal.run(lambda journal, entry=entry: journal.begin(entry))  # type: ignore[misc]  # a default binds it
            task = asyncio.create_task(self._one(entry))
            self._running[entry.id] = (entry.tenant, task)
            task.add_done_callback(lambda _, name=entry.id: self._over(name))  # type: ignore[misc]  # a default binds it

    def _hold(self, entry: Entry) -> Hold:
        return self._holds.get(entry.id, Hold())

    def _over(self, name: str) -> None:
        self._running.pop(name, None)
        self._woken.set()

    async def _one(self, entry: Entry) -> None:
        """Answers one job that is noted as begun."""
        try:
            found = await self._found(entry)
        except asyncio.CancelledError:
            with suppress(NotKept):  # a box that starts again finds it begun, which costs it a try
                await self._journal.run(lambda journal: journal.put_back(entry, "the box stopped", counts=False))
            raise
        if isinstance(found, Again):
            failures = self._hold(entry).failures + 1
            wait_s = pause_s(failures, DESTINATION_MOST_S, random.random())  # noqa: S311 - when, and nothing secret
            self._holds[entry.id] = Hold(failures, time.monotonic() + wait_s)
            await self._noted(lambda journal: journal.put_back(entry, found.words, counts=False))
            return
        now_s, words = int(self._clock()), "" if found is not None else job.UNREADABLE
        done = found is not None and found.status == 200
        data = job.encode(found) if found is not None else b""
        await self._noted(lambda journal: journal.end(entry, words, now_s=now_s, done=done, outcome=data))
        self._ended += 1

    async def _found(self, entry: Entry) -> Again | Outcome | None:
        """Returns what came of a job; None where it cannot be read."""
        try:
            asked = await self._record(entry)
        except NotKept:
            return Again("its file cannot be read now")
        if not isinstance(asked, Asked) or self._answer is None:
            return None
        if job.until_s(entry, asked, KEEP_MOST_S) <= self._clock():
            return job.given_up(job.TOO_LATE, asked)
        try:
            found = await self._answer(entry.tenant, asked)
        except Exception as error:  # noqa: BLE001 - a fault of ours with one of them must not keep the others here
            log.error("a fault of this program ended %s: %s", entry.id, type(error).__name__)  # noqa: TRY400 - a traceback may quote what is in it
            return job.given_up(job.OUR_FAULT, asked)
        if isinstance(found, Outcome) and len(job.encode(found)) > job.OUTCOME_BYTES:
            return job.given_up(job.TOO_LONG, asked)
        return found

    async def _noted(self, change: Callable[[Journal], None]) -> None:
        """Notes what became of a job, as soon as the disk takes it: until then it is begun, and told as that."""
        while True:
            try:
                await self._journal.run(change)
            except NotKept as error:
                self._trouble = error.fact
                await asyncio.sleep(self._look_s)
            else:
                return

    async def _tidy(self) -> None:
        """Removes outcomes whose time is over: how long they are kept is a promise."""
        now_s = time.monotonic()
        if self._tidied_s is not None and now_s < self._tidied_s + HOUSEKEEPING_S:
            return
        self._tidied_s = now_s
        for entry in await self._journal.run(lambda journal: journal.ended(JOB)):
            if job.until_s(entry, await self._record(entry), KEEP_MOST_S) <= self._clock():
                await self._journal.run(lambda journal, entry=entry: journal.remove(entry))  # type: ignore[misc]  # a default binds it

"""The journal's one thread, and the lock that says which process works: nothing of a disk waits on the event loop."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from appliance.records.journal import Journal, NotKept

T = TypeVar("T")
CALLS_MAX = 256


class JournalThread:
    """Calls of the journal, one after another in a thread of their own; `async with` it.

    A journal that cannot be opened is tried again at every call: a full disk is emptied, and a box serves meanwhile.

    Args:
        make: Makes the journal, unopened.
        lock: The file whose lock says who works.
    """

    def __init__(self, make: Callable[[], Journal], lock: Path) -> None:
        self._make, self._lock = make, lock
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._journal: Journal | None = None
        self._held: int | None = None
        self._pending = 0

    async def __aenter__(self) -> JournalThread:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor, self._close)
        self._executor.shutdown(wait=False)

    async def run(self, work: Callable[[Journal], T]) -> T:
        """Calls `work` with the journal.

        A caller that is cancelled leaves; what was begun is finished, so that a transaction is never torn.

        Raises:
            NotKept: Too many calls wait, or the journal cannot be used.
        """
        if self._pending >= CALLS_MAX:
            raise NotKept("too many requests wait for the disk")
        self._pending += 1
        try:
            return await asyncio.shield(
                asyncio.get_running_loop().run_in_executor(self._executor, lambda: work(self._opened()))
            )
        finally:
            self._pending -= 1

    async def works_here(self) -> bool:
        """Takes the lock where nobody has it; says whether this is the one that works."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._take_lock)

    def _opened(self) -> Journal:
        if self._journal is None:
            journal = self._make()
            journal.__enter__()
            self._journal = journal
        return self._journal

    def _take_lock(self) -> bool:
        if self._held is not None:
            return True
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._held = descriptor
        return True

    def _close(self) -> None:
        if self._journal is not None:
            self._journal.__exit__(None, None, None)
            self._journal = None
        if self._held is not None:
            os.close(self._held)
            self._held = None

"""One thread for each file of records, and the lock that says which process works: no disk waits on the event loop."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from appliance.records.journal import Journal, NotKept


class Records(Protocol):
    """A file of records, which is open inside its block."""

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


T = TypeVar("T")
R = TypeVar("R", bound=Records)
CALLS_MAX = 256


class RecordThread(Generic[R]):
    """Calls of one file of records, one after another in a thread of their own; `async with` it.

    A file that cannot be opened is tried again at every call: a full disk is emptied, and a box serves meanwhile.

    Args:
        make: Makes the records, unopened.
        name: Of the thread.
    """

    def __init__(self, make: Callable[[], R], name: str) -> None:
        self._make = make
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._records: R | None = None
        self._pending = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor, self._close)
        self._executor.shutdown(wait=False)

    async def run(self, work: Callable[[R], T]) -> T:
        """Calls `work` with the records.

        A caller that is cancelled leaves; what was begun is finished, so that a transaction is never torn.

        Raises:
            NotKept: Too many calls wait, or the file cannot be used.
        """
        self._begin()
        future = asyncio.get_running_loop().run_in_executor(self._executor, lambda: work(self._opened()))
        future.add_done_callback(self._over)
        return await asyncio.shield(future)

    def post(self, work: Callable[[R], object], over: Callable[[BaseException | None], None]) -> None:
        """Has `work` called with the records, and `over` with what it raised, on the event loop; nobody waits.

        Raises:
            NotKept: Too many calls wait.
        """
        self._begin()
        loop = asyncio.get_running_loop()

        def told(error: BaseException | None) -> None:
            self._pending -= 1
            over(error)

        def done(future: Future[object]) -> None:
            with suppress(RuntimeError):  # the loop has ended, and with it everybody who would hear
                loop.call_soon_threadsafe(told, future.exception())

        self._executor.submit(lambda: work(self._opened())).add_done_callback(done)

    def _begin(self) -> None:
        if self._pending >= CALLS_MAX:
            raise NotKept("too many requests wait for the disk")
        self._pending += 1

    def _over(self, future: asyncio.Future[Any]) -> None:
        # Not before: a call whose caller has left still waits for the disk, with all that it holds.
        self._pending -= 1
        if not future.cancelled():
            future.exception()  # nobody else asks for it where the caller has left

    def _opened(self) -> R:
        if self._records is None:
            records = self._make()
            records.__enter__()
            self._records = records
        return self._records

    def _close(self) -> None:
        if self._records is not None:
            self._records.__exit__(None, None, None)
            self._records = None


class JournalThread(RecordThread[Journal]):
    """The journal's thread, and the lock that says who works on what it holds.

    Args:
        make: Makes the journal, unopened.
        lock: The file of the lock.
    """

    def __init__(self, make: Callable[[], Journal], lock: Path) -> None:
        super().__init__(make, "journal")
        self._lock = lock
        self._held: int | None = None

    async def works_here(self) -> bool:
        """Takes the lock where nobody has it; says whether this is the one that works."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._take_lock)

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
        super()._close()
        if self._held is not None:
            os.close(self._held)
            self._held = None

"""A few transfers beside each other; the first that fails, or Ctrl-C, ends all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from threading import Event
from typing import TypeVar

STREAMS = 3  # enough to hide the pauses between small files; more would fight for one line
T = TypeVar("T")
OnBytes = Callable[[int], None]


class _Stopped(Exception):
    """Another transfer failed."""


def each(act: Callable[[T, OnBytes], int], items: Iterable[T], on_bytes: OnBytes) -> int:
    """Does `act` with every item and returns the sum of what it returns.

    Args:
        act: Is given an item and whom to tell of bytes, which it does often: there it ends where another failed.
        items: In the order in which they begin.
        on_bytes: Told of all.

    Raises:
        Whatever the first `act` that failed raised.
    """
    stop = Event()

    def tell(count: int) -> None:
        if stop.is_set():
            raise _Stopped
        on_bytes(count)

    with ThreadPoolExecutor(STREAMS, thread_name_prefix="transfer") as pool:
        try:
            futures = [pool.submit(act, item, tell) for item in items]
            wait(futures, return_when=FIRST_EXCEPTION)
            return sum(future.result() for future in sorted(futures, key=lambda f: not f.done()))
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise

"""The caller of one request, who may leave before its answer is there: what is done for its sake ends then.

ASGI tells by a message that somebody has to wait for, in a task beside the work. Here the connection itself cancels the
work when it is lost, so that a request needs no second task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
CALLER = "lifeboat.caller"  # where it stands in the scope of a request


class CallerLeft(Exception):
    """Nobody waits for the answer any more."""


class Caller:
    """One request's other end.

    Attributes:
        has_sent: Whether all of the request has come.
    """

    def __init__(self) -> None:
        self.has_sent = False
        self._left = False
        self._task: asyncio.Task[Any] | None = None

    def leave(self) -> None:
        """Says that its connection is lost."""
        self._left = True
        if self._task is not None:
            self._task.cancel()

    async def waits_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Returns what `work` returns; it is run in the task of the request.

        Raises:
            CallerLeft: The connection was lost before; the work was cancelled.
        """
        if self._left:
            work.close()
            raise CallerLeft
        task = self._task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a caller is waited for in a task")
        cancelled_before = task.cancelling()
        try:
            return await work
        except asyncio.CancelledError:
            # Both the connection and, as at a stop, somebody else may have cancelled it (as `asyncio.timeout` counts).
            if self._has_left() and task.uncancel() <= cancelled_before:
                raise CallerLeft from None
            raise
        finally:
            self._task = None

    def _has_left(self) -> bool:  # a call: it changes while the work is awaited
        return self._left


def caller_of(scope: Mapping[str, Any]) -> Caller:
    """Returns the caller of a request; under another server than ours it never leaves."""
    found = scope.get(CALLER)
    return found if isinstance(found, Caller) else Caller()

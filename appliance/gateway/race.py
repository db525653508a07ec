"""An attempt beside the rungs after it: nobody waits for the trial of a half-open upstream, nor for silence.

Whichever has an answer first serves. An attempt that lost goes on until its own outcome is known, and is told to
nobody. The rungs after it begin with a trial, and with any other attempt once that took long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from appliance.gateway.call import Answer
from appliance.gateway.outcome import Refused

# Words of regret are no answer: where nothing but them came, the trial gets this long.
REGRET_S = 2.0
# Attempts that lost and go on until their own end; beyond these the oldest is ended.
LEFT_MOST = 16
MESSAGE = "message"


class Race:
    """Attempts that go on after their request was served; `close` ends them."""

    def __init__(self) -> None:
        self._left: dict[asyncio.Task[Answer], None] = {}  # oldest first

    async def close(self) -> None:
        for task in self._left:
            task.cancel()
        await asyncio.gather(*self._left, return_exceptions=True)

    async def first(self, trial: Coroutine[Any, Any, Answer], rest: Coroutine[Any, Any, Answer]) -> tuple[Answer, bool]:
        """Returns the first answer, and whether it is the trial's.

        Raises:
            Refused: One of them was refused the request itself.
            Exception: What the trial ended with, where both failed.
        """
        return await self._first(asyncio.create_task(trial), asyncio.create_task(rest))

    async def late(
        self, attempt: Coroutine[Any, Any, Answer], wait_s: float, rest: Callable[[], Coroutine[Any, Any, Answer]]
    ) -> tuple[Answer, bool]:
        """Does the same with an attempt of which there is nothing after `wait_s`; before that it is alone."""
        trying = asyncio.create_task(attempt)
        try:
            await asyncio.wait({trying}, timeout=wait_s)
        except asyncio.CancelledError:
            await _ended(trying)
            raise
        if trying.done():
            return trying.result(), True
        return await self._first(trying, asyncio.create_task(rest()))

    async def _first(self, trying: asyncio.Task[Answer], climbing: asyncio.Task[Answer]) -> tuple[Answer, bool]:
        try:
            await asyncio.wait({trying, climbing}, return_when=asyncio.FIRST_COMPLETED)
            if not _answered(trying) and not _refused(trying, climbing):
                await self._without_trial(trying, climbing)
        except asyncio.CancelledError:
            await _ended(trying, climbing)
            raise
        if _answered(trying):
            try:
                await _ended(climbing)
            except asyncio.CancelledError:
                _close(trying)
                raise
            return trying.result(), True
        if _answered(climbing):
            self._leave(trying)
            return climbing.result(), False
        refused = _refused(climbing, trying)
        await _ended(trying, climbing)
        raise refused or trying.exception() or asyncio.CancelledError

    async def _without_trial(self, trying: asyncio.Task[Answer], climbing: asyncio.Task[Answer]) -> None:
        """Waits for the rest; where it has nothing better than regret, for the trial."""
        if trying.done():
            await asyncio.wait({climbing})
        elif not _answered(climbing):
            await asyncio.wait({trying})
        elif climbing.result().kind == MESSAGE:
            await asyncio.wait({trying}, timeout=REGRET_S)

    def _leave(self, trying: asyncio.Task[Answer]) -> None:
        self._left[trying] = None
        trying.add_done_callback(self._over)
        if len(self._left) > LEFT_MOST:  # each holds a connection and costs what it says
            next(iter(self._left)).cancel()

    def _over(self, trying: asyncio.Task[Answer]) -> None:
        self._left.pop(trying, None)
        _close(trying)


def _answered(task: asyncio.Task[Answer]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _refused(*tasks: asyncio.Task[Answer]) -> Refused | None:
    ended = (task.exception() for task in tasks if task.done() and not task.cancelled())
    return next((error for error in ended if isinstance(error, Refused)), None)


def _close(task: asyncio.Task[Answer]) -> None:
    """Lets go of an answer that nobody reads."""
    if _answered(task) and (chunks := task.result().chunks) is not None:
        chunks.close()


async def _ended(*tasks: asyncio.Task[Answer]) -> None:
    for task in tasks:
        task.add_done_callback(_close)  # also where whoever waits here is cancelled
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

"""Work beside the requests that goes on whatever happens: a fault of it is in the log, and it begins anew."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable

PAUSE_S, PAUSE_MOST_S = 1.0, 60.0

log = logging.getLogger("lifeboat")


async def unattended(work: Callable[[], Awaitable[None]], what: str) -> None:
    """Does `work` until it ends by itself or is cancelled, and once more after each fault, later each time.

    Args:
        work: What is done; it can be begun anew.
        what: Names it in the log.
    """
    pause_s = PAUSE_S
    while True:
        try:
            return await work()
        except Exception as error:  # noqa: BLE001 - nobody awaits it: what ended it would never be known
            note(log, f"{what} was ended", error)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, PAUSE_MOST_S)


class WithoutWords(logging.Filter):
    """Takes the words of exceptions out of what a library logs: they may quote a caller or a provider."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        while error is not None and error.__cause__ is not None:  # a framework wraps what it cannot answer any more
            error = error.__cause__
        if error is not None:
            record.msg, record.args = "%s%s\n%s", (record.getMessage(), type(error).__name__, _places(error))
            record.exc_info = record.exc_text = None
        return True


def note(logger: logging.Logger, what: str, error: BaseException) -> None:
    """Has the log say where this program failed; an exception's own words may quote a caller or a provider."""
    logger.error("%s by a fault of this program: %s\n%s", what, type(error).__name__, _places(error))


def _places(error: BaseException) -> str:
    return "".join(traceback.format_tb(error.__traceback__))

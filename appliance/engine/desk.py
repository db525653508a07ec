"""Where requests are prepared: a few threads of their own, and none for longer than a limit.

Templates, tokenizers and grammars are foreign code on foreign input. Who takes too long is refused; its thread cannot
be ended, so a place that is not cleared soon after is told of, and at once where no place is left: the process ends
once it has answered the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from appliance.engine.options import Refused

PLACES = 4
LIMIT_S, GRACE_S = 10.0, 50.0

T = TypeVar("T")


class Desk:
    """Prepares one model's requests; used from one event loop.

    Args:
        on_stuck: Called, once, where a thread does not come to an end.
        limit_s: How long one request may take.
        grace_s: How much longer its thread may go on before it counts as stuck, while others have a place.
        places: How many are prepared at once.

    Attributes:
        stuck: Whether a thread did not come to an end.
    """

    def __init__(
        self,
        on_stuck: Callable[[], None],
        *,
        limit_s: float = LIMIT_S,
        grace_s: float = GRACE_S,
        places: int = PLACES,
    ) -> None:
        self._on_stuck, self._limit_s, self._grace_s = on_stuck, limit_s, grace_s
        self._pool = ThreadPoolExecutor(places, thread_name_prefix="desk")
        self._count, self._places = places, asyncio.Semaphore(places)
        self._in_hand: set[asyncio.Future[Any]] = set()
        self._late: set[asyncio.Future[Any]] = set()
        self._closed = False
        self.stuck = False

    @property
    def busy(self) -> bool:
        """Whether a thread is at work: the interpreter's end would wait for it, be it for ever."""
        return bool(self._in_hand)

    async def prepare(self, work: Callable[[], T]) -> T:
        """Returns what `work` returns; waiting for a place does not count.

        Raises:
            Refused: It took too long, every place is held by what did, or no such text can be; or what `work` raises.
        """
        await self._places.acquire()
        if self._closed:
            self._places.release()  # the next one who waits hears it too
            raise Refused("the local model is stuck in other requests and starts anew; ask again", "engine_ending", 503)
        loop = asyncio.get_running_loop()
        working = loop.run_in_executor(self._pool, work)
        # Also where the client leaves meanwhile: `wait` does not cancel the work.
        judges = (
            loop.call_later(self._limit_s, self._overdue, working),
            loop.call_later(self._limit_s + self._grace_s, self._give_up),
        )
        self._in_hand.add(working)
        working.add_done_callback(lambda done: self._cleared(done, judges))
        done, _ = await asyncio.wait({working}, timeout=self._limit_s)
        if done:
            return _outcome(working)
        words = f"the template, the tokenizer or the grammar took longer than {self._limit_s:g} s with this request"
        raise Refused(words, "too_slow_to_prepare")

    def _cleared(self, working: asyncio.Future[Any], judges: Iterable[asyncio.TimerHandle]) -> None:
        for judge in judges:
            judge.cancel()
        self._in_hand.discard(working)
        self._late.discard(working)
        self._places.release()
        working.exception()  # told by `prepare`, or of no interest any more

    def _overdue(self, working: asyncio.Future[Any]) -> None:
        if not working.done():
            self._late.add(working)
        if len(self._late) == self._count:
            self._closed = True
            self._places.release()  # who waits for a place hears that there is none
            self._give_up()

    def _give_up(self) -> None:
        if not self.stuck:
            self.stuck = True
            self._on_stuck()


def _outcome(working: asyncio.Future[T]) -> T:
    try:
        return working.result()
    except RecursionError as error:
        raise Refused("the request is nested too deeply", "invalid_request") from error
    except UnicodeEncodeError as error:  # JSON can write half of a surrogate pair, which is no character
        raise Refused("the request holds text that is not Unicode", "invalid_request") from error

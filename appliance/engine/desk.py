"""Where requests are prepared: a few threads of their own, and none for longer than a limit.

Templates, tokenizers and grammars are foreign code on foreign input. Who takes too long is refused; its thread cannot
be ended, so a desk that is not cleared soon after is told of, and the process ends once it has answered the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from appliance.engine.options import Refused

PLACES = 4
LIMIT_S, GRACE_S = 10.0, 50.0

T = TypeVar("T")


class Desk:
    """Prepares one model's requests; used from one event loop.

    Args:
        on_stuck: Called, once, where a thread does not come to an end.
        limit_s: How long one request may take.
        grace_s: How much longer its thread may go on before it counts as stuck.
        places: How many are prepared at once.

    Attributes:
        stuck: Whether a thread did not come to an end: then the process has to end without waiting for it.
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
        self._places = asyncio.Semaphore(places)
        self.stuck = False

    async def prepare(self, work: Callable[[], T]) -> T:
        """Returns what `work` returns; waiting for a place does not count.

        Raises:
            Refused: It took too long, or what `work` raises.
        """
        await self._places.acquire()
        loop = asyncio.get_running_loop()
        working = loop.run_in_executor(self._pool, work)
        # Also where the client leaves meanwhile: `wait` does not cancel the work.
        judging = loop.call_later(self._limit_s + self._grace_s, self._judge)
        working.add_done_callback(lambda done: self._cleared(done, judging))
        done, _ = await asyncio.wait({working}, timeout=self._limit_s)
        if done:
            return working.result()
        words = f"the template, the tokenizer or the grammar took longer than {self._limit_s:g} s with this request"
        raise Refused(words, "too_slow_to_prepare")

    def _cleared(self, working: asyncio.Future[T], judging: asyncio.TimerHandle) -> None:
        judging.cancel()
        self._places.release()
        working.exception()  # told by `prepare`, or of no interest any more

    def _judge(self) -> None:
        if not self.stuck:
            self.stuck = True
            self._on_stuck()

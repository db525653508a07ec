"""The worker of a model that pools: what nobody waits for any more is not computed, and the next one is served."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.llm


class Slow:
    """A model whose batches wait for a word; a text's row is its first token."""

    most_texts, batch_tokens, width = 2, 8, 1

    def __init__(self) -> None:
        self.begun, self.go, self.pooled = threading.Event(), threading.Event(), list[int]()

    def pool(self, texts: Sequence[Sequence[int]]) -> Any:
        self.begun.set()
        assert self.go.wait(30)
        self.pooled += [text[0] for text in texts]
        return np.array([[text[0]] for text in texts], np.float32)


class Quiet:
    """A pulse that nobody feels."""

    def works(self) -> None:
        pass

    def rests(self) -> None:
        pass


def test_a_request_that_is_given_up_costs_one_batch_at_most() -> None:
    """Its client left in the first of many batches; the next request of the same tenant gets its rows, in order."""
    from appliance.engine.pooled_worker import PooledWorker

    model: Any = Slow()
    pulse: Any = Quiet()

    async def work() -> Any:
        worker = PooledWorker(model, asyncio.get_running_loop(), pulse)
        worker.start()
        left = asyncio.create_task(worker.rows([[number] for number in range(100)], "a"))
        assert await asyncio.to_thread(model.begun.wait, 30)
        left.cancel()
        stays = asyncio.create_task(worker.rows([[7], [8, 8], [9]], "a"))
        await asyncio.sleep(0)
        await asyncio.wait({left})
        model.go.set()
        rows = await stays
        worker.stop()
        return rows

    assert asyncio.run(work()).tolist() == [[7], [8], [9]]
    assert model.pooled[-3:] == [7, 8, 9]
    assert len(model.pooled) <= 5

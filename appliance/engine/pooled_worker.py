"""The one thread that calls llama.cpp for a model that pools: batch after batch, each of several requests' texts."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from appliance.engine.endpoint import end_broken
from appliance.engine.pooled import PooledModel
from appliance.engine.pulse import Pulse
from appliance.engine.turns import Order, Turns

Rows = NDArray[np.float32]


class PooledWorker:
    """Pools the texts of many requests.

    Args:
        model: Loaded.
        loop: Where rows are awaited.
        pulse: Told when it works and when it waits.
    """

    def __init__(self, model: PooledModel, loop: asyncio.AbstractEventLoop, pulse: Pulse) -> None:
        self._model, self._loop, self._pulse = model, loop, pulse
        self._turns = Turns(model.most_texts, model.batch_tokens)
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._rows: dict[Order, tuple[Rows, asyncio.Future[Rows]]] = {}
        self._thread = threading.Thread(target=self._run, name="llama", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the batch in hand."""
        self._inbox.put(None)
        self._thread.join()

    async def rows(self, texts: Sequence[Sequence[int]], tenant: str) -> Rows:
        """Returns a row for each text, shape (texts, width); not awaiting it any more cancels it.

        Args:
            texts: Tokens; none empty or longer than the model's longest text.
            tenant: Whose they are.
        """
        order = Order(tenant, texts)
        done: asyncio.Future[Rows] = self._loop.create_future()
        self._inbox.put(lambda: self._submit(order, done))
        try:
            return await done
        finally:
            self._inbox.put(lambda: self._forget(order))

    def _submit(self, order: Order, done: asyncio.Future[Rows]) -> None:
        self._rows[order] = np.empty((len(order.texts), self._model.width), np.float32), done
        self._turns.add(order)

    def _forget(self, order: Order) -> None:
        self._turns.drop(order)
        self._rows.pop(order, None)

    def _run(self) -> None:
        try:
            while self._listen():
                self._pulse.works()
                self._step()
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody would be answered any more
            end_broken(error)

    def _listen(self) -> bool:
        """Takes what came in, and waits for it where there is nothing else to do; returns False at the end."""
        while True:
            if self._turns.idle:
                self._pulse.rests()
            try:
                done = self._inbox.get(block=self._turns.idle)
            except queue.Empty:
                return True
            if done is None:
                return False
            done()

    def _step(self) -> None:
        batch = self._turns.batch()
        found = self._model.pool([order.texts[number] for order, number in batch])
        over = []
        for row, (order, number) in zip(found, batch, strict=True):
            self._rows[order][0][number] = row
            # A request's texts come in their order, so its last one ends it.
            if number + 1 == len(order.texts):
                over.append(self._rows.pop(order))
        if over:
            self._loop.call_soon_threadsafe(_deliver, over)


def _deliver(over: Sequence[tuple[Rows, asyncio.Future[Rows]]]) -> None:
    for rows, done in over:
        if not done.done():  # its client may have left
            done.set_result(rows)

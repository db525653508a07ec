"""The one thread that calls llama.cpp: takes requests, runs step after step, and hands out text as it is made.

One thread for all steps, since two in one context abort the process.
"""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

from appliance.engine.endpoint import end_broken
from appliance.engine.grammar import DeadEnd
from appliance.engine.making import Answer, Making, Piece
from appliance.engine.model import Model
from appliance.engine.options import Refused
from appliance.engine.pulse import Pulse
from appliance.engine.scheduler import Scheduler
from appliance.engine.standing import Standing
from appliance.engine.step import Copy, Job, Limits, QueueFull, Row

Event = tuple[Answer, Piece | Refused | None]


@dataclass(eq=False)
class _Order:
    """The answers of one request, and where their events go."""

    answers: Sequence[Answer]
    standing: Standing
    jobs: list[int] = field(default_factory=list)
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)


@dataclass(eq=False)
class _Work:
    """An answer of a request; `making` from its first token on, since samplers and grammars are for those who run."""

    answer: Answer
    order: _Order
    making: Making | None = None


class Worker:
    """Runs a model for many at once.

    Args:
        model: Loaded.
        limits: What it has.
        loop: Where answers are read.
        pulse: Told when it works and when it waits.
    """

    def __init__(self, model: Model, limits: Limits, loop: asyncio.AbstractEventLoop, pulse: Pulse) -> None:
        self._model, self._loop, self._pulse = model, loop, pulse
        self._scheduler = Scheduler(limits)
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._work: dict[int, _Work] = {}
        self._outbox: list[tuple[_Order, Event]] = []
        self._last = 0
        self._thread = threading.Thread(target=self._run, name="llama", daemon=True)

    @property
    def load(self) -> tuple[int, int]:
        """How many answers run, and how many wait."""
        return self._scheduler.running, self._scheduler.waiting

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the step in hand."""
        self._inbox.put(None)
        self._thread.join()

    async def pieces(
        self, answers: Sequence[Answer], standing: Standing
    ) -> AsyncGenerator[tuple[Answer, Piece | None], None]:
        """Yields the text of a request's answers as it is made, and None when one ends; not reading on cancels them.

        Raises:
            Refused: One was not admitted, or cannot go on.
        """
        order = _Order(answers, standing)
        self._inbox.put(lambda: self._submit(order))
        running = len(answers)
        try:
            while running:
                answer, event = await order.events.get()
                if isinstance(event, Refused):
                    raise event
                running -= event is None
                yield answer, event
        finally:
            self._inbox.put(lambda: self._cancel(order))

    def _submit(self, order: _Order) -> None:
        now, standing = time.monotonic(), order.standing
        for answer in order.answers:
            self._last += 1
            deadline = now + standing.deadline_s
            standing_of = (standing.priority, standing.tenant, deadline)
            random = answer.seed is None and answer.options.sampling.temperature > 0
            shared = (answer.public_tokens, random)
            job = Job(self._last, answer.tokens, answer.limit, now, *standing_of, *shared)
            try:
                self._scheduler.submit(job)
            except QueueFull:
                self._outbox.append((order, (answer, Refused("too many requests are waiting", "queue_full", 429))))
                return
            except ValueError as error:
                self._outbox.append((order, (answer, Refused(str(error), "context_length_exceeded"))))
                return
            order.jobs.append(job.id)
            self._work[job.id] = _Work(answer, order)

    def _cancel(self, order: _Order) -> None:
        """Forgets answers that nobody reads any more; those that have ended are forgotten already."""
        for job in order.jobs:
            if job in self._work:
                self._forget(job)
                self._scheduler.cancel(job)

    def _forget(self, job: int) -> _Work:
        work = self._work.pop(job)
        if work.making is not None:
            work.making.free()
        return work

    def _run(self) -> None:
        try:
            while self._listen():
                self._pulse.works()
                self._step()
                self._send()
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody would be answered any more
            end_broken(error)

    def _listen(self) -> bool:
        """Takes what came in, and waits for it where there is nothing else to do; returns False at the end."""
        while True:
            try:
                block = self._scheduler.idle and not self._outbox
                if block:
                    self._pulse.rests()
                done = self._inbox.get(block=block)
                self._pulse.works()
            except queue.Empty:
                return True
            if done is None:
                return False
            done()

    def _step(self) -> None:
        step = self._scheduler.step(time.monotonic())
        for job in step.expired:
            work = self._forget(job)
            refused = Refused("the request waited too long", "queue_timeout", 429)
            self._outbox.append((work.order, (work.answer, refused)))
        for operation in step.operations:
            if isinstance(operation, Copy):
                self._model.copy(operation.source, operation.target, operation.tokens)
            else:
                self._model.trim(operation.sequence, operation.tokens)
        for batch in step.batches:
            if not self._decode(batch):
                break

    def _decode(self, batch: Sequence[Row]) -> bool:
        """Computes a batch and draws what follows; returns False where there was no room, and the rest must wait."""
        if not self._model.decode(batch):
            self._scheduler.full(batch)
            return False
        self._scheduler.decoded(batch)
        going = dict.fromkeys((row.job for row in batch), True)
        for place, row in enumerate(batch):
            if row.wanted and going[row.job]:
                going[row.job] = self._take(row.job, place)
        return True

    def _take(self, job: int, place: int) -> bool:
        """Draws what follows the row at `place`; returns whether the next row of the same answer is of use."""
        work = self._work[job]
        answer, order = work.answer, work.order
        if answer.completion_tokens == 0:
            answer.cached_tokens = self._scheduler.cached(job)
        try:
            work.making = making = work.making or Making(self._model, answer)
            token, piece = making.take(place)
        except DeadEnd as error:
            refused = Refused(f"the answer cannot follow its JSON schema any further: {error}", "schema_dead_end", 500)
            return self._fail(job, refused)
        except Exception as error:  # noqa: BLE001 - a fault in drawing one answer must not end the others
            print(f"an answer failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201
            return self._fail(job, Refused("the engine failed with this answer", "engine_error", 500))
        more = self._scheduler.sampled(job, token, last=answer.finish is not None)
        if piece.text or piece.scores:
            self._outbox.append((order, (answer, piece)))
        if answer.finish is not None:
            self._forget(job)
            self._outbox.append((order, (answer, None)))
        return more

    def _fail(self, job: int, refused: Refused) -> bool:
        """Ends one answer with an error; returns that no further row of it is of use."""
        work = self._forget(job)
        self._scheduler.cancel(job)
        self._outbox.append((work.order, (work.answer, refused)))
        return False

    def _send(self) -> None:
        """Hands a step's texts over in one call: waking the other thread costs more than the text."""
        if self._outbox:
            events, self._outbox = self._outbox, []
            self._loop.call_soon_threadsafe(_deliver, events)


def _deliver(events: list[tuple[_Order, Event]]) -> None:
    for order, event in events:
        order.events.put_nowait(event)

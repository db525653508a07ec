"""The one thread that calls llama.cpp: takes requests, runs step after step, and hands out text as it is made.

One thread for all steps, since two in one context abort the process.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

from appliance.engine.model import Model
from appliance.engine.options import Options, Refused
from appliance.engine.sampling import free_sampler, make_sampler
from appliance.engine.scheduler import Copy, Job, Limits, QueueFull, Scheduler, Step
from appliance.engine.text import TextOut

EXIT_BROKEN = 42  # llama.cpp failed in the middle of a step: only a new process helps


@dataclass
class Answer:
    """One answer as it is made; `finish` is OpenAI's reason once it has ended.

    Attributes:
        tokens: The prompt.
        options: What was asked.
        limit: The longest answer in tokens.
        prompt_tokens: Length of the prompt.
        cached_tokens: How many of them were in the cache.
        completion_tokens: Tokens made so far.
    """

    tokens: tuple[int, ...]
    options: Options
    limit: int
    prompt_tokens: int
    cached_tokens: int = 0
    completion_tokens: int = 0
    finish: str | None = None
    events: asyncio.Queue[str | Refused | None] = field(default_factory=asyncio.Queue)


@dataclass
class _Making:
    """What the thread knows of an answer."""

    answer: Answer
    sampler: Any
    text: TextOut


class Worker:
    """Runs a model for many at once.

    Args:
        model: Loaded.
        limits: What it has.
        loop: Where answers are read.
    """

    def __init__(self, model: Model, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self._model, self._loop = model, loop
        self._scheduler = Scheduler(limits)
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._making: dict[int, _Making] = {}
        self._outbox: list[tuple[Answer, str | Refused | None]] = []
        self._last = 0
        self._thread = threading.Thread(target=self._run, name="llama", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the step in hand."""
        self._inbox.put(None)
        self._thread.join()

    async def pieces(self, answer: Answer) -> AsyncGenerator[str, None]:
        """Yields the text of an answer as it is made; whoever stops reading cancels it.

        Raises:
            Refused: It was not admitted.
        """
        self._last += 1
        number = self._last
        job = Job(number, answer.tokens, answer.limit, time.monotonic())
        self._inbox.put(lambda: self._submit(job, answer))
        try:
            while (event := await answer.events.get()) is not None:
                if isinstance(event, Refused):
                    raise event
                yield event
        finally:
            self._inbox.put(lambda: self._cancel(number))

    def _submit(self, job: Job, answer: Answer) -> None:
        try:
            self._scheduler.submit(job)
        except QueueFull:
            self._outbox.append((answer, Refused("too many requests are waiting", "queue_full", 429)))
            return
        except ValueError as error:
            self._outbox.append((answer, Refused(str(error), "context_length_exceeded")))
            return
        sampler = make_sampler(answer.options, self._model.vocabulary_size)
        self._making[job.id] = _Making(answer, sampler, TextOut(answer.options.stops))

    def _cancel(self, job: int) -> None:
        """Forgets an answer that nobody reads any more; one that has ended is forgotten already."""
        if (making := self._making.pop(job, None)) is not None:
            free_sampler(making.sampler)
            self._scheduler.cancel(job)

    def _run(self) -> None:
        try:
            while self._listen():
                self._step()
                self._send()
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody would be answered any more
            print(f"the engine failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201
            os._exit(EXIT_BROKEN)

    def _listen(self) -> bool:
        """Takes what came in, and waits for it where there is nothing else to do; returns False at the end."""
        while True:
            try:
                done = self._inbox.get(block=self._scheduler.idle and not self._outbox)
            except queue.Empty:
                return True
            if done is None:
                return False
            done()

    def _step(self) -> None:
        step = self._scheduler.step(time.monotonic())
        for job in step.expired:
            making = self._making.pop(job)
            free_sampler(making.sampler)
            self._outbox.append((making.answer, Refused("the request waited too long", "queue_timeout", 429)))
        for operation in step.operations:
            if isinstance(operation, Copy):
                self._model.copy(operation.source, operation.target, operation.tokens)
            else:
                self._model.trim(operation.sequence, operation.tokens)
        if step.rows:
            self._decode(step)

    def _decode(self, step: Step) -> None:
        if not self._model.decode(step.rows):
            self._scheduler.full(step)
            return
        self._scheduler.decoded(step)
        for place, row in enumerate(step.rows):
            if row.wanted:
                self._take(row.job, self._model.sample(self._making[row.job].sampler, place))

    def _take(self, job: int, token: int) -> None:
        making = self._making[job]
        answer = making.answer
        if answer.completion_tokens == 0:
            answer.cached_tokens = self._scheduler.cached(job)
        answer.completion_tokens += 1
        text = ""
        if self._model.ends(token):
            answer.finish = "stop"
        else:
            text = making.text.feed(self._model.piece(token))
            if making.text.stopped:
                answer.finish = "stop"
            elif answer.completion_tokens >= answer.limit:
                answer.finish = "length"
        self._scheduler.sampled(job, token, last=answer.finish is not None)
        if answer.finish is not None:
            del self._making[job]
            free_sampler(making.sampler)
            text += making.text.finish()
        if text:
            self._outbox.append((answer, text))
        if answer.finish is not None:
            self._outbox.append((answer, None))

    def _send(self) -> None:
        """Hands a step's texts over in one call: waking the other thread costs more than the text."""
        if self._outbox:
            events, self._outbox = self._outbox, []
            self._loop.call_soon_threadsafe(_deliver, events)


def _deliver(events: list[tuple[Answer, str | Refused | None]]) -> None:
    for answer, event in events:
        answer.events.put_nowait(event)

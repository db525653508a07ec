"""What goes into the next batch: continuous batching, chunked prefill, shared prefixes. Pure: no llama.cpp, no clock.

Each sequence has a cache of its own, as long as the context. That is a choice by measurement: with one cache for all,
llama.cpp's results change with what the others ask (logits by up to 1 on a 4-bit model); with one for each, no flash
attention on the CPU, and at least two tokens of a prompt at a time, they are the same to the last bit, alone or in a
crowd, cold or warm, at no less speed. llama.cpp cuts a batch into parts that hold equally many tokens of each of their
sequences, so a batch is either one token of each answer in progress, or a piece of one prompt.

Rules:
1. A request runs in a sequence of its own, and is never cut short by another.
2. Every step holds one token of each answer in progress before any prompt: prefill never starves decoding.
3. A prompt that begins like a sequence in the cache takes a copy of its beginning. One that begins like a prompt still
   being computed waits for it: eight users of one long context compute it once. What another tenant asked is shared
   only as far as it is everybody's (text of the signed bundle): how soon an answer begins would tell the rest.
4. An answer that runs alone may guess its next tokens and have them computed beside the one that is known.
5. Finished sequences are kept for later prompts while nobody needs their place; the older half goes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from appliance.engine.lookup import Guesser
from appliance.engine.step import Copy, Job, Limits, QueueFull, Row, Step, Trim

# One row of a prompt alone takes another kernel than several, whose sums differ in the last bit.
_LEAST_ROWS = 2
# Three tokens cannot be cut into two pieces of which neither is alone.
_LEAST_SHARE = _LEAST_ROWS + 1
# Below this a copy costs more than the prefill that it saves.
_LEAST_SHARED = 16


@dataclass(eq=False)
class _Running:
    job: Job
    sequence: int
    tokens: list[int]
    computed: int
    cached: int
    guesser: Guesser | None
    guess: tuple[int, ...] = ()
    guessed: int = 0

    @property
    def left(self) -> int:
        """Tokens that are not in the cache yet."""
        return len(self.tokens) - self.computed

    @property
    def decoding(self) -> bool:
        return self.computed == len(self.tokens) - 1 and len(self.tokens) > len(self.job.prompt)


@dataclass(eq=False)
class _Kept:
    sequence: int
    tenant: str
    tokens: tuple[int, ...]
    used: int


@dataclass
class Scheduler:
    """Decides step by step; the caller does what a step says, then tells what was sampled."""

    limits: Limits
    _waiting: list[Job] = field(default_factory=list)
    _running: dict[int, _Running] = field(default_factory=dict)
    _kept: list[_Kept] = field(default_factory=list)
    _operations: list[Copy | Trim] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._free = list(range(self.limits.sequences))
        self._ticks = count()
        self._prefill_tokens = self.limits.step_tokens

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def idle(self) -> bool:
        return not (self._waiting or self._running or self._operations)

    def cached(self, job: int) -> int:
        """Returns how many tokens of a running job's prompt its own tenant had in the cache already."""
        return self._running[job].cached

    def submit(self, job: Job) -> None:
        """Queues a request.

        Raises:
            QueueFull: Too many wait.
            ValueError: It can never fit, or is empty.
        """
        if not job.prompt or job.most_new < 1 or len(job.prompt) + job.most_new > self.limits.context_tokens:
            raise ValueError(
                f"{len(job.prompt)} and {job.most_new} tokens never fit a context of {self.limits.context_tokens}"
            )
        if len(self._waiting) >= self.limits.queued:
            raise QueueFull
        self._waiting.append(job)

    def cancel(self, job: int) -> None:
        """Forgets a request, wherever it is; its sequence is free with the next step."""
        self._waiting = [other for other in self._waiting if other.id != job]
        if (found := self._running.pop(job, None)) is not None:
            self._release(found.sequence)

    def step(self, now: float) -> Step:
        """Returns the next step; without batches there is nothing to decode."""
        expired = tuple(job.id for job in self._waiting if job.deadline < now)
        self._waiting = [job for job in self._waiting if job.deadline >= now]
        self._admit()
        batches = self._batches()
        operations, self._operations = tuple(self._operations), []
        return Step(operations, tuple(batches), expired)

    def decoded(self, batch: Sequence[Row]) -> None:
        """Notes that the rows of a batch are in the cache; what was sampled from them is told after it."""
        first = self._running[batch[0].job]
        if first.decoding:
            for job in {row.job for row in batch}:
                self._running[job].computed += 1
            if _guessing(batch):
                first.guess, first.guessed = tuple(row.token for row in batch[1:]), len(batch) - 1
            return
        self._prefill_tokens = self.limits.step_tokens
        first.computed += len(batch)

    def sampled(self, job: int, token: int, *, last: bool) -> bool:
        """Takes the token that follows; `last` ends the answer, and so does its length.

        Returns:
            Whether the next row of the batch is of use: it holds this very token, guessed before.
        """
        running = self._running[job]
        running.tokens.append(token)
        right = not last and running.guess[:1] == (token,)
        if right:
            running.computed += 1
            running.guess = running.guess[1:]
        elif running.guessed:
            self._settle(running)
        if last or len(running.tokens) - len(running.job.prompt) >= running.job.most_new:
            del self._running[job]
            tokens = tuple(running.tokens[: running.computed])
            self._kept.append(_Kept(running.sequence, running.job.tenant, tokens, next(self._ticks)))
        return right

    def _settle(self, running: _Running) -> None:
        """Judges what was guessed, and lets the sequence forget what was wrong."""
        if running.guesser is not None:
            running.guesser.judge(running.guessed, running.guessed - len(running.guess))
        if running.guess:
            self._operations.append(Trim(running.sequence, running.computed))
        running.guess, running.guessed = (), 0

    def full(self, batch: Sequence[Row]) -> int | None:
        """Makes room after llama.cpp found none for a batch; it and those after it are planned anew.

        A prompt's piece is halved first; then one request goes back to the queue with what it has, and none is lost.

        Returns:
            The job that was requeued, or None.

        Raises:
            RuntimeError: Not even one request alone finds room: trying again would never end.
        """
        if _guessing(batch) and (guesser := self._running[batch[0].job].guesser) is not None:
            guesser.rest()
            return None
        prefill = sum(not self._running[row.job].decoding for row in batch)
        if prefill > _LEAST_SHARE:
            self._prefill_tokens = max(_LEAST_SHARE, prefill // 2)
            return None
        if len(self._running) == 1:
            raise RuntimeError(f"the cache has no room for {len(batch)} rows of a single request")
        victim = max(self._running.values(), key=lambda item: (item.job.priority, item.job.arrived))
        self.cancel(victim.job.id)
        said = len(victim.tokens) - len(victim.job.prompt)
        again = replace(victim.job, prompt=tuple(victim.tokens), most_new=victim.job.most_new - said)
        self._waiting.insert(0, replace(again, deadline=float("inf")))
        return victim.job.id

    def _admit(self) -> None:
        candidates = list(self._waiting)
        while candidates and (self._free or self._kept):
            job = min(candidates, key=self._order)
            candidates.remove(job)
            source, shared, own, coming = self._match(job)
            if coming:
                continue
            self._waiting.remove(job)
            sequence = self._place(source, shared)
            guesser = Guesser() if job.guesses and self.limits.rewinds else None
            self._running[job.id] = _Running(job, sequence, list(job.prompt), shared, own, guesser)

    def _order(self, job: Job) -> tuple[int, int, float]:
        """By priority, then the tenant with the fewest running, then arrival."""
        return (job.priority, sum(item.job.tenant == job.tenant for item in self._running.values()), job.arrived)

    def _match(self, job: Job) -> tuple[int, int, int, bool]:
        """Finds the sequence that begins most like a prompt.

        The last tokens of the prompt are always computed: their logits begin the answer.

        Returns:
            The sequence, how far, how far as the tenant may be told (what others had computed is their affair), and
            whether a longer beginning is on its way.
        """
        best, shared, own, coming = -1, 0, 0, 0
        busy = {running.sequence for running in self._running.values()}
        found: list[tuple[int, str, Sequence[int], int]] = [
            (item.sequence, item.job.tenant, item.tokens, item.computed) for item in self._running.values()
        ]
        found += [(item.sequence, item.tenant, item.tokens, len(item.tokens)) for item in self._kept]
        for sequence, tenant, tokens, computed in found:
            most = len(job.prompt) - _LEAST_ROWS
            common = _common(tokens, job.prompt, most if tenant == job.tenant else min(most, job.public))
            if not self.limits.rewinds and (sequence in busy or common < len(tokens)):
                continue
            coming = max(coming, common)
            if min(common, computed) > shared:
                best, shared = sequence, min(common, computed)
                own = shared if tenant == job.tenant else 0
        if shared < _LEAST_SHARED:
            best, shared, own = -1, 0, 0
        return best, shared, own, coming >= shared + 4 * _LEAST_SHARED

    def _place(self, source: int, shared: int) -> int:
        """Finds a sequence for a request and puts the shared beginning into it."""
        kept = next((item for item in self._kept if item.sequence == source), None)
        others = [item for item in self._kept if item is not kept]
        if kept is not None and (shared == len(kept.tokens) or not (self._free or others)):
            # It goes on where it is: nothing is lost, or nothing else can be given up.
            self._kept.remove(kept)
            self._operations.append(Trim(source, shared))
            return source
        if kept is not None:
            kept.used = next(self._ticks)
        if not self._free:
            # Of the older half the one beside which the answers are computed in the fewest parts.
            older = sorted(others, key=lambda item: item.used)[: (len(others) + 1) // 2]
            given_up = min(older, key=lambda item: (self._parts(item.sequence), item.used))
            self._kept.remove(given_up)
            self._release(given_up.sequence)
        sequence = min(self._free, key=lambda number: (self._parts(number), number))
        self._free.remove(sequence)
        if shared:
            self._operations.append(Copy(source, sequence, shared))
        return sequence

    def _parts(self, sequence: int) -> int:
        """Returns in how many parts llama.cpp would compute the answers, were this sequence one of theirs.

        It takes sequences together whose numbers follow each other; each part reads all weights once more.
        """
        taken = {running.sequence for running in self._running.values()} | {sequence}
        return sum(number + 1 not in taken for number in taken)

    def _batches(self) -> list[tuple[Row, ...]]:
        """Plans one token of each answer, and then pieces of prompts: in all as many tokens as a step may have."""
        decoding = (running for running in self._running.values() if running.decoding)
        answers = sorted(decoding, key=lambda item: item.sequence)[: self.limits.batch_tokens]
        batches = [tuple(self._row(running, running.computed) for running in answers)] if answers else []
        room = min(self.limits.step_tokens - len(answers), self._prefill_tokens)
        prompts = [running for running in self._running.values() if not running.decoding]
        if len(answers) == 1 and not prompts:
            return [(*batches[0], *self._guessed(answers[0]))]
        # The shortest first: a short question does not wait behind a long document. But half is for whoever came first,
        # or short ones that never end would keep the long one waiting for ever.
        shares = [(min(prompts, key=lambda item: item.job.arrived), room // 2)] if len(prompts) > 1 else []
        shares += [(running, room) for running in sorted(prompts, key=lambda item: item.left)]
        planned: dict[int, int] = {}
        for running, most in shares:
            begun = end = planned.get(running.job.id, 0) + running.computed
            until = begun + min(most, room)
            while taken := _piece(len(running.tokens) - end, min(until - end, self.limits.batch_tokens)):
                batches.append(tuple(self._row(running, place) for place in range(end, end + taken)))
                end += taken
            planned[running.job.id] = end - running.computed
            room -= end - begun
        return batches

    def _guessed(self, running: _Running) -> Iterator[Row]:
        if running.guesser is None:
            return
        left = running.job.most_new - (len(running.tokens) - len(running.job.prompt)) - 1
        room = min(left, self.limits.batch_tokens - 1)
        for place, token in enumerate(running.guesser.guess(running.tokens, room), start=len(running.tokens)):
            yield Row(running.job.id, running.sequence, token, place, wanted=True)

    def _row(self, running: _Running, place: int) -> Row:
        last = place == len(running.tokens) - 1
        return Row(running.job.id, running.sequence, running.tokens[place], place, last)

    def _release(self, sequence: int) -> None:
        self._operations.append(Trim(sequence, 0))
        self._free.append(sequence)


def _guessing(batch: Sequence[Row]) -> bool:
    """Whether a batch is one answer with guesses: the only one that wants more than its last row of a sequence."""
    return len(batch) > 1 and batch[0].wanted and batch[0].job == batch[1].job


def _piece(left: int, room: int) -> int:
    """Returns how many tokens of a prompt go into a batch: never one alone, nor so that one is left alone."""
    taken = min(left, room)
    if left - taken == 1:
        taken -= 1
    return taken if taken >= _LEAST_ROWS or taken == left else 0


def _common(one: Sequence[int], two: Sequence[int], most: int) -> int:
    """Returns how many tokens two sequences have in common from the start, at most so many."""
    size = min(len(one), len(two), most)
    return next((place for place in range(size) if one[place] != two[place]), size)

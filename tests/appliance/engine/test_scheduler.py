"""The scheduler as a state machine beside a plain model of llama.cpp's cache: what a step says can be done."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from appliance.engine.scheduler import Scheduler
from appliance.engine.step import Copy, Job, Limits, QueueFull, Row, Step

CONTEXT = 90
PREFIXES = (tuple(range(100, 140)), tuple(range(200, 225)), ())


def rows_of(step: Step) -> list[Row]:
    """All batches of a step as one."""
    return [row for batch in step.batches for row in batch]


class Cache:
    """The tokens of each sequence, as llama.cpp holds them; one that cannot rewind is emptied or left as it is."""

    def __init__(self, *, rewinds: bool = True) -> None:
        self.held: dict[int, list[int]] = {}
        self._rewinds = rewinds

    def do(self, step: Step) -> None:
        for operation in step.operations:
            if isinstance(operation, Copy):
                assert self._rewinds or operation.tokens == len(self.held[operation.source])
                assert not self.held.get(operation.target)
                assert operation.tokens <= len(self.held[operation.source])
                self.held[operation.target] = self.held[operation.source][: operation.tokens]
            else:
                assert self._rewinds or operation.tokens in (0, len(self.held.get(operation.sequence, [])))
                assert operation.tokens <= len(self.held.get(operation.sequence, []))
                self.held[operation.sequence] = self.held.get(operation.sequence, [])[: operation.tokens]
        for row in rows_of(step):
            held = self.held.setdefault(row.sequence, [])
            assert row.position == len(held), "a hole, or a token twice"
            held.append(row.token)


class Machine(RuleBasedStateMachine):
    """Requests come, go, guess, wait too long and end in any order; now and then the cache finds no room."""

    jobs: Bundle[int] = Bundle("jobs")

    @initialize(sequences=st.integers(1, 5), batch=st.integers(5, 32), rewinds=st.booleans())
    def begin(self, sequences: int, batch: int, rewinds: bool) -> None:
        self.limits = Limits(sequences, CONTEXT, batch, batch + batch // 2, 6, rewinds)
        self.scheduler, self.cache = Scheduler(self.limits), Cache(rewinds=rewinds)
        self.deadlines: dict[int, float] = {}
        self.guessing: set[int] = set()
        self.begun: set[int] = set()
        self.now, self.number = 0.0, 0
        self.texts: dict[int, list[int]] = {}
        self.room: dict[int, int] = {}
        self.prompts: dict[int, tuple[int, ...]] = {}
        self.ended: set[int] = set()
        self.asked: dict[int, tuple[str, tuple[int, ...]]] = {}
        self.public: dict[int, int] = {}

    @rule(
        target=jobs,
        prefix=st.sampled_from(PREFIXES),
        own=st.integers(1, 30),
        new=st.integers(1, 20),
        public=st.integers(0, 40),
        patience=st.none() | st.integers(0, 6),
        guesses=st.booleans(),
    )
    def submit(
        self, prefix: tuple[int, ...], own: int, new: int, public: int, patience: int | None, *, guesses: bool
    ) -> Any:
        self.number += 1
        prompt = (*prefix, *(1000 * self.number + place for place in range(own)))
        deadline = self.now + patience if patience is not None else float("inf")
        whose = (self.number % 3, f"tenant {self.number % 2}", deadline)
        job = Job(self.number, prompt, new, self.now, *whose, public=public, guesses=guesses)
        self.public[job.id] = public
        self.asked[job.id] = (job.tenant, prefix)
        try:
            self.scheduler.submit(job)
        except QueueFull:
            assert self.scheduler.waiting >= self.limits.queued
            return multiple()
        self.texts[job.id], self.room[job.id] = list(prompt), new
        self.prompts[job.id], self.deadlines[job.id] = prompt, deadline
        self.guessing |= {job.id} if guesses and self.limits.rewinds else set()
        return job.id

    @rule(job=consumes(jobs))
    def cancel(self, job: int) -> None:
        self.scheduler.cancel(job)
        self.ended.add(job)

    @rule(full=st.booleans(), ends=st.integers(0, 9), quotes=st.booleans())
    def advance(self, full: bool, ends: int, quotes: bool) -> None:
        self.turn(full=full, ends=ends, quotes=quotes)

    def turn(self, *, full: bool, ends: int, quotes: bool) -> None:
        self.now += 1
        step = self.scheduler.step(self.now)
        self.expire(step)
        self.check(step)
        self.cache.do(Step(step.operations, (), ()))
        for number, batch in enumerate(step.batches):
            if full and number % 2 == ends % 2:
                self.full(batch)
                return
            self.cache.do(Step((), (batch,), ()))
            self.scheduler.decoded(batch)
            going = dict.fromkeys((row.job for row in batch), True)
            for row in (row for row in batch if going[row.job]):
                assert self.cache.held[row.sequence][: row.position + 1] == self.texts[row.job][: row.position + 1]
                if row.wanted:
                    going[row.job] = self.answer(row.job, last=ends == 0, quotes=quotes)

    def full(self, batch: tuple[Row, ...]) -> None:
        try:
            self.scheduler.full(batch)
        except RuntimeError:  # nothing was changed, and the engine would end here
            assert self.scheduler.running == 1

    def expire(self, step: Step) -> None:
        """Who never began and is past its deadline is handed back, once, and nobody else is."""
        for job in step.expired:
            assert job not in self.ended | self.begun
            assert self.deadlines[job] < self.now
            self.ended.add(job)
        self.begun |= {row.job for row in rows_of(step)}

    def answer(self, job: int, *, last: bool, quotes: bool) -> bool:
        """Says a token: one that nobody can guess, or the one that follows in the prompt from its beginning."""
        text, prompt = self.texts[job], self.prompts[job]
        said = len(text) - len(prompt)
        token = prompt[said % len(prompt)] if quotes else 10**6 + job * 1000 + len(text)
        self.texts[job].append(token)
        self.room[job] -= 1
        more = self.scheduler.sampled(job, token, last=last)
        if last or self.room[job] == 0:
            self.ended.add(job)
        assert not more or job in self.guessing, "a guess was taken where none may be"
        return more and job not in self.ended

    def check(self, step: Step) -> None:
        assert len(rows_of(step)) <= self.limits.step_tokens
        assert all(len(batch) <= self.limits.batch_tokens for batch in step.batches)
        assert not {row.job for row in rows_of(step)} & self.ended, "an ended request is still computed"
        for batch in step.batches:
            jobs = {row.job for row in batch}
            answers = len(jobs) == len(batch) and all(row.wanted for row in batch)
            assert answers or len(jobs) == 1, "prompts and answers are mixed"
            guesses = len(batch) > 1 and len(jobs) == 1 and batch[0].wanted
            assert not guesses or jobs <= self.guessing, "guessed where the same bits were asked for"
            lone = len(batch) == 1 and 0 < batch[0].position < len(self.prompts[batch[0].job])
            assert not lone, "a token of a prompt is computed alone"
        for job in {row.job for row in rows_of(step)}:
            if list(self.asked.values()).count(self.asked[job]) == 1:  # nobody else of this tenant asked so
                assert self.scheduler.cached(job) == 0, "another tenant's request was told"
        owners = {row.sequence: row.job for row in rows_of(step)}
        assert len(owners) == len({row.job for row in rows_of(step)}), "two requests in one sequence"

    @invariant()
    def fits(self) -> None:
        if hasattr(self, "cache"):
            assert all(len(held) <= CONTEXT for held in self.cache.held.values())
            assert len(self.cache.held) <= self.limits.sequences
            assert self.scheduler.running <= self.limits.sequences

    def teardown(self) -> None:
        if not hasattr(self, "cache"):
            return
        for _ in range(3_000):
            if self.scheduler.idle:
                break
            self.turn(full=False, ends=1, quotes=True)
        assert self.scheduler.idle, "a request is stuck"
        assert self.ended >= set(self.texts)


TestScheduler = Machine.TestCase
TestScheduler.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def run(scheduler: Scheduler, cache: Cache) -> Step:
    step = scheduler.step(0)
    cache.do(step)
    for batch in step.batches:
        scheduler.decoded(batch)
    return step


def test_a_long_prompt_never_stops_an_answer() -> None:
    """Every step holds a token of the answer in progress, however long the prompt beside it."""
    scheduler, cache = Scheduler(Limits(4, 5_000, 64, 64, 8)), Cache()
    scheduler.submit(Job(1, (1, 2, 3), 50, 0))
    run(scheduler, cache)
    scheduler.sampled(1, 9, last=False)
    scheduler.submit(Job(2, tuple(range(10, 2_000)), 5, 0))
    for _ in range(20):
        step = run(scheduler, cache)
        assert [row.job for row in rows_of(step)].count(1) == 1
        assert len(rows_of(step)) == 64
        scheduler.sampled(1, 9, last=False)


def test_a_shared_prefix_is_computed_once() -> None:
    """Eight requests with one long context: it is decoded once, and each adds its own few tokens."""
    scheduler, cache, shared = Scheduler(Limits(8, 4_000, 512, 512, 8)), Cache(), tuple(range(600))
    for number in range(8):
        scheduler.submit(Job(number, (*shared, 10_000 + number, 20_000 + number), 10, number))
    rows = 0
    for _ in range(4):
        step = run(scheduler, cache)
        rows += len(rows_of(step))
        for row in rows_of(step):
            if row.wanted:
                scheduler.sampled(row.job, 5, last=False)
    assert scheduler.running == 8
    assert rows < 600 + 8 * 6


def test_a_finished_prompt_is_warm_for_the_next() -> None:
    """The same system prompt again costs its last tokens only, and the caller is told how much was cached."""
    scheduler, cache = Scheduler(Limits(2, 1_000, 512, 512, 8)), Cache()
    scheduler.submit(Job(1, (*range(300), 7), 3, 0))
    run(scheduler, cache)
    scheduler.sampled(1, 9, last=True)
    scheduler.submit(Job(2, (*range(300), 8), 3, 0))
    assert len(rows_of(run(scheduler, cache))) == 2
    assert scheduler.cached(2) == 299


def test_who_finds_no_place_waits_and_what_never_fits_is_refused() -> None:
    """One sequence, two requests: one after the other; a prompt beyond the context is refused at once."""
    scheduler, cache = Scheduler(Limits(1, 100, 64, 64, 8)), Cache()
    with pytest.raises(ValueError, match="never fit"):
        scheduler.submit(Job(0, (1,) * 60, 41, 0))
    scheduler.submit(Job(1, (1,) * 20, 40, 0))
    scheduler.submit(Job(2, (2,) * 20, 40, 0))
    assert {row.job for row in rows_of(run(scheduler, cache))} == {1}
    scheduler.cancel(1)
    assert {row.job for row in rows_of(run(scheduler, cache))} == {2}


def test_a_kept_beginning_survives_in_the_last_place() -> None:
    """With one sequence the next prompt takes over what it shares, and drops the rest."""
    scheduler, cache = Scheduler(Limits(1, 1_000, 512, 512, 8)), Cache()
    scheduler.submit(Job(1, (*range(300), 7), 3, 0))
    run(scheduler, cache)
    scheduler.sampled(1, 9, last=True)
    scheduler.submit(Job(2, (*range(200), 8, 9), 3, 0))
    assert len(rows_of(run(scheduler, cache))) == 2
    assert cache.held[0] == [*range(200), 8, 9]


def test_who_waits_too_long_is_told() -> None:
    """A request that was not admitted by its deadline is handed back."""
    scheduler = Scheduler(Limits(1, 100, 64, 64, 8))
    scheduler.submit(Job(1, (1,) * 20, 40, 0))
    scheduler.step(0)
    scheduler.submit(Job(2, (2,) * 20, 40, 0, deadline=5))
    assert scheduler.step(4).expired == ()
    assert scheduler.step(6).expired == (2,)
    assert scheduler.waiting == 0


def test_a_tenant_with_many_requests_lets_others_in() -> None:
    """Whoever runs least goes next, and a lower number of priority goes before all."""
    scheduler = Scheduler(Limits(2, 1_000, 64, 64, 9))
    for number in range(4):
        scheduler.submit(Job(number, (number,) * 5, 5, number, tenant="loud"))
    scheduler.submit(Job(8, (8,) * 5, 5, 8, tenant="quiet"))
    assert {row.job for row in rows_of(scheduler.step(0))} == {0, 8}
    scheduler.submit(Job(9, (9,) * 5, 5, 9, priority=-1, tenant="loud"))
    scheduler.cancel(0)
    assert 9 in {row.job for row in rows_of(scheduler.step(0))}


@pytest.mark.parametrize(("tenant", "shared", "told"), [("same", 298, 298), ("other", 100, 0)])
def test_what_a_tenant_asked_is_not_shared_with_others(tenant: str, shared: int, told: int) -> None:
    """Another tenant's request shares the public beginning and no more, and is not told that somebody asked so."""
    scheduler, cache = Scheduler(Limits(3, 1_000, 512, 512, 8)), Cache()
    prompt = tuple(range(300))
    scheduler.submit(Job(1, prompt, 3, 0, tenant="same", public=100))
    run(scheduler, cache)
    scheduler.submit(Job(2, prompt, 3, 0, tenant=tenant, public=100))
    step = run(scheduler, cache)
    assert [item.tokens for item in step.operations if isinstance(item, Copy)] == [shared]
    assert scheduler.cached(2) == told


def test_a_warm_beginning_stays_while_there_are_free_places() -> None:
    """A new request takes a free sequence, though the kept one beside the running answer would lie better."""
    scheduler, cache = Scheduler(Limits(8, 1_000, 512, 512, 8)), Cache()
    for number in (1, 2):
        scheduler.submit(Job(number, (number,) * 100, 30, number))
    run(scheduler, cache)
    scheduler.sampled(1, 7, last=False)
    scheduler.sampled(2, 7, last=True)
    scheduler.submit(Job(3, (3,) * 50, 3, 3))
    run(scheduler, cache)
    scheduler.submit(Job(4, (*(2,) * 100, 9, 9), 3, 4))
    run(scheduler, cache)
    assert scheduler.cached(4) == 100


def test_a_long_prompt_is_not_starved_by_short_ones() -> None:
    """Short prompts that fill every batch leave half of it to the one that came first."""
    scheduler, cache = Scheduler(Limits(8, 5_000, 64, 64, 90)), Cache()
    scheduler.submit(Job(0, tuple(range(2_000)), 5, 0))
    for number in range(1, 70):
        while scheduler.waiting < 8:
            scheduler.submit(Job(1_000 * number + scheduler.waiting, (10**6 + number,) * 60, 5, number))
        for row in rows_of(run(scheduler, cache)):
            if row.job == 0 and row.wanted:
                return
            if row.wanted:
                scheduler.sampled(row.job, 9, last=True)
    raise AssertionError("the long prompt was never computed")


def test_without_room_for_one_alone_it_does_not_spin() -> None:
    """However long a prompt, its share is halved to the least, and then the caller is told; a success resets it."""
    scheduler = Scheduler(Limits(2, 1_000, 64, 64, 8))
    scheduler.submit(Job(1, tuple(range(500)), 5, 0))
    for rows in (64, 32, 16, 8, 4, 3):
        (batch,) = scheduler.step(0).batches
        assert len(batch) == rows
        if rows > 3:
            assert scheduler.full(batch) is None
    (batch,) = scheduler.step(0).batches
    assert len(batch) == 3
    with pytest.raises(RuntimeError, match="no room"):
        scheduler.full(batch)
    scheduler.decoded(batch)
    assert len(rows_of(scheduler.step(0))) == 64


@given(
    prompt=st.lists(st.integers(0, 2), min_size=1, max_size=60),
    rule=st.lists(st.integers(0, 2), min_size=9, max_size=9),
    new=st.integers(1, 60),
    stop=st.integers(1, 70),
)
@settings(max_examples=200, deadline=None)
def test_guesses_change_nothing_but_the_steps(prompt: list[int], rule: list[int], new: int, stop: int) -> None:
    """Whatever is guessed, the answer is the one without guesses, and the cache holds it and nothing else."""

    def after(tokens: list[int]) -> int:
        return rule[tokens[-1] * 3 + (tokens[-2] if len(tokens) > 1 else 0)]

    def answer(*, guesses: bool) -> tuple[list[int], int]:
        scheduler, cache, tokens = Scheduler(Limits(1, 200, 16, 16, 1)), Cache(), list(prompt)
        scheduler.submit(Job(1, tuple(prompt), new, 0, guesses=guesses))
        steps = 0
        while scheduler.running or scheduler.waiting:
            step = scheduler.step(0)
            cache.do(step)
            steps += 1
            for batch in step.batches:
                scheduler.decoded(batch)
                for row in batch:
                    assert cache.held[0][: row.position + 1] == tokens[: row.position + 1]
                    if row.wanted:
                        tokens.append(after(tokens))
                        if not scheduler.sampled(1, tokens[-1], last=len(tokens) - len(prompt) == stop):
                            break
        cache.do(scheduler.step(0))
        assert cache.held[0] == tokens[: len(cache.held[0])]
        return tokens, steps

    plain, steps = answer(guesses=False)
    guessed, fewer = answer(guesses=True)
    assert guessed == plain
    assert fewer <= steps


def test_guesses_that_come_true_save_steps() -> None:
    """An answer that repeats its prompt takes a fraction of the steps."""
    scheduler, text = Scheduler(Limits(1, 500, 64, 64, 1)), list(range(40))
    scheduler.submit(Job(1, (*text, *text[:5]), 30, 0, guesses=True))
    said, steps = 5, 0
    while scheduler.running or scheduler.waiting:
        steps += 1
        for batch in scheduler.step(0).batches:
            scheduler.decoded(batch)
            for _ in (row for row in batch if row.wanted):
                said += 1
                if not scheduler.sampled(1, text[(said - 1) % 40], last=False):
                    break
    assert steps < 10


def test_a_model_that_cannot_rewind_shares_nothing_but_goes_on() -> None:
    """A recurrent state has no beginning to share; a conversation continues in its own sequence."""
    scheduler, cache = Scheduler(Limits(2, 1_000, 512, 512, 8, rewinds=False)), Cache()
    scheduler.submit(Job(1, tuple(range(300)), 3, 0))
    run(scheduler, cache)
    scheduler.sampled(1, 9, last=True)
    scheduler.submit(Job(2, (*range(200), 7, 8), 3, 0))
    scheduler.submit(Job(3, (*range(300), 7, 8), 3, 0))
    step = run(scheduler, cache)
    assert not [operation for operation in step.operations if isinstance(operation, Copy)]
    assert (scheduler.cached(2), scheduler.cached(3)) == (0, 300)


def test_without_room_one_goes_back_and_none_is_lost() -> None:
    """Smaller batches first; then the youngest request is requeued with what it has, and goes on from there."""
    scheduler, cache = Scheduler(Limits(4, 1_000, 64, 64, 8)), Cache()
    for number in (1, 2):
        scheduler.submit(Job(number, (number,) * 20, 10, number))
    run(scheduler, cache)
    for number in (1, 2):
        scheduler.sampled(number, 50 + number, last=False)
    (batch,) = scheduler.step(0).batches
    assert scheduler.full(batch) == 2
    again = scheduler.step(0)
    assert [row.token for row in rows_of(again) if row.job == 2][-1] == 52
    assert {row.job for row in rows_of(again)} == {1, 2}

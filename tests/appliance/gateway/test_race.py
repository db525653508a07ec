"""The race of a trial with the other rungs: every order of every outcome, and nothing that nobody closes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from appliance.gateway.call import Answer, Chunk
from appliance.gateway.outcome import Passed, Refused
from appliance.gateway.race import LEFT_MOST, Race


class Stream:
    """A stream that knows whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        yield Chunk(b"{}", {})


class Side:
    """One side of a race: it ends as it is told, when it is told."""

    def __init__(self, name: str, outcome: str, kind: str = "model") -> None:
        self.name, self.outcome, self.kind = name, outcome, kind
        self.go, self.stream, self.ended, self.gave = asyncio.Event(), Stream(), False, False

    async def run(self) -> Answer:
        try:
            await self.go.wait()
        finally:
            self.ended = True
        if self.outcome == "passed":
            raise Passed(self.name)
        if self.outcome == "refused":
            raise Refused(400, "", self.name)
        self.gave = True
        return Answer(self.name, self.kind, self.name, chunks=self.stream)


async def _steps() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def _raced(trial: Side, rest: Side, order: tuple[Side, ...]) -> tuple[str, Race]:
    race = Race()
    racing = asyncio.create_task(race.first(trial.run(), rest.run()))
    for side in order:
        await _steps()
        side.go.set()
    await _steps()
    try:
        answer, tried = await asyncio.wait_for(racing, 30)
    except (Passed, Refused) as error:
        return f"{type(error).__name__} {error}", race
    assert tried == (answer.rung == "trial")
    assert not (trial if tried else rest).stream.closed
    return answer.rung, race


@pytest.mark.parametrize(
    ("trial", "rest", "first", "end"),
    [
        ("answer", "answer", "trial", "trial"),
        ("answer", "answer", "rest", "rest"),
        ("answer", "passed", "trial", "trial"),
        ("answer", "passed", "rest", "trial"),
        ("passed", "answer", "trial", "rest"),
        ("passed", "answer", "rest", "rest"),
        ("passed", "passed", "trial", "Passed trial"),
        ("passed", "passed", "rest", "Passed trial"),
        ("refused", "answer", "trial", "Refused trial"),
        ("refused", "answer", "rest", "rest"),
        ("refused", "passed", "rest", "Refused trial"),
        ("answer", "refused", "rest", "Refused rest"),
        ("answer", "refused", "trial", "trial"),
        ("passed", "refused", "trial", "Refused rest"),
    ],
)
def test_the_first_answer_serves(trial: str, rest: str, first: str, end: str) -> None:
    """And the other side is ended, or goes on alone and is closed when it is there."""

    async def run() -> None:
        sides = {"trial": Side("trial", trial), "rest": Side("rest", rest)}
        order = (sides[first], *(side for name, side in sides.items() if name != first))
        found, race = await _raced(sides["trial"], sides["rest"], order)
        await _steps()
        await race.close()
        await _steps()
        assert found == end
        for name, side in sides.items():
            assert side.ended, f"{name} goes on"
            assert side.stream.closed == (side.gave and name != end), name

    asyncio.run(run())


def test_a_loser_that_answers_late_is_closed() -> None:
    """A trial goes on after its request was served, and what it brings is let go."""

    async def run() -> None:
        race, trial, rest = Race(), Side("trial", "answer"), Side("rest", "answer")
        rest.go.set()
        answer, tried = await race.first(trial.run(), rest.run())
        assert (answer.rung, tried, trial.ended) == ("rest", False, False)
        trial.go.set()
        await _steps()
        assert trial.stream.closed
        assert not rest.stream.closed

    asyncio.run(run())


@pytest.mark.parametrize("ready", [(), ("trial",), ("rest",), ("trial", "rest")])
def test_a_caller_that_leaves_ends_both(ready: tuple[str, ...]) -> None:
    """Whatever was there already is closed."""

    async def run() -> None:
        race, sides = Race(), {"trial": Side("trial", "answer"), "rest": Side("rest", "answer")}
        racing = asyncio.create_task(race.first(sides["trial"].run(), sides["rest"].run()))
        await _steps()
        for name in ready:
            sides[name].go.set()
        racing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await racing
        await race.close()
        await _steps()
        for name, side in sides.items():
            assert side.ended
            assert side.stream.closed == side.gave, name

    asyncio.run(run())


def test_a_caller_that_leaves_while_the_loser_ends_loses_no_stream() -> None:
    """The answer that is there already is closed."""

    async def run() -> None:
        race, trial, ending = Race(), Side("trial", "answer"), asyncio.Event()

        async def stubborn() -> Answer:
            try:
                return await asyncio.Future()
            finally:
                ending.set()
                await asyncio.Future()

        racing = asyncio.create_task(race.first(trial.run(), stubborn()))
        await _steps()
        trial.go.set()
        await ending.wait()
        racing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await racing
        assert trial.stream.closed

    asyncio.run(run())


def test_attempts_that_lost_are_bounded() -> None:
    """A slow provider beside a fast model would else have one for each request; the newest go on."""

    async def run() -> None:
        race, lost = Race(), [Side("trial", "answer") for _ in range(LEFT_MOST + 2)]
        for trial in lost:
            rest = Side("rest", "answer")
            rest.go.set()
            await race.first(trial.run(), rest.run())
        await _steps()
        assert [trial.ended for trial in lost] == [True, True, *[False] * LEFT_MOST]
        await race.close()

    asyncio.run(run())


def test_a_race_that_ends_leaves_no_trial() -> None:
    """`close` ends what goes on."""

    async def run() -> None:
        race, trial, rest = Race(), Side("trial", "answer"), Side("rest", "answer")
        rest.go.set()
        await race.first(trial.run(), rest.run())
        await race.close()
        assert trial.ended

    asyncio.run(run())


@pytest.mark.parametrize(
    ("attempt", "rest", "early", "end"),
    [
        ("answer", "answer", True, "trial"),
        ("passed", "answer", True, "Passed trial"),
        ("refused", "answer", True, "Refused trial"),
        ("answer", "passed", False, "trial"),
        ("passed", "answer", False, "rest"),
        ("passed", "passed", False, "Passed trial"),
        ("answer", "answer", False, "rest"),
    ],
)
def test_others_join_what_takes_long(attempt: str, rest: str, *, early: bool, end: str) -> None:
    """Whoever answers before the time is alone; after it the first answer serves, and nobody is left open."""

    async def run() -> None:
        race, one, other = Race(), Side("trial", attempt), Side("rest", rest)
        joined = list[bool]()

        def others() -> Any:
            joined.append(True)
            return other.run()

        racing = asyncio.create_task(race.late(one.run(), 60.0 if early else 0.0, others))
        await _steps()
        for side in (one,) if early else (other, one):
            side.go.set()
            await _steps()
        try:
            found = (await racing)[0].rung
        except (Passed, Refused) as error:
            found = f"{type(error).__name__} {error}"
        await _steps()
        await race.close()
        await _steps()
        assert found == end
        assert joined == ([] if early else [True])
        for name, side in {"trial": one, "rest": other}.items():
            assert side.stream.closed == (side.gave and name != end), name

    asyncio.run(run())

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from appliance.gateway.call import CHAT, Call
from appliance.gateway.outcome import Failed, Kind
from appliance.gateway.replay import PATIENCE_S, Replays


class Mortal:
    """An engine that a poisoned request kills together with all others that are inside."""

    def __init__(self, *, comes_back: bool = True) -> None:
        self.generation, self.state, self.deaths, self.waits = 1, "ready", 0, list[float]()
        self._comes_back = comes_back
        self._inside: list[asyncio.Future[None]] = []

    async def back(self, after: int, limit_s: float) -> bool:
        self.waits.append(limit_s)
        await asyncio.sleep(0)
        return self._comes_back and self.generation > after

    async def answer(self, words: str) -> str:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._inside.append(mine)
        for _ in range(3):
            await asyncio.sleep(0)
        if words == "poison":
            self.deaths += 1
            self.generation += 1
            for other in self._inside:
                other.cancel()
        if mine.cancelled():
            raise Failed(Kind.CUT)
        self._inside.remove(mine)
        return words.upper()


def call(model: str = "smol", left_s: float = 30.0) -> Call:
    return Call(
        CHAT, {}, "", stream=False, model=model, needs=frozenset(), ignorable=(), deadline_s=time.monotonic() + left_s
    )


def asked(engine: Mortal, *words: str) -> list[Any]:
    replays = Replays(engine)

    def attempt(text: str) -> Callable[[], Awaitable[str]]:
        return lambda: engine.answer(text)

    async def run() -> list[Any]:
        asking = [replays.ask(call(), attempt(text)) for text in words]
        return await asyncio.gather(*asking, return_exceptions=True)

    return asyncio.run(run())


def test_one_poisoned_request_dies_alone() -> None:
    """All the others get their own answer; it kills the engine three times and no more."""
    engine = Mortal()
    *others, poison = asked(engine, "one", "two", "three", "four", "poison")
    assert others == ["ONE", "TWO", "THREE", "FOUR"]
    assert isinstance(poison, Failed)
    assert "three times" in poison.detail
    assert engine.deaths == 3


def test_two_poisoned_requests_die_one_after_the_other() -> None:
    """Who waits in the line of suspects survives the deaths of those before."""
    engine = Mortal()
    found = asked(engine, "poison", "one", "poison", "two")
    assert [found[1], found[3]] == ["ONE", "TWO"]
    assert isinstance(found[0], Failed)
    assert isinstance(found[2], Failed)


def test_an_engine_that_stays_away_gives_the_first_failure() -> None:
    """No further try, and the reason is what was seen."""
    engine = Mortal(comes_back=False)
    (failure,) = asked(engine, "poison")
    assert isinstance(failure, Failed)
    assert failure.kind is Kind.CUT
    assert engine.deaths == 1


@pytest.mark.parametrize("kind", [Kind.STATUS, Kind.SILENT, Kind.EMPTY, Kind.IN_BAND, Kind.NOT_JSON, Kind.TOO_LONG])
def test_what_an_engine_answers_is_no_death(kind: Kind) -> None:
    """Nor is a limit of time: asked once."""
    tries = 0

    async def attempt() -> str:
        nonlocal tries
        tries += 1
        raise Failed(kind)

    with pytest.raises(Failed):
        asyncio.run(Replays(Mortal()).ask(call(), attempt))
    assert tries == 1


@pytest.mark.parametrize(("model", "left_s", "most_s"), [("auto", 30, PATIENCE_S), ("smol", 30, 30), ("auto", 3, 3)])
def test_auto_waits_less_than_who_named_the_model(model: str, left_s: float, most_s: float) -> None:
    """The ladder has other rungs; nobody waits past the deadline."""
    engine = Mortal(comes_back=False)
    with pytest.raises(Failed):
        asyncio.run(Replays(engine).ask(call(model, left_s), lambda: engine.answer("poison")))
    assert most_s - 1 < engine.waits[0] <= most_s


class Slow(Mortal):
    """An engine that takes a while to come back, on a clock of its own."""

    def __init__(self, clock: list[float], loads_s: float) -> None:
        super().__init__()
        self._clock, self._loads_s = clock, loads_s

    async def back(self, after: int, limit_s: float) -> bool:
        self.waits.append(limit_s)
        await asyncio.sleep(0)
        self._clock[0] += min(limit_s, self._loads_s)
        return limit_s >= self._loads_s


@pytest.mark.parametrize(
    ("model", "left_s", "waits", "deaths"),
    [("auto", 100, [10, 6, 2], 3), ("auto", 7, [7, 3], 2), ("smol", 100, [100, 96, 92], 3), ("smol", 9, [9, 5, 1], 3)],
)
def test_all_waits_together_have_one_limit(
    monkeypatch: pytest.MonkeyPatch, model: str, left_s: float, waits: list[float], deaths: int
) -> None:
    """Each wait leaves less for the next: of the patience with `auto`, and of the deadline always."""
    clock = [1000.0]
    monkeypatch.setattr("appliance.gateway.replay.time.monotonic", lambda: clock[0])
    engine = Slow(clock, 4)
    with pytest.raises(Failed):
        asyncio.run(Replays(engine).ask(call(model, left_s), lambda: engine.answer("poison")))
    assert engine.waits == waits
    assert engine.deaths == deaths


def test_rungs_share_what_a_call_may_spend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds and three deaths on three engines and on a copy of the call, not on each."""
    clock = [1000.0]
    monkeypatch.setattr("appliance.gateway.replay.time.monotonic", lambda: clock[0])
    engines = [Slow(clock, 6) for _ in range(3)]
    asking = call("auto", 100)

    async def ask(engine: Mortal) -> None:
        with pytest.raises(Failed):
            await Replays(engine).ask(replace(asking, public_messages=1), lambda: engine.answer("poison"))

    for engine in engines:
        asyncio.run(ask(engine))
    assert [engine.waits for engine in engines] == [[10, 4], [0], []]
    assert [engine.deaths for engine in engines] == [2, 1, 0]
    assert clock[0] == 1010


@pytest.mark.parametrize(
    ("generation", "state", "waits"), [(1, "loading", 1), (0, "loading", 0), (1, "ready", 0), (1, "failed", 0)]
)
def test_an_engine_is_waited_for_only_while_it_comes_back(generation: int, state: str, waits: int) -> None:
    """Not at its first start, and not where it rests after many ends."""
    engine = Mortal()
    engine.generation, engine.state = generation, state
    asyncio.run(Replays(engine).revive(call()))
    assert len(engine.waits) == waits

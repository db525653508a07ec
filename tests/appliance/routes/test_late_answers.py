"""Answers in one piece that do not come: a caller who wants no stream waits no longer than one who does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from appliance.gateway.breaker import CLOSED
from appliance.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.appliance.routes.conftest import World, Worlds


def _until(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it never came")


@pytest.fixture
def first_token_ms() -> int:
    """These are tests of a silence."""
    return 1_000


@pytest.fixture
def world(worlds: Worlds) -> World:
    """The first token of a stream may take 1 s there, and an answer in one piece 3 s."""
    return worlds.make(settings=Settings(probe_s=0))


def test_nobody_waits_out_a_silent_provider(world: World) -> None:
    """The box answers beside it, and the provider's silence is learned all the same."""
    world.cloud.behaviour = "silent"
    reply = world.chat()
    assert reply.headers["X-Lifeboat-Rung"] == "small"
    assert reply.json()["lifeboat"]["reason"] == ["alpha: it takes longer than this answer"]
    assert (world.breaker().state, world.breaker().streak) == (CLOSED, 0), "it has time to answer"
    _until(lambda: world.breaker().streak > 0)
    assert len(world.cloud.asked) == 1


def test_who_is_late_and_first_serves(world: World) -> None:
    """A long answer is an answer: the other rung is let go, and nothing is said of it."""
    world.cloud.behaviour, world.engine.behaviour = "very late", "silent"
    reply = world.chat()
    assert reply.headers["X-Lifeboat-Rung"] == "alpha"
    assert (reply.headers["X-Lifeboat-Mode"], reply.json()["lifeboat"]["reason"]) == ("NORMAL", [])
    assert world.engine.gone.wait(30)
    _until(lambda: bool(world.answering.health.timed("alpha", 0, lambda pace: pace).whole_s))


def test_both_may_fail(world: World) -> None:
    """Then the rungs after them are asked, and no rung twice."""
    world.cloud.behaviour, world.engine.behaviour = "silent", "500"
    reply = world.chat("why?")
    assert reply.headers["X-Lifeboat-Rung"] == "message"
    reasons = reply.json()["lifeboat"]["reason"]
    assert reasons[0].startswith("alpha: no answer within")
    assert reasons[1:2] == ["small: it answered 500"]
    assert (len(world.cloud.asked), len(world.engine.asked)) == (1, 1)


def test_words_of_regret_are_asked_of_nobody_meanwhile(worlds: Worlds) -> None:
    """Where no model is there, the provider has its time: no ticket is written beside its answer."""
    world = worlds.make(settings=Settings(probe_s=0), chat=("alpha", "message"))
    world.cloud.behaviour = "very late"
    assert world.chat("why?").headers["X-Lifeboat-Rung"] == "alpha"


def test_a_stream_has_no_need_of_it(world: World) -> None:
    """Its first token tells."""
    world.cloud.behaviour = "silent"
    headers, events = world.events()
    assert (headers["X-Lifeboat-Rung"], events[-1]) == ("small", "[DONE]")
    assert world.breaker().streak > 0

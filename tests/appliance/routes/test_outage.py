"""An outage on a real wire: who is asked while it lasts, and that nobody waits for the trials at its end."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.gateway.breaker import CLOSED, HALF_OPEN, OPEN
from appliance.settings import Settings
from bundler.format.service import RouteSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.appliance.routes.conftest import FakeBox, World, Worlds

SHORT = Settings(open_s=0.3, open_longest_s=0.3, probe_s=0)


def _until(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it never came")


def _opened(world: World, fault: str = "503") -> None:
    world.cloud.behaviour = fault
    while world.breaker().state == CLOSED:
        assert world.chat().headers["X-Lifeboat-Rung"] == "small"


def _lapsed(world: World) -> None:
    _until(lambda: world.breaker().until_s <= time.monotonic())


@pytest.mark.parametrize("first_token_ms", [1_000])
def test_the_log_tells_when_a_provider_was_away(worlds: Worlds, caplog: pytest.LogCaptureFixture) -> None:
    """Once when it is left alone and once when it serves again, with the reason in our words."""
    world = worlds.make(settings=replace(SHORT, probe_s=0.05, look_s=0.3))
    with caplog.at_level(logging.WARNING, "lifeboat.gateway"):
        _opened(world)
        _until(lambda: "provider alpha is left alone: it answered 503" in caplog.text)
        world.cloud.behaviour = "ok"
        _until(lambda: bool(world.chat()) and "provider alpha serves again" in caplog.text)
    assert (caplog.text.count("is left alone"), caplog.text.count("serves again")) == (1, 1)


def test_a_route_has_the_mode_of_its_own_providers(worlds: Worlds) -> None:
    """Another provider in place of the route's first one is DEGRADED, and the last words of a route are LOCAL."""

    def routes(box: FakeBox) -> None:
        desk, words = RouteSpec("desk", ("beta", "alpha")), RouteSpec("words", ("beta", "message"))
        box.service = replace(box.service, routes=(desk, words))

    world = worlds.make(("alpha", "beta"), settings=SHORT, change=routes)
    world.clouds[1].behaviour = "503"
    modes = [world.chat(model=model).headers["X-Lifeboat-Mode"] for model in ("desk", "words", "auto")]
    assert modes == ["DEGRADED", "LOCAL", "NORMAL"]
    assert world.chat(model="desk").json()["lifeboat"]["banner"]


@pytest.mark.parametrize("first_token_ms", [1_000])
@pytest.mark.parametrize("stream", [False, True])
def test_nobody_waits_for_a_trial(worlds: Worlds, *, stream: bool) -> None:
    """The provider is silent when it is tried again: the local model's answer is there long before."""
    world = worlds.make(settings=SHORT)
    _opened(world)
    _lapsed(world)
    world.cloud.behaviour = "silent"
    asked = len(world.cloud.asked)
    if stream:
        headers, events = world.events()
        assert (headers["X-Lifeboat-Rung"], events[-1]) == ("small", "[DONE]")
    else:
        reply = world.chat()
        assert reply.headers["X-Lifeboat-Rung"] == "small"
        assert reply.json()["lifeboat"]["reason"] == ["alpha: it is being tried again beside this answer"]
    assert world.breaker().trial, "the trial goes on after its request was served"
    assert world.chat().headers["X-Lifeboat-Rung"] == "small"
    assert len(world.cloud.asked) == asked + 1, "one trial at a time"
    _until(lambda: world.breaker().state == OPEN)


@pytest.mark.parametrize("stream", [False, True])
def test_two_good_trials_bring_it_back(worlds: Worlds, *, stream: bool) -> None:
    """Whoever wins the race, the trial's own outcome counts."""
    world = worlds.make(settings=SHORT)
    _opened(world)
    world.cloud.behaviour = "ok"
    _lapsed(world)
    world.events() if stream else world.chat()
    _until(lambda: world.breaker().good == 1)
    world.events() if stream else world.chat()
    _until(lambda: world.breaker().state == CLOSED)
    assert world.chat().headers["X-Lifeboat-Rung"] == "alpha"


def test_a_trial_that_is_first_serves(worlds: Worlds) -> None:
    """The engine is slow, the provider is back: its answer is the caller's, and the engine is let go."""
    world = worlds.make(settings=SHORT)
    _opened(world)
    _lapsed(world)
    world.cloud.behaviour, world.engine.behaviour = "late", "silent"
    reply = world.chat()
    assert reply.headers["X-Lifeboat-Rung"] == "alpha"
    assert (reply.headers["X-Lifeboat-Mode"], reply.json()["lifeboat"]["reason"]) == ("NORMAL", [])
    assert world.engine.gone.wait(30)


def test_a_trial_and_the_box_may_both_fail(worlds: Worlds) -> None:
    """Then the message comes, with both reasons."""
    world = worlds.make(settings=SHORT)
    _opened(world)
    _lapsed(world)
    world.cloud.behaviour, world.engine.behaviour = "500", "500"
    reply = world.chat("why?")
    assert reply.headers["X-Lifeboat-Rung"] == "message"
    assert reply.json()["lifeboat"]["reason"][:2] == ["alpha: it answered 500", "small: it answered 500"]


def test_regret_waits_a_moment_for_the_trial(worlds: Worlds) -> None:
    """Words of regret are no answer where the provider has a better one."""
    world = worlds.make(settings=SHORT, change=_loading)
    world.cloud.behaviour = "503"
    while world.breaker().state == CLOSED:
        assert world.chat("why?").headers["X-Lifeboat-Rung"] == "message"
    world.cloud.behaviour = "ok"
    _lapsed(world)
    assert world.chat("why?").headers["X-Lifeboat-Rung"] == "alpha"


def test_a_refusal_on_trial_reaches_the_caller(worlds: Worlds) -> None:
    """It says nothing about the provider, and gives the permit back."""
    world = worlds.make(settings=SHORT)
    _opened(world)
    _lapsed(world)
    world.cloud.behaviour, world.engine.behaviour = "400", "silent"
    assert world.chat().status_code == 400
    assert (world.breaker().state, world.breaker().trial) == (HALF_OPEN, False)


def test_a_caller_that_leaves_a_trial_takes_no_permit_along(worlds: Worlds) -> None:
    """Both attempts end, and the next request tries."""
    world = worlds.make(settings=SHORT)
    _opened(world)
    _lapsed(world)
    world.cloud.behaviour = world.engine.behaviour = "silent"
    before = len(world.cloud.asked), len(world.engine.asked)

    def both_asked() -> bool:
        return len(world.cloud.asked) > before[0] and len(world.engine.asked) > before[1]

    async def leave() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", int(world.url.rsplit(":", 1)[1]))
        body = b'{"messages": [{"role": "user", "content": "x"}]}'
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {world.token}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        await asyncio.to_thread(_until, both_asked)
        writer.close()

    asyncio.run(leave())
    assert world.cloud.gone.wait(30)
    assert world.engine.gone.wait(30)
    _until(lambda: not world.breaker().trial)
    assert world.breaker().state == HALF_OPEN


def test_a_short_throttle_is_waited_for(worlds: Worlds) -> None:
    """A second is shorter than any other rung's loss; the answer is the provider's own."""
    world = worlds.make(settings=SHORT)
    world.cloud.behaviour = "throttled once"
    reply = world.chat()
    assert (reply.headers["X-Lifeboat-Rung"], reply.json()["lifeboat"]["reason"]) == ("alpha", [])
    assert len(world.cloud.asked) == 2


def test_a_long_throttle_is_left_alone_and_is_no_failure(worlds: Worlds) -> None:
    """Nobody asks for as long as it said, and the breaker stays closed."""
    world = worlds.make(settings=SHORT)
    world.cloud.behaviour = "429"
    assert world.chat().headers["X-Lifeboat-Rung"] == "small"
    world.cloud.behaviour = "ok"
    reply = world.chat()
    assert reply.json()["lifeboat"]["reason"][0].startswith("alpha: it is throttled (429); asked again in ")
    assert (len(world.cloud.asked), world.breaker().state) == (1, CLOSED)


def test_a_request_asks_providers_three_times_in_all(worlds: Worlds) -> None:
    """Each twice would be four: the third attempt is the last."""
    world = worlds.make(("alpha", "beta"), settings=SHORT)
    for cloud in world.clouds:
        cloud.behaviour = "503"
    assert world.chat().headers["X-Lifeboat-Rung"] == "small"
    assert [len(cloud.asked) for cloud in world.clouds] == [2, 1]


def _loading(box: FakeBox) -> None:
    box.engines["small"].state = "loading"


def test_a_failing_provider_is_failing_in_ready(worlds: Worlds) -> None:
    """With the reason, until it answered again."""
    world = worlds.make(settings=SHORT)

    def told() -> dict[str, Any]:
        found: list[dict[str, Any]] = world.http.get("/health/ready").json()["rungs"]
        return found[0]

    assert (told()["state"], told()["reason"]) == ("ready", "")
    _opened(world)
    assert told()["state"] == "failing"
    assert told()["reason"].startswith("it answered 503; asked again ")
    world.cloud.behaviour = "ok"
    _lapsed(world)
    _until(lambda: world.chat().headers["X-Lifeboat-Rung"] == "alpha" and world.breaker().state == CLOSED)
    assert told()["state"] == "ready"

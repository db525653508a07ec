"""Probes, restarts, pins and the feed on a real wire."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from appliance.gateway import kept_file, pin_file
from appliance.gateway.breaker import CLOSED, HALF_OPEN, OPEN
from appliance.gateway.pin import Pin
from appliance.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.appliance.routes.conftest import World, Worlds

MODELS = '{"data": []}'


def _settings(**changes: Any) -> Settings:
    return Settings(open_s=60, open_longest_s=60, probe_s=0.1, keepalive_s=0.2, look_s=1.0, **changes)


def _until(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it never came")


def _opened(world: World, fault: str = "503") -> None:
    world.cloud.behaviour = fault
    for _ in range(3):
        if world.breaker().state == CLOSED:
            world.chat()
    assert world.breaker().state == OPEN


def _billed(world: World) -> int:
    return sum(asked.get("max_tokens") == 16 for asked in world.cloud.asked)


def _unbilled(world: World) -> int:
    return sum("elsewhere" in asked for asked in world.cloud.asked)


def test_a_good_probe_ends_the_open_time(worlds: Worlds) -> None:
    """The provider is back a moment after it is, long before its open time is over; one billed probe says so."""
    world = worlds.make(settings=_settings())
    _opened(world)
    before = _unbilled(world)
    _until(lambda: _unbilled(world) > before)
    assert (_billed(world), world.breaker().state) == (0, OPEN)
    world.cloud.page, world.cloud.behaviour = MODELS, "ok"
    _until(lambda: world.breaker().state == HALF_OPEN)
    world.chat()
    _until(lambda: world.breaker().state == CLOSED)
    assert world.chat().headers["X-Lifeboat-Rung"] == "alpha"
    assert _billed(world) == 1
    page = world.http.get("/metrics").text
    assert 'lifeboat_probes_total{kind="billed",outcome="good",upstream="alpha"} 1.0' in page
    assert 'lifeboat_upstream_breaker{state="closed",upstream="alpha"} 1.0' in page


def test_a_provider_whose_front_is_up_gets_one_billed_probe(worlds: Worlds) -> None:
    """Its list of models comes, its answers do not: at most one a minute is paid for."""
    world = worlds.make(settings=_settings())
    world.cloud.page = MODELS
    _opened(world)
    _until(lambda: _billed(world) == 1)
    before = _unbilled(world)
    _until(lambda: _unbilled(world) >= before + 3)
    assert (_billed(world), world.breaker().state) == (1, OPEN)
    assert world.chat().headers["X-Lifeboat-Rung"] == "small"


def test_no_billed_probe_without_leave(worlds: Worlds) -> None:
    """A day without one is a setting."""
    world = worlds.make(settings=_settings(probes_daily=0))
    world.cloud.page = MODELS
    _opened(world)
    _until(lambda: _unbilled(world) >= 3)
    assert _billed(world) == 0


def test_one_failure_and_a_dead_line_are_enough(worlds: Worlds) -> None:
    """The probe of a doubt counts, so that the next caller does not pay."""
    world = worlds.make(settings=_settings())
    world.cloud.stop()
    world.chat()
    _until(lambda: world.breaker().state == OPEN)


def test_a_restart_remembers(worlds: Worlds, tmp_path: Path) -> None:
    """The new process does not ask the provider that the old one left alone; no key is in the file."""
    path, secret = tmp_path / "gateway.json", b"s" * 32
    shared = Settings(open_s=60, open_longest_s=60, probe_s=0, kept=path, secret=secret, keys={"alpha": "sk-123"})
    world = worlds.make(settings=shared)
    _opened(world)
    _until(lambda: bool(kept_file.read(path).upstreams))
    assert b"sk-123" not in path.read_bytes()
    again = worlds.make(settings=shared)
    reply = again.chat()
    assert reply.headers["X-Lifeboat-Rung"] == "small"
    assert reply.json()["lifeboat"]["reason"][0].startswith("alpha: it answered 503; asked again in ")
    assert again.cloud.asked == []
    other = worlds.make(settings=replace(shared, keys={"alpha": "sk-456"}))
    assert other.chat().headers["X-Lifeboat-Rung"] == "alpha", "a new key is a new start"


@pytest.mark.parametrize("target", ["local", "beta"])
def test_a_pin_shows_everywhere(worlds: Worlds, tmp_path: Path, target: str) -> None:
    """Within a second and without a restart: who serves, headers, body, ready, status, metrics."""
    path = tmp_path / "pin.json"
    world = worlds.make(("alpha", "beta"), settings=_settings(pin=path))
    assert world.chat().headers["X-Lifeboat-Rung"] == "alpha"
    pin_file.write(path, Pin(target, int(time.time()), 600))
    _until(lambda: world.chat().headers["X-Lifeboat-Rung"] != "alpha")
    reply = world.chat()
    assert reply.headers["X-Lifeboat-Rung"] == ("small" if target == "local" else "beta")
    assert reply.headers["X-Lifeboat-Mode"] == ("LOCAL" if target == "local" else "DEGRADED")
    words = reply.headers["X-Lifeboat-Pinned"]
    assert words.startswith(f"{target} until 20")
    assert reply.json()["lifeboat"]["pinned"] == words
    assert reply.json()["lifeboat"]["reason"][0] == f"alpha: the box is pinned to {words}"
    ready = world.http.get("/health/ready").json()
    assert (ready["pinned"], ready["rungs"][0]["state"]) == (words, "pinned")
    assert httpx.get(f"{world.url}/status.json", trust_env=False).json()["pinned"] == words
    assert "lifeboat_pinned 1.0" in world.http.get("/metrics").text
    pin_file.write(path, Pin())
    _until(lambda: world.chat().headers["X-Lifeboat-Rung"] == "alpha")
    assert "X-Lifeboat-Pinned" not in world.chat().headers


def test_the_feed_tells_each_change(worlds: Worlds) -> None:
    """The first event at once, then one a change; comments between; never `id:` or `retry:`."""
    world = worlds.make(settings=_settings())
    lines: list[str] = []
    changed, kept = threading.Event(), threading.Event()

    def read() -> None:
        with suppress(httpx.HTTPError), world.http.stream("GET", "/v1/events") as reply:
            for line in reply.iter_lines():
                lines.append(line)
                if line.startswith(":"):
                    kept.set()
                if line.startswith("data: ") and json.loads(line[6:])["mode"] == "LOCAL":
                    changed.set()
                    return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert kept.wait(30)
    assert json.loads(lines[0].removeprefix("data: "))["mode"] == "NORMAL"
    _opened(world)
    assert changed.wait(30)
    reader.join(30)
    assert not [line for line in lines if line and not line.startswith(("data: ", ":"))]


def test_the_feed_wants_a_token_that_may_watch(world: World) -> None:
    """As `/metrics` does."""
    assert httpx.get(f"{world.url}/v1/events", trust_env=False).status_code == 401


def test_a_feed_ends_when_its_version_is_left(worlds: Worlds) -> None:
    """Who only looks holds no version open."""
    world = worlds.make(settings=_settings())
    with world.http.stream("GET", "/v1/events") as reply:
        lines = reply.iter_lines()
        assert next(lines).startswith("data: ")
        world.answering.leave()
        assert "data: " not in "".join(lines)


def test_a_feed_ends_with_its_token(worlds: Worlds) -> None:
    """Who may watch no more is told nothing more."""
    world = worlds.make(settings=_settings())
    text, token = world.tokens.create("watcher", now_s=1_000, scopes=("monitor",))
    with world.http.stream("GET", "/v1/events", headers={"Authorization": f"Bearer {text}"}) as reply:
        lines = reply.iter_lines()
        assert next(lines).startswith("data: ")
        world.tokens.revoke(token.id)
        assert "data: " not in "".join(lines)


def test_late_first_tokens_are_watched(worlds: Worlds) -> None:
    """The provider goes on serving; the mode says it, and the local model is kept warm meanwhile."""
    world = worlds.make(settings=_settings())
    for _ in range(20):
        world.events()
    world.cloud.behaviour = "late"
    for _ in range(5):
        headers, events = world.events()
        assert headers["X-Lifeboat-Rung"] == "alpha", events[-2]
    headers, _ = world.events()
    assert (headers["X-Lifeboat-Rung"], headers["X-Lifeboat-Mode"]) == ("alpha", "WATCH")
    _until(lambda: any(asked.get("max_tokens") == 1 for asked in world.engine.asked))
    assert world.http.get("/health/ready").json()["mode"] == "WATCH"
    assert 'lifeboat_upstream_slow{upstream="alpha"} 1.0' in world.http.get("/metrics").text
    assert world.breaker().state == CLOSED

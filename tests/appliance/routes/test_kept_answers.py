"""The answer cache through real clients: a provider goes away, and who asked before is answered, with the age."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anthropic
import httpx
import pytest
from openai import OpenAI

from appliance.answer.cached import AnswerCache, content_of
from appliance.records.cache import CacheFile, Room, Tally
from appliance.records.cipher import Cipher
from appliance.records.thread import RecordThread
from bundler.format.service import CONTINUE, HOLD, CacheSpec, OutputSpec, RouteSpec, RungSpec

if TYPE_CHECKING:
    from tests.appliance.routes.conftest import FakeBox, World, Worlds

WHOLE = "[alpha] one two three four"
AGE = "X-Lifeboat-Data-Age"


class Clock:
    """Unix seconds that a test moves."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


def cached(*rungs: str, fresh_s: int = 0, **more: Any) -> Callable[[FakeBox], None]:
    """Returns a change of the box: a route `desk` with a cache among its rungs."""

    def change(box: FakeBox) -> None:
        service, spec = box.service, CacheSpec(keep_s=3_600, fresh_s=fresh_s)
        ladder = replace(service.ladder, rungs=(*service.ladder.rungs, RungSpec("cache", "cache", "")))
        route = RouteSpec("desk", rungs or ("alpha", "cache", "message"), cache=spec, **more)
        box.service = replace(service, ladder=ladder, routes=(route,))

    return change


@pytest.fixture
def clock(worlds: Worlds, tmp_path: Path) -> Clock:
    """Gives the boxes of a test one file, and the clock of their caches."""
    clock, cipher = Clock(), Cipher(b"s" * 32, "cache")

    def make(box: FakeBox) -> AnswerCache:
        tally = Tally()
        thread = RecordThread(lambda: CacheFile(tmp_path / "cache.db", cipher, tally=tally), "cache")
        return AnswerCache(thread, tally, content_of(box), clock)

    worlds.cache = make
    return clock


def kept(world: World, count: int = 1) -> None:
    """Waits until as many answers are kept: nobody who asks waits for the disk."""
    assert world.answering.cache is not None
    end_s = time.monotonic() + 20
    while world.answering.cache.facts().kept < count:
        assert time.monotonic() < end_s, world.answering.cache.facts()
        time.sleep(0.01)


def away(world: World) -> None:
    """The provider goes away."""
    for cloud in world.clouds:
        cloud.behaviour = "503"


def looks(world: World) -> dict[str, int]:
    assert world.answering.cache is not None
    return {name: count for name, count in world.answering.cache.facts().looks.items() if count}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("then", [True, False])
def test_who_asked_before_is_answered_while_the_provider_is_away(
    worlds: Worlds, clock: Clock, *, first: bool, then: bool
) -> None:
    """Whole or streamed, before and after: the same text under a new id, with its age and where it is from."""
    world = worlds.make(change=cached())

    def ask(*, stream: bool) -> tuple[str, str, dict[str, Any], Any]:
        asked: Any = {"model": "desk", "messages": [{"role": "user", "content": "hello"}]}
        if not stream:
            raw = world.openai.chat.completions.with_raw_response.create(**asked)
            whole = raw.parse()
            return whole.choices[0].message.content, whole.id, whole.model_extra["lifeboat"], raw.headers
        raw = world.openai.chat.completions.with_raw_response.create(**asked, stream=True)
        chunks = list(raw.parse())
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        return text, chunks[0].id, chunks[-1].model_extra["lifeboat"], raw.headers

    text, _, told, headers = ask(stream=first)
    assert (text, "cached" in told, AGE in headers) == (WHOLE, False, False)
    kept(world)
    away(world)
    clock.ahead_s = 100
    text, name, told, headers = ask(stream=then)
    assert text == WHOLE
    assert name.startswith("lifeboat-")
    assert told["cached"] == {"age_s": int(headers[AGE]), "served_by": "alpha", "stale": True}
    assert 100 <= told["cached"]["age_s"] < 160
    assert (headers["X-Lifeboat-Mode"], headers["X-Lifeboat-Rung"]) == ("LOCAL", "cache")
    assert told["banner"] == "Degraded mode."
    assert told["reason"][0].startswith("alpha: ")
    assert looks(world) == {"stale": 1}


def test_a_replayed_stream_breaks_no_client(worlds: Worlds, clock: Clock) -> None:
    """Neither `id:` nor `retry:`, `[DONE]` at the end, and usage where it was asked for: nothing was spent."""
    world = worlds.make(change=cached())
    world.chat(model="desk")
    kept(world)
    away(world)
    body = {"model": "desk", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    body |= {"stream_options": {"include_usage": True}}
    with world.http.stream("POST", "/v1/chat/completions", json=body) as reply:
        lines = list(reply.iter_lines())
    assert {line.partition(":")[0] for line in lines if line} == {"data"}
    assert lines[-2] == "data: [DONE]"
    assert '"total_tokens":0' in lines[-4]


def test_another_tenant_gets_nothing(worlds: Worlds, clock: Clock) -> None:
    """Not in the answer, not in its time, and not by its age: there is none for it."""
    world = worlds.make(change=cached())
    world.chat(model="desk")
    kept(world)
    away(world)
    token, _ = world.tokens.create("other", now_s=1_000)
    other = OpenAI(base_url=f"{world.url}/v1", api_key=token, max_retries=0)
    with other:
        raw = other.chat.completions.with_raw_response.create(
            model="desk", messages=[{"role": "user", "content": "hello"}]
        )
    assert raw.headers["X-Lifeboat-Rung"] == "message"
    assert AGE not in raw.headers
    assert world.chat(model="desk").headers["X-Lifeboat-Rung"] == "cache"


def test_another_version_misses(worlds: Worlds, clock: Clock) -> None:
    """What was said of older prompts or knowledge is not said again; the same version after a restart finds its own."""
    world = worlds.make(change=cached())
    world.chat(model="desk")
    kept(world)
    urls = world.box.service.upstreams

    def later(version: int) -> Callable[[FakeBox], None]:
        def change(box: FakeBox) -> None:
            cached()(box)
            box.service = replace(box.service, upstreams=urls)
            box.version = version

        return change

    away(world)
    for version, rung in ((3, "cache"), (4, "message")):
        again = worlds.make(change=later(version))
        headers = {"Authorization": f"Bearer {world.token}"}
        with httpx.Client(base_url=again.url, headers=headers) as http:
            body = {"model": "desk", "messages": [{"role": "user", "content": "hello"}]}
            reply = http.post("/v1/chat/completions", json=body)
        assert reply.headers["X-Lifeboat-Rung"] == rung, reply.text


@pytest.mark.parametrize("stream", ["error", HOLD, CONTINUE])
@pytest.mark.parametrize("fault", ["cut", "end early", "stall", "no finish", "in-band late", "one bad chunk"])
def test_a_stream_that_was_not_whole_is_never_kept(worlds: Worlds, clock: Clock, fault: str, stream: str) -> None:
    """Cut, stalled, without an end, damaged or stitched, under every policy."""
    world = worlds.make(change=cached("alpha", "small", "cache", "message", stream=stream))
    world.cloud.behaviour = fault
    world.events(model="desk")
    world.cloud.behaviour = "ok"
    world.events("something else", model="desk")
    kept(world)
    away(world)
    world.box.engines["small"].state = "failed"
    headers, _ = world.events(model="desk")
    assert headers["X-Lifeboat-Rung"] == "message"
    headers, _ = world.events("something else", model="desk")
    assert headers["X-Lifeboat-Rung"] == "cache"


def test_what_the_client_did_not_wait_for_is_not_kept(worlds: Worlds, clock: Clock) -> None:
    """A client that leaves in mid-stream leaves nothing."""
    world = worlds.make(change=cached())
    world.cloud.behaviour = "stall"
    body = {"model": "desk", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    with world.http.stream("POST", "/v1/chat/completions", json=body) as reply:
        next(reply.iter_lines())
    assert world.cloud.gone.wait(20)
    away(world)
    assert world.chat(model="desk").headers["X-Lifeboat-Rung"] == "message"


@pytest.mark.parametrize(
    "options",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"n": 2},
        {"logprobs": True},
        {"store": False},
    ],
)
def test_what_may_not_be_kept_is_not(worlds: Worlds, clock: Clock, options: dict[str, Any]) -> None:
    """Tools, several answers, log probabilities, and whoever says no: the next rung answers, or none can."""
    world = worlds.make(change=cached())
    assert world.chat(model="desk", **options).status_code == 200
    world.chat("something else", model="desk")
    kept(world)
    away(world)
    reply = world.chat(model="desk", **options)
    assert reply.headers.get("X-Lifeboat-Rung") != "cache"
    assert world.answering.cache is not None
    assert world.answering.cache.facts().answers == 1


def test_a_caller_who_wants_nothing_old_gets_nothing_old(worlds: Worlds, clock: Clock) -> None:
    """`no-cache`, `no-store` and `max-age` of the request hold."""
    world = worlds.make(change=cached())
    body = {"model": "desk", "messages": [{"role": "user", "content": "hello"}]}

    def rung(caching: str) -> str:
        reply = world.http.post("/v1/chat/completions", json=body, headers={"Cache-Control": caching})
        return str(reply.headers["X-Lifeboat-Rung"])

    assert rung("no-store") == "alpha"
    away(world)
    assert rung("") == "message"
    world.cloud.behaviour = "ok"
    time.sleep(1)
    assert rung("no-cache") == "alpha"
    kept(world)
    away(world)
    clock.ahead_s = 100
    wishes = ("no-cache", "no-store", "max-age=50", "max-age=500", "")
    assert [rung(each) for each in wishes] == ["message", "message", "message", "cache", "cache"]


def test_a_fresh_answer_is_given_first_only_where_the_route_says_so(worlds: Worlds, clock: Clock) -> None:
    """Without `fresh` every question is asked anew; with it the provider is not asked again until it is stale."""
    world = worlds.make(change=cached())
    for _ in range(2):
        assert world.chat(model="desk").headers["X-Lifeboat-Rung"] == "alpha"
    fresh = worlds.make(("beta",), change=cached("beta", "cache", "message", fresh_s=60))
    assert fresh.chat(model="desk").headers["X-Lifeboat-Rung"] == "beta"
    kept(fresh)
    reply = fresh.chat(model="desk")
    assert (reply.headers["X-Lifeboat-Rung"], reply.headers["X-Lifeboat-Mode"]) == ("cache", "NORMAL")
    assert reply.json()["lifeboat"]["cached"] == {
        "age_s": int(reply.headers[AGE]),
        "served_by": "beta",
        "stale": False,
    }
    assert reply.json()["lifeboat"]["banner"] is None
    clock.ahead_s = 61
    assert fresh.chat(model="desk").headers["X-Lifeboat-Rung"] == "beta"
    assert len(fresh.cloud.asked) == 2
    assert looks(fresh) == {"hit": 1, "miss": 2}


def test_a_refusal_that_the_route_does_not_take_is_not_kept(worlds: Worlds, clock: Clock) -> None:
    """What failed softly is nobody's answer, now or later."""
    output = OutputSpec("", (), ("I cannot",), own_model=False)
    world = worlds.make(change=cached(output=output, stream=HOLD))
    world.cloud.says = "I cannot help with that."
    assert world.chat(model="desk").headers["X-Lifeboat-Rung"] == "message"
    world.cloud.says = ""
    away(world)
    assert world.chat(model="desk").headers["X-Lifeboat-Rung"] == "message"


def test_anthropics_client_gets_it_too(worlds: Worlds, clock: Clock) -> None:
    """Whole and streamed through `/v1/messages`, kept and given under the same rules."""
    world = worlds.make(change=cached())
    with anthropic.Anthropic(base_url=world.url, api_key=world.token, max_retries=0) as client:
        asked: Any = {"model": "desk", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
        client.messages.create(**asked)
        kept(world)
        away(world)
        raw = client.messages.with_raw_response.create(**asked)
        assert raw.parse().content[0].text == WHOLE
        assert int(raw.headers[AGE]) >= 0
        with client.messages.stream(**asked) as stream:
            assert "".join(stream.text_stream) == WHOLE
            assert stream.response.headers["X-Lifeboat-Rung"] == "cache"


def test_a_file_that_cannot_be_used_fails_no_request(worlds: Worlds, clock: Clock, tmp_path: Path) -> None:
    """It is told in readiness and metrics, the ladder goes on, and it works again once the cause is gone."""
    (tmp_path / "cache.db").mkdir()
    world = worlds.make(change=cached())
    assert world.chat(model="desk").headers["X-Lifeboat-Rung"] == "alpha"
    away(world)
    reply = world.chat(model="desk")
    assert reply.headers["X-Lifeboat-Rung"] == "message"
    assert "cache: the answer cache cannot be read: its file cannot be used" in str(reply.json()["lifeboat"]["reason"])
    states = {rung["rung"]: rung for rung in world.http.get("/health/ready").json()["rungs"]}
    assert (states["cache"]["state"], states["cache"]["reason"][:8]) == ("failing", "its file")
    (tmp_path / "cache.db").rmdir()
    world.cloud.behaviour = "ok"
    time.sleep(1)
    assert world.chat(model="desk").headers["X-Lifeboat-Rung"] == "alpha"
    kept(world)
    assert world.http.get("/health/ready").json()["cache"]["trouble"] == ""


def test_a_full_disk_fails_no_request(worlds: Worlds, clock: Clock, tmp_path: Path) -> None:
    """Answers are not kept any more, and that is told."""
    cipher = Cipher(b"s" * 32, "cache")

    def make(box: FakeBox) -> AnswerCache:
        tally = Tally()
        room = Room(file_bytes=8 * 4096)
        thread = RecordThread(lambda: CacheFile(tmp_path / "small.db", cipher, room, tally=tally), "cache")
        return AnswerCache(thread, tally, content_of(box), clock)

    worlds.cache = make
    world = worlds.make(change=cached())
    world.cloud.says = "x" * 40_000
    assert world.chat(model="desk").headers["X-Lifeboat-Rung"] == "alpha"
    end_s = time.monotonic() + 20
    while not (found := world.http.get("/health/ready").json()["cache"])["trouble"]:
        assert time.monotonic() < end_s
    assert (found["trouble"][:16], found["kept"]) == ("the disk is full", 0)


def test_metrics_count_what_happened(worlds: Worlds, clock: Clock) -> None:
    """Hits, stale ones and misses; what is kept and how much it takes."""
    world = worlds.make(change=cached())
    world.chat(model="desk")
    kept(world)
    away(world)
    world.chat(model="desk")
    world.chat("never asked", model="desk")
    page = world.http.get("/metrics").text
    assert 'lifeboat_cache_looks_total{result="stale"} 1.0' in page
    assert 'lifeboat_cache_looks_total{result="miss"} 1.0' in page
    assert "lifeboat_cache_kept_total 1.0" in page
    assert "lifeboat_cache_answers 1.0" in page
    assert "lifeboat_cache_fault 0.0" in page
    assert world.http.get("/metrics").text.count('result="stale"} 1.0') == 1


def test_nothing_of_it_is_readable_on_the_disk(worlds: Worlds, clock: Clock, tmp_path: Path) -> None:
    """Neither the question nor the answer, while it is served and after."""
    world = worlds.make(change=cached())
    world.chat("the printer of Mr. Okonkwo", model="desk")
    kept(world)
    raw = b"".join(path.read_bytes() for path in tmp_path.glob("cache.db*"))
    assert len(raw) > 4_096
    assert b"Okonkwo" not in raw
    assert b"one two three" not in raw

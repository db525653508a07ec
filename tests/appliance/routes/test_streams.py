"""Streams: failover before the commit is free, and after it a cut is an error, never a silent truncation."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest

from appliance.settings import Settings

if TYPE_CHECKING:
    from tests.appliance.routes.conftest import FakeBox, World, Worlds


def _text(events: list[str]) -> str:
    chunks = [json.loads(event) for event in events if event != "[DONE]"]
    deltas = [choice.get("delta", {}) for chunk in chunks for choice in chunk.get("choices", [])]
    return "".join(delta.get("content") or "" for delta in deltas)


def _stream(world: World, text: str = "hello", **options: Any) -> tuple[str, dict[str, Any], Any]:
    """Streams through the OpenAI client; returns the text, the last chunk's lifeboat object and the last chunk."""
    messages: Any = [{"role": "user", "content": text}]
    said, lifeboat, last = "", None, None
    stream: Any = world.openai.chat.completions.create(model="auto", messages=messages, stream=True, **options)
    for last in stream:
        said += "".join(choice.delta.content or "" for choice in last.choices)
        lifeboat = (last.model_extra or {}).get("lifeboat")
    assert lifeboat is not None, "the last chunk says what served"
    return said, lifeboat, last


def test_a_stream_of_the_cloud_says_what_served_it(world: World) -> None:
    """The text is whole, the last chunk finishes it and carries the lifeboat object."""
    said, lifeboat, last = _stream(world)
    assert said == "[alpha] one two three four"
    assert last.choices[0].finish_reason == "stop"
    assert (lifeboat["mode"], lifeboat["rung"]) == ("NORMAL", "alpha")


def test_the_headers_of_a_stream_say_what_served_it(world: World) -> None:
    """Headers wait for the commit."""
    headers, events = world.events()
    assert headers["Content-Type"].startswith("text/event-stream")
    assert headers["X-Lifeboat-Rung"] == "alpha"
    assert events[-1] == "[DONE]"


@pytest.mark.parametrize("first_token_ms", [1_000])
@pytest.mark.parametrize(
    "fault",
    ["503", "html", "in-band", "empty", "cut early", "silent", "keepalives", "bad chunks"],
)
def test_a_fault_before_the_commit_is_invisible(world: World, fault: str) -> None:
    """The local model streams instead; no piece of the failed attempt is seen."""
    world.cloud.behaviour = fault
    said, lifeboat, _ = _stream(world)
    assert said == "[small] one two three four"
    assert lifeboat["mode"] == "LOCAL"
    assert lifeboat["reason"][0].startswith("alpha: ")


@pytest.mark.parametrize("fault", ["cut", "end early", "stall", "in-band late"])
def test_a_fault_after_the_commit_is_an_error(world: World, fault: str) -> None:
    """The client raises; it never takes the part for the whole."""
    world.cloud.behaviour = fault
    with pytest.raises(openai.APIError, match="broke off in mid-answer") as caught:
        _stream(world)
    assert caught.value.code == "upstream_interrupted"
    assert "sk-123" not in str(caught.value.body)


@pytest.mark.parametrize("fault", ["cut", "end early", "stall", "in-band late"])
def test_a_broken_stream_has_no_done(world: World, fault: str) -> None:
    """The error event is the last one, and it says that the answer is partial."""
    world.cloud.behaviour = fault
    _, events = world.events()
    assert "[DONE]" not in events
    assert json.loads(events[-1])["error"]["partial"] is True
    assert json.loads(events[-1])["lifeboat"]["rung"] == "alpha"


def test_a_provider_that_breaks_streams_is_left_alone(worlds: Worlds) -> None:
    """A stream is a success at its end only: its commit does not hide three cuts in a row."""
    world = worlds.make(settings=Settings(open_s=60, open_longest_s=60, probe_s=0))
    world.cloud.behaviour = "cut"
    for _ in range(3):
        world.events()
    assert world.chat().headers["X-Lifeboat-Rung"] == "small"
    assert len(world.cloud.asked) == 3


@pytest.mark.parametrize("fault", ["no done", "no finish", "stall after finish"])
def test_an_answer_that_is_whole_ends_well(world: World, fault: str) -> None:
    """A missing farewell is no cut."""
    world.cloud.behaviour = fault
    _, events = world.events()
    assert _text(events) == "[alpha] one two three four"
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["lifeboat"]["rung"] == "alpha"


def _loading(box: FakeBox) -> None:
    box.engines["small"].state = "loading"


@pytest.mark.parametrize(
    ("question", "rung"),
    [("when are you open?", "helpdesk"), ("how fast is the wipe?", "handbook"), ("why?", "message")],
)
def test_the_box_s_own_rungs_stream_too(worlds: Worlds, question: str, rung: str) -> None:
    """FAQ, documents and message are valid streams: the pieces joined are the whole answer."""
    world = worlds.make(change=_loading)
    world.cloud.stop()
    said, lifeboat, _ = _stream(world, question)
    whole = world.chat(question).json()["choices"][0]["message"]["content"]
    assert said == whole
    assert lifeboat["rung"] == rung


def test_usage_comes_with_the_last_chunk_where_asked(worlds: Worlds) -> None:
    """`include_usage` is honoured by a rung without a model, and the lifeboat object sits beside it."""
    world = worlds.make(change=_loading)
    world.cloud.stop()
    _, _, last = _stream(world, "why?", stream_options={"include_usage": True})
    assert last.usage.total_tokens == 0
    assert last.choices == []


def test_text_completions_stream(world: World) -> None:
    """`/v1/completions` streams through the same path."""
    stream: Any = world.openai.completions.create(model="auto", prompt="x", stream=True)
    assert "".join(choice.text for chunk in stream for choice in chunk.choices) == "[alpha] one two three four"


def test_a_slow_first_token_gets_pending_headers(worlds: Worlds) -> None:
    """Nothing has committed in time: headers say `pending`, comments keep the line, and the end names the rung."""
    world = worlds.make(settings=Settings(headers_wait_s=0.05, keepalive_s=0.05))
    world.cloud.behaviour = "slow"
    body = {"messages": [{"role": "user", "content": "x"}], "stream": True}
    with world.http.stream("POST", "/v1/chat/completions", json=body) as response:
        raw = response.read().decode()
    assert response.headers["X-Lifeboat-Rung"] == "pending"
    assert ": keepalive\n\n" in raw
    assert json.loads(raw.split("data: ")[-2])["lifeboat"]["rung"] == "alpha"


@pytest.mark.parametrize("first_token_ms", [1_000])
def test_an_error_after_pending_headers_is_an_event(worlds: Worlds) -> None:
    """The status is gone by then: the error comes in band, in the same shape, and without `[DONE]`."""
    world = worlds.make(settings=Settings(headers_wait_s=0.05, keepalive_s=0.05))
    world.cloud.behaviour = "silent"
    _, events = world.events(model="alpha")
    assert json.loads(events[-1])["error"]["code"] == "no_rung_available"
    assert "[DONE]" not in events


@pytest.mark.parametrize("fault", ["stall", "silent"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_the_work(worlds: Worlds, fault: str, stream: bool) -> None:
    """Before and after the commit: the provider's connection is closed when the client's is."""
    if fault == "stall" and not stream:
        fault = "silent"
    world = worlds.make(settings=Settings(headers_wait_s=0.05))
    world.cloud.behaviour = fault
    limit = httpx.Timeout(10, read=0.6)
    with pytest.raises(httpx.ReadTimeout):
        world.http.post(
            "/v1/chat/completions",
            json={"messages": [{"role": "user", "content": "x"}], "stream": stream},
            timeout=limit,
        )
    assert world.cloud.gone.wait(30)


def test_a_client_that_leaves_ends_what_it_asked_the_box(worlds: Worlds) -> None:
    """`/v1/ask` climbs as a chat does, and holds no provider for nobody."""

    def patient(box: FakeBox) -> None:
        first = replace(box.service.upstreams[0], first_token_timeout_ms=60_000)
        box.service = replace(box.service, upstreams=(first,))

    world = worlds.make(ask=("alpha", "message"), change=patient)
    world.cloud.behaviour = "silent"
    with pytest.raises(httpx.ReadTimeout):
        world.http.post("/v1/ask", json={"question": "x"}, timeout=httpx.Timeout(10, read=0.6))
    assert world.cloud.gone.wait(10), "not at the end of the request's own time"


def test_two_streams_at_once_both_end_whole(world: World) -> None:
    """Streams do not mix."""
    found: list[str] = []

    def one() -> None:
        found.append(_text(world.events()[1]))

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == ["[alpha] one two three four"] * 8

"""What a route does when a stream breaks after its first words: hold, continue, error; through the OpenAI client."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import openai
import pytest

from appliance.gateway import held
from appliance.settings import Settings
from bundler.format.service import RouteSpec

if TYPE_CHECKING:
    from tests.appliance.routes.conftest import FakeBox, World, Worlds

LATE = ["cut", "end early", "stall", "in-band late", "bad chunks late"]
WHOLE = "one two three four"
QUICK = Settings(open_s=0.3, open_longest_s=0.5, probe_s=0, headers_wait_s=0.05, keepalive_s=0.05)


def routed(stream: str, *rungs: str, **more: Any) -> Callable[[FakeBox], None]:
    """Returns a change of the box: a route `desk` of these rungs, and what else the service shall be."""

    def change(box: FakeBox) -> None:
        route = RouteSpec("desk", rungs or ("alpha", "small", "message"), stream, **more)
        box.service = replace(box.service, routes=(route,))

    return change


def streamed(world: World, **options: Any) -> tuple[str, list[Any]]:
    """Streams through the OpenAI client; returns the text and the chunks."""
    asked: Any = {"model": "desk", "messages": [{"role": "user", "content": "hello"}], **options}
    chunks = list(world.openai.chat.completions.create(**asked, stream=True))
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices), chunks


def told(chunks: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = chunks[-1].model_extra["lifeboat"]
    return found


@pytest.mark.parametrize("fault", [*LATE, "one bad chunk", "cut early", "bad chunks", "html", "503"])
def test_hold_restarts_whatever_breaks(worlds: Worlds, fault: str) -> None:
    """The caller gets one whole answer of the next rung, and not a word of the broken one."""
    world = worlds.make(change=routed("hold"))
    world.cloud.behaviour = fault
    text, chunks = streamed(world)
    assert text == f"[small] {WHOLE}"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert told(chunks)["rung"] == "small"
    assert told(chunks)["reason"][0].startswith("alpha: ")
    assert len(world.cloud.asked) == (2 if fault == "503" else 1)


def test_hold_hands_a_whole_answer_on_as_it_came(worlds: Worlds) -> None:
    """Chunk by chunk, with what the provider put into them."""
    world = worlds.make(change=routed("hold"))
    text, chunks = streamed(world)
    assert text == f"[alpha] {WHOLE}"
    assert len(chunks) == 7
    assert "held" not in told(chunks)


def test_hold_keeps_the_line_alive(worlds: Worlds) -> None:
    """While it holds the client gets comments, and no field that a client would act on."""
    world = worlds.make(change=routed("hold"), settings=QUICK)
    world.cloud.behaviour = "stall"
    body = {"model": "desk", "messages": [{"role": "user", "content": "x"}], "stream": True}
    raw = world.http.post("/v1/chat/completions", json=body).text
    assert ": keepalive\n\n" in raw
    assert {line.split(":")[0] for line in raw.splitlines() if line} == {"", "data"}
    assert raw.endswith("data: [DONE]\n\n")


def test_hold_over_its_bound_commits_and_says_so(worlds: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is whole and its end tells why it was not held to it."""
    monkeypatch.setattr(held.Held.__init__, "__defaults__", (2**10,))
    world = worlds.make(change=routed("hold"))
    world.cloud.behaviour = "long"
    text, chunks = streamed(world)
    assert text == f"[alpha] {WHOLE}" * 3_000
    assert told(chunks)["held"] == "it was longer than 1 KiB before its end"


@pytest.mark.parametrize("fault", LATE)
def test_continue_goes_on_where_it_broke(worlds: Worlds, fault: str) -> None:
    """The local model gets what was sent as an open turn; the client reads one answer and who gave what."""
    world = worlds.make(change=routed("continue"), settings=QUICK)
    world.cloud.behaviour, world.engine.says = fault, "three and on."
    text, chunks = streamed(world)
    begun = text.removesuffix("three and on.")
    assert begun in ("[alpha] one ", "[alpha] one two ", "[alpha] ", "[alpha] one")
    asked = world.engine.asked[-1]
    assert asked["messages"] == [{"role": "user", "content": "hello"}, {"role": "assistant", "content": begun}]
    assert asked["continue_final_message"] is True
    assert len({chunk.id for chunk in chunks}) == 1
    segments = told(chunks)["segments"]
    assert [(each["rung"], each["chars"]) for each in segments] == [("alpha", len(begun)), ("small", 13)]
    assert segments[0]["usage"] is None
    assert (told(chunks)["mode"], told(chunks)["banner"]) == ("LOCAL", "Degraded mode.")


def test_a_repeated_head_is_dropped(worlds: Worlds) -> None:
    """A model that says the last words again does not say them twice to the caller."""
    world = worlds.make(change=routed("continue"))
    world.cloud.behaviour, world.engine.says = "cut", "[alpha] one two three, four."
    assert streamed(world)[0] == "[alpha] one two three, four."


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("tool cut", {}),
        ("cut", {"response_format": {"type": "json_object"}}),
        ("cut", {"n": 2}),
        ("cut", {"logprobs": True}),
    ],
)
def test_what_cannot_be_continued_is_an_error(worlds: Worlds, fault: str, options: dict[str, Any]) -> None:
    """Another model's words would not fit: tool calls, JSON, several answers, log probabilities."""
    world = worlds.make(change=routed("continue"))
    world.cloud.behaviour = fault
    with pytest.raises(openai.APIError, match="broke off in mid-answer"):
        streamed(world, **options)
    assert world.engine.asked == []


def test_a_provider_that_does_not_say_so_is_never_asked_to_continue(worlds: Worlds) -> None:
    """It would take the open turn for a finished one, or refuse it."""
    world = worlds.make(("alpha", "beta"), change=routed("continue", "alpha", "beta", "message"))
    world.cloud.behaviour = "cut"
    with pytest.raises(openai.APIError, match="broke off"):
        streamed(world)
    assert world.clouds[1].asked == []


def test_a_provider_that_says_so_continues(worlds: Worlds) -> None:
    """Another box, or vLLM: it gets the open turn."""

    def change(box: FakeBox) -> None:
        routed("continue", "alpha", "beta")(box)
        alpha, beta = box.service.upstreams
        box.service = replace(box.service, upstreams=(alpha, replace(beta, continues=True)))

    world = worlds.make(("alpha", "beta"), change=change)
    world.cloud.behaviour, world.clouds[1].says = "cut", "three."
    assert streamed(world)[0].endswith("three.")
    assert world.clouds[1].asked[0]["messages"][-1]["role"] == "assistant"


@pytest.mark.parametrize("fault", ["cut", "503"])
def test_one_continuation_a_request(worlds: Worlds, fault: str) -> None:
    """Where it fails, too, the caller gets the error and a way to the whole answer."""
    world = worlds.make(change=routed("continue"))
    world.cloud.behaviour, world.engine.behaviour = "cut", fault
    with pytest.raises(openai.APIError) as caught:
        streamed(world)
    assert caught.value.code == "upstream_interrupted"
    assert len(world.engine.asked) == 1


def test_the_rest_is_as_much_shorter_as_was_sent(worlds: Worlds) -> None:
    """The limit of tokens is one for both parts, and usage that nobody asked for is told in the segments alone."""
    world = worlds.make(change=routed("continue"))
    world.cloud.behaviour = "cut"
    streamed(world, max_tokens=10)
    assert world.engine.asked[0]["max_tokens"] in (7, 8, 9)
    assert world.engine.asked[0]["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("fault", LATE)
def test_an_error_leads_to_the_whole_answer(worlds: Worlds, fault: str) -> None:
    """`retrieve` of the OpenAI client gives what the rest of the ladder says, and the same when asked again."""
    world = worlds.make(change=routed("error"))
    world.cloud.behaviour = fault
    with pytest.raises(openai.APIError) as caught:
        streamed(world)
    key = caught.value.body["resume_id"]  # type: ignore[index]
    assert caught.value.body["partial"] is True  # type: ignore[index]
    assert world.engine.asked == []  # nobody pays for an answer that nobody asks for
    for _ in range(2):
        answer = world.openai.chat.completions.retrieve(key)
        assert answer.choices[0].message.content == f"[small] {WHOLE}"
        lifeboat = answer.model_extra["lifeboat"]  # type: ignore[index]
        assert (lifeboat["mode"], lifeboat["rung"]) == ("LOCAL", "small")
        assert lifeboat["reason"][0].startswith("alpha: it broke off in mid-answer")
    assert len(world.engine.asked) == 1
    assert "stream" not in world.engine.asked[0]


def test_a_resume_id_is_its_tenant_s_alone(worlds: Worlds) -> None:
    """Another token gets what an id that never was gets."""
    world = worlds.make(change=routed("error"))
    world.cloud.behaviour = "cut"
    key = json.loads(world.events(model="desk")[1][-1])["error"]["resume_id"]
    other, _ = world.tokens.create("other", now_s=1_000)
    for name, token in ((key, other), ("resume-none", world.token)):
        reply = world.http.get(f"/v1/chat/completions/{name}", headers={"Authorization": f"Bearer {token}"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "resume_not_found")
    assert world.http.get(f"/v1/chat/completions/{key}").status_code == 200


def test_a_resume_that_fails_may_be_asked_again(worlds: Worlds) -> None:
    """No rung answered this time: that is told, and kept for another try."""
    world = worlds.make(change=routed("error", "alpha"))
    world.cloud.behaviour = "cut"
    key = json.loads(world.events(model="desk")[1][-1])["error"]["resume_id"]
    world.cloud.behaviour = "503"
    assert world.http.get(f"/v1/completions/{key}").status_code == 503
    world.cloud.behaviour = "ok"
    for _ in range(100):
        reply = world.http.get(f"/v1/completions/{key}")
        if reply.status_code == 200:
            break
        time.sleep(0.05)  # its breaker is open for a while
    assert reply.json()["choices"][0]["message"]["content"] == f"[alpha] {WHOLE}"


def test_one_bad_chunk_is_told(worlds: Worlds) -> None:
    """Where a stream goes on without it, its last chunk says that something is missing."""
    world = worlds.make(change=routed("error"))
    world.cloud.behaviour = "one bad chunk"
    text, chunks = streamed(world)
    assert text == f"[alpha] {WHOLE}"
    assert told(chunks)["damaged_chunks"] == 1


@pytest.mark.parametrize("policy", ["hold", "continue"])
def test_the_client_s_own_accumulator_sees_one_message(worlds: Worlds, policy: str) -> None:
    """OpenAI's `stream` helper puts chunks together by itself: one role, one text, one end, nothing doubled."""
    world = worlds.make(change=routed(policy))
    world.cloud.behaviour, world.engine.says = "cut", "three and on."
    messages: Any = [{"role": "user", "content": "hello"}]
    with world.openai.chat.completions.stream(model="desk", messages=messages) as stream:
        final = stream.get_final_completion()
    message = final.choices[0].message
    assert (message.role, final.choices[0].finish_reason) == ("assistant", "stop")
    assert message.content is not None
    assert message.content.endswith("three and on.")
    assert message.content.count("three") == 1
    assert message.content.startswith("[alpha]") is (policy == "continue")


def test_text_completions_are_held_and_resumed_too(worlds: Worlds) -> None:
    """`/v1/completions` by the same policies; it is never continued."""
    world = worlds.make(change=routed("hold"))
    world.cloud.behaviour = "cut"
    asked: Any = {"model": "desk", "prompt": "x", "stream": True}
    text = "".join(choice.text for chunk in world.openai.completions.create(**asked) for choice in chunk.choices)
    assert text == f"[small] {WHOLE}"


@pytest.mark.parametrize("policy", ["error", "continue"])
def test_a_text_completion_that_breaks_can_be_had_whole(worlds: Worlds, policy: str) -> None:
    """Under its own path, in its own shape."""
    world = worlds.make(change=routed(policy))
    world.cloud.behaviour = "cut"
    asked: Any = {"model": "desk", "prompt": "x", "stream": True}
    with pytest.raises(openai.APIError) as caught:
        list(world.openai.completions.create(**asked))
    reply = world.http.get(f"/v1/completions/{caught.value.body['resume_id']}")  # type: ignore[index]
    assert reply.json()["choices"][0]["text"] == f"[small] {WHOLE}"


def test_the_line_is_kept_alive_while_another_rung_begins(worlds: Worlds) -> None:
    """Between the break and the first word of the rest the client gets comments."""
    world = worlds.make(change=routed("continue"), settings=QUICK)
    world.cloud.behaviour, world.engine.behaviour = "cut", "slow"
    body = {"model": "desk", "messages": [{"role": "user", "content": "x"}], "stream": True}
    raw = world.http.post("/v1/chat/completions", json=body).text
    part, _, rest = raw.partition(": keepalive\n\n")
    assert "[alpha]" in part
    assert "[small]" in rest
    assert raw.endswith("data: [DONE]\n\n")

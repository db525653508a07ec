"""Routes of a profile on a served box: names, what rungs can, requests that are too long, answers that are checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import openai
import pytest

from bundler.format.service import OutputSpec, RouteSpec, UpstreamSpec

if TYPE_CHECKING:
    from tests.appliance.routes.conftest import FakeBox, World, Worlds

IMAGE: Any = [
    {"type": "text", "text": "what is this?"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
]
GERMAN = "Wie kann ich die Lizenz für den neuen Rechner und das alte Telefon wieder bekommen, wenn sie nicht da ist?"


def desk(*rungs: str, **more: Any) -> Callable[[FakeBox], None]:
    """Returns a change of the box: a route `desk`."""

    def change(box: FakeBox) -> None:
        box.service = replace(box.service, routes=(RouteSpec("desk", rungs or ("alpha", "small", "message"), **more),))

    return change


def able(name: str, **more: Any) -> Callable[[FakeBox], None]:
    """Returns a change of the box: an upstream declares something."""

    def declared(spec: UpstreamSpec) -> UpstreamSpec:
        return replace(spec, **more) if spec.name == name else spec

    def change(box: FakeBox) -> None:
        box.service = replace(box.service, upstreams=tuple(map(declared, box.service.upstreams)))

    return change


def both(*changes: Callable[[FakeBox], None]) -> Callable[[FakeBox], None]:
    def change(box: FakeBox) -> None:
        for each in changes:
            each(box)

    return change


def output(**more: Any) -> dict[str, Any]:
    """Returns a route's options: an answer is checked."""
    wanted: dict[str, Any] = {"schema": "", "languages": (), "refusals": (), "own_model": False, **more}
    return {"stream": "hold", "output": OutputSpec(**wanted)}


def reasons(reply: Any) -> str:
    return "; ".join(reply.json()["lifeboat"]["reason"])


def test_a_route_is_a_model_that_clients_see(worlds: Worlds) -> None:
    """It is listed, it is asked for by name, and a name that is none gets the list."""
    world = worlds.make(change=desk("small", "message"))
    names = [model.id for model in world.openai.models.list()]
    assert names[:2] == ["auto", "desk"]
    assert world.openai.models.retrieve("desk").id == "desk"
    assert world.chat(model="desk").headers["X-Lifeboat-Rung"] == "small"
    assert world.cloud.asked == []
    with pytest.raises(openai.NotFoundError, match="auto, desk, alpha"):
        world.openai.chat.completions.create(model="desks", messages=[{"role": "user", "content": "x"}])


@pytest.mark.parametrize("name", ["auto", "alpha-large"])
def test_a_route_redefines_a_name(worlds: Worlds, name: str) -> None:
    """`auto`, and the name of a provider's model that programs have written down."""

    def change(box: FakeBox) -> None:
        box.service = replace(box.service, routes=(RouteSpec(name, ("small", "alpha")),))

    world = worlds.make(change=change)
    assert world.chat(model=name).headers["X-Lifeboat-Rung"] == "small"
    assert world.chat(model="alpha").headers["X-Lifeboat-Rung"] == "alpha"


def test_a_route_has_a_deadline_of_its_own(worlds: Worlds) -> None:
    """Nobody waits longer than the route says, whatever the limits of the box are."""
    world = worlds.make(change=desk("alpha", deadline_ms=300))
    world.cloud.behaviour = "silent"
    reply = world.chat(model="desk")
    assert reply.status_code == 503
    assert "no answer within" in reply.json()["error"]["message"]


@pytest.mark.parametrize(("criticality", "priority"), [("critical", "-2"), ("normal", "0"), ("convenience", "2")])
def test_criticality_is_a_place_in_the_engine_s_queue(worlds: Worlds, criticality: str, priority: str) -> None:
    """Critical requests go before others, convenience after them."""
    world = worlds.make(change=desk("small", criticality=criticality))
    world.chat(model="desk")
    assert world.engine.headers[0]["X-Lifeboat-Priority"] == priority


def test_images_reach_a_rung_that_sees_or_none(worlds: Worlds) -> None:
    """The one that declares vision gets them as they came; one that declares none is passed, and so is the model."""
    change = both(desk("alpha", "beta", "small"), able("alpha", can=("tools",)), able("beta", can=("vision",)))
    world = worlds.make(("alpha", "beta"), change=change)
    messages: Any = [{"role": "user", "content": IMAGE}]
    reply = world.http.post("/v1/chat/completions", json={"model": "desk", "messages": messages})
    assert reply.headers["X-Lifeboat-Rung"] == "beta"
    assert reasons(reply).startswith("alpha: it does not support images")
    assert world.clouds[1].asked[0]["messages"] == messages
    world.clouds[1].behaviour = "503"
    reply = world.http.post("/v1/chat/completions", json={"model": "desk", "messages": messages})
    assert reply.status_code == 503  # one of them could
    assert (world.cloud.asked, world.engine.asked) == ([], [])


def test_a_request_that_no_rung_can_serve_is_a_400(worlds: Worlds) -> None:
    """Asking again is pointless, and the answer says why for each."""
    world = worlds.make(change=both(desk(), able("alpha", can=("schema",))))
    messages = [{"role": "user", "content": IMAGE}]
    reply = world.http.post("/v1/chat/completions", json={"model": "desk", "messages": messages})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "unsupported_option")
    assert "alpha: it does not support images; small: it does not support image_url" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "JSON schemas"),
    ],
)
def test_what_a_provider_declares_decides(worlds: Worlds, options: dict[str, Any], words: str) -> None:
    """Tools and schemas go where they are honoured."""
    world = worlds.make(change=both(desk(), able("alpha", can=())))
    world.engine.says = "{}"
    reply = world.chat(model="desk", **options)
    assert reply.headers["X-Lifeboat-Rung"] == "small"
    assert reasons(reply).startswith(f"alpha: it does not support {words}")


def test_a_language_goes_to_a_rung_that_has_it(worlds: Worlds) -> None:
    """A German question passes a provider that declares English alone; an English one does not."""
    world = worlds.make(change=both(desk(), able("alpha", languages=("en",))))
    assert "language of the request (de)" in reasons(world.chat(GERMAN, model="desk"))
    assert world.chat("hello", model="desk").headers["X-Lifeboat-Rung"] == "alpha"


LONG: Any = [
    {"role": "system", "content": "be kind"},
    *({"role": role, "content": "words " * 20} for _ in range(4) for role in ("user", "assistant")),
    {"role": "user", "content": "and now?"},
]


def asked(world: World, **options: Any) -> Any:
    return world.http.post("/v1/chat/completions", json={"model": "desk", "messages": LONG, **options})


def test_too_long_goes_to_a_larger_context(worlds: Worlds) -> None:
    """A rung whose context is no longer than one that was too short is not asked."""
    change = both(
        desk("alpha", "beta", "gamma"), able("alpha", context_tokens=4096), able("gamma", context_tokens=9000)
    )
    change = both(change, able("beta", context_tokens=4096))
    world = worlds.make(("alpha", "beta", "gamma"), change=change)
    world.cloud.behaviour = "context"
    reply = asked(world)
    assert reply.headers["X-Lifeboat-Rung"] == "gamma"
    assert "beta: its context of 4096 tokens is no longer than one that was too short" in reasons(reply)
    assert world.clouds[1].asked == []


def test_what_is_too_long_for_certain_is_not_sent(worlds: Worlds) -> None:
    """No text has so few tokens."""
    world = worlds.make(change=both(desk(), able("alpha", context_tokens=300)))
    reply = world.chat("x" * 4000, model="desk")
    assert reasons(reply) == "alpha: the request is longer than its context of 300 tokens"
    assert world.cloud.asked == []


@pytest.mark.parametrize("stream", [False, True])
def test_too_long_drops_the_oldest_turns_and_says_so(worlds: Worlds, stream: bool) -> None:
    """The system message and the newest turn stay; the answer tells how many turns its rung did not see."""
    world = worlds.make(change=desk("alpha", too_long="drop"))
    world.cloud.behaviour = "short context"
    reply = asked(world, stream=stream)
    lifeboat = json.loads(reply.text.split("data: ")[-2])["lifeboat"] if stream else reply.json()["lifeboat"]
    assert lifeboat["dropped_turns"] == 4
    assert [len(body["messages"]) for body in world.cloud.asked] == [10, 4, 2]
    assert world.cloud.asked[-1]["messages"] == [LONG[0], LONG[-1]]


def test_too_long_for_whatever_is_dropped_goes_on(worlds: Worlds) -> None:
    """Where the newest turn alone is too long the next rung is asked, with the whole conversation."""
    world = worlds.make(change=desk("alpha", "small", too_long="drop"))
    world.cloud.behaviour = "context"
    reply = asked(world)
    assert reply.headers["X-Lifeboat-Rung"] == "small"
    assert "dropped_turns" not in reply.json()["lifeboat"]
    assert len(world.engine.asked[0]["messages"]) == 10


def test_too_long_is_declined_where_the_route_says_so(worlds: Worlds) -> None:
    """The caller gets OpenAI's own error at once, and no other rung is asked."""
    world = worlds.make(change=desk(too_long="decline"))
    world.cloud.behaviour, world.cloud.message = "context", "5000 tokens are too many"
    reply = asked(world)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert "5000 tokens are too many" in reply.json()["error"]["message"]
    assert world.engine.asked == []


SCHEMA = json.dumps({"type": "object", "required": ["ok"], "properties": {"ok": {"type": "boolean"}}})


@pytest.mark.parametrize(
    ("wanted", "bad", "good", "reason"),
    [
        ({"schema": SCHEMA}, "it is fine", '{"ok": true}', "not as the JSON schema of the route says"),
        ({"schema": SCHEMA}, '{"ok": 1}', '{"ok": false}', "not as the JSON schema of the route says"),
        ({"languages": ("en",)}, GERMAN, "Yes.", "it answered in another language (de)"),
        ({"refusals": ("i can't help",)}, "I can\u2019t help with that.", "Yes.", "it declined to answer"),
        ({}, " \n", "Yes.", "the answer is empty"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_not_what_the_route_wants_is_asked_elsewhere(
    worlds: Worlds, wanted: dict[str, Any], bad: str, good: str, reason: str, stream: bool
) -> None:
    """Whole or held, the caller sees the good one alone, with the reason for the other."""
    world = worlds.make(change=desk(**output(**wanted)))
    world.cloud.says, world.engine.says = bad, good
    reply = world.chat(model="desk", stream=stream)
    value = json.loads(reply.text.split("data: ")[-2]) if stream else reply.json()
    assert value["lifeboat"]["rung"] == "small"
    assert reason in value["lifeboat"]["reason"][0]
    assert bad not in reply.text


def test_an_answer_of_another_model_is_noticed(worlds: Worlds) -> None:
    """A provider that answers as a dated model of the name is right, another name is not."""
    world = worlds.make(change=both(desk(**output(own_model=True)), able("alpha", model="alpha-huge")))
    world.engine.name = "small"
    reply = world.chat(model="desk")
    assert "alpha: it answered as another model" in reply.text
    world = worlds.make(change=both(desk(**output(own_model=True)), able("alpha", model="alpha")))
    assert world.chat(model="desk").headers["X-Lifeboat-Rung"] == "alpha"


def test_the_schema_of_the_request_is_kept_on_every_route(worlds: Worlds) -> None:
    """A provider that takes the schema and does not follow it is passed."""
    world = worlds.make()
    world.engine.says = '{"ok": true}'
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": json.loads(SCHEMA)}}
    reply = world.chat(response_format=wanted)
    assert "alpha: the answer is not as the JSON schema of the request says" in reasons(reply)


def test_plain_text_is_no_answer_of_a_route_of_json(worlds: Worlds) -> None:
    """FAQ, documents and message cannot give it, and say so."""
    world = worlds.make(change=desk("alpha", "helpdesk", "message", **output(schema=SCHEMA)))
    reply = world.chat("when are you open?", model="desk")
    assert reply.status_code == 503
    assert "helpdesk: it gives plain text, and this route answers in JSON" in reply.json()["error"]["message"]

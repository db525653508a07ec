"""How an upstream is spoken to by configuration: key header, query, headers, defaults; and boxes behind boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.gateway.other_box import BOXES_MOST, VIA, looped, passed, taken
from appliance.settings import Settings
from bundler.format.service import PairSpec, WireSpec

if TYPE_CHECKING:
    from tests.appliance.routes.conftest import FakeBox, World, Worlds

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}


def _wired(wire: WireSpec) -> Callable[[FakeBox], None]:
    def change(box: FakeBox) -> None:
        first = replace(box.service.upstreams[0], key="VAULT", wire=wire)
        box.service = replace(box.service, upstreams=(first, *box.service.upstreams[1:]))

    return change


def _world(worlds: Worlds, wire: WireSpec) -> World:
    settings = Settings(keys={"alpha": "sk-1"}, probe_s=0)
    return worlds.make(settings=settings, change=_wired(wire))


@pytest.mark.parametrize(
    ("auth", "name", "value"),
    [("", "Authorization", "Bearer sk-1"), ("api-key", "api-key", "sk-1"), ("x-api-key", "x-api-key", "sk-1")],
)
def test_the_key_goes_in_the_header_that_the_profile_names(worlds: Worlds, auth: str, name: str, value: str) -> None:
    """Azure's, Anthropic's or OpenAI's, and only one of them."""
    world = _world(worlds, WireSpec(auth=auth))
    assert world.chat().status_code == 200
    sent = world.cloud.headers[0]
    assert sent[name] == value
    assert sum("sk-1" in text for text in sent.values()) == 1


def test_what_the_profile_adds_and_leaves_out_is_sent(worlds: Worlds) -> None:
    """Query and headers as written, defaults where the caller says nothing, and what is left out is named."""
    wire = WireSpec(
        query=(PairSpec("api-version", "2026-10-01 a&b"),),
        headers=(PairSpec("X-Project", "seven"),),
        body='{"temperature":0.1,"top_p":0.5}',
        without=("seed",),
    )
    world = _world(worlds, wire)
    reply = world.chat(temperature=0.7, seed=3)
    assert reply.headers["X-Lifeboat-Ignored"] == "seed"
    asked = world.cloud.asked[0]
    assert (asked["temperature"], asked["top_p"], "seed" in asked) == (0.7, 0.5, False)
    assert world.cloud.headers[0]["X-Project"] == "seven"
    assert world.cloud.headers[0]["?"] == "api-version=2026-10-01+a%26b"


def test_a_box_behind_a_box_answers_as_itself(worlds: Worlds) -> None:
    """Its own `lifeboat` object is nested in ours, whole and streamed, and never passed off as ours."""
    inner = worlds.make()
    inner.cloud.stop()  # so the inner box is LOCAL, and the outer one NORMAL
    outer = worlds.make(settings=Settings(keys={"alpha": inner.token}, probe_s=0), change=_behind(inner.url))
    told = outer.chat().json()["lifeboat"]
    assert (told["mode"], told["rung"]) == ("NORMAL", "alpha")
    assert told["upstream"] == {"mode": "LOCAL", "rung": "small", "served_by": "small"}
    _, events = outer.events()
    mentioned = [event for event in events if '"lifeboat"' in event]
    assert len(mentioned) == 1
    assert '"upstream":{"mode":"LOCAL"' in mentioned[0].replace(" ", "")


def test_a_request_that_comes_back_is_refused(worlds: Worlds) -> None:
    """A box that asks itself answers from its next rung, once."""
    looped_box: list[FakeBox] = []
    world = worlds.make(settings=Settings(keys={"alpha": "x"}, probe_s=0), change=looped_box.append)
    assert world.chat().status_code == 200
    own = world.cloud.headers[0][VIA]
    refused = world.http.post("/v1/chat/completions", json=ASK, headers={VIA: f"{'0' * 16}, {own}"})
    assert refused.status_code == 508
    assert refused.json()["error"]["code"] == "loop_detected"
    onward = world.http.post("/v1/chat/completions", json=ASK, headers={VIA: "0" * 16 + ", forged\tvalue"})
    assert onward.status_code == 200
    assert world.cloud.headers[-1][VIA] == f"{'0' * 16}, {own}"


def test_no_chain_of_boxes_is_endless() -> None:
    """More than a few ids are a circle, too; what is no id counts for nothing."""
    ids = [f"{number:016x}" for number in range(BOXES_MOST)]
    assert looped(", ".join(ids), "f" * 16)
    assert not looped(", ".join(ids[1:]), "f" * 16)
    assert passed("x, ,\x00" + "a" * 20_000) == ()
    assert taken({"lifeboat": {"mode": "LOCAL", "rung": 3, "key": "sk"}}) == {"mode": "LOCAL"}
    assert taken({"lifeboat": "LOCAL"}) == {}


def _behind(url: str) -> Callable[[FakeBox], None]:
    def change(box: FakeBox) -> None:
        first = replace(box.service.upstreams[0], base_url=f"{url}/v1", model="auto", key="VAULT")
        box.service = replace(box.service, upstreams=(first,))
        box.policy.egress = (url,)

    return change

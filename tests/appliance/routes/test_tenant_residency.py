"""Where a tenant's data may go, judged by what each provider on loopback really received."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from appliance.edge.grant import Grant
from appliance.settings import Settings
from bundler.format.service import CONTINUE, ERROR, HOLD, LimitsSpec, RouteSpec

if TYPE_CHECKING:
    from tests.appliance.routes.conftest import FakeBox, World, Worlds

REGIONS = {"alpha": "us", "beta": "eu", "gamma": "ch"}
SECRET = "the diagnosis of Ms. Okonkwo"


def placed(box: FakeBox) -> None:
    """Three providers in three regions, a route of each stream policy, and an ask ladder that begins in the cloud."""
    service = box.service
    upstreams = tuple(
        replace(spec, region=REGIONS[spec.name], connect_timeout_ms=5_000, first_token_timeout_ms=10_000)
        for spec in service.upstreams
    )
    rungs = ("alpha", "beta", "gamma", "small")
    routes = tuple(RouteSpec(f"desk-{policy}", rungs, stream=policy) for policy in (ERROR, HOLD, CONTINUE))
    ladder = replace(service.ladder, ask=(*rungs, "message"))
    box.service = replace(service, upstreams=upstreams, routes=routes, ladder=ladder)


def client_of(world: World, regions: tuple[str, ...] | None) -> httpx.Client:
    text, _ = world.tokens.create("tenant", now_s=1_000, grant=Grant(regions=regions))
    return httpx.Client(base_url=world.url, headers={"Authorization": f"Bearer {text}"}, timeout=60, trust_env=False)


def received(world: World) -> set[str]:
    """The providers that got anything of the secret."""
    return {wall.name for wall in world.clouds if SECRET in json.dumps([wall.asked, wall.headers])}


CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": SECRET}]}
ASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", CHAT),
    "stream": ("/v1/chat/completions", {**CHAT, "stream": True}),
    "held": ("/v1/chat/completions", {**CHAT, "stream": True, "model": "desk-hold"}),
    "continued": ("/v1/chat/completions", {**CHAT, "stream": True, "model": "desk-continue"}),
    "text": ("/v1/completions", {"prompt": SECRET}),
    "ask": ("/v1/ask", {"question": SECRET}),
    "messages": ("/v1/messages", {**CHAT, "max_tokens": 10}),
    "messages stream": ("/v1/messages", {**CHAT, "max_tokens": 10, "stream": True}),
}


@pytest.mark.parametrize(
    ("regions", "may", "words"),
    [
        (("ch", "eu"), {"beta"}, "may go to ch, eu alone"),
        (("ch",), {"gamma"}, "may go to ch alone"),
        ((), set(), "may not leave this box"),
        (("mars",), set(), "may go to mars alone"),
        (None, {"alpha"}, '"reason":[]'),
    ],
)
def test_data_of_a_tenant_goes_where_its_token_says(
    worlds: Worlds, regions: tuple[str, ...] | None, may: set[str], words: str
) -> None:
    """On every endpoint; the rungs that are passed tell the reason, and another tenant is not held by it."""
    world = worlds.make(("alpha", "beta", "gamma"), change=placed)
    with client_of(world, regions) as client:
        for name, (path, body) in ASKS.items():
            reply = client.post(path, json=body)
            assert (reply.status_code, received(world), words in reply.text) == (200, may, True), name
            for wall in world.clouds:
                wall.asked.clear()
    world.chat(SECRET)
    assert received(world) == {"alpha"}


@pytest.mark.parametrize("fault", ["503", "cut", "429"])
def test_no_failure_drives_it_over_a_border(worlds: Worlds, fault: str) -> None:
    """Where the only provider that it may go to fails, the box answers; nobody else is asked, however long it takes."""
    world = worlds.make(("alpha", "beta", "gamma"), change=placed)
    world.clouds[1].behaviour = fault
    with client_of(world, ("eu",)) as client:
        for ask in ("chat", "stream", "continued", "messages stream"):
            path, body = ASKS[ask]
            assert client.post(path, json=body).status_code == 200
    assert received(world) <= {"beta"}


def test_a_trial_and_its_race_stay_where_they_may(worlds: Worlds) -> None:
    """A half-open provider is tried by those whose data may go there; probes carry nobody's."""
    settings = Settings(open_s=0.1, open_longest_s=0.2, probe_s=0.05)
    world = worlds.make(("alpha", "beta", "gamma"), settings=settings, change=placed)
    world.cloud.behaviour = "503"
    for _ in range(4):
        world.chat("of another tenant")
    world.cloud.behaviour = "ok"
    with client_of(world, ()) as client:
        for _ in range(20):
            assert client.post("/v1/chat/completions", json=CHAT).json()["lifeboat"]["rung"] == "small"
    assert received(world) == set()


def test_the_whole_answer_after_an_error_is_made_where_it_may_be(worlds: Worlds) -> None:
    """The resume endpoint asks the later rungs, and none that the token left out."""
    world = worlds.make(("alpha", "beta", "gamma"), change=placed)
    world.clouds[1].behaviour = "cut"
    with client_of(world, ("eu",)) as client:
        text = client.post("/v1/chat/completions", json={**CHAT, "stream": True, "model": "desk-error"}).text
        key = text.partition('"resume_id":"')[2].partition('"')[0]
        resumed = client.get(f"/v1/chat/completions/{key}").json()
    assert resumed["lifeboat"]["rung"] == "small"
    assert received(world) == {"beta"}


def test_whoever_names_a_provider_elsewhere_gets_the_reason(worlds: Worlds) -> None:
    """400, since no rung of that name can ever serve this tenant."""
    world = worlds.make(("alpha", "beta", "gamma"), change=placed)
    with client_of(world, ()) as client:
        reply = client.post("/v1/chat/completions", json={**CHAT, "model": "alpha"})
    assert (reply.status_code, received(world)) == (400, set())
    assert "may not leave this box" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("profile", "route", "token", "may"),
    [
        (("us", "eu"), None, ("eu", "ch"), {"beta"}),
        (None, ("us",), ("eu",), set()),
        (("us",), ("us",), None, {"alpha"}),
        ((), None, ("us",), set()),
    ],
)
def test_profile_route_and_token_all_hold(worlds: Worlds, profile: Any, route: Any, token: Any, may: set[str]) -> None:
    """What one allows and another does not is not allowed."""

    def change(box: FakeBox) -> None:
        placed(box)
        limits: LimitsSpec = replace(box.service.limits, regions=profile)
        desk = RouteSpec("desk", ("alpha", "beta", "gamma", "small"), regions=route)
        box.service = replace(box.service, limits=limits, routes=(desk,))

    world = worlds.make(("alpha", "beta", "gamma"), change=change)
    with client_of(world, token) as client:
        assert client.post("/v1/chat/completions", json={**CHAT, "model": "desk"}).status_code == 200
    assert received(world) == may

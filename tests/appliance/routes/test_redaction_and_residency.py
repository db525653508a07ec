"""Redaction and residency, judged by what a provider on loopback really received."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from bundler.format.service import RedactSpec, RouteSpec

if TYPE_CHECKING:
    from tests.appliance.routes.conftest import FakeBox, Worlds

RULES = (RedactSpec("email", "email", "", restore=True), RedactSpec("iban", "iban", "", restore=True))
MAIL, IBAN = "anna@example.org", "DE89 3704 0044 0532 0130 00"


def _redacting(box: FakeBox) -> None:
    box.service = replace(box.service, redact=RULES)


@pytest.mark.parametrize("stream", [False, True])
def test_a_provider_never_receives_what_a_rule_takes_out(worlds: Worlds, stream: bool) -> None:
    """In no field and no header; the answer has the original, and says how much was taken out."""
    world = worlds.make(change=_redacting)
    world.cloud.name = "<EMAIL_1> has <IBAN_2>"  # what the model says
    text = f"Write to {MAIL} about {IBAN} or {MAIL}"
    body = {"messages": [{"role": "user", "content": text}], "user": MAIL, "stream": stream}
    reply = world.http.post("/v1/chat/completions", json=body)
    received = json.dumps([world.cloud.asked, world.cloud.headers])
    assert MAIL not in received
    assert IBAN not in received
    assert world.cloud.asked[0]["messages"][0]["content"] == "Write to <EMAIL_1> about <IBAN_2> or <EMAIL_1>"
    assert f"{MAIL} has {IBAN}" in reply.text
    assert '"redacted":2' in reply.text


def test_the_box_s_own_model_sees_the_original(worlds: Worlds) -> None:
    """What stays in the box needs no redaction."""
    world = worlds.make(change=_redacting)
    world.chat(f"Write to {MAIL}", model="small")
    assert MAIL in json.dumps(world.engine.asked)
    assert world.cloud.asked == []


def _limited(**limits: Any) -> Callable[[FakeBox], None]:
    def change(box: FakeBox) -> None:
        service = box.service
        route = RouteSpec("desk", ("alpha", "beta", "small"), regions=limits.get("route"))
        regions = replace(service.limits, regions=limits.get("profile"))
        first, second = service.upstreams
        upstreams = tuple(
            replace(spec, region=region, connect_timeout_ms=5_000, first_token_timeout_ms=10_000)
            for spec, region in ((first, "us"), (second, "eu"))
        )
        box.service = replace(service, upstreams=upstreams, routes=(route,), limits=regions)

    return change


@pytest.mark.parametrize(
    ("limits", "rung", "reason"),
    [
        ({"route": ("eu",)}, "beta", ["alpha: the data of this request may go to eu alone"]),
        (
            {"route": ()},
            "small",
            [f"{name}: the data of this request may not leave this box" for name in ("alpha", "beta")],
        ),
        ({"profile": ("eu",)}, "beta", ["alpha: the data of this request may go to eu alone"]),
        (
            {"profile": ("eu",), "route": ("us",)},
            "small",
            [f"{name}: the data of this request may not leave this box" for name in ("alpha", "beta")],
        ),
    ],
)
def test_data_stays_where_it_may_be(worlds: Worlds, limits: dict[str, Any], rung: str, reason: list[str]) -> None:
    """Rungs elsewhere are skipped with the reason, and receive nothing."""
    world = worlds.make(("alpha", "beta"), change=_limited(**limits))
    lifeboat = world.chat(model="desk").json()["lifeboat"]
    assert lifeboat["rung"] == rung
    assert lifeboat["reason"] == reason
    assert world.clouds[0].asked == []
    assert bool(world.clouds[1].asked) == (rung == "beta")


def test_the_name_of_an_upstream_is_no_way_round_the_profile(worlds: Worlds) -> None:
    """Who names a provider that the profile's regions leave out gets an error with the reason."""
    world = worlds.make(("alpha", "beta"), change=_limited(profile=()))
    reply = world.chat(model="alpha")
    assert reply.status_code == 400
    assert "may not leave this box" in reply.json()["error"]["message"]
    assert world.cloud.asked == []

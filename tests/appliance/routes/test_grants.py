"""Limits of tokens before a served box, and what no log or error says of a provider."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest

from appliance.edge.grant import Grant


def limited(world: Any, **limits: Any) -> httpx.Client:
    """A client of the world with a token that has these limits."""
    text, _ = world.tokens.create("limited", now_s=1_000, grant=Grant(**limits))
    return httpx.Client(base_url=world.url, headers={"Authorization": f"Bearer {text}"}, timeout=60, trust_env=False)


def ask(client: httpx.Client, model: str = "auto") -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    return client.post("/v1/chat/completions", json=body)


def test_a_token_asks_what_it_is_for(world: Any) -> None:
    """Other verbs and models are 403 with a code of their own, and nobody is asked."""
    with limited(world, verbs=("chat",), models=("auto",)) as client:
        assert ask(client).status_code == 200
        asked = len(world.cloud.asked)
        refused = ask(client, "small"), client.post("/v1/faq", json={"question": "open?"}), client.get("/v1/models")
    codes = [(reply.status_code, reply.json()["error"]["code"]) for reply in refused]
    assert codes == [(403, "model_not_allowed"), (403, "verb_not_allowed"), (403, "verb_not_allowed")]
    assert len(world.cloud.asked) == asked


@pytest.mark.parametrize(("network", "status"), [("127.0.0.0/8", 200), ("10.0.0.0/8", 403)])
def test_a_token_is_for_its_networks(world: Any, network: str, status: int) -> None:
    """The address of the connection counts, and no header that a client may write."""
    with limited(world, networks=(network,)) as client:
        client.headers["X-Forwarded-For"] = "10.1.2.3"
        assert ask(client).status_code == status


def test_who_asks_too_often_is_told_when_to_come_again(world: Any) -> None:
    """429 with Retry-After; other tokens are not held."""
    with limited(world, requests_a_minute=2) as client:
        replies = [ask(client) for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200, 200, 429]
    assert 1 <= int(replies[2].headers["Retry-After"]) <= 30
    assert replies[2].json()["error"]["code"] == "rate_limit_exceeded"
    assert world.chat().status_code == 200


def test_pages_of_other_sites_are_refused(world: Any) -> None:
    """A preflight gets no leave, and no reply carries a header of CORS."""
    origin = {"Origin": "https://evil.example"}
    asked = world.http.options("/v1/chat/completions", headers={**origin, "Access-Control-Request-Method": "POST"})
    replies = [asked, world.http.get("/v1/models", headers=origin), world.chat()]
    assert asked.status_code >= 400
    assert not [name for reply in replies for name in reply.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("fault", ["500", "429", "401", "in-band"])
def test_a_provider_that_echoes_our_key_is_repeated_nowhere(
    world: Any, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """Neither answer, nor readiness, nor metrics, nor a log has the words of a provider that failed."""
    world.cloud.message, world.cloud.behaviour = "Incorrect API key provided: sk-123", fault
    with caplog.at_level(logging.DEBUG):
        texts = [world.chat().text, world.http.get("/health/ready").text, world.http.get("/metrics").text]
    assert not [text for text in [*texts, caplog.text] if "sk-123" in text]

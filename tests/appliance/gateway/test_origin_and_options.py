"""The egress list, and what the options of a request mean."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.gateway.options import generation_of, ignorable_of, needs_of, question_of
from appliance.gateway.origin import Origin, origin_of, permitted
from appliance.gateway.upstream import error_of


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api.example.com/v1", Origin("https", "api.example.com", 443)),
        ("api.example.com", Origin("https", "api.example.com", 443)),
        ("API.Example.com.:8443", Origin("https", "api.example.com", 8443)),
        ("http://127.0.0.1:18080/v1", Origin("http", "127.0.0.1", 18080)),
        ("http://[::1]:80", Origin("http", "::1", 80)),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, origin: Origin) -> None:
    """Nothing else of a URL decides."""
    assert origin_of(url) == origin


@pytest.mark.parametrize("url", ["", "ftp://a", "https://", "https://u:p@a/", "https://a:99999/", "file:///etc/passwd"])
def test_what_is_no_server_has_no_origin(url: str) -> None:
    """Other schemes, user information and impossible ports."""
    with pytest.raises(ValueError, match=r".+"):
        origin_of(url)


@pytest.mark.parametrize(
    "egress",
    [
        [],
        ["http://api.example.com"],
        ["https://api.example.com:8443"],
        ["https://example.com"],
        ["https://api.example.com.evil.org"],
        ["*"],
        ["ftp://api.example.com", "https://u@api.example.com"],
    ],
)
def test_only_the_exact_origin_permits(egress: list[str]) -> None:
    """No wildcard, no suffix, no other scheme or port; an unreadable entry permits nothing."""
    assert not permitted("https://api.example.com/v1", egress)
    assert permitted("https://api.example.com/v1", [*egress, "https://api.example.com:443/"])


@pytest.mark.parametrize(
    ("body", "needs"),
    [
        ({}, set()),
        ({"tools": []}, set()),
        ({"tools": [{}]}, {"tools"}),
        ({"tools": [{}], "tool_choice": "none"}, set()),
        ({"functions": [{}]}, {"tools"}),
        ({"response_format": {"type": "text"}}, set()),
        ({"response_format": {"type": "json_schema"}}, {"response_format"}),
        ({"n": 1}, set()),
        ({"n": 2}, {"n"}),
        ({"best_of": 3}, {"n"}),
        ({"logprobs": False}, set()),
        ({"logprobs": True}, {"logprobs"}),
        ({"logprobs": 0}, {"logprobs"}),
        ({"logit_bias": {"1": 1}}, {"logit_bias"}),
        ({"modalities": ["text", "audio"]}, {"audio"}),
        ({"prompt": ["a", "b"]}, {"several prompts"}),
        ({"prompt": ["a"]}, set()),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, {"image_url"}),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, set()),
        ({"messages": [{"role": "tool", "content": "x"}]}, {"tools"}),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, {"tools"}),
    ],
)
def test_what_changes_the_answer_is_a_need(body: dict[str, Any], needs: set[str]) -> None:
    """A rung honours it or declines."""
    assert needs_of(body) == needs


def test_what_has_no_effect_is_named() -> None:
    """Known ones without effect, and those that nobody knows yet; generation options for fixed texts only."""
    body = {"model": "auto", "messages": [], "user": "u", "from_the_future": 1, "temperature": 0.1, "stop": "x"}
    assert ignorable_of(body) == ("from_the_future", "user")
    assert generation_of(body) == ("stop", "temperature")


@pytest.mark.parametrize(
    ("body", "question"),
    [
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "a"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "c"}]}, "c"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}]}, "a"),
        ({"messages": [{"role": "system", "content": "a"}]}, ""),
        ({"messages": [{"role": "user", "content": None}]}, ""),
        ({"prompt": "p"}, "p"),
        ({"prompt": ["p"]}, "p"),
        ({"prompt": ""}, ""),
        ({"messages": [{"role": "user", "content": "a" * 20_001}]}, "a" * 20_000),
        ({"prompt": "p" * 20_001}, "p" * 20_000),
    ],
)
def test_the_question_is_the_last_thing_that_the_user_said(body: dict[str, Any], question: str) -> None:
    """Or the prompt; of what is longer than a question may be, the beginning."""
    assert question_of(body) == question


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"error": 3}', b'{"error": {"code": 4, "message": []}}', b"\xff"])
def test_an_unreadable_error_body_says_nothing(data: bytes) -> None:
    """The status alone is the outcome then."""
    assert error_of(data) == ("", "")

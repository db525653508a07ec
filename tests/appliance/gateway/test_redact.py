"""What is taken out of a request is nowhere in what leaves, and comes back in the answer however it is cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.gateway.call import Chunk
from appliance.gateway.redact import Redaction, Restored, Rules
from appliance.gateway.residency import narrowed
from bundler.format.service import PATTERN, REDACT_KINDS, RedactSpec
from bundler.profile.redact import slow

KINDS = [kind for kind in REDACT_KINDS if kind != PATTERN]
RULES = Rules(
    [*(RedactSpec(kind, kind, "", True) for kind in KINDS), RedactSpec("ticket", PATTERN, "INC[0-9]{6}", True)]
)
KNOWN = {
    "email": ["anna.o'neil+x@mail.example.org", "ü@bücher.example"],
    "phone": ["+49 30 1234567", "030/123 456 78", "(555) 123-4567", "0041 44 668 18 00"],
    "iban": ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "nl91abna0417164300"],
    "card": ["4111 1111 1111 1111", "5500005555555559", "378282246310005"],
    "ip": ["192.0.2.17", "2001:db8::1", "fe80::1ff:fe23:4567:890a"],
    "ticket": ["INC004711"],
}
SECRETS = [text for texts in KNOWN.values() for text in texts]
INNOCENT = [
    "On 2026-11-21 at 12:30:45 the printer said 500.",
    "Version 1.2.3.400 of 4111 1111 1111 1112, order 48213",
    "DE89370400440532013001 and a@b",
    "12 x 3 = 36; Room 0.17",
]
WORDS = st.sampled_from(["please call ", "\n", "a ", "über ", "<EMAIL_1> ", "<", '"', "\\ ", "(see) "])
PARTS = st.lists(WORDS | st.sampled_from(SECRETS).map(lambda text: f"{text} "), max_size=8).map("".join)


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in KNOWN.items() for text in texts])
def test_each_kind_is_found(kind: str, text: str) -> None:
    """Whole, with its own placeholder, and nothing around it goes with it."""
    redaction = Redaction(RULES, {"messages": [{"role": "user", "content": f"see {text}, please"}]})
    assert redaction.body["messages"][0]["content"] == f"see <{kind.upper()}_1>, please"


@pytest.mark.parametrize("text", INNOCENT)
def test_what_is_none_stays(text: str) -> None:
    """Dates, times, versions, and numbers whose check digits are wrong."""
    assert Redaction(RULES, {"prompt": text}).body == {"prompt": text}


@given(PARTS, PARTS, PARTS)
def test_no_original_leaves_and_all_come_back(first: str, second: str, third: str) -> None:
    """Wherever a text stands, arguments of tools in escapes included; one text has one placeholder."""
    escaped = json.dumps({"to": third}, ensure_ascii=True)
    calls = [{"id": "c", "type": "function", "function": {"name": "send", "arguments": escaped}}]
    body = {
        "model": "m",
        "messages": [
            {"role": "user", "content": first},
            {"role": "assistant", "content": [{"type": "text", "text": second}], "tool_calls": calls},
        ],
        "user": first,
    }
    redaction = Redaction(RULES, body)
    sent = json.dumps(redaction.body, ensure_ascii=False)
    plain = json.dumps(json.loads(redaction.body["messages"][1]["tool_calls"][0]["function"]["arguments"]))
    assert not [text for text in SECRETS if text in sent or text in plain]
    assert redaction.body["user"] == redaction.body["messages"][0]["content"]
    back = redaction.restored_in(redaction.body)
    assert back["messages"][0]["content"] == first
    assert back["messages"][1]["content"][0]["text"] == second
    assert json.loads(back["messages"][1]["tool_calls"][0]["function"]["arguments"]) == {"to": third}


class _Pieces:
    def __init__(self, values: list[dict[str, Any]]) -> None:
        self._values = values

    def close(self) -> None:
        pass

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        for value in self._values:
            yield Chunk(json.dumps(value).encode(), value)


def _read(stream: Restored) -> list[dict[str, Any]]:
    async def read() -> list[dict[str, Any]]:
        return [json.loads(chunk.raw) async for chunk in stream]

    return asyncio.run(read())


@given(PARTS, st.lists(st.integers(1, 5), min_size=1, max_size=5), st.sampled_from(["stop", None]))
def test_a_stream_gets_its_originals_back(text: str, steps: list[int], finish: str | None) -> None:
    """However the placeholders are cut, and also where the stream ends in the middle of what looks like one."""
    redaction = Redaction(RULES, {"messages": [{"role": "user", "content": text}]})
    said = redaction.body["messages"][0]["content"] + "<EMAI"
    pieces: list[str] = []
    at = 0
    while at < len(said):
        step = steps[len(pieces) % len(steps)]
        pieces.append(said[at : at + step])
        at += step
    values: list[dict[str, Any]] = [{"id": "1", "choices": [{"index": 0, "delta": {"content": p}}]} for p in pieces]
    values.append({"id": "1", "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    got = _read(Restored(_Pieces(values), redaction))
    assert "".join(value["choices"][0]["delta"].get("content", "") for value in got) == text + "<EMAI"


def test_what_is_not_restored_stays_a_placeholder() -> None:
    """The caller sees that something was there."""
    redaction = Redaction(Rules([RedactSpec("card", "card", "", restore=False)]), {"prompt": "4111111111111111"})
    assert redaction.restored(redaction.body["prompt"]) == "<CARD_1>"


def test_rules_that_overlap_leave_no_rest() -> None:
    """What both touch goes as one piece."""
    rules = Rules([RedactSpec("a", PATTERN, "abc", True), RedactSpec("b", PATTERN, "bcd", True)])
    redaction = Redaction(rules, {"prompt": "xabcdx"})
    assert redaction.body == {"prompt": "x<A_1>x"}
    assert redaction.restored("x<A_1>x") == "xabcdx"


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("a+", "without an end"),
        ("(a{1,20}){1,20}", "more than 1000 ways"),
        ("(?:a|a){30}", "more than 1000 ways"),
        (r"(a)\1", "back reference"),
        ("(?=a)a", "assertion"),
        ("a{0,3}", "nothing at all"),
        ("(", "no regular expression"),
        ("a" * 400, "longer than 300"),
    ],
)
def test_a_pattern_that_a_text_can_make_slow_is_refused(pattern: str, reason: str) -> None:
    """Each with its reason."""
    assert reason in slow(pattern)


@pytest.mark.parametrize(
    "pattern", ["INC[0-9]{6}", r"\bKD-[A-Z]{2,4}[0-9]{1,10}\b", "(?:Frau|Herr) [A-Z][a-zäöü]{1,30}"]
)
def test_a_pattern_of_the_allowed_form_is_taken(pattern: str) -> None:
    """Names of tickets, customers and people can be written in it."""
    assert slow(pattern) == ""


def test_regions_are_narrowed() -> None:
    """No limit is any region; an empty one is none, whatever the others say."""
    assert narrowed([None, None]) is None
    assert narrowed([None, ("eu", "us"), ("us", "ch")]) == ("us",)
    assert narrowed([(), ("eu",)]) == ()

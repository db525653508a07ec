"""Between OpenAI's wire and Anthropic's: any request is translated or declined, any event read, however it is cut."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from anthropic.types import Message
from hypothesis import given
from hypothesis import strategies as st

from appliance.gateway import from_anthropic
from appliance.gateway.commit import StreamReader
from appliance.gateway.from_anthropic import EventTranslator, error_of, whole
from appliance.gateway.outcome import Failed
from appliance.gateway.sse import DONE, event
from appliance.gateway.to_anthropic import Untranslatable, translated

JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KINDS = st.sampled_from(
    ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "ping", "x"]
)
FIELDS = st.dictionaries(
    st.sampled_from(["message", "index", "content_block", "delta", "usage", "type", "error"]),
    JSON | st.fixed_dictionaries({"type": st.sampled_from(["text_delta", "tool_use"]), "text": JSON, "usage": JSON}),
)
EVENT = st.tuples(KINDS, FIELDS).map(lambda pair: {**pair[1], "type": pair[0]})
TEXT = st.text(min_size=1, max_size=20).filter(str.strip)
TURNS = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant", "developer"]), TEXT), max_size=8)


@given(TURNS)
def test_turns_alternate_and_lose_no_word(turns: list[tuple[str, str]]) -> None:
    """What goes out begins and ends with the user, changes sides at each turn, and holds every text in its order."""
    turns = [("user", "first"), *turns, ("user", "last")]
    body = translated({"messages": [{"role": role, "content": text} for role, text in turns]}).body
    sides = [turn["role"] for turn in body["messages"]]
    assert sides[0] == sides[-1] == "user"
    assert all(before != now for before, now in pairwise(sides))
    said = [block["text"] for turn in body["messages"] for block in turn["content"]]
    assert said == [text for role, text in turns if role in ("user", "assistant")]
    system = [text for role, text in turns if role in ("system", "developer")]
    assert body.get("system", "") == "\n\n".join(system)
    assert body["max_tokens"] > 0


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([{"role": "assistant", "content": "hi"}, {"role": "user", "content": "x"}], "begin with the user"),
        ([{"role": "user", "content": "x"}, {"role": "assistant", "content": "The answer"}], "has begun"),
        ([{"role": "user", "content": "x"}, {"role": "function", "content": "y"}], "the role 'function'"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "the type 'input_audio'"),
    ],
)
def test_a_conversation_without_a_form_there_is_declined(messages: list[Any], reason: str) -> None:
    """The reason is in our own words."""
    with pytest.raises(Untranslatable, match=reason):
        translated({"messages": messages})


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"max_completion_tokens": 9, "max_tokens": 5}, {"max_tokens": 9}),
        ({}, {"max_tokens": 4096}),
        ({"tool_choice": "required"}, {"tool_choice": {"type": "any"}}),
        ({"tool_choice": "none"}, {"tool_choice": {"type": "none"}}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
            {"tool_choice": {"type": "tool", "name": "f"}},
        ),
        ({"parallel_tool_calls": False}, {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}},
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
        ),
    ],
)
def test_each_option_has_its_form(options: dict[str, Any], found: dict[str, Any]) -> None:
    """What changes the answer is translated."""
    tools = [{"type": "function", "function": {"name": "f"}}]
    body = translated({"messages": [{"role": "user", "content": "x"}], "tools": tools, **options}).body
    assert {name: body[name] for name in found} == found


def test_what_is_left_out_is_named() -> None:
    """An option that nobody relies on is ignored by its name."""
    body = {"messages": [{"role": "user", "content": "x"}], "seed": 1, "metadata": {}, "temperature": 0.0}
    found = translated(body)
    assert found.ignored == ("metadata", "seed")
    assert found.body["temperature"] == 0.0


@given(st.lists(EVENT, max_size=8), st.integers(1, 50))
def test_any_events_are_read_or_refused(events: list[dict[str, Any]], step: int) -> None:
    """No shape of an event, cut anywhere, breaks the reader above; only `message_stop` makes `[DONE]`."""
    translator = EventTranslator(usage=True, created=1)
    said = [data for value in events for data in translator.feed(json.dumps(value).encode())]
    assert DONE not in said
    assert translator.feed(b'{"type": "message_stop"}')[-1] == DONE
    stream = b"".join(map(event, said))
    reader = StreamReader()
    try:
        for at in range(0, len(stream), step):
            reader.feed(stream[at : at + step])
    except Failed:
        return  # refused: an error inside, or chunks without content


@given(st.binary(max_size=30) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_an_answer_or_none(data: bytes) -> None:
    """A body of another kind becomes no completion, and an error in any shape is read."""
    assert b"choices" not in whole(data, 1) or b"choices" in data
    assert error_of(500, data)[0] in (402, 500)


def test_a_whole_answer_has_every_block() -> None:
    """Thoughts, text and calls of tools each find their place; the real type of Anthropic's client makes the bytes."""
    value = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "s"},
            {"type": "text", "text": "One, "},
            {"type": "text", "text": "two."},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1]}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }
    found = json.loads(whole(Message.model_validate(value).model_dump_json().encode(), 7))
    choice = found["choices"][0]
    assert choice["message"]["content"] == "One, two."
    assert choice["message"]["reasoning_content"] == "Hm."
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a":[1]}'}
    assert (choice["finish_reason"], found["created"], found["usage"]["total_tokens"]) == ("tool_calls", 7, 3)


def test_every_known_end_has_a_meaning() -> None:
    """The ends that Anthropic's client knows are OpenAI's four."""
    assert set(from_anthropic.FINISH.values()) == {"stop", "tool_calls", "content_filter"}

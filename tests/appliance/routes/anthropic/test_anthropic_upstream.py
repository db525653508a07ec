"""Anthropic's Messages API behind the box: what leaves, and what comes back through OpenAI's client."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import openai
import pytest

if TYPE_CHECKING:
    from tests.appliance.routes.anthropic.conftest import Scripted
    from tests.appliance.routes.conftest import World

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
ASK: list[Any] = [{"role": "user", "content": "hello"}]


def _streamed(world: World, **options: Any) -> tuple[str, str, Any, Any]:
    """Returns text, thoughts, the finish reason and the usage of a stream."""
    text = thoughts = ""
    finish = usage = None
    stream = world.openai.chat.completions.create(
        model="auto", messages=ASK, stream=True, stream_options={"include_usage": True}, **options
    )
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            thoughts += (choice.delta.model_extra or {}).get("reasoning_content") or ""
            finish = choice.finish_reason or finish
    return text, thoughts, finish, usage


def test_a_whole_answer_comes_back_as_a_completion(claude: World, scripted: Scripted) -> None:
    """The request goes out as a message under the provider's model, with its own headers and no other."""
    answer = claude.openai.chat.completions.create(
        model="auto",
        messages=[{"role": "system", "content": "Be brief."}, *ASK],
        max_tokens=50,
        temperature=0.5,
        stop=["END"],
        user="u-1",
    )
    assert answer.choices[0].message.content == "Hello there"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (12, 5, 17)
    assert answer.model_extra["lifeboat"]["rung"] == "alpha"  # type: ignore[index]
    assert answer.model_extra["lifeboat"]["ignored"] == ["user"]  # type: ignore[index]
    assert scripted.asked == [
        {
            "model": "claude-x",
            "system": "Be brief.",
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
            "max_tokens": 50,
            "temperature": 0.5,
            "stop_sequences": ["END"],
        }
    ]
    assert scripted.paths == ["/v1/messages"]
    sent = scripted.headers[0]
    assert sent["x-api-key"] == "sk-ant-of-the-box"
    assert sent["anthropic-version"] == "2023-06-01"
    assert "authorization" not in sent


def test_a_stream_comes_back_as_chunks(claude: World) -> None:
    """Text, end and usage of the events arrive as OpenAI's client reads them."""
    text, _, finish, usage = _streamed(claude)
    assert (text, finish) == ("Hello there", "stop")
    assert (usage.prompt_tokens, usage.completion_tokens) == (10, 5)
    assert usage.prompt_tokens_details.cached_tokens == 3


def test_thinking_is_reasoning_content(claude: World, scripted: Scripted, events: Callable[..., list[Any]]) -> None:
    """What the model thinks is handed on beside its answer, and is no part of it."""
    begin, ping, _, *rest = events("42")
    thinking = [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm."}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c2ln"}},
        {"type": "content_block_stop", "index": 0},
    ]
    scripted.steps = [begin, ping, *thinking, {"type": "a_new_kind_of_event"}, *rest]
    assert _streamed(claude)[:3] == ("42", "Hm.", "stop")


def test_tool_calls_are_put_together_by_the_client(claude: World, scripted: Scripted) -> None:
    """The pieces of arguments arrive as OpenAI's deltas; a call without arguments has an empty object."""

    def block(index: int, name: str, *pieces: str) -> list[Any]:
        tool = {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        return [
            {"type": "content_block_start", "index": index, "content_block": tool},
            *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
            {"type": "content_block_stop", "index": index},
        ]

    scripted.steps = [
        {"type": "message_start", "message": {"id": "msg_1", "model": "claude-x", "usage": {"input_tokens": 1}}},
        *block(0, "weather", "", '{"city": "O', 'slo"}'),
        *block(1, "clock"),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    ]
    with claude.openai.chat.completions.stream(model="auto", messages=ASK, tools=[TOOL]) as stream:  # type: ignore[list-item]  # a plain dict
        message = stream.get_final_completion().choices[0]
    calls = message.message.tool_calls or []
    assert message.finish_reason == "tool_calls"
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [
        ("toolu_0", "weather", '{"city": "Oslo"}'),
        ("toolu_1", "clock", "{}"),
    ]
    assert scripted.asked[0]["tools"][0]["input_schema"]["properties"] == {"city": {"type": "string"}}


def test_the_result_of_a_tool_goes_back_to_the_model(claude: World, scripted: Scripted) -> None:
    """Results stand first in the turn of the user that follows the call."""
    called = {"id": "toolu_0", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    messages: list[Any] = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "toolu_0", "content": "rain"},
        {"role": "user", "content": "and tomorrow?"},
    ]
    claude.openai.chat.completions.create(model="auto", messages=messages, tools=[TOOL])  # type: ignore[list-item]  # a plain dict
    use = {"type": "tool_use", "id": "toolu_0", "name": "weather", "input": {"city": "Oslo"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_0", "content": [{"type": "text", "text": "rain"}]}
    assert scripted.asked[0]["messages"][1:] == [
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [result, {"type": "text", "text": "and tomorrow?"}]},
    ]


def test_an_image_is_sent_as_bytes_and_an_address_never(claude: World, scripted: Scripted) -> None:
    """A data URL goes on; an address makes the rung decline, and nothing is asked."""

    def ask(url: str) -> Any:
        part = {"type": "image_url", "image_url": {"url": url}}
        return claude.http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": [part]}]})

    assert ask("data:image/png;base64,QUJD").status_code == 200
    source = {"type": "base64", "media_type": "image/png", "data": "QUJD"}
    assert scripted.asked[0]["messages"][0]["content"] == [{"type": "image", "source": source}]
    refused = ask("https://internal.example/secret.png")
    assert refused.status_code == 400
    assert "no address is fetched" in refused.json()["error"]["message"]
    assert len(scripted.asked) == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"n": 2}, "it does not support several answers (n)"),
        ({"frequency_penalty": 1}, "it does not support presence or frequency penalties"),
        ({"temperature": 1.5}, "it does not support a temperature above 1"),
        ({"stop": "\n"}, "it does not stop at white space"),
    ],
)
def test_what_it_cannot_honour_makes_the_rung_decline(
    claude: World, scripted: Scripted, options: dict[str, Any], reason: str
) -> None:
    """The local model serves, the reason is told, and nothing is sent."""
    reply = claude.chat(**options)
    assert reply.headers["X-Lifeboat-Rung"] == "small"
    assert f"alpha: {reason}" in reply.json()["lifeboat"]["reason"]
    assert scripted.asked == []


def _error(kind: str, message: str = "secret sk-123") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (529, _error("overloaded_error"), "it answered 529"),
        (429, _error("rate_limit_error"), "it is throttled (429)"),
        (401, _error("authentication_error"), "it does not accept our key (401)"),
        (404, _error("not_found_error"), "it does not serve this model (404)"),
        (400, _error("invalid_request_error", "Your credit balance is too low"), "its account is unpaid (402)"),
        (
            400,
            _error("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"),
            "the request is longer than its context",
        ),
        (
            400,
            _error("invalid_request_error", "`temperature` is deprecated for this model."),
            "it does not support an option of this request",
        ),
        (413, _error("request_too_large"), "the request is longer than its context"),
        (200, {"hello": "captive portal"}, "the answer is not of OpenAI's wire"),
        (200, _error("overloaded_error"), "an error inside the answer"),
    ],
)
def test_each_error_is_skipped_with_its_reason(
    claude: World, scripted: Scripted, status: int, body: dict[str, Any], reason: str
) -> None:
    """The local model answers, and no word of the provider leaks."""
    scripted.status, scripted.body = status, body
    scripted.reply_headers = {"Retry-After": "7"} if status == 429 else {}
    reply = claude.chat()
    assert reply.headers["X-Lifeboat-Rung"] == "small"
    assert reply.json()["lifeboat"]["reason"][0].startswith(f"alpha: {reason}")
    assert "sk-123" not in reply.text


def test_a_fault_of_the_request_itself_goes_to_the_caller(claude: World, scripted: Scripted) -> None:
    """Nobody else is asked."""
    scripted.status, scripted.body = 400, _error("invalid_request_error", "messages.0: what is this")
    reply = claude.chat()
    assert reply.status_code == 400
    assert reply.json()["error"]["message"] == "messages.0: what is this"


def test_a_stream_that_errs_before_its_first_word_goes_elsewhere(claude: World, scripted: Scripted) -> None:
    """What begins with an error, or is cut before it says anything, costs the caller nothing."""
    for steps in ([{"type": "ping"}, _error("overloaded_error")], [{"type": "ping"}], [b"event: x\ndata: {\n\n"] * 3):
        scripted.steps = steps
        headers, events = claude.events()
        assert headers["X-Lifeboat-Rung"] == "small"
        assert events[-1] == "[DONE]"


@pytest.mark.parametrize("late", [[], [None, _error("overloaded_error")]])
def test_a_stream_that_breaks_after_its_first_words_says_so(
    claude: World, scripted: Scripted, events: Callable[..., list[Any]], late: list[Any]
) -> None:
    """It ends in an error and without `[DONE]`, whether it was cut or said so itself."""
    scripted.steps = [*events("Hello ", stop=None), *late]
    with pytest.raises(openai.APIError, match="broke off in mid-answer"):
        _streamed(claude)


def test_an_end_for_want_of_room_is_no_whole_answer(
    claude: World, scripted: Scripted, events: Callable[..., list[Any]]
) -> None:
    """`max_tokens`, and any reason that is not known, is `length`; a refusal is `content_filter`."""
    for stop, finish in (("max_tokens", "length"), ("from_the_future", "length"), ("refusal", "content_filter")):
        scripted.steps = events("Hello", stop=stop)
        assert _streamed(claude)[2] == finish


def test_a_stream_without_its_farewell_is_whole(
    claude: World, scripted: Scripted, events: Callable[..., list[Any]]
) -> None:
    """Why it ended was said: only `message_stop` is missing."""
    scripted.steps = events("Hello")[:-1]
    _, said = claude.events()
    assert said[-1] == "[DONE]"

"""`/v1/messages` through the unmodified Anthropic client, on every rung and with upstreams of both kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import anthropic
import httpx
import pytest
from anthropic import Anthropic

from appliance.settings import Settings

if TYPE_CHECKING:
    from tests.appliance.routes.anthropic.conftest import Scripted
    from tests.appliance.routes.conftest import FakeBox, World, Worlds

ASK: list[Any] = [{"role": "user", "content": "hello"}]
TOOL: Any = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
OPEN = "When are you open?"
HOURS = "The helpdesk is open from 07:30 to 18:30."
RUNGS = [("alpha", "hello", "[alpha] one two three four"), ("small", "hello", "[small] one two three four")]
RUNGS += [("helpdesk", OPEN, HOURS), ("message", "hello", "I will not guess.\n\nPlease phone 100.")]
Connect = Callable[["World"], Anthropic]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes Anthropic's client for a box."""
    with ExitStack() as stack:

        def made(world: World) -> Anthropic:
            return stack.enter_context(Anthropic(base_url=world.url, api_key=world.token, max_retries=0, timeout=60))

        yield made


def _only(rung: str) -> Callable[[FakeBox], None]:
    """Returns a `change` that leaves nothing above a rung."""

    def change(box: FakeBox) -> None:
        if rung != "alpha":
            box.policy.egress = ()
        if rung not in ("alpha", "small"):
            box.engines = {}

    return change


@pytest.mark.parametrize(("rung", "question", "text"), RUNGS)
def test_every_rung_answers_whole_and_streamed(
    worlds: Worlds, connect: Connect, rung: str, question: str, text: str
) -> None:
    """The client reads the same answer both ways, and the headers say what served it."""
    world = worlds.make(change=_only(rung))
    client = connect(world)
    asked: Any = {"model": "auto", "max_tokens": 50, "messages": [{"role": "user", "content": question}]}
    reply = client.messages.with_raw_response.create(**asked)
    assert reply.headers["X-Lifeboat-Rung"] == rung
    message = reply.parse()
    assert [block.text for block in message.content if block.type == "text"] == [text]
    assert message.stop_reason == "end_turn"
    with client.messages.stream(**asked) as stream:
        assert "".join(stream.text_stream) == text
        last = stream.get_final_message()
        assert stream.response.headers["X-Lifeboat-Rung"] == rung
    assert last.stop_reason == "end_turn"
    assert last.usage.output_tokens == message.usage.output_tokens or rung in ("alpha", "small")


def test_a_request_reaches_an_openai_upstream_in_its_words(world: World, connect: Connect) -> None:
    """System, tools, results, images and the rest are OpenAI's there, and what is left out is named."""
    image: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}
    use: Any = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}}
    result: Any = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "rain"}]}
    reply = connect(world).messages.with_raw_response.create(
        model="alpha",
        max_tokens=9,
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "look"}, image]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm", "signature": "s"}, use]},
            {"role": "user", "content": [result, {"type": "text", "text": "and now?"}]},
        ],
        tools=[TOOL],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        stop_sequences=["END"],
        metadata={"user_id": "u"},
    )
    assert reply.headers["X-Lifeboat-Ignored"] == "cache_control, metadata"
    sent = world.cloud.asked[0]
    function = {"name": "weather", "arguments": '{"city":"Oslo"}'}
    url = {"url": "data:image/png;base64,QUJD"}
    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": url}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "t1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "rain"},
        {"role": "user", "content": "and now?"},
    ]
    assert sent["tools"][0]["function"]["parameters"] == TOOL["input_schema"]
    assert (sent["tool_choice"], sent["parallel_tool_calls"]) == ("required", False)
    assert (sent["max_tokens"], sent["stop"], sent["model"]) == (9, ["END"], "alpha-large")


def test_from_anthropic_s_wire_to_anthropic_s_wire(
    claude: World, scripted: Scripted, connect: Connect, events: Callable[..., list[Any]]
) -> None:
    """Thinking, text, a tool's call and the usage go through the box and arrive in the client's own types."""
    tool = {"type": "tool_use", "id": "t1", "name": "weather", "input": {}}
    pieces = [{"type": "input_json_delta", "partial_json": part} for part in ('{"ci', 'ty": "Oslo"}')]
    begin, ping, *text = events("Let me ", "see.", stop=None)
    scripted.steps = [
        begin,
        ping,
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm."}},
        *text,
        {"type": "content_block_start", "index": 2, "content_block": tool},
        *({"type": "content_block_delta", "index": 2, "delta": piece} for piece in pieces),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    asked: Any = {"model": "auto", "max_tokens": 2000, "messages": ASK, "tools": [TOOL]}
    with connect(claude).messages.stream(**asked, thinking={"type": "enabled", "budget_tokens": 1024}) as stream:
        message = stream.get_final_message()
    found = [block.model_dump(include={"type", "thinking", "text", "name", "input"}) for block in message.content]
    assert found == [
        {"type": "thinking", "thinking": "Hm."},
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "name": "weather", "input": {"city": "Oslo"}},
    ]
    assert message.stop_reason == "tool_use"
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (7, 3)
    assert message.usage.output_tokens == 5
    assert scripted.asked[0]["tools"][0]["name"] == "weather"


@pytest.mark.parametrize("fault", ["cut", "in-band late", "end early"])
def test_a_stream_that_breaks_ends_in_an_error(world: World, connect: Connect, fault: str) -> None:
    """The client raises, and takes nothing for a whole answer."""
    world.cloud.behaviour = fault
    with (
        pytest.raises(anthropic.APIStatusError, match="broke off in mid-answer"),
        connect(world).messages.stream(model="auto", max_tokens=9, messages=ASK) as stream,
    ):
        stream.get_final_message()


@pytest.mark.parametrize("fault", ["cut", "in-band late", "end early"])
def test_a_broken_stream_has_no_message_stop(world: World, fault: str) -> None:
    """On the wire there is an `error` event at the end, without a word of the provider."""
    world.cloud.behaviour = fault
    said = world.http.post("/v1/messages", json={"max_tokens": 9, "messages": ASK, "stream": True}).text
    assert "event: message_start" in said
    assert said.rsplit("event: ", 1)[1].startswith("error\n")
    assert "message_stop" not in said
    assert "secret" not in said


def test_a_stream_that_has_not_begun_gets_pings(worlds: Worlds) -> None:
    """The headers say that it is pending, `ping` keeps the connection, and the end says what served."""
    world = worlds.make(settings=Settings(headers_wait_s=0.05, keepalive_s=0.05))
    world.cloud.behaviour = "slow"
    body = {"max_tokens": 9, "messages": ASK, "stream": True}
    reply = world.http.post("/v1/messages", json=body)
    assert reply.headers["X-Lifeboat-Rung"] == "pending"
    assert reply.text.startswith('event: ping\ndata: {"type":"ping"}\n\n')
    assert '"rung":"alpha"' in reply.text
    assert reply.text.endswith('event: message_stop\ndata: {"type":"message_stop"}\n\n')
    assert "\nid:" not in reply.text
    assert ": keepalive" not in reply.text


def test_errors_are_anthropic_s(world: World, connect: Connect) -> None:
    """Each status is the client's own class, and its body has the shape that the client reads."""
    client = connect(world)
    asked: Any = {"max_tokens": 9, "messages": ASK}
    with pytest.raises(anthropic.NotFoundError) as unknown:
        client.messages.create(model="nobody", **asked)
    assert unknown.value.body["type"] == "error"  # type: ignore[index]  # the SDK types it as object
    assert "this box serves" in unknown.value.body["error"]["message"]  # type: ignore[index]  # as above
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        client.messages.create(model="auto", max_tokens=0, messages=ASK)
    with pytest.raises(anthropic.AuthenticationError):
        client.with_options(api_key="lb_wrong").messages.create(model="auto", **asked)
    with pytest.raises(anthropic.APIStatusError, match="counts no tokens") as uncounted:
        client.messages.count_tokens(model="auto", messages=ASK)
    assert uncounted.value.status_code == 501


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"messages": [*ASK, {"role": "assistant", "content": "The"}]}, "prefill"),
        ({"mcp_servers": [{"url": "https://x"}]}, "nothing of a provider"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "run at a provider"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "'document'"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "x"}}]}]},
            "no address is fetched",
        ),
    ],
)
def test_what_has_no_form_here_is_refused_in_words(world: World, change: dict[str, Any], words: str) -> None:
    """Nothing of it is sent anywhere."""
    reply = world.http.post("/v1/messages", json={"max_tokens": 9, "messages": ASK, **change})
    assert reply.status_code == 400
    assert reply.json()["error"]["type"] == "invalid_request_error"
    assert words in reply.json()["error"]["message"]
    assert world.cloud.asked == []


def test_the_token_comes_in_either_header(world: World) -> None:
    """`x-api-key` and a bearer token are the same; with neither there is no answer."""
    body = {"max_tokens": 9, "messages": ASK}
    for headers, status in (({"x-api-key": world.token}, 200), ({"x-api-key": "lb_no"}, 401), ({}, 401)):
        reply = httpx.post(f"{world.url}/v1/messages", json=body, headers=headers, trust_env=False)
        assert reply.status_code == status

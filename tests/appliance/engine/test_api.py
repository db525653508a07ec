"""The engine's wire as OpenAI's unmodified client uses it, with a real model."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import pytest
from openai import BadRequestError
from openai.lib.streaming.chat import ContentDoneEvent, FunctionToolCallArgumentsDoneEvent
from pydantic import BaseModel, Field

pytestmark = pytest.mark.llm

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
CLOSE: Any = {
    "type": "function",
    "function": {"name": "close_ticket", "parameters": {"type": "object", "properties": {}}},
}


class Ticket(BaseModel):
    """What a helpdesk wants to know."""

    urgency: Literal["low", "high"]
    minutes: int = Field(ge=0, le=999)
    tags: list[Literal["mail", "printer", "vpn"]] = Field(max_length=3)


def said(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_structured_output_parses_into_the_callers_class(running: Any) -> None:
    """`parse` sends the class's schema, strict, and gets an object of it."""
    answer = running.openai.chat.completions.parse(
        model="smol", messages=said("My printer is on fire."), response_format=Ticket, seed=1
    )
    assert isinstance(answer.choices[0].message.parsed, Ticket)
    assert answer.choices[0].finish_reason == "stop"


def test_structured_output_streams(running: Any) -> None:
    """The client's own stream helper assembles the same kind of object."""
    with running.openai.chat.completions.stream(
        model="smol", messages=said("The mail is slow."), response_format=Ticket, seed=2
    ) as stream:
        done = [event for event in stream if isinstance(event, ContentDoneEvent)]
    assert isinstance(done[0].parsed, Ticket)


@pytest.mark.parametrize("seed", range(3))
def test_json_mode_gives_an_object(running: Any, seed: int) -> None:
    """Whatever is drawn, it is JSON or was cut by its length."""
    answer = running.openai.chat.completions.create(
        model="smol",
        messages=said("Describe a cat as JSON."),
        max_tokens=60,
        response_format={"type": "json_object"},
        seed=seed,
        temperature=1.5,
    )
    choice = answer.choices[0]
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content), dict)
    else:
        assert (choice.finish_reason, answer.usage.completion_tokens) == ("length", 60)


@pytest.mark.parametrize(
    ("schema", "fact"),
    [
        ({"type": "unknown"}, "unknown"),
        ({"not": {}}, "not"),
        ({"$ref": "https://example.com/x"}, "example.com"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
        ({"type": "string", "pattern": "("}, "pars"),
        ({"$ref": "#"}, "refers to itself"),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "refers to itself"),
    ],
)
def test_a_schema_that_cannot_be_followed_is_told(running: Any, schema: Any, fact: str) -> None:
    """400 that names the part: nothing of a schema is ignored, nothing is fetched."""
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with pytest.raises(BadRequestError, match=fact) as caught:
        running.openai.chat.completions.create(model="smol", messages=said("x"), response_format=form)
    assert caught.value.code == "invalid_schema"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_forced_call_is_a_call(running: Any, choice: Any) -> None:
    """Its arguments follow the tool's schema, whole and streamed."""
    asked: Any = {
        "model": "smol",
        "messages": said("Weather in Paris?"),
        "tools": [WEATHER],
        "tool_choice": choice,
        "parallel_tool_calls": False,
        "temperature": 0,
    }
    answer = running.openai.chat.completions.create(**asked)
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    assert message.content is None
    (call,) = message.tool_calls
    assert call.function.name == "get_weather"
    arguments = json.loads(call.function.arguments)
    assert set(arguments) == {"city", "unit"}
    assert arguments["unit"] in ("C", "F")
    with running.openai.chat.completions.stream(**asked) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    (done,) = (event for event in events if isinstance(event, FunctionToolCallArgumentsDoneEvent))
    assert (done.name, json.loads(done.arguments)) == ("get_weather", arguments)
    assert final.choices[0].finish_reason == "tool_calls"


def test_a_free_choice_and_the_tools_result(running: Any) -> None:
    """With `auto` the answer is text, or whole calls; a conversation with a call in it goes on."""
    answer = running.openai.chat.completions.create(
        model="smol", messages=said("Weather in Paris?"), tools=[WEATHER, CLOSE], seed=3
    )
    choice = answer.choices[0]
    for call in choice.message.tool_calls or ():
        assert call.function.name in ("get_weather", "close_ticket")
    history = [
        *said("Weather in Paris?"),
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "21 degrees, sunny"},
    ]
    after = running.openai.chat.completions.create(model="smol", messages=history, temperature=0, max_tokens=20)
    assert after.choices[0].message.content


def test_a_call_that_the_model_begins_by_itself_is_held_to_its_tool(running: Any) -> None:
    """With `auto`: after three calls in the conversation the model opens a fourth, and it follows the schema."""
    history: list[Any] = []
    for number, city in enumerate(["Rome", "Oslo", "Bern"]):
        function = {"name": "get_weather", "arguments": json.dumps({"city": city, "unit": "C"})}
        call = {"id": f"c{number}", "type": "function", "function": function}
        history += [*said(f"Weather in {city}?"), {"role": "assistant", "content": None, "tool_calls": [call]}]
    answer = running.openai.chat.completions.create(
        model="smol", messages=[*history, *said("Weather in Lima?")], tools=[WEATHER], temperature=0, max_tokens=120
    )
    message = answer.choices[0].message
    assert message.tool_calls, message
    for call in message.tool_calls:
        assert set(json.loads(call.function.arguments)) == {"city", "unit"}


def test_log_probabilities(running: Any) -> None:
    """Each token comes with its own and the likeliest, which at temperature 0 is the drawn one."""
    asked: Any = {"model": "smol", "messages": said("Say hi."), "temperature": 0, "max_tokens": 12}
    answer = running.openai.chat.completions.create(**asked, logprobs=True, top_logprobs=4)
    scores = answer.choices[0].logprobs.content
    # The token that ended the answer has no text.
    assert len(scores) in (answer.usage.completion_tokens, answer.usage.completion_tokens - 1)
    assert b"".join(bytes(score.bytes) for score in scores).decode() == answer.choices[0].message.content
    for score in scores:
        values = [other.logprob for other in score.top_logprobs]
        assert values == sorted(values, reverse=True)
        assert (len(values), score.top_logprobs[0].token) == (4, score.token)
        assert sum(map(math.exp, values)) <= 1.0001
    chunks = list(running.openai.chat.completions.create(**asked, logprobs=True, stream=True))
    streamed = [score for chunk in chunks for score in (chunk.choices[0].logprobs or Empty).content]
    assert [score.token for score in streamed] == [score.token for score in scores]
    text = running.openai.completions.create(model="smol", prompt="One, two,", max_tokens=5, temperature=0, logprobs=2)
    told = text.choices[0].logprobs
    assert "".join(told.tokens) == text.choices[0].text
    assert all(len(item) == 2 for item in told.top_logprobs)
    assert told.text_offset[1] == len(told.tokens[0])


class Empty:
    """No scores."""

    content: tuple[Any, ...] = ()


def test_several_choices_and_prompts(running: Any) -> None:
    """Choices come in order, differ by their seeds, and count their prompt once; prompts may be texts or tokens."""
    answer = running.openai.chat.completions.create(
        model="smol", messages=said("Invent a name."), n=3, seed=5, temperature=1.5, max_tokens=12
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) == 3
    assert answer.usage.prompt_tokens < 60
    again = running.openai.chat.completions.create(
        model="smol", messages=said("Invent a name."), n=3, seed=5, temperature=1.5, max_tokens=12
    )
    assert [choice.message.content for choice in again.choices] == [item.message.content for item in answer.choices]
    texts = running.openai.completions.create(
        model="smol", prompt=["One, two,", "A, B,"], max_tokens=4, temperature=0, echo=True
    )
    assert [choice.text[:5] for choice in texts.choices] == ["One, ", "A, B,"]
    chunks = running.openai.chat.completions.create(
        model="smol", messages=said("Hi."), n=2, max_tokens=4, stream=True, stream_options={"include_usage": True}
    )
    seen = [(choice.index, choice.finish_reason) for chunk in chunks for choice in chunk.choices]
    assert {index for index, finish in seen if finish} == {0, 1}


def test_a_bias_forces_and_forbids(running: Any) -> None:
    """100 brings a token in again and again, -100 keeps it out; the same prompt is the control."""
    asked: Any = {"model": "smol", "prompt": "The capital of France is", "max_tokens": 3, "temperature": 0}
    free = running.openai.completions.create(**asked).choices[0].text
    forced = running.openai.completions.create(**asked, logit_bias={"30": 100}).choices[0].text
    assert forced == forced[0] * 3 != free
    both = running.openai.completions.create(**asked, logit_bias={"30": -100, "31": 99}).choices[0].text
    assert both == both[0] * 3 != forced


def test_a_begun_answer_is_continued(running: Any) -> None:
    """`continue_final_message` goes on where the assistant's words end."""
    messages = [*said("Count from one to ten."), {"role": "assistant", "content": "one, two, three,"}]
    answer = running.openai.chat.completions.create(
        model="smol", messages=messages, temperature=0, max_tokens=6, extra_body={"continue_final_message": True}
    )
    assert "four" in answer.choices[0].message.content
    with pytest.raises(BadRequestError, match="assistant"):
        running.openai.chat.completions.create(
            model="smol", messages=said("x"), extra_body={"continue_final_message": True}
        )


def test_a_stop_text_ends_and_is_not_told(running: Any) -> None:
    """Nor are the scores of its tokens; a stream holds back what may become it."""
    asked: Any = {"model": "smol", "prompt": "One, two, three, four,", "temperature": 0, "max_tokens": 20}
    whole = running.openai.completions.create(**asked).choices[0].text
    stop = whole[6:9]
    cut = running.openai.completions.create(**asked, stop=[stop], logprobs=0).choices[0]
    assert (cut.text, cut.finish_reason) == (whole[: whole.index(stop)], "stop")
    assert "".join(cut.logprobs.tokens).startswith(cut.text)
    chunks = running.openai.completions.create(**asked, stop=stop, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == cut.text


def test_all_sampling_options_are_taken(running: Any) -> None:
    """llama.cpp's own options go through `extra_body`; the same seed gives the same answer."""
    options = [
        {"typical_p": 0.9},
        {"top_n_sigma": 1.5},
        {"xtc_probability": 0.5, "xtc_threshold": 0.05},
        {"dry_multiplier": 0.8},
        {"mirostat": 1},
        {"mirostat": 2, "mirostat_tau": 3},
        {"repeat_last_n": 16, "repeat_penalty": 1.3},
        {"ignore_eos": True},
    ]
    for option in options:
        one, two = (
            running.openai.chat.completions.create(
                model="smol", messages=said("Hello."), seed=9, max_tokens=10, extra_body=option
            )
            for _ in range(2)
        )
        assert one.choices[0].message.content == two.choices[0].message.content, option


def test_one_bad_request_among_many(running: Any) -> None:
    """Grammars, bad schemas, over-long prompts and plain chats at once: each gets its own answer."""

    def ask(number: int) -> str:
        kind = number % 4
        try:
            if kind == 0:
                answer = running.openai.chat.completions.parse(
                    model="smol", messages=said(f"Ticket {number}"), response_format=Ticket, temperature=0
                )
                return "ticket" if answer.choices[0].message.parsed else "none"
            if kind == 1:
                bad = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}}
                running.openai.chat.completions.create(model="smol", messages=said("x"), response_format=bad)
            if kind == 2:
                running.openai.chat.completions.create(model="smol", messages=said("word " * 3000))
            answer = running.openai.chat.completions.create(model="smol", messages=said(f"Hi {number}"), max_tokens=5)
        except BadRequestError as error:
            return str(error.code)
        return "text" if answer.choices[0].message.content else "empty"

    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(ask, range(24)))
    assert told == ["ticket", "invalid_schema", "context_length_exceeded", "text"] * 6

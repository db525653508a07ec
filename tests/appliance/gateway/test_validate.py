"""What counts as an answer: whole, or put together of chunks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.gateway.validate import Said, Wanted, fault, of_body, of_chunks
from bundler.format.service import OutputSpec

SCHEMA = {"type": "object", "required": ["a"]}
ROUTE = OutputSpec(json.dumps(SCHEMA), ("en",), ("I can't",), own_model=True)
FREE = Wanted(None, None)
UNLIKE_REQUEST = "the answer is not as the JSON schema of the request says"


def _both(message: dict[str, Any], finish: str = "stop") -> list[Said]:
    """Returns the same answer, whole and as a stream that is cut inside its text."""
    text = message.get("content") or ""
    parts = [{"content": text[:3]}, {**message, "content": text[3:]}]
    chunks = [{"model": "m", "choices": [{"index": 0, "delta": part, "finish_reason": None}]} for part in parts]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    whole = {"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}
    return [of_body(whole), of_chunks(chunks)]


@pytest.mark.parametrize(
    ("message", "finish", "wanted", "reason"),
    [
        ({"content": "yes"}, "stop", FREE, ""),
        ({"content": " \n"}, "stop", FREE, "the answer is empty"),
        ({"content": " \n"}, "length", FREE, ""),
        ({"content": None, "reasoning_content": "hm"}, "stop", FREE, "the answer is empty"),
        ({"content": None, "tool_calls": [{"id": "1"}]}, "stop", FREE, ""),
        ({"content": None, "audio": {"id": "1"}}, "stop", FREE, ""),
        ({"content": None, "refusal": "no"}, "stop", FREE, ""),
        ({"content": " \n"}, "stop", Wanted(None, None, words=False), ""),
        ({"content": "{"}, "stop", Wanted(None, SCHEMA), UNLIKE_REQUEST),
        ({"content": "{}"}, "stop", Wanted(None, SCHEMA), UNLIKE_REQUEST),
        ({"content": '{"a": 1}'}, "stop", Wanted(None, SCHEMA), ""),
        ({"content": '{"a": NaN}'}, "stop", Wanted(None, SCHEMA), UNLIKE_REQUEST),
        ({"content": '{"a": 1, "a": 2}'}, "stop", Wanted(None, SCHEMA), UNLIKE_REQUEST),
        ({"content": '{"a": 1'}, "length", Wanted(None, SCHEMA), ""),
        ({"content": "x"}, "content_filter", Wanted(ROUTE, None), ""),
        ({"content": None, "tool_calls": [{"id": "1"}]}, "stop", Wanted(ROUTE, SCHEMA), ""),
        ({"content": "I can\u2019t do that"}, "stop", Wanted(ROUTE, None), "it declined to answer"),
        ({"content": "", "refusal": "no"}, "stop", Wanted(ROUTE, None), "it declined to answer"),
        (
            {"content": '{"b": 1}'},
            "stop",
            Wanted(ROUTE, None),
            "the answer is not as the JSON schema of the route says",
        ),
    ],
)
def test_an_answer_is_judged_alike_whole_and_streamed(
    message: dict[str, Any], finish: str, wanted: Wanted, reason: str
) -> None:
    """A fault of the rung, or an outcome that the caller must see."""
    assert [fault(said, wanted, "m") for said in _both(message, finish)] == [reason, reason]


def test_one_of_several_answers_may_be_empty() -> None:
    """All of them are not; and each has the schema to keep."""
    choices = [{"index": place, "message": {"content": text}} for place, text in enumerate(('{"a": 1}', ""))]
    said = of_body({"model": "m", "choices": choices})
    assert fault(said, FREE, "m") == ""
    assert fault(said, Wanted(None, SCHEMA), "m") != ""


@pytest.mark.parametrize(("answered", "right"), [("m", True), ("m-2026-01-31", True), ("n", False), ("", False)])
def test_the_model_s_name_is_looked_at_where_asked(answered: str, right: bool) -> None:
    """Providers answer for a name under a dated one."""
    output = OutputSpec("", (), (), own_model=True)
    said = of_body({"model": answered, "choices": [{"index": 0, "message": {"content": "yes"}}]})
    assert (fault(said, Wanted(output, None), "m") == "") is right


@pytest.mark.parametrize("value", [{}, {"choices": 3}, {"choices": [3]}, {"choices": [{"delta": 3, "index": "x"}]}])
def test_foreign_shapes_are_read(value: dict[str, Any]) -> None:
    """What is no completion is an empty one."""
    assert fault(of_chunks([value]), FREE, "m") == "the answer is empty"
    assert fault(of_body(value), FREE, "m") == "the answer is empty"

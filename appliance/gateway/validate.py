"""Whether an answer is what was asked for: at its end, before it counts. Pure.

An answer that is empty, in another language, of another model, only a refusal, or not as its JSON schema says, has
failed softly: the rung works, and another one may do better. What a caller must see is no such fault: an answer that a
limit of length or a content filter ended has no schema to keep.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from appliance.gateway import json_schema
from appliance.gateway.call import CHAT, Call
from appliance.gateway.language import language_of
from bundler.format import strict_json
from bundler.format.service import OutputSpec

# A refusal is said at once; the same words deep inside an answer are no refusal of it.
REFUSAL_CHARS = 200
_JSON = "json_object"
_MORE = ("tool_calls", "function_call", "audio", "images")


@dataclass
class Choice:
    """One of the answers of a completion."""

    text: str = ""
    refusal: str = ""
    finish: str = ""
    more: bool = False  # tool calls, audio, images


@dataclass
class Said:
    """What a completion says, whole or put together of its chunks."""

    model: str = ""
    choices: dict[int, Choice] = field(default_factory=dict)

    def choice(self, number: object) -> Choice:
        return self.choices.setdefault(number if isinstance(number, int) else 0, Choice())

    def take(self, value: Mapping[str, Any]) -> None:
        """Takes one chunk of a stream."""
        self.model = self.model or _text(value.get("model"))
        for item in _dicts(value.get("choices")):
            delta = item.get("delta")
            _take(self.choice(item.get("index")), item, delta if isinstance(delta, dict) else {})


@dataclass(frozen=True)
class Wanted:
    """What an answer must be.

    Attributes:
        output: What the route asks for.
        schema: The schema that the request asks for; None for none.
        words: Whether it must say something: white space goes on with a text, and answers no question.
    """

    output: OutputSpec | None
    schema: Mapping[str, Any] | None
    words: bool = True

    @classmethod
    def of(cls, call: Call) -> Wanted:
        return cls(call.route.output, _asked(call.body.get("response_format")), call.wire == CHAT)


def of_body(body: Mapping[str, Any]) -> Said:
    """Reads a whole completion."""
    said = Said(_text(body.get("model")))
    for item in _dicts(body.get("choices")):
        message = item.get("message")
        _take(said.choice(item.get("index")), item, message if isinstance(message, dict) else {})
    return said


def of_chunks(values: Iterable[Mapping[str, Any]]) -> Said:
    """Puts the chunks of a stream together."""
    said = Said()
    for value in values:
        said.take(value)
    return said


def fault(said: Said, wanted: Wanted, model: str) -> str:
    """Returns why an answer is not what was asked for, "" where it is.

    Args:
        said: The answer.
        wanted: What it must be.
        model: The name of the model that was asked.
    """
    output = wanted.output
    # Providers answer for "m" as "m-2026-01-31": what was asked for is the beginning.
    if output is not None and output.own_model and not said.model.startswith(model):
        return "it answered as another model"
    if wanted.words and all(map(_blank, said.choices.values())):
        return "the answer is empty"
    return next(filter(None, (_choice_fault(choice, wanted) for choice in said.choices.values())), "")


def _choice_fault(choice: Choice, wanted: Wanted) -> str:
    output = wanted.output
    if choice.more:  # a tool call is checked by whoever runs the tool
        return ""
    if output is not None and _refused(choice, output):
        return "it declined to answer"
    if choice.finish not in ("", "stop") or choice.refusal:
        return ""
    if wanted.schema is not None and not _follows(choice.text, wanted.schema):
        return "the answer is not as the JSON schema of the request says"
    if output is None:
        return ""
    if output.schema and not _follows(choice.text, _schema(output.schema)):
        return "the answer is not as the JSON schema of the route says"
    language = language_of(choice.text) if output.languages else None
    return f"it answered in another language ({language})" if language not in (None, *output.languages) else ""


def _blank(choice: Choice) -> bool:
    return not (choice.text.strip() or choice.refusal or choice.more) and choice.finish in ("", "stop")


def _refused(choice: Choice, output: OutputSpec) -> bool:
    if not output.refusals:
        return False
    begun = choice.text[:REFUSAL_CHARS].casefold().replace("\u2019", "'")
    return bool(choice.refusal) or any(phrase.casefold() in begun for phrase in output.refusals)


def _follows(text: str, schema: Mapping[str, Any]) -> bool:
    try:
        value = strict_json.parse(text.encode())
    except ValueError:
        return False
    return json_schema.fault(value, schema) is None


@lru_cache(maxsize=64)
def _schema(text: str) -> Mapping[str, Any]:
    value = json.loads(text)  # the builder wrote it
    return value if isinstance(value, dict) else {}


def _asked(response_format: object) -> Mapping[str, Any] | None:
    if not isinstance(response_format, dict):
        return None
    if response_format.get("type") == _JSON:
        return {"type": "object"}
    wrapped = response_format.get("json_schema")
    schema = wrapped.get("schema") if isinstance(wrapped, dict) else None
    return schema if isinstance(schema, dict) else None


def _take(choice: Choice, item: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    choice.text += _text(fields.get("content")) + _text(item.get("text"))
    choice.refusal += _text(fields.get("refusal"))
    choice.finish = _text(item.get("finish_reason")) or choice.finish
    choice.more = choice.more or any(fields.get(name) for name in _MORE)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []

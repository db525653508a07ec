"""A chat answer as Anthropic's Messages API gives it: whole, as events, or as an error. Pure.

A stream that breaks ends in an `error` event and without `message_stop`. What served the answer stands in a `lifeboat`
object of the whole answer and of `message_delta`, which Anthropic's clients hand through.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import msgspec

from appliance.gateway.foreign_json import object_of
from appliance.gateway.outcome import Failed, Kind
from appliance.gateway.sse import DONE, KEEPALIVE, EventReader
from appliance.routes.errors import MESSAGE_TYPES

STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
UNKNOWN_CALL = "a tool was called in a form that is none"
PING = b'event: ping\ndata: {"type":"ping"}\n\n'


def whole(value: Mapping[str, Any], *, thinking: bool) -> dict[str, Any]:
    """Returns a completion as a message.

    Raises:
        Failed: A tool was called in a form that is none, or with arguments that are no JSON object.
    """
    choice = value["choices"][0]
    message = _table(choice.get("message"))
    blocks: list[dict[str, Any]] = []
    if thinking and (thoughts := _text(message, "reasoning_content")):
        blocks.append({"type": "thinking", "thinking": thoughts, "signature": ""})
    blocks += [{"type": "text", "text": text} for name in ("content", "refusal") if (text := _text(message, name))]
    blocks += [_called(call) for call in _rows(message.get("tool_calls"))]
    return {
        **_head(value),
        "content": blocks,
        "stop_reason": _stop(choice.get("finish_reason")),
        "usage": usage_of(value.get("usage")),
        "lifeboat": value.get("lifeboat"),
    }


def _called(call: object) -> dict[str, Any]:
    function = _table(_table(call).get("function"))
    name, number = _text(function, "name"), _text(_table(call), "id")
    if not (name and number):
        raise Failed(Kind.NOT_JSON, UNKNOWN_CALL)
    arguments = object_of((_text(function, "arguments") or "{}").encode())
    if arguments is None:
        raise Failed(Kind.NOT_JSON, "a tool was called with arguments that are no JSON object")
    return {"type": "tool_use", "id": number, "name": name, "input": arguments}


def usage_of(usage: object) -> dict[str, int]:
    """Returns a usage in Anthropic's words: the input does not count what was read from a cache."""
    fields = _table(usage)
    cached = _count(_table(fields.get("prompt_tokens_details")), "cached_tokens")
    prompt, answer = _count(fields, "prompt_tokens"), _count(fields, "completion_tokens")
    found = {"input_tokens": max(0, prompt - cached), "output_tokens": answer}
    return found | ({"cache_read_input_tokens": cached} if cached else {})


async def events(chat: AsyncIterator[bytes], *, thinking: bool) -> AsyncIterator[bytes]:
    """Yields the events of a message for the events of a chat completion, keep-alives as pings."""
    reader, writer = EventReader(), EventWriter(thinking=thinking)
    async with aclosing(chat):  # type: ignore[type-var]  # every iterator here is a generator
        async for data in chat:
            if data == KEEPALIVE:
                yield PING
            for raw in reader.feed(data):
                for said in writer.feed(raw):
                    yield said
            if writer.over:
                return


class EventWriter:
    """Writes one message as events. Blocks follow each other: a new one ends the one before."""

    def __init__(self, *, thinking: bool) -> None:
        self._thinking = thinking
        self._begun = self.over = False
        self._open: tuple[str, int] | None = None
        self._index = -1
        self._tools = -1
        self._stop: object = None
        self._usage: object = None
        self._lifeboat: object = None

    def feed(self, raw: bytes) -> list[bytes]:
        """Takes the data of one event of a chat completion; returns events."""
        if raw == DONE:
            self.over = True
            return [*self._start({}), *self._close(), *self._end()]
        value = object_of(raw) or {}
        if error := value.get("error"):
            return self._error(error, value.get("lifeboat"))
        self._usage = value.get("usage") or self._usage
        self._lifeboat = value.get("lifeboat") or self._lifeboat
        found = self._start(value)
        for choice in map(_table, _rows(value.get("choices"))):
            self._stop = choice.get("finish_reason") or self._stop
            found += self._delta(_table(choice.get("delta")))
        return found

    def _start(self, value: Mapping[str, Any]) -> list[bytes]:
        if self._begun:
            return []
        self._begun = True
        message = _head(value) | {"content": [], "stop_reason": None, "usage": usage_of(None)}
        return [_event("message_start", message=message)]

    def _delta(self, delta: Mapping[str, Any]) -> list[bytes]:
        found: list[bytes] = []
        if self._thinking and (thoughts := _text(delta, "reasoning_content")):
            found += self._into("thinking", 0, {"type": "thinking", "thinking": "", "signature": ""})
            found.append(self._piece({"type": "thinking_delta", "thinking": thoughts}))
        for name in ("content", "refusal"):
            if text := _text(delta, name):
                found += self._into("text", 0, {"type": "text", "text": ""})
                found.append(self._piece({"type": "text_delta", "text": text}))
        for called in _rows(delta.get("tool_calls")):
            if self.over:
                break
            found += self._tool(_table(called))
        return found

    def _tool(self, called: Mapping[str, Any]) -> list[bytes]:
        index, function = _count(called, "index"), called.get("function")
        if not isinstance(function, Mapping):
            return self._error({"message": UNKNOWN_CALL}, None)
        if index > self._tools:
            self._tools = index
            named = {"id": _text(called, "id"), "name": _text(function, "name")}
            found = self._into("tool_use", index, {"type": "tool_use", **named, "input": {}})
        elif self._open == ("tool_use", index):
            found = []
        else:  # a block that has ended cannot be gone on with, and half a call must not be run
            return self._error({"message": "the calls of tools came mixed up"}, None)
        if arguments := _text(function, "arguments"):
            found.append(self._piece({"type": "input_json_delta", "partial_json": arguments}))
        return found

    def _into(self, kind: str, number: int, block: dict[str, Any]) -> list[bytes]:
        if self._open == (kind, number):
            return []
        ended = self._close()
        self._open, self._index = (kind, number), self._index + 1
        return [*ended, _event("content_block_start", index=self._index, content_block=block)]

    def _piece(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)

    def _close(self) -> list[bytes]:
        if self._open is None:
            return []
        self._open = None
        return [_event("content_block_stop", index=self._index)]

    def _end(self) -> list[bytes]:
        delta = {"stop_reason": _stop(self._stop), "stop_sequence": None}
        said = _event("message_delta", delta=delta, usage=usage_of(self._usage), lifeboat=self._lifeboat)
        return [said, _event("message_stop")]

    def _error(self, error: Mapping[str, Any], lifeboat: object) -> list[bytes]:
        self.over = True
        kind = (
            error.get("type")
            if error.get("type") in {*MESSAGE_TYPES.values(), "invalid_request_error"}
            else "api_error"
        )
        told = {"type": kind, "message": error.get("message")}
        told |= {name: error[name] for name in ("code", "partial", "resume_id") if name in error}
        return [_event("error", error=told, **({"lifeboat": lifeboat} if lifeboat else {}))]


def _table(value: object) -> Mapping[str, Any]:
    """Returns a table of a provider's, an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def _rows(value: object) -> list[Any]:
    """Returns a list; anything else that is there is one thing that is none of what it should be."""
    return value if isinstance(value, list) else [value] if value else []


def _text(table: Mapping[str, Any], name: str) -> str:
    value = table.get(name)
    return value if isinstance(value, str) else ""


def _count(table: Mapping[str, Any], name: str) -> int:
    value = table.get(name)
    return value if isinstance(value, int) and value > 0 else 0


def _stop(reason: object) -> str:
    return STOPS.get(str(reason), "end_turn")


def _head(value: Mapping[str, Any]) -> dict[str, Any]:
    names = {"id": value.get("id") or "", "model": value.get("model") or ""}
    return {**names, "type": "message", "role": "assistant", "stop_sequence": None}


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: ".encode() + msgspec.json.encode({"type": kind, **fields}) + b"\n\n"

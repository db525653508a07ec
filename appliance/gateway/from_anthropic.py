"""What Anthropic's Messages API answers, as OpenAI's wire says it: whole answers, streams, errors. Pure.

The API as of its versions 2023-06-01 and 2026-10-21. Kinds of events and blocks that are not known are passed over, as
its documentation asks of clients; an end whose reason is not known is told as `length`, so that nobody takes what came
for a whole answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from appliance.gateway.foreign_json import object_of
from appliance.gateway.sse import DONE

FINISH = {"end_turn": "stop", "stop_sequence": "stop", "tool_use": "tool_calls", "refusal": "content_filter"}
_UNKNOWN_END = "length"  # also max_tokens, model_context_window_exceeded, pause_turn
# Error types, as the codes and statuses that OpenAI's wire has for them.
CODES = {
    "rate_limit_error": "rate_limit_exceeded",
    "authentication_error": "invalid_api_key",
    "billing_error": "insufficient_quota",
    "not_found_error": "model_not_found",
}
# All of these are `invalid_request_error` with the status 400; only the message tells them apart.
_LIMITS = (
    (re.compile(r"prompt is too long|exceeds? (the )?context|context (limit|window)", re.I), "context_length_exceeded"),
    (re.compile(r"credit balance is too low", re.I), "insufficient_quota"),
    (re.compile(r"output_config|output_format|schema", re.I), "invalid_schema"),
    (re.compile(r"`?(temperature|top_p|top_k|thinking)`?\b|extra inputs|prefill", re.I), "unsupported_option"),
)
_UNPAID = 402
_TOO_LARGE = 413


def error_of(status: int, data: bytes) -> tuple[int, str, str]:
    """Returns status, code and message of an error as OpenAI's wire would have them."""
    error = (object_of(data) or {}).get("error")
    if not isinstance(error, Mapping):
        return status, "", ""
    kind, message = error.get("type"), error.get("message")
    words = message if isinstance(message, str) else ""
    code = _code(str(kind), words) if status != _TOO_LARGE else "context_length_exceeded"
    return (_UNPAID if code == "insufficient_quota" else status), code, words


def _code(kind: str, message: str) -> str:
    if kind == "invalid_request_error":
        return next((code for pattern, code in _LIMITS if pattern.search(message)), "")
    return CODES.get(kind, kind.removesuffix("_error"))


def whole(data: bytes, created: int) -> bytes:
    """Returns a whole answer as a chat completion; what is none comes back as it is, to be refused as such.

    Args:
        data: The body of a 200.
        created: Unix seconds.
    """
    value = object_of(data)
    if value is None or (value.get("type") != "message" and value.get("type") != "error"):
        return b"{}"
    if value["type"] == "error":
        return msgspec.json.encode({"error": _in_band(value.get("error"))})
    blocks = [block for block in value.get("content") or () if isinstance(block, Mapping)]
    message: dict[str, Any] = {"role": "assistant", "content": _joined(blocks, "text") or None, "refusal": None}
    if thoughts := _joined(blocks, "thinking"):
        message["reasoning_content"] = thoughts
    if calls := [_call(block) for block in blocks if block.get("type") == "tool_use"]:
        message["tool_calls"] = calls
    finish = FINISH.get(str(value.get("stop_reason")), _UNKNOWN_END)
    head = _head(value, created, "chat.completion")
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    return msgspec.json.encode(head | {"choices": [choice], "usage": usage_of(value.get("usage"))})


def usage_of(value: object) -> dict[str, Any]:
    """Returns a usage in OpenAI's words: its prompt counts what was cached, too."""
    fields = value if isinstance(value, Mapping) else {}
    cached = _count(fields, "cache_read_input_tokens")
    prompt = _count(fields, "input_tokens") + cached + _count(fields, "cache_creation_input_tokens")
    answer = _count(fields, "output_tokens")
    found = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
    return found | {"prompt_tokens_details": {"cached_tokens": cached}}


class EventTranslator:
    """Translates one stream, event by event.

    Args:
        usage: Whether the caller asked for the usage.
        created: Unix seconds.
    """

    def __init__(self, *, usage: bool, created: int) -> None:
        self._wants_usage, self._created = usage, created
        self._head: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._tools: dict[int, int] = {}
        self._said: set[int] = set()

    def feed(self, raw: bytes) -> list[bytes]:
        """Takes the data of one event; returns the data of OpenAI's events. What is no JSON is handed on as it is."""
        value = object_of(raw)
        if value is None:
            return [raw]
        kind = value.get("type")
        if kind == "error":
            return [msgspec.json.encode({"error": _in_band(value.get("error"))})]
        if kind == "message_stop":
            usage = [self._event([], usage=usage_of(self._usage))] if self._wants_usage else []
            return [*usage, DONE]
        return self._part(str(kind), value)

    def _part(self, kind: str, value: Mapping[str, Any]) -> list[bytes]:
        if kind == "message_start":
            message = _table(value, "message")
            self._head = _head(message, self._created, "chat.completion.chunk")
            self._learn(message)
            return [self._delta({"role": "assistant", "content": ""})]
        if kind == "content_block_start":
            return self._block(_index(value), _table(value, "content_block"))
        if kind == "content_block_delta":
            return self._piece(_index(value), _table(value, "delta"))
        if kind == "content_block_stop":
            return self._block_end(_index(value))
        if kind == "message_delta":
            self._learn(value)
            reason = _table(value, "delta").get("stop_reason")
            return [] if reason is None else [self._delta({}, FINISH.get(str(reason), _UNKNOWN_END))]
        return []

    def _block(self, index: int, block: Mapping[str, Any]) -> list[bytes]:
        if block.get("type") == "tool_use":
            self._tools[index] = len(self._tools)
            given = block.get("input")
            arguments = msgspec.json.encode(given).decode() if given else ""
            self._said |= {index} if arguments else set()
            function = {"name": block.get("name"), "arguments": arguments}
            return [self._tool(index, {"id": block.get("id"), "type": "function", "function": function})]
        text = block.get("text")
        return [self._delta({"content": text})] if isinstance(text, str) and text else []

    def _piece(self, index: int, delta: Mapping[str, Any]) -> list[bytes]:
        kind = delta.get("type")
        if kind == "text_delta":
            return [self._delta({"content": delta.get("text")})]
        if kind == "thinking_delta":
            return [self._delta({"reasoning_content": delta.get("thinking")})]
        if kind == "input_json_delta" and index in self._tools and delta.get("partial_json"):
            self._said.add(index)
            return [self._tool(index, {"function": {"arguments": delta["partial_json"]}})]
        return []

    def _block_end(self, index: int) -> list[bytes]:
        if index in self._tools and index not in self._said:  # a tool without arguments: OpenAI writes "{}"
            return [self._tool(index, {"function": {"arguments": "{}"}})]
        return []

    def _learn(self, value: Mapping[str, Any]) -> None:
        # Every count is of the whole answer so far, so the last one holds.
        self._usage |= {name: count for name, count in _table(value, "usage").items() if count is not None}

    def _tool(self, index: int, fields: dict[str, Any]) -> bytes:
        return self._delta({"tool_calls": [{"index": self._tools[index], **fields}]})

    def _delta(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        return self._event([{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}])

    def _event(self, choices: list[dict[str, Any]], **fields: Any) -> bytes:
        return msgspec.json.encode({**self._head, "choices": choices, **fields})


def _in_band(error: object) -> dict[str, str]:
    fields = error if isinstance(error, Mapping) else {}
    message = fields.get("message")
    words = message if isinstance(message, str) else ""
    return {"message": words, "code": _code(str(fields.get("type")), words)}


def _head(message: Mapping[str, Any], created: int, kind: str) -> dict[str, Any]:
    return {"id": message.get("id"), "object": kind, "created": created, "model": message.get("model")}


def _call(block: Mapping[str, Any]) -> dict[str, Any]:
    arguments = msgspec.json.encode(block.get("input") or {}).decode()
    return {"id": block.get("id"), "type": "function", "function": {"name": block.get("name"), "arguments": arguments}}


def _joined(blocks: list[Mapping[str, Any]], kind: str) -> str:
    texts = (block.get(kind) for block in blocks if block.get("type") == kind)
    return "".join(text for text in texts if isinstance(text, str))


def _table(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, Mapping) else {}


def _index(value: Mapping[str, Any]) -> int:
    index = value.get("index")
    return index if isinstance(index, int) else -1


def _count(fields: Mapping[str, Any], name: str) -> int:
    count = fields.get(name)
    return count if isinstance(count, int) else 0

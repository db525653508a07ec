"""A provider's answers on the wire: OpenAI's chat and text, Anthropic's messages. Pure: values in, bytes out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

TEXT = (
    "A box by the sea keeps its own small light. When the cloud is dark, the keeper does not wait for the morning: he "
    "climbs the stairs, trims the wick and writes into the log what he saw. Ships pass, some answer, none of them asks "
    "where the light comes from. That is the trade: somebody is there and answers."
)
WORDS = tuple(word + " " for word in TEXT.split())
CHAT, COMPLETIONS, MESSAGES = "/chat/completions", "/completions", "/messages"
PROMPT_TOKENS = 21


def head(status: int, headers: dict[str, str]) -> bytes:
    """Returns status line and headers."""
    reason = HTTPStatus(status).phrase if status in list(HTTPStatus) else "Overloaded"
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def whole(status: int, body: bytes, headers: dict[str, str] | None = None, kind: str = "application/json") -> bytes:
    """Returns a whole answer with its length."""
    return head(status, {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}) + body


def stream_head(kind: str = "text/event-stream") -> bytes:
    return head(200, {"Content-Type": kind, "Cache-Control": "no-cache", "Transfer-Encoding": "chunked"})


def piece(data: bytes) -> bytes:
    """Returns one chunk of HTTP/1.1's chunked coding (RFC 9112, 7.1); of no data it is the end."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> bytes:
    """Returns an error in OpenAI's form, which the other wires' clients read by its status."""
    value = {"error": {"message": message, "type": "wall_error", "param": None, "code": code}}
    return whole(status, json.dumps(value).encode(), headers)


@dataclass(frozen=True)
class Wire:
    """How one endpoint writes an answer.

    Args:
        endpoint: CHAT, COMPLETIONS or MESSAGES.
        model: The model's name, as the answer gives it.
        usage: Whether the caller asked for the usage of a stream.
    """

    endpoint: str
    model: str
    usage: bool

    def body(self, text: str) -> bytes:
        """Returns a whole answer's JSON."""
        return json.dumps(self._body(text)).encode()

    def words(self, words: tuple[str, ...], reason: str | None = "stop") -> Iterator[bytes]:
        """Yields an answer as the data of events: the role, the words, the end (none where `reason` is None)."""
        yield from self.begin()
        yield from (self.word(word) for word in words)
        if reason is not None:
            yield from self.end(reason)

    def begin(self) -> Iterator[bytes]:
        if self.endpoint == MESSAGES:
            message = {**self._message(), "content": [], "stop_reason": None, "usage": self._usage(0)}
            yield self._typed("message_start", message=message)
            yield self._typed("content_block_start", index=0, content_block={"type": "text", "text": ""})
        elif self.endpoint == CHAT:
            yield self._chunk({"delta": {"role": "assistant", "content": ""}}, None)

    def word(self, text: str) -> bytes:
        if self.endpoint == MESSAGES:
            return self._typed("content_block_delta", index=0, delta={"type": "text_delta", "text": text})
        return self._chunk({"delta": {"content": text}} if self.endpoint == CHAT else {"text": text}, None)

    def end(self, reason: str = "stop") -> Iterator[bytes]:
        if self.endpoint == MESSAGES:
            yield self._typed("content_block_stop", index=0)
            yield self._typed("message_delta", delta={"stop_reason": _anthropic(reason)}, usage={"output_tokens": 60})
            return
        yield self._chunk({"delta": {}} if self.endpoint == CHAT else {"text": ""}, reason)
        if self.usage:
            yield json.dumps({**self._head(chunk=True), "choices": [], "usage": self._usage(len(WORDS))}).encode()

    def done(self) -> bytes:
        """Returns what says that a stream is over."""
        return self._typed("message_stop") if self.endpoint == MESSAGES else b"[DONE]"

    def in_band(self) -> bytes:
        """Returns the data of an error inside a stream."""
        detail = {"type": "overloaded_error", "message": "the wall: overloaded, key sk-wall-123", "code": "overloaded"}
        return json.dumps(
            {"type": "error", "error": detail} if self.endpoint == MESSAGES else {"error": detail}
        ).encode()

    def event(self, data: bytes, line_end: bytes = b"\n") -> bytes:
        """Returns a server-sent event; Anthropic's also say their type in a field of its own."""
        named = b""
        if self.endpoint == MESSAGES and data.startswith(b"{"):
            named = b"event: " + str(json.loads(data)["type"]).encode() + line_end
        return named + b"data: " + data + line_end * 2

    def _body(self, text: str) -> dict[str, Any]:
        if self.endpoint == MESSAGES:
            content = [{"type": "text", "text": text}]
            return {**self._message(), "content": content, "stop_reason": "end_turn", "usage": self._usage(len(WORDS))}
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "logprobs": None}
        choice |= {"message": {"role": "assistant", "content": text}} if self.endpoint == CHAT else {"text": text}
        return {**self._head(chunk=False), "choices": [choice], "usage": self._usage(len(WORDS))}

    def _chunk(self, fields: dict[str, Any], reason: str | None) -> bytes:
        choice = {"index": 0, "finish_reason": reason, "logprobs": None, **fields}
        return json.dumps({**self._head(chunk=True), "choices": [choice]}).encode()

    def _head(self, *, chunk: bool) -> dict[str, Any]:
        kind = ("chat.completion.chunk" if chunk else "chat.completion") if self.endpoint == CHAT else "text_completion"
        return {"id": "wall-1", "object": kind, "created": 1, "model": self.model}

    def _message(self) -> dict[str, Any]:
        return {"id": "msg_wall", "type": "message", "role": "assistant", "model": self.model, "stop_sequence": None}

    def _usage(self, tokens: int) -> dict[str, int]:
        if self.endpoint == MESSAGES:
            return {"input_tokens": PROMPT_TOKENS, "output_tokens": tokens}
        total = PROMPT_TOKENS + tokens
        return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens, "total_tokens": total}

    @staticmethod
    def _typed(kind: str, **fields: Any) -> bytes:
        return json.dumps({"type": kind, **fields}).encode()


def _anthropic(reason: str) -> str:
    return {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}[reason]

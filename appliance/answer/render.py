"""A fixed text as OpenAI's completion, whole or as chunks. Pure: id and time are arguments."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from appliance.gateway.call import CHAT, Chunk

PIECE_CHARS = 48
# A fixed text costs no model anything.
USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


@dataclass(frozen=True)
class Text:
    """A text to be rendered, under the name of the `model` that stands for it."""

    text: str
    model: str
    wire: str
    id: str
    created: int


def body(text: Text) -> dict[str, Any]:
    """Returns the whole completion."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "logprobs": None}
    if text.wire == CHAT:
        choice["message"] = {"role": "assistant", "content": text.text, "refusal": None}
    else:
        choice["text"] = text.text
    return _head(text, chunk=False) | {"choices": [choice], "usage": USAGE}


def chunks(text: Text, *, usage: bool) -> tuple[Chunk, ...]:
    """Returns the same text as events; the pieces joined are the text."""
    pieces = [text.text[at : at + PIECE_CHARS] for at in range(0, len(text.text), PIECE_CHARS)] or [""]
    values = [_piece(text, piece, first=number == 0) for number, piece in enumerate(pieces)]
    values.append(_last(text))
    if usage:
        values.append(_head(text, chunk=True) | {"choices": [], "usage": USAGE})
    return tuple(Chunk(msgspec.json.encode(value), value) for value in values)


class FixedStream:
    """Chunks that are all there already."""

    def __init__(self, fixed: Sequence[Chunk]) -> None:
        self._fixed = fixed

    def close(self) -> None:
        """Nothing is open."""

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        for chunk in self._fixed:
            yield chunk


def _head(text: Text, *, chunk: bool) -> dict[str, Any]:
    kind = ("chat.completion.chunk" if chunk else "chat.completion") if text.wire == CHAT else "text_completion"
    return {"id": text.id, "object": kind, "created": text.created, "model": text.model}


def _piece(text: Text, piece: str, *, first: bool) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "finish_reason": None, "logprobs": None}
    if text.wire == CHAT:
        choice["delta"] = {"role": "assistant", "content": piece} if first else {"content": piece}
    else:
        choice["text"] = piece
    return _head(text, chunk=True) | {"choices": [choice]}


def _last(text: Text) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "logprobs": None}
    if text.wire == CHAT:
        choice["delta"] = {}
    else:
        choice["text"] = ""
    return _head(text, chunk=True) | {"choices": [choice]}

"""A stream's phases: WAITING until the first real delta, COMMITTED, FINISHED. Pure: bytes in, chunks out.

Rules: before the commit any fault is a free failover, so nothing is handed out; only content, reasoning and tool
deltas count as progress (role chunks and comments do not); a stream that ends without a finish reason and without
`[DONE]` was cut, and is never taken for a whole answer. What waits is bounded in chunks and in bytes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from appliance.gateway.call import Chunk
from appliance.gateway.foreign_json import object_of
from appliance.gateway.other_box import NAME, taken
from appliance.gateway.outcome import Failed, Kind
from appliance.gateway.sse import DONE, EventReader, EventTooLong

WAITING_CHUNKS_MAX, WAITING_BYTES_MAX = 64, 256 * 2**10
BAD_CHUNKS_MAX = 3
DELTA_FIELDS = (
    "content",
    "reasoning_content",
    "reasoning",
    "refusal",
    "tool_calls",
    "function_call",
    "audio",
    "images",
)


class StreamReader:
    """Reads one upstream's event stream.

    Args:
        choices: How many answers were asked for: the stream is whole when as many have said why they ended.
        begun: The answer has begun elsewhere, so that nothing more may be all that is left to say.
    """

    def __init__(self, choices: int = 1, *, begun: bool = False) -> None:
        self._choices, self._begun, self._ended = choices, begun, set[int]()
        self._events = EventReader()
        self._waiting: list[Chunk] = []
        self.damaged = 0
        self.upstream: dict[str, str] = {}
        self.committed = False
        self.finished = False
        self.done = False

    def feed(self, data: bytes) -> tuple[list[Chunk], bool]:
        """Takes bytes as they came; returns the chunks to hand on, and whether they were progress.

        Raises:
            Failed: The stream holds an error, or is not of OpenAI's wire.
        """
        try:
            events = self._events.feed(data)
        except EventTooLong:
            raise Failed(Kind.TOO_LONG, "an event of its stream is longer than the limit") from None
        ready: list[Chunk] = []
        progress = False
        for raw in events:
            if self.done:
                break
            if raw == DONE:
                self.done = True
            elif (chunk := self._chunk(raw)) is not None:
                progress |= self._take(chunk, ready)
        return ready, progress

    def end(self) -> None:
        """The stream is over: it was closed, or said `[DONE]`.

        Raises:
            Failed: The stream is not whole.
        """
        if not self.committed:
            whole = self.finished or self.done
            raise Failed(Kind.EMPTY if whole else Kind.CUT, "" if whole else "the stream was cut before it began")
        if not (self.finished or self.done):
            raise Failed(Kind.CUT)

    def _chunk(self, raw: bytes) -> Chunk | None:
        value = object_of(raw)
        if value is None or not _readable(value.get("choices")):
            self.damaged += 1
            if self.damaged >= BAD_CHUNKS_MAX:
                raise Failed(Kind.NOT_JSON, "its stream is not of OpenAI's wire")
            return None
        if value.get("error"):
            raise in_band(value["error"])
        if NAME in value:  # only we say what served this answer
            self.upstream, raw = taken(value), msgspec.json.encode(value)
        elif b"\n" in raw:  # of several `data:` lines: handed on as it is, it would be an event that ends in its middle
            raw = msgspec.json.encode(value)
        return Chunk(raw, value)

    def _take(self, chunk: Chunk, ready: list[Chunk]) -> bool:
        progress, finish = _look(chunk.value)
        if finish == "error":  # as routers of several providers write it
            raise Failed(Kind.IN_BAND)
        self._ended |= _ended(chunk.value)
        self.finished = len(self._ended) >= self._choices
        # "stop" without a delta is an empty answer; any other reason is an outcome that the caller must see.
        self.committed = self.committed or progress or finish not in (None, "" if self._begun else "stop")
        self._waiting.append(chunk)
        if self.committed:
            ready.extend(self._waiting)
            self._waiting.clear()
        elif len(self._waiting) > WAITING_CHUNKS_MAX or self._waiting_bytes() > WAITING_BYTES_MAX:
            raise Failed(Kind.SILENT, "its stream holds chunks and no content")
        return progress

    def _waiting_bytes(self) -> int:
        return sum(len(chunk.raw) for chunk in self._waiting)


def in_band(error: object) -> Failed:
    """Returns the failure that an `error` object inside a 200 answer means."""
    code = error.get("code") if isinstance(error, dict) else None
    return Failed(Kind.IN_BAND, code=str(code) if isinstance(code, str | int) else "")


def _readable(choices: object) -> bool:
    """Says whether the choices of a chunk can be looked at: whoever reads them after this relies on it."""
    return choices is None or (isinstance(choices, list) and all(isinstance(choice, dict) for choice in choices))


def _ended(value: dict[str, Any]) -> set[int]:
    """Returns the numbers of the choices that a chunk finishes."""
    choices = value.get("choices")
    found = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    numbers = [choice.get("index", 0) for choice in found if isinstance(choice.get("finish_reason"), str)]
    return {number for number in numbers if isinstance(number, int)}


def _look(value: dict[str, Any]) -> tuple[bool, str | None]:
    progress, finish = False, None
    choices = value.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if not isinstance(choice, dict):
            continue
        delta = choice.get("delta")
        fields = delta if isinstance(delta, dict) else {}
        progress = progress or bool(choice.get("text")) or any(fields.get(name) for name in DELTA_FIELDS)
        reason = choice.get("finish_reason")
        finish = reason if isinstance(reason, str) else finish
    return progress, finish

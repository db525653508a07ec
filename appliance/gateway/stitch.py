"""Goes on with a streamed answer on another rung where the first one broke off: what was sent stays sent.

Rules:
1. Only one plain text is continued: no tool call, no refusal, no log probabilities, no JSON, and some text was sent.
2. The text that was sent goes to the next rung as an open assistant turn; nothing else of the request is changed. A
   rung that is not known to go on natively is never asked.
3. A head that says again what the tail said (8 to 64 characters) is dropped; a shorter repetition may well be meant.
4. One continuation a request. If it breaks, too, the stream ends in an error.
5. The end is that of the last rung; who gave which part is told with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import msgspec

from appliance.gateway.call import CHAT, WORKING, Answer, Call, Chunk, ChunkStream, Segment, Served
from appliance.gateway.outcome import Failed

OVERLAP_CHARS_MIN, OVERLAP_CHARS_MAX = 8, 64
_NEVER = frozenset({"response_format", "n", "logprobs", "audio", "several prompts"})
_LIMITS = ("max_tokens", "max_completion_tokens")

GoOn = Callable[[str, int, Failed], Awaitable[Served | None]]


def may_continue(call: Call) -> bool:
    """Says whether the answer to a call is one plain text (rule 1), as far as the request tells."""
    return call.wire == CHAT and call.choices == 1 and not call.needs & _NEVER


def continuing(call: Call, sent: str, pieces: int, deadline_s: float) -> Call:
    """Returns the call that asks for the rest of an answer (rule 2).

    Args:
        call: The call as it came.
        sent: What the caller has of the answer.
        pieces: In how many pieces it came, a token or more each: so many less may follow.
        deadline_s: Monotonic time by which the rest must have begun.
    """
    messages = [*call.body["messages"], {"role": "assistant", "content": sent}]
    limits = {name: max(1, call.body[name] - pieces) for name in _LIMITS if isinstance(call.body.get(name), int)}
    more = {"messages": messages, "continue_final_message": True, "stream_options": {"include_usage": True}}
    return replace(call, body={**call.body, **limits, **more}, deadline_s=deadline_s, continues=True)


class Sent:
    """What a stream has sent so far, and whether it is one plain text."""

    def __init__(self) -> None:
        self.text, self.pieces, self.plain = "", 0, True
        self.head: dict[str, Any] = {}
        self.usage: dict[str, Any] | None = None

    def take(self, value: dict[str, Any]) -> None:
        """Takes a chunk that is handed on."""
        self.head = self.head or {name: value[name] for name in ("id", "created", "model") if name in value}
        usage = value.get("usage")
        self.usage = usage if isinstance(usage, dict) else self.usage
        for choice in value.get("choices") or ():
            delta = choice.get("delta") if isinstance(choice, dict) else None
            fields = delta if isinstance(delta, dict) else {}
            content = fields.get("content")
            if isinstance(content, str) and content:
                self.text += content
                self.pieces += 1
            ended = isinstance(choice, dict) and choice.get("finish_reason")
            self.plain &= not ended and not any(fields.get(name) for name in ("tool_calls", "function_call", "refusal"))


class Joint:
    """Finds what the head of a continuation says again of the tail before it (rule 3). Pure.

    Args:
        tail: What was sent before.
    """

    def __init__(self, tail: str) -> None:
        self._tail = tail[-OVERLAP_CHARS_MAX:]
        self._head = ""

    def dropped(self, text: str, *, last: bool = False) -> int | None:
        """Takes more of the head; returns how many characters of all of it are a repetition, None while open."""
        self._head += text
        sizes = range(min(len(self._tail), OVERLAP_CHARS_MAX), OVERLAP_CHARS_MIN - 1, -1)
        for size in sizes:
            again, head = self._tail[-size:], self._head[:size]
            if head == again:
                return size
            if not last and again.startswith(head):
                return None  # a longer repetition is still possible
        return 0


class Stitched:
    """A stream that another rung goes on with when it breaks.

    Args:
        first: The answer whose stream has committed.
        go_on: Opens the stream of the rest after (what was sent, in how many pieces, why it ended there); None where no
            rung does.
        working_s: Seconds between signs of life while the next rung begins.
        wants_usage: Whether the caller asked for the chunk that tells the usage.
    """

    def __init__(self, first: Answer, go_on: GoOn, *, working_s: float, wants_usage: bool) -> None:
        if first.chunks is None:
            raise ValueError("only a stream is continued")
        self._first, self._chunks, self._told = first, first.chunks, first.told
        self._go_on, self._working_s, self._wants_usage = go_on, working_s, wants_usage
        self._opening: asyncio.Task[Served | None] | None = None
        self._second: ChunkStream | None = None

    def close(self) -> None:
        """Ends whatever is open."""
        self._chunks.close()
        if self._opening is not None:
            self._opening.add_done_callback(_closed)
            self._opening.cancel()
        if self._second is not None:
            self._second.close()

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        sent = Sent()
        try:
            async for chunk in self._chunks:
                sent.take(chunk.value)
                yield chunk
        except Failed as failure:
            if not (sent.plain and sent.text.strip()):
                raise
            broken = failure
        else:
            return
        self._chunks.close()  # one that only stalls must not work on
        self._opening = asyncio.create_task(_opened(self._go_on, sent, broken))
        while not (await asyncio.wait({self._opening}, timeout=self._working_s))[0]:
            yield WORKING
        second, self._opening = self._opening.result(), None
        if second is None or second.answer.chunks is None:
            raise broken
        self._second = second.answer.chunks
        async for chunk in self._rest(second.answer, self._second, sent):
            yield chunk
        self._told.mode, self._told.banner = second.mode, second.banner or ""

    async def _rest(self, second: Answer, chunks: ChunkStream, sent: Sent) -> AsyncIterator[Chunk]:
        rest = Sent()
        joint: Joint | None = Joint(sent.text)
        waiting: list[dict[str, Any]] = []
        async for chunk in chunks:
            rest.take(chunk.value)
            value = _named(chunk.value, sent.head)
            if not value["choices"] and not self._wants_usage:
                continue  # the caller did not ask for this one
            waiting.append(value)
            if joint is not None:
                size = joint.dropped(_content(value), last=_ends(value))
                if size is None:
                    continue
                waiting, joint = _without(waiting, size), None
            while waiting:
                yield _chunk(waiting.pop(0))
        if joint is not None:
            waiting = _without(waiting, joint.dropped("", last=True) or 0)
        for value in waiting:
            yield _chunk(value)
        self._told.segments += [_segment(self._first, sent), _segment(second, rest)]


async def _opened(go_on: GoOn, sent: Sent, broken: Failed) -> Served | None:
    return await go_on(sent.text, sent.pieces, broken)


def _closed(opening: asyncio.Task[Served | None]) -> None:
    """Closes a continuation that began after everybody had left."""
    served = None if opening.cancelled() or opening.exception() else opening.result()
    if served is not None and served.answer.chunks is not None:
        served.answer.chunks.close()


def _segment(answer: Answer, sent: Sent) -> Segment:
    return Segment(answer.rung, answer.served_by, str(sent.head.get("model", "")), len(sent.text), sent.usage)


def _named(value: dict[str, Any], head: dict[str, Any]) -> dict[str, Any]:
    """Returns a chunk under the id of the answer that began; a second role would be a second message to a client."""
    choices = [choice for choice in value.get("choices") or () if isinstance(choice, dict)]
    told = [{**choice, "delta": _roleless(choice.get("delta"))} for choice in choices]
    return {**value, **{name: head[name] for name in ("id", "created") if name in head}, "choices": told}


def _roleless(delta: Any) -> dict[str, Any]:
    return {name: item for name, item in delta.items() if name != "role"} if isinstance(delta, dict) else {}


def _content(value: dict[str, Any]) -> str:
    texts = [choice["delta"].get("content") for choice in value["choices"]]
    return "".join(text for text in texts if isinstance(text, str))


def _ends(value: dict[str, Any]) -> bool:
    return any(choice.get("finish_reason") for choice in value["choices"])


def _without(values: list[dict[str, Any]], size: int) -> list[dict[str, Any]]:
    """Drops the first `size` characters of the content of chunks; a chunk that is left with nothing to say goes."""
    kept = []
    for value in values:
        text = _content(value)
        if not text or not size:
            kept.append(value)
        elif size < len(text) or _ends(value):
            kept.append(_with_content(value, text[size:]))
        size = max(0, size - len(text))
    return kept


def _with_content(value: dict[str, Any], text: str) -> dict[str, Any]:
    first = value["choices"][0]
    return {**value, "choices": [{**first, "delta": {**first["delta"], "content": text}}]}


def _chunk(value: dict[str, Any]) -> Chunk:
    return Chunk(msgspec.json.encode(value), value)

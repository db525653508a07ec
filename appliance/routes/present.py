"""How an answer says what served it: the `lifeboat` object, the X-Lifeboat headers, and the end of a stream. Pure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Any

import msgspec

from appliance.gateway.call import WORKING, Chunk, Served
from appliance.gateway.outcome import Failed
from appliance.gateway.sse import DONE, KEEPALIVE, event

MODE, RUNG, SERVED_BY, IGNORED = "X-Lifeboat-Mode", "X-Lifeboat-Rung", "X-Lifeboat-Served-By", "X-Lifeboat-Ignored"
PINNED = "X-Lifeboat-Pinned"
TICKET = "X-Lifeboat-Ticket"
DATA_AGE = "X-Lifeboat-Data-Age"  # seconds, where the answer was kept from before
PENDING = {MODE: "pending", RUNG: "pending", SERVED_BY: "pending"}


def headers(served: Served, more_ignored: tuple[str, ...] = ()) -> dict[str, str]:
    """Returns what served the answer, as headers; `more_ignored` are options that were left out before it climbed."""
    answer = served.answer
    found = {MODE: served.mode, RUNG: answer.rung, SERVED_BY: answer.served_by}
    found |= {PINNED: _words(served.pinned)} if served.pinned else {}
    found |= {TICKET: answer.told.ticket} if answer.told.ticket else {}
    found |= {DATA_AGE: str(answer.told.cached["age_s"])} if answer.told.cached else {}
    ignored = sorted({*answer.ignored, *more_ignored})
    return found | ({IGNORED: ", ".join(map(_token, ignored))} if ignored else {})


def lifeboat(served: Served) -> dict[str, Any]:
    """Returns what served the answer, as the object that goes beside `usage`."""
    answer = served.answer
    found: dict[str, Any] = {
        "mode": served.mode,
        "rung": answer.rung,
        "served_by": answer.served_by,
        "reason": [f"{skip.rung}: {skip.reason}" for skip in served.skips],
        "banner": served.banner,
    }
    if served.pinned:
        found["pinned"] = served.pinned
    if answer.citations:
        found["citations"] = [asdict(citation) for citation in answer.citations]
    if answer.confidence is not None:
        found["confidence"] = answer.confidence
    if answer.ignored:
        found["ignored"] = list(answer.ignored)
    told = {name: value for name, value in vars(answer.told).items() if value}
    if answer.told.segments:
        told["segments"] = [asdict(segment) for segment in answer.told.segments]
    return found | told


def whole(served: Served) -> dict[str, Any]:
    """Returns the body of a whole answer."""
    return {**(served.answer.body or {}), "lifeboat": lifeboat(served)}


async def events(served: Served, on_cut: Callable[[Failed], str | None]) -> AsyncIterator[bytes]:
    """Yields the events of a stream: each chunk as it came, and the `lifeboat` object in the last one.

    A stream that breaks ends in an error event and without `[DONE]`; `on_cut` returns the id by which the whole answer
    can be had.
    """
    first: Chunk | None = None
    held: Chunk | None = None
    if served.answer.chunks is None:
        raise RuntimeError("a streamed answer has chunks")
    try:
        async for chunk in served.answer.chunks:
            if chunk is WORKING:
                yield KEEPALIVE
                continue
            first = first or chunk
            if held is not None:
                yield event(held.raw)
            held = chunk if may_be_last(chunk.value) else None
            if held is None:
                yield event(chunk.raw)
    except Failed as failure:
        yield event(msgspec.json.encode(interrupted(served, failure, on_cut(failure))))
        return
    last = held.value if held is not None else closing(first.value if first else {})
    yield event(msgspec.json.encode({**last, "lifeboat": lifeboat(served)}))
    yield event(DONE)


def may_be_last(value: dict[str, Any]) -> bool:
    """Says whether a chunk may be the last one: it finishes a choice, or carries the usage."""
    choices = value.get("choices")
    if not choices:
        return True
    return any(isinstance(choice, dict) and choice.get("finish_reason") for choice in choices)


def closing(like: dict[str, Any]) -> dict[str, Any]:
    """Returns an empty chunk of the same completion, for a stream that ends on a chunk of content."""
    return {name: like[name] for name in ("id", "object", "created", "model") if name in like} | {"choices": []}


def interrupted(served: Served, failure: Failed, resume_id: str | None) -> dict[str, Any]:
    """Returns the in-band error of a stream that broke after its commit."""
    message = f"{served.answer.served_by} broke off in mid-answer ({failure.detail}); what came is not the whole answer"
    error: dict[str, Any] = {
        "message": message,
        "type": "api_error",
        "param": None,
        "code": "upstream_interrupted",
        "partial": True,
    }
    error |= {"resume_id": resume_id} if resume_id is not None else {}
    return {"error": error, "lifeboat": lifeboat(served)}


def _words(text: str) -> str:
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in text)


def _token(name: str) -> str:
    # The name is the caller's own JSON key: it must not become a header of its own.
    return "".join(char if char.isascii() and (char.isalnum() or char in "_-.") else "?" for char in name[:64])

"""Counts the model tokens of answers, for tokens whose day has a limit; of others nothing is looked at.

What an answer used it says itself (`usage`); a stream is asked for it, and where the caller did not want that chunk it
is left out again. Where nothing is said, a stream breaks, or the caller leaves, four bytes of the request and each
piece of the answer count as one token.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import msgspec
from litestar import Request
from msgspec import Struct

from appliance.edge.quota import Quotas
from appliance.gateway.call import WORKING, Answer, Call, Chunk, ChunkStream, Served
from appliance.gateway.pace import prompt_bytes

_BYTES_A_TOKEN = 4
# No answer is as long: a provider's number beyond it is wrong, and uses up nobody's day.
_TOKENS_MOST = 10_000_000
_USES_TOKENS = ("upstream", "model")
Spend = Callable[[int], None]


class _Usage(Struct):
    total_tokens: int = 0


class _Used(Struct):
    usage: _Usage | None = None


def spender(request: Request[Any, Any, Any]) -> Spend | None:
    """Returns what counts the tokens of a request, None where nobody limits them."""
    grant = request.scope["state"]["grant"]
    if not grant.tokens_a_day:
        return None
    quotas: Quotas = request.app.state.quotas
    tenant: str = request.scope["state"]["tenant"]
    return lambda count: quotas.spend(tenant, count)


def spend_numbers(request: Request[Any, Any, Any], body: bytes) -> None:
    """Counts what vectors and ranks used."""
    if (spend := spender(request)) is not None:
        usage = msgspec.json.decode(body, type=_Used).usage
        spend(usage.total_tokens if usage is not None else 0)


def spend_whole(spend: Spend, size_bytes: int, body: dict[str, Any] | None) -> None:
    """Counts a whole answer to a prompt of so many bytes."""
    told = _told(body or {})
    spend(told if told is not None else _guessed(size_bytes, len(msgspec.json.encode(body)) // _BYTES_A_TOKEN))


def costs(answer: Answer) -> bool:
    """Says whether a model worked for an answer; what was written or kept before costs nothing, whatever it says."""
    return answer.kind in _USES_TOKENS


async def metered(complete: Callable[[Call], Awaitable[Served]], call: Call, spend: Spend) -> Served:
    """Returns the answer; what it used is counted now, or when its stream has ended.

    Args:
        complete: Makes it.
        call: As the caller wants it.
        spend: Takes the count.
    """
    size = prompt_bytes(call.body)
    try:
        served = await complete(_telling(call))
    except asyncio.CancelledError:  # the caller left; whoever was asked has the prompt
        spend(_guessed(size, 0))
        raise
    spend = spend if costs(served.answer) else _nothing
    if served.answer.chunks is None:
        spend_whole(spend, size, served.answer.body)
        return served
    chunks = Metered(served.answer.chunks, size, wanted=call.wants_usage, spend=spend)
    return replace(served, answer=replace(served.answer, chunks=chunks))


class Metered:
    """A stream whose tokens are counted once, however it ends.

    Args:
        chunks: The stream.
        size_bytes: Of the prompt.
        wanted: Whether the caller wants the chunk that tells the usage.
        spend: Takes the count.
    """

    def __init__(self, chunks: ChunkStream, size_bytes: int, *, wanted: bool, spend: Spend) -> None:
        self._chunks, self._size_bytes, self._wanted = chunks, size_bytes, wanted
        self._spend: Spend | None = spend
        self._pieces = 0
        self._said: int | None = None

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self._run()

    def close(self) -> None:
        """Lets go of the stream, also where nobody began to read."""
        self._chunks.close()
        self._count()

    async def _run(self) -> AsyncIterator[Chunk]:
        try:
            async for chunk in self._chunks:
                if not (self._noted(chunk) and not self._wanted):
                    yield chunk
        finally:
            self._count()

    def _noted(self, chunk: Chunk) -> bool:
        """Takes note of a chunk; says whether it tells the usage and nothing else."""
        if chunk is WORKING:
            return False
        self._pieces += 1
        said = _told(chunk.value)
        self._said = said if said is not None else self._said
        return said is not None and not chunk.value.get("choices")

    def _count(self) -> None:
        if self._spend is not None:
            spend, self._spend = self._spend, None
            spend(self._said if self._said is not None else _guessed(self._size_bytes, self._pieces))


def _telling(call: Call) -> Call:
    """Returns the call with the wish that its stream tells what it used."""
    if not call.stream or call.wants_usage:
        return call
    options = call.body.get("stream_options")
    known = options if isinstance(options, dict) else {}
    return replace(call, body={**call.body, "stream_options": {**known, "include_usage": True}})


def _nothing(_count: int) -> None:
    """Counts nothing."""


def _told(value: dict[str, Any]) -> int | None:
    usage = value.get("usage")
    if not isinstance(usage, dict):
        return None
    total = usage.get("total_tokens")
    return total if isinstance(total, int) and 0 <= total <= _TOKENS_MOST else None


def _guessed(size_bytes: int, pieces: int) -> int:
    return size_bytes // _BYTES_A_TOKEN + pieces

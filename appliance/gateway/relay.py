"""One attempt at one upstream: a whole answer, or a stream that is handed on from its commit point.

Up to the commit every fault is `Failed` and costs the caller nothing. After it a fault ends the stream with `Failed`
out of the iterator, which the edge turns into an in-band error without `[DONE]`: never a silent truncation.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from appliance.engine.standing import Standing, to_headers
from appliance.gateway.call import PATHS, Call, Chunk, Told
from appliance.gateway.commit import DELTA_FIELDS, StreamReader, in_band
from appliance.gateway.foreign_json import object_of
from appliance.gateway.kinds import Reply
from appliance.gateway.other_box import VIA
from appliance.gateway.outcome import Failed, Kind
from appliance.gateway.pace import Limits
from appliance.gateway.upstream import BODY_BYTES_MAX, Client, read_some, read_whole


def prepared(call: Call, model: str, *, drop: tuple[str, ...] = ()) -> dict[str, Any]:
    """Returns the request as one upstream gets it: under its own model name, without what it ignores."""
    return {name: value for name, value in call.body.items() if name not in drop} | {"model": model}


async def whole(client: Client, call: Call, body: dict[str, Any], limits: Limits | None = None) -> dict[str, Any]:
    """Asks for an answer in one piece; within `limits`, or the target's own.

    Raises:
        Failed: Anything but an answer with content.
    """
    return checked(await fetched(client, call, body, BODY_BYTES_MAX, limits))


async def fetched(
    client: Client, call: Call, body: dict[str, Any], limit_bytes: int, limits: Limits | None = None
) -> bytes:
    """Returns the body of a 200, of at most `limit_bytes`.

    Raises:
        Failed: No answer in time, another status, or a longer body.
    """
    limit_s = _limit_s((limits or client.target).whole_s, call.deadline_s)
    try:
        async with asyncio.timeout(limit_s):
            response = await client.post(PATHS[call.wire], body, _standing(client, call))
            try:
                return await read_whole(response, limit_bytes)
            finally:
                response.release()
    except TimeoutError:
        raise Failed(Kind.SILENT, f"no answer within {limit_s:.0f} s") from None


def checked(data: bytes) -> dict[str, Any]:
    """Returns the completion that a 200 body holds.

    Raises:
        Failed: It is no completion (a captive portal's page), an error, or empty.
    """
    value = object_of(data) or {}
    if value.get("error"):
        raise in_band(value["error"])
    choices = value.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise Failed(Kind.NOT_JSON)
    if not any(_has_content(choice) for choice in choices):
        raise Failed(Kind.EMPTY)
    return value


async def stream(client: Client, call: Call, body: dict[str, Any], limits: Limits | None = None) -> LiveStream:
    """Asks for a stream; returns once it has committed; within `limits`, or the target's own.

    Raises:
        Failed: It did not commit in time, or ended, broke or erred before.
    """
    bounds = limits or client.target
    limit_s = _limit_s(bounds.first_token_s, call.deadline_s)
    response: Reply | None = None
    reader = StreamReader(call.choices, begun=call.continues)
    try:
        async with asyncio.timeout(limit_s):
            response = await client.post(PATHS[call.wire], body, _standing(client, call))
            first = await _until_commit(response, reader)
    except BaseException as error:
        if response is not None:
            response.close()
        if isinstance(error, TimeoutError):
            raise Failed(Kind.SILENT, f"no first token within {limit_s:.0f} s") from None
        raise
    return LiveStream(response, reader, first, bounds.stall_s)


class LiveStream:
    """A committed stream; it ends with `Failed` where the upstream broke it. `told` gets what is missing in it."""

    def __init__(self, response: Reply, reader: StreamReader, first: list[Chunk], stall_s: float) -> None:
        self._response, self._reader, self._first, self._stall_s = response, reader, first, stall_s
        self.told = Told()
        self._waited_s, self._pieces = 0.0, 0

    @property
    def gap_s(self) -> float | None:
        """How long the upstream took for a read with content on average, None where there was none after the first."""
        return self._waited_s / self._pieces if self._pieces else None

    @property
    def waited_s(self) -> float:
        """How long it was waited for since its first content."""
        return self._waited_s

    def _tell(self) -> None:
        self.told.damaged_chunks, self.told.upstream = self._reader.damaged, self._reader.upstream

    def close(self) -> None:
        """Ends the upstream's connection: not released to a pool, so that it stops working on this answer."""
        self._response.close()

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        try:
            self._tell()
            for chunk in self._first:
                yield chunk
            quiet_s = 0.0  # of waiting for the upstream alone: a client that reads slowly is no stall
            while not self._reader.done:
                began_s = time.monotonic()
                data = await self._read(self._stall_s - quiet_s)
                if not data:
                    self._reader.end()
                    return
                ready, progress = self._reader.feed(data)
                self._tell()
                took_s = time.monotonic() - began_s
                self._waited_s, self._pieces = self._waited_s + took_s, self._pieces + progress
                quiet_s = 0.0 if progress else quiet_s + took_s
                for chunk in ready:
                    yield chunk
        finally:  # also after a `[DONE]` behind which the end of the body has not come yet
            self.close()

    async def _read(self, limit_s: float) -> bytes:
        try:
            async with asyncio.timeout(max(0.0, limit_s)):
                return await read_some(self._response)
        except TimeoutError:
            fault = Failed(Kind.STALLED)
        except Failed as failure:
            fault = failure
        if self._reader.finished:
            return b""  # the answer is whole; only its farewell is missing
        raise fault


async def _until_commit(response: Reply, reader: StreamReader) -> list[Chunk]:
    if response.content_type != "text/event-stream":
        raise Failed(Kind.NOT_JSON, "its stream is not of OpenAI's wire")
    while True:
        data = await read_some(response)
        ready, _ = reader.feed(data)
        if ready:
            return ready
        if reader.done or not data:
            reader.end()


def _standing(client: Client, call: Call) -> dict[str, str]:
    """Tells an engine how a request stands among others, and a provider, which may be a box, what boxes it passed."""
    if client.target.socket is None:
        return {VIA: ", ".join(call.via)} if call.via else {}
    left_s = max(0.0, call.deadline_s - time.monotonic())
    return to_headers(Standing(call.priority, call.tenant, left_s, call.public_messages))


def _limit_s(limit_s: float, deadline_s: float) -> float:
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:  # nobody is asked for an answer that would come too late
        raise Failed(Kind.SILENT, "the time of the request was over before it was asked")
    return min(limit_s, left_s)


def _has_content(choice: dict[str, Any]) -> bool:
    message = choice.get("message")
    fields = message if isinstance(message, dict) else {}
    said = any(fields.get(name) for name in DELTA_FIELDS)
    return bool(said or choice.get("text") or choice.get("finish_reason") not in (None, "stop"))

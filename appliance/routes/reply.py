"""Replies as ASGI applications: a whole body, or an event stream that ends its work when the client leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any

import msgspec
from litestar.types import Receive, Scope, Send

from appliance.edge.caller import CallerLeft, caller_of


class Whole:
    """A body that is all there."""

    def __init__(
        self,
        body: bytes,
        *,
        status: int = 200,
        media_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self._body = body
        self._headers = {"content-type": media_type, "content-length": str(len(body)), **(headers or {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        await _start(send, self.status, self._headers)
        body = b"" if scope.get("method") == "HEAD" else self._body
        await send({"type": "http.response.body", "body": body, "more_body": False})


GONE = Whole(b"", status=499)  # nginx's word for it; nobody is left to read it


def as_json(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Whole:
    """Returns a JSON reply."""
    return Whole(msgspec.json.encode(value), status=status, headers=headers)


class Events:
    """An event stream.

    Args:
        events: What to send.
        close: Called when the reply is over, however it ends, also where sending never began.
        headers: Further response headers.
    """

    def __init__(
        self, events: AsyncIterator[bytes], close: Callable[[], None], headers: Mapping[str, str] | None = None
    ) -> None:
        self._events, self._close = events, close
        # "X-Accel-Buffering: no" is what nginx in front of a box needs so that it does not hold the stream back.
        fixed = {"content-type": "text/event-stream; charset=utf-8", "x-accel-buffering": "no"}
        self._headers = {**fixed, **(headers or {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        try:
            await caller_of(scope).waits_for(self._send(send))
        except CallerLeft:
            pass  # nobody is left to read the rest
        finally:
            self._close()

    async def _send(self, send: Send) -> None:
        await _start(send, 200, self._headers)
        async with aclosing(self._events) as events:  # type: ignore[type-var]  # every iterator here is a generator
            async for data in events:
                await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _start(send: Send, status: int, headers: Mapping[str, str]) -> None:
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})

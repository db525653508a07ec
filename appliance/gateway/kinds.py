"""The kinds of upstream: how each is spoken to, and how what it says becomes OpenAI's wire.

Everything above, the commit of a stream included, knows OpenAI's wire alone: a kind translates below it, on the way out
and on the way in.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

from appliance.gateway import from_anthropic, to_anthropic
from appliance.gateway.outcome import Failed, Kind
from appliance.gateway.sse import EventReader, EventTooLong, event
from bundler.format.service import ANTHROPIC

ANTHROPIC_VERSION = "2023-06-01"
ANSWER_BYTES_MAX = 16 * 2**20
EVENTS = "text/event-stream"


class Body(Protocol):
    """The body of a reply."""

    async def readany(self) -> bytes:
        """Returns what is there; b"" is the end."""


class Reply(Protocol):
    """The part of an HTTP response that is read once its status is known; `aiohttp.ClientResponse` has it."""

    @property
    def content_type(self) -> str: ...

    @property
    def content(self) -> Body: ...

    def close(self) -> None: ...

    def release(self) -> Any: ...


def headers_of(kind: str, key: str, auth: str = "") -> dict[str, str]:
    """Returns the headers that every request to an upstream has; the key stands in them and nowhere else."""
    fixed = {"anthropic-version": ANTHROPIC_VERSION} if kind == ANTHROPIC else {}
    if not key:
        return fixed
    name = auth or ("x-api-key" if kind == ANTHROPIC else "bearer")
    return fixed | ({"Authorization": f"Bearer {key}"} if name == "bearer" else {name: key})


def path_of(kind: str, path: str) -> str:
    """Returns where under the base URL a request goes that would go to `path` on OpenAI's wire."""
    return "/messages" if kind == ANTHROPIC else path


def request_of(kind: str, body: dict[str, Any]) -> dict[str, Any]:
    """Returns a request as the upstream takes it.

    Raises:
        Failed: It has no form there; `declines` told so before.
    """
    if kind != ANTHROPIC:
        return body
    try:
        return to_anthropic.translated(body).body
    except to_anthropic.Untranslatable as error:
        raise Failed(Kind.STATUS, status=400, code="unsupported_option", message=str(error)) from error


def declines(kind: str, body: Mapping[str, Any]) -> str:
    """Returns why a request has no form on the wire of this kind, "" where it has one."""
    if kind == ANTHROPIC:
        try:
            to_anthropic.translated(body)
        except to_anthropic.Untranslatable as error:
            return str(error)
    return ""


def ignored(kind: str, body: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the options of a request that an upstream of this kind is not sent."""
    return to_anthropic.translated(body).ignored if kind == ANTHROPIC else ()


def reply_of(kind: str, reply: Reply, body: Mapping[str, Any]) -> Reply:
    """Returns a reply whose body is OpenAI's, whatever the upstream's is."""
    return Translated(reply, body) if kind == ANTHROPIC else reply


class Translated:
    """A reply of Anthropic's API that reads as one of OpenAI's: events at once, a whole answer at its end."""

    def __init__(self, inner: Reply, body: Mapping[str, Any]) -> None:
        self._inner, self._reader = inner, EventReader()
        options = body.get("stream_options")
        usage = isinstance(options, Mapping) and options.get("include_usage") is True
        self._events = from_anthropic.EventTranslator(usage=usage, created=int(time.time()))
        self._whole = bytearray()
        self._over = False

    @property
    def content_type(self) -> str:
        return self._inner.content_type

    @property
    def content(self) -> Body:
        return self

    def close(self) -> None:
        self._inner.close()

    def release(self) -> Any:
        return self._inner.release()

    async def readany(self) -> bytes:
        """Returns what is there, translated; b"" is the end.

        Raises:
            Failed: The answer or an event is longer than the limit.
        """
        while not self._over:
            data = await self._inner.content.readany()
            self._over = not data
            ready = self._stream(data) if self.content_type == EVENTS else self._collect(data)
            if ready:
                return ready
        return b""

    def _stream(self, data: bytes) -> bytes:
        try:
            events = self._reader.feed(data)
        except EventTooLong:
            raise Failed(Kind.TOO_LONG, "an event of its stream is longer than the limit") from None
        # What is no JSON may hold line breaks, which end an event.
        return b"".join(event(said.replace(b"\n", b" ")) for raw in events for said in self._events.feed(raw))

    def _collect(self, data: bytes) -> bytes:
        self._whole += data
        if len(self._whole) > ANSWER_BYTES_MAX:
            raise Failed(Kind.TOO_LONG)
        return from_anthropic.whole(bytes(self._whole), int(time.time())) if self._over else b""

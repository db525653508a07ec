"""The HTTP client of one upstream, cloud or engine: the only file of the gateway that opens connections.

No redirects, no proxies or netrc from the environment, no cookies, and a key goes only to its own origin: each
target has its own session, made for one base URL.

A request is sent once here. Where a connection breaks, nobody can tell whether it was served already, and paid for;
`replay` asks a local engine again, whose end is known, and `asked` a provider, once and within a budget. So
connections are not kept so long that the other side closes them: not at all to an engine, and to a provider less than
servers keep theirs (uvicorn's and node's 5 s are the least of the common ones).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec

from appliance.gateway import from_anthropic, kinds
from appliance.gateway.foreign_json import object_of
from appliance.gateway.kinds import Reply
from appliance.gateway.outcome import Failed, Kind
from appliance.gateway.retry_after import retry_after_s
from appliance.gateway.trusted import context_of
from bundler.format.service import ANTHROPIC, OPENAI

BODY_BYTES_MAX = 16 * 2**20
ERROR_BYTES_MAX = 64 * 2**10
MESSAGE_CHARS_MAX = 500
_IDLE_S = 4.0


@dataclass(frozen=True)
class Sending:
    """How requests to a target are sent; as `service.WireSpec`, with `body` decoded and `ca` as PEM or ""."""

    auth: str = ""
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    body: Mapping[str, Any] = field(default_factory=dict)
    without: frozenset[str] = frozenset()
    proxy: str = ""
    ca: str = ""


PLAIN = Sending()


@dataclass(frozen=True)
class Target:
    """Where a rung's requests go.

    Args:
        name: The upstream's or the local model's name.
        base_url: Up to and with `/v1`.
        model: The model name that the upstream knows.
        key: Its API key, or "".
        socket: The engine's Unix socket, or None for a provider.
        connect_s: Limit of a connection, name look-up included.
        first_token_s: Limit until the first token of a stream.
        whole_s: Limit until an answer without streaming begins.
        stall_s: Limit between two tokens.
        kind: One of `service.UPSTREAM_KINDS`.
        sending: How requests are sent.
    """

    name: str
    base_url: str
    model: str
    key: str
    socket: Path | None
    connect_s: float
    first_token_s: float
    whole_s: float
    stall_s: float
    kind: str = OPENAI
    sending: Sending = PLAIN


class Client:
    """A connection pool for one target; `async with` it, inside the loop that uses it."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, str] = {}  # by path, of which there is a handful

    async def __aenter__(self) -> Client:
        target = self.target
        connector = (
            aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_S, ssl=context_of(target.sending.ca))
            if target.socket is None
            else aiohttp.UnixConnector(str(target.socket), limit=0, force_close=True)
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=kinds.headers_of(target.kind, target.key, target.sending.auth) | dict(target.sending.headers),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None, connect=target.connect_s, sock_connect=target.connect_s),
            max_line_size=2**16,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def post(self, path: str, body: dict[str, Any], headers: Mapping[str, str] | None = None) -> Reply:
        """Sends one request; returns once the headers of a 200 are there.

        Args:
            path: After the base URL, on OpenAI's wire.
            body: On OpenAI's wire; it becomes JSON.
            headers: More of them.

        Raises:
            Failed: No connection, or another status.
        """
        kind = self.target.kind
        data = msgspec.json.encode(kinds.request_of(kind, body))
        try:
            response = await self._send(kinds.path_of(kind, path), data, headers)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unconnected(error) from error
        if response.status == 200:
            return kinds.reply_of(kind, response, body)
        try:
            raise await refusal(response, kind)
        finally:
            response.close()

    async def look(self, path: str, beginning_bytes: int) -> tuple[int, bytes]:
        """Asks for what costs nothing; returns the status and the first bytes of the body.

        Raises:
            Failed: No connection, or none that held so long.
        """
        try:
            async with self._open().get(
                self._url(path), allow_redirects=False, proxy=self.target.sending.proxy or None
            ) as response:
                return response.status, await response.content.read(beginning_bytes)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unconnected(error) from error

    async def _send(self, path: str, data: bytes, headers: Mapping[str, str] | None) -> aiohttp.ClientResponse:
        return await self._open().post(
            self._url(path),
            data=data,
            headers={"Content-Type": "application/json", **(headers or {})},
            allow_redirects=False,
            proxy=self.target.sending.proxy or None,
        )

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the client is used outside its block")
        return self._session

    def _url(self, path: str) -> str:
        if path not in self._urls:
            query = urlencode(self.target.sending.query)
            self._urls[path] = self.target.base_url.rstrip("/") + path + (f"?{query}" if query else "")
        return self._urls[path]


async def read_whole(response: Reply, limit_bytes: int = BODY_BYTES_MAX) -> bytes:
    """Reads a body of at most `limit_bytes`.

    Raises:
        Failed: It is longer, or the connection broke.
    """
    body = bytearray()
    while data := await read_some(response):
        body += data
        if len(body) > limit_bytes:
            raise Failed(Kind.TOO_LONG)
    return bytes(body)


async def read_some(response: Reply) -> bytes:
    """Reads what is there; b"" is the end.

    Raises:
        Failed: The connection broke.
    """
    try:
        return await response.content.readany()
    except (aiohttp.ClientError, OSError) as error:
        raise Failed(Kind.CUT, "the connection broke in mid-answer") from error


async def refusal(response: aiohttp.ClientResponse, kind: str = OPENAI) -> Failed:
    """Returns the failure that a status other than 200 means; its body is read up to a limit and a second."""
    data = b""
    try:
        async with asyncio.timeout(1.0):
            data = await read_whole(response, ERROR_BYTES_MAX)
    except (Failed, TimeoutError):
        pass  # the status alone is the outcome
    status, (code, message) = response.status, error_of(data)
    if kind == ANTHROPIC:
        status, code, message = from_anthropic.error_of(status, data)
    retry = retry_after_s(response.headers, data, datetime.now(UTC))
    return Failed(Kind.STATUS, status=status, code=code, message=message[:MESSAGE_CHARS_MAX], retry_after_s=retry)


def error_of(data: bytes) -> tuple[str, str]:
    """Returns code and message of an OpenAI error body, ("", "") of anything else."""
    error = (object_of(data) or {}).get("error")
    if not isinstance(error, dict):
        return "", ""
    code, message = error.get("code"), error.get("message")
    return (code if isinstance(code, str) else ""), (message[:MESSAGE_CHARS_MAX] if isinstance(message, str) else "")


def unconnected(error: BaseException) -> Failed:
    """Returns the failure that an exception before the headers means."""
    reasons: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], Kind, str], ...] = (
        ((aiohttp.ServerTimeoutError, TimeoutError), Kind.UNREACHED, ""),
        (aiohttp.ClientConnectorDNSError, Kind.NO_NAME, ""),
        (aiohttp.ClientHttpProxyError, Kind.CONNECT, "its proxy opens no tunnel to it"),
        (aiohttp.ClientProxyConnectionError, Kind.CONNECT, "no connection to its proxy"),
        ((aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError), Kind.NO_TRUST, ""),
        (aiohttp.ServerDisconnectedError, Kind.CONNECT, "it closed the connection"),
        (aiohttp.ClientPayloadError, Kind.CONNECT, "it broke the connection"),
        (aiohttp.ClientResponseError, Kind.NOT_JSON, "it does not speak HTTP"),
    )
    for types, kind, words in reasons:
        if isinstance(error, types):
            return Failed(kind, words)
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    refused = isinstance(cause, ConnectionRefusedError)
    return Failed(Kind.CONNECT, "connection refused" if refused else "no connection")

#!/usr/bin/env python3
"""A provider on loopback that breaks on purpose, and tells what it was asked: OpenAI's and Anthropic's wire.

The name of the model chooses the fault (`--list` shows them), or the first part of the path does: a base URL of
`http://127.0.0.1:PORT/silent/v1` is a provider that says nothing, whichever model is named. Four more addresses are
broken below HTTP: an expired and an untrusted certificate, a port that takes no connection, a name that does not exist.
`GET /log` gives every attempt as JSON, `POST /reset` forgets them and begins outages anew. It needs nothing but Python,
and the package `cryptography` for the certificates.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from wall_answers import Attempt, End, Step, Timing
from wall_faults import ALSO_ON_LISTS, FAULTS
from wall_standing import Addresses, standing
from wall_wire import CHAT, COMPLETIONS, MESSAGES, TEXT, WORDS, Wire, error, whole

__all__ = ["FAULTS", "TEXT", "WORDS", "Addresses", "FaultWall", "Seen", "Timing", "standing"]

ENDPOINTS = (CHAT, COMPLETIONS, MESSAGES)
PROBE_TOKENS = 16
# How a client's side of a connection ends, or what it sends is no HTTP.
BROKEN = (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ssl.SSLError, ValueError)
BODY_BYTES_MAX = 2**25


@dataclass
class Seen:
    """One request that the wall saw.

    Attributes:
        at_ms: Monotonic milliseconds since the wall was reset.
        fault: What was done to it, by name.
        number: The how-manieth of its fault.
        path: As it came.
        model: The name that the request gave, or "".
        probe: Whether it was a look (a GET, or a completion of at most PROBE_TOKENS tokens).
        billed: Whether a provider would charge for it: it asked for tokens.
        key: The credential that came with it.
        begun: The assistant's own words that the conversation ended with.
        status: What it was answered, 0 where there was no answer.
        left_ms: When the client left before the answer was over; None where it stayed.
        over_ms: When the wall was done with it; None while it is not.
        body: The request.
    """

    at_ms: float
    fault: str
    number: int
    path: str
    model: str
    probe: bool
    billed: bool
    key: str = ""
    begun: str = ""
    status: int = 0
    left_ms: float | None = None
    over_ms: float | None = None
    body: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def prefilled(self) -> bool:
        """Whether the conversation ended with the assistant's own words."""
        return bool(self.begun)


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    data: bytes


class FaultWall:
    """The provider. `act` gives a name of a path another fault at run time: one provider that falls ill and recovers.

    Args:
        timing: How long the faults last.
        clock: Monotonic seconds.
    """

    def __init__(self, timing: Timing | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.timing, self._clock = timing or Timing(), clock
        self._acting: dict[str, str] = {}
        self.reset()

    def reset(self) -> None:
        """Forgets what was seen; outages begin now."""
        self.log: list[Seen] = []
        self._counts: Counter[str] = Counter()
        self._began_s = self._clock()

    def act(self, name: str, fault: str) -> None:
        """From now on the provider called `name` has this fault."""
        if fault not in FAULTS:
            raise ValueError(f"{fault!r} is no fault of the wall")
        self._acting[name] = fault

    def now_ms(self) -> float:
        return round((self._clock() - self._began_s) * 1000, 1)

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection for as long as its client uses it."""
        with suppress(*BROKEN):
            while (request := await _read(reader)) is not None:
                if not await self._answer(request, reader, writer):
                    break
        writer.close()

    async def _answer(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        steps, seen = self._steps(request)
        try:
            return await _play(steps if seen is None else _noted(steps, seen), reader, writer)
        except (ConnectionError, _Left):
            if seen is not None:
                seen.left_ms = self.now_ms()
            return False
        finally:
            if seen is not None:
                seen.over_ms = self.now_ms()

    def _steps(self, request: Request) -> tuple[Iterator[Step], Seen | None]:
        place, _, endpoint = request.path.partition("/v1")
        if request.path == "/log":
            return iter([whole(200, json.dumps([asdict(seen) for seen in self.log]).encode())]), None
        if request.path == "/reset":
            self.reset()
            return iter([whole(200, b"{}")]), None
        if request.method == "GET" and endpoint.startswith("/models"):
            return self._listed(request, place)
        if request.method == "POST" and endpoint in ENDPOINTS:
            return self._asked(request, place, endpoint)
        seen = self._note(request, "nowhere", {})
        return iter([error(404, "not_found", f"the wall has no {request.method} {request.path}")]), seen

    def _listed(self, request: Request, place: str) -> tuple[Iterator[Step], Seen]:
        fault = self._fault(place, "")
        seen = self._note(request, fault or "ok", {})
        if fault in ALSO_ON_LISTS:
            return FAULTS[fault](self._attempt(seen, Wire(CHAT, "", usage=False))), seen
        models = [{"id": name, "object": "model", "created": 1, "owned_by": "wall"} for name in FAULTS]
        return iter([whole(200, json.dumps({"object": "list", "data": models}).encode())]), seen

    def _asked(self, request: Request, place: str, endpoint: str) -> tuple[Iterator[Step], Seen]:
        try:
            body = json.loads(request.data)
            model = str(body["model"])
        except (ValueError, KeyError, TypeError):
            return iter([error(400, "invalid_json", "this is no request")]), self._note(request, "bad request", {})
        fault = self._fault(place, model)
        seen = self._note(request, fault or "nowhere", body)
        if fault is None:
            return iter([error(404, "model_not_found", f"the wall has no model {model!r}")]), seen
        usage = bool((body.get("stream_options") or {}).get("include_usage"))
        return FAULTS[fault](self._attempt(seen, Wire(endpoint, model, usage))), seen

    def _fault(self, place: str, model: str) -> str | None:
        named = place.strip("/") or model.rpartition("/")[2]
        named = self._acting.get(named, named)
        return named if named in FAULTS else None

    def _note(self, request: Request, fault: str, body: dict[str, Any]) -> Seen:
        tokens = body.get("max_tokens", body.get("max_completion_tokens"))
        tiny = isinstance(tokens, int) and tokens <= PROBE_TOKENS
        messages = body.get("messages")
        last = messages[-1] if isinstance(messages, list) and messages else {}
        self._counts[fault] += 1
        seen = Seen(
            at_ms=self.now_ms(),
            fault=fault,
            number=self._counts[fault],
            path=request.path,
            model=str(body.get("model", "")),
            probe=request.method == "GET" or tiny,
            billed=bool(body),
            key=request.headers.get("authorization", request.headers.get("x-api-key", "")),
            begun=str(last.get("content")) if isinstance(last, dict) and last.get("role") == "assistant" else "",
            body=body,
        )
        self.log.append(seen)
        return seen

    def _attempt(self, seen: Seen, wire: Wire) -> Attempt:
        stream = seen.body.get("stream") is True
        since_s = self._clock() - self._began_s
        return Attempt(seen.number, since_s, time.time(), stream, wire, seen.begun, self.timing)


def _noted(steps: Iterator[Step], seen: Seen) -> Iterator[Step]:
    """Passes steps on; the first bytes say the status."""
    for step in steps:
        if isinstance(step, bytes) and step.startswith(b"HTTP/1.1 "):
            seen.status = int(step[9:12])
        yield step


class _Left(Exception):
    """The client closed the connection while the wall waited."""


async def _read(reader: asyncio.StreamReader) -> Request | None:
    """Reads one request; None where the client sends no more."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        data = await _read_chunked(reader)
    else:
        data = await reader.readexactly(min(int(headers.get("content-length", "0")), BODY_BYTES_MAX))
    return Request(method, path.partition("?")[0], headers, data)


async def _read_chunked(reader: asyncio.StreamReader) -> bytes:
    data = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        data += await reader.readexactly(size)
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return data


async def _play(steps: Iterator[Step], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Plays an answer; returns whether the connection can be used again.

    Raises:
        _Left: The client left meanwhile.
    """
    for step in steps:
        if isinstance(step, bytes):
            writer.write(step)
            await writer.drain()
        elif isinstance(step, End):
            if step is End.RESET:
                linger = struct.pack("ii", 1, 0)  # on, 0 s: close() sends a reset
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return False
        else:
            await _wait(step, reader)
    return True


async def _wait(seconds: float, reader: asyncio.StreamReader) -> None:
    """Waits; what a client sends before it has its answer is dropped: none of those that are tested does."""
    try:
        async with asyncio.timeout(seconds):
            while await reader.read(2**16):
                pass
    except TimeoutError:
        return
    raise _Left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: a free one)")
    parser.add_argument("--for-s", type=float, default=3600, help="stop by itself after so long (default 3600)")
    parser.add_argument("--down-s", type=float, default=60, help="how long `flap` is down (default 60)")
    parser.add_argument("--list", action="store_true", help="say which faults there are, and stop")
    asked = parser.parse_args()
    if asked.list:
        for name, fault in FAULTS.items():
            print(f"{name:20} {(fault.__doc__ or '').partition(chr(10))[0]}")
        return
    with standing(FaultWall(Timing(down_s=asked.down_s)), asked.port) as addresses:
        print(json.dumps(asdict(addresses)), flush=True)
        with suppress(KeyboardInterrupt):
            time.sleep(asked.for_s)


if __name__ == "__main__":
    main()

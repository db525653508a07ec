"""Raw servers that misbehave byte by byte: what the gateway makes of split characters, endings, gzip and cut bodies."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import Sequence
from typing import Any

import pytest

from appliance.gateway import relay
from appliance.gateway.attempt import attempt
from appliance.gateway.call import CHAT, Call, Told
from appliance.gateway.held import Room
from appliance.gateway.outcome import Failed, Kind
from appliance.gateway.upstream import Client, Target
from bundler.format.service import HOLD, RouteSpec

TEXT = "Grüße aus Zürich, 你好 — and 🚣."
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"


def chunk(content: str = "", finish: str | None = None, **more: Any) -> bytes:
    delta = {"content": content} if content else {}
    value = {"id": "x", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


WHOLE = b"".join(chunk(char) for char in TEXT) + chunk(finish="stop") + b"data: [DONE]\n\n"

LATE = b"".join(chunk(char) for char in TEXT * 3)


def pieces(data: bytes, step: int) -> list[bytes]:
    return [data[at : at + step] for at in range(0, len(data), step)]


class Raw:
    """Sends a head and pieces, each as an HTTP chunk of its own, and then ends, or hangs up (`ends` is False)."""

    def __init__(self, head: bytes, parts: Sequence[bytes], *, chunked: bool = True, ends: bool = True) -> None:
        self._head, self._parts, self._chunked, self._ends = head, parts, chunked, ends

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self._head + b"\r\n")
        try:
            for part in self._parts:
                writer.write(b"%x\r\n%s\r\n" % (len(part), part) if self._chunked else part)
                await writer.drain()
                await asyncio.sleep(0)
            if self._ends and self._chunked:
                writer.write(b"0\r\n\r\n")
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            return  # the gateway had enough, or the test is over
        finally:
            writer.close()


def call(*, stream: bool = True, policy: str = "error", left_s: float = 30.0) -> Call:
    words: dict[str, Any] = {"wire": CHAT, "body": {"messages": []}, "question": "", "stream": stream, "model": "m"}
    route = RouteSpec("m", ("m",), policy)
    return Call(**words, needs=frozenset(), ignorable=(), deadline_s=time.monotonic() + left_s, route=route)


async def asked(server: Raw, request: Call, told: Told) -> Any:
    """Returns what the gateway hands on: a body, or the values of the chunks."""
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    target = Target("m", url, "m", "", None, connect_s=5, first_token_s=5, whole_s=5, stall_s=5)
    async with listening, Client(target) as client:
        whole, live = await attempt(client, request, {}, told, Room())
        if live is None:
            return whole
        try:
            return [each.value async for each in live]
        finally:
            live.close()


def text_of(values: list[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content", "") for value in values for choice in value["choices"])


def run(server: Raw, request: Call, told: Told | None = None) -> Any:
    return asyncio.run(asked(server, request, told or Told()))


@pytest.mark.parametrize("policy", ["error", "hold"])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 10_000])
def test_no_character_is_lost_wherever_a_read_ends(policy: str, ending: bytes, step: int) -> None:
    """Inside a character of four bytes, between CR and LF, or several events in one read."""
    server = Raw(CHUNKED, pieces(WHOLE.replace(b"\n", ending), step))
    assert text_of(run(server, call(policy=policy))) == TEXT


@pytest.mark.parametrize("policy", ["error", "hold"])
def test_gzip_is_read(policy: str) -> None:
    """Some proxies compress streams."""
    head = CHUNKED + b"Content-Encoding: gzip\r\n"
    assert text_of(run(Raw(head, pieces(gzip.compress(WHOLE), 9)), call(policy=policy))) == TEXT


@pytest.mark.parametrize("stream", [True, False])
def test_broken_gzip_is_a_failure(stream: bool) -> None:
    """From the beginning on; and in the middle it is a cut, never an end."""
    kind = b"text/event-stream" if stream else b"application/json"
    head = CHUNKED.replace(b"text/event-stream", kind) + b"Content-Encoding: gzip\r\n"
    packed = bytearray(gzip.compress(LATE * 20 + WHOLE, 1))
    packed[len(packed) // 2] ^= 0xFF
    for data in (b"not gzip at all" * 9, bytes(packed[: len(packed) // 2]), bytes(packed)):
        with pytest.raises(Failed) as caught:
            run(Raw(head, pieces(data, 200)), call(stream=stream, policy="hold"))
        assert caught.value.kind in (Kind.CUT, Kind.CONNECT, Kind.NOT_JSON)


@pytest.mark.parametrize(
    ("data", "ends", "kind"),
    [
        (LATE, True, Kind.CUT),
        (LATE, False, Kind.CUT),
        (LATE + b'data: {"error": {"message": "x"}}\n\n', True, Kind.IN_BAND),
        (LATE + chunk(finish="error"), True, Kind.IN_BAND),
        (LATE + b"data: {\n\n" * 3, True, Kind.NOT_JSON),
        (LATE + b"data: {\n\n" + chunk(finish="stop"), True, Kind.NOT_JSON),
        (LATE + b"data: " + b"x" * (2**20 + 9_000), True, Kind.TOO_LONG),
        (b"data: [DONE]\n\n", True, Kind.EMPTY),
        (chunk("  ") + chunk(finish="stop"), True, Kind.INVALID),
        (b"", True, Kind.CUT),
    ],
)
def test_whatever_breaks_a_held_stream_is_a_failure_of_the_rung(data: bytes, ends: bool, kind: Kind) -> None:
    """After 96 characters as before the first: nothing was handed out, so the next rung begins cleanly."""
    with pytest.raises(Failed) as caught:
        run(Raw(CHUNKED, pieces(data, max(500, len(data) // 50)), ends=ends), call(policy=HOLD))
    assert caught.value.kind is kind


def test_an_end_without_done_is_whole() -> None:
    """`finish_reason` is the end; the farewell is not."""
    data = chunk("yes") + chunk(finish="stop")
    assert text_of(run(Raw(CHUNKED, [data]), call())) == "yes"
    assert text_of(run(Raw(CHUNKED, [data], ends=False), call())) == "yes"


def test_what_waits_for_the_first_word_is_bounded_in_bytes() -> None:
    """Few chunks can be large ones, too."""
    data = chunk(note="x" * 100_000)
    with pytest.raises(Failed, match="chunks and no content"):
        run(Raw(CHUNKED, [data] * 3), call())


def test_a_client_that_reads_slowly_is_no_stall() -> None:
    """The time between two reads of the client does not count against the provider."""

    async def slowly() -> str:
        server = Raw(CHUNKED, [*(chunk(char) for char in TEXT), chunk(finish="stop")])
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
        target = Target("m", url, "m", "", None, connect_s=5, first_token_s=5, whole_s=5, stall_s=0.2)
        found = ""
        async with listening, Client(target) as client:
            live = await relay.stream(client, call(), {})
            async for each in live:
                if not found:
                    await asyncio.sleep(0.4)
                found += text_of([each.value])
            live.close()
        return found

    assert asyncio.run(slowly()) == TEXT


BODY = json.dumps({"choices": [{"index": 0, "message": {"content": "yes"}, "finish_reason": "stop"}]}).encode()
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"


@pytest.mark.parametrize(
    ("body", "length", "kind"),
    [
        (BODY[:20], len(BODY), Kind.CUT),
        (BODY[:20], 20, Kind.NOT_JSON),
        (b"", 0, Kind.NOT_JSON),
        (b"<html>Please log in to the Wi-Fi</html>", 39, Kind.NOT_JSON),
        (b'{"choices": []}', 15, Kind.EMPTY),
        (BODY.replace(b"yes", b" \\n"), len(BODY), Kind.INVALID),
        (b'{"error": {"message": "no"}}', 28, Kind.IN_BAND),
    ],
)
def test_a_whole_answer_that_is_none_is_a_failure(body: bytes, length: int, kind: Kind) -> None:
    """Cut, empty, a captive portal's page, an error in a 200."""
    with pytest.raises(Failed) as caught:
        run(Raw(JSON % length, [body], chunked=False), call(stream=False))
    assert caught.value.kind is kind


def test_a_whole_answer_is_handed_on() -> None:
    """The control of the above."""
    body = run(Raw(JSON % len(BODY), [BODY], chunked=False), call(stream=False))
    assert body["choices"][0]["message"]["content"] == "yes"

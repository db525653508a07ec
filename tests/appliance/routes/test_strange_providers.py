"""Providers that answer 200 with what nobody asked for: a clean answer or error, and their words in no log of ours."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from appliance.settings import Settings
from bundler.format.service import ANTHROPIC, OPENAI, UpstreamSpec

if TYPE_CHECKING:
    from tests.appliance.routes.conftest import FakeBox, World, Worlds

PLANTED, KEY = "planted-words-of-the-provider", "sk-planted-key"
DEEP: Any = json.loads('{"x":' * 300 + f'"{PLANTED}"' + "}" * 300)
STRANGE: tuple[Any, ...] = (
    PLANTED,
    None,
    [],
    [PLANTED],
    {},
    {"choices": PLANTED},
    {"choices": None},
    {"choices": 3},
    {"choices": [PLANTED]},
    {"choices": [None]},
    {"choices": [{}]},
    {"choices": [{"index": PLANTED, "message": PLANTED, "delta": PLANTED, "finish_reason": [PLANTED]}]},
    {"choices": [{"message": {"content": {"text": PLANTED}}, "delta": {"content": {"text": PLANTED}}}]},
    {"choices": [{"message": {"content": [PLANTED, 3]}, "delta": {"content": [PLANTED, 3]}}]},
    {"choices": [{"message": {"tool_calls": PLANTED}, "delta": {"tool_calls": PLANTED}}]},
    {"choices": [{"message": {"tool_calls": 3}, "delta": {"tool_calls": 3}}]},
    {"choices": [{"message": {"tool_calls": [3]}, "delta": {"tool_calls": [{"index": -1, "id": 3, "function": {}}]}}]},
    {"choices": [{"message": {"tool_calls": [{"function": PLANTED}]}, "delta": {"tool_calls": [{"index": "x"}]}}]},
    {
        "choices": [{"message": {"content": "ok"}, "delta": {"content": "ok"}, "finish_reason": "stop"}],
        "usage": PLANTED,
    },
    {
        "choices": [{"message": {"content": "ok"}, "delta": {"content": "ok"}, "finish_reason": "stop"}],
        "usage": {"total_tokens": -1, "prompt_tokens": PLANTED, "completion_tokens": None},
        "lifeboat": {"mode": [PLANTED], "rung": 3},
        "model": [PLANTED],
        "id": {"x": PLANTED},
        "created": PLANTED,
    },
    {"error": PLANTED},
    {"error": {"message": [PLANTED], "code": {"x": PLANTED}}},
    {"type": "message", "content": PLANTED, "usage": PLANTED, "stop_reason": 3},
    {"type": "message", "content": [PLANTED, {"type": "text", "text": [PLANTED]}, {"type": "tool_use", "input": 3}]},
    {"type": "message", "content": [{"type": "tool_use", "id": 3, "name": [PLANTED], "input": {"x": PLANTED}}]},
    {"type": "content_block_delta", "index": PLANTED, "delta": PLANTED},
    {"type": "content_block_start", "index": 0, "content_block": {"type": [PLANTED]}},
    {"type": "message_start", "message": PLANTED},
    {"type": "message_delta", "delta": {"stop_reason": {"x": PLANTED}}, "usage": [PLANTED]},
    {"type": [PLANTED]},
    {"type": "error", "error": PLANTED},
    DEEP,
)


class _Provider(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        server: Any = self.server
        self.send_response(server.status)
        self.send_header("Content-Type", server.kind)
        self.end_headers()
        self.wfile.write(server.says)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@contextmanager
def provider() -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Provider) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


BEGUN = {
    OPENAI: ({"choices": [{"index": 0, "delta": {"role": "assistant", "content": "well, "}}]},),
    ANTHROPIC: (
        {"type": "message_start", "message": {"id": "1", "model": "m", "usage": {"input_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "well, "}},
    ),
}


def said(value: Any, kind: str, *, stream: bool, begun: bool) -> bytes:
    """Returns what a provider sends; `begun`: after a good beginning."""
    if not stream:
        return json.dumps(value).encode()
    before = b"".join(map(events, BEGUN[kind])) if begun else b""
    return before + events(value) + events(value) + b"data: [DONE]\n\n"


def events(value: Any) -> bytes:
    kind = value.get("type") if isinstance(value, dict) else None
    named = f"event: {kind}\n" if isinstance(kind, str) else ""
    return f"{named}data: {json.dumps(value)}\n\n".encode()


def box_of(worlds: Worlds, port: int, kind: str) -> World:
    def change(box: FakeBox) -> None:
        url = f"http://127.0.0.1:{port}"
        spec = UpstreamSpec("alpha", f"{url}/v1", "m", "CLOUD", "here", 2_000, 2_000, 2_000, kind=kind)
        box.service = replace(box.service, upstreams=(spec,))
        box.policy.egress = (url,)

    # Never left alone: each answer is looked at.
    return worlds.make(
        change=change, settings=Settings(keys={"alpha": KEY}, open_s=0.001, open_longest_s=0.001, probe_s=0)
    )


@pytest.mark.parametrize("kind", [OPENAI, ANTHROPIC])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_whatever_a_provider_says_is_no_fault_of_ours(
    worlds: Worlds, caplog: pytest.LogCaptureFixture, kind: str, stream: bool, path: str
) -> None:
    """No 500 of this program, no end without an answer, and neither its words nor our key in any log."""
    body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 9, "stream": stream}
    faults: list[str] = []
    with provider() as cloud, caplog.at_level(logging.DEBUG):
        world = box_of(worlds, cloud.server_address[1], kind)
        cloud.status, cloud.kind = 200, "text/event-stream" if stream else "application/json"
        for value, begun in product(STRANGE, (False, True) if stream else (False,)):
            cloud.says = said(value, kind, stream=stream, begun=begun)
            reply = world.http.post(path, json=body)
            if reply.status_code == 500 or "internal_error" in reply.text or not reply.text:
                faults.append(f"{json.dumps(value)[:150]}: {reply.status_code} {reply.text[:200]}")
        for status in (400, 401, 404, 422, 429, 500):
            cloud.status, cloud.says = (
                status,
                json.dumps({"error": {"message": f"{PLANTED} {KEY}", "type": PLANTED}}).encode(),
            )
            world.http.post(path, json=body)
        shown = world.http.get("/health/ready").text + world.http.get("/metrics").text
    assert not faults, "\n".join(faults)
    assert not [word for word in (PLANTED, KEY) if word in caplog.text + shown]

"""A provider of Anthropic's Messages API that answers as a test scripts it, and a box in front of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from appliance.settings import Settings
from bundler.format.service import ANTHROPIC

if TYPE_CHECKING:
    from tests.appliance.routes.conftest import FakeBox, World, Worlds

Step = dict[str, Any] | bytes | None
KEY = "sk-ant-of-the-box"


@dataclass
class Scripted:
    """What a provider says next, and what it was asked.

    Attributes:
        status: Of the answer.
        body: The answer's JSON where no stream was asked for, or an error.
        steps: Events of a stream (their `type` becomes their name), bytes as they stand, or None for a
            moment in which what was written is read alone; the stream ends after them.
    """

    status: int = 200
    body: dict[str, Any] = field(default_factory=dict)
    steps: Sequence[Step] = ()
    reply_headers: dict[str, str] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


def text_events(*words: str, stop: str | None = "end_turn") -> list[Step]:
    """Returns a stream of one text block; without `stop` it ends before it says why."""
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": []}
    usage = {"input_tokens": 7, "cache_read_input_tokens": 3, "output_tokens": 1}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in words
    ]
    begin: list[Step] = [{"type": "message_start", "message": {**message, "usage": usage}}, {"type": "ping"}, block]
    if stop is None:
        return [*begin, *deltas]
    end = {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 5}}
    return [*begin, *deltas, {"type": "content_block_stop", "index": 0}, end, {"type": "message_stop"}]


def whole_message(*blocks: dict[str, Any], stop: str = "end_turn") -> dict[str, Any]:
    """Returns a whole answer."""
    usage = {"input_tokens": 7, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 3, "output_tokens": 5}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "stop_sequence": None}
    return {**head, "content": list(blocks), "stop_reason": stop, "usage": usage}


def _handler(scripted: Scripted) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            scripted.asked.append(body)
            scripted.paths.append(self.path)
            scripted.headers.append({name.lower(): value for name, value in self.headers.items()})
            streamed = body.get("stream") and scripted.status == 200
            self.send_response(scripted.status)
            for name, value in scripted.reply_headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "text/event-stream" if streamed else "application/json")
            self.end_headers()
            for step in scripted.steps if streamed else [json.dumps(scripted.body).encode()]:
                if step is None:
                    time.sleep(0.3)
                elif isinstance(step, bytes):
                    self.wfile.write(step)
                else:
                    self.wfile.write(f"event: {step['type']}\ndata: {json.dumps(step)}\n\n".encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    """A provider on loopback."""
    found = Scripted(steps=text_events("Hello ", "there"), body=whole_message({"type": "text", "text": "Hello there"}))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(found))
    found.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    with ExitStack() as stack:
        stack.callback(server.server_close)
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        thread.start()
        yield found


@pytest.fixture
def claude(worlds: Worlds, scripted: Scripted) -> World:
    """A box whose first upstream speaks the Messages API; behind it the local model, FAQ, documents and the message."""
    return worlds.make(
        settings=Settings(keys={"alpha": KEY}, open_s=0.01, open_longest_s=0.02, probe_s=0),
        change=upstream_of(scripted.url),
    )


def upstream_of(url: str, **fields: Any) -> Callable[[FakeBox], None]:
    """Returns a `change` that makes the first upstream one of Anthropic's kind at `url`."""

    def change(box: FakeBox) -> None:
        first = replace(box.service.upstreams[0], base_url=url, kind=ANTHROPIC, key="ANTHROPIC", model="claude-x")
        box.service = replace(box.service, upstreams=(replace(first, **fields), *box.service.upstreams[1:]))
        box.policy.egress = (*box.policy.egress, url.removesuffix("/v1"))

    return change


@pytest.fixture
def events() -> Callable[..., list[Step]]:
    return text_events


@pytest.fixture
def message() -> Callable[..., dict[str, Any]]:
    return whole_message

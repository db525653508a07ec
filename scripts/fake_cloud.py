#!/usr/bin/env python3
"""A stand-in for a cloud provider, on loopback: OpenAI's wire, answers that say "[fake cloud]", slow enough to be cut.

Kill it while it answers, and see what the box does. It needs nothing but Python.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LABEL = "[fake cloud]"
FILLER = "This sentence stands for the long and fluent answer that a large model in the cloud would give here."


class FakeCloud(ThreadingHTTPServer):
    """The server; `delay_s` passes between two words of an answer, `key` is wanted where it is not empty."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, *, delay_s: float, model: str, key: str) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.delay_s, self.model, self.key = delay_s, model, key


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: FakeCloud

    def do_GET(self) -> None:
        if self.path != "/v1/models":
            self.reply(404, error("there is no such path", "not_found"))
        else:
            self.reply(200, {"object": "list", "data": [{"id": self.server.model, "object": "model", "created": 0}]})

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            return self.reply(401, error("wrong key", "invalid_api_key"))
        if self.path not in ("/v1/chat/completions", "/v1/completions"):
            return self.reply(404, error("there is no such path", "not_found"))
        try:
            request = json.loads(data)
            text = answer(request)
        except (ValueError, KeyError, TypeError, IndexError):
            return self.reply(400, error("the request is not a completion request", "invalid_value"))
        if request.get("model") != self.server.model:
            return self.reply(404, error("there is no such model", "model_not_found"))
        chat = self.path.startswith("/v1/chat")
        if request.get("stream"):
            return self.stream(chunks(text, self.server.model, chat=chat))
        time.sleep(self.server.delay_s)
        return self.reply(200, whole(text, self.server.model, chat=chat))

    def reply(self, status: int, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, values: Iterator[dict[str, Any]]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for value in values:
                self.event(json.dumps(value).encode())
                time.sleep(self.server.delay_s)
            self.event(b"[DONE]")
            self.wfile.write(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client left; so does the answer

    def event(self, data: bytes) -> None:
        line = b"data: " + data + b"\n\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: what people ask belongs in no log."""


def answer(request: dict[str, Any]) -> str:
    """Returns the labelled answer to the last message or the prompt."""
    asked = request["messages"][-1]["content"] if "messages" in request else request["prompt"]
    if not isinstance(asked, str):
        asked = " ".join(str(part.get("text", "")) for part in asked)
    return f"{LABEL} You asked: {asked[-200:]} {FILLER} {FILLER}"


def whole(text: str, model: str, *, chat: bool) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "logprobs": None}
    choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    words = len(text.split())
    usage = {"prompt_tokens": words, "completion_tokens": words, "total_tokens": 2 * words}
    return head(model, "chat.completion" if chat else "text_completion") | {"choices": [choice], "usage": usage}


def chunks(text: str, model: str, *, chat: bool) -> Iterator[dict[str, Any]]:
    """Yields the answer word by word."""
    top = head(model, "chat.completion.chunk" if chat else "text_completion")
    words = [word + " " for word in text.split(" ")]
    for word, reason in [*((word, None) for word in words), ("", "stop")]:
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason, "logprobs": None}
        choice |= {"delta": {"content": word} if word else {}} if chat else {"text": word}
        yield top | {"choices": [choice]}


def head(model: str, kind: str) -> dict[str, Any]:
    return {"id": "fake-1", "object": kind, "created": int(time.time()), "model": model}


def error(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=18080, help="port on 127.0.0.1; 0 takes a free one (default 18080)")
    parser.add_argument("--delay-ms", type=int, default=80, help="time between two words (default 80)")
    parser.add_argument("--model", default="cloud-large", help="the one model it serves (default cloud-large)")
    parser.add_argument("--key", default="", help="the API key it wants (default: none)")
    parser.add_argument("--for-s", type=float, default=3600, help="stop by itself after so long (default 3600)")
    options = parser.parse_args()
    server = FakeCloud(options.port, delay_s=options.delay_ms / 1000, model=options.model, key=options.key)
    stopping = threading.Timer(options.for_s, server.shutdown)
    stopping.daemon = True
    stopping.start()
    print(f"fake cloud: http://127.0.0.1:{server.server_address[1]}/v1, model {options.model}", flush=True)
    try:
        server.serve_forever(poll_interval=0.1)
    except KeyboardInterrupt:
        print("fake cloud: stopped")
    finally:
        server.server_close()


if __name__ == "__main__":
    main()

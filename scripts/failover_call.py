"""One request as a careful caller makes it, streamed, under a hard deadline: an answer, an error, or a hang."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

PROMPT = "Why does a harbour keep a lamp of its own, and who answers when the big light is out?"


@dataclass
class Outcome:
    """What the caller got.

    Attributes:
        ended: "answer" where nothing said that it failed, "error", or "hang" where the deadline ended it.
        text: All content that came.
        error: Why it is no answer.
        model: The model that the answer names.
        usage: Whether it told its usage.
        seconds: Until it was over.
        first_s: Until the first content; None where none came.
        served_by: What the headers or the last event say of who served, where they do.
    """

    ended: str = "answer"
    text: str = ""
    error: str = ""
    model: str = ""
    usage: bool = False
    seconds: float = 0.0
    first_s: float | None = None
    served_by: str = ""


@dataclass
class Caller:
    """A client of one system.

    Args:
        url: Up to and with `/v1`.
        key: Its token.
        deadline_s: The longest that a call may take.
        headers: More of them.
    """

    url: str
    key: str
    deadline_s: float
    headers: Mapping[str, str] = field(default_factory=dict)

    async def ask(self, model: str) -> Outcome:
        """Asks once."""
        outcome, began_s = Outcome(), time.monotonic()
        body = {
            "model": model,
            "messages": [{"role": "user", "content": PROMPT}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        try:
            async with asyncio.timeout(self.deadline_s), aiohttp.ClientSession(trust_env=False) as session:
                timeout = aiohttp.ClientTimeout(total=None)
                headers = {"Authorization": f"Bearer {self.key}", **self.headers}
                async with session.post(
                    f"{self.url}/chat/completions", json=body, headers=headers, timeout=timeout
                ) as response:
                    await _read(response, outcome, began_s)
        except TimeoutError:
            outcome.ended, outcome.error = "hang", f"no end within {self.deadline_s:.0f} s"
        except aiohttp.ClientError as error:
            outcome.ended, outcome.error = "error", f"{type(error).__name__}: the connection broke"
        outcome.seconds = time.monotonic() - began_s
        return outcome


async def _read(response: aiohttp.ClientResponse, outcome: Outcome, began_s: float) -> None:
    outcome.served_by = response.headers.get("X-Lifeboat-Served-By", "")
    if response.status != 200:
        outcome.ended, outcome.error = "error", f"HTTP {response.status}: {_message(await response.read())}"
        return
    async for line in response.content:
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        try:
            value = json.loads(data)
        except ValueError:
            outcome.ended, outcome.error = "error", "an event is no JSON"
            return
        if isinstance(value, dict) and value.get("error"):
            outcome.ended, outcome.error = "error", f"in the stream: {_message(data)}"
            return
        _take(value, outcome, began_s)


def _take(value: dict[str, Any], outcome: Outcome, began_s: float) -> None:
    outcome.model = value.get("model") or outcome.model
    outcome.usage = outcome.usage or bool(value.get("usage"))
    outcome.served_by = value.get("lifeboat", {}).get("served_by") or outcome.served_by
    for choice in value.get("choices") or ():
        text = (choice.get("delta") or {}).get("content")
        if text:
            outcome.text += text
            outcome.first_s = outcome.first_s or time.monotonic() - began_s


def _message(data: bytes) -> str:
    try:
        error = json.loads(data)["error"]
        return str(error["message"] if isinstance(error, dict) else error)[:160]
    except (ValueError, KeyError, TypeError):
        return f"{len(data)} bytes that are no error of OpenAI's form"

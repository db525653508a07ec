"""What a request asks of the engine: parsed strictly, and refused where this engine cannot honour it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_UNSUPPORTED: Mapping[str, Callable[[Any], bool]] = {
    "tools": bool,
    "functions": bool,
    "response_format": lambda value: isinstance(value, dict) and value.get("type") != "text",
    "logprobs": lambda value: value not in (None, False, 0),
    "logit_bias": bool,
    "n": lambda value: value not in (None, 1),
    "best_of": lambda value: value not in (None, 1),
    "echo": bool,
    "suffix": bool,
}


class Refused(Exception):
    """A request that the engine does not serve; `code` is OpenAI's error code, `status` the HTTP status."""

    def __init__(self, message: str, code: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


@dataclass(frozen=True)
class Options:
    """Sampling and length; temperature 0 is greedy, top_k 0 and top_p 1 are off, seed None is random."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    frequency_penalty: float
    presence_penalty: float
    repeat_penalty: float
    seed: int | None
    stops: tuple[str, ...]
    stream: bool
    include_usage: bool


def read_options(body: Mapping[str, Any], most_tokens: int) -> Options:
    """Reads the options of a request.

    Args:
        body: The request.
        most_tokens: The longest answer; also the default.

    Raises:
        Refused: An option of the wrong kind or range, or one that this engine does not honour.
    """
    for name, asks in _UNSUPPORTED.items():
        if asks(body.get(name)):
            raise Refused(f"{name} is not supported by the local model", "unsupported_option")
    asked = body.get("max_completion_tokens") or body.get("max_tokens")
    limit = _number({"max_tokens": asked}, "max_tokens", most_tokens, 1, 2**31)
    seed = body.get("seed")
    usage = body.get("stream_options") or {}
    return Options(
        max_tokens=min(int(limit), most_tokens),
        temperature=_number(body, "temperature", 0.7, 0, 2),
        top_p=_number(body, "top_p", 0.95, 0, 1),
        top_k=int(_number(body, "top_k", 40, 0, 100_000)),
        min_p=_number(body, "min_p", 0.0, 0, 1),
        frequency_penalty=_number(body, "frequency_penalty", 0.0, -2, 2),
        presence_penalty=_number(body, "presence_penalty", 0.0, -2, 2),
        repeat_penalty=_number(body, "repeat_penalty", 1.1, 0.5, 2),
        seed=None if seed is None else int(_number(body, "seed", 0, -(2**63), 2**63)) & 0xFFFFFFFE,
        stops=_stops(body.get("stop")),
        stream=body.get("stream") is True,
        include_usage=isinstance(usage, dict) and usage.get("include_usage") is True,
    )


def read_messages(body: Mapping[str, Any]) -> list[dict[str, str]]:
    """Reads chat messages; parts of text are joined, images are refused."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused("messages must be a list that is not empty", "invalid_request")
    return [_message(item) for item in messages]


def _message(item: Any) -> dict[str, str]:
    if not isinstance(item, dict) or item.get("role") not in ("system", "developer", "user", "assistant", "tool"):
        raise Refused("each message needs a role and content", "invalid_request")
    content = item.get("content")
    if isinstance(content, list):
        if any(not isinstance(part, dict) or part.get("type") != "text" for part in content):
            raise Refused("the local model reads text only", "unsupported_option")
        content = "".join(str(part.get("text", "")) for part in content)
    if not isinstance(content, str):
        raise Refused("each message needs content of text", "invalid_request")
    role = "system" if item["role"] == "developer" else item["role"]
    return {"role": role, "content": content}


def _stops(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else (value or [])
    if not isinstance(stops, list) or len(stops) > 16 or not all(isinstance(stop, str) for stop in stops):
        raise Refused("stop must be a text or a list of at most 16 texts", "invalid_request")
    return tuple(stops)


def _number(body: Mapping[str, Any], name: str, default: float, least: float, most: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise Refused(f"{name} must be a number from {least} to {most}", "invalid_request")
    return value

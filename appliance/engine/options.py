"""What a request asks of the engine: parsed strictly, and refused where this engine cannot honour it. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# Of one request: choices times prompts.
MOST_CHOICES = 16
_MOST_BIASES = 1024
_MOST_STOPS = 16
_UNSUPPORTED: Mapping[str, Callable[[Any], bool]] = {
    "functions": bool,
    "function_call": bool,
    "suffix": bool,
    "audio": bool,
    "modalities": lambda value: value not in (None, ["text"]),
    "web_search_options": lambda value: value is not None,
}


class Refused(Exception):
    """A request that the engine does not serve; `code` is OpenAI's error code, `status` the HTTP status."""

    def __init__(self, message: str, code: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn; the names are llama.cpp's, and each default but the first six is "off".

    Temperature 0 is greedy; top_k 0, top_p 1, typical_p 1 and top_n_sigma -1 are off. `logit_bias` holds
    (token, addition) pairs.
    """

    temperature: float = 0.7
    top_p: float = 0.95
    top_k: int = 40
    min_p: float = 0.0
    repeat_penalty: float = 1.1
    repeat_last_n: int = 64
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    typical_p: float = 1.0
    top_n_sigma: float = -1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = 256
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    logit_bias: tuple[tuple[int, float], ...] = ()
    ignore_eos: bool = False


_RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "top_k": (0, 100_000),
    "min_p": (0, 1),
    "repeat_penalty": (0.5, 2),
    "repeat_last_n": (0, 4096),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "typical_p": (0, 1),
    "top_n_sigma": (-1, 100),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 1),
    "dry_multiplier": (0, 10),
    "dry_base": (1, 10),
    "dry_allowed_length": (0, 1024),
    "dry_penalty_last_n": (0, 4096),
    "mirostat": (0, 2),
    "mirostat_tau": (0, 100),
    "mirostat_eta": (0, 10),
}


@dataclass(frozen=True)
class Options:
    """What a request asks for besides its prompt.

    Attributes:
        max_tokens: The longest answer.
        sampling: How tokens are drawn.
        seed: None is random; choice number i is drawn with `seed + i`.
        stops: Texts that end the answer and are not part of it.
        choices: Answers to each prompt.
        logprobs: How many alternatives are told for each token, or None for no log probabilities.
        echo: The text of the prompt comes first (text completions).
        continues: The last message is an answer that has begun (`continue_final_message`).
        stream: Answered by events.
        include_usage: A stream ends with the usage.
    """

    max_tokens: int
    sampling: Sampling
    seed: int | None
    stops: tuple[str, ...]
    choices: int
    logprobs: int | None
    echo: bool
    continues: bool
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
    named = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    usage = body.get("stream_options")
    if usage is not None and not isinstance(usage, dict):
        raise Refused("stream_options must be an object", "invalid_request")
    options = Options(
        max_tokens=min(_whole(body, named, most_tokens, 1, 2**31), most_tokens),
        sampling=_sampling(body),
        seed=None if body.get("seed") is None else _whole(body, "seed", 0, -(2**63), 2**63),
        stops=_stops(body.get("stop")),
        choices=_choices(body),
        logprobs=_logprobs(body),
        echo=_flag(body, "echo"),
        continues=_flag(body, "continue_final_message"),
        stream=_flag(body, "stream"),
        include_usage=_flag(usage or {}, "include_usage"),
    )
    if _whole(body, "best_of", options.choices, 1, MOST_CHOICES) != options.choices:
        raise Refused("best_of is not supported by the local model", "unsupported_option")
    if options.echo and options.logprobs is not None:
        raise Refused("echo with logprobs is not supported by the local model", "unsupported_option")
    return options


def _choices(body: Mapping[str, Any]) -> int:
    count = _whole(body, "n", 1, 1, 128)  # as OpenAI has it
    if count > MOST_CHOICES:
        raise Refused(f"the local model gives at most {MOST_CHOICES} choices", "unsupported_option")
    return count


def _sampling(body: Mapping[str, Any]) -> Sampling:
    standard = Sampling()
    # Greedy means the likeliest token; a penalty changes which that is, so it must be asked for.
    if body.get("temperature") == 0:
        standard = Sampling(temperature=0.0, repeat_penalty=1.0)
    values: dict[str, Any] = {}
    for name, (least, most) in _RANGES.items():
        default = getattr(standard, name)
        read = _whole if isinstance(default, int) else _number
        values[name] = read(body, name, default, least, most)
    return Sampling(**values, logit_bias=_biases(body.get("logit_bias")), ignore_eos=_flag(body, "ignore_eos"))


def _biases(value: Any) -> tuple[tuple[int, float], ...]:
    if not value:
        return ()
    if not isinstance(value, dict) or len(value) > _MOST_BIASES:
        raise Refused(f"logit_bias must be an object of at most {_MOST_BIASES} tokens", "invalid_request")
    for token in value:
        if not (token.isascii() and token.isdigit() and len(token) < 10):
            raise Refused("the keys of logit_bias must be token numbers", "invalid_request")
    return tuple((int(token), float(_number(value, token, 0.0, -100, 100))) for token in value)


def _logprobs(body: Mapping[str, Any]) -> int | None:
    """`logprobs` is a flag for chats (with `top_logprobs` beside it) and a number for text completions."""
    value = body.get("logprobs")
    if value is None or value is False:
        if body.get("top_logprobs"):
            raise Refused("top_logprobs needs logprobs", "invalid_request")
        return None
    if value is True:
        return _whole(body, "top_logprobs", 0, 0, 20)
    return _whole(body, "logprobs", 0, 0, 20)


def _stops(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else (value or [])
    if not isinstance(stops, list) or len(stops) > _MOST_STOPS or not all(isinstance(stop, str) for stop in stops):
        raise Refused(f"stop must be a text or a list of at most {_MOST_STOPS} texts", "invalid_request")
    return tuple(stops)


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise Refused(f"{name} must be true or false", "invalid_request")
    return bool(value)


def _whole(body: Mapping[str, Any], name: str, default: int, least: float, most: float) -> int:
    value = _number(body, name, default, least, most)
    if value != int(value):
        raise Refused(f"{name} must be a whole number", "invalid_request")
    return int(value)


def _number(body: Mapping[str, Any], name: str, default: float, least: float, most: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    finite = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    if isinstance(value, bool) or not finite or not least <= value <= most:
        raise Refused(f"{name} must be a number from {least} to {most}", "invalid_request")
    return float(value) if isinstance(default, float) else value

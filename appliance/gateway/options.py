"""OpenAI's request options: which the box does without, and which a rung must honour or decline. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# Looking up a longer text takes seconds of a processor for each rung, and finds nothing more.
QUESTION_CHARS_MOST = 20_000
# Options of text generation: an FAQ answer or a quotation is given whole and as it stands.
GENERATION = frozenset(
    {"max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop"}
    | {"presence_penalty", "frequency_penalty", "repeat_penalty"}
    # llama.cpp's own, for the local model; providers get them as they came.
    | {"repeat_last_n", "typical_p", "top_n_sigma", "xtc_probability", "xtc_threshold", "dry_multiplier", "dry_base"}
    | {"dry_allowed_length", "dry_penalty_last_n", "mirostat", "mirostat_tau", "mirostat_eta", "ignore_eos"}
    | {"continue_final_message"}
)
# Options that a rung honours or declines. Any other field (`user`, `metadata`, `store`, cache hints, what OpenAI adds
# next) goes to upstreams as it came; the box's own rungs do without it and name it in X-Lifeboat-Ignored.
BINDING = frozenset(
    {"model", "messages", "prompt", "stream", "stream_options", "n", "best_of", "logprobs", "top_logprobs", "tools"}
    | {"tool_choice", "functions", "function_call", "parallel_tool_calls", "response_format", "modalities", "audio"}
    | {"logit_bias", "echo", "suffix", "web_search_options"}
)
_KNOWN = BINDING | GENERATION


def needs_of(body: Mapping[str, Any]) -> frozenset[str]:
    """Returns the options that change what the caller may rely on; each rung honours them or declines."""
    checks = {
        "tools": bool(body.get("tools") or body.get("functions")) and body.get("tool_choice") != "none",
        "response_format": _format(body) not in ("text", None),
        "n": _number(body.get("n")) > 1 or _number(body.get("best_of")) > 1,
        # `/v1/completions` counts: 0 asks for the log probability of the chosen token alone.
        "logprobs": body.get("logprobs") is not None and body["logprobs"] is not False,
        "logit_bias": bool(body.get("logit_bias")),
        "echo": bool(body.get("echo")),
        "suffix": bool(body.get("suffix")),
        "audio": "audio" in (body.get("modalities") or ()) or bool(body.get("audio")),
        "web_search_options": body.get("web_search_options") is not None,
        "several prompts": isinstance(body.get("prompt"), list) and len(body["prompt"]) > 1,
    }
    needs = {name for name, asked in checks.items() if asked}
    return frozenset(needs | _parts(body.get("messages")))


def ignorable_of(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the options that a rung of the box does without, sorted."""
    return tuple(sorted(name for name in body if name not in _KNOWN))


def generation_of(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the options of text generation, which have no effect on a fixed text, sorted."""
    return tuple(sorted(GENERATION & body.keys()))


def text_of(content: object) -> str:
    """Returns the text of a message's content: a string, or a list of parts of which the text parts count."""
    if isinstance(content, str):
        return content
    parts: Iterable[object] = content if isinstance(content, list) else ()
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return "\n".join(text for text in texts if isinstance(text, str))


def question_of(body: Mapping[str, Any]) -> str:
    """Returns what the caller asks: the beginning of the last user message, or of the prompt."""
    return _asked(body)[:QUESTION_CHARS_MOST]


def _asked(body: Mapping[str, Any]) -> str:
    if "messages" in body:
        users = [message for message in body["messages"] if message.get("role") == "user"]
        return text_of(users[-1].get("content")) if users else ""
    prompt = body.get("prompt")
    return prompt if isinstance(prompt, str) else str(prompt[0]) if prompt else ""


def _format(body: Mapping[str, Any]) -> str | None:
    value = body.get("response_format")
    return str(value.get("type")) if isinstance(value, dict) else None


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _parts(messages: object) -> set[str]:
    """What the messages hold besides text: images, audio, files, tool results."""
    needs: set[str] = set()
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content")
        parts = content if isinstance(content, list) else ()
        needs |= {str(part.get("type")) for part in parts if part.get("type") not in ("text", "refusal")}
        if message.get("role") in ("tool", "function") or message.get("tool_calls"):
            needs.add("tools")
    return needs

"""An OpenAI chat request as a request of Anthropic's Messages API, or the reason why it has no such form. Pure.

Rules:
1. What changes what the caller may rely on is translated or declined; nothing is left out in silence. What is left out
   without a loss (`user`, `seed`, cache hints) is `ignored`, and named to the caller.
2. Images go as the bytes that the caller sent. An address of an image is declined: nobody fetches it for a caller.
3. Instructions go to `system`, wherever they stood. Turns of one role in a row are one turn; the results of tools
   stand first in theirs, as the API wants it.
4. An answer that the caller began is declined: newer models refuse it, and older ones would go on with it unasked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.gateway.foreign_json import object_of
from appliance.gateway.options import text_of

# The API wants a limit; OpenAI's callers need not give one.
MAX_TOKENS = 4096
IMAGE_URL = re.compile(r"data:(image/(?:png|jpeg|gif|webp));base64,([A-Za-z0-9+/]+=*)")
_TAKEN = frozenset(
    {"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p"}
    | {"top_k", "stop", "n", "tools", "tool_choice", "parallel_tool_calls", "response_format", "logprobs"}
    | {"top_logprobs", "presence_penalty", "frequency_penalty", "logit_bias", "modalities", "audio", "functions"}
    | {"function_call", "web_search_options", "continue_final_message"}
)
_CHOICES = {"auto": "auto", "required": "any", "none": "none"}


class Untranslatable(Exception):
    """The request has no form on the other wire; the text says what is in the way, in our own words."""


@dataclass(frozen=True)
class Translated:
    """A request of the other wire, and the options that were left out."""

    body: dict[str, Any]
    ignored: tuple[str, ...]


def translated(body: Mapping[str, Any]) -> Translated:
    """Returns the request for `POST /v1/messages`.

    Raises:
        Untranslatable: It holds what that API has no word for.
    """
    if "messages" not in body:
        raise Untranslatable("it has no text completions")
    _decline(body)
    system, turns = _conversation(body["messages"])
    found: dict[str, Any] = {
        "model": body.get("model"),
        "messages": turns,
        "max_tokens": body.get("max_completion_tokens") or body.get("max_tokens") or MAX_TOKENS,
    }
    found |= {"system": system} if system else {}
    found |= {"stream": True} if body.get("stream") else {}
    found |= {name: body[name] for name in ("temperature", "top_p", "top_k") if body.get(name) is not None}
    found |= _stops(body.get("stop")) | _tools(body) | _format(body.get("response_format"))
    return Translated(found, tuple(sorted(body.keys() - _TAKEN)))


def _decline(body: Mapping[str, Any]) -> None:
    checks = {
        "several answers (n)": (body.get("n") or 1) != 1,
        "log probabilities": bool(body.get("logprobs")) or body.get("top_logprobs") is not None,
        "presence or frequency penalties": bool(body.get("presence_penalty") or body.get("frequency_penalty")),
        "logit_bias": bool(body.get("logit_bias")),
        "audio": bool(body.get("audio")) or "audio" in (body.get("modalities") or ()),
        "functions, which are tools now": bool(body.get("functions") or body.get("function_call")),
        "web_search_options": body.get("web_search_options") is not None,
        "a temperature above 1": (body.get("temperature") or 0) > 1,
    }
    if asked := [words for words, found in checks.items() if found]:
        raise Untranslatable(f"it does not support {', '.join(asked)}")


def _stops(stop: object) -> dict[str, Any]:
    stops = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(stops, list) or any(not isinstance(text, str) or not text.strip() for text in stops):
        raise Untranslatable("it does not stop at white space")
    return {"stop_sequences": stops} if stops else {}


def _tools(body: Mapping[str, Any]) -> dict[str, Any]:
    tools = [_tool(tool) for tool in body.get("tools") or ()]
    if not tools:
        return {}
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping):
        name = choice.get("function", {}).get("name") if choice.get("type") == "function" else None
        if not isinstance(name, str):
            raise Untranslatable("it does not support this tool_choice")
        chosen: dict[str, Any] = {"type": "tool", "name": name}
    elif choice is None or choice in _CHOICES:
        chosen = {"type": _CHOICES[choice or "auto"]}
    else:
        raise Untranslatable("it does not support this tool_choice")
    if body.get("parallel_tool_calls") is False and chosen["type"] != "none":
        chosen["disable_parallel_tool_use"] = True
    return {"tools": tools} | ({"tool_choice": chosen} if chosen != {"type": "auto"} else {})


def _tool(tool: object) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, Mapping) and tool.get("type") == "function" else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise Untranslatable("it does not support tools other than functions")
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    found: dict[str, Any] = {"name": function["name"], "input_schema": schema}
    found |= {"description": function["description"]} if function.get("description") else {}
    return found | ({"strict": True} if function.get("strict") is True else {})


def _format(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping) or value.get("type") in (None, "text"):
        return {}
    described = value.get("json_schema")
    schema = described.get("schema") if isinstance(described, Mapping) else None
    if value.get("type") != "json_schema" or not isinstance(schema, Mapping):
        raise Untranslatable(f"it does not support response_format {value.get('type')!r}")
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


def _conversation(messages: Sequence[Mapping[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    system: list[str] = []
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = message.get("role")
        if role in ("system", "developer"):
            system.append(text_of(message.get("content")))
            continue
        blocks = _blocks(role, message)
        side = "assistant" if role == "assistant" else "user"
        if turns and turns[-1]["role"] == side:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": side, "content": blocks})
    if not turns or turns[0]["role"] != "user":
        raise Untranslatable("its conversations begin with the user")
    if turns[-1]["role"] == "assistant":
        raise Untranslatable("it does not go on with an answer that has begun")
    for turn in turns:
        turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    return "\n\n".join(filter(None, system)), turns


def _blocks(role: object, message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    if role == "tool":
        result = {"type": "tool_result", "tool_use_id": message.get("tool_call_id"), "content": _parts(content)}
        return [result]
    if role not in ("user", "assistant"):
        raise Untranslatable(f"it does not support messages of the role {role!r}")
    blocks = _parts(content)
    if role == "assistant":
        refusal = message.get("refusal")
        blocks += [_text(refusal)] if isinstance(refusal, str) and refusal else []
        blocks += [_tool_use(called) for called in message.get("tool_calls") or ()]
    return blocks


def _parts(content: object) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [_text(content)] if content.strip() else []  # an empty block is refused
    parts = content if isinstance(content, list) else []
    return [block for part in parts if (block := _part(part)) is not None]


def _part(part: Mapping[str, Any]) -> dict[str, Any] | None:
    kind = part.get("type")
    if kind in ("text", "refusal"):
        text = part.get(kind)
        return _text(text) if isinstance(text, str) and text.strip() else None
    if kind != "image_url":
        raise Untranslatable(f"it does not support message parts of the type {kind!r}")
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, Mapping) else None
    found = IMAGE_URL.fullmatch(url) if isinstance(url, str) else None
    if found is None:
        raise Untranslatable("it takes images as data URLs (PNG, JPEG, GIF, WebP) only: no address is fetched")
    return {"type": "image", "source": {"type": "base64", "media_type": found[1], "data": found[2]}}


def _tool_use(called: Mapping[str, Any]) -> dict[str, Any]:
    function = called.get("function")
    fields = function if isinstance(function, Mapping) else {}
    arguments = object_of(str(fields.get("arguments") or "{}").encode())
    if arguments is None:
        raise Untranslatable("it takes the arguments of a tool call as a JSON object only")
    return {"type": "tool_use", "id": called.get("id"), "name": fields.get("name"), "input": arguments}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}

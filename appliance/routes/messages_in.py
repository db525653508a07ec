"""A request of Anthropic's Messages API as the chat request that the ladder climbs with. Pure.

What changes what the caller may rely on is translated or refused with 400; what nobody relies on (`metadata`, cache
hints, the budget of thinking) is left out and named. Thinking of earlier turns is left out too: it is the property of
the model that thought it, and a ladder has several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from appliance.engine.pooled_request import AUTO
from appliance.routes.bodies import Count, Dict, Share
from appliance.routes.errors import ApiError

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_TAKEN = frozenset(
    {"model", "max_tokens", "messages", "system", "stream", "stop_sequences", "temperature", "top_p", "top_k"}
    | {"tools", "tool_choice", "output_config"}
)
# These make the provider's own machines work with or for the request.
_FOREIGN = ("container", "mcp_servers", "context_management")
_CACHE = "cache_control"


class Turn(Struct):
    """A turn of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Dict]


class MessagesRequest(Struct, kw_only=True):
    """`POST /v1/messages`."""

    max_tokens: Count
    messages: Annotated[list[Turn], Meta(min_length=1)]
    model: str = AUTO
    system: str | list[Dict] | None = None
    stream: bool | None = None
    stop_sequences: Annotated[list[str], Meta(max_length=16)] | None = None
    temperature: Share | None = None
    top_p: Share | None = None
    top_k: int | None = None
    tools: list[Dict] | None = None
    tool_choice: Dict | None = None
    thinking: Dict | None = None
    output_config: Dict | None = None


@dataclass(frozen=True)
class Asked:
    """A chat request, what of the original it leaves out, and whether the caller wants to see thoughts."""

    body: dict[str, Any]
    ignored: tuple[str, ...]
    thinking: bool


def asked(request: MessagesRequest, raw: Mapping[str, Any]) -> Asked:
    """Returns the chat request of a message request.

    Args:
        request: The checked request.
        raw: The same as it came.

    Raises:
        ApiError: It asks for what has no form here.
    """
    for name in _FOREIGN:
        if raw.get(name):
            raise unsupported(f"{name}: a box runs nothing of a provider's", name)
    if request.messages[-1].role == "assistant":
        raise unsupported("an answer that has begun (prefill) is not gone on with", "messages")
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [*_system(request.system), *(message for turn in request.messages for message in _messages(turn))],
        "max_tokens": request.max_tokens,
    }
    if request.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if request.stop_sequences:
        body["stop"] = request.stop_sequences
    body |= {name: raw[name] for name in ("temperature", "top_p", "top_k") if raw.get(name) is not None}
    body |= _tools(request) | _format(request.output_config or {})
    kind = (request.thinking or {}).get("type")
    return Asked(body, _ignored(request, raw), kind in ("enabled", "adaptive"))


def unsupported(words: str, param: str) -> ApiError:
    """Returns the 400 of a request for what has no form here."""
    return ApiError(400, "unsupported_option", words, param=param)


def _ignored(request: MessagesRequest, raw: Mapping[str, Any]) -> tuple[str, ...]:
    names = set(raw.keys() - _TAKEN - set(_FOREIGN))
    blocks = [turn.content for turn in request.messages if isinstance(turn.content, list)]
    blocks += [value for value in (request.system, request.tools) if isinstance(value, list)]
    if any(block.get(_CACHE) is not None for listed in blocks for block in listed):
        names.add(_CACHE)
    if "effort" in (request.output_config or {}):
        names.add("effort")
    return tuple(sorted(names))


def _system(system: str | Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    text = _text(system or "", "system")
    return [{"role": "system", "content": text}] if text else []


def _messages(turn: Turn) -> list[dict[str, Any]]:
    if isinstance(turn.content, str):
        return [{"role": turn.role, "content": turn.content}]
    if turn.role == "system":
        return _system(turn.content)
    return _said(turn.content) if turn.role == "assistant" else _given(turn.content)


def _said(blocks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns what the assistant said, and which tools it called."""
    text, calls = [], []
    for block in blocks:
        kind = block.get("type")
        if kind == "text":
            text.append(_string(block, "text"))
        elif kind == "tool_use":
            arguments = msgspec.json.encode(block.get("input") or {}).decode()
            function = {"name": _string(block, "name"), "arguments": arguments}
            calls.append({"id": _string(block, "id"), "type": "function", "function": function})
        elif kind not in ("thinking", "redacted_thinking"):
            raise unsupported(f"blocks of the type {kind!r} are not taken from the assistant", "messages")
    message: dict[str, Any] = {"role": "assistant", "content": "".join(text) or None}
    return [message | ({"tool_calls": calls} if calls else {})] if text or calls else []


def _given(blocks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the results of tools, and then what the user says."""
    results, parts = [], []
    for block in blocks:
        if block.get("type") == "tool_result":
            text = _text(block.get("content") or "", "messages")
            told = f"Error: {text}" if block.get("is_error") else text
            results.append({"role": "tool", "tool_call_id": _string(block, "tool_use_id"), "content": told})
        else:
            parts.append(_part(block))
    return [*results, {"role": "user", "content": _plain(parts)}] if parts else results


def _plain(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _part(block: Mapping[str, Any]) -> dict[str, Any]:
    kind = block.get("type")
    if kind == "text":
        return {"type": "text", "text": _string(block, "text")}
    if kind != "image":
        raise unsupported(f"blocks of the type {kind!r} are not taken; text, image and tool_result are", "messages")
    source = block.get("source")
    if not isinstance(source, Mapping) or source.get("type") != "base64":
        raise unsupported("an image is taken as base64 only: no address is fetched", "messages")
    url = f"data:{_string(source, 'media_type')};base64,{_string(source, 'data')}"
    return {"type": "image_url", "image_url": {"url": url}}


def _tools(request: MessagesRequest) -> dict[str, Any]:
    tools = [_tool(tool) for tool in request.tools or ()]
    if not tools:
        return {}
    choice = request.tool_choice or {"type": "auto"}
    kind = choice.get("type")
    if kind == "tool":
        chosen: Any = {"type": "function", "function": {"name": _string(choice, "name")}}
    elif kind in _CHOICES:
        chosen = _CHOICES[kind]
    else:
        raise unsupported(f"tool_choice of the type {kind!r} is not known", "tool_choice")
    found: dict[str, Any] = {"tools": tools, "tool_choice": chosen}
    return found | ({"parallel_tool_calls": False} if choice.get("disable_parallel_tool_use") else {})


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool.get("type") not in (None, "custom"):
        raise unsupported(f"tools of the type {tool.get('type')!r} run at a provider; give your own", "tools")
    function: dict[str, Any] = {"name": _string(tool, "name"), "parameters": tool.get("input_schema") or {}}
    function |= {name: tool[name] for name in ("description", "strict") if tool.get(name)}
    return {"type": "function", "function": function}


def _format(config: Mapping[str, Any]) -> dict[str, Any]:
    value = config.get("format")
    if value is None:
        return {}
    schema = value.get("schema") if isinstance(value, Mapping) and value.get("type") == "json_schema" else None
    if not isinstance(schema, Mapping):
        raise unsupported("output_config.format is not a JSON schema", "output_config")
    described = {"name": "answer", "schema": schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": described}}


def _text(content: object, param: str) -> str:
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    if any(not isinstance(block, Mapping) or block.get("type") != "text" for block in blocks):
        raise unsupported("only blocks of text are taken here", param)
    return "\n\n".join(_string(block, "text") for block in blocks)


def _string(value: Mapping[str, Any], name: str) -> str:
    text = value.get(name)
    if not isinstance(text, str):
        raise ApiError(400, "invalid_value", f"{name} of a block is not text", param="messages")
    return text

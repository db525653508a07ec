"""The messages of a chat, checked and brought to what chat templates expect. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from appliance.engine.options import Refused
from appliance.engine.tools import instruction, written

_ROLES = ("system", "developer", "user", "assistant", "tool")
Message = dict[str, Any]


def read_messages(body: Mapping[str, Any]) -> list[Message]:
    """Reads the messages; parts of text are joined, images are refused.

    Returns:
        Messages of `role` and `content`; an assistant's may have `tool_calls` whose arguments are objects.

    Raises:
        Refused: They are not what OpenAI's wire says, or not text.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused("messages must be a list that is not empty", "invalid_request")
    return [_message(item) for item in messages]


def inert(values: Sequence[Message], control: re.Pattern[str] | None) -> list[Message]:
    """Takes the power from texts that the tokenizer would read as control tokens: in messages, calls and tools alike.

    Whoever writes `<|im_end|>` into a ticket must not end the turn and begin one of the system's: a zero-width space
    after the first character keeps it text.
    """
    return list(values) if control is None else [_inert(value, control) for value in values]


def inert_text(text: str, control: re.Pattern[str] | None) -> str:
    """Does the same to one text."""
    return text if control is None else control.sub(lambda found: f"{found[0][0]}\u200b{found[0][1:]}", text)


def _inert(value: Any, control: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return inert_text(value, control)
    if isinstance(value, list | tuple):
        return [_inert(item, control) for item in value]
    if isinstance(value, dict):
        return {_inert(name, control): _inert(item, control) for name, item in value.items()}
    return value


def plain(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Rewrites messages for a template that does not know tools: offers, calls and results become text."""
    found = [_plain(message) for message in messages]
    if not tools:
        return found
    words = instruction(tools)
    if found[0]["role"] == "system":
        return [{"role": "system", "content": f"{found[0]['content']}\n\n{words}"}, *found[1:]]
    return [{"role": "system", "content": words}, *found]


def _message(item: Any) -> Message:
    if not isinstance(item, dict) or item.get("role") not in _ROLES:
        raise Refused("each message needs a role and content", "invalid_request")
    role = "system" if item["role"] == "developer" else item["role"]
    calls = item.get("tool_calls") if role == "assistant" else None
    content = "" if calls and item.get("content") is None else _content(item.get("content"))
    message: Message = {"role": role, "content": content}
    if calls:
        message["tool_calls"] = _calls(calls)
    if role == "tool":
        message["tool_call_id"] = str(item.get("tool_call_id") or "")
    return message


def _content(content: Any) -> str:
    if isinstance(content, list):
        if any(not isinstance(part, dict) or part.get("type") not in ("text", "refusal") for part in content):
            raise Refused("the local model reads text only", "unsupported_option")
        content = "".join(str(part.get("text") or part.get("refusal") or "") for part in content)
    if not isinstance(content, str):
        raise Refused("each message needs content of text", "invalid_request")
    return content


def _calls(calls: Any) -> list[Message]:
    if not isinstance(calls, list):
        raise Refused("tool_calls must be a list", "invalid_request")
    return [_call(item) for item in calls]


def _call(item: Any) -> Message:
    function = item.get("function") if isinstance(item, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    arguments = function.get("arguments") if isinstance(function, dict) else None
    if not isinstance(name, str) or not isinstance(arguments, str):
        raise Refused("each tool call needs a function with name and arguments", "invalid_request")
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        raise Refused(f"the arguments of the call of {name} are not JSON", "invalid_request") from None
    return {
        "id": str(item.get("id") or ""),
        "type": "function",
        "function": {"name": name, "arguments": value},
    }


def _plain(message: Message) -> Message:
    if message["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
    calls = [written(call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls", ())]
    text = "\n".join(filter(None, [message["content"], *calls]))
    return {"role": message["role"], "content": text}

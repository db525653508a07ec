"""Tools: how a model is told of them, what a call looks like in its text, and how it is read back. Pure.

One notation for every model, that of the Hermes and Qwen templates: `<tool_call>`, a JSON object with `name` and
`arguments`, `</tool_call>`. A template that knows it renders the tools itself; for any other the words are added
here. The grammar of `constraint.py` holds a call to the notation, so that reading it back cannot fail.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.engine.options import Refused

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MOST_TOOLS = 128
_END = f"}}\n{CLOSE}"
_INSTRUCTION = """You may call these functions. Each line describes one as JSON:
<tools>
{tools}
</tools>
To call a function, write nothing but this, with the function's own name and arguments:
<tool_call>
{{"name": "function-name", "arguments": {{"argument": "value"}}}}
</tool_call>"""


@dataclass(frozen=True)
class Tool:
    """A function that the caller offers; `parameters` is its JSON schema."""

    name: str
    description: str
    parameters: Mapping[str, Any]

    def described(self) -> dict[str, Any]:
        """Returns the tool as OpenAI writes it."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}


@dataclass(frozen=True)
class Toolbox:
    """The tools of a request.

    Attributes:
        tools: What may be called.
        forced: The answer must be a call.
        several: More than one call may be made.
    """

    tools: tuple[Tool, ...]
    forced: bool
    several: bool


def read_tools(body: Mapping[str, Any]) -> Toolbox | None:
    """Reads `tools`, `tool_choice` and `parallel_tool_calls`; None where no call may be made.

    Raises:
        Refused: They are not what OpenAI's wire says.
    """
    tools = body.get("tools")
    choice = body.get("tool_choice")
    if not tools:
        if choice not in (None, "none", "auto"):
            raise Refused("tool_choice needs tools", "invalid_request")
        return None
    if not isinstance(tools, list) or len(tools) > _MOST_TOOLS:
        raise Refused(f"tools must be a list of at most {_MOST_TOOLS}", "invalid_request")
    read = tuple(_tool(item) for item in tools)
    if len({tool.name for tool in read}) != len(read):
        raise Refused("two tools have the same name", "invalid_request")
    several = body.get("parallel_tool_calls") is not False
    if choice in (None, "auto"):
        return Toolbox(read, forced=False, several=several)
    if choice == "none":
        return None
    if choice == "required":
        return Toolbox(read, forced=True, several=several)
    return Toolbox((_chosen(choice, read),), forced=True, several=False)


def _tool(item: Any) -> Tool:
    function = item.get("function") if isinstance(item, dict) and item.get("type") == "function" else None
    if not isinstance(function, dict):
        raise Refused('each tool must be {"type": "function", "function": {...}}', "invalid_request")
    name, description = function.get("name"), function.get("description") or ""
    parameters = function.get("parameters")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Refused("a tool's name must be 1 to 64 letters, digits, _ or -", "invalid_request")
    if not isinstance(description, str):
        raise Refused(f"tool {name}: description must be a text", "invalid_request")
    if parameters is not None and not isinstance(parameters, dict):
        raise Refused(f"tool {name}: parameters must be a JSON schema", "invalid_request")
    return Tool(name, description, {"type": "object", **(parameters or {"properties": {}})})


def _chosen(choice: Any, tools: Sequence[Tool]) -> Tool:
    function = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
    name = function.get("name") if isinstance(function, dict) else None
    found = next((tool for tool in tools if tool.name == name), None)
    if found is None:
        raise Refused('tool_choice must be "none", "auto", "required" or name one of the tools', "invalid_request")
    return found


def instruction(tools: Sequence[Mapping[str, Any]]) -> str:
    """Returns the words for a model whose template does not know tools, given as OpenAI writes them."""
    return _INSTRUCTION.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))


def written(name: str, arguments: Any) -> str:
    """Returns a call as the notation has it."""
    return f'{OPEN}\n{{"name": {json.dumps(name)}, "arguments": {json.dumps(arguments, ensure_ascii=False)}{_END}'


def head(name: str) -> str:
    """Returns what stands between OPEN and the arguments of a call."""
    return f'\n{{"name": {json.dumps(name)}, "arguments": '


@dataclass(frozen=True)
class Said:
    """A part of an answer: text, or a part of call number `call` (from 0), whose first part carries the name."""

    text: str
    call: int | None = None
    name: str | None = None


class ToolReader:
    """Splits an answer that comes in pieces into text and calls; holds back what may become a call."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._heads = {head(tool.name): tool.name for tool in tools}
        self._state, self._held, self._call = self._text, "", -1

    @property
    def calls(self) -> int:
        """How many calls have begun."""
        return self._call + 1

    def feed(self, text: str) -> list[Said]:
        """Takes a piece; returns what is final."""
        self._held += text
        said: list[Said] = []
        while True:
            before = (self._held, self._state)
            said += self._state()
            if (self._held, self._state) == before:
                return [part for part in said if part.text or part.name]

    def finish(self) -> list[Said]:
        """Returns what was held back: an answer that ended in the middle of a call is given as far as it came."""
        held, self._held = self._held, ""
        if self._state == self._head:
            return [Said(OPEN + held)] if held else []
        call = self._call if self._state == self._arguments else None
        # Between calls there is white space only.
        return [Said(held, call)] if held.strip() else []

    def _text(self) -> list[Said]:
        place = self._held.find(OPEN)
        if place >= 0:
            text, self._held = self._held[:place], self._held[place + len(OPEN) :]
            self._state = self._head
            return [Said(text)] if text.strip() else []
        text = self._release(OPEN)
        if self._call >= 0 and not text.strip():
            return []
        return [Said(text)]

    def _head(self) -> list[Said]:
        for words, name in self._heads.items():
            if self._held.startswith(words):
                self._held = self._held[len(words) :]
                self._call, self._state = self._call + 1, self._arguments
                return [Said("", self._call, name)]
        return []

    def _arguments(self) -> list[Said]:
        place = self._held.find(_END)
        if place >= 0:
            text, self._held = self._held[:place], self._held[place + len(_END) :]
            self._state = self._text
            return [Said(text, self._call)]
        return [Said(self._release(_END), self._call)]

    def _release(self, ending: str) -> str:
        """Returns what is held but for an end that may be the beginning of `ending`."""
        longest = min(len(ending) - 1, len(self._held))
        keep = next((size for size in range(longest, 0, -1) if self._held.endswith(ending[:size])), 0)
        text, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return text

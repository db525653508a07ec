"""The grammar that an answer must follow: JSON mode, a JSON schema, tool calls. Pure: a request in, a grammar out.

Grammars are in llguidance's dialect of Lark (https://github.com/guidance-ai/llguidance, docs/syntax.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from appliance.engine.options import Refused
from appliance.engine.tools import CLOSE, OPEN, Tool, Toolbox, head

_MOST_SCHEMA_BYTES = 128 * 1024
# A small model can fill its whole answer with white space; and `lenient` must never come from the caller's schema.
_GUIDANCE = {"whitespace_pattern": r"( |\n {0,16})?", "lenient": False}


def read_constraint(body: Mapping[str, Any], toolbox: Toolbox | None, *, special: bool) -> str | None:
    """Returns the grammar of a request's answer, or None where it is free.

    Args:
        body: The request.
        toolbox: Its tools.
        special: Whether the model has a token of its own for `<tool_call>`.

    Raises:
        Refused: `response_format` is not what OpenAI's wire says, or too large.
    """
    schema = _schema(body.get("response_format"))
    if toolbox is not None:
        return _calls(toolbox, schema, special=special)
    return None if schema is None else f"start: answer\nanswer: %json {_embedded(schema)}\n"


def _schema(value: Any) -> Mapping[str, Any] | None:
    if value is None:
        return None
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    wrapped = value.get("json_schema") if kind == "json_schema" else None
    schema = wrapped.get("schema") if isinstance(wrapped, dict) else None
    if not isinstance(schema, dict):
        raise Refused(
            'response_format must be {"type": "text"}, {"type": "json_object"} or '
            '{"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}}',
            "invalid_request",
        )
    return schema


def _calls(toolbox: Toolbox, schema: Mapping[str, Any] | None, *, special: bool) -> str:
    """`special` tokens are outside the text of a grammar, so they are written in another way."""
    opening = OPEN if special else json.dumps(OPEN)
    closing = f'"}}\\n" {CLOSE}' if special else json.dumps("}\n" + CLOSE)
    again = f'("\\n" {opening} call)*' if toolbox.several else ""
    rules = [f"call: {' | '.join(f'tool_{number}' for number in range(len(toolbox.tools)))}"]
    rules += [_call(number, tool, closing) for number, tool in enumerate(toolbox.tools)]
    if toolbox.forced:
        rules.insert(0, f"start: {opening} call {again}")
    elif schema is not None:
        rules.insert(0, f"start: answer | {opening} call {again}\nanswer: %json {_embedded(schema)}")
    elif special:
        rules.insert(0, f"start: TEXT | TEXT {opening} call {again}\nTEXT: /(.|\\n)*/")
    else:
        # Lazy: the call begins where its opening is first met, whatever the text could still have become.
        rules.insert(0, f"start: TEXT | begun call {again}\nbegun[lazy]: TEXT {opening}\nTEXT: /(.|\\n)*/")
    return "%llguidance {}\n" + "\n".join(rules) + "\n"


def _call(number: int, tool: Tool, closing: str) -> str:
    return f"tool_{number}: {json.dumps(head(tool.name))} %json {_embedded(tool.parameters)} {closing}"


def _embedded(schema: Mapping[str, Any]) -> str:
    text = json.dumps({**schema, "x-guidance": _GUIDANCE})
    if len(text) > _MOST_SCHEMA_BYTES:
        raise Refused(f"a JSON schema may have at most {_MOST_SCHEMA_BYTES} bytes", "invalid_request")
    return text

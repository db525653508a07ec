"""The grammar that an answer must follow: JSON mode, a JSON schema, tool calls. Pure: a request in, a grammar out.

Grammars are in llguidance's dialect of Lark (https://github.com/guidance-ai/llguidance, docs/syntax.md).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from appliance.engine.options import Refused
from appliance.engine.tools import CLOSE, OPEN, Tool, Toolbox, head

_MOST_SCHEMA_BYTES = 128 * 1024
# llguidance lists the remainders of a `multipleOf` one by one, whatever its limits are: 99,991 of them take 0.4 s and
# 42 MiB, and a hundred million no machine has. Several that hold at once are one with their least common multiple.
_MOST_REMAINDERS = 20_000
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
    try:
        text = json.dumps({**schema, "x-guidance": _GUIDANCE})
        remainders = _remainders(schema)
    except RecursionError:
        raise Refused("the JSON schema is nested too deeply", "invalid_schema") from None
    if remainders > _MOST_REMAINDERS:
        raise Refused(f"multipleOf beyond {_MOST_REMAINDERS} steps cannot be followed", "invalid_schema")
    if len(text) > _MOST_SCHEMA_BYTES:
        raise Refused(f"a JSON schema may have at most {_MOST_SCHEMA_BYTES} bytes", "invalid_request")
    return text


def _remainders(schema: Any) -> int:
    """Returns how many remainders all `multipleOf` of a schema have together, were they to hold at once.

    It is the least common multiple of the steps in the unit of the finest; counting ends where there are too many.
    """
    found: Fraction | None = None
    units = 1
    for step in _steps(schema):
        units = math.lcm(units, step.denominator)
        found = step if found is None else _common(found, step)
        if found * units > _MOST_REMAINDERS:
            break
    return 0 if found is None else int(found * units)


def _common(one: Fraction, two: Fraction) -> Fraction:
    """The least common multiple of two fractions in lowest terms."""
    return Fraction(math.lcm(one.numerator, two.numerator), math.gcd(one.denominator, two.denominator))


def _steps(value: Any) -> Iterator[Fraction]:
    if isinstance(value, dict):
        step: Any = value.get("multipleOf")
        whole = isinstance(step, int) and not isinstance(step, bool)
        if (whole or (isinstance(step, float) and math.isfinite(step))) and step > 0:
            yield Fraction(step) if whole else Fraction(repr(step))
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _steps(item)

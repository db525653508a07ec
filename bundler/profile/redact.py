"""`[[redact]]`: what is taken out of requests; patterns are held to a form that no text makes slow. Pure.

A pattern has neither unbounded repeats, back references nor assertions, and repeats of a varying length are few and
short: all ways to read a text at one place are at most WAYS, so the time grows with the length of the text alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from re import _constants as code  # type: ignore[attr-defined]  # the parser of the standard library has no public name
from re import _parser as parser  # type: ignore[attr-defined]  # as above
from typing import Any

from bundler.format.service import PATTERN, REDACT_KINDS, RedactSpec
from bundler.profile.table import Table

PATTERN_CHARS = 300
WAYS = 1_000
REPEATS = 200
_REPEATS = (code.MAX_REPEAT, code.MIN_REPEAT, code.POSSESSIVE_REPEAT)
_PLAIN = (code.LITERAL, code.NOT_LITERAL, code.ANY, code.IN, code.CATEGORY, code.AT)


def read_redact(tables: Sequence[Table]) -> tuple[RedactSpec, ...]:
    """Reads the rules; every issue is noted at its table."""
    rules: list[RedactSpec] = []
    for table in tables:
        kind = table.choice("kind", REDACT_KINDS)
        rule = RedactSpec(
            name=table.text("name", kind),
            kind=kind,
            pattern=table.text("pattern") if kind == PATTERN else "",
            restore=table.flag("restore", default=True),
        )
        if rule.name in {earlier.name for earlier in rules}:
            table.issue(f"name {rule.name!r} is used twice")
        if rule.pattern and (problem := slow(rule.pattern)):
            table.issue(f"pattern {problem}")
        table.close()
        rules.append(rule)
    return tuple(rules)


def slow(pattern: str) -> str:
    """Returns what is wrong with a pattern, "" where it is of the form that is allowed."""
    if len(pattern) > PATTERN_CHARS:
        return f"is longer than {PATTERN_CHARS} characters"
    try:
        parsed = parser.parse(pattern)
        compiled = re.compile(pattern)
        if compiled.match(""):
            return "matches nothing at all"
        ways = _ways(parsed)
    except (re.error, RecursionError, OverflowError) as error:
        return f"is no regular expression: {error}"
    except ValueError as error:
        return str(error)
    return f"can be read in more than {WAYS} ways at one place: make repeats shorter or exact" if ways > WAYS else ""


def _ways(parsed: Any) -> int:
    ways = 1
    for operation, argument in parsed:
        ways = min(ways * _of(operation, argument), WAYS + 1)
    return ways


def _of(operation: Any, argument: Any) -> int:
    if operation in _PLAIN:
        return 1
    if operation in _REPEATS:
        least, most, inner = argument
        if most is code.MAXREPEAT or most > REPEATS:
            raise ValueError(
                f"has a repeat without an end (or over {REPEATS}): write {{1,40}} for + and {{0,40}} for *"
            )
        each = _ways(inner)
        many = 1
        for _ in range(most):
            many = min(many * each, WAYS + 1)
        return int(many * (most - least + 1))
    if operation is code.SUBPATTERN:
        return _ways(argument[-1])
    if operation is code.BRANCH:
        return sum(_ways(branch) for branch in argument[1])
    raise ValueError("uses a back reference or an assertion, of which none are allowed")

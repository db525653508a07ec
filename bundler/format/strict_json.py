"""Reads JSON that others wrote: what two readers could take for two things is refused, and so is what has no end.

RFC 8259 leaves open what a key means that stands twice, and Python's reader goes further than the RFC: it takes NaN,
UTF-16, halves of surrogate pairs, and 1e999 for infinity. What is read here is I-JSON (RFC 7493) in UTF-8, bounded in
depth and in the digits of an integer. The caller bounds the length.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any

from bundler.format.errors import LifeboatError
from bundler.format.limits import INTEGER_DIGITS, JSON_DEPTH

_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# The closing quote is optional: a pattern that fails at the end of the bytes is tried again from each quote before it,
# which takes hours for some megabytes of `\"`. A text that does not end is refused by the reader behind.
_TEXTS = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)


def parse(data: bytes, *, floats: bool = True) -> Any:
    """Reads a document.

    Args:
        data: The whole of it; the caller has bounded its length.
        floats: Whether a number may be other than an integer.

    Raises:
        ValueError: With what is wrong, in words that can follow "is not strict JSON:".
    """
    _bound_depth(data)
    value = json.loads(
        data.decode(),
        object_pairs_hook=_unique,
        parse_int=_bounded,
        parse_float=_finite if floats else _no_integer,
        parse_constant=_no_number if floats else _no_integer,
    )
    if b"\\u" in data:
        _refuse_half_pairs(value)
    return value


def read_object(data: bytes, what: str, fault: type[LifeboatError], *, floats: bool = True) -> dict[str, Any]:
    """Reads a document that is one object.

    Args:
        data: As `parse` takes it.
        what: Names the document in errors, such as "bundle.json".
        fault: Whose fault it is where it cannot be read.
        floats: As `parse` takes it.

    Raises:
        LifeboatError: Of the class `fault`: it is no strict JSON, or no object.
    """
    try:
        value = parse(data, floats=floats)
    except ValueError as error:
        raise fault(f"{what} is not strict JSON: {error}") from error
    if not isinstance(value, dict):
        raise fault(f"{what} is not a JSON object")
    return value


def _bound_depth(data: bytes) -> None:
    """Refuses what is nested too deep before Python's reader starts, which recurses in C."""
    if data.count(b"[") + data.count(b"{") <= JSON_DEPTH:
        return
    depth = 0
    for byte in _TEXTS.sub(b"", data).translate(None, _NO_BRACKETS):
        depth += 1 if byte in b"[{" else -1
        if depth > JSON_DEPTH:
            raise ValueError(f"it nests deeper than {JSON_DEPTH} levels")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        often = Counter(key for key, _ in pairs)
        raise ValueError(f"the key {next(key for key, times in often.items() if times > 1)[:80]!a} appears twice")
    return found


def _bounded(text: str) -> int:
    if len(text) > INTEGER_DIGITS:
        raise ValueError(f"an integer has more than {INTEGER_DIGITS} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:20]} is beyond all bounds")
    return value


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _no_integer(text: str) -> int:
    raise ValueError(f"the number {text[:20]} is not an integer")


def _refuse_half_pairs(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("a text holds half of a surrogate pair, which is no character") from error

"""One canonical JSON encoding and a strict decoder: nothing is accepted that we would not write.

Canonical form: UTF-8, keys sorted by code point, no white space, no floats, no duplicate keys.
"""

from __future__ import annotations

import json
import re
from typing import Any

from bundler.format.errors import BadBundle
from bundler.format.limits import JSON_DEPTH

# Python's own decoder recurses in C: depth is bounded by a scan of the bytes before it starts.
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"')


def encode(value: object) -> bytes:
    """Returns the canonical encoding of dicts, lists, strings, integers, booleans and None."""
    _refuse_floats(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def decode(data: bytes, what: str) -> dict[str, Any]:
    """Reads one JSON object.

    Args:
        data: The whole document; the caller has bounded its length.
        what: Names the document in errors, such as "bundle.json".

    Raises:
        BadBundle: As `read`, or not canonical.
    """
    value = read(data, what)
    if encode(value) != data:
        raise BadBundle(f"{what} is not in canonical form")
    return value


def read(data: bytes, what: str) -> dict[str, Any]:
    """Reads one JSON object of a file that people may lay out as they like, as strictly as `decode` otherwise.

    Raises:
        BadBundle: Not UTF-8, not JSON, a float, a duplicate key, too deep, or not an object.
    """
    _bound_depth(data, what)
    try:
        value = json.loads(
            data, object_pairs_hook=_unique, parse_float=_no_float, parse_constant=_no_float, parse_int=_bounded_int
        )
        encode(value)  # a lone surrogate decodes and has no UTF-8
    except (ValueError, RecursionError) as error:
        raise BadBundle(f"{what} is not strict JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadBundle(f"{what} is not a JSON object")
    return value


def _bound_depth(data: bytes, what: str) -> None:
    depth = 0
    for byte in _STRINGS.sub(b"", data).translate(None, _NO_BRACKETS):
        depth += 1 if byte in b"[{" else -1
        if depth > JSON_DEPTH:
            raise BadBundle(f"{what} nests deeper than {JSON_DEPTH} levels")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key appears twice")
    return result


def _no_float(text: str) -> Any:
    raise ValueError(f"the number {text[:20]} is not an integer")


def _bounded_int(text: str) -> int:
    if len(text) > 20:
        raise ValueError("an integer has more than 20 digits")
    return int(text)


def _refuse_floats(value: object) -> None:
    if isinstance(value, float):
        raise TypeError(f"canonical JSON holds no floats: {value!r}")
    if isinstance(value, dict):
        for item in value.values():
            _refuse_floats(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_floats(item)

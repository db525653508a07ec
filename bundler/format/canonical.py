"""One canonical JSON encoding and a strict decoder: nothing is accepted that we would not write.

Canonical form: UTF-8, keys sorted by code point, no white space, no floats, no duplicate keys.
"""

from __future__ import annotations

import json
from typing import Any

from bundler.format import strict_json
from bundler.format.errors import BadBundle


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
        BadBundle: Not strict JSON, a float, or not an object.
    """
    return strict_json.read_object(data, what, BadBundle, floats=False)


def _refuse_floats(value: object) -> None:
    if isinstance(value, float):
        raise TypeError(f"canonical JSON holds no floats: {value!r}")
    if isinstance(value, dict):
        for item in value.values():
            _refuse_floats(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_floats(item)

"""Whether a JSON value is as a JSON schema says, in bounded work. Pure.

The schema may be a caller's, so it gets neither a regular expression (one can take for ever) nor an address to fetch:
`pattern`, `patternProperties`, `not` and whatever else is not below count as kept, and `$ref` leads inside the schema
only. So a value that breaks the schema may pass, and one that keeps it always does: a fault is certain.
Keywords are those of JSON Schema 2020-12, https://json-schema.org/draft/2020-12/json-schema-validation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

STEPS_MAX = 20_000
DEPTH_MAX = 100

_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": lambda value: _is_number(value),
    "integer": lambda value: _is_number(value) and value == int(value),
}


class _TooMuch(Exception):
    """The work is over its bound."""


def fault(value: Any, schema: Any) -> str | None:
    """Returns what of a value is not as the schema says, None where nothing is found.

    A schema whose check takes more than STEPS_MAX steps or DEPTH_MAX levels is given up, and the value taken.
    """
    try:
        return None if _Check(schema).holds(value, schema, 0) else "the value is not as the schema says"
    except (_TooMuch, RecursionError):  # the latter: a constant that is nested as deep as the program's own stack
        return None


class _Check:
    def __init__(self, root: Any) -> None:
        self._root, self._steps = root, 0

    def holds(self, value: Any, schema: Any, depth: int) -> bool:
        self._steps += 1
        if self._steps > STEPS_MAX or depth > DEPTH_MAX:
            raise _TooMuch
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            return True
        checks = (self._plain, self._numbers, self._sizes, self._object, self._array, self._joined)
        return all(check(value, schema, depth + 1) for check in checks)

    def _plain(self, value: Any, schema: Mapping[str, Any], _: int) -> bool:
        kinds = schema.get("type")
        names = kinds if isinstance(kinds, list) else [kinds]
        known = [_TYPES[name] for name in names if isinstance(name, str) and name in _TYPES]
        if known and not any(check(value) for check in known):
            return False
        if "const" in schema and not _same(value, schema["const"]):
            return False
        options = schema.get("enum")
        return not isinstance(options, list) or any(_same(value, option) for option in options)

    def _numbers(self, value: Any, schema: Mapping[str, Any], _: int) -> bool:
        if not _is_number(value):
            return True
        limits: tuple[tuple[str, Callable[[Any], bool]], ...] = (
            ("minimum", lambda limit: value >= limit),
            ("maximum", lambda limit: value <= limit),
            ("exclusiveMinimum", lambda limit: value > limit),
            ("exclusiveMaximum", lambda limit: value < limit),
            ("multipleOf", lambda step: step <= 0 or _multiple(value, step)),
        )
        return all(check(schema[name]) for name, check in limits if _is_number(schema.get(name)))

    def _sizes(self, value: Any, schema: Mapping[str, Any], _: int) -> bool:
        for kind, ending in ((str, "Length"), (list, "Items"), (dict, "Properties")):
            if isinstance(value, kind):
                least: Any = schema.get(f"min{ending}")
                most: Any = schema.get(f"max{ending}")
                if (_is_number(least) and len(value) < least) or (_is_number(most) and len(value) > most):
                    return False
        return True

    def _object(self, value: Any, schema: Mapping[str, Any], depth: int) -> bool:
        if not isinstance(value, dict):
            return True
        required = schema.get("required")
        if isinstance(required, list) and any(isinstance(name, str) and name not in value for name in required):
            return False
        known = schema.get("properties")
        named = known if isinstance(known, dict) else {}
        if not all(self.holds(value[name], inner, depth) for name, inner in named.items() if name in value):
            return False
        if "additionalProperties" not in schema or "patternProperties" in schema:
            return True
        others = schema["additionalProperties"]
        return all(self.holds(item, others, depth) for name, item in value.items() if name not in named)

    def _array(self, value: Any, schema: Mapping[str, Any], depth: int) -> bool:
        if not isinstance(value, list):
            return True
        first = schema.get("prefixItems")
        leading = first if isinstance(first, list) else []
        if not all(self.holds(item, inner, depth) for item, inner in zip(value, leading, strict=False)):
            return False
        items = schema.get("items")
        return items is None or all(self.holds(item, items, depth) for item in value[len(leading) :])

    def _joined(self, value: Any, schema: Mapping[str, Any], depth: int) -> bool:
        reference = schema.get("$ref")
        if isinstance(reference, str) and not self.holds(value, self._inside(reference), depth):
            return False
        every, some = schema.get("allOf"), [schema.get("anyOf"), schema.get("oneOf")]
        if isinstance(every, list) and not all(self.holds(value, inner, depth) for inner in every):
            return False
        # Of `oneOf` two may seem to hold because of a keyword that is not looked at: none is the only certain fault.
        return all(any(self.holds(value, each, depth) for each in inner) for inner in some if isinstance(inner, list))

    def _inside(self, reference: str) -> Any:
        """Returns what a reference such as `#/$defs/x` leads to; True, which takes anything, where it leads nowhere."""
        place = self._root
        if not reference.startswith("#"):
            return True
        for step in reference[1:].split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(place, list) and key.isdigit() and int(key) < len(place):
                place = place[int(key)]
            elif isinstance(place, dict) and key in place:
                place = place[key]
            else:
                return True
        return place


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)  # JSON's 1e400 becomes an infinite one
    return isinstance(value, int) and not isinstance(value, bool)


def _multiple(value: float, step: float) -> bool:
    # As decimals, in which people write them: 0.3 is a multiple of 0.1.
    return Fraction(str(value)) % Fraction(str(step)) == 0


def _same(one: Any, two: Any) -> bool:
    """JSON's equality: 1 is 1.0, and true is not 1."""
    if isinstance(one, bool) or isinstance(two, bool):
        return one is two
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(_same, one, two))
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(_same(one[key], two[key]) for key in one)
    return bool(one == two)

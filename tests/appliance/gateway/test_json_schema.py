"""A fault that is found is certain: held against the reference checker, and against schemas that are made to hurt."""

from __future__ import annotations

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # comes with chromadb, its stubs do not
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.gateway import json_schema
from appliance.gateway.json_schema import fault

NAMES = st.sampled_from(["a", "b", "c"])
LEAVES = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, 2.5]) | st.text("ab", max_size=3)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)
TYPES = st.sampled_from(["null", "boolean", "object", "array", "string", "number", "integer"])
COUNTS = st.integers(0, 3)
PLAIN = {
    "type": TYPES | st.lists(TYPES, min_size=1, max_size=2, unique=True),
    "enum": st.lists(VALUES, min_size=1, max_size=3),
    "const": VALUES,
    "minimum": st.integers(-2, 2),
    "maximum": st.integers(-2, 2),
    "exclusiveMinimum": st.integers(-2, 2),
    "exclusiveMaximum": st.integers(-2, 2),
    "multipleOf": st.sampled_from([1, 2, 0.5]),
    **{f"{side}{kind}": COUNTS for side in ("min", "max") for kind in ("Length", "Items", "Properties")},
    "required": st.lists(NAMES, max_size=2, unique=True),
}


def _deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    nested = {
        "properties": st.dictionaries(NAMES, inner, max_size=3),
        "additionalProperties": inner,
        "items": inner,
        "prefixItems": st.lists(inner, min_size=1, max_size=2),
        **{name: st.lists(inner, min_size=1, max_size=2) for name in ("allOf", "anyOf", "oneOf")},
    }
    return st.fixed_dictionaries({}, optional=PLAIN | nested)


SCHEMAS = st.recursive(st.booleans() | st.fixed_dictionaries({}, optional=PLAIN), _deeper, max_leaves=5)


@given(value=VALUES, schema=SCHEMAS)
def test_a_fault_is_one_for_the_reference_too(value: Any, schema: Any) -> None:
    """What the reference takes is taken; and without `oneOf` what it refuses is refused."""
    kept = jsonschema.Draft202012Validator(schema).is_valid(value)
    found = fault(value, schema)
    if kept:
        assert found is None
    elif "oneOf" not in json.dumps(schema):
        assert found is not None


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        ("x", {"pattern": "^(a+)+$"}),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", {"pattern": "^(a+)+$"}),
        ({"x": 1}, {"patternProperties": {"^(a+)+$": {"type": "null"}}, "additionalProperties": False}),
        (1, {"$ref": "http://169.254.169.254/latest"}),
        (1, {"$ref": "#/nowhere"}),
        (1, {"$ref": "#"}),
        (1, {"not": {}}),
        (1, {"type": "unknown", "minimum": "1", "required": 3, "anyOf": "x", "properties": [], "items": 4}),
        (float("inf"), {"multipleOf": 2, "minimum": 3}),
        (10**400, {"maximum": 10.0**300, "multipleOf": 0.1} | {"maximum": 10**401}),
    ],
)
def test_a_schema_that_is_made_to_hurt_does_not(value: Any, schema: Any) -> None:
    """No expression is run, no address fetched, no loop followed for ever; and nothing is refused for it."""
    assert fault(value, schema) is None


def test_work_is_bounded() -> None:
    """Branches of branches of branches: given up, and the value taken."""
    schema: Any = {"type": "string"}
    for _ in range(40):
        schema = {"anyOf": [schema, schema]}
    assert fault(1, schema) is None
    deep: Any = []
    for _ in range(json_schema.DEPTH_MAX * 3):
        deep = [deep]
    assert fault(deep, {"items": {"$ref": "#"}}) is None


def test_a_reference_inside_is_followed() -> None:
    """With the escapes of JSON pointers."""
    schema = {
        "$ref": "#/$defs/a~1b",
        "$defs": {"a/b": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}}, "n": {"type": "integer"}},
    }
    assert fault({"n": 1}, schema) is None
    assert fault({"n": "1"}, schema) is not None

"""Frozen dataclasses to and from plain JSON values, strictly: no unknown, missing or mistyped field."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from bundler.format.errors import BadBundle

T = TypeVar("T")
# Metadata of a field that the first version had not (SPEC 11.3): it has a default (a plain one, no `default_factory`),
# and is absent where it holds that.
LATER = types.MappingProxyType({"later": True})


def to_json(record: Any) -> Any:
    """Returns dicts, lists and scalars for a frozen dataclass (or for a tuple or mapping of them)."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        fields = ((field, getattr(record, field.name)) for field in dataclasses.fields(record))
        return {field.name: to_json(value) for field, value in fields if not _left_out(field, value)}
    if isinstance(record, list | tuple):
        return [to_json(item) for item in record]
    if isinstance(record, Mapping):
        return {key: to_json(value) for key, value in record.items()}
    return record


def from_json(kind: type[T], value: object, where: str) -> T:
    """Builds the dataclass `kind` from JSON values.

    Args:
        kind: A dataclass of scalars, `X | None`, `tuple[X, ...]`, `dict[str, X]` and dataclasses of the same.
        value: What the strict decoder returned.
        where: Names the value in errors, such as "index.assets".

    Raises:
        BadBundle: A field is missing, unknown or has the wrong type.
    """
    if not isinstance(value, dict):
        raise BadBundle(f"{where} is {type(value).__name__}, not an object")
    record: Any = kind  # the caches want a hashable, which type[T] is not to the type checker
    hints = _hints(record)
    unknown, missing = value.keys() - hints.keys(), _required(record) - value.keys()
    if unknown or missing:
        raise BadBundle(f"{where}: unknown fields {sorted(unknown)}, missing fields {sorted(missing)}")
    written = [field for field in dataclasses.fields(record) if field.name in value]
    if spare := [field.name for field in written if _left_out(field, value[field.name])]:
        raise BadBundle(f"{where}: {', '.join(spare)} is written though it holds its default")
    return kind(**{name: _value(hints[name], item, f"{where}.{name}") for name, item in value.items()})


def _left_out(field: dataclasses.Field[Any], value: object) -> bool:
    """One value has one encoding: a later field is written only where it says something."""
    if not field.metadata.get("later"):
        return False
    if field.default is dataclasses.MISSING:
        raise TypeError(f"the later field {field.name} has no plain default")
    # A tuple is a list in JSON: both sides are compared as they are written.
    return bool(to_json(value) == to_json(field.default))


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


@cache
def _required(kind: Any) -> frozenset[str]:
    fields = dataclasses.fields(kind)
    none = dataclasses.MISSING
    return frozenset(field.name for field in fields if field.default is none and field.default_factory is none)


def _value(hint: Any, value: object, where: str) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_json(hint, value, where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return None if value is None else _value(arguments[0], value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(arguments[0], item, f"{where}[{number}]") for number, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: _value(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    # bool is an int in Python; a flag where a number belongs would pass isinstance.
    if origin is None and type(value) is hint:
        return value
    raise BadBundle(f"{where} is {type(value).__name__}, expected {hint}")

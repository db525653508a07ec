"""JSON that others wrote: each thing that two readers could take for two things, and each that has no end."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.format import strict_json
from bundler.format.errors import BadBundle, BadInput, LifeboatError
from bundler.format.limits import JSON_DEPTH

CHARACTERS = st.characters(exclude_categories=["Cs"])
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(CHARACTERS, max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False)
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(CHARACTERS, max_size=4), inner), max_leaves=20
)


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_sound_json_is_read_whatever_it_is_laid_out_like(value: Any, ascii_only: bool, indent: int | None) -> None:
    """Escaped or not, indented or not."""
    assert strict_json.parse(json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()) == value


@given(st.binary(max_size=60) | st.text('{}[]",:\\u0d8efNI19-.+ \n', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """No input fails in another way, and what is taken can be written again."""
    try:
        value = strict_json.parse(data)
    except ValueError:
        return
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "Expecting value"),
        (b"{} {}", "Extra data"),
        (b'{"a": 1, "b": {"c": 1, "d": 2, "c": 1}}', "the key 'c' appears twice"),
        (b'{"a": 1, "\\u0061": 2}', "the key 'a' appears twice"),
        (b'{"\x1b[31m": 1}', "control character"),
        (b'{"\\u001b[31m": 1, "\\u001b[31m": 2}', r"the key '\\x1b\[31m' appears twice"),
        (b"NaN", "NaN is no number"),
        (b"[Infinity]", "Infinity is no number"),
        (b"[-Infinity]", "-Infinity is no number"),
        (b"1e999", "the number 1e999 is beyond all bounds"),
        (b"-1" + b"0" * 400 + b".5", "beyond all bounds"),
        (b"9" * 21, "more than 20 digits"),
        (b"9" * 100_000, "more than 20 digits"),
        (b"[" * (JSON_DEPTH + 1) + b"]" * (JSON_DEPTH + 1), f"deeper than {JSON_DEPTH} levels"),
        (b'{"a":' * 100_000, "nests deeper"),
        (b'["\\"]", ' + b"[" * 100_000, "nests deeper"),
        (b'"\xff"', "utf-8"),
        (b'"\xed\xa0\x80"', "utf-8"),
        (b'\xef\xbb\xbf"a"', "BOM"),
        ('"a"'.encode("utf-16"), "utf-8"),
        ('{"a": 1}'.encode("utf-32"), "utf-8"),
        (b'{"a": ["\\ud83d"]}', "half of a surrogate pair"),
        (b'{"\\udca9": 1}', "half of a surrogate pair"),
    ],
)
def test_each_is_refused_with_its_reason(data: bytes, told: str) -> None:
    """One fault a document; Python's own reader takes most of them, or falls over them in its own way."""
    with pytest.raises(ValueError, match=told):
        strict_json.parse(data)


def test_what_only_looks_so_is_read() -> None:
    """Brackets in texts are no depth, two halves are a character, an escaped backslash is no escape."""
    assert strict_json.parse(b"[" * JSON_DEPTH + b"]" * JSON_DEPTH)
    assert strict_json.parse(b'["' + b"[{" * 1_000 + b'", "\\"' + b"[" * 1_000 + b'"]')
    assert strict_json.parse(b'"\\ud83d\\udca9 \\\\ud800"') == "\N{PILE OF POO} \\ud800"
    assert strict_json.parse(b"[1e308, -9223372036854775808, 18446744073709551615]") == [1e308, -(2**63), 2**64 - 1]
    assert math.isclose(strict_json.parse(b"0.1"), 0.1)


def test_texts_that_do_not_end_are_read_once() -> None:
    """A pattern that is tried again from each quote never ends here: hostile registries send what they like."""
    brackets = b"[" * (JSON_DEPTH + 1)
    with pytest.raises(ValueError, match="nests deeper"):
        strict_json.parse(brackets + b'"' + b'\\"' * 1_000_000)
    with pytest.raises(ValueError, match=r"Expecting value|Unterminated"):
        strict_json.parse(b"[" + b'"' + b'\\"' * 1_000_000 + brackets)


def test_one_key_of_many_that_stands_twice_is_found() -> None:
    """Each key is looked at once: whoever counts them one by one does not end with a document of some megabytes."""
    many = b",".join(b'"%d":0' % number for number in range(300_000))
    with pytest.raises(ValueError, match="the key 'x' appears twice"):
        strict_json.parse(b"{" + many + b',"x":0,"x":0}')


@pytest.mark.parametrize("data", [b"1.0", b"1e2", b"NaN", b"Infinity"])
def test_where_no_float_is_wanted_none_is_read(data: bytes) -> None:
    """Not even one that is whole."""
    with pytest.raises(ValueError, match="is not an integer"):
        strict_json.parse(data, floats=False)


@pytest.mark.parametrize("fault", [BadInput, BadBundle])
def test_an_object_is_read_or_the_document_is_named_in_an_error_of_the_callers(fault: type[LifeboatError]) -> None:
    """Whose fault it is only the caller knows."""
    assert strict_json.read_object(b'{"a": 0.5}', "it", fault) == {"a": 0.5}
    with pytest.raises(fault, match=r"^it is not a JSON object$"):
        strict_json.read_object(b"[1]", "it", fault)
    with pytest.raises(fault, match=r"^it is not strict JSON: the key 'a' appears twice$"):
        strict_json.read_object(b'{"a": 1, "a": 1}', "it", fault)
    with pytest.raises(fault, match=r"0\.5 is not an integer"):
        strict_json.read_object(b'{"a": 0.5}', "it", fault, floats=False)

"""The strict safetensors reader."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundler.capture.safetensors import Safetensors
from bundler.format.errors import BadInput

ENTRY = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
OTHER = {"dtype": "F16", "shape": [4], "data_offsets": [16, 24]}


def file(header: Any, data: bytes = b"", *, length: int | None = None) -> io.BytesIO:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return io.BytesIO((len(text) if length is None else length).to_bytes(8, "little") + text + data)


def test_values_arrive() -> None:
    """float32, float16 and bfloat16 become float32 of the same value."""
    header = {
        "__metadata__": {"format": "pt"},
        "a": ENTRY,
        "b": OTHER,
        "c": {"dtype": "BF16", "shape": [2], "data_offsets": [24, 28]},
    }
    single, half = np.array([[1, 2], [3, -4.5]], "<f4"), np.array([0.5, 1, 2, 65504], "<f2")
    brief = bytes([0x80, 0x3F, 0x20, 0xC1])  # 1.0 and -10.0: the upper halves of their float32
    tensors = Safetensors(file(header, single.tobytes() + half.tobytes() + brief))
    assert tensors.floats("a", (2, 2)).tolist() == single.tolist()
    assert tensors.floats("b", (4,)).tolist() == half.tolist()
    assert tensors.floats("c", (2,)).tolist() == [1.0, -10.0]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (io.BytesIO(b"1234567"), "a header of"),
        (file({"a": ENTRY}, bytes(16), length=2**62), "a header of"),
        (file({"a": ENTRY}, bytes(16), length=1), "a header of"),
        (file(b"{]"), "not strict JSON"),
        (file(b"[" * 100_000), "not strict JSON"),
        (file(b"[1]"), "not a JSON object"),
        (file(b'{"a": 1, "a": 2}'), "the key 'a' appears twice"),
        (file({}), "0 tensors"),
        (file({"a": 7}), "is not dtype, shape and data_offsets"),
        (file({"a": ENTRY | {"more": 1}}, bytes(16)), "is not dtype, shape and data_offsets"),
        (file({"a": ENTRY | {"dtype": "F33"}}, bytes(16)), "unknown type"),
        (file({"a": ENTRY | {"dtype": ["F32"]}}, bytes(16)), "unknown type"),
        (file({"a": ENTRY | {"shape": [2, -2]}}, bytes(16)), "malformed"),
        (file({"a": ENTRY | {"shape": [True, 4]}}, bytes(16)), "malformed"),
        (file({"a": ENTRY | {"shape": [1] * 9}}, bytes(16)), "malformed"),
        (file({"a": ENTRY | {"data_offsets": [0]}}, bytes(16)), "malformed"),
        (file({"a": ENTRY | {"shape": [2, 3]}}, bytes(16)), "takes 16 bytes"),
        (file({"a": ENTRY | {"data_offsets": [16, 0]}}, bytes(16)), "takes -16 bytes"),
        (file({"a": ENTRY, "b": OTHER | {"data_offsets": [8, 16]}}, bytes(16)), "begins at byte"),
        (file({"a": ENTRY, "b": OTHER | {"data_offsets": [20, 28]}}, bytes(28)), "begins at byte"),
        (file({"a": ENTRY}, bytes(17)), "the file at"),
        (file({"a": ENTRY}, bytes(15)), "the file at"),
    ],
)
def test_a_lie_is_refused(made: io.BytesIO, words: str) -> None:
    """Each header that does not describe the file exactly is named."""
    with pytest.raises(BadInput, match=words):
        Safetensors(made)


def test_a_tensor_must_be_as_expected() -> None:
    """Missing, of another shape, not a float, or not finite."""
    header = {"a": ENTRY, "n": {"dtype": "I32", "shape": [1], "data_offsets": [16, 20]}}
    tensors = Safetensors(file(header, np.array([1, 2, 3, np.nan], "<f4").tobytes() + bytes(4)))
    for name, shape, words in (
        ("x", (2, 2), "x is missing"),
        ("a", (4,), "has the shape"),
        ("a", (2, 2), "not finite"),
        ("n", (1,), "of type I32"),
    ):
        with pytest.raises(BadInput, match=words):
            tensors.floats(name, shape)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 120), st.binary(min_size=1, max_size=6))
def test_damage_ends_in_tensors_or_bad_input(position: int, damage: bytes) -> None:
    """Whatever is overwritten, nothing but BadInput is raised."""
    data = bytearray(file({"a": ENTRY, "b": OTHER}, bytes(24)).getvalue())
    data[position : position + len(damage)] = damage
    try:
        found = Safetensors(io.BytesIO(bytes(data)))
    except BadInput:
        return
    assert all(8 <= tensor.start <= tensor.end <= len(data) for tensor in found.tensors.values())

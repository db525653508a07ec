"""GGUF inspection: the real demo model, a hand-made file, and every way in which a header can lie."""

from __future__ import annotations

import ctypes
import hashlib
import io
import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundler.capture.gguf import cut_points, facts_of, inspect, unfit
from bundler.format.errors import BadInput
from bundler.format.gguf_header import read_header
from bundler.format.gguf_types import TENSOR_TYPES

U32, F32, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def u32(key: str, value: int) -> bytes:
    return pair(key, U32, struct.pack("<I", value))


def words(key: str, values: Sequence[str]) -> bytes:
    return pair(key, ARRAY, struct.pack("<IQ", STRING, len(values)) + b"".join(text(value) for value in values))


def tensor(name: str, shape: Sequence[int], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


BASIC = (
    pair("general.architecture", STRING, text("llama")),
    pair("general.name", STRING, text("Tiny")),
    pair("general.license", STRING, text("apache-2.0")),
    u32("general.file_type", 0),
    u32("llama.context_length", 512),
    pair("tokenizer.ggml.model", STRING, text("gpt2")),
    pair("tokenizer.chat_template", STRING, text("{{ messages }}")),
    words("tokenizer.ggml.tokens", ["a", "b", "ß"]),
    pair("llama.rope.scale", F32, struct.pack("<f", 1.5)),
    pair("tokenizer.ggml.add_bos_token", BOOL, b"\x01"),
)
# An F32 vector of 3 (12 bytes, padded to 32), a Q4_0 matrix of 64 x 2 (72 bytes) and an F16 vector of 8 (16 bytes).
TENSORS = (tensor("a", [3], 0, 0), tensor("b.weight", [64, 2], 2, 32), tensor("c", [8], 1, 128))
DATA_BYTES = 144


@dataclass
class Gguf:
    """A small file in parts; `bytes()` joins them, and each part can be replaced by a wrong one."""

    magic: bytes = b"GGUF"
    version: int = 3
    pairs: tuple[bytes, ...] = BASIC
    tensors: tuple[bytes, ...] = TENSORS
    data_bytes: int = DATA_BYTES
    alignment: int = 32
    tensor_count: int | None = None
    pair_count: int | None = None
    extra: tuple[bytes, ...] = field(default=())

    def header(self) -> bytes:
        pairs = (*self.pairs, *self.extra)
        tensor_count = len(self.tensors) if self.tensor_count is None else self.tensor_count
        pair_count = len(pairs) if self.pair_count is None else self.pair_count
        head = self.magic + struct.pack("<IQQ", self.version, tensor_count, pair_count)
        return head + b"".join(pairs) + b"".join(self.tensors)

    def data_offset(self) -> int:
        return -(-len(self.header()) // self.alignment) * self.alignment

    def __bytes__(self) -> bytes:
        return self.header().ljust(self.data_offset(), b"\0") + bytes(self.data_bytes)


GOOD = Gguf()


def test_the_demo_model(smollm_gguf: Path) -> None:
    """SmolLM2's own facts, tensors that fill the file without gap or overlap, and cuts at each of them."""
    facts = inspect(smollm_gguf)
    assert (facts.architecture, facts.context_length, facts.quantisation) == ("llama", 8192, "Q4_1")
    assert (facts.vocabulary, facts.tokenizer) == (49152, "gpt2")
    assert 130_000_000 < facts.parameters < 170_000_000
    assert "<|im_start|>" in (facts.chat_template or "")
    assert facts.length_bytes == smollm_gguf.stat().st_size
    assert cut_points(facts)[0] == facts.data_offset == facts.tensors[0].offset
    assert len(cut_points(facts)) == len(facts.tensors) == 272
    for one, two in itertools.pairwise(facts.tensors):
        assert 0 <= two.offset - (one.offset + one.length) < 32
    assert facts.length_bytes - (facts.tensors[-1].offset + facts.tensors[-1].length) in range(32)


def test_a_made_file(tmp_path: Path) -> None:
    """Every field of a small file arrives through the confined child."""
    path = tmp_path / "tiny.gguf"
    path.write_bytes(bytes(GOOD))
    facts = inspect(path)
    start = GOOD.data_offset()
    assert [(t.name, t.offset - start, t.length) for t in facts.tensors] == [
        ("a", 0, 12), ("b.weight", 32, 72), ("c", 128, 16),
    ]  # fmt: skip
    assert (facts.name, facts.licence, facts.chat_template) == ("Tiny", "apache-2.0", "{{ messages }}")
    assert (facts.vocabulary, facts.parameters, facts.quantisation) == (3, 3 + 128 + 8, "F32")
    assert cut_points(facts) == (start, start + 32, start + 128)


def test_an_error_names_the_file(tmp_path: Path) -> None:
    """What the child refuses is told with the file's name."""
    path = tmp_path / "wrong.gguf"
    path.write_bytes(b"GGML" + bytes(100))
    with pytest.raises(BadInput, match=r"wrong\.gguf: it begins with b'GGML'"):
        inspect(path)


def facts(file: Gguf) -> Any:
    return facts_of(read_header(io.BytesIO(bytes(file))))


@pytest.mark.parametrize(
    "file",
    [
        replace(GOOD, version=2),
        replace(GOOD, data_bytes=160),  # the last tensor padded too
        replace(GOOD, alignment=64, tensors=(tensor("a", [1], 0, 0), tensor("b", [1], 0, 64)),
                data_bytes=68, extra=(u32("general.alignment", 64),)),
    ],
    ids=["version-2", "padded-end", "alignment-64"],
)  # fmt: skip
def test_other_good_forms(file: Gguf) -> None:
    """Older version, final padding and another alignment are fine."""
    assert facts(file).architecture == "llama"


BAD = {
    "magic": (replace(GOOD, magic=b"FUGG"), "begins with"),
    "version-1": (replace(GOOD, version=1), "version 1"),
    "big-endian": (replace(GOOD, version=0x03000000), "version 50331648"),
    "tensors-many": (replace(GOOD, tensor_count=2**63), "the number of tensors is"),
    "tensors-more": (replace(GOOD, tensor_count=4), "the header claims|tensor|the length of"),
    "tensors-fewer": (replace(GOOD, tensor_count=2), "the file at"),
    "tensors-none": (replace(GOOD, tensors=(), data_bytes=0), "no tensors"),
    "keys-many": (replace(GOOD, pair_count=2**40), "the number of keys is"),
    "key-twice": (replace(GOOD, extra=(u32("general.file_type", 1),)), "appears twice"),
    "key-empty": (replace(GOOD, extra=(u32("", 1),)), "empty"),
    "key-no-text": (replace(GOOD, extra=(text(b"\xff") + bytes(8),)), "not UTF-8"),
    "value-no-text": (replace(GOOD, extra=(pair("k", STRING, text(b"\xc3")),)), "not UTF-8"),
    "type-unknown": (replace(GOOD, extra=(pair("k", 13, bytes(8)),)), "unknown type 13"),
    "flag": (replace(GOOD, extra=(pair("k", BOOL, b"\x02"),)), "flag with the value 2"),
    "text-long": (replace(GOOD, extra=(pair("k", 8, struct.pack("<Q", 2**40)),)), "the length of"),
    "text-past-end": (replace(GOOD, extra=(pair("k", 8, struct.pack("<Q", 10**6)),)), "the header claims"),
    "array-nested": (replace(GOOD, extra=(pair("k", 9, struct.pack("<IQ", 9, 1)),)), "nested"),
    "array-long": (replace(GOOD, extra=(pair("k", 9, struct.pack("<IQ", 0, 2**62)),)), "the length of k"),
    "array-past-end": (replace(GOOD, extra=(pair("k", 9, struct.pack("<IQ", 10, 10**6)),)), "claims"),
    "array-item": (replace(GOOD, extra=(pair("k", 9, struct.pack("<IQQ", 8, 1, 2**50)),)), "an item of k"),
    "alignment-odd": (replace(GOOD, extra=(u32("general.alignment", 24),)), "power of two"),
    "alignment-zero": (replace(GOOD, extra=(u32("general.alignment", 0),)), "power of two"),
    "alignment-text": (replace(GOOD, extra=(pair("general.alignment", 8, text("32")),)), "power of two"),
    "name-twice": (replace(GOOD, tensors=(*TENSORS[:2], tensor("a", [8], 1, 128))), "one name"),
    "name-empty": (replace(GOOD, tensors=(tensor("", [3], 0, 0),)), "''"),
    "name-long": (replace(GOOD, tensors=(tensor("n" * 64, [3], 0, 0),)), "name is 64, at most 63"),
    "dimensions-none": (replace(GOOD, tensors=(tensor("a", [], 0, 0),)), "0 dimensions"),
    "dimensions-five": (replace(GOOD, tensors=(tensor("a", [1] * 5, 0, 0),)), "5 dimensions"),
    "shape-zero": (replace(GOOD, tensors=(tensor("a", [0, 3], 0, 0),)), "does not hold"),
    "shape-overflow": (replace(GOOD, tensors=(tensor("a", [2**32, 2**32], 0, 0),)), "does not hold"),
    "shape-block": (replace(GOOD, tensors=(tensor("a", [33], 2, 0),)), "Q4_0 does not hold"),
    "tensor-type": (replace(GOOD, tensors=(tensor("a", [3], 4, 0),)), "unknown type 4"),
    "offset-overlap": (replace(GOOD, tensors=(TENSORS[0], tensor("b", [3], 0, 0))), "lies at 0, expected"),
    "offset-gap": (replace(GOOD, tensors=(tensor("a", [3], 0, 32),)), "lies at 32, expected 0"),
    "offset-unaligned": (replace(GOOD, tensors=(TENSORS[0], tensor("b", [3], 0, 12))), "lies at 12"),
    "offset-far": (replace(GOOD, tensors=(tensor("a", [3], 0, 2**63),)), "lies at"),
    "data-short": (replace(GOOD, data_bytes=143), "the tensors end at"),
    "data-long": (replace(GOOD, data_bytes=161), "the tensors end at"),
    "size-lie": (replace(GOOD, tensors=(tensor("a", [2**40], 0, 0),)), "the tensors end at"),
    "architecture": (replace(GOOD, pairs=BASIC[1:]), r"general\.architecture is missing"),
    "context": (replace(GOOD, pairs=BASIC[:4]), r"llama\.context_length is 0"),
    "split": (replace(GOOD, extra=(u32("split.count", 2),)), "one part of a split"),
    "template": (
        replace(GOOD, pairs=(*BASIC[:6], pair("tokenizer.chat_template", 8, text("x" * 2**19)))),
        "the chat template has",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_lie_is_refused(name: str) -> None:
    """Each header that does not add up is named."""
    file, words = BAD[name]
    with pytest.raises(BadInput, match=words):
        facts(file)


def test_every_cut_is_refused() -> None:
    """A file that ends anywhere before its last byte is refused."""
    data = bytes(GOOD)
    for length in range(len(data)):
        with pytest.raises(BadInput):
            read_header(io.BytesIO(data[:length]))


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(GOOD.header()) - 1), st.binary(min_size=1, max_size=8))
def test_damage_ends_in_facts_or_bad_input(position: int, damage: bytes) -> None:
    """Whatever is overwritten in a header, nothing but BadInput is raised and no span leaves the file."""
    data = bytearray(bytes(GOOD))
    data[position : position + len(damage)] = damage
    try:
        found = facts_of(read_header(io.BytesIO(bytes(data))))
    except BadInput:
        return
    assert all(found.data_offset <= t.offset <= t.offset + t.length <= len(data) for t in found.tensors)


@pytest.mark.llm
def test_the_types_are_those_of_ggml() -> None:
    """Block sizes agree with the ggml library that will read the file."""
    import llama_cpp

    folder = Path(llama_cpp.__file__).parent / "lib"
    library = ctypes.CDLL(str(next(path for path in folder.iterdir() if path.name.startswith("libggml-base."))))
    library.ggml_type_name.restype = ctypes.c_char_p
    library.ggml_blck_size.restype = ctypes.c_int64
    library.ggml_type_size.restype = ctypes.c_size_t
    found = {
        number: (
            library.ggml_type_name(number).decode(),
            library.ggml_blck_size(number),
            library.ggml_type_size(number),
        )
        for number in TENSOR_TYPES
    }
    same = {number: (name.lower(), *sizes) for number, (name, *sizes) in TENSOR_TYPES.items()}
    assert {number: (name.lower(), *sizes) for number, (name, *sizes) in found.items()} == same


def test_inspection_changes_nothing(tmp_path: Path) -> None:
    """The file is only read."""
    path = tmp_path / "tiny.gguf"
    path.write_bytes(bytes(GOOD))
    inspect(path)
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(bytes(GOOD)).digest()


def served(architecture: str, name: str, serves: str) -> str | None:
    pairs = (pair("general.architecture", STRING, text(architecture)), u32(f"{architecture}.context_length", 512))
    return unfit(facts(replace(GOOD, pairs=pairs, tensors=(tensor(name, [3], 0, 0),), data_bytes=32)), serves)


@pytest.mark.parametrize(
    ("architecture", "name", "serves", "expected"),
    [
        ("llama", "a", "chat", None),
        ("llama", "a", "embedding", None),
        ("bert", "a", "embedding", None),
        ("bert", "cls.weight", "rerank", None),
        ("bert", "a", "rerank", "no head that ranks"),
        ("bert", "a", "chat", "bert cannot chat"),
        ("t5", "a", "embedding", "t5 is not served"),
    ],
)
def test_a_model_must_be_able_to_do_what_is_wanted(
    architecture: str, name: str, serves: str, expected: str | None
) -> None:
    """Told at the build, and not by a box."""
    found = served(architecture, name, serves)
    assert found is None if expected is None else found is not None and expected in found

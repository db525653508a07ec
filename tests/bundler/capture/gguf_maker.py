"""Writes small GGUF files for the tests, well-formed unless told otherwise."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

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
    """A file in parts; `bytes()` joins them, each part may be replaced by a wrong one."""

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

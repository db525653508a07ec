"""Splits a GGUF into parts as llama.cpp's `gguf-split` does, for tests and examples."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from bundler.format.gguf_header import Outline, read_outline

_U16, _I32 = 2, 5


def split(model: Path, stem: str, parts: int, *, keys_first: bool = False) -> dict[str, bytes]:
    """Returns the parts by name, `STEM-00001-of-0000N.gguf`.

    Args:
        model: The whole GGUF.
        stem: What the names begin with.
        parts: How many.
        keys_first: The first part gets no tensors (`--no-tensor-first-split`).
    """
    data = model.read_bytes()
    with model.open("rb") as file:
        outline = read_outline(file)
    tensors = len(outline.infos)
    holding = parts - keys_first
    edges = [tensors * number // holding for number in range(holding + 1)]
    ranges = [range(0)] * keys_first + [range(*pair) for pair in pairwise(edges)]
    names = [f"{stem}-{number + 1:05d}-of-{parts:05d}.gguf" for number in range(parts)]
    return {
        name: part(
            data, outline, number, taken, {"split.no": number, "split.count": parts, "split.tensors.count": tensors}
        )
        for number, (name, taken) in enumerate(zip(names, ranges, strict=True))
    }


def part(data: bytes, outline: Outline, number: int, taken: range, told: Mapping[str, int]) -> bytes:
    """Returns one part: in the first all keys, in each the `split.*` keys and its tensors."""
    spans = outline.pairs.values() if number == 0 else []
    pairs = [data[start:end] for start, end in spans] + [_pair(key, value) for key, value in told.items()]
    infos, pieces, length = b"", [], 0
    alignment, at = outline.alignment if number == 0 else 32, outline.header.data_offset
    for index in taken:
        (start, end), tensor = outline.infos[index], outline.header.tensors[index]
        infos += data[start : end - 8] + struct.pack("<Q", length)
        pieces += [data[at + tensor.offset : at + tensor.offset + tensor.length], bytes(-tensor.length % alignment)]
        length += len(pieces[-2]) + len(pieces[-1])
    header = b"GGUF" + struct.pack("<IQQ", outline.version, len(taken), len(pairs)) + b"".join(pairs) + infos
    return header + bytes(-len(header) % alignment) + b"".join(pieces)


def _pair(key: str, value: int) -> bytes:
    kind, code = (_I32, "i") if key == "split.tensors.count" else (_U16, "H")
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack(f"<I{code}", kind, value)

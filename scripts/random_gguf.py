"""Writes a GGUF of llama architecture with random weights in Q8_0, of any size, with the words of another model."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY, _U32, _F32, _Q8 = 8, 9, 4, 0, 8
_BLOCK_VALUES, _BLOCK_BYTES, _ALIGNMENT = 32, 34, 32
Tensor = tuple[str, tuple[int, ...], int]


@dataclass(frozen=True)
class Shape:
    """Sizes of a layer, in values: a model of about three thousand million parameters, or a smaller one."""

    width: int = 2560
    inner: int = 6912
    heads: int = 20
    head: int = 128


LARGE, SMALL = Shape(), Shape(256, 768, 4, 64)


def write(like: Path, out: Path, length_bytes: int, shape: Shape = LARGE, seed: int = 1) -> None:
    """Writes `out` of about `length_bytes`; vocabulary and tokenizer are those of the GGUF `like`."""
    with like.open("rb") as file:
        tokenizer, words = _tokenizer(file)
    embedding: Tensor = ("token_embd.weight", (shape.width, words), _Q8)
    layer_bytes = sum(_size(tensor) for tensor in _layer(0, shape))
    layers = max(1, round((length_bytes - _size(embedding)) / layer_bytes))
    tensors: list[Tensor] = [embedding, ("output_norm.weight", (shape.width,), _F32)]
    tensors += [tensor for number in range(layers) for tensor in _layer(number, shape)]
    drawn = np.random.default_rng(seed)
    with out.open("wb") as file:
        file.write(_header(tokenizer, tensors, layers, shape))
        for tensor in tensors:
            _pad(file)
            _write_values(file, tensor, drawn)
        _pad(file)


def _layer(number: int, shape: Shape) -> list[Tensor]:
    width, inner, heads = shape.width, shape.inner, shape.heads * shape.head
    shapes = {
        "attn_q": (width, heads), "attn_k": (width, heads), "attn_v": (width, heads), "attn_output": (heads, width),
        "ffn_gate": (width, inner), "ffn_up": (width, inner), "ffn_down": (inner, width),
    }  # fmt: skip
    norms = [(f"blk.{number}.{name}.weight", (width,), _F32) for name in ("attn_norm", "ffn_norm")]
    return [*norms, *((f"blk.{number}.{name}.weight", shape, _Q8) for name, shape in shapes.items())]


def _size(tensor: Tensor) -> int:
    values = int(np.prod(tensor[1]))
    return values * 4 if tensor[2] == _F32 else values // _BLOCK_VALUES * _BLOCK_BYTES


def _write_values(file: BinaryIO, tensor: Tensor, drawn: np.random.Generator) -> None:
    if tensor[2] == _F32:
        file.write(np.ones(tensor[1], np.float32).tobytes())
        return
    blocks = np.frombuffer(drawn.bytes(_size(tensor)), np.uint8).reshape(-1, _BLOCK_BYTES).copy()
    blocks[:, :2] = np.frombuffer(np.float16(0.0003).tobytes(), np.uint8)  # a scale that keeps sums finite
    file.write(blocks.data)


def _pad(file: BinaryIO) -> None:
    file.write(bytes(-file.tell() % _ALIGNMENT))


def _header(tokenizer: list[bytes], tensors: list[Tensor], layers: int, shape: Shape) -> bytes:
    heads = shape.heads
    counts = {
        "block_count": layers, "context_length": 2048, "embedding_length": shape.width,
        "feed_forward_length": shape.inner,
        "attention.head_count": heads, "attention.head_count_kv": heads, "rope.dimension_count": shape.head,
    }  # fmt: skip
    pairs = [_text("general.architecture") + struct.pack("<I", _STRING) + _text("llama")]
    pairs += [_text(f"llama.{name}") + struct.pack("<II", _U32, value) for name, value in counts.items()]
    pairs.append(_text("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-5))
    pairs += tokenizer
    infos, offset = [], 0
    for tensor in tensors:
        name, sides, kind = tensor
        infos.append(_text(name) + struct.pack(f"<I{len(sides)}QIQ", len(sides), *sides, kind, offset))
        offset += -(-_size(tensor) // _ALIGNMENT) * _ALIGNMENT
    return b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join((*pairs, *infos))


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _tokenizer(file: BinaryIO) -> tuple[list[bytes], int]:
    """Returns the pairs of a model's tokenizer as they stand in its header, and how many words it has."""
    _, _, _, pairs = struct.unpack("<4sIQQ", file.read(24))
    kept, words = [], 0
    for _ in range(pairs):
        start = file.tell()
        key = file.read(_number(file, "Q")).decode()
        count = _skip_value(file, _number(file, "I"))
        end = file.tell()
        words = count if key == "tokenizer.ggml.tokens" else words
        if key.startswith("tokenizer."):
            file.seek(start)
            kept.append(file.read(end - start))
    return kept, words


def _skip_value(file: BinaryIO, kind: int) -> int:
    """Goes behind a value; returns how many items it has."""
    if kind == _STRING:
        file.seek(_number(file, "Q"), 1)
    elif kind == _ARRAY:
        items, count = _number(file, "I"), _number(file, "Q")
        for _ in range(count):
            _skip_value(file, items)
        return count
    else:
        file.seek(_SCALARS[kind], 1)
    return 1


def _number(file: BinaryIO, code: str) -> int:
    return int(struct.unpack(f"<{code}", file.read(struct.calcsize(code)))[0])

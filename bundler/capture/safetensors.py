"""Reads a safetensors file strictly: every byte after the header belongs to exactly one tensor.

Format: https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bundler.format import strict_json
from bundler.format.errors import BadInput
from bundler.format.limits import MIB

HEADER_BYTES = 16 * MIB
TENSORS = 65_536
DIMENSIONS = 8
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


@dataclass(frozen=True)
class Tensor:
    """One tensor as the header describes it; `start` and `end` are file offsets in bytes."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class Safetensors:
    """The tensors of one file.

    Args:
        file: Open for reading, seekable.

    Raises:
        BadInput: The header is malformed, or offsets and shapes do not cover the file exactly.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        size = file.seek(0, 2)
        file.seek(0)
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(HEADER_BYTES, size - 8):
            raise BadInput(f"safetensors: a header of {length} bytes in a file of {size}")
        header = strict_json.read_object(file.read(length), "safetensors: the header", BadInput)
        self.tensors = _tensors(header, 8 + length, size)

    def floats(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Returns the tensor as float32 (from F32, F16 or BF16).

        Raises:
            BadInput: It is missing, has another shape or type, or holds a value that is not finite.
        """
        tensor = self.tensors.get(name)
        if tensor is None:
            raise BadInput(f"safetensors: the tensor {name} is missing")
        if tensor.shape != shape:
            raise BadInput(f"safetensors: {name} has the shape {tensor.shape}, expected {shape}")
        self._file.seek(tensor.start)
        values = _as_float32(self._file.read(tensor.end - tensor.start), tensor.dtype, name).reshape(shape)
        if not np.isfinite(values).all():
            raise BadInput(f"safetensors: {name} holds values that are not finite")
        return values


def _tensors(header: Mapping[str, Any], base: int, size: int) -> dict[str, Tensor]:
    found = {name: _tensor(name, entry, base) for name, entry in header.items() if name != "__metadata__"}
    if not 0 < len(found) <= TENSORS:
        raise BadInput(f"safetensors: {len(found)} tensors, expected 1 to {TENSORS}")
    position = base
    for name, tensor in sorted(found.items(), key=lambda item: (item[1].start, item[1].end)):
        if tensor.start != position:
            raise BadInput(f"safetensors: {name} begins at byte {tensor.start}, expected {position}")
        position = tensor.end
    if position != size:
        raise BadInput(f"safetensors: the tensors end at byte {position}, the file at {size}")
    return found


def _tensor(name: str, entry: object, base: int) -> Tensor:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise BadInput(f"safetensors: the entry of {name!r} is not dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
        raise BadInput(f"safetensors: {name} has the unknown type {dtype!r}")
    if not _naturals(shape) or len(shape) > DIMENSIONS or not _naturals(offsets) or len(offsets) != 2:
        raise BadInput(f"safetensors: {name} has a malformed shape or offset")
    if offsets[1] - offsets[0] != math.prod(shape) * _ITEM_BYTES[dtype]:
        raise BadInput(f"safetensors: {name} takes {offsets[1] - offsets[0]} bytes, its shape is {shape} of {dtype}")
    return Tensor(dtype, tuple(shape), base + offsets[0], base + offsets[1])


def _naturals(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _as_float32(data: bytes, dtype: str, name: str) -> NDArray[np.float32]:
    if dtype == "F32":
        return np.frombuffer(data, "<f4")
    if dtype == "F16":
        return np.frombuffer(data, "<f2").astype(np.float32)
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    raise BadInput(f"safetensors: {name} is of type {dtype}, expected F32, F16 or BF16")

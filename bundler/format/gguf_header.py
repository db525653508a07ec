"""The strict, bounded parser of a GGUF header: little-endian GGUF 2 and 3.

Rules beyond the specification, as in llama.cpp (ggml/src/gguf.cpp): no nested arrays, at most four dimensions, tensor
data without gaps or overlaps in the order of the infos, nothing after the last tensor but padding.

The builder reads it in a confined child, from files that nobody checked; the box from bytes that are authenticated.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import IO

from bundler.format.errors import BadInput
from bundler.format.gguf_types import TENSOR_TYPES
from bundler.format.limits import KIB, MIB

HEADER_BYTES = 512 * MIB
KEYS, TENSORS = 65_536, 65_536
KEY_BYTES, NAME_BYTES, TEXT_BYTES = 65_535, 63, 16 * MIB
ARRAY_ITEMS = 16_000_000
KEPT_ITEMS = 1024  # arrays of numbers for each layer are kept, vocabularies are not
DIMENSIONS = 4
ALIGNMENT_MAX = 64 * KIB
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_WHOLE = (0, 1, 2, 3, 4, 5, 7, 10, 11)
_BOOL, _STRING, _ARRAY = 7, 8, 9

Value = int | float | bool | str


@dataclass(frozen=True)
class TensorInfo:
    """One tensor.

    Attributes:
        offset: From the start of the tensor data, in bytes.
        length: In bytes.
        values: Number of elements.
        shape: Sizes of the dimensions, the contiguous one first.
    """

    name: str
    offset: int
    length: int
    values: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Header:
    """A checked header: scalar metadata, the lengths of arrays, short arrays of whole numbers, and the tensors."""

    metadata: dict[str, Value]
    counts: dict[str, int]
    tensors: tuple[TensorInfo, ...]
    data_offset: int
    length_bytes: int
    arrays: dict[str, tuple[int, ...]]

    def text(self, key: str) -> str | None:
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def integer(self, key: str, absent: int = 0) -> int:
        value = self.metadata.get(key)
        return value if isinstance(value, int) else absent


@dataclass(frozen=True)
class Outline:
    """A checked header and where its parts lie, for who writes another header of them.

    Attributes:
        version: Of the format, 2 or 3.
        alignment: Of tensor data, in bytes.
        pairs: Where each key with its value begins and ends, by key, in bytes from the start of the file.
        infos: Where each tensor's info begins and ends; its last 8 bytes are the offset.
    """

    header: Header
    version: int
    alignment: int
    pairs: dict[str, tuple[int, int]]
    infos: tuple[tuple[int, int], ...]


def read_header(file: IO[bytes]) -> Header:
    """Parses and checks a whole header.

    Raises:
        BadInput: Anything is malformed, out of bounds, or does not add up to the size of the file.
    """
    header = read_outline(file).header
    if not header.tensors:
        raise BadInput("the file has no tensors", "a vocabulary alone is not a model")
    return header


def read_outline(file: IO[bytes]) -> Outline:
    """As `read_header`, with the places of what it reads; a part of a split model may be without tensors."""
    reader = _Reader(file)
    version, tensor_count, key_count = _preamble(reader)
    metadata: dict[str, Value] = {}
    counts: dict[str, int] = {}
    arrays: dict[str, tuple[int, ...]] = {}
    pairs: dict[str, tuple[int, int]] = {}
    for _ in range(key_count):
        start = reader.position
        key = _pair(reader, metadata, counts, arrays)
        pairs[key] = (start, reader.position)
    alignment = _alignment(metadata)
    tensors, infos = [], []
    for _ in range(tensor_count):
        start = reader.position
        tensors.append(_tensor(reader))
        infos.append((start, reader.position))
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise BadInput("two tensors have one name")
    data_offset = _padded(reader.position, alignment)
    if tensors:
        _check_layout(tuple(tensors), alignment, data_offset, reader.size)
    elif not reader.position <= reader.size <= data_offset:
        raise BadInput(f"the header ends at byte {reader.position}, the file at {reader.size}")
    header = Header(metadata, counts, tuple(tensors), data_offset, reader.size, arrays)
    return Outline(header, version, alignment, pairs, tuple(infos))


class _Reader:
    """Reads forwards; every length is checked against what the file still has before memory is taken."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = file.seek(0, 2)
        self._end = min(self.size, HEADER_BYTES)
        file.seek(0)
        self.position = 0

    def take(self, length: int) -> bytes:
        self._claim(length)
        data = self._file.read(length)
        if len(data) != length:
            raise BadInput(f"the file ends at byte {self.position}")
        return data

    def skip(self, length: int) -> None:
        self._claim(length)
        self._file.seek(self.position)

    def _claim(self, length: int) -> None:
        if self.position + length > self._end:
            raise BadInput(f"the header claims {length} bytes at byte {self.position}; it may end at {self._end}")
        self.position += length

    def number(self, code: str) -> int:
        return int(struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0])

    def count(self, what: str, most: int) -> int:
        value = self.number("Q")
        if value > most:
            raise BadInput(f"{what} is {value}, at most {most}")
        return value

    def text(self, what: str, most_bytes: int) -> str:
        data = self.take(self.count(f"the length of {what}", most_bytes))
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise BadInput(f"{what} is not UTF-8") from error


def _preamble(reader: _Reader) -> tuple[int, int, int]:
    magic = reader.take(4)
    if magic != b"GGUF":
        raise BadInput(f"it begins with {magic!r}, a GGUF file with b'GGUF'")
    version = reader.number("I")
    if version not in (2, 3):
        raise BadInput(f"GGUF version {version}, expected 2 or 3 (little-endian)")
    return version, reader.count("the number of tensors", TENSORS), reader.count("the number of keys", KEYS)


def _pair(
    reader: _Reader, metadata: dict[str, Value], counts: dict[str, int], arrays: dict[str, tuple[int, ...]]
) -> str:
    key = reader.text("a key", KEY_BYTES)
    if not key or key in metadata or key in counts:
        raise BadInput(f"the key {key!r} is empty or appears twice")
    kind = reader.number("I")
    if kind == _ARRAY:
        counts[key] = _array(reader, key, arrays)
    else:
        metadata[key] = _scalar(reader, key, kind)
    return key


def _scalar(reader: _Reader, key: str, kind: int) -> Value:
    if kind == _STRING:
        return reader.text(f"the value of {key}", TEXT_BYTES)
    if kind not in _SCALARS:
        raise BadInput(f"{key} has the unknown type {kind}")
    if kind == _BOOL:
        return _flag(reader, key)
    code = _SCALARS[kind]
    value: int | float = struct.unpack(f"<{code}", reader.take(struct.calcsize(f"<{code}")))[0]
    return value


def _flag(reader: _Reader, key: str) -> bool:
    value = reader.number("B")
    if value > 1:
        raise BadInput(f"{key} is a flag with the value {value}")
    return value == 1


def _array(reader: _Reader, key: str, arrays: dict[str, tuple[int, ...]]) -> int:
    """Walks over an array and keeps it only where it is short and of numbers: nothing here needs a vocabulary."""
    kind = reader.number("I")
    count = reader.count(f"the length of {key}", ARRAY_ITEMS)
    if kind == _STRING:
        for _ in range(count):
            reader.skip(reader.count(f"the length of an item of {key}", TEXT_BYTES))
    elif kind in _WHOLE and count <= KEPT_ITEMS:
        code = _SCALARS[kind]
        arrays[key] = struct.unpack(f"<{count}{code}", reader.take(count * struct.calcsize(f"<{code}")))
    elif kind in _SCALARS:
        reader.skip(count * struct.calcsize(f"<{_SCALARS[kind]}"))
    else:
        raise BadInput(f"{key} is an array of the type {kind}; nested and unknown arrays are refused")
    return count


def _alignment(metadata: dict[str, Value]) -> int:
    value = metadata.get("general.alignment", 32)
    if type(value) is not int or not 8 <= value <= ALIGNMENT_MAX or value & (value - 1):
        raise BadInput(f"general.alignment is {value}, expected a power of two from 8 to {ALIGNMENT_MAX}")
    return value


def _tensor(reader: _Reader) -> TensorInfo:
    name = reader.text("a tensor's name", NAME_BYTES)
    dimensions = reader.number("I")
    if not name or not 1 <= dimensions <= DIMENSIONS:
        raise BadInput(f"the tensor {name!r} has {dimensions} dimensions, expected 1 to {DIMENSIONS}")
    shape = [reader.number("Q") for _ in range(dimensions)]
    kind, offset = reader.number("I"), reader.number("Q")
    if kind not in TENSOR_TYPES:
        raise BadInput(f"the tensor {name} has the unknown type {kind}")
    label, block_values, block_bytes = TENSOR_TYPES[kind]
    values = math.prod(shape)
    # ggml counts elements in int64.
    if not 0 < values < 2**63 or shape[0] % block_values:
        raise BadInput(f"the tensor {name} has the shape {shape}, which {label} does not hold")
    return TensorInfo(name, offset, values // block_values * block_bytes, values, tuple(shape))


def _check_layout(tensors: tuple[TensorInfo, ...], alignment: int, data_offset: int, size: int) -> None:
    position = 0
    for tensor in tensors:
        if tensor.offset != position:
            raise BadInput(f"the tensor {tensor.name} lies at {tensor.offset}, expected {position}")
        position = _padded(tensor.offset + tensor.length, alignment)
    least = data_offset + tensors[-1].offset + tensors[-1].length
    if not least <= size <= data_offset + position:
        raise BadInput(f"the tensors end at byte {least}, the file at {size}")


def _padded(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment

"""What an engine reads its model from."""

from __future__ import annotations

from typing import Protocol


class ReadAt(Protocol):
    """Random access to bytes; the store's `AssetReader` checks every chunk that it gives out."""

    @property
    def size(self) -> int: ...

    def read_at(self, offset: int, buffer: memoryview) -> int:
        """Fills the buffer; returns fewer bytes only at the end."""


class BytesReader:
    """Bytes in memory as a `ReadAt`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_at(self, offset: int, buffer: memoryview) -> int:
        part = self._data[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part)

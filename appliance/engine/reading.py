"""What an engine reads its model from."""

from __future__ import annotations

import io
from typing import IO, Protocol, cast

_WINDOW_BYTES = 256 * 1024

READ_BYTES = 256 * 2**10  # of llama.cpp at once: the copy behind it stays in the processor's cache


class ReadAt(Protocol):
    """Random access to bytes, for several threads; `AssetReader` checks every chunk that it gives out."""

    @property
    def size(self) -> int: ...

    @property
    def starts(self) -> tuple[int, ...]:
        """Where the parts begin that are best read whole; the first is 0."""

    def read_at(self, offset: int, buffer: memoryview) -> int:
        """Fills the buffer; returns fewer bytes only at the end, and across processes at the end of a part."""


class BytesReader:
    """Bytes in memory as a `ReadAt`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)
        self.starts: tuple[int, ...] = (0,)

    def read_at(self, offset: int, buffer: memoryview) -> int:
        part = self._data[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part)


def as_file(reader: ReadAt) -> IO[bytes]:
    """Returns a `ReadAt` as a seekable file that holds one window of it."""
    return cast("IO[bytes]", io.BufferedReader(_Raw(reader), _WINDOW_BYTES))


class _Raw(io.RawIOBase):
    def __init__(self, reader: ReadAt) -> None:
        self._reader, self._position = reader, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        count = self._reader.read_at(self._position, memoryview(buffer))
        self._position += count
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._reader.size}
        self._position = starts[whence] + offset
        return self._position

    def tell(self) -> int:
        return self._position

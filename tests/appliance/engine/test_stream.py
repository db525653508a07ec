from __future__ import annotations

import ctypes
import os
import random

from appliance.engine.reading import READ_BYTES, BytesReader
from appliance.engine.stream import CookieFile

DATA = random.Random(3).randbytes(5 * READ_BYTES + 7)


class Noted(BytesReader):
    """Notes where reads begin and how long they may be."""

    def __init__(self) -> None:
        super().__init__(DATA)
        self.asked: list[tuple[int, int]] = []

    def read_at(self, offset: int, buffer: memoryview) -> int:
        self.asked.append((offset, len(buffer)))
        return super().read_at(offset, buffer)


def read(file: CookieFile, offset: int, length: int) -> bytes:
    """As llama.cpp reads a tensor: `fseeko`, `fread`."""
    libc, buffer = ctypes.CDLL(None), ctypes.create_string_buffer(length + 1)
    libc.fseeko.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_int]
    libc.fread.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p]
    libc.fread.restype = ctypes.c_size_t
    assert libc.fseeko(file.pointer, offset, os.SEEK_SET) == 0
    count = libc.fread(buffer, 1, length, file.pointer)
    return buffer.raw[:count]


def test_every_byte_is_the_reader_s() -> None:
    """Any place and length, to the end and beyond it."""
    file, drawn = CookieFile(BytesReader(DATA)), random.Random(4)
    for _ in range(200):
        offset, length = drawn.randrange(len(DATA) + 10), drawn.choice((1, 100, READ_BYTES, 3 * READ_BYTES))
        assert read(file, offset, length) == DATA[offset : offset + length]
    file.close()


def test_a_seek_reads_nothing_before_its_place() -> None:
    """The piece before a tensor is not decrypted for it, and no read is longer than the buffer."""
    reader = Noted()
    file = CookieFile(reader)
    for offset in (3 * READ_BYTES + 12_345, 32, 2 * READ_BYTES - 1):
        reader.asked.clear()
        assert read(file, offset, 1000) == DATA[offset : offset + 1000]
        assert reader.asked == [(offset, READ_BYTES)]
    file.close()

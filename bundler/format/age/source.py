"""Reading an open file at any offset from any thread."""

import io
import os
import threading
from collections.abc import Callable
from typing import BinaryIO

ReadAt = Callable[[int, memoryview], int]
"""Fills the buffer from the offset and returns the bytes read, fewer only at the end of the file."""


def read_at(file: BinaryIO) -> ReadAt:
    """A thread-safe way to read a file at an offset.

    Args:
        file: readable and seekable. Real files are read beside their own position, which stays; others
            under a lock, which moves it.
    """
    descriptor = _descriptor(file)
    if descriptor is not None:
        return lambda offset, buffer: _fill(buffer, lambda rest, done: os.preadv(descriptor, [rest], offset + done))
    lock = threading.Lock()

    def read_locked(offset: int, buffer: memoryview) -> int:
        with lock:
            file.seek(offset)
            return _fill(buffer, lambda rest, _done: _read_into(file, rest))

    return read_locked


def _descriptor(file: BinaryIO) -> int | None:
    # Only the plain classes: a gzip or zip member has a fileno() too, that of the bytes it does not return.
    if not hasattr(os, "preadv") or not isinstance(file, io.FileIO | io.BufferedReader | io.BufferedRandom):
        return None
    try:
        file.flush()  # preadv sees the file, not what a writer still holds
        return file.fileno()
    except OSError:
        return None


def _read_into(file: BinaryIO, buffer: memoryview) -> int:
    data = file.read(len(buffer))
    buffer[: len(data)] = data
    return len(data)


def _fill(buffer: memoryview, read: Callable[[memoryview, int], int]) -> int:
    done = 0
    while done < len(buffer):
        count = read(buffer[done:], done)
        if count == 0:
            break
        done += count
    return done

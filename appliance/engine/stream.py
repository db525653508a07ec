"""A C `FILE *` whose bytes come from Python: the model goes from ciphertext to llama.cpp without touching a disk.

glibc's `fopencookie(3)`. Danger: the callbacks and this object must outlive every use of the FILE, and an exception
in a callback is lost, so it is kept and raised by `close`.
"""

from __future__ import annotations

import ctypes
import os

from appliance.engine.reading import READ_BYTES, ReadAt

_FULLY_BUFFERED = 0  # _IOFBF of stdio.h
# What the FILE believes its buffer holds. After a seek glibc fills it from the place rounded down to a multiple of
# the buffer's size (`offset & ~(size - 1)`), and a loader that jumps from tensor to tensor would pay for the end of
# the piece before each of them. With one bit beyond any offset nothing is rounded. `_read` alone fills it.
_CLAIMED_BYTES = 2**46 + 1
_READ = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_WRITE = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_SEEK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int64), ctypes.c_int)
_CLOSE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)


class _Functions(ctypes.Structure):
    _fields_ = (("read", _READ), ("write", _WRITE), ("seek", _SEEK), ("close", _CLOSE))


class CookieFile:
    """An open, read-only FILE over a `ReadAt`.

    Attributes:
        pointer: The `FILE *`, for C functions.
    """

    def __init__(self, reader: ReadAt) -> None:
        self._reader, self._offset = reader, 0
        self._failure: BaseException | None = None
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._functions = _Functions(_READ(self._read), _WRITE(0), _SEEK(self._seek), _CLOSE(0))
        opener = self._libc.fopencookie
        opener.restype, opener.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p, _Functions]
        self.pointer: int = opener(None, b"rb", self._functions)
        if not self.pointer:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        # glibc reads a cookie FILE by its buffer alone, 8 KiB if nobody gives it another, and each read comes up here.
        self._buffer = ctypes.create_string_buffer(READ_BYTES)
        self._libc.setvbuf.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
        self._libc.setvbuf(self.pointer, self._buffer, _FULLY_BUFFERED, _CLAIMED_BYTES)

    def close(self) -> None:
        """Closes the FILE and raises what a callback could not."""
        self._libc.fclose.argtypes = [ctypes.c_void_p]
        self._libc.fclose(self.pointer)
        if self._failure is not None:
            raise self._failure

    def _read(self, _: int | None, target: int, size: int) -> int:
        try:
            room = ctypes.c_char * min(size, READ_BYTES)  # no more than the buffer has, whatever was claimed
            count = self._reader.read_at(self._offset, memoryview(room.from_address(target)).cast("B"))
        except BaseException as error:  # noqa: BLE001 - nothing may unwind through C; close() raises it
            self._failure = error
            return -1
        self._offset += count
        return count

    def _seek(self, _: int | None, offset: ctypes._Pointer[ctypes.c_int64], whence: int) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._offset, os.SEEK_END: self._reader.size}[whence]
        place = start + offset[0]
        if place < 0:
            return -1
        self._offset = offset[0] = place
        return 0

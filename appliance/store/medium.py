"""Reads files of the medium once, in order, a bounded stretch ahead of who takes them.

One file after the other: a stick reads in order far faster than it jumps, and one thread that reads keeps any medium
busy while others hash, write and decrypt.
"""

from __future__ import annotations

import errno
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from io import RawIOBase
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO, cast

from bundler.files import open_regular
from bundler.format import paths
from bundler.format.errors import BadBundle, FileMissing, LifeboatError, SystemFailed
from bundler.format.manifest import FileDigest

BLOCK_BYTES = 1 << 20
# How far it reads ahead: what a medium of 400 MB/s delivers while the end of a volume is synced.
BLOCKS = 32
_JOIN_S = 1.0
_AGAIN = "put the medium back and run the same command again: finished volumes are not copied twice"

Opener = Callable[[Path], BinaryIO]
Told = Callable[[LifeboatError | OSError, Path, FileDigest], Exception]
_Item = tuple[bytearray, int] | BaseException | None


def medium_error(error: LifeboatError | OSError, root: Path, file: FileDigest) -> Exception:
    """Says what happened to the medium: a stick that was pulled out is no bad bundle."""
    gone = _is_gone(root)
    if isinstance(error, OSError):
        broken = error.errno in (errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ENOTCONN)
        hint = _AGAIN if gone or not broken else f"{_AGAIN}; if it fails again at this file, try another stick"
        return SystemFailed(f"{file.path} cannot be read: {error.strerror}", hint)
    if gone:
        return SystemFailed(f"the medium {root} is gone: {file.path} was to be read", _AGAIN)
    if isinstance(error, FileMissing):
        return FileMissing(
            f"{file.path} is missing on the medium",
            "if this box never got it, the builder makes a full copy: lifeboat copy --full",
        )
    return error


def _is_gone(root: Path) -> bool:
    try:
        return not stat.S_ISDIR((root / "metadata").stat().st_mode)
    except OSError:  # of a file system whose device or server went away each call fails
        return True


class ReadAhead:
    """The blocks of some files, read in a thread of its own into buffers that are used again.

    Args:
        root: The medium, or the store.
        files: In the order in which they will be asked for.
        open_file: Opens one of them, unbuffered.
        told: Makes what a person is told of an error.
    """

    def __init__(
        self, root: Path, files: Sequence[FileDigest], open_file: Opener = open_regular, told: Told = medium_error
    ) -> None:
        self._root, self._files, self._open, self._told = root, files, open_file, told
        self._full: SimpleQueue[_Item] = SimpleQueue()
        self._free: SimpleQueue[bytearray | None] = SimpleQueue()
        # A daemon: a read that never returns, of a share that went away, must not hold the program's end.
        self._thread = threading.Thread(target=self._run, name="read ahead", daemon=True)

    def __enter__(self) -> ReadAhead:
        whole = sum(file.length_bytes for file in self._files)
        for _ in range(min(BLOCKS, whole // BLOCK_BYTES + 2)):
            self._free.put(bytearray(BLOCK_BYTES))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._free.put(None)
        self._thread.join(_JOIN_S)

    def blocks(self) -> Iterator[memoryview]:
        """Yields the blocks of the next file; each is valid until the next one is asked for.

        Raises:
            FileMissing: The medium does not hold it.
            BadBundle: It is no regular file.
            SystemFailed: The medium cannot be read, or is gone.
        """
        while (item := self._full.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            block, length = item
            yield memoryview(block)[:length]
            self._free.put(block)

    def _run(self) -> None:
        file: FileDigest | None = None
        try:
            for file in self._files:
                if not self._read(file):
                    return
                self._full.put(None)
        except BaseException as error:  # noqa: BLE001 - raised by `blocks`, which would wait for ever else
            if file is not None and isinstance(error, LifeboatError | OSError):
                error = self._told(error, self._root, file)
            self._full.put(error)

    def _read(self, file: FileDigest) -> bool:
        """Reads one file; says whether somebody still wants the next one."""
        with self._open(paths.inside(self._root, file.path)) as source:
            while (block := self._free.get()) is not None:
                count = cast("RawIOBase", source).readinto(block)
                if not count:
                    self._free.put(block)
                    return True
                self._full.put((block, count))
        return False


def wrong_content(file: FileDigest, length_bytes: int) -> BadBundle:
    """Returns the error for a file whose bytes are not those that were signed."""
    short = f"{file.length_bytes} bytes expected, {length_bytes} read"
    difference = "its bytes differ" if length_bytes == file.length_bytes else short
    return BadBundle(f"{file.path} is not what was signed ({difference})", "copy this file to the medium again")

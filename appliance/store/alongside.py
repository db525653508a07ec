"""What happens to a file while it is read or written: its chunks are checked, and its bytes are synced early."""

from __future__ import annotations

import io
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO, cast

from bundler.files import FileLayer
from bundler.format.passage import Passage

# How far the check may fall behind, so that what it reads is still in memory and the medium is the only thing read.
LAG_BYTES = 64 << 20
# What may wait for the disk when the last byte has come: the final sync is short, and the medium goes on meanwhile.
SYNC_BYTES = 32 << 20


class _Ended(Exception):
    """The file ended, or was given up, before what the check waits for."""


class _Growing(io.RawIOBase):
    """A file of a known final length of which only a beginning is there; a read waits until its bytes are."""

    def __init__(self, file: BinaryIO, length_bytes: int) -> None:
        super().__init__()
        self._file, self._length = file, length_bytes
        self._place = self._there = self._seen = 0
        self._ended = False
        self._changed = threading.Condition()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence != os.SEEK_SET:
            raise io.UnsupportedOperation("only from the beginning")
        self._place = offset
        return offset

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast("bytearray", buffer)).cast("B")
        wanted = min(self._place + len(view), self._length)
        with self._changed:
            self._seen = max(self._seen, self._place)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._there >= wanted or self._ended)
            if self._there < wanted:
                raise _Ended
        count = os.preadv(self._file.fileno(), [view], self._place)
        self._place += count
        return count

    def grow(self, count: int) -> None:
        """Says that more is there; waits where the reader is far behind."""
        with self._changed:
            self._there += count
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._there - self._seen <= LAG_BYTES or self._ended)

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class Follower:
    """Checks a volume's chunks in a thread of its own, close behind who copies or reads it.

    Args:
        file: The same bytes, readable at any offset while they are written; open until the block of this one ends.
        passage: What is to be found.
        secret: The age identity that opens the volume.
    """

    def __init__(self, file: BinaryIO, passage: Passage, secret: str) -> None:
        self._growing = _Growing(file, passage.volume.length_bytes)
        self._passage, self._secret = passage, secret
        self._thread = threading.Thread(target=self._run, name="check chunks")
        self._failure: BaseException | None = None

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._growing.end()
        self._thread.join()

    def grew(self, block: memoryview) -> None:
        """Says that this block is in the file too."""
        self._growing.grow(len(block))

    def result(self) -> None:
        """Raises what the check found, after the block.

        Raises:
            BadBundle: A chunk is not what was signed.
        """
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            self._passage.check(cast("BinaryIO", self._growing), self._secret)
        except BaseException as failure:  # noqa: BLE001 - told by `result`, in the thread of the caller
            self._failure = failure
        self._growing.end()


class EarlySync:
    """Has a file that is written synced piece by piece, beside the writing.

    Args:
        file: Open until the block of this one ends.
        layer: Where faults can be put.
    """

    def __init__(self, file: BinaryIO, layer: FileLayer) -> None:
        self._file, self._layer = file, layer
        self._thread = ThreadPoolExecutor(1)
        self._synced: list[Future[None]] = []
        self._waiting_bytes = 0

    def __enter__(self) -> EarlySync:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown(cancel_futures=kind is not None)
        if kind is None:
            for synced in self._synced:
                synced.result()  # an error shows once for a file: the last sync would not tell it again

    def write(self, block: memoryview) -> None:
        self._file.write(block)
        self._file.flush()
        self._waiting_bytes += len(block)
        if self._waiting_bytes >= SYNC_BYTES:
            self._waiting_bytes = 0
            self._synced.append(self._thread.submit(self._layer.sync_data, self._file.fileno()))

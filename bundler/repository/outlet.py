"""Hashes and writes ciphertext on a thread of its own, beside the cipher."""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

from bundler.files import DISK, FileLayer

_BLOCK_BYTES = 4 << 20
_BLOCKS = 3  # one filled, one written, one between: memory stays bounded whatever is slower
_FLUSH_BYTES = 64 << 20


class Outlet:
    """A sink for ciphertext that knows its digest: the volume is not read again.

    Blocks go to disk as they are written, so that the last sync has little left to wait for.

    Args:
        file: The volume; it is synced and closed by the caller, after `finish`.
        layer: Where faults can be put.
    """

    def __init__(self, file: BinaryIO, layer: FileLayer = DISK) -> None:
        self._file, self._layer, self._digest = file, layer, hashlib.sha256()
        self.length_bytes = 0
        self._spare = deque(bytearray(_BLOCK_BYTES) for _ in range(_BLOCKS))
        self._block, self._used = self._spare.popleft(), 0
        self._pending: deque[tuple[Future[None], bytearray]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="volume")
        self._flusher = ThreadPoolExecutor(1, thread_name_prefix="flush")
        self._flushes: list[Future[None]] = []
        self._unflushed = 0

    def write(self, data: bytes | memoryview, /) -> int:
        """Takes all of `data`; raises what an earlier write met."""
        rest = memoryview(data)
        while len(rest):
            if self._used == _BLOCK_BYTES:
                self._hand_over()
            count = min(len(rest), _BLOCK_BYTES - self._used)
            self._block[self._used : self._used + count] = rest[:count]
            self._used += count
            rest = rest[count:]
        return len(data)

    def lend(self, length: int, /) -> memoryview | None:
        """Lends room in a block for the cipher to write into; see `age.stream.Lender`."""
        if length > _BLOCK_BYTES:
            return None
        if self._used + length > _BLOCK_BYTES:
            self._hand_over()
        view = memoryview(self._block)[self._used : self._used + length]
        self._used += length
        return view

    def finish(self) -> str:
        """Waits until all is hashed and written; returns the SHA-256.

        Raises:
            OSError: What a write or an early flush met: a later sync of the same file would not tell it again.
        """
        self._hand_over()
        while self._pending:
            self._wait()
        self._thread.shutdown()
        self._flusher.shutdown()
        for flushed in self._flushes:
            flushed.result()
        return self._digest.hexdigest()

    def abandon(self) -> None:
        """Ends the threads; what was written stays unfinished. The file may be closed after it, not before."""
        self._thread.shutdown(cancel_futures=True)
        self._flusher.shutdown(cancel_futures=True)

    def _hand_over(self) -> None:
        if not self._used:
            return
        done = self._thread.submit(self._take, memoryview(self._block)[: self._used])
        self._pending.append((done, self._block))
        if not self._spare:
            self._wait()
        self._block, self._used = self._spare.popleft(), 0

    def _wait(self) -> None:
        done, block = self._pending.popleft()
        done.result()
        self._spare.append(block)

    def _take(self, block: memoryview) -> None:
        self._digest.update(block)
        self._file.write(block)
        self.length_bytes += len(block)
        self._unflushed += len(block)
        if self._unflushed >= _FLUSH_BYTES:
            self._unflushed = 0
            self._file.flush()
            self._flushes.append(self._flusher.submit(self._layer.sync_data, self._file.fileno()))

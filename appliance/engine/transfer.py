"""How the child reads: it asks over a socket, the parent decrypts into shared memory. The child holds no key.

Messages are datagrams of a SOCK_SEQPACKET pair: `R` with an offset, answered by start and end of the piece that holds
it and its slot of the shared memory, or by three times 0; or `S` with a JSON status from the child.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from appliance.engine.ahead import BUFFER_BYTES, SLOT_BYTES, Ahead, Piece
from appliance.engine.pulse import PAGE_BYTES
from appliance.engine.reading import ReadAt
from bundler.format.errors import LifeboatError

# From the parent alone: what ends a whole group must not cut answers short.
DRAIN = signal.SIGUSR2  # finish what was accepted, take no more, end
STOP = signal.SIGUSR1  # end now
_MESSAGE_BYTES = 65_536
_ASK, _ANSWER = struct.Struct("<Q"), struct.Struct("<QQQ")


def make_buffer() -> int:
    """Returns the descriptor of fresh shared memory: the buffer, then the page of the child's signs of life."""
    descriptor = os.memfd_create("lifeboat-model", os.MFD_CLOEXEC)
    os.truncate(descriptor, BUFFER_BYTES + PAGE_BYTES)
    return descriptor


class RemoteReader:
    """The child's end: a `ReadAt` over the parent; what lies in the piece at hand is read without asking."""

    def __init__(self, link: socket.socket, buffer: int, size: int) -> None:
        self._link, self._buffer = link, memoryview(mmap.mmap(buffer, BUFFER_BYTES))
        self.size, self.starts = size, (0,)
        self._piece = Piece(0, 0, 0)

    def read_at(self, offset: int, buffer: memoryview) -> int:
        """Fills the buffer as far as the piece goes: a FILE reads beyond what is needed, and pays for no other."""
        if not buffer or offset >= self.size:
            return 0
        found = self._rest_of_piece(offset)
        count = min(len(found), len(buffer))
        buffer[:count] = found[:count]
        return count

    def _rest_of_piece(self, offset: int) -> memoryview:
        piece = self._found(offset)
        start = piece.slot * SLOT_BYTES - piece.start
        return self._buffer[start + offset : start + piece.end]

    def _found(self, offset: int) -> Piece:
        if not self._piece.start <= offset < self._piece.end:
            self._link.send(b"R" + _ASK.pack(offset))
            answer = self._link.recv(_ANSWER.size)
            self._piece = Piece(*_ANSWER.unpack(answer)) if answer else Piece(0, 0, 0)
            if not self._piece.end:
                raise OSError("the parent could not read the model")
        return self._piece


def report(link: socket.socket, status: dict[str, Any]) -> None:
    """Tells the parent how the child is."""
    link.send(b"S" + json.dumps(status).encode()[: _MESSAGE_BYTES - 1])


def serve_reads(
    link: socket.socket,
    buffer: int,
    reader: ReadAt,
    on_status: Callable[[dict[str, Any]], None],
    on_read: Callable[[], None],
) -> LifeboatError | OSError | None:
    """The parent's end: answers until the child closes; blocking, for a thread.

    Args:
        link: To the child.
        buffer: Descriptor of the shared memory.
        reader: The model.
        on_status: Told what the child reports.
        on_read: Called after each read.

    Returns:
        The error that reading met (a chunk that is not what was signed, a disk that is gone), or None.
    """
    failure: LifeboatError | OSError | None = None
    with mmap.mmap(buffer, BUFFER_BYTES) as shared:
        pieces = Ahead(reader, memoryview(shared))
        try:
            while message := _receive(link):
                if message[:1] == b"S":
                    status = json.loads(message[1:])
                    if status.get("ready"):  # it reads no more: the memory is of better use elsewhere
                        pieces.close()
                        shared.madvise(mmap.MADV_REMOVE)
                    on_status(status)
                    continue
                try:
                    piece = pieces.get(*_ASK.unpack(message[1:]))
                except (LifeboatError, OSError) as error:
                    failure, piece = error, Piece(0, 0, 0)
                except ValueError as error:  # no such byte, or the version's files are closed
                    failure, piece = OSError(str(error)), Piece(0, 0, 0)
                on_read()
                with suppress(OSError):  # the child has ended meanwhile, and so does the loop
                    link.send(_ANSWER.pack(piece.start, piece.end, piece.slot))
        finally:
            pieces.close()
    return failure


def _receive(link: socket.socket) -> bytes:
    try:
        return link.recv(_MESSAGE_BYTES)
    except (ConnectionError, OSError):
        return b""

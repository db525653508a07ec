"""How the child reads: it asks over a socket, the parent decrypts into shared memory. The child holds no key.

Messages are datagrams of a SOCK_SEQPACKET pair: `R` with offset and length, answered by a count or -1; or `S` with a
JSON status from the child.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import struct
from collections.abc import Callable
from typing import Any

from appliance.engine.reading import ReadAt
from bundler.format.errors import LifeboatError

BUFFER_BYTES = 4 * 2**20
STOP = signal.SIGUSR1  # from the parent alone: what ends a whole group must not cut answers short
_MESSAGE_BYTES = 65_536
_ASK, _ANSWER = struct.Struct("<QQ"), struct.Struct("<q")


def make_buffer() -> int:
    """Returns the descriptor of fresh shared memory of BUFFER_BYTES."""
    descriptor = os.memfd_create("lifeboat-model", os.MFD_CLOEXEC)
    os.truncate(descriptor, BUFFER_BYTES)
    return descriptor


class RemoteReader:
    """The child's end: a `ReadAt` over the parent."""

    def __init__(self, link: socket.socket, buffer: int, size: int) -> None:
        self._link, self._buffer, self.size = link, mmap.mmap(buffer, BUFFER_BYTES), size

    def read_at(self, offset: int, buffer: memoryview) -> int:
        done = 0
        while done < len(buffer) and offset + done < self.size:
            wanted = min(BUFFER_BYTES, len(buffer) - done)
            self._link.send(b"R" + _ASK.pack(offset + done, wanted))
            (count,) = _ANSWER.unpack(self._link.recv(_ANSWER.size))
            if count <= 0:
                raise OSError("the parent could not read the model")
            buffer[done : done + count] = self._buffer[:count]
            done += count
        return done


def report(link: socket.socket, status: dict[str, Any]) -> None:
    """Tells the parent how the child is."""
    link.send(b"S" + json.dumps(status).encode()[: _MESSAGE_BYTES - 1])


def serve_reads(
    link: socket.socket, buffer: int, reader: ReadAt, on_status: Callable[[dict[str, Any]], None]
) -> LifeboatError | None:
    """The parent's end: answers until the child closes; blocking, for a thread.

    Returns:
        The error that reading met (a chunk that is not what was signed), or None.
    """
    failure: LifeboatError | None = None
    with mmap.mmap(buffer, BUFFER_BYTES) as shared:
        while message := _receive(link):
            if message[:1] == b"S":
                on_status(json.loads(message[1:]))
                continue
            try:
                offset, length = _ASK.unpack(message[1:])
                count = _fill(shared, reader, offset, length)
            except LifeboatError as error:
                failure, count = error, -1
            link.send(_ANSWER.pack(count))
    return failure


def _fill(shared: mmap.mmap, reader: ReadAt, offset: int, length: int) -> int:
    with memoryview(shared) as whole, whole[: min(length, BUFFER_BYTES)] as part:
        return reader.read_at(offset, part)


def _receive(link: socket.socket) -> bytes:
    try:
        return link.recv(_MESSAGE_BYTES)
    except (ConnectionError, OSError):
        return b""

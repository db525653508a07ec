"""What comes over a connection, held to a number of bytes and to a time, below http.client; its coming about as well.

http.client reads a chunk of length -1 up to the end of the memory, skips `100 Continue` and trailers for as long as
they come, and counts time anew with every byte. So every byte that it reads passes here, a proxy's answer as well.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from bundler.registries.reach import Address, reach

HEAD_BYTES = 1 << 20  # http.client takes 100 lines of 64 KiB, and as many heads as there are


class TooMuch(http.client.HTTPException):
    """More came than may, or a length below nothing; urllib3 makes a broken connection of it."""


class Bound:
    """What may still come of one answer.

    Args:
        silence_s: How long nothing may come, and how long the head of the answer may take.

    Attributes:
        heard: Called whenever something has come.
    """

    def __init__(self, silence_s: float) -> None:
        self.silence_s = silence_s
        self.heard: Callable[[], None] = lambda: None
        self.allow(HEAD_BYTES, silence_s)

    def allow(self, length_bytes: int, within_s: float) -> None:
        """Sets how many bytes may come from now on, the marks of chunks included, and within which time."""
        self._left_bytes, self._within_s = length_bytes, within_s
        self._until = time.monotonic() + within_s

    def receive(self, connection: socket.socket, raw: io.RawIOBase, into: Any) -> int | None:
        """Reads once from a connection.

        Raises:
            TooMuch: More has come than was allowed.
            TimeoutError: Nothing came, or not all of it in time.
        """
        left_s, before_s = self._until - time.monotonic(), connection.gettimeout()
        if left_s <= 0:
            raise self._late()
        connection.settimeout(min(left_s, self.silence_s))
        try:
            count = raw.readinto(into)
        except TimeoutError:
            raise (self._late() if left_s <= self.silence_s else TimeoutError("nothing came for too long")) from None
        finally:
            connection.settimeout(before_s)
        self.heard()
        self._left_bytes -= count or 0
        if self._left_bytes < 0:
            raise TooMuch("more comes than belongs to the answer")
        return count

    def _late(self) -> TimeoutError:
        return TimeoutError(f"the answer was not whole within {self._within_s:g} s")


_now: ContextVar[Bound] = ContextVar("bound")


@contextmanager
def held(bound: Bound) -> Iterator[None]:
    """Holds the answers that begin in the length of the block to a bound."""
    token = _now.set(bound)
    try:
        yield
    finally:
        _now.reset(token)


def bind(manager: urllib3.PoolManager) -> None:
    """Lets a new manager make connections whose answers can be held."""
    manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _EncryptedPool}


class _Incoming(io.RawIOBase):
    def __init__(self, connection: socket.socket, bound: Bound) -> None:
        self._connection, self._bound = connection, bound
        self._raw = connection.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def readinto(self, into: Any) -> int | None:
        return self._bound.receive(self._connection, self._raw, into)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Reader(io.BufferedReader):
    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:  # nobody here reads to the end: it is the length of a chunk
            raise TooMuch("a chunk has a length below nothing")
        return super().read(size)


class _Held:
    """The one thing that an answer of http.client asks of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def makefile(self, _: str) -> io.BufferedReader:
        bound = _now.get()
        bound.allow(HEAD_BYTES, bound.silence_s)  # from here on an answer is waited for
        return _Reader(_Incoming(self._connection, bound))


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **how: Any) -> None:
        held: Any = _Held(sock)
        super().__init__(held, *args, **how)


class _Reached(HTTPConnection):
    response_class = _Answer

    def _new_conn(self) -> socket.socket:
        host, port, within_s = self._dns_host, self.port, cast(float, self.timeout)
        plain = super()._new_conn

        def connect(address: Address, part_s: float) -> socket.socket:
            (self._dns_host, self.port), self.timeout = address, part_s
            return plain()

        try:
            reached = reach(host, port, float(within_s), connect, HTTPError)
        finally:
            self._dns_host, self.port, self.timeout = host, port, within_s
        reached.settimeout(within_s)  # of one address it was a part; now TLS begins
        return reached


class _Encrypted(_Reached, HTTPSConnection):
    """The same, over TLS."""


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Reached


class _EncryptedPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Encrypted

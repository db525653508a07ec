"""What comes over a connection to a hub, held to a number of bytes and to a time, below the client's library.

Its timeouts count anew with every byte and for every address, and it skips `100 Continue` for as long as they come. So
every connection is made here, and every byte read passes here, those of a proxy as well.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpcore2
import httpx2
from httpcore2 import NetworkBackend, NetworkStream

from bundler.format.errors import SourceFailed
from bundler.format.limits import MIB
from bundler.patience import Passing
from bundler.registries.reach import Address, reach

ANSWER_BYTES = 16 * MIB
STEP_ANSWERS, STEP_S = 1_000, 900.0  # a listing of 100,000 files has 100 pages
_FRAMING_BYTES = 2 * MIB  # heads, trailers and the marks of chunks of one answer


class Step:
    """What one step, such as a listing of many pages, may still ask, and until when."""

    def __init__(self) -> None:
        self._left, self._until = STEP_ANSWERS, time.monotonic() + STEP_S

    def left_s(self, host: str) -> float:
        """Counts an answer, and returns how long it may take as far as the step goes; raises SourceFailed at its end.

        Args:
            host: Who is asked.
        """
        self._left -= 1
        left_s = self._until - time.monotonic()
        if self._left < 0 or left_s <= 0:
            raise over(host)
        return left_s


def over(host: str) -> SourceFailed:
    """Returns what ends a step, and is tried no more."""
    told = f"{host} has not told it within {STEP_ANSWERS} answers and {STEP_S:g} s"
    return SourceFailed(told, "is HF_ENDPOINT a hub?")


class Bound:
    """What may still come of one answer.

    Args:
        host: Who answers.
        within_s: How long the whole of it may take; of a file its head, and then each piece.
        ends_step: Whether the whole step ends with that time.
    """

    def __init__(self, host: str, within_s: float, *, ends_step: bool = False) -> None:
        self._host, self._within_s, self._ends_step = host, within_s, ends_step
        self.renew()

    def renew(self) -> None:
        """Counts anew: a piece of a file has come."""
        self._left_bytes, self._until = 2 * ANSWER_BYTES + _FRAMING_BYTES, time.monotonic() + self._within_s

    def read(self, stream: NetworkStream, most_bytes: int, silence_s: float | None) -> bytes:
        """Reads once from a connection.

        Raises:
            Passing: It was not all here in time.
            SourceFailed: More came than was allowed, or the step ended.
        """
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            raise self._late()
        try:
            found = stream.read(most_bytes, left_s if silence_s is None else min(left_s, silence_s))
        except httpcore2.ReadTimeout:
            if silence_s is not None and silence_s < left_s:
                raise
            raise self._late() from None
        self._left_bytes -= len(found)
        if self._left_bytes < 0:
            raise SourceFailed(f"{self._host} sends more than belongs to an answer")
        return found

    def _late(self) -> Passing | SourceFailed:
        if self._ends_step:
            return over(self._host)
        return Passing(f"{self._host} had not answered whole within {self._within_s:g} s")


_bound: ContextVar[Bound] = ContextVar("bound of a hub's answer")
_step: ContextVar[Step | None] = ContextVar("step at a hub", default=None)


@contextmanager
def one_step() -> Iterator[None]:
    """Bounds what is asked in the length of the block, all answers together that are no files."""
    token = _step.set(Step())
    try:
        yield
    finally:
        _step.reset(token)


def expect(host: str, within_s: float, *, is_file: bool) -> Bound:
    """Bounds the answers to what is sent next from this thread, until the next is expected."""
    step = _step.get()
    left_s = step.left_s(host) if step is not None and not is_file else within_s
    bound = Bound(host, min(within_s, left_s), ends_step=left_s < within_s)
    _bound.set(bound)
    return bound


def pieces(stream: Any) -> Iterator[bytes]:
    """Yields a file's bytes, each piece in a time of its own, in which who takes it is not counted."""
    bound = _bound.get()
    for piece in stream:
        yield piece
        bound.renew()


def bind(client: httpx2.Client) -> None:
    """Lets every connection of a new client be made and read here."""
    # No public way leads to the connections of the client's own transports, which know the proxies of the environment.
    for transport in (client._transport, *client._mounts.values()):
        if transport is not None:
            pool: Any = vars(transport)["_pool"]
            pool._network_backend = _Backend(pool._network_backend)


class _Backend(NetworkBackend):
    def __init__(self, plain: NetworkBackend) -> None:
        self._plain = plain

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> NetworkStream:
        def connect(address: Address, part_s: float) -> NetworkStream:
            return self._plain.connect_tcp(*address, part_s, local_address, socket_options)

        within_s = 60.0 if timeout is None else timeout
        return _Stream(reach(host, port, within_s, connect, httpcore2.NetworkError, httpcore2.TimeoutException))

    def sleep(self, seconds: float) -> None:
        self._plain.sleep(seconds)


class _Stream(NetworkStream):
    def __init__(self, plain: NetworkStream) -> None:
        self._plain, self._bound = plain, _bound.get()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._bound.read(self._plain, max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._bound = _bound.get()  # a connection that was kept takes the next request
        self._plain.write(buffer, timeout)

    def close(self) -> None:
        self._plain.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> NetworkStream:
        return _Stream(self._plain.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._plain.get_extra_info(info)

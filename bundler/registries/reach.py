"""Connects to a machine by its name, within one time for all of it: the name servers and every address.

The timeout of a socket is for each address anew, and the resolver of the system knows none that we could set.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from itertools import chain, zip_longest
from typing import Any, TypeVar

from bundler.format.errors import SourceFailed
from bundler.patience import Passing, unresolved

T = TypeVar("T")
Address = tuple[str, int]
_ADDRESSES = 8  # of a name with more, the rest is not tried: each would have too little of the time


def reach(host: str, port: int, within_s: float, connect: Callable[[Address, float], T], *faults: type[Exception]) -> T:
    """Returns what `connect` makes of the first address that answers.

    Args:
        host: A name, or an address.
        port: Of it.
        within_s: How long finding the name and connecting may take together.
        connect: Connects to an address within the given seconds; an address that does not answer has an equal part of
            what is left, so that the next one gets its turn.
        faults: What `connect` raises where the next address is to be tried; of the last one it comes out.

    Raises:
        SourceFailed: The name is not known, or is none.
        Passing: No name server answered in time, or the one that did cannot tell now.
    """
    until = time.monotonic() + within_s
    addresses = resolved(host, port, within_s)
    for count in range(len(addresses), 1, -1):
        left_s = max(0.0, until - time.monotonic())
        try:
            return connect(addresses[-count], left_s / count)
        except faults:
            continue
    return connect(addresses[-1], max(0.001, until - time.monotonic()))


def resolved(host: str, port: int, within_s: float) -> list[Address]:
    """Returns the addresses of a name, 8 at most, in the order of the system, its families in turn (RFC 8305, 4).

    Raises:
        SourceFailed, Passing: As of `reach`.
    """
    answer: Future[list[Address]] = Future()
    # The thread of a resolver that hangs is left behind: nothing ends it, and it keeps no program from ending.
    threading.Thread(target=_resolve, args=(host, port, answer), name="resolver", daemon=True).start()
    try:
        return answer.result(within_s)
    except TimeoutError:
        raise Passing(f"no name server has told within {within_s:g} s who {ascii(host)[1:-1]} is") from None
    except socket.gaierror as error:
        raise unresolved(ascii(host)[1:-1], error) from error
    except UnicodeError as error:
        raise SourceFailed(f"{ascii(host)[:120]} is no name of a machine") from error


def _resolve(host: str, port: int, answer: Future[list[Address]]) -> None:
    try:
        answer.set_result(_in_turn(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))[:_ADDRESSES])
    except BaseException as error:  # noqa: BLE001 - it is raised where the answer is waited for
        answer.set_exception(error)


def _in_turn(rows: Iterable[tuple[Any, ...]]) -> list[Address]:
    """A machine may have an address of a family and no way out by it: eight of that one would hide the other."""
    families: dict[int, dict[Address, None]] = {}
    for family, *_, where in rows:
        families.setdefault(family, {})[str(where[0]), int(where[1])] = None
    return [address for address in chain(*zip_longest(*families.values())) if address is not None]

"""Faults of a network that may pass: how many in a row are borne, and the pauses between."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from bundler.format.errors import SourceFailed
from bundler.format.secrets import masked

T = TypeVar("T")
# "Not this name" and "no address of it"; the second has a number that Python's module does not name everywhere.
_NO_SUCH_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


class Passing(Exception):
    """A try failed in a way that may pass: a connection that broke, a server that is busy.

    Args:
        fact: What happened; logins and tokens in its addresses are masked.
        asked_s: How long the server asks to wait, or None.
    """

    def __init__(self, fact: str, asked_s: float | None = None) -> None:
        self.fact, self.asked_s = masked(fact), asked_s
        super().__init__(self.fact)


@dataclass(frozen=True)
class Patience:
    """The limits of waiting.

    Attributes:
        tries: How many failures in a row end the work.
        first_s: Wait after the first failure; it doubles each time.
        most_s: The longest wait of our own.
        asked_most_s: The longest wait that a server may ask for; one that asks for more ends the work at once.
        sleep: Waits.
        told: Hears of every fault that is waited out.
    """

    tries: int = 6
    first_s: float = 1.0
    most_s: float = 30.0
    asked_most_s: float = 300.0
    sleep: Callable[[float], None] = time.sleep
    told: Callable[[str], None] = lambda _: None

    def pause_s(self, failures: int, asked_s: float | None) -> float | None:
        """Returns how long to wait after so many failures in a row, or None where it is enough."""
        if failures >= self.tries or self._is_too_long(asked_s):
            return None
        own_s = float(min(self.most_s, self.first_s * 2 ** (failures - 1)))
        # A server that asks for no pause at all would use up the tries within a moment.
        return max(own_s, asked_s or 0.0)

    def wait(self, what: str, failures: int, fault: Passing, hint: str) -> None:
        """Waits before the next try.

        Args:
            what: What was tried, for the message.
            failures: How many in a row, this one included.
            fault: The last one.
            hint: The way out where there is no next try.

        Raises:
            SourceFailed: It is enough.
        """
        pause_s = self.pause_s(failures, fault.asked_s)
        if pause_s is None:
            asked = f" and asks to wait {fault.asked_s:.0f} s" if self._is_too_long(fault.asked_s) else ""
            tries = "1 try" if failures == 1 else f"{failures} tries"
            raise SourceFailed(f"{what}: {fault.fact}{asked}, after {tries}", hint) from fault
        self.told(f"{what}: {fault.fact}; again in {pause_s:.0f} s, try {failures + 1} of {self.tries}")
        self.sleep(pause_s)

    def keep(self, what: str, act: Callable[[], T], hint: str, reached: Callable[[], bool] = lambda: False) -> T:
        """Returns what `act` returns, however often it failed in passing before.

        Args:
            what: What is tried, for messages.
            act: The work, which goes on where it was.
            hint: As of `wait`.
            reached: Tells whether the last try got on, so that the count begins anew.

        Raises:
            SourceFailed: It is enough.
        """
        failures = 0
        while True:
            try:
                return act()
            except Passing as fault:
                failures = 1 if reached() else failures + 1
                self.wait(what, failures, fault, hint)

    def _is_too_long(self, asked_s: float | None) -> bool:
        return asked_s is not None and asked_s > self.asked_most_s


def lasting(host: str, error: BaseException, plain: str) -> SourceFailed | None:
    """Returns what no second try mends, or None: a certificate that is not trusted, and a server without TLS.

    Args:
        host: Who was asked.
        error: What a library raised; what caused it tells.
        plain: The way out where the server does not speak TLS.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            hint = "for an authority of your own set SSL_CERT_FILE to its certificates"
            return SourceFailed(f"{host} shows a certificate that is not trusted: {cause.verify_message}", hint)
        if isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER":
            return SourceFailed(f"{host} does not speak TLS", plain)
        cause = cause.__cause__ or cause.__context__
    return None


def unresolved(host: str, error: socket.gaierror) -> SourceFailed | Passing:
    """Returns what a name without an address is: one that nobody knows ends the work, a server that cannot tell passes.

    Args:
        host: The name that was looked up.
        error: Of the system's resolver.
    """
    if error.errno in _NO_SUCH_NAME:
        return SourceFailed(f"{host} is not known here", "check the name, and the DNS of this machine")
    return Passing(f"{host}: {error.strerror or error}")


def asked_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Returns the seconds of a `Retry-After` (RFC 9110, 10.2.3: seconds or a date), or None where it has none."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        return max(0.0, (parsedate_to_datetime(text) - now).total_seconds())
    except (ValueError, TypeError, OverflowError):  # the last of years and zones of twenty digits
        return None

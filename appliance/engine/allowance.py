"""How much the requests in hand may hold together: each takes as it goes, and gives all of it back at its end."""

from __future__ import annotations

import threading

from appliance.engine.options import Refused


class Allowance:
    """What there is of one thing; safe to share between threads.

    Args:
        most: Of all requests together, and of one.
        what: Its name, as in "tokens".
    """

    def __init__(self, most: int, what: str) -> None:
        self.most, self.what = most, what
        self._held, self._lock = 0, threading.Lock()

    def change(self, count: int) -> None:
        """Takes `count`, or gives it back where it is negative.

        Raises:
            Refused: There is not as much left.
        """
        with self._lock:
            if self._held + count > self.most:
                raise Refused(f"the requests in hand hold {self._held} {self.what} of {self.most}", "queue_full", 429)
            self._held += count


class Share:
    """What one request holds; `with` it around the request."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance, self._held, self._over = allowance, 0, False
        self._lock = threading.Lock()

    def __enter__(self) -> Share:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._over = True
            self._allowance.change(-self._held)

    def take(self, count: int) -> None:
        """Takes more.

        Raises:
            Refused: It is more than one request may have, than is left now, or the request is over: a thread that was
                given up ends here.
        """
        with self._lock:
            if self._over:
                raise Refused("the request is over", "too_slow_to_prepare")
            if self._held + count > self._allowance.most:
                words = f"a request has at most {self._allowance.most} {self._allowance.what}"
                raise Refused(words, "invalid_request")
            self._allowance.change(count)
            self._held += count

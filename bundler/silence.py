"""Tells a person that a server says nothing, while the program waits for it.

A connection to a machine that is off, and a name that no server resolves, take their time before they fail.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ANSWER_S, BYTES_S = 2.0, 10.0  # a file has its progress beside it, and a slow line its pauses
_AGAIN_S, _TICK_S = 10.0, 1.0


class Silence:
    """Says it in the length of a block, from a thread of its own, as long as nothing is heard.

    Args:
        host: Who is waited for.
        given: How long it is waited for, in words that follow "it gets".
        told: Hears it.
        after_s: How long it may say nothing before that is told, in whole seconds.
        ended: Waits for an event, so many seconds at most; whether it came.
    """

    def __init__(
        self,
        host: str,
        given: str,
        told: Callable[[str], None],
        after_s: float = ANSWER_S,
        ended: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        self._host, self._given, self._told, self._after_s, self._has_ended = host, given, told, after_s, ended
        self._waited_s, self._ended, self._is_apart = 0.0, threading.Event(), False
        self._thread = threading.Thread(target=self._watch, name="silence", daemon=True)

    def __enter__(self) -> Silence:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def heard(self) -> None:
        """Begins the count anew."""
        self._waited_s = 0.0

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Counts nothing for the length of the block: it is not the host that is waited for."""
        self._is_apart = True
        try:
            yield
        finally:
            self._waited_s, self._is_apart = 0.0, False

    def _watch(self) -> None:
        while not self._has_ended(self._ended, _TICK_S):
            if self._is_apart:
                continue
            self._waited_s += _TICK_S
            if (text := notice(self._host, self._given, self._waited_s, self._after_s)) is not None:
                self._told(text)


def notice(host: str, given: str, waited_s: float, after_s: float) -> str | None:
    """Returns what is to be told after so many seconds of silence, first at `after_s`, or None."""
    if waited_s < after_s or (waited_s - after_s) % _AGAIN_S:
        return None
    told = f"{host} has said nothing for {waited_s:.0f} s"
    return told if waited_s > after_s else f"{told}: it gets {given}"


def once(told: Callable[[str], None], within_s: float = 5.0) -> Callable[[str], None]:
    """Returns what hears a line and hands it on, unless the same one came just before: from transfers side by side."""
    last, lock = dict[str, float](), threading.Lock()

    def tell(text: str) -> None:
        with lock:
            now = time.monotonic()
            is_new = now - last.get(text, -within_s) >= within_s
            last[text] = now if is_new else last[text]
        if is_new:
            told(text)

    return tell

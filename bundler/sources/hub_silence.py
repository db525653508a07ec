"""Tells a person that a hub says nothing, while the program waits for it.

A connection to a machine that is off, and a name that no server resolves, take their time before they fail.
"""

from __future__ import annotations

import threading

from bundler.sources.hub_patience import HubPatience

ANSWER_S, BYTES_S = 2.0, 10.0  # a file has its progress beside it, and a slow line its pauses
_AGAIN_S, _TICK_S = 10.0, 1.0


class Silence:
    """Says it in the length of a block, from a thread of its own, as long as nothing is heard.

    Args:
        host: Who is waited for.
        patience: How long, and who is told.
        after_s: How long it may say nothing before that is told, in whole seconds.
    """

    def __init__(self, host: str, patience: HubPatience, after_s: float = ANSWER_S) -> None:
        self._host, self._patience, self._after_s = host, patience, after_s
        self._waited_s, self._ended = 0.0, threading.Event()
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

    def _watch(self) -> None:
        while not self._patience.ended(self._ended, _TICK_S):
            self._waited_s += _TICK_S
            if (text := notice(self._host, self._waited_s, self._after_s, self._patience)) is not None:
                self._patience.told(text)


def notice(host: str, waited_s: float, after_s: float, patience: HubPatience) -> str | None:
    """Returns what is to be told after so many seconds of silence, first at `after_s`, or None."""
    if waited_s < after_s or (waited_s - after_s) % _AGAIN_S:
        return None
    told = f"{host} has said nothing for {waited_s:.0f} s"
    if waited_s > after_s:
        return told
    given = f"{patience.connect_s:.0f} s to connect and {patience.silence_s:.0f} s to answer"
    return f"{told}: it gets {given}, {patience.tries} times in a row"

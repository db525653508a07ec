"""Turns token bytes into text that may be sent: whole characters only, and no beginning of a stop string. Pure."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextOut:
    """Holds back what may still change.

    Args:
        stops: Strings that end the text; they are never sent.

    Attributes:
        stopped: A stop string was met.
        characters: How many came in, whole ones.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.stopped = False
        self.characters = 0

    def feed(self, piece: bytes) -> str:
        """Takes the bytes of a token; returns text that is final. `stopped` is true once a stop string was met."""
        if self.stopped:
            return ""
        whole = self._decoder.decode(piece)
        self.characters += len(whole)
        self._held += whole
        places = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if places:
            self.stopped = True
            text, self._held = self._held[: min(places)], ""
            return text
        keep = max((self._overlap(stop) for stop in self._stops), default=0)
        text, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return text

    def finish(self) -> str:
        """Returns what was held back; an unfinished character becomes U+FFFD."""
        text = "" if self.stopped else self._held + self._decoder.decode(b"", final=True)
        self._held = ""
        return text

    def _overlap(self, stop: str) -> int:
        """Returns how much of the end of the held text begins the stop string."""
        longest = min(len(stop) - 1, len(self._held))
        return next((size for size in range(longest, 0, -1) if self._held.endswith(stop[:size])), 0)

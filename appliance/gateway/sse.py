"""Server-sent events, read and written (WHATWG HTML, 9.2). Pure: bytes in, bytes out.

A read can end anywhere, also inside a character or between CR and LF, so only whole lines are looked at.
"""

from __future__ import annotations

import re

EVENT_BYTES_MAX = 2**20
DONE = b"[DONE]"
KEEPALIVE = b": keepalive\n\n"

_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventTooLong(Exception):
    """An event is longer than EVENT_BYTES_MAX."""


class EventReader:
    """Cuts a byte stream into the data of its events; comments and other fields are dropped."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size_bytes = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Returns the data of the events that are complete now.

        Raises:
            EventTooLong: The event that is being read is over the limit.
        """
        events: list[bytes] = []
        *lines, self._rest = self._lines(self._rest + data)
        for line in lines:
            self._line(line, events)
        if len(self._rest) + self._size_bytes > EVENT_BYTES_MAX:
            raise EventTooLong
        return events

    @staticmethod
    def _lines(data: bytes) -> list[bytes]:
        # A CR at the very end may be half of a CRLF: it waits for the next read.
        held = b"\r" if data.endswith(b"\r") else b""
        lines = _LINE_END.split(data[: len(data) - len(held)])
        lines[-1] += held
        return lines

    def _line(self, line: bytes, events: list[bytes]) -> None:
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
            self._data, self._size_bytes = [], 0
        elif line.startswith(b"data:"):
            value = line[5:].removeprefix(b" ")
            self._data.append(value)
            self._size_bytes += len(value) + 1  # its line break: lines without a character take memory, too


def event(data: bytes) -> bytes:
    """Returns one event; `data` holds no line break (JSON may, between its values: `commit` writes it anew)."""
    return b"data: " + data + b"\n\n"

"""What supervisor and serving process say to each other: JSON objects, one a line, over a pair of Unix sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress
from typing import Any

LINE_BYTES = 2**20
# Of what is said here. Supervisor and process may be of different programs: raised where one would misread the other.
PROTOCOL = 1


class Channel:
    """One end; both ends are of this software, so a line that does not parse is a fault and raises."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def over(cls, end: socket.socket) -> Channel:
        return cls(*await asyncio.open_unix_connection(sock=end, limit=LINE_BYTES))

    def tell(self, **message: Any) -> None:
        """Sends a message; where the other side has gone, that shows in `hear`."""
        with suppress(OSError):
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def hear(self) -> dict[str, Any] | None:
        """Returns the next message, or None at the end."""
        try:
            line = await self._reader.readline()
        except OSError:
            return None
        if not line.endswith(b"\n"):
            return None
        value = json.loads(line)
        if not isinstance(value, dict):
            raise TypeError(f"a message is no object: {line[:80]!r}")
        return value

    async def close(self) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

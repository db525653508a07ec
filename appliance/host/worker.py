"""One serving process as the supervisor sees it: started, told what to serve, listened to, ended."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from appliance.host.channel import PROTOCOL, Channel
from appliance.store.programs import Programs

# A loop that opens a version may be busy for a while; one that says nothing for so long hangs.
SILENT_S = 30.0
_COMMAND = ("-I", "-m", "appliance.host.serving")


class Refused(Exception):
    """The process does not serve the version that it was told to, and goes on; `short`: for want of memory."""

    def __init__(self, reason: str, *, short: bool = False) -> None:
        super().__init__(reason)
        self.short = short


class Gone(Exception):
    """The process has ended without a word, or with the word that it cannot serve.

    Attributes:
        told: What it said: `failed`, `hint`, `code` (an exit code of the table), `short`; empty where it said nothing.
    """

    def __init__(self, reason: str, told: Mapping[str, Any]) -> None:
        super().__init__(reason)
        self.told = told


class Worker:
    """A serving process that runs.

    Attributes:
        version: What it serves.
        software: The program's version that it runs; "" is the supervisor's own.
        greeting: What it told when it began to serve.
        began_s: When it did, monotonic.
    """

    def __init__(self, process: asyncio.subprocess.Process, channel: Channel, version: int, software: str) -> None:
        self._process, self._channel = process, channel
        self.version, self.software = version, software
        self.greeting: Mapping[str, Any] = {}
        self.began_s = 0.0
        self._heard_s = time.monotonic()
        self._told: dict[str, Any] = {}
        self._replies: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, python: Path, listener: socket.socket, order: Mapping[str, Any], software: str = "") -> Worker:
        """Starts a process and gives it its order; `serving` tells how it goes."""
        mine, theirs = socket.socketpair()
        with theirs:
            fds = (listener.fileno(), theirs.fileno())
            words: Sequence[str] = (*_COMMAND, *map(str, fds))
            process = await asyncio.create_subprocess_exec(
                str(python), *words, pass_fds=fds, stdin=asyncio.subprocess.DEVNULL
            )
        channel = await Channel.over(mine)
        channel.tell(**order)
        return cls(process, channel, int(order["version"]), software)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.returncode is not None

    @property
    def how(self) -> str:
        """How it ended, in words."""
        return "" if self._process.returncode is None else _how(self._process.returncode)

    @property
    def hangs(self) -> bool:
        """Whether it has shown no life for SILENT_S."""
        return not self.ended and time.monotonic() - self._heard_s > SILENT_S

    async def wait(self) -> int:
        return await self._process.wait()

    async def serving(self) -> None:
        """Waits until it serves what it was told to.

        Raises:
            Refused: It does not, and goes on with what it has.
            Gone: It has ended.
        """
        while True:
            reply = await self._reply()
            if "refused" in reply:
                raise Refused(str(reply.get("reason", "")), short=bool(reply.get("short")))
            if "serving" in reply:
                self.version = int(reply["serving"])
                self.greeting = self.greeting or reply
                self.began_s = self.began_s or time.monotonic()
                return

    async def switch(self, version: int, *, proves: bool) -> None:
        """Lets it move on to another version, which first has to prove itself or did so before; raises as `serving`."""
        self._channel.tell(switch=version, proves=proves)
        await self.serving()

    async def release(self) -> None:
        """Lets it end its models, so that another process may have the memory; raises Gone."""
        self._channel.tell(release=True)
        await self._reply()

    def take_back(self) -> None:
        """Lets it start its models again."""
        self._channel.tell(take_back=True)

    def leave(self, stay_s: float) -> None:
        """Lets it stop accepting and end when its clients have gone."""
        self._channel.tell(leave=stay_s)

    async def end(self, limit_s: float) -> None:
        """Ends it: what it has accepted is finished within `limit_s`."""
        await self._channel.close()
        try:
            await asyncio.wait_for(self._process.wait(), limit_s)
        except TimeoutError:
            self.kill()
            await self._process.wait()
        await self._listening

    def kill(self) -> None:
        """SIGKILL: a stopped process obeys it too."""
        with suppress(ProcessLookupError):
            if not self.ended:
                self._process.kill()

    async def _reply(self) -> dict[str, Any]:
        while True:
            try:
                reply = await asyncio.wait_for(self._replies.get(), SILENT_S)
            except TimeoutError:
                if not self.hangs:
                    continue
                self.kill()
                reply = None
            if reply is not None:
                return reply
            code = await self._process.wait()
            raise Gone(str(self._told.get("failed") or _how(code)), self._told)

    async def _listen(self) -> None:
        while (message := await self._channel.hear()) is not None:
            self._heard_s = time.monotonic()
            if "failed" in message:
                self._told = message
            elif "alive" not in message:
                self._replies.put_nowait(message)
        self._replies.put_nowait(None)


def order(
    state: Path,
    version: int,
    *,
    proves: bool,
    host: str,
    names: Sequence[str],
    dense: str,
    seal: str,
    tls: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns what a serving process is told at its start."""
    return {
        "protocol": PROTOCOL,
        "state": str(state.absolute()),
        "version": version,
        "proves": proves,
        "host": host,
        "names": list(names),
        "dense": dense,
        "seal": seal,
        "tls": tls,
    }


def python_of(software: str, folder: Path) -> Path:
    """Returns the interpreter of a program's version; of the supervisor's own where none is named.

    Raises:
        NotReady: That program is not here, or not whole.
    """
    return Programs(folder).python(software) if software else Path(sys.executable)


def _how(code: int) -> str:
    return f"it was killed by signal {-code}" if code < 0 else f"it ended with exit code {code}"

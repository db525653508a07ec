"""One child of the engine: its process, its link and shared memory, and the thread that feeds it."""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from appliance.engine import pulse, transfer
from appliance.engine.ahead import BUFFER_BYTES
from appliance.engine.reading import ReadAt
from bundler.format.errors import LifeboatError

COMMAND = (sys.executable, "-I", "-m", "appliance.engine.child")
_SPINS = "1000"
_ENVIRONMENT = ("GOMP_SPINCOUNT", "PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "HOME", "LANG")


class Child:
    """A child that runs; `close` it whatever happens.

    Attributes:
        pid: Its process id.
        reads: How often it read the model.
        failure: The error that reading the model met, or None.
    """

    def __init__(self, process: asyncio.subprocess.Process, link: socket.socket, memory: int, signs: mmap.mmap) -> None:
        self._process, self._link, self._memory, self._signs = process, link, memory, signs
        self._fed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.pid = process.pid
        self.reads = 0
        self.failure: LifeboatError | OSError | None = None

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        order: dict[str, Any],
        reader: ReadAt,
        on_status: Callable[[dict[str, Any]], None],
    ) -> Child:
        """Starts a child and feeds it; `on_status` is called in the event loop."""
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        memory = transfer.make_buffer()
        try:
            with theirs:
                process = await _spawn(command, theirs.fileno(), memory)
            signs = mmap.mmap(memory, BUFFER_BYTES + pulse.PAGE_BYTES)
        except BaseException:
            mine.close()
            os.close(memory)
            raise
        child = cls(process, mine, memory, signs)
        child._feed(order, reader, on_status)
        return child

    def signs(self) -> pulse.Signs:
        return pulse.look(self._signs, BUFFER_BYTES)

    async def wait(self) -> int:
        return await self._process.wait()

    def signal(self, number: int) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL: a stopped process obeys it too."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def end(self, stop_s: float) -> None:
        """Tells the child to end now, and makes it."""
        self.signal(transfer.STOP)
        try:
            await asyncio.wait_for(self._process.wait(), stop_s)
        except TimeoutError:
            self.kill()
            await self._process.wait()

    async def close(self) -> None:
        """Lets go of everything; the process has ended."""
        with suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)
        await self._fed
        self._link.close()
        self._signs.close()
        os.close(self._memory)

    def _feed(self, order: dict[str, Any], reader: ReadAt, on_status: Callable[[dict[str, Any]], None]) -> None:
        loop = asyncio.get_running_loop()

        def count() -> None:
            self.reads += 1

        def told(status: dict[str, Any]) -> None:
            loop.call_soon_threadsafe(on_status, status)

        def feed() -> None:
            try:
                self.failure = transfer.serve_reads(self._link, self._memory, reader, told, count)
            finally:
                with suppress(OSError):  # where reading broke, the child must not wait for an answer
                    self._link.shutdown(socket.SHUT_RDWR)
                loop.call_soon_threadsafe(self._fed.set_result, None)

        with suppress(OSError):  # it ended at once: its exit code says why
            self._link.send(json.dumps(order).encode())
        # A thread of its own: it lives as long as the child, and must not take a place in the shared pool.
        threading.Thread(target=feed, name="feed", daemon=True).start()


async def _spawn(command: Sequence[str], link: int, memory: int) -> asyncio.subprocess.Process:
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # ggml would start a debugger on its own process after a failed assertion, and print what is in memory.
    environment["GGML_NO_BACKTRACE"] = "1"
    # OpenMP's threads would spin at each of the hundreds of barriers of a token, and whoever else needs the core
    # keeps them all waiting. Measured beside two busy processes on two cores: 27 tokens a second in place of 0.3
    # to 12; and as many as ever where nothing else runs.
    environment.setdefault("GOMP_SPINCOUNT", _SPINS)
    os.set_inheritable(memory, True)  # noqa: FBT003
    return await asyncio.create_subprocess_exec(
        *command,
        *map(str, (link, memory, os.getpid())),
        env=environment,
        pass_fds=(link, memory),
        stdin=asyncio.subprocess.DEVNULL,
    )

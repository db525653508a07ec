"""uvicorn that leaves a shared listening socket without losing a request that was accepted.

uvicorn's own shutdown closes connections that were accepted and not read yet, and idle ones that a client is about to
use again (Kludex/uvicorn#2757). Here a server that leaves stops accepting, answers whatever still comes on the
connections it has, says `Connection: close` with each answer, and ends when the last client is gone.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn

_CLOSE = (b"connection", b"close")
# A connection that the kernel has handed over becomes one of uvicorn's some turns of the loop later, and with TLS only
# after its handshake.
_SETTLE_S, _HANDSHAKE_S = 0.2, 3.0
_LOOK_S = 0.05


class Server(uvicorn.Server):
    """Serves until told to leave or to stop.

    `leave` is for a socket that another process goes on serving: idle connections stay until their client or the
    keep-alive limit ends them. `stop` is for good: idle connections are closed at once.

    Args:
        config: Of uvicorn.
        finish: Awaited by `stop` and after the first signal, while connections are still taken; a second signal does
            not wait for it.
    """

    def __init__(self, config: uvicorn.Config, finish: Callable[[], Awaitable[None]] | None = None) -> None:
        super().__init__(config)
        self._finish = finish
        self._finishing: asyncio.Task[None] | None = None
        self._stay_s = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._finishing is not None or not self.started:
            super().handle_exit(sig, frame)
        else:
            self.stop()

    def stop(self) -> None:
        """Stops for good, once what is inside is finished."""
        if self._finishing is None:
            self._finishing = asyncio.create_task(self._finished())

    async def _finished(self) -> None:
        try:
            if self._finish is not None:
                await self._finish()
        finally:
            self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ends by returning: uvicorn's own handlers raise the signal again, in the middle of our shutdown.

        What the process ignores stays ignored: a Ctrl-C reaches every process of its terminal, and where a supervisor
        says when to stop, the signal would be the second word, which does not wait.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        heard = [one for one in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(one) is not signal.SIG_IGN]
        for number in heard:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in heard:
                loop.remove_signal_handler(number)

    def leave(self, stay_s: float) -> None:
        """Stops accepting; connections may stay for `stay_s` at most."""
        self._stay_s = stay_s
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._stop_accepting(sockets or [])
        self._announce()
        if self._stay_s:
            await self._wait_for_clients()
        await super().shutdown([])

    async def _stop_accepting(self, sockets: list[socket.socket]) -> None:
        """Stops listening first and closes later: asyncio drops what it is accepting when its server closes."""
        loop = asyncio.get_running_loop()
        for listener in sockets:
            loop.remove_reader(listener.fileno())
        await asyncio.sleep(_SETTLE_S)
        for server in self.servers:
            server.close()
        for listener in sockets:
            listener.close()

    def _announce(self) -> None:
        """Lets each answer whose head is not sent yet say that it is the last one of its connection."""
        self.server_state.default_headers = [*self.server_state.default_headers, _CLOSE]
        for connection in self._connections():
            if connection.cycle is not None and not connection.cycle.response_started:
                connection.cycle.default_headers = self.server_state.default_headers

    async def _wait_for_clients(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while loop.time() < began + self._stay_s:
            if not self._connections() and loop.time() > began + _HANDSHAKE_S:
                return
            await asyncio.sleep(_LOOK_S)

    def _connections(self) -> list[Any]:
        return list(self.server_state.connections)

"""Owns the listening socket; starts, watches, changes and ends the processes that serve on it.

It opens no seal and parses nothing foreign. While no process serves, clients wait in the socket's queue. A version
that proves itself becomes the serving one by one rename; one that does not, or that keeps dying, gives way to the one
before.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.edge.limits import KEEP_ALIVE_S, SHUTDOWN_S
from appliance.host import boots
from appliance.host.listen import Listen
from appliance.host.notify import notify
from appliance.host.worker import Gone, Refused, Worker, order, python_of
from appliance.store import current
from appliance.store.current import GivenUp
from appliance.store.layout import StateLayout
from appliance.store.secrets import stamp
from bundler.format.errors import LifeboatError, NotReady
from bundler.terminal import Terminal, disk_error, error_of, exit_code

_LOOK_S, _DISK_S = 0.5, 30.0
# A process that leaves may stay as long as its longest request, and as an idle connection may.
_STAY_S = 300.0 + KEEP_ALIVE_S
_END_S = SHUTDOWN_S + 20.0
_LIFE_S = 5.0


class Supervisor:
    """Keeps one state served.

    Args:
        layout: The state.
        listener: The listening socket.
        listen: How it was made; the processes are told.
        terminal: Where to speak.
        on_serving: Called once, with the first process that serves.
        programs: Where the program's versions are installed.
    """

    def __init__(
        self,
        layout: StateLayout,
        listener: socket.socket,
        listen: Listen,
        terminal: Terminal,
        on_serving: Callable[[Worker], None],
        programs: Path,
    ) -> None:
        self._layout, self._listener, self._listen, self._terminal = layout, listener, listen, terminal
        self._on_serving, self._programs = on_serving, programs
        self._worker: Worker | None = None
        self._leaving: dict[Worker, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()
        self._greeted = False
        self._secrets = (0, 0)
        self._unwritten = 0  # starts that the disk did not take
        self._fresh: int | None = None  # the version that took over last, until it has served for a while

    async def run(self) -> None:
        """Serves until SIGINT or SIGTERM.

        Raises:
            LifeboatError: The only version there is cannot be served; what its process said.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        living = asyncio.create_task(_show_life())
        try:
            while not self._stopping.is_set():
                await self._keep_serving()
        finally:
            living.cancel()
            notify("STOPPING=1")
            await self._end()

    def _stop(self) -> None:
        """Stops; at the second time without waiting for what is being answered."""
        if self._stopping.is_set():
            for worker in self._workers():
                worker.kill()
        self._stopping.set()

    async def _keep_serving(self) -> None:
        """Starts the current version, and returns when the process that serves has ended, or none should."""
        number = self._chosen()
        starts = self._counted(number)
        self._secrets = stamp(self._layout.keys)
        await self._rest(boots.wait_s(starts - 1))
        try:
            self._worker = await self._start(number, proves=False)
        except Gone as gone:
            self._failed(number, gone)
            return
        except (LifeboatError, OSError) as error:  # its record on this disk cannot be read
            known = disk_error(error) if isinstance(error, OSError) else error
            told = {"failed": known.fact, "hint": known.hint, "code": exit_code(known)}
            self._failed(number, Gone(known.fact, told))
            return
        self._serves(self._worker)
        await self._watch()

    def _counted(self, number: int) -> int:
        """Counts a start: in memory alone where the disk is full or fails, since serving comes first."""
        try:
            return current.note_start(self._layout, number)
        except OSError as error:
            self._unwritten += 1
            self._terminal.warn(f"the start of version {number} is not counted: {disk_error(error)}")
            return self._unwritten

    def _chosen(self) -> int:
        """Returns the version to start: the current one, or the one before where it was given up or keeps dying."""
        number = current.current_number(self._layout)
        if number is None:
            raise NotReady("nothing is installed on this box", "run `lifeboat-appliance install MEDIUM`")
        before = current.previous(self._layout, number)
        if before is None:
            return number
        if current.given_up(self._layout, number) is not None:  # the power went between the word and the deed
            current.activate(self._layout, before)
            return before
        if boots.gives_up(current.read_boots(self._layout), number):
            return self._roll_back(f"it ended {boots.MOST_STARTS} times in a row within {boots.HEALTHY_S:.0f} s")
        return number

    def _failed(self, number: int, gone: Gone) -> None:
        """Goes back where a version says itself that it cannot be served; raises that where there is no other."""
        self._terminal.warn(f"version {number} does not serve: {gone}")
        if not gone.told:
            return  # it died: it is started again, until it had its chances
        if current.previous(self._layout, number) is None:
            raise error_of(int(gone.told.get("code", 0)), str(gone), str(gone.told.get("hint", "")))
        self._roll_back(str(gone))

    def _roll_back(self, reason: str) -> int:
        number = current.roll_back(self._layout, GivenUp("rolled back", reason, _now()))
        self._terminal.alarm(f"rolled back to version {number}: {reason}")
        return number

    async def _start(self, number: int, *, proves: bool) -> Worker:
        software = current.software_of(self._layout, number)
        listen = self._listen
        words = order(
            self._layout.root,
            number,
            proves=proves,
            host=listen.host,
            names=listen.names,
            dense=listen.dense,
            seal=listen.seal,
            tls=None if listen.tls is None else listen.tls.told(),
        )
        worker = await Worker.start(python_of(software, self._programs), self._listener, words, software)
        try:
            await worker.serving()
        except Refused as refused:  # only a process that serves already goes on
            await worker.end(_END_S)
            raise Gone(str(refused), {}) from refused
        except BaseException:
            worker.kill()
            await worker.end(_END_S)
            raise
        return worker

    def _serves(self, worker: Worker) -> None:
        self._terminal.note(f"serving version {worker.version}")
        notify(f"READY=1\nSTATUS=serving version {worker.version}")
        if not self._greeted:
            self._greeted = True
            self._on_serving(worker)

    async def _watch(self) -> None:
        while (worker := self._worker) is not None and not self._stopping.is_set():
            if worker.ended:
                await worker.end(_END_S)
                self._worker = None
                self._ended(worker)
                return
            if worker.hangs:
                self._terminal.warn(f"the serving process of version {worker.version} shows no life: killed")
                worker.kill()
            elif time.monotonic() - worker.began_s > boots.HEALTHY_S:
                self._fresh = None
                with suppress(OSError):  # tried again at the next look; a full disk must not end the serving
                    current.note_healthy(self._layout, worker.version)
            try:
                await self._unless_stopped(self._follow(worker))
            except OSError as error:  # a disk that takes no note of a change must not end what serves
                self._terminal.warn(f"nothing is changed: {disk_error(error).fact}")
                await self._rest(_DISK_S)
            await self._rest(_LOOK_S)

    def _ended(self, worker: Worker) -> None:
        """Goes back at once where a version that has just taken over ends: the one before it was well until then."""
        lived_s = time.monotonic() - worker.began_s
        told = f"the serving process of version {worker.version} ended: {worker.how}"
        new = self._fresh == worker.version == current.current_number(self._layout)
        self._fresh = None
        if new and lived_s < boots.HEALTHY_S and current.previous(self._layout, worker.version) is not None:
            self._terminal.warn(told)
            self._roll_back(f"{worker.how}, {lived_s:.0f} s after it took over")
        else:
            self._terminal.warn(f"{told}; it is started again")

    async def _follow(self, worker: Worker) -> None:
        """Moves on to a version that was proposed, or that a person made the current one."""
        waiting, number = current.waiting_number(self._layout), current.current_number(self._layout)
        if current.attempted(self._layout) is not None:
            self._after_attempt(waiting)
        elif waiting is not None and current.given_up(self._layout, waiting) is None:
            await self._change(worker, waiting)
        elif number not in (worker.version, None) and current.given_up(self._layout, int(number or 0)) is None:
            await self._change(worker, int(number or 0))
        else:
            await self._renew(worker)

    def _after_attempt(self, waiting: int | None) -> None:
        """Refuses a version whose proof took the whole box down: what served before was innocent."""
        number = current.attempted(self._layout)
        if waiting is not None and waiting == number:
            reason = (
                "the box went down while this version proved itself; install the medium again if that was by chance"
            )
            self._terminal.warn(f"version {number} is refused: {reason}")
            current.give_up(self._layout, number, GivenUp("refused", reason, _now()))
        current.end_attempt(self._layout)

    async def _renew(self, worker: Worker) -> None:
        """Opens the version anew where the box's secrets have changed: its models stay, and so do its clients."""
        now = stamp(self._layout.keys)
        if now == self._secrets:
            return
        self._secrets = now
        try:
            await worker.switch(worker.version, proves=False)
        except (Refused, Gone) as error:
            self._terminal.warn(f"the changed secrets are not used: {error}")

    async def _change(self, worker: Worker, number: int) -> None:
        """Has a version prove itself and lets it take over; where it does not, what serves goes on.

        One that a person goes back to did so long ago.
        """
        proposed, self._fresh = current.waiting_number(self._layout) == number, None
        try:
            taken = await self._taken(worker, number, proves=proposed)
        except (Refused, Gone, OSError, LifeboatError) as error:
            self._terminal.warn(f"version {number} is refused: {error}")
            current.give_up(self._layout, number, GivenUp("refused", str(error), _now()))
            return
        finally:  # also where the box is told to stop: that is no fault of the version
            current.end_attempt(self._layout)
        if current.waiting_number(self._layout) == number:
            current.promote(self._layout)
        self._fresh = number if proposed else None
        self._counted(number)
        taken.began_s = time.monotonic()
        self._worker = taken
        self._serves(taken)
        if taken is not worker:
            self._let_leave(worker)

    async def _taken(self, worker: Worker, number: int, *, proves: bool) -> Worker:
        """Returns the process that serves a version, which is on record while it is on trial."""
        if proves:
            current.note_attempt(self._layout, number)
        if current.software_of(self._layout, number) != worker.software:
            try:
                return await self._replaced(worker, number)
            except Gone:
                if proves:
                    raise
                return await self._start(number, proves=False)  # whoever goes back wants to leave what serves
        await worker.switch(number, proves=proves)
        return worker

    async def _replaced(self, worker: Worker, number: int) -> Worker:
        """Starts a version's own program beside the one that serves, which ends its models where both do not fit."""
        try:
            return await self._start(number, proves=True)
        except Gone as gone:
            if not gone.told.get("short"):
                raise
        await worker.release()
        try:
            return await self._start(number, proves=True)
        except BaseException:
            worker.take_back()
            raise

    def _let_leave(self, worker: Worker) -> None:
        async def leave() -> None:
            worker.leave(_STAY_S)
            with suppress(TimeoutError):
                await asyncio.wait_for(worker.wait(), _STAY_S + _END_S)
            await worker.end(_END_S)
            del self._leaving[worker]

        self._leaving[worker] = asyncio.create_task(leave())

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        """Does a work to its end, or until the supervisor is told to stop."""
        doing, stopping = asyncio.create_task(work), asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            if not doing.done():
                doing.cancel()
            with suppress(asyncio.CancelledError):
                await doing

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _end(self) -> None:
        for task in self._leaving.values():
            task.cancel()
        await asyncio.gather(*(worker.end(_END_S) for worker in self._workers()))

    def _workers(self) -> list[Worker]:
        return [*self._leaving, *([self._worker] if self._worker is not None else [])]


async def _show_life() -> None:
    """Feeds the service manager's watchdog as long as this loop turns."""
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(_LIFE_S)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

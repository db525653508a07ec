"""The serving process: opens a version, answers on the supervisor's socket, and moves on to the next when told.

Within one process only content changes; other software is another process (`appliance.host.supervisor`). The old
version's application finishes what it has accepted while the new one takes what comes.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import traceback
from collections.abc import Collection, Coroutine
from pathlib import Path
from typing import Any

from appliance.answer.chroma_index import chroma
from appliance.app import serve
from appliance.edge.limits import SHUTDOWN_S
from appliance.edge.server import Server
from appliance.edge.tls import Certificate
from appliance.edge.tls_files import Given
from appliance.engine.memory import first_to_go, no_longer_first
from appliance.engine.parent import Engine
from appliance.host.box import Box
from appliance.host.certificates import Follower, Own, following, source_of
from appliance.host.channel import PROTOCOL, Channel
from appliance.host.gate import (
    FINISH_S,
    NOT_TESTED,
    brought,
    limit_ms_of,
    memory_line,
    proved,
    shared_line,
    start_again,
)
from appliance.host.leaving import Leaving
from appliance.host.listen import CHROMA, Listen
from appliance.host.loaded import Loaded, Loader, settle
from appliance.host.nightly import every_night
from appliance.host.outlook import Outlook, keep_told
from appliance.host.serving_settings import settings_of
from appliance.host.shelf import Shelf
from appliance.host.trial import NotProved, Trial, failed_lines
from appliance.settings import Settings
from appliance.store import current, versions
from appliance.store.layout import StateLayout
from appliance.store.memory import keep_in_memory
from appliance.store.seal import Seal
from bundler.files import scratch_folder
from bundler.format.errors import LifeboatError, NotReady
from bundler.knowledge.dense import Exact
from bundler.terminal import exit_code

ALIVE_S = 2.0


class Serving:
    """The ASGI application that outlives versions.

    Args:
        loader: Opens versions.
        channel: To the supervisor.
        first: The version to begin with.
        greeting: What the supervisor is told once it serves.
        proves: Whether the first one must show that it answers before it may; after a reboot it did so long ago.

    Attributes:
        failure: Why the first version did not open, or None.
    """

    def __init__(self, loader: Loader, channel: Channel, first: int, greeting: dict[str, Any], *, proves: bool) -> None:
        self._loader, self._channel, self._first, self._proves = loader, channel, first, proves
        self._greeting = greeting
        self.failure: Exception | None = None
        self._current: Loaded | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining: set[asyncio.Task[None]] = set()
        self._server: Server | None = None

    def runs_on(self, server: Server) -> None:
        self._server = server

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif self._current is not None:
            await self._current.answer(scope, receive, send)

    def leave(self) -> None:
        """Lets those go who only watch."""
        if self._current is not None:
            self._current.leave()

    async def cut(self) -> None:
        """Ends what the engines still make."""
        await self._loader.shelf.stop()

    async def _lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        self._spawn(self._show_life())
        await self._loader.quotas.keep()
        self._spawn(self._loader.quotas.follow())
        # While it proves itself beside what serves, a lack of memory is to end it, and not that.
        stood = first_to_go() if self._proves else None
        try:
            await self._switch(self._first, proves=self._proves)
        except Exception as error:  # noqa: BLE001 - kept whole for `main`, where uvicorn would lose it
            self.failure = error
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        if stood is not None:
            no_longer_first(stood)
        self._spawn(self._obey())
        self._spawn(every_night(lambda: self._current, self._loader.layout, self._loader.secrets.site))
        self._spawn(keep_told(self._outlook, self._loader.layout))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # Not cancelled: whoever leaves in the middle leaves an engine behind.
        await self._loader.shelf.stop()
        open_versions = [] if self._current is None else [self._current.close()]
        await asyncio.gather(*self._draining, *open_versions)
        await self._loader.quotas.keep()
        await send({"type": "lifespan.shutdown.complete"})

    def _outlook(self) -> Outlook | None:
        return None if self._current is None else self._current.outlook()

    async def _obey(self) -> None:
        """Does what the supervisor says; without one there is nobody to hold the socket, so the end of it is a stop."""
        self._channel.tell(serving=self._first, **self._greeting)
        while (message := await self._channel.hear()) is not None:
            if "switch" in message:
                await self._try(int(message["switch"]), proves=bool(message.get("proves", True)))
            elif "release" in message or "take_back" in message:
                await self._hold_models(held="take_back" in message)
            elif "leave" in message and self._server is not None:
                self._server.leave(float(message["leave"]))
        if self._server is not None:
            self._server.stop()

    async def _try(self, number: int, *, proves: bool) -> None:
        """Switches to a version and says so, or says why not and stays."""
        try:
            await self._switch(number, proves=proves)
        except (LifeboatError, NotProved, OSError, MemoryError) as error:
            reason = error.fact if isinstance(error, LifeboatError) else str(error)
            short = isinstance(error, NotProved) and error.short
            self._channel.tell(refused=number, reason=reason or type(error).__name__, short=short)
        except Exception as error:  # noqa: BLE001 - a supervisor that hears no answer waits for one for ever
            # The places alone: its words may quote content, and what is said here is kept on the disk.
            traceback.print_tb(error.__traceback__)
            self._channel.tell(refused=number, reason=f"a fault of the program: {type(error).__name__}", short=False)
        else:
            self._channel.tell(serving=number)

    async def _switch(self, number: int, *, proves: bool) -> None:
        """Opens a version beside the one that serves, has it proved, then lets it take what comes."""
        old, ended = self._current, list[Engine]()
        try:
            trial = await self._tried(number, ended) if proves else None
            loaded = await self._loader.open(number)
            try:
                await self._warm(loaded, trial, ended)
                loaded.own_engines()
            except BaseException:
                await loaded.close()
                raise
        except BaseException:
            start_again(ended)
            raise
        self._current = loaded
        settle()
        if old is not None:
            draining = asyncio.create_task(old.drain())
            self._draining.add(draining)
            draining.add_done_callback(self._draining.discard)

    async def _tried(self, number: int, ended: list[Engine]) -> Trial:
        """Tries a version's knowledge; where memory is short, without the models, while the other rungs answer."""
        try:
            trial = await self._loader.tried(number)
        except NotProved as failure:
            running = (
                [] if self._current is None else [one for one in self._current.box.engines.values() if not one.over]
            )
            if not failure.short or not running:
                raise
            ended += running
            await asyncio.gather(*(engine.drain(FINISH_S) for engine in running))
            trial = await self._loader.tried(number)
        if not trial.passed:
            raise NotProved("it fails its own self-test: " + "; ".join(failed_lines(trial.lines)))
        return trial

    async def _warm(self, loaded: Loaded, trial: Trial | None, ended: list[Engine]) -> None:
        """Has the models of a version ready; what a version says that has to prove itself is recorded with it."""
        old = self._current
        serving = set() if old is None else set(old.box.engines.values())
        coming = set(loaded.box.engines.values())
        start_again(engine for engine in ended if engine in coming)
        if trial is not None:
            await self._prove(loaded, trial, sorted(coming & serving, key=_name), coming - serving, serving - coming)
        elif old is None:
            loaded.box.start_soon()
        else:
            await brought(coming - serving, serving - coming)

    async def _prove(
        self,
        loaded: Loaded,
        trial: Trial,
        shared: Collection[Engine],
        fresh: Collection[Engine],
        leaving: Collection[Engine],
    ) -> None:
        """Lets the models of a version answer that do not serve yet, and records what all of it said."""
        service = loaded.box.service
        memory_line(service, trial.held_bytes, ())  # what is too large already needs no model
        lines = [*trial.lines, *[await shared_line(engine) for engine in shared]]
        lines += await proved(fresh, leaving, limit_ms_of(service))
        lines.append(memory_line(service, trial.held_bytes, loaded.box.engines.values()))
        proof = current.Proof(tuple(lines), tested=not any(NOT_TESTED in line for line in lines))
        await asyncio.to_thread(current.note_proof, self._loader.layout, loaded.version.number, proof)

    async def _hold_models(self, *, held: bool) -> None:
        """Ends the models for a while, or starts them again; the other rungs answer."""
        engines = self._current.box.engines.values() if self._current is not None else ()
        for engine in engines:
            if held and engine.over:
                engine.start_soon()
        if not held:
            await asyncio.gather(*(engine.drain(FINISH_S) for engine in engines))
            self._channel.tell(released=True)

    async def _show_life(self) -> None:
        while True:
            self._channel.tell(alive=True)
            await asyncio.sleep(ALIVE_S)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _name(engine: Engine) -> str:
    return engine.spec.name


def main() -> None:
    """`python -m appliance.host.serving LISTENER CHANNEL`: two descriptors."""
    _restrict()
    listener = socket.socket(fileno=int(sys.argv[1]))
    sys.exit(asyncio.run(_serve(listener, socket.socket(fileno=int(sys.argv[2])))))


def _restrict() -> None:
    """Memory stays memory; signals of a terminal or a service manager reach the supervisor, which says what to do."""
    keep_in_memory()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


async def _serve(listener: socket.socket, end: socket.socket) -> int:
    channel = await Channel.over(end)
    order = await channel.hear()
    if order is None:
        return 0
    try:
        await _serve_version(listener, channel, order)
    except LifeboatError as error:
        channel.tell(failed=error.fact, hint=error.hint, code=exit_code(error))
    except NotProved as error:
        channel.tell(failed=str(error), hint="", code=0, short=error.short)
    finally:
        await channel.close()
    return 0


async def _serve_version(listener: socket.socket, channel: Channel, order: dict[str, Any]) -> None:
    if order.get("protocol") != PROTOCOL:
        raise NotReady(
            f"the supervisor speaks protocol {order.get('protocol')} to its processes, this program {PROTOCOL}",
            "stop the service, run the install again, and start the service: it is then supervised by this program",
        )
    layout = StateLayout(Path(order["state"]))
    given = Given.heard(order["tls"]) if order.get("tls") else None
    listen = Listen(order["host"], listener.getsockname()[1], tuple(order["names"]), None, order["dense"], tls=given)
    seal = Seal(layout.keys, key=str(order["seal"]))
    secrets = seal.open()
    number = int(order["version"])
    source = source_of(seal, secrets.site, listen, versions.read_version(layout, secrets, number))
    certificates = None if source is None else Follower(source)
    ca_pem = source.authority.cert_pem if isinstance(source, Own) else b""

    def settings(box: Box) -> Settings:
        hosts = (*listen.reached_by(), *box.hosts)
        return settings_of(box.service, hosts, ca_pem, layout, seal)

    with scratch_folder(layout.run, "s-") as run:
        loader = Loader(layout, secrets, settings, chroma if listen.dense == CHROMA else Exact, Shelf(run))
        told = Certificate(ca_pem, b"").fingerprint if ca_pem else ""
        greeting = {"ca_sha256": told, "tls": certificates is not None, "tls_files": given is not None}
        serving = Serving(loader, channel, number, greeting, proves=bool(order["proves"]))
        leaving = Leaving(serving)

        async def finish() -> None:
            serving.leave()
            await leaving.finish(SHUTDOWN_S, serving.cut)

        try:
            async with following(certificates) as shown:
                await serve(leaving, listener, tls=shown, on_ready=serving.runs_on, finish=finish)
        except SystemExit:  # how uvicorn ends where an application does not start: the reason is ours to tell
            if serving.failure is None:
                raise
        if serving.failure is not None:
            raise serving.failure


if __name__ == "__main__":
    main()

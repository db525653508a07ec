"""`serve`: opens the installed version, listens, and moves on to the next version when one is installed.

The application of the old version finishes what it has accepted while the new one takes what comes.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from litestar import Litestar

from appliance.answer.chroma_index import chroma
from appliance.app import create_app, serve
from appliance.edge.limits import SHUTDOWN_S
from appliance.edge.tls import Certificate, make_leaf
from appliance.edge.tokens import TokenStore
from appliance.engine.fitting import Room
from appliance.host.addresses import own_hosts
from appliance.host.authority import box_authority
from appliance.host.box import Box, make_box, site_hosts
from appliance.host.leaving import Leaving
from appliance.settings import Settings, read_keys
from appliance.store import versions
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal, SiteSecrets
from bundler.files import write_atomic
from bundler.format.bundle import Bundle
from bundler.format.errors import Busy, LifeboatError
from bundler.knowledge.dense import DenseFactory, Exact
from bundler.terminal import Terminal

_LOOK_S = 2.0
EXACT, CHROMA = "exact", "chroma"
_ANY = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Listen:
    """Where to listen, by which further names clients reach the box, where to write the URL, and how to search."""

    host: str
    port: int
    names: tuple[str, ...]
    url_file: Path | None
    dense: str = EXACT


class Loaded:
    """A version that is open, and how many requests it is answering.

    Args:
        box: The version.
        app: Its application.
        stack: What must be closed when the last request is answered.
    """

    def __init__(self, box: Box, app: Litestar, stack: AsyncExitStack) -> None:
        self.box, self.app, self._stack = box, app, stack
        self._idle = asyncio.Event()
        self._idle.set()
        self._requests = 0

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        self._requests += 1
        self._idle.clear()
        try:
            await self.app(scope, receive, send)
        finally:
            self._requests -= 1
            if not self._requests:
                self._idle.set()

    async def drain(self) -> None:
        """Closes the version once its requests are answered, or after the longest that one may take."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), self.box.service.limits.request_timeout_ms / 1000)
        await self._stack.aclose()


class Serving:
    """The ASGI application that outlives versions.

    Args:
        layout: The state.
        secrets: Opened from the seal.
        settings: Makes the settings of a version.
        terminal: Where to speak.
        on_ready: Called once the first version answers.
        dense: Finds the candidates of a search.

    Attributes:
        failure: Why the first version did not open, or None.
    """

    def __init__(
        self,
        layout: StateLayout,
        secrets: SiteSecrets,
        settings: Callable[[Box], Settings],
        terminal: Terminal,
        on_ready: Callable[[], None],
        dense: DenseFactory,
    ) -> None:
        self._layout, self._secrets, self._settings, self._terminal = layout, secrets, settings, terminal
        self._on_ready, self._dense = on_ready, dense
        self._room = Room()  # one for all versions: while they change, two load into one memory
        self.failure: Exception | None = None
        self._tokens = TokenStore(layout.tokens)
        self._current: Loaded | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif self._current is not None:
            await self._current.answer(scope, receive, send)

    async def cut(self) -> None:
        """Ends what the engines still make."""
        if self._current is not None:
            await self._current.box.stop()

    async def _lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        try:
            await self._switch(versions.read_current(self._layout, self._secrets))
        except Exception as error:  # noqa: BLE001 - kept whole and raised by serve_box, where uvicorn would lose it
            self.failure = error
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        self._spawn(self._follow())
        await send({"type": "lifespan.startup.complete"})
        self._on_ready()
        await receive()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._current is not None:
            await self._current.drain()
        await send({"type": "lifespan.shutdown.complete"})

    async def _follow(self) -> None:
        """Looks every two seconds for a version that was activated; one that does not open changes nothing."""
        refused: int | None = None
        while True:
            await asyncio.sleep(_LOOK_S)
            number = versions.current_number(self._layout)
            if self._current is None or number in (self._current.box.version, refused, None):
                continue
            try:
                await self._switch(versions.read_current(self._layout, self._secrets))
            except LifeboatError as error:
                refused = number
                self._terminal.error(error)

    async def _switch(self, version: versions.Version) -> None:
        """Opens a version beside the one that serves, then lets it take what comes."""
        loaded = await self._open(version)
        old, self._current = self._current, loaded
        self._terminal.note(f"serving version {version.number}, bundle {version.bundle}")
        if old is not None:
            self._spawn(old.drain())

    async def _open(self, version: versions.Version) -> Loaded:
        async with AsyncExitStack() as stack:
            bundle, box = await asyncio.to_thread(self._load, version)
            stack.callback(bundle.close)
            app = create_app(box, self._tokens, self._settings(box))
            await stack.enter_async_context(app.lifespan())
            box.start_soon()
            stack.push_async_callback(box.stop)
            return Loaded(box, app, stack.pop_all())

    def _load(self, version: versions.Version) -> tuple[Bundle, Box]:
        bundle = versions.open_version(self._layout, self._secrets, version)
        run = self._layout.run / str(version.number)
        run.mkdir(mode=0o700, exist_ok=True)
        return bundle, make_box(bundle, version, run, self._dense, self._room)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def serve_box(root: Path, listen: Listen, terminal: Terminal) -> None:
    """Serves the installed version of a state until stopped.

    Raises:
        NotReady: Not enrolled, or nothing is installed.
        BadBundle: Somebody changed the state on this disk.
        Busy: The port is taken.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    layout = StateLayout(root)
    layout.make()
    seal = Seal(layout.keys)
    secrets = seal.open()
    # Opened once before listening, so that a damaged state is told at once and not inside the server.
    versions.open_version(layout, secrets, versions.read_current(layout, secrets)).close()
    listener = bind(listen.host, listen.port)
    named = site_hosts(versions.read_current(layout, secrets).settings)
    certificate, ca_pem = _certificate(seal, secrets, listen, named)

    def settings(box: Box) -> Settings:
        return Settings(hosts=(*_names(listen), *box.hosts), keys=read_keys(box.service, {}), ca_pem=ca_pem)

    host, port = listener.getsockname()[:2]
    url = f"{'https' if certificate else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

    def on_ready() -> None:
        terminal.note(f"listening on {url}")
        if certificate is not None:
            terminal.note(f"clients need {url}/ca.crt; its SHA-256 is {Certificate(ca_pem, b'').fingerprint}")
        if listen.url_file is not None:
            write_atomic(listen.url_file, f"{url}\n".encode())

    serving = Serving(layout, secrets, settings, terminal, on_ready, chroma if listen.dense == CHROMA else Exact)
    leaving = Leaving(serving)

    async def finish() -> None:
        await leaving.finish(SHUTDOWN_S, serving.cut)

    asyncio.run(serve(leaving, listener, tls=certificate, finish=finish))
    if serving.failure is not None:
        raise serving.failure


def bind(host: str, port: int) -> socket.socket:
    """Returns a listening socket; raises Busy if the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise Busy(f"cannot listen on {host} port {port}: {error.strerror}", "choose another --port") from error
    return listener


def _certificate(
    seal: Seal, secrets: SiteSecrets, listen: Listen, named: tuple[str, ...]
) -> tuple[Certificate | None, bytes]:
    """Returns the server certificate, None on loopback, and the CA that clients must know.

    Names that the MSP sets while the box serves are in the certificate from the next start on.
    """
    if listen.host in _LOOPBACK or listen.host.startswith("127."):
        return None, b""
    now = datetime.now(UTC)
    authority = box_authority(seal, secrets.site, now)
    return make_leaf(authority, [*_names(listen), *named, "localhost", "127.0.0.1"], now), authority.cert_pem


def _names(listen: Listen) -> tuple[str, ...]:
    """The names by which clients reach the box; a bind to every address takes all that this machine has."""
    return (*listen.names, *(own_hosts() if listen.host in _ANY else (listen.host,)))

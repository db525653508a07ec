"""`serve`: takes the state and the socket, and supervises until stopped."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

from appliance.host.handover import came_up, supervise
from appliance.host.listen import Listen, bind, client_urls, url_of
from appliance.host.supervisor import Supervisor
from appliance.host.worker import Worker
from appliance.store.layout import StateLayout
from appliance.store.memory import keep_in_memory
from appliance.store.programs import Programs
from appliance.store.seal import Seal
from appliance.store.slots import opens_alone
from bundler.files import exclusive, write_atomic
from bundler.format.errors import Busy, NotReady
from bundler.terminal import Terminal, disk_error

PROGRAMS = Path("/opt/lifeboat")
# The processes of a supervisor that was killed let go of the port as soon as they notice.
_PORT_S = 3.0
# Who looks whether a state is served holds its lock for a moment.
_LOOKED_AT_S = 1.0
_PARTS = ("litestar", "uvicorn", "onnxruntime")


def serve_box(root: Path, listen: Listen, terminal: Terminal, programs: Path = PROGRAMS) -> None:
    """Serves the installed version of a state until stopped.

    Raises:
        NotReady: Not enrolled, or nothing is installed.
        BadBundle: Somebody changed the state on this disk, and there is no other version.
        Busy: The port is taken, or this state is served already.
    """
    _demand_parts()
    keep_in_memory()
    layout, installed = StateLayout(root), Programs(programs)
    layout.make()
    supervise(layout, installed, sys.argv[1:], terminal)
    _demand_seal(layout, listen)
    lock = exclusive(layout.serving, "this state is served already", _LOOKED_AT_S)
    with lock, closing(_bound(listen)) as listener:

        def on_serving(worker: Worker) -> None:
            certificate = str(worker.greeting.get("ca_sha256", ""))
            tls = bool(worker.greeting.get("tls", certificate))  # programs of before tell of their own CA alone
            url = url_of(listener, tls=tls)
            reached = client_urls(listener, listen, tls=tls)
            terminal.note(f"listening on {', '.join(reached) or url}")
            if certificate:
                terminal.note(f"clients need {reached[0]}/ca.crt; its SHA-256 is {certificate}")
            if listen.tls is not None and not worker.greeting.get("tls_files"):
                terminal.warn("the program of this version does not know --tls-cert: it does not serve these files")
            try:
                came_up(layout, installed)
                write_atomic(layout.run / "url", f"{url}\n".encode(), mode=0o600)
                if listen.url_file is not None:
                    write_atomic(listen.url_file, f"{url}\n".encode())
            except OSError as error:  # a full disk must not end the serving
                terminal.warn(f"where it serves is not written down: {disk_error(error)}")

        supervisor = Supervisor(layout, listener, listen, terminal, on_serving, programs)
        asyncio.run(supervisor.run())


def _demand_seal(layout: StateLayout, listen: Listen) -> None:
    """A serving process has nobody to ask, and no version is to be rolled back because nobody is there."""
    seal = Seal(layout.keys)
    if seal.enrolled and not listen.seal and not opens_alone(seal.folder):
        raise NotReady("only a passphrase opens the seal of this box", "lifeboat-appliance serve --attended")


def _demand_parts() -> None:
    """Tells at once what the serving processes would fail on; they, and not the supervisor, load it."""
    for name in _PARTS:
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _bound(listen: Listen) -> socket.socket:
    until = time.monotonic() + _PORT_S
    while True:
        try:
            return bind(listen.host, listen.port)
        except Busy:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)

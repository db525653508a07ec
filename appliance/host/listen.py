"""Where the box listens, and by which names clients reach it."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path

from appliance.edge.tls_files import Given
from appliance.host.addresses import own_hosts
from bundler.format.errors import Busy

EXACT, CHROMA = "exact", "chroma"
_ANY = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_BACKLOG = 1024


@dataclass(frozen=True)
class Listen:
    """Where to listen, by which further names clients reach the box, where to write the URL, and how to search.

    `seal` is the seal's key on a box that somebody attends, who opened it; "" where each process opens it itself.
    `tls` is a certificate of the operator's own; without one the box makes its own, but on loopback.
    """

    host: str
    port: int
    names: tuple[str, ...]
    url_file: Path | None
    dense: str = EXACT
    seal: str = field(default="", repr=False)
    tls: Given | None = None

    @property
    def on_loopback(self) -> bool:
        return self.host in _LOOPBACK or self.host.startswith("127.")

    def reached_by(self) -> tuple[str, ...]:
        """The names by which clients reach the box; a bind to every address takes all that this machine has."""
        return (*self.names, *(own_hosts() if self.host in _ANY else (self.host,)))


def bind(host: str, port: int) -> socket.socket:
    """Returns a listening socket; raises Busy if the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise Busy(f"cannot listen on {host} port {port}: {error.strerror}", "choose another --port") from error
    return listener


def url_of(listener: socket.socket, *, tls: bool) -> str:
    """Returns where this machine itself reaches the box: no client can use the address that means all of them."""
    host, port = listener.getsockname()[:2]
    return _url({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port, tls=tls)  # noqa: S104 - as above


def client_urls(listener: socket.socket, listen: Listen, *, tls: bool) -> tuple[str, ...]:
    """Returns where clients reach the box: by its names and addresses."""
    port = listener.getsockname()[1]
    return tuple(_url(host, port, tls=tls) for host in dict.fromkeys(listen.reached_by()))


def _url(host: str, port: int, *, tls: bool) -> str:
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

"""A name is found and connected to within one time; an unknown one ends the work, a name server that fails passes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from bundler.format.errors import SourceFailed
from bundler.patience import Passing
from bundler.registries.reach import Address, reach, resolved
from bundler.registries.wire import Wire

Resolver = Callable[..., Any]


def _failing(errno: int) -> Resolver:
    def resolve(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(errno, "told by the resolver")

    return resolve


def _naming(*addresses: str) -> Resolver:
    def resolve(host: str, port: int, *_: Any, **__: Any) -> Any:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    return resolve


@pytest.mark.parametrize("errno", [socket.EAI_NONAME, -5])
def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch, errno: int) -> None:
    """No second try mends it, whether the name or its address is missing."""
    monkeypatch.setattr("socket.getaddrinfo", _failing(errno))
    with pytest.raises(SourceFailed, match=r"hub\.test is not known here") as refused:
        resolved("hub.test", 443, 60.0)
    assert "the DNS of this machine" in refused.value.hint


def test_a_name_server_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again, at a registry as well."""
    monkeypatch.setattr("socket.getaddrinfo", _failing(socket.EAI_AGAIN))
    with closing(Wire("https://registry.test", None, ())) as wire:
        asked = wire.send("GET", "/v2/")
        with pytest.raises(Passing, match=r"registry\.test: told by the resolver"):
            asked.__enter__()


def test_a_name_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for as long as for a connection, and not until it pleases."""
    ended = threading.Event()

    def resolve(*_: Any, **__: Any) -> Any:
        ended.wait(600)
        return []

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    try:
        with pytest.raises(Passing, match=r"no name server has told within 0\.05 s who hub\.test is"):
            resolved("hub.test", 443, 0.05)
    finally:
        ended.set()


@pytest.mark.parametrize("host", ["a" * 64 + ".test", "a..test", "\ud800"])
def test_a_name_that_is_none(host: str) -> None:
    """What the encoding of names refuses is told, and is no fault of ours."""
    with pytest.raises(SourceFailed):
        resolved(host, 443, 60.0)


def test_all_addresses_share_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first that answers is taken, each that does not has its part; a hundred are not tried."""
    monkeypatch.setattr("socket.getaddrinfo", _naming(*(f"192.0.2.{number}" for number in range(100))))
    tried = list[tuple[Address, float]]()

    def connect(address: Address, part_s: float) -> str:
        tried.append((address, part_s))
        if address[0] != wanted:
            raise TimeoutError
        return address[0]

    wanted = "192.0.2.3"
    assert reach("hub.test", 443, 800.0, connect, OSError) == wanted
    # Nobody waited here, so that every part is of nearly all the time: an eighth, a seventh, and so on.
    assert [round(part_s / 800, 1) for _, part_s in tried] == [0.1, 0.1, 0.2, 0.2]
    tried.clear()
    wanted = "none"
    with pytest.raises(TimeoutError):
        reach("hub.test", 443, 800.0, connect, OSError)
    assert [address[0] for address, _ in tried] == [f"192.0.2.{number}" for number in range(8)]


def test_eight_of_one_family_do_not_hide_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose IPv6 leads nowhere gets to the IPv4 address as the second; the system's first stays the first."""
    many = [f"2001:db8::{number}" for number in range(1, 9)]
    monkeypatch.setattr("socket.getaddrinfo", _naming(*many, "192.0.2.1"))
    tried = list[str]()

    def connect(address: Address, _: float) -> str:
        tried.append(address[0])
        if ":" in address[0]:
            raise TimeoutError
        return address[0]

    assert reach("hub.test", 443, 800.0, connect, OSError) == "192.0.2.1"
    assert tried == [many[0], "192.0.2.1"]
    assert [address for address, _ in resolved("hub.test", 443, 60.0)] == [many[0], "192.0.2.1", *many[1:7]]
    monkeypatch.setattr("socket.getaddrinfo", _naming("192.0.2.1", "192.0.2.2", many[0], "192.0.2.1"))
    assert [address for address, _ in resolved("hub.test", 443, 60.0)] == ["192.0.2.1", many[0], "192.0.2.2"]


def test_an_address_that_refuses_is_left_for_the_next(registry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a registry: the second address of the name answers."""
    asked = list[Any]()

    def resolve(host: str, port: int, *_: Any, **__: Any) -> Any:
        asked.append(host)
        found = [host] if host.startswith("127.") else ["127.9.9.9", "127.0.0.1"]
        return _naming(*found)(host, port)

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    with closing(Wire(f"http://localhost:{registry.port}", None, ())) as wire, wire.send("GET", "/v2/") as answer:
        assert answer.status == 200
    assert asked[0] == "localhost"

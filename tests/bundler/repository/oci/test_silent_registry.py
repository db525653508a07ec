"""A registry that says nothing in the middle of a push or a pull: whoever waits is told so while it lasts."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path
from typing import Any

import pytest

from bundler.repository.oci import client, streams
from bundler.silence import Silence, once

MOST_S = 120.0  # a test that fails ends as well


@pytest.fixture(autouse=True)
def sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that stop are told as soon as an answer that does not come, and every line is; one transfer at a time."""
    monkeypatch.setattr(streams, "STREAMS", 1)
    monkeypatch.setattr(client, "BYTES_S", 2.0)
    monkeypatch.setattr(client, "once", lambda told: told)


@pytest.fixture
def place(front: Any) -> str:
    return f"{front.host}/silent/{uuid.uuid4().hex[:12]}:main"


class Silent:
    """The first request of each kind waits until a line of silence is told, then it goes on."""

    def __init__(self, told: list[str], *kinds: tuple[str, str]) -> None:
        self._told, self._left, self._lock = told, list(kinds), threading.Lock()
        self.lines: dict[tuple[str, str], str] = {}

    def fault(self, seen: Any) -> None:
        with self._lock:
            kind = next(((m, part) for m, part in self._left if m == seen.method and part in seen.path), None)
            if kind is not None:
                self.wait(kind)

    def watch(self, seen: Any) -> None:
        with self._lock:
            if ("", "bytes") in self._left and seen.down_bytes > 300_000:
                self.wait(("", "bytes"))

    def wait(self, kind: tuple[str, str]) -> None:
        self._left.remove(kind)
        before = len(self._told)
        for _ in range(int(MOST_S * 20)):
            if len(self._told) > before:
                self.lines[kind] = self._told[before]
                return
            threading.Event().wait(0.05)


def test_a_push_and_a_pull(stock: Any, front: Any, place: str, tmp_path: Path) -> None:
    """At each kind of request, and between the bytes, with how long it may take; all comes whole and without a try."""
    stock.build(b"1")
    first, stored = ("GET", "/manifests/main"), [("PUT", "/blobs/uploads/"), ("PUT", "/manifests/")]
    asked = [first, ("HEAD", "/blobs/"), ("POST", "/blobs/uploads/")]
    silent = Silent(stock.told, *asked, *stored)
    front.fault = silent.fault
    assert stock.push(place, cap=4 << 20).sent_bytes > 5_000_000
    begin = f"{place.partition('/')[0]} has said nothing for 2 s: it gets 30 s to connect and"
    assert {kind: silent.lines[kind] for kind in asked} == dict.fromkeys(
        asked, f"{begin} 60 s to answer, 3 times in a row"
    )
    assert {silent.lines[kind] for kind in stored} == {f"{begin} 300 s to answer, 3 times in a row"}
    given = [first, ("GET", "/blobs/"), ("", "bytes")]
    silent = Silent(stock.told, *given)
    front.fault, front.watch = silent.fault, silent.watch
    stock.pull(place, tmp_path / "medium")
    assert silent.lines == dict.fromkeys(given, f"{begin} 60 s to answer, 3 times in a row")
    assert stock.pauses == []
    assert not [thread for thread in threading.enumerate() if thread.name == "silence"]


def test_who_is_not_waited_for_is_not_blamed() -> None:
    """A disk that takes its time between two blocks is not the registry's silence."""
    told, ticks, aside = list[str](), iter([False] * 30 + [True]), threading.Event()

    def ended(_event: threading.Event, _seconds: float) -> bool:
        return not aside.wait(MOST_S) or next(ticks)

    with Silence("registry.example", "time", told.append, 2.0, ended) as silence, silence.apart():
        aside.set()
        silence._thread.join()
    assert told == []


def test_the_same_line_is_told_once() -> None:
    """Three transfers that wait for one registry make one line; a later silence is told again."""
    told = list[str]()
    tell = once(told.append, 600.0)
    for line in ("a", "a", "b", "a"):
        tell(line)
    again = once(told.append, 0.0)
    again("a")
    again("a")
    assert told == ["a", "b", "a", "a"]

"""A hub that answers byte by byte, without an end or page after page: left after the time that an answer may take."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from bundler.format.errors import SourceFailed
from bundler.silence import Silence
from bundler.sources import hub, hub_client, hub_wire
from bundler.sources.hub_part import PartFile
from bundler.sources.hub_patience import HubPatience
from bundler.sources.place import Place
from bundler.sources.source import HubSource, parse

OK, SOURCE, DATA = b"HTTP/1.1 200 OK\r\n", "hub:org/name/model.gguf", bytes(range(256)) * 40
# Nothing is silent for long here, and no answer is whole within the time; a slow machine ends it all the same.
DRIPS = HubPatience(first_s=0.01, silence_s=30.0, whole_s=0.5, slow_s=600.0, tries=2)


@pytest.fixture
def dripping() -> Iterator[Callable[[bytes, bytes, float], str]]:
    """Answers every request with a head, and then the same again and again with a pause; returns the address."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve(connection: socket.socket, head: bytes, part: bytes, pause_s: float) -> None:
            with connection, suppress(OSError):
                connection.recv(65_536)
                connection.sendall(head)
                while not over.wait(pause_s):
                    connection.sendall(part)

        def accept(*how: Any) -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    threading.Thread(target=serve, args=(connection, *how), daemon=True).start()

        def start(head: bytes, part: bytes, pause_s: float) -> str:
            threading.Thread(target=accept, args=(head, part, pause_s), daemon=True).start()
            return f"http://127.0.0.1:{listening.getsockname()[1]}"

        yield start
        over.set()
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (OK + b"Content-Length: 100000\r\n\r\n", b" "),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n"),
        (OK + b"a: ", b"b"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["body", "chunks", "trailers", "head", "continue"],
)
def test_facts_that_drip(
    dripping: Callable[..., str],
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    head: bytes,
    part: bytes,
) -> None:
    """A byte now and then keeps no build waiting: it is a try that failed, and at last the end."""
    monkeypatch.setenv("HF_ENDPOINT", dripping(head, part, 0.02))
    with pytest.raises(SourceFailed, match=r"127\.0\.0\.1 had not answered whole within 0\.5 s, after 2 tries"):
        _pull(place, DRIPS)
    assert list(place.work.iterdir()) == []


def test_continue_without_an_end(dripping: Callable[..., str], place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """`100 Continue` as fast as the line brings it ends by its bytes."""
    monkeypatch.setenv("HF_ENDPOINT", dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2000, 0.0))
    monkeypatch.setattr(hub_wire, "ANSWER_BYTES", 100_000)
    monkeypatch.setattr(hub_wire, "_FRAMING_BYTES", 100_000)
    with pytest.raises(SourceFailed, match="sends more than belongs to an answer"):
        _pull(place, replace(DRIPS, whole_s=600.0))


@pytest.mark.parametrize("head", [OK + b"a: ", OK + b"Transfer-Encoding: chunked\r\n\r\n1;a="], ids=["head", "mark"])
def test_a_file_whose_first_byte_never_comes(
    local_hub: Any,
    fault: Any,
    dripping: Callable[..., str],
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    head: bytes,
) -> None:
    """What drips before the bytes of a file is bounded as well, where only the storage does so."""
    commit = local_hub.add("org/name", {"model.gguf": DATA})
    told = {"X-Repo-Commit": commit, "X-Linked-Etag": f'"{hashlib.sha256(DATA).hexdigest()}"'}
    told |= {"X-Linked-Size": str(len(DATA)), "Location": dripping(head, b"b", 0.02) + "/file"}
    local_hub.break_(fault("redirect", stage="head", times=9, headers=told))
    monkeypatch.setenv("HF_ENDPOINT", local_hub.endpoint)
    # Long enough for the hub's own answers on a busy machine.
    with pytest.raises(SourceFailed, match=r"had not answered whole within 5 s, after 1 try"):
        _pull(place, replace(DRIPS, whole_s=5.0, tries=1))


def test_a_listing_ends_with_its_time(
    dripping: Callable[..., str], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it runs out inside a page, the work ends as between two: no try begins at the first page again."""
    told = list[str]()
    monkeypatch.setattr(hub_wire, "STEP_S", 0.5)
    monkeypatch.setenv("HF_ENDPOINT", dripping(OK + b"Content-Length: 100000\r\n\r\n", b" ", 0.02))
    with pytest.raises(SourceFailed) as ended:
        _pull(replace(place, say=told.append), replace(DRIPS, whole_s=600.0), f"hub:org/name@{'0' * 40}/model.gguf")
    assert ended.value.fact == "127.0.0.1 has not told it within 1000 answers and 0.5 s"
    assert ended.value.hint == "is HF_ENDPOINT a hub?"
    assert [line for line in told if "again in" in line] == []


def test_a_file_may_take_its_time(local_hub: Any, fault: Any, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file it is each piece that must come in time, and not the whole."""
    local_hub.add("org/name", {"model.gguf": DATA[:60]})
    local_hub.break_(fault("drip", stall_s=0.1))
    monkeypatch.setenv("HF_ENDPOINT", local_hub.endpoint)
    found = _pull(place, replace(DRIPS, whole_s=5.0, tries=1))
    assert found.path.read_bytes() == DATA[:60]


def test_a_disk_that_stalls_is_not_the_hub(
    local_hub: Any, fault: Any, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two minutes for each piece, spent here, end nothing, and are not told as the hub's silence."""
    now, heard, apart = [0.0], list[Silence](), list[bool]()
    write, hear = PartFile.write, Silence.heard

    def written(part: PartFile, data: bytes) -> None:
        now[0] += 130
        apart.append(heard[-1]._is_apart)
        write(part, data)

    def recorded(silence: Silence) -> None:
        heard.append(silence)
        hear(silence)

    for module in (hub_wire, hub_client):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(PartFile, "write", written)
    monkeypatch.setattr(Silence, "heard", recorded)
    local_hub.add("org/name", {"model.gguf": DATA[:20]})
    local_hub.break_(fault("drip", stall_s=0.02))
    monkeypatch.setenv("HF_ENDPOINT", local_hub.endpoint)
    assert _pull(place, HubPatience(tries=1)).path.read_bytes() == DATA[:20]
    assert len(apart) > 1
    assert all(apart)


def test_pages_without_an_end(
    local_hub: Any, fault: Any, place: Place, quick: HubPatience, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing whose empty pages lead to each other is left."""
    local_hub.add("org/name", {"model.gguf": DATA})
    link = {"Link": f'<{local_hub.endpoint}/api/models/org/name/tree/main>; rel="next"'}
    local_hub.break_(fault("body", stage="tree", body=b"[]", headers=link, times=10**9))
    monkeypatch.setenv("HF_ENDPOINT", local_hub.endpoint)
    monkeypatch.setattr(hub_wire, "STEP_ANSWERS", 20)
    with pytest.raises(SourceFailed, match="has not told it within 20 answers"):
        _pull(place, quick)
    assert sum(asked.stage == "tree" for asked in local_hub.asked) == 20


def test_a_hub_that_nobody_knows(place: Place, quick: HubPatience, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name ends the work at once, with the way out; a name server that fails is tried again."""
    told = list[str]()

    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(errors.pop(0), "told by the resolver")

    errors = [socket.EAI_AGAIN, socket.EAI_NONAME]
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.test")
    monkeypatch.setattr("socket.getaddrinfo", unknown)
    with pytest.raises(SourceFailed, match=r"hub\.test is not known here") as refused:
        _pull(replace(place, say=told.append), quick)
    assert "the DNS of this machine" in refused.value.hint
    assert len(told) == 1
    assert "hub.test: told by the resolver; again in" in told[0]


def _pull(place: Place, patience: HubPatience, text: str = SOURCE) -> Any:
    source = parse(text)
    assert isinstance(source, HubSource)
    return hub.fetch(source, place, patience)

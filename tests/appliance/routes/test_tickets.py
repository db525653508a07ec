"""Hand-off tickets over real wires: a box behind HTTP, a webhook and a mail server that fail as a test asks."""

from __future__ import annotations

import asyncio
import base64
import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from appliance.answer.handoff import Place, Ticket, encode
from appliance.answer.tickets import NOT_ALLOWED, Tickets
from appliance.records.cipher import Cipher
from appliance.records.entry import Bounds
from appliance.records.journal import Journal, read_standing
from appliance.records.outbox import Clocks
from appliance.records.thread import JournalThread
from bundler.format.service import HandoffSpec

WORDS = "Kept as {ticket} for a person."


@dataclass
class Desk:
    """What stands at the other end, and what it took: (the ticket's name, its text)."""

    url: str = ""
    behaviour: Callable[[str], int] = lambda _: 200
    tries: list[str] = field(default_factory=list)
    taken: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


class _Hook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        desk: Desk = self.server.desk  # type: ignore[attr-defined]
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        name = self.headers["Idempotency-Key"]
        desk.tries.append(name)
        desk.headers.append(dict(self.headers))
        status = desk.behaviour(text)
        if status == 200:
            desk.taken.append((name, text))
        if status:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


class _Smtp(socketserver.StreamRequestHandler):
    """As much of RFC 5321 as a client needs; AUTH PLAIN takes box/secret."""

    def handle(self) -> None:
        desk: Desk = self.server.desk  # type: ignore[attr-defined]
        self._say("220 desk")
        for line in self.rfile:
            verb = line.split(b" ")[0].strip().upper()
            if verb == b"EHLO":
                self._say("250-desk\r\n250 AUTH PLAIN")
            elif verb == b"AUTH":
                good = base64.b64decode(line.split()[-1]) == b"\0box\0secret"
                self._say("235 come in" if good else "535 secret sk-123 is wrong")
            elif verb == b"DATA":
                self._say("354 go on")
                self._take(desk)
            elif verb == b"QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 ok")

    def _take(self, desk: Desk) -> None:
        lines = iter(self.rfile.readline, b".\r\n")
        data = b"".join(lines)
        head, _, body = data.partition(b"\r\n\r\n")
        name = next(line.split()[1].decode() for line in head.split(b"\r\n") if line.startswith(b"X-Lifeboat-Ticket"))
        text = base64.b64decode(body).decode()
        desk.tries.append(name)
        status = desk.behaviour(text)
        if status == 200:
            desk.taken.append((name, text))
        self._say("250 taken" if status == 200 else "554 your text says sk-123")

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@contextmanager
def desk_at(kind: Any, scheme: str, path: str = "", port: int = 0) -> Iterator[Desk]:
    server: Any = ThreadingHTTPServer if kind is _Hook else socketserver.ThreadingTCPServer
    with server(("127.0.0.1", port), kind) as serving:
        desk = Desk(f"{scheme}://127.0.0.1:{serving.server_address[1]}{path}")
        serving.desk = desk
        serving.daemon_threads = True
        thread = threading.Thread(target=serving.serve_forever, daemon=True)
        thread.start()
        try:
            yield desk
        finally:
            serving.shutdown()
            thread.join()


@dataclass
class Maker:
    """Makes tickets that go to a desk, in a journal of a test's own."""

    folder: Path
    bounds: Bounds = field(default_factory=Bounds)
    egress: tuple[str, ...] | None = None
    secrets: dict[str, str] = field(default_factory=dict)
    made: list[Tickets] = field(default_factory=list)

    @property
    def journal(self) -> Path:
        return self.folder / "journal.db"

    def to(self, url: str, **options: Any) -> Callable[[Any], Tickets]:
        spec = HandoffSpec(url, "", "", "box@desk.example", ("desk@desk.example",), 86_400, WORDS)
        spec = replace(spec, **options)

        def make(_: Any) -> Tickets:
            cipher, place = Cipher(b"k" * 32, "journal"), Place("north", "test", "Test")
            thread = JournalThread(lambda: Journal(self.journal, cipher, self.bounds), self.folder / "journal.lock")
            allowed = (url.partition("/t")[0],) if self.egress is None else self.egress
            clocks = Clocks(look_s=0.05, draw=lambda: 0.0)
            tickets = Tickets(spec, place, allowed, lambda name: self.secrets.get(name, ""), thread, clocks)
            self.made.append(tickets)
            return tickets

        return make

    def until(self, look: Callable[[], Any], limit_s: float = 60.0) -> None:
        end = time.monotonic() + limit_s
        while not look():
            assert time.monotonic() < end, "it did not come"
            time.sleep(0.02)


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path)


def make(worlds: Any, tickets: Callable[[Any], Tickets]) -> Any:
    """A box whose only chat rung is the last message."""
    worlds.tickets = tickets
    return worlds.make(chat=("message",), ask=("message",))


def test_a_webhook_gets_the_ticket_that_the_caller_was_told(worlds: Any, maker: Maker) -> None:
    """The answer, its header and its object name the ticket; the receiver gets its question and our key."""
    maker.secrets["PSA"] = "psa-token"
    with desk_at(_Hook, "http", "/t") as desk:
        world = make(worlds, maker.to(desk.url, key="PSA"))
        reply = world.chat("The printer is on fire")
        name = reply.headers["X-Lifeboat-Ticket"]
        assert reply.json()["lifeboat"]["ticket"] == name
        assert reply.json()["choices"][0]["message"]["content"].endswith(
            f"Kept as {name} for a person.\n\nPlease phone 100."
        )
        maker.until(lambda: desk.taken)
    taken, text = desk.taken[0]
    assert taken == name
    assert json.loads(text)["question"] == "The printer is on fire"
    assert desk.headers[0]["Authorization"] == "Bearer psa-token"
    maker.until(lambda: read_standing(maker.journal, "handoff").waiting == 0)


def test_a_mail_server_gets_it_with_a_log_in(worlds: Any, maker: Maker) -> None:
    """A stream tells the ticket in its last chunk; a wrong password holds it, and a new one lets it go."""
    maker.secrets["MAIL"] = "wrong"
    with desk_at(_Smtp, "smtp") as desk:
        world = make(worlds, maker.to(desk.url, user="box", key="MAIL"))
        headers, events = world.events("The printer is on fire")
        name = json.loads(events[-2])["lifeboat"]["ticket"]
        assert headers["X-Lifeboat-Ticket"] == name
        maker.until(lambda: "does not let the box in (535)" in maker.made[0].facts().trouble)
        assert "sk-123" not in world.http.get("/health/ready").text
        maker.secrets["MAIL"] = "secret"
        maker.until(lambda: desk.taken)
    assert desk.taken[0][0] == name
    assert "The printer is on fire" in desk.taken[0][1]


def test_tickets_wait_until_the_network_is_there(worlds: Any, maker: Maker) -> None:
    """Nobody is at the other end: the tickets wait and are counted; when somebody is, all of them come once."""
    with desk_at(_Hook, "http", "/t") as gone:
        url = gone.url
    world = make(worlds, maker.to(url))
    names = [world.chat(f"question {number}").headers["X-Lifeboat-Ticket"] for number in range(5)]
    maker.until(lambda: maker.made[0].facts().waiting == 5 and maker.made[0].facts().trouble)
    told = world.http.get("/health/ready").json()["handoff"]
    assert (told["waiting"], told["sent"]) == (5, 0)
    assert "connection refused" in told["trouble"]
    assert "lifeboat_handoff_waiting 5.0" in world.http.get("/metrics").text
    with desk_at(_Hook, "http", "/t", int(url.split(":")[2].split("/")[0])) as desk:
        maker.until(lambda: len(desk.taken) == 5)
        maker.until(lambda: maker.made[0].facts().waiting == 0)
    assert sorted(name for name, _ in desk.taken) == sorted(names)
    assert "lifeboat_handoff_sent 5.0" in world.http.get("/metrics").text


@pytest.mark.parametrize(("kind", "scheme", "path"), [(_Hook, "http", "/t"), (_Smtp, "smtp", "")])
def test_a_ticket_that_nobody_takes_does_not_block_others(
    worlds: Any, maker: Maker, kind: Any, scheme: str, path: str
) -> None:
    """The receiver refuses one: the others go out, that one waits, and the receiver's words stand nowhere."""
    with desk_at(kind, scheme, path) as desk:
        desk.behaviour = lambda text: 422 if "poison" in text else 200
        world = make(worlds, maker.to(desk.url))
        for text in ("poison", "one", "two"):
            world.chat(text)
        maker.until(lambda: len(desk.taken) == 2 and maker.made[0].facts().waiting == 1)
        ready = world.http.get("/health/ready").json()["handoff"]
    assert "refuses it" in ready["trouble"]
    assert "sk-123" not in json.dumps(ready)


def test_a_receiver_that_dies_on_a_ticket_gets_the_others(worlds: Any, maker: Maker) -> None:
    """A connection that breaks looks like a dead receiver; the one on which it broke waits behind the others."""
    with desk_at(_Hook, "http", "/t") as desk:
        desk.behaviour = lambda text: 0 if "poison" in text else 200
        world = make(worlds, maker.to(desk.url))
        for text in ("poison", "one", "two"):
            world.chat(text)
        maker.until(lambda: len(desk.taken) == 2)
    assert all("poison" not in text for _, text in desk.taken)


def test_a_client_that_tries_again_makes_one_ticket(worlds: Any, maker: Maker) -> None:
    """An idempotency key makes two requests one, also in `/v1/ask`; other keys and other tenants do not."""
    with desk_at(_Hook, "http", "/t") as desk:
        world = make(worlds, maker.to(desk.url))

        def ask(key: str) -> str:
            headers = {"Idempotency-Key": key}
            reply = world.http.post("/v1/ask", json={"question": "where?"}, headers=headers)
            return str(reply.headers["X-Lifeboat-Ticket"])

        assert ask("a") == ask("a") != ask("b")
        maker.until(lambda: maker.made[0].facts().sent == 2)
        long = world.http.post("/v1/ask", json={"question": "?"}, headers={"Idempotency-Key": "x" * 256})
    assert long.status_code == 400
    assert len(desk.taken) == 2


def test_where_it_cannot_be_kept_nobody_is_told_that_it_is(worlds: Any, maker: Maker) -> None:
    """A full journal is a 503 with the reason and the way out, and nothing half kept."""
    maker.bounds = Bounds(entries=1)
    with desk_at(_Hook, "http", "/t") as gone:
        url = gone.url
    world = make(worlds, maker.to(url))
    assert world.chat("one").status_code == 200
    reply = world.chat("two")
    assert reply.status_code == 503
    message = reply.json()["error"]["message"]
    assert "its ticket is not kept: too many of them wait already" in message
    assert "Please phone 100." in message
    assert read_standing(maker.journal, "handoff").waiting == 1


def test_a_destination_off_the_policys_list_is_never_dialled(worlds: Any, maker: Maker) -> None:
    """The ticket is kept and told as held, for a policy that allows it; no connection is made."""
    maker.egress = ("https://elsewhere.example",)
    with desk_at(_Hook, "http", "/t") as desk:
        world = make(worlds, maker.to(desk.url))
        world.chat("one")
        maker.until(lambda: maker.made[0].facts().trouble == NOT_ALLOWED)
    assert desk.tries == []


def test_a_journal_of_another_box_does_not_stop_the_others(worlds: Any, maker: Maker) -> None:
    """An entry that does not open ends with words; those of this box go out."""
    with Journal(maker.journal, Cipher(b"x" * 32, "journal")) as journal:
        journal.accept("handoff", "t", "k", b"{}", new_id=lambda: "H-OLD", now_s=1)
    with desk_at(_Hook, "http", "/t") as desk:
        world = make(worlds, maker.to(desk.url))
        world.chat("one")
        maker.until(lambda: desk.taken and maker.made[0].facts().waiting == 0)
    with Journal(maker.journal, Cipher(b"x" * 32, "journal")) as journal:
        old = journal.entry("H-OLD")
    assert old is not None
    assert old.state == "failed"


def test_two_versions_that_serve_at_once_send_each_ticket_once(maker: Maker) -> None:
    """During a switch both accept; one sends, and the other goes on when it is gone."""
    ticket = encode(Ticket("2026-01-01T00:00:00Z", "auto", "t", "", "hello", ()))

    async def body(desk: Desk) -> None:
        first, second = (maker.to(desk.url)(None) for _ in range(2))
        async with second:
            async with first:
                both = [one.outbox.queue("t", str(n), ticket) for n in range(3) for one in (first, second)]
                assert len(set(await asyncio.gather(*both))) == 3
            await second.outbox.queue("t", "late", ticket)
            await asyncio.to_thread(maker.until, lambda: len(desk.taken) == 4)

    with desk_at(_Hook, "http", "/t") as desk:
        asyncio.run(body(desk))
    assert len(desk.tries) == len(set(desk.tries)) == 4

"""Mail by STARTTLS and by implicit TLS, and a webhook with an authority of its own, on real sockets."""

from __future__ import annotations

import asyncio
import base64
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, cast

import pytest

from appliance.answer.handoff import Place, Ticket, encode
from appliance.answer.tickets import Tickets
from appliance.edge.tls import Certificate, loaded, make_ca, make_leaf
from appliance.gateway.trusted import context_of
from appliance.records.delivery import Verdict
from appliance.records.mail_server import Account, send
from appliance.records.webhook import post
from bundler.format.service import HandoffSpec

if TYPE_CHECKING:
    from appliance.records.thread import JournalThread

NOW = datetime.now(UTC)
CA, OTHER = make_ca("theirs", NOW), make_ca("another", NOW)
# Not one of the addresses where a mail server needs no TLS.
HOST = "127.0.0.2"
PASSWORD = "correct horse"


@dataclass
class Mails:
    """A mail server and what came to it: what it heard in clear, and the mails that it took."""

    context: ssl.SSLContext
    implicit: bool
    offers: bool = True
    clear: list[bytes] = field(default_factory=list)
    logins: list[bytes] = field(default_factory=list)
    taken: list[bytes] = field(default_factory=list)
    url: str = ""


class _Session(socketserver.BaseRequestHandler):
    """As much of RFC 5321, 3207 and 4954 as a client needs."""

    def handle(self) -> None:
        mails: Mails = self.server.mails  # type: ignore[attr-defined]
        self.secure = mails.implicit
        self.lines = self.request.makefile("rb")
        if mails.implicit:
            self.request = mails.context.wrap_socket(self.request, server_side=True)
        self.lines = self.request.makefile("rb")
        self._say("220 desk")
        while line := self.lines.readline():
            if not self.secure:
                mails.clear.append(line)
            if not self._answer(line, mails):
                return

    def finish(self) -> None:
        self.lines.close()
        self.request.close()  # it may be another one than it was

    def _answer(self, line: bytes, mails: Mails) -> bool:
        verb = line.split(b" ")[0].strip().upper()
        if verb == b"EHLO":
            offered = "250-STARTTLS\r\n" if mails.offers and not self.secure else "250-AUTH PLAIN\r\n"
            self._say(f"250-desk\r\n{offered}250 8BITMIME")
        elif verb == b"STARTTLS":
            self._say("220 go on")
            self.request = mails.context.wrap_socket(self.request, server_side=True)
            self.lines, self.secure = self.request.makefile("rb"), True
        elif verb == b"AUTH":
            mails.logins.append(base64.b64decode(line.split()[-1]))
            self._say("235 come in" if mails.logins[-1] == f"\0box\0{PASSWORD}".encode() else "535 no")
        elif verb == b"DATA":
            self._say("354 go on")
            mails.taken.append(b"".join(iter(self.lines.readline, b".\r\n")))
            self._say("250 taken")
        else:
            self._say("221 bye" if verb == b"QUIT" else "250 ok")
        return verb != b"QUIT"

    def _say(self, text: str) -> None:
        self.request.sendall(f"{text}\r\n".encode())


@contextmanager
def standing(server: Any) -> Iterator[int]:
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # who does not trust it hangs up
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    with server:
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@contextmanager
def mail_server(leaf: Certificate, *, implicit: bool, offers: bool = True) -> Iterator[Mails]:
    mails = Mails(context_with(leaf), implicit, offers)
    server: Any = socketserver.ThreadingTCPServer((HOST, 0), _Session)
    server.mails = mails
    with standing(server) as port:
        mails.url = f"{'smtps' if implicit else 'smtp'}://{HOST}:{port}"
        yield mails


def context_with(leaf: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with loaded(leaf) as path:
        context.load_cert_chain(path)
    return context


def leaf(*names: str, ca: Certificate = CA, days_ago: int = 0) -> Certificate:
    return make_leaf(ca, names or (HOST,), NOW - timedelta(days=days_ago))


def mail() -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "box@desk.example", "desk@desk.example", "a ticket"
    made.set_content("The printer is on fire")
    return made


def sent(mails: Mails, ca: str) -> Verdict:
    return send(Account(mails.url, "box", PASSWORD, context_of(ca)), mail(), ("desk@desk.example",))


@pytest.mark.parametrize("implicit", [False, True])
def test_mail_goes_out_encrypted(implicit: bool) -> None:
    """With the log-in inside; before STARTTLS nothing is said but that."""
    with mail_server(leaf(), implicit=implicit) as mails:
        assert sent(mails, CA.cert_pem.decode()).sent
    assert mails.logins == [f"\0box\0{PASSWORD}".encode()]
    assert b"The printer is on fire" in mails.taken[0]
    assert mails.clear == ([] if implicit else [b"ehlo lifeboat\r\n", b"STARTTLS\r\n"])


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize(
    ("shown", "ca"),
    [
        (leaf(), ""),
        (leaf(), OTHER.cert_pem.decode()),
        (leaf(ca=OTHER), CA.cert_pem.decode()),
        (leaf("other.example"), CA.cert_pem.decode()),
        (leaf(days_ago=400), CA.cert_pem.decode()),
    ],
)
def test_a_wrong_certificate_is_refused(implicit: bool, shown: Certificate, ca: str) -> None:
    """Of nobody that the machine knows, of another authority, for another name, out of date: nothing is told to it."""
    with mail_server(shown, implicit=implicit) as mails:
        verdict = sent(mails, ca)
    assert (verdict.sent, verdict.destination) == (False, True)
    assert verdict.words == "the certificate of the mail server is not trusted"
    assert (mails.logins, mails.taken) == ([], [])


def test_a_server_that_offers_no_tls_gets_nothing() -> None:
    """Whoever stands between may have taken the offer away: neither log-in nor mail goes out in clear."""
    with mail_server(leaf(), implicit=False, offers=False) as mails:
        verdict = sent(mails, CA.cert_pem.decode())
    assert (verdict.sent, verdict.words) == (False, "the mail server offers no TLS, or no log-in")
    assert (mails.logins, mails.taken) == ([], [])
    assert not [line for line in mails.clear if b"MAIL" in line.upper() or b"AUTH" in line.upper()]


class _Hook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.keys.append(self.headers["Authorization"])  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@contextmanager
def webhook(leaf: Certificate) -> Iterator[tuple[str, list[str]]]:
    server: Any = ThreadingHTTPServer((HOST, 0), _Hook)
    server.keys = []
    server.socket = context_with(leaf).wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    with standing(server) as port:
        yield f"https://{HOST}:{port}/tickets", server.keys


def test_a_webhook_has_an_authority_of_its_own() -> None:
    """Known by it alone; our key goes to nobody else."""
    trusted, other = context_of(CA.cert_pem.decode()), context_of(OTHER.cert_pem.decode())
    with webhook(leaf()) as (url, keys):
        verdicts = [asyncio.run(post(url, "psa", "H-1", {}, each)) for each in (None, other, trusted)]
    assert [verdict.sent for verdict in verdicts] == [False, False, True]
    assert "its certificate is not trusted" in verdicts[0].words
    assert keys == ["Bearer psa"]


def test_the_authority_of_a_profile_is_a_secret_or_pem() -> None:
    """As it is when a ticket goes: one that is not set, or is none, is the reason why it waits."""
    secrets: dict[str, str] = {}
    ticket = encode(Ticket("2026-11-22T00:00:00Z", "auto", "t", "", "The printer is on fire", ()))
    with ExitStack() as stack:
        url, keys = stack.enter_context(webhook(leaf()))
        mails = stack.enter_context(mail_server(leaf(), implicit=True))

        def told(ca: str, to: str) -> str:
            people = ("box@desk.example", ("desk@desk.example",))
            spec = HandoffSpec(to, "", "", *people, 86_400, "Kept as {ticket}.", ca)
            place = Place("north", "test", "Test")
            tickets = Tickets(spec, place, (to,), lambda name: secrets.get(name, ""), cast("JournalThread", None))
            return asyncio.run(tickets._send("H-1", ticket)).words

        assert told("OUR-CA", url) == "its authority OUR-CA is not set on this box"
        secrets["OUR-CA"] = "none"
        assert told("OUR-CA", url) == "its authority is no certificate in PEM"
        secrets["OUR-CA"] = CA.cert_pem.decode()
        assert told("OUR-CA", url) == "taken (204)"
        assert told(CA.cert_pem.decode(), mails.url) == "taken by the mail server"
        assert told("", mails.url) == "the certificate of the mail server is not trusted"
    assert (len(keys), len(mails.taken)) == (1, 1)

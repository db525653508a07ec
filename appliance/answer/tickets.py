"""Hand-off tickets of a serving version: taken by the last rung, sent by the outbox where the profile says."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from appliance.answer import handoff
from appliance.answer.handoff import Place
from appliance.gateway.call import Call
from appliance.gateway.origin import permitted
from appliance.gateway.trusted import PEM, context_of
from appliance.records.delivery import Verdict
from appliance.records.entry import HANDOFF
from appliance.records.mail_server import Account, send
from appliance.records.outbox import Clocks, Outbox
from appliance.records.thread import JournalThread
from appliance.records.webhook import post
from bundler.format.service import HandoffSpec

NOT_ALLOWED = "its address is not on the egress list of the signed policy"


@dataclass(frozen=True)
class Facts:
    """How the tickets stand.

    Attributes:
        waiting: How many nobody has taken yet.
        oldest_s: The age of the oldest of them.
        sent: How many were taken since this process started.
        trouble: Why the last one was not taken, or why none can be kept; "" where all is well.
    """

    waiting: int
    oldest_s: int
    sent: int
    trouble: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Tickets:
    """Keeps and sends tickets; `async with` it.

    Args:
        spec: Where they go.
        place: Where they come from.
        egress: The hosts that the signed policy lets the box talk to.
        secret: Returns a credential by what the profile calls it, as it is now; "" where there is none.
        journal: Where they are kept; opened and closed with this.
        clocks: Time and chance.
    """

    def __init__(
        self,
        spec: HandoffSpec,
        place: Place,
        egress: Sequence[str],
        secret: Callable[[str], str],
        journal: JournalThread,
        clocks: Clocks | None = None,
    ) -> None:
        self._spec, self._place, self._secret, self._journal = spec, place, secret, journal
        self._permitted = _permitted(spec.url, egress)
        self.outbox = Outbox(journal, HANDOFF, self._send, handoff.ticket_id, spec.keep_s, clocks)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Tickets:
        await self._stack.enter_async_context(self._journal)
        await self._stack.enter_async_context(self.outbox)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def take(self, call: Call) -> tuple[str, str]:
        """Keeps a ticket of a request; returns its name and what the caller is told of it.

        Raises:
            NotKept: It is not kept, and nobody may be told that it is.
        """
        now_s = time.time()
        payload = handoff.encode(handoff.ticket_of(call, now_s))
        name = await self.outbox.queue(call.tenant, handoff.once_of(call, now_s), payload)
        return name, self._spec.words.replace("{ticket}", name)

    def facts(self) -> Facts:
        """Returns how the tickets stand, as of the outbox's last look."""
        standing, fault = self.outbox.standing, self.outbox.journal_fault
        trouble = f"the journal cannot be used: {fault}" if fault else standing.words
        return Facts(standing.waiting, standing.age_s(time.time()), self.outbox.sent, trouble)

    async def _send(self, name: str, payload: bytes) -> Verdict:
        if not self._permitted:
            return Verdict(sent=False, words=NOT_ALLOWED, destination=True)
        try:
            ticket = handoff.decode(payload)
        except msgspec.DecodeError:
            return Verdict(sent=False, words="it is not of this program's form")
        key = await asyncio.to_thread(self._secret, self._spec.key) if self._spec.key else ""
        if self._spec.key and not key:
            return Verdict(sent=False, words=f"its key {self._spec.key} is not set on this box", destination=True)
        try:
            trusted = await asyncio.to_thread(self._trusted) if self._spec.ca else None
        except ValueError as error:
            return Verdict(sent=False, words=str(error), destination=True)
        if not self._spec.url.startswith("smtp"):
            return await post(self._spec.url, key, name, handoff.as_json(name, ticket, self._place), trusted)
        if not self._spec.recipients:
            return Verdict(sent=False, words="no address is set that mail goes to", destination=True)
        mail = handoff.as_mail(name, ticket, self._place, self._spec)
        account = Account(self._spec.url, self._spec.user, key, trusted)
        return await asyncio.to_thread(send, account, mail, self._spec.recipients)

    def _trusted(self) -> ssl.SSLContext:
        """Returns whom the receiver's certificate must be signed by, as it is now; raises ValueError."""
        ca = self._spec.ca
        pem = ca if PEM in ca else self._secret(ca)
        if not pem:
            raise ValueError(f"its authority {ca} is not set on this box")
        try:
            return context_of(pem)
        except ValueError:
            raise ValueError("its authority is no certificate in PEM") from None


def _permitted(url: str, egress: Sequence[str]) -> bool:
    try:
        return permitted(url, egress)
    except ValueError:  # a site's setting that is no address
        return False

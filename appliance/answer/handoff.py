"""A hand-off ticket: what the last rung keeps of a request for a person, and how it reads as mail and as JSON. Pure.

What is in it goes to the people whom the profile names, and stands on the disk sealed until then. The text of a request
stands in the body of a mail alone, never in a header or a subject.
"""

from __future__ import annotations

import email.policy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import msgspec

from appliance.gateway.call import Call
from appliance.gateway.options import text_of
from appliance.records.entry import HANDOFF
from bundler.format.service import HandoffSpec

QUESTION_CHARS, TURN_CHARS, TURNS = 8_000, 4_000, 20
# Who asks the same again so soon is a client that tries once more; who does later is a person who still waits.
SAME_S = 60
ID_CHARS = 10
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base32: it survives being read aloud


class Turn(msgspec.Struct, frozen=True):
    """A message of the conversation, as text."""

    role: str
    text: str


class Ticket(msgspec.Struct, frozen=True):
    """What goes to a person.

    Attributes:
        made: When, as RFC 3339 in UTC.
        asked_for: The model or route that the caller named.
        tenant: The id of the caller's token.
        user: Who it is to the caller (OpenAI's `user`).
        question: The last thing that was asked.
        conversation: What came before and with it, the newest of it where it is long.
    """

    made: str
    asked_for: str
    tenant: str
    user: str
    question: str
    conversation: tuple[Turn, ...]


@dataclass(frozen=True)
class Place:
    """Where a ticket comes from: what people call the box."""

    site: str
    profile: str
    title: str


def ticket_of(call: Call, now_s: float) -> Ticket:
    """Returns the ticket of a request."""
    messages = call.body.get("messages")
    turns = [Turn(str(one.get("role", "")), text_of(one.get("content"))[-TURN_CHARS:]) for one in messages or ()]
    user = call.body.get("user")
    return Ticket(
        made=datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        asked_for=call.model[:200],
        tenant=call.tenant,
        user=user[:200] if isinstance(user, str) else "",
        question=call.question[:QUESTION_CHARS],
        conversation=tuple(turn for turn in turns[-TURNS:] if turn.text),
    )


def once_of(call: Call, now_s: float) -> str:
    """Returns what makes two requests the same piece of work: the caller's key, or the request within a minute."""
    if call.once:
        return f"key {call.once}"
    asked = {name: value for name, value in call.body.items() if name not in ("stream", "stream_options")}
    return f"{int(now_s // SAME_S)} {call.wire} {msgspec.json.encode(asked, order='deterministic').decode()}"


def encode(ticket: Ticket) -> bytes:
    """Returns a ticket as the journal keeps it."""
    return msgspec.json.encode(ticket)


def decode(data: bytes) -> Ticket:
    """Reads what `encode` made; raises msgspec.DecodeError on anything else."""
    return msgspec.json.decode(data, type=Ticket)


def ticket_id(draw: int) -> str:
    """Returns the name of a ticket for 50 random bits."""
    return "H-" + "".join(ALPHABET[(draw >> shift) & 31] for shift in range(5 * (ID_CHARS - 1), -1, -5))


def as_json(name: str, ticket: Ticket, place: Place) -> dict[str, Any]:
    """Returns what a webhook gets."""
    return {
        "ticket": name,
        "kind": HANDOFF,
        "site": place.site,
        "profile": place.profile,
        "title": place.title,
        **msgspec.to_builtins(ticket),
    }


def as_mail(name: str, ticket: Ticket, place: Place, spec: HandoffSpec) -> EmailMessage:
    """Returns what a mail server gets; the same ticket is the same message, so that a second one can be told."""
    mail = EmailMessage(policy=email.policy.SMTP)
    sender = spec.sender or spec.recipients[0]  # a profile of a webhook names none, and a site may set a mail server
    mail["From"], mail["To"] = sender, ", ".join(spec.recipients)
    mail["Subject"] = f"[{name}] {_line(place.title)}: a request for a person"
    mail["Date"] = datetime.fromisoformat(ticket.made)
    mail["Message-ID"] = f"<{name}.{_line(place.site) or 'box'}@{sender.partition('@')[2]}>"
    mail["X-Lifeboat-Ticket"] = name
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office reply
    mail.set_content(_text(name, ticket, place), cte="base64")
    return mail


def at_site(spec: HandoffSpec | None, settings: Mapping[str, str]) -> HandoffSpec | None:
    """Returns where tickets go from this site; only where the profile asks for tickets."""
    if spec is None:
        return None
    recipients = tuple(one.strip() for one in settings.get("handoff_to", "").split(",") if one.strip())
    return replace(spec, url=settings.get("handoff_url", spec.url), recipients=recipients or spec.recipients)


def _text(name: str, ticket: Ticket, place: Place) -> str:
    head = [
        f"Ticket {name}, made {ticket.made} at {place.site or 'this box'} ({place.title}).",
        "The box could not answer, and the caller was told that a person would.",
        "",
        f"Caller: token {ticket.tenant or 'unknown'}" + (f", user {ticket.user}" if ticket.user else ""),
        f"Asked for: {ticket.asked_for}",
        "",
        "Question:",
        ticket.question or "(none in words)",
    ]
    return "\n".join([*head, *_turns(ticket.conversation), ""])


def _turns(conversation: Sequence[Turn]) -> list[str]:
    if len(conversation) < 2:  # the question alone
        return []
    return ["", "Conversation:", *(f"{turn.role}: {turn.text}" for turn in conversation)]


def _line(text: str) -> str:
    """Returns a text as it can stand in a header."""
    return "".join(char if char.isprintable() else " " for char in text)[:100]

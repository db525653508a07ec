"""A hand-off ticket as mail and as JSON: whole, readable, and nothing of it in a header."""

from __future__ import annotations

import email
import email.policy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.answer import handoff
from appliance.answer.handoff import Place, as_json, as_mail, at_site, once_of, ticket_id, ticket_of
from appliance.gateway.call import CHAT, TEXT, Call
from appliance.gateway.options import question_of
from bundler.format.service import HandoffSpec

PLACE = Place("praxis-nord", "clinic", "Clinic front desk")
SPEC = HandoffSpec(
    "smtps://mail.example:465", "", "", "box@clinic.example", ("desk@clinic.example",), 86_400, "{ticket}"
)


def call(body: dict[str, Any], wire: str = CHAT, once: str = "") -> Call:
    return Call(wire, body, question_of(body), False, "auto", frozenset(), (), 0.0, "a1b2", once=once)


def asked(*texts: str, **options: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text} for text in texts], **options}


def test_a_ticket_holds_what_a_person_needs() -> None:
    """Who asks, what, and what was said before."""
    ticket = ticket_of(call(asked("The printer is on fire", "It still burns", user="okonkwo")), 1_000_000_000)
    assert handoff.decode(handoff.encode(ticket)) == ticket
    found = as_json("H-1", ticket, PLACE)
    assert (found["ticket"], found["site"], found["user"], found["tenant"]) == ("H-1", "praxis-nord", "okonkwo", "a1b2")
    assert found["made"] == "2001-09-09T01:46:40Z"
    assert found["question"] == "It still burns"
    assert [turn["text"] for turn in found["conversation"]] == ["The printer is on fire", "It still burns"]


def test_a_mail_says_the_same_and_is_the_same_each_time() -> None:
    """The second sending of a ticket has the Message-ID and the date of the first."""
    ticket = ticket_of(call(asked("Ärger mit dem Drucker", "Er brennt noch 🔥")), 1_000_000_000)
    first, second = (as_mail("H-1", ticket, PLACE, SPEC).as_bytes() for _ in range(2))
    mail = email.message_from_bytes(first, policy=email.policy.default)
    assert mail["Message-ID"] == email.message_from_bytes(second)["Message-ID"] == "<H-1.praxis-nord@clinic.example>"
    assert (mail["To"], mail["From"]) == ("desk@clinic.example", "box@clinic.example")
    text = mail.get_content()
    assert "Ärger mit dem Drucker" in text
    assert "user: Er brennt noch 🔥" in text


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=50))
def test_no_text_of_a_request_becomes_a_header(question: str, user: str, title: str) -> None:
    """Line breaks, surrogates and header names of a request stay in the body."""
    ticket = ticket_of(call(asked(question, user=user)), 0)
    data = as_mail("H-1", handoff.decode(handoff.encode(ticket)), Place("s", "p", title), SPEC).as_bytes()
    head = data.split(b"\r\n\r\n")[0]
    names = [line.split(b":")[0] for line in head.split(b"\r\n") if line[:1] not in b" \t"]
    known = "From To Subject Date Message-ID X-Lifeboat-Ticket Auto-Submitted MIME-Version Content-Type"
    assert sorted(names) == sorted(name.encode() for name in f"{known} Content-Transfer-Encoding".split())


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.text(max_size=20).map(lambda text: text * 400), max_size=30))
def test_a_long_conversation_is_cut_to_its_newest_part(texts: list[str]) -> None:
    """However much was said, a ticket has its bound, and the newest turns are in it."""
    ticket = ticket_of(call(asked(*texts)), 0)
    assert len(handoff.encode(ticket)) < 1_000_000
    said = [text[-handoff.TURN_CHARS :] for text in texts if text][-handoff.TURNS :]
    assert [turn.text for turn in ticket.conversation][-1:] == said[-1:]


def test_the_same_request_within_a_minute_is_one_ticket() -> None:
    """A client that tries again streams or not; a later request, another text or another key is another ticket."""
    first = once_of(call(asked("hello")), 600.0)
    assert first == once_of(call(asked("hello", stream=True)), 659.0)
    others = [once_of(call(asked("hello")), 660.0), once_of(call(asked("hello!")), 600.0)]
    others += [once_of(call(asked("hello"), TEXT), 600.0), once_of(call(asked("hello"), once="k"), 600.0)]
    assert len({first, *others}) == 5
    assert once_of(call(asked("a"), once="k"), 0.0) == once_of(call(asked("b"), once="k"), 9e9)


@pytest.mark.parametrize(("draw", "name"), [(0, "H-0000000000"), (2**50 - 1, "H-ZZZZZZZZZZ"), (33, "H-0000000011")])
def test_a_ticket_has_a_name_to_read_aloud(draw: int, name: str) -> None:
    """Ten letters and digits of Crockford's alphabet."""
    assert ticket_id(draw) == name


def test_a_site_says_where_its_tickets_go() -> None:
    """Its settings replace the address and the recipients, and make no tickets where the profile asks for none."""
    found = at_site(SPEC, {"handoff_url": "https://psa.example/t", "handoff_to": " a@b.example , c@d.example,"})
    assert found is not None
    assert (found.url, found.recipients) == ("https://psa.example/t", ("a@b.example", "c@d.example"))
    assert at_site(SPEC, {}) == SPEC
    assert at_site(None, {"handoff_url": "https://psa.example/t"}) is None

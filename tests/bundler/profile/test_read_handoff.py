"""`[handoff]`: where tickets go; each way to get it wrong is told."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from bundler.format.errors import BadInputs
from bundler.format.record import from_json, to_json
from bundler.format.service import HandoffSpec
from bundler.format.trust.policy import origin
from bundler.profile.handoff import WORDS
from bundler.profile.model import Profile
from bundler.profile.read import parse_profile

MINIMAL = """
[bundle]
name = "x"
title = "X"
[[upstream]]
name = "cloud"
base_url = "https://cloud.example/v1"
model = "m"
[handoff]
"""
MAIL = 'smtp = "smtps://mail.example"\nfrom = "box@desk.example"\nto = ["desk@desk.example"]\n'
HOOK = 'webhook = "https://psa.example/api/tickets?queue=1"\n'


def parse(text: str) -> Profile:
    return parse_profile(tomllib.loads(MINIMAL + text), Path("/p"), "p.toml", {})


def test_a_mail_server_is_read_whole() -> None:
    """Every key of the table is in what the box gets, and what is left out has its default."""
    text = MAIL.replace("smtps://mail.example", "smtp://mail.example:2525")
    found = parse(text + 'user = "box"\nkey = "MAIL"\nkeep = "90d"\nwords = "Ticket {ticket}."\n').handoff
    recipients = ("desk@desk.example",)
    assert found == HandoffSpec(
        "smtp://mail.example:2525", "MAIL", "box", "box@desk.example", recipients, 90 * 86_400, "Ticket {ticket}."
    )
    found = parse(MAIL).handoff
    assert found is not None
    assert (found.keep_s, found.words, origin(found.url)) == (30 * 86_400, WORDS, "smtps://mail.example:465")


def test_a_webhook_is_read_whole_and_survives_the_bundle() -> None:
    """A webhook has neither sender nor recipients; as JSON and back it is the same."""
    found = parse(HOOK + 'key = "env:PSA"\nca = "OUR-CA"\n').handoff
    assert found is not None
    assert (found.url, found.key, found.sender, found.recipients) == (
        "https://psa.example/api/tickets?queue=1", "env:PSA", "", ()
    )  # fmt: skip
    assert found.ca == "OUR-CA"
    assert from_json(HandoffSpec, to_json(found), "handoff") == found
    assert parse_profile(tomllib.loads(MINIMAL.replace("[handoff]", "")), Path("/p"), "p", {}).handoff is None


@pytest.mark.parametrize(
    ("text", "issue"),
    [
        ("", "takes either smtp"),
        (MAIL + HOOK, "takes either smtp"),
        (HOOK.replace("https", "http"), "must be https"),
        (HOOK.replace("https", "ftp"), "no http or https URL"),
        (HOOK.replace("psa.example", "me:pw@psa.example"), "no http or https URL"),
        (HOOK.replace("?queue=1", "#x"), "fragment"),
        (MAIL.replace("smtps", "https"), "must be smtps"),
        (MAIL.replace("mail.example", "mail.example/x"), "host and a port only"),
        (MAIL.replace("box@desk.example", "box"), "plain mail addresses"),
        (MAIL.replace('"desk@desk.example"', '"desk@desk.example\\nBcc: x@y.example"'), "plain mail addresses"),
        (MAIL.replace('["desk@desk.example"]', "[]"), "1 to 20 addresses"),
        (MAIL + 'user = "box"\n', "needs a key"),
        (HOOK + 'user = "box"\nkey = "K"\n', "user is who logs in"),
        (HOOK + 'keep = "10m"\n', "keep must be a time from 1h to 366d"),
        (HOOK + 'keep = "thirty days"\n', "keep must be a time"),
        (HOOK + 'words = "Somebody will call."\n', "must hold {ticket}"),
        (HOOK + 'ca = "file:nothing.pem"\n', "cannot be read"),
        (HOOK + 'to = ["a@b.example"]\n', "to is not known"),
    ],
)
def test_what_is_wrong_is_told(text: str, issue: str) -> None:
    """The issue names the table and what would be right."""
    with pytest.raises(BadInputs) as raised:
        parse(text)
    assert any("[handoff]" in line and issue in line for line in raised.value.issues), raised.value.issues


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/t", "http://localhost/t"])
def test_loopback_needs_no_tls(url: str) -> None:
    """A receiver on the box itself is reached over no wire."""
    found = parse(f'webhook = "{url}"\n').handoff
    assert found is not None
    assert found.url == url

"""`[handoff]`: where the tickets of the last rung go."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from bundler.format.service import HandoffSpec
from bundler.format.trust.policy import origin
from bundler.profile.table import Table
from bundler.profile.wire import read_ca

WORDS = "Your request is kept as ticket {ticket} and goes to a person as soon as the network is there."
KEEP, KEEP_LEAST_S, KEEP_MOST_S = "30d", 3_600, 366 * 86_400
WORDS_CHARS, TEXT_CHARS, URL_CHARS = 500, 200, 2_000
RECIPIENTS_MOST = 20
# RFC 5321's mailbox, less quoted local parts, which nobody has and parsers differ on.
_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def read_handoff(table: Table, base: Path) -> HandoffSpec:
    """Reads the table, with the certificates of a `ca = "file:..."` from `base`; every issue is noted at it."""
    by_mail = table.has("smtp")
    if by_mail == table.has("webhook"):
        table.issue('takes either smtp = "smtps://host:port" or webhook = "https://..."')
    url = table.text("smtp") if by_mail else table.text("webhook", "")
    for problem in url_issues(url, by_mail=by_mail) if url else ():
        table.issue(problem)
    if by_mail and table.has("webhook"):
        table.text("webhook")
    spec = HandoffSpec(
        url=url,
        key=table.text("key", ""),
        user=table.text("user", ""),
        sender=table.text("from") if by_mail else "",
        recipients=table.texts("to") if by_mail else (),
        keep_s=table.duration("keep", KEEP, KEEP_LEAST_S, KEEP_MOST_S),
        words=table.text("words", WORDS),
        ca=read_ca(table, base),
    )
    _check(table, spec, by_mail=by_mail)
    table.close()
    return spec


def url_issues(url: str, *, by_mail: bool, name: str = "") -> list[str]:
    """Returns what keeps a URL from being a destination of tickets."""
    key, secure, plain = ("smtp", "smtps", "smtp") if by_mail else ("webhook", "https", "http")
    key = name or key
    try:
        origin(url)
        parts = urlsplit(url)
    except ValueError as error:
        return [f"{key} {error}"]
    # A mail server without TLS of its own is told to start it, which one on loopback need not.
    encrypted = parts.scheme in (("smtps", "smtp") if by_mail else ("https",))
    if not encrypted and not (parts.scheme == plain and parts.hostname in _LOOPBACK):
        return [f"{key} {url!r} must be {secure} ({plain} is for loopback only)"]
    if by_mail and (parts.path not in ("", "/") or parts.query or parts.fragment):
        return [f"{key} {url!r} may hold a host and a port only"]
    if parts.fragment or len(url) > URL_CHARS:
        return [f"{key} may hold no fragment and at most {URL_CHARS} characters"]
    return []


def setting_issues(url: str, recipients: str) -> list[str]:
    """Returns what keeps a site's `handoff_url` and `handoff_to` from being used; "" is not set."""
    issues = url_issues(url, by_mail=url.startswith("smtp"), name="handoff_url") if url else []
    wrong = [one for one in recipients.split(",") if recipients and not _ADDRESS.fullmatch(one.strip())]
    return issues + [f"{one!r} in handoff_to is no plain mail address" for one in wrong]


def _check(table: Table, spec: HandoffSpec, *, by_mail: bool) -> None:
    if by_mail:
        wrong = [text for text in (spec.sender, *spec.recipients) if text and not _ADDRESS.fullmatch(text)]
        if wrong:
            table.issue(f"from and to must be plain mail addresses, found {', '.join(map(repr, wrong))}")
        if not 1 <= len(spec.recipients) <= RECIPIENTS_MOST:
            table.issue(f"to must list 1 to {RECIPIENTS_MOST} addresses, found {len(spec.recipients)}")
    if spec.user and not (by_mail and spec.key):
        table.issue("user is who logs in at a mail server, and needs a key, which is the name of its password")
    if len(spec.user) > TEXT_CHARS or not spec.user.isprintable():
        table.issue(f"user may hold {TEXT_CHARS} printable characters")
    if "{ticket}" not in spec.words or len(spec.words) > WORDS_CHARS:
        table.issue(f"words must hold {{ticket}}, and at most {WORDS_CHARS} characters")

"""Cards that are printed: plain text of at most 72 columns, made from what must never travel on a stick."""

from __future__ import annotations

_WIDTH = 72


def site_card(msp: str, site: str, code: str, root_sha256: str) -> str:
    """Returns the site card: the code proves the root and opens the bundle."""
    return _card(
        f"SITE CARD  {site}",
        [
            f"Issued by {msp}",
            "",
            f"Site code:  {code}",
            "",
            "The box asks for this code once, at its first install.",
            "Keep this card at the site, and never on the stick.",
            f"Root:  {root_sha256[:32]}",
            f"       {root_sha256[32:]}",
        ],
    )


def key_card(msp: str, role: str, path: str, key_id: str) -> str:
    """Returns the card of a signing key: where it lies and what it may do."""
    may = {
        "root": "names the other keys; keep two copies offline, use it rarely",
        "release": "signs software, policy and the hosts a box may talk to",
        "refresh": "signs content for unattended jobs; no software, no host",
    }
    return _card(f"KEY CARD  {role}", [f"Owner: {msp}", f"File:  {path}", f"Key:   {key_id[:32]}", may[role]])


def _card(title: str, lines: list[str]) -> str:
    bar = "+" + "-" * (_WIDTH - 2) + "+"
    rows = [f"| {line[: _WIDTH - 4]:<{_WIDTH - 4}} |" for line in (title, "", *lines)]
    return "\n".join([bar, *rows, bar, ""])
